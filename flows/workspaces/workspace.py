"""Workspaces: folders for runs that are not the checkout. They share the code with it, but not data and results.

A profile, another drop or a changed setting never edits a tracked file. It gets a workspace, whose `params.yaml` is a
copy with the changes and only the tasks that are run there. Its `fetalflow/`, `stages/` and `flows/` are links, so that
DVC sees changes of the code.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from fetalflow.artefacts import write_text
from fetalflow.errors import InputError
from fetalflow.settings.earlier import kept_names, renewed
from fetalflow.settings.params import Settings, checked
from flows.checkout import CHECKOUT
from flows.workspaces.changes import leaves, nested, overlay, refuse_unknown_networks, refuse_wrong_form, with_changes
from flows.workspaces.changes import parse_changes as parse_changes  # a door
from flows.workspaces.layout import is_laid_out, lay_out
from flows.workspaces.project import begin
from flows.workspaces.settings_record import (
    ALL,
    ORIGIN,
    WRITTEN,
    add_history,
    as_yaml,
    changes_in_words,
    only_by_hand,
    part_of,
    read_yaml,
    record_changes_by_hand,
    shared_changes,
    shared_of,
    write_params,
)


def drop_changes(drop: Path, task: str) -> dict[str, Any]:
    """The settings for a hospital's drop, in any layout, instead of the drop of the synthetic hospital.

    Raises InputError if the folder has none of the layouts.
    """
    from fetalflow.hospital.drop.opening import layout_of  # it imports pandas, which takes longer than this file

    layout_of(drop)
    return {"phantoms": [], "tasks": {task: {"drop": str(drop.resolve())}}, task: {"extract": {"labels": None}}}


def profile_changes(profile: str) -> dict[str, Any]:
    """The settings of a profile in the checkout's params.yaml. Raises InputError if there is no such profile."""
    profiles = _of_checkout().get("profiles", {})
    if profile not in profiles:
        raise InputError(f"no profile is called {profile!r} in params.yaml; there are: {', '.join(profiles)}")
    return profiles[profile]


def _in_order(profiles: Iterable[str]) -> list[dict[str, Any]]:
    """The settings of profiles in the order in which they apply: one that leaves out all rivals is the last, because
    others change rivals."""
    found = [profile_changes(profile) for profile in profiles]
    return sorted(found, key=lambda change: any(block.get("rivals", {}) is None for block in change.values()))


def settings_of(task: str, profiles: Iterable[str] = (), changes: Iterable[dict[str, Any]] = ()) -> Settings:
    """The settings of the checkout with profiles and changes, without making a workspace.

    Raises InputError if a profile is unknown or a setting is wrong.
    """
    params = _of_checkout()
    for change in (changes := list(changes)):
        refuse_wrong_form(params, change)
        _refuse_other_tasks(change, task, params["tasks"])
    refuse_unknown_networks(params, changes)
    for change in [*_in_order(profiles), *changes]:
        params = with_changes(params, change)
    return checked(params, "params.yaml")


def prepare(
    folder: Path,
    task: str | None = None,
    profiles: Iterable[str] = (),
    changes: Iterable[dict[str, Any]] = (),
    *,
    alone: bool = False,
    named: Iterable[str] = (),
    how: str = "fetalflow run",
) -> Path:
    """Make the workspace `folder` for a task, or update it, and return it. Without a task, for all tasks.

    Profiles and changes last: `origin.yaml` keeps them, and the next call for the same task begins with them. The other
    tasks of the workspace keep their settings, and changes by hand in `params.yaml` stay. alone: the changes are those
    of this call alone. named: further settings, KEY.KEY, that the command names. how: the cause for the record.

    Raises InputError if a profile is unknown or a setting is wrong.
    """
    profiles, changes, params, key = list(profiles), list(changes), _of_checkout(), task or ALL
    for change in changes:
        refuse_wrong_form(params, change)
        _refuse_other_tasks(change, task, params["tasks"])
    refuse_unknown_networks(params, changes)
    raw = read_yaml(folder / "params.yaml")
    earlier = renewed(raw)
    if earlier is raw:
        record_changes_by_hand(folder)
    made = read_yaml(folder / ORIGIN)
    before = made.get(key, {})
    if alone:
        before = only_by_hand(before)
    elif task in earlier.get("tasks", {}) and key not in made:
        before = {"base": part_of(earlier, task)}  # an earlier version kept no record: all is in params.yaml
    if base := before.get("base"):
        params = params | base | {"tasks": params["tasks"] | base["tasks"]}
    added = [name for name in profiles if name not in before.get("profiles", [])]
    profiles = [*before.get("profiles", []), *added]
    unrecorded = _unrecorded(earlier, made, named)
    merged = overlay(nested(unrecorded), before.get("changes", {}), keep_none=True)
    for change in changes:
        merged = overlay(merged, change, keep_none=True)
    merged = overlay(kept_names(earlier, [task] if task else params["tasks"]), merged, keep_none=True)
    others = {name: entry for name, entry in made.items() if name != key}
    for change in [shared_changes(others), *_in_order(profiles), merged]:
        params = with_changes(params, change)
    params = _with_starts(params, earlier)
    checked(params, folder / "params.yaml")
    if task:
        params = _with_other_tasks(_of_one_task(params, task), earlier, task)
    now = {path for change in changes for path in leaves(change)} | {tuple(each.split(".")) for each in named}
    by_hand = [*before.get("by_hand", []), *map(".".join, unrecorded)]
    by_hand = [path for path in by_hand if tuple(path.split(".")) not in now]
    entry = {"profiles": profiles, "changes": merged, "by_hand": by_hand, "base": base}
    entry = {name: value for name, value in entry.items() if value or name in ("profiles", "changes")}
    lines = changes_in_words(earlier, params, [task] if task else list(params["tasks"]), entry, added, now, how)
    folder.mkdir(parents=True, exist_ok=True)
    write_params(folder, params)
    lay_out(folder)
    newest = shared_of(nested({path: v for change in changes for path, v in leaves(change).items()}))
    for name, other in others.items():  # else the older value of another task would come back
        if both := {block: newest[block] for block in shared_of(other.get("changes", {})) if block in newest}:
            others[name] = other | {"changes": overlay(other["changes"], both, keep_none=True)}
    write_text(folder / ORIGIN, as_yaml(others | {key: entry}))
    add_history(folder, lines)
    begin(folder)
    return folder


def _unrecorded(earlier: dict[str, Any], made: dict[str, Any], named: Iterable[str]) -> dict[tuple[str, ...], Any]:
    """The settings of the node and of the log of answers that no record has, because the checkout has none and an
    earlier fetalflow did not record them."""
    known = {*leaves(shared_changes(made)), *(tuple(each.split(".")) for each in named)}
    there = leaves({name: earlier[name] for name in ("node", "watch") if earlier.get(name)})
    return {path: v for path, v in there.items() if not any(path[: len(each)] == each for each in known)}


def _with_starts(params: dict[str, Any], earlier: dict[str, Any]) -> dict[str, Any]:
    """`params` with the model from which each task starts its next training, which `fetalflow retrain` chose."""
    for task in params["tasks"]:
        train = (earlier.get(task) or {}).get("train") or {}
        if train.get("start") and "start" not in params[task]["train"]:
            params = overlay(params, {task: {"train": {"start": train["start"]}}})
    return params


def _refuse_other_tasks(change: dict[str, Any], task: str | None, tasks: Iterable[str]) -> None:
    changed = {*change, *(change.get("tasks") or {})}
    if task and (others := [name for name in tasks if name in changed and name != task]):
        raise InputError(f"A run of {task} has no settings of {', '.join(others)}. Use --task, or leave them out.")


def _of_one_task(params: dict[str, Any], task: str) -> dict[str, Any]:
    """The settings without the blocks of other tasks, so that DVC knows only stages that are run here."""
    kept = {key: value for key, value in params.items() if key == task or key not in params["tasks"]}
    return kept | {
        "tasks": {task: params["tasks"][task]},
        "phantoms": [name for name in params["phantoms"] if name == task],
        "ablations": params[task].get("rivals", {}),
        "pretrainings": {name: each for name, each in params.get("pretrainings", {}).items() if name == task},
    }


def _with_other_tasks(params: dict[str, Any], earlier: dict[str, Any], task: str) -> dict[str, Any]:
    """`params`, which are of one task, and the tasks that were run in this workspace before."""
    others = [name for name in earlier.get("tasks", {}) if name != task]
    rivals = {name: rival for other in others for name, rival in earlier[other].get("rivals", {}).items()}
    return {
        "tasks": {name: earlier["tasks"][name] for name in others} | params["tasks"],
        "phantoms": [name for name in earlier.get("phantoms", []) if name in others] + params["phantoms"],
        **{name: earlier[name] for name in others},
        **{
            key: value for key, value in params.items() if key not in ("tasks", "phantoms", "ablations", "pretrainings")
        },
        "ablations": rivals | params["ablations"],
        "pretrainings": {k: v for k, v in earlier.get("pretrainings", {}).items() if k in others}
        | params["pretrainings"],
    }


def update_workspace(folder: Path) -> str:
    """Let a workspace fit the code, which is that of the checkout. Returns what was changed, "" if nothing was.

    A worker that was updated finds workspaces with the `dvc.yaml`, or even the form of settings, of an earlier
    fetalflow, so every flow begins with this. Drops, arrivals and decisions stay; the stages whose code moved run
    again. Raises InputError if a setting is wrong, or if `folder` is the checkout and its settings are those of an
    earlier fetalflow.
    """
    if not (folder / "params.yaml").is_file():
        return ""
    if folder.resolve() == CHECKOUT:
        _of_checkout()
        return ""
    params = yaml.safe_load((folder / "params.yaml").read_text())
    current = renewed(params)
    if current is params:
        record_changes_by_hand(folder)
        return _with_the_code(folder, params) if is_laid_out(folder) else ""
    lay_out(folder)
    text = as_yaml(current | {"profiles": _of_checkout().get("profiles", {})})
    # Last, because the next call recognises the workspace by it if this one is killed.
    write_text(folder / "params.yaml", text)
    write_text(folder / WRITTEN, text)
    begin(folder)
    return (
        f"{folder} was made by an earlier version of fetalflow. Its settings were converted, and every stage runs once."
    )


def _with_the_code(folder: Path, params: dict[str, Any]) -> str:
    """Add the blocks of settings that stages have since the workspace was made, and replace `dvc.yaml`."""
    checkout, said = _of_checkout(), []
    known = [task for task in params["tasks"] if task in checkout["tasks"]]
    new = {task: {name: checkout[task][name] for name in checkout[task] if name not in params[task]} for task in known}
    added = {task: {name: block for name, block in new[task].items() if name != "rivals"} for task in known}
    if "pretrainings" not in params:  # DVC needs it, and a workspace of before 2026-12 has none
        params = params | {"pretrainings": {}}
        write_params(folder, params)
    if names := [f"{task}.{name}" for task in known for name in added[task]]:
        write_params(folder, overlay(params, added))
        said.append(f"{folder / 'params.yaml'} got the settings {', '.join(names)}, which the code has now.")
    if lay_out(folder):
        said.append(
            f"{folder / 'dvc.yaml'} was of another version of the code. It was replaced, and the stages that changed "
            "run again."
        )
    begin(folder)
    return " ".join(said)


def _of_checkout() -> dict[str, Any]:
    params = read_yaml(CHECKOUT / "params.yaml")
    if renewed(params) is not params:
        raise InputError(
            f"{CHECKOUT / 'params.yaml'} has the form of an earlier fetalflow. Take the file of this version from git, "
            "and make your changes in it again: a network's options are now in its entry in `tasks` or `TASK.rivals`."
        )
    return params
