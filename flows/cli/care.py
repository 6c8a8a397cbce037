"""Commands that take care of what was kept: erase a patient, clean up, recall a delivery, correct labels."""

from pathlib import Path
from typing import Annotated

import typer

from fetalflow.errors import InputError
from flows.cli.options import Task

Plan = Annotated[bool, typer.Option("--plan", help="Say what would be done, and change nothing.")]
By = Annotated[str, typer.Option("--by", help="The person who decides; not needed with --plan.")]
Reason = Annotated[
    str, typer.Option("--reason", "--why", help="The reason. Do not write a patient's name: it is kept for ever.")
]


def erase(
    patient: Annotated[
        str, typer.Argument(help="Her pseudonym, as in the manifest; or, with a key, the hospital's identifier.")
    ] = "",
    plan: Plan = False,
    by: By = "",
    reason: Reason = "",
    identifier: Annotated[
        bool, typer.Option(help="Enter the hospital's identifier at a hidden prompt instead; needs the key.")
    ] = False,
    key_file: Annotated[Path | None, typer.Option(help="The secret key; default: from the environment.")] = None,
    site: Annotated[str | None, typer.Option(help="Her site, if patients of several sites have the pseudonym.")] = None,
    workspace: Annotated[Path | None, typer.Option(help="One more workspace, outside of workspaces/.")] = None,
) -> None:
    """Erase a patient from all workspaces, caches, remotes and MLflow, and write a certificate. First try --plan."""
    from flows.care.erasure import erase, workspaces, write_certificate
    from flows.care.stores import configured_key, refuse_foreign_key, stores

    if identifier == bool(patient):
        raise InputError("erase needs either a pseudonym, as in the manifest, or --identifier.")
    _require_person(plan, by, reason)
    key = configured_key(key_file)
    if identifier:
        if key is None:
            raise InputError(
                "--identifier needs the key of the pseudonyms: --key-file, or FETALFLOW_PSEUDONYM_KEY_FILE."
            )
        refuse_foreign_key(key, [store for folder in workspaces(workspace) for store in stores(folder)])
        patient = typer.prompt("Identifier", hide_input=True, err=True).strip()
    certificate, said = erase(patient, site, key, by, reason, plan, workspace)
    for line in [*said, *certificate.sentences()]:
        print(line)
    if not plan:
        print(f"The certificate: {write_certificate(certificate)}")


def recall(
    delivery: Annotated[str, typer.Argument(help="Its name or its drop, as `fetalflow arrivals` lists them.")],
    by: By = "",
    reason: Reason = "",
    restore: Annotated[bool, typer.Option("--restore", help="Let its rows count again.")] = False,
    task: Annotated[str | None, typer.Option(help="Only this task; default: all tasks that took it.")] = None,
    workspace: Annotated[Path | None, typer.Option(help="Only this workspace; default: all of workspaces/.")] = None,
) -> None:
    """Leave out all rows of a bad delivery, in every task that took it; the next retraining is without them. Its
    patients keep their sides."""
    from flows.care.recall import recall_everywhere

    _require_person(False, by, reason)
    for line in recall_everywhere(_stores(task, workspace), delivery, by, reason, restore):
        print(line)


def relabel(
    table: Annotated[Path, typer.Argument(help="A CSV file with the columns file, old, new, reason.")],
    plan: Plan = False,
    task: Task = "movement",
    workspace: Annotated[Path | None, typer.Option(help="Default: workspaces/arrivals-TASK.")] = None,
) -> None:
    """Correct the labels of many cines at once; the next retraining has them. First try --plan. The record names your
    account."""
    from fetalflow.hospital.arrival.relabel import plan as planned
    from fetalflow.hospital.arrival.relabel import relabel
    from fetalflow.settings.params import load_settings
    from flows.cli.drops import store_of
    from flows.workspaces.lock import hold
    from flows.workspaces.people import this_person

    folder, store = store_of(task, workspace)
    block = load_settings(folder / "params.yaml").block(task)
    if plan:
        print(
            "\n".join(
                ["Nothing was changed. This would be done:", *planned(store, table, block.extract.labels).sentences()]
            )
        )
        return
    with hold(folder, "fetalflow relabel"):
        name, done = relabel(store, table, block.extract.labels, this_person(), block.split)
    print("\n".join(done.sentences()))
    print(f"To take it back: fetalflow recall {name}. Next: fetalflow retrain --task {task}")


def clean(
    plan: Plan = False,
    workspace: Annotated[Path | None, typer.Option(help="Only this one; default: all of workspaces/.")] = None,
) -> None:
    """Remove what nobody needs any more, by the settings `clean`: docs/operator/growth.md. First try --plan."""
    import time

    from fetalflow.settings.params import load_settings
    from flows.care.clean import leftovers, longest, scratch, sizes
    from flows.care.erasure import workspaces
    from flows.checkout import CHECKOUT
    from flows.nights.prefect_history import delete_runs, old_runs
    from flows.workspaces.lock import Busy, hold

    found = 0

    def act(where: str, leftover) -> None:
        nonlocal found
        found += 1
        then = ", would be removed" if plan else ""
        print(f"{where}: {leftover.count} {leftover.what}, {_in_mb(leftover.size)}{then}")
        for remark in [] if plan else leftover.remove():
            print(f"{where}: {remark}")

    blocks = load_settings((workspace or CHECKOUT) / "params.yaml").blocks.values()
    keep = longest(block.clean for block in blocks)
    for folder in [workspace.resolve()] if workspace else workspaces():
        try:
            with hold(folder, "fetalflow clean", wait_s=0):
                before = sizes(folder)
                for leftover in leftovers(folder):
                    act(folder.name, leftover)
                after = sizes(folder)
        except Busy as busy:
            print(f"{folder.name} is left out: {busy}")
            continue
        for store, size in after.items():
            was = f" (was {_in_mb(before[store])})" if size != before[store] else ""
            print(f"{folder.name}: {store}: {_in_mb(size)}{was}")
    for leftover in scratch(time.time(), keep.scratch_days):
        act("temporary folder", leftover)
    if runs := old_runs(keep.runs_days):
        print(f"Prefect: {len(runs)} flow runs{', would be removed' if plan else ''}")
        if not plan:
            delete_runs(runs)
    if not found and not runs:
        print("There is nothing to remove.")


def _in_mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _stores(task: str | None, workspace: Path | None) -> list:
    """The stores of one task, or of all, in one workspace or in all. Raises InputError for a task or a workspace that
    is not known."""
    from fetalflow.settings.params import load_settings
    from flows.care.stores import stores
    from flows.checkout import CHECKOUT

    if task is not None:
        load_settings((workspace or CHECKOUT) / "params.yaml").block(task)
    return [store for store in stores(workspace) if task in (None, store.task)]


def _require_person(plan: bool, by: str, reason: str) -> None:
    if not plan and not (by.strip() and reason.strip()):
        raise InputError("this needs a person and a reason: --by NAME --reason TEXT. Or --plan, which changes nothing.")
