"""The command `settings`: show, change and take back the settings of a workspace."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fetalflow.errors import InputError
from flows.cli.options import Changes, Workspace


def settings(
    key: Annotated[str, typer.Argument(help="A setting or a block, such as movement.train; default: all.")] = "",
    change: Changes = None,
    unset: Annotated[
        list[str] | None, typer.Option(help="KEY.KEY, or profiles.NAME: take a change or a profile back.")
    ] = None,
    changed: Annotated[bool, typer.Option("--changed", help="Only settings that are not the default.")] = False,
    history: Annotated[bool, typer.Option("--history", help="Every change: when, by whom, from what to what.")] = False,
    task: Annotated[str | None, typer.Option(help="A task of the workspace; default: all its tasks.")] = None,
    workspace: Workspace = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Show every setting of a workspace: its value, where it comes from, and who changed it when; or change it."""
    from fetalflow.settings.params import load_settings
    from flows.checkout import CHECKOUT
    from flows.workspaces.last_run import announced_workspace
    from flows.workspaces.settings_record import read_history

    folder = announced_workspace(task, workspace)
    tasks = list(load_settings(folder / "params.yaml").tasks)
    if task is not None and task not in tasks:
        raise InputError(f"{folder} has no task {task!r}. Its tasks: {', '.join(tasks)}.")
    if change or unset:
        if folder == CHECKOUT:
            raise InputError(
                "The checkout's params.yaml is edited by hand; git keeps who changed it. Name a --workspace."
            )
        _change(folder, task, tasks, change or [], unset or [])
    if history:
        lines = [line for line in read_history(folder) if f"{line['key']}.".startswith(f"{key}." if key else "")]
        lines = [line for line in lines if task in (None, line["task"])]
        for line in [] if as_json else lines:
            words = f"{line['key']}: {_short(line['before'])} -> {_short(line['after'])}"
            print(f"{line['time']}  {line['who']}  {words}  ({line['how']})")
        if as_json:
            print(json.dumps(lines, indent=2))
        return
    _show(folder, [task] if task else tasks, key, changed, as_json)


def _show(folder: Path, tasks: list[str], key: str, changed: bool, as_json: bool) -> None:
    from flows.care.stores import stores
    from flows.workspaces.lock import Busy, hold
    from flows.workspaces.settings_record import record_changes_by_hand
    from flows.workspaces.settings_view import matching, settings_in_words

    try:
        with hold(folder, "fetalflow settings", wait_s=0):
            record_changes_by_hand(folder)
    except Busy:  # to show them needs no lock; the flow that runs has recorded what was changed before it
        pass
    rows = [row for task in tasks for row in settings_in_words(folder, task)]
    rows = [row for number, row in enumerate(rows) if row not in rows[:number]]  # `machines` is of all tasks
    rows = [row for row in (matching(rows, key) if key else rows) if not changed or row["source"] != "default"]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        who = f", {row['who']}, {row['time']}" if row["who"] and row["source"] != "default" else ""
        print(f"{row['key']} = {_short(row['value'])}  ({row['source']}{who})")
    for store in stores(folder):
        print(f"# {_key_of(store.path)} {store}.")


def _key_of(store: Path) -> str:
    from fetalflow.hospital.arrival.store_key import CLEAR, read_store_key

    key = read_store_key(store)
    if key is None:
        return "Nothing was taken yet, or by an earlier version:"
    return "Drops are taken without de-identification:" if key == CLEAR else f"Drops are de-identified with key {key}:"


def _short(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _change(folder: Path, task: str | None, tasks: list[str], change: list[str], unset: list[str]) -> None:
    from flows.workspaces.lock import hold
    from flows.workspaces.settings_record import SHARED
    from flows.workspaces.settings_view import take_back
    from flows.workspaces.workspace import parse_changes, prepare

    named = {part for text in [*change, *unset] for part in text.partition("=")[0].strip().split(".")[:2]} & set(tasks)
    if task is None and len(named) > 1:
        raise InputError(f"These settings are of several tasks: {', '.join(sorted(named))}. Change one task at a time.")
    blocks = {text.partition("=")[0].strip().split(".")[0] for text in [*change, *unset]}
    chosen = task or next(iter(named), None) or (tasks[0] if len(tasks) == 1 or blocks <= {*SHARED} else None)
    if chosen is None:
        raise InputError(f"The workspace has several tasks: {', '.join(tasks)}. Say with --task which one is meant.")
    with hold(folder, "fetalflow settings"):
        if unset:
            take_back(folder, chosen, unset, "fetalflow settings --unset")
        if change:
            prepare(folder, chosen, changes=[parse_changes(change)], how="fetalflow settings --set")
