"""Commands for the drops of a hospital: de-identify, list, decide on rows in quarantine, withdraw a patient."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from pydantic import ValidationError

from fetalflow.errors import InputError
from flows.cli.options import Task, Who, Why, Workspace

if TYPE_CHECKING:
    from fetalflow.hospital.drop.review import Decision
    from fetalflow.hospital.quarantine_desk import Desk

quarantine = typer.Typer(
    name="quarantine", no_args_is_help=True, help="Rows that cannot be used: list, release, reject."
)

Rows = Annotated[list[str] | None, typer.Argument(help="Names of rows, as `quarantine list` shows them.")]
Kind = Annotated[str | None, typer.Option(help="All rows of this kind that nobody has decided on.")]
Site = Annotated[str | None, typer.Option(help="All rows of this site.")]
Labelled = Annotated[str | None, typer.Option(help="All rows that the drop gives this label.")]
Annotator = Annotated[str | None, typer.Option(help="All rows of this annotator.")]
Patient = Annotated[str | None, typer.Option(help="All rows of this patient.")]
Video = Annotated[str | None, typer.Option(help="All rows of the cines that fit a pattern, such as '*/B/*'.")]
Plan = Annotated[bool, typer.Option("--plan", help="Say which rows, and decide nothing.")]


@quarantine.command("list")
def quarantine_list(
    kind: Annotated[str | None, typer.Option(help="List only rows of this kind.")] = None,
    task: Task = "movement",
    workspace: Workspace = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """List the rows in quarantine: the number and advice for each kind, then each row with cine and reason."""
    from fetalflow.hospital.quarantine_desk import Desk
    from flows.workspaces.last_run import announced_workspace

    desk = Desk(announced_workspace(task, workspace), task)
    counts, rows, waiting = desk.counts(), desk.rows(kind), desk.pending()
    if as_json:
        print(json.dumps({"kinds": counts, "rows": rows, "waiting": sorted(waiting)}, indent=2))
        return
    for found in counts:
        more = f" ({found['waiting']} decided, in effect from the next run)" if found["waiting"] else ""
        print(f"{found['rows']:5d} {found['kind']}{more}: {found['to_do']}")
    for row in rows:
        decided = (
            f" [decided: {waiting[row['row']].decision}, in effect from the next run]" if row["row"] in waiting else ""
        )
        print(f"\n{row['row']} {row['kind']}{decided} {row['video']}\n  {row['reason']}", end="")
    print("" if rows else "Nothing is in quarantine.")


@quarantine.command("show")
def quarantine_show(row: str, task: Task = "movement", workspace: Workspace = None) -> None:
    """Show one row in quarantine with the facts of its cine, the other rows of that cine, and past decisions (JSON)."""
    from fetalflow.hospital.quarantine_desk import Desk
    from flows.workspaces.last_run import announced_workspace

    print(json.dumps(Desk(announced_workspace(task, workspace), task).show(row), indent=2))


@quarantine.command("release")
def quarantine_release(
    by: Who,
    why: Why,
    rows: Rows = None,
    label: Annotated[str, typer.Option(help="The correct label; only for the kinds disagreement and label.")] = "",
    kind: Kind = None,
    site: Site = None,
    labelled: Labelled = None,
    annotator: Annotator = None,
    patient: Patient = None,
    video: Video = None,
    plan: Plan = False,
    task: Task = "movement",
    workspace: Workspace = None,
) -> None:
    """Decide that rows are used: those that are named, or all that fit the filters. The next run does so."""
    wanted = {"kind": kind, "site": site, "label": labelled, "annotator": annotator, "patient": patient, "video": video}
    _decide("release", rows, wanted, plan, task, workspace, lambda desk, names: desk.release(names, by, why, label))


@quarantine.command("reject")
def quarantine_reject(
    by: Who,
    why: Why,
    rows: Rows = None,
    kind: Kind = None,
    site: Site = None,
    labelled: Labelled = None,
    annotator: Annotator = None,
    patient: Patient = None,
    video: Video = None,
    plan: Plan = False,
    task: Task = "movement",
    workspace: Workspace = None,
) -> None:
    """Decide that rows are never used: those that are named, or all that fit the filters. They no longer count against
    `quarantine_share`."""
    wanted = {"kind": kind, "site": site, "label": labelled, "annotator": annotator, "patient": patient, "video": video}
    _decide("reject", rows, wanted, plan, task, workspace, lambda desk, names: desk.reject(names, by, why))


def _decide(
    verb: str,
    rows: list[str] | None,
    wanted: dict[str, str | None],
    plan: bool,
    task: str,
    workspace: Path | None,
    decide: Callable[["Desk", list[str]], list["Decision"]],
) -> None:
    from fetalflow.hospital.quarantine_desk import Desk
    from flows.workspaces.last_run import announced_workspace
    from flows.workspaces.lock import hold

    filtered = any(value is not None for value in wanted.values())
    if bool(rows) == filtered:
        raise InputError(f"quarantine {verb} needs either names of rows, or filters such as --kind and --site.")
    folder = announced_workspace(task, workspace)
    with hold(folder, f"fetalflow quarantine {verb}"):
        desk = Desk(folder, task)
        names = desk.select(**wanted) if filtered else rows
        if plan:
            print(f"{len(names)} rows would get the decision {verb}: {' '.join(names)}")
            return
        decided = decide(desk, names)
    then = "uses them" if verb == "release" else "leaves them out"
    print(f"{verb.capitalize()}: {len(decided)} rows in {desk.reviews}. The next `fetalflow run` {then}.")


def arrivals(
    task: Task = "movement",
    workspace: Annotated[Path | None, typer.Option(help="Default: workspaces/arrivals-TASK.")] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """List the deliveries that were taken or refused, and those that wait in the inbox, with the reasons."""
    from fetalflow.hospital.arrival.journal import listing

    _, store = store_of(task, workspace)
    found = listing(store)
    if as_json:
        print(json.dumps(found, indent=2))
        return
    for line in found["happened"]:
        facts = f" drop {line['drop']}" if line["drop"] else ""
        facts += f", {line['rows']} rows of {line['cines']} cines" if line["rows"] else ""
        print(
            f"{line['time']}  {line['state']:9s} {line['name']}{facts}" + (f": {line['said']}" if line["said"] else "")
        )
        if line["drift"]:
            print(f"{'':27s}drift: {line['drift']}")
    for delivery in found["waiting"]:
        print(f"{found['looked']}  waiting   {delivery['name']}: {delivery['said']}")
    print(f"The inbox was last read at {found['looked']}." if found["looked"] else "The inbox was never read.")


def withdraw(
    by: Who,
    why: Why,
    patient: Annotated[
        str, typer.Argument(help="Her pseudonym, as in the manifest; or, with a key, the hospital's identifier.")
    ] = "",
    identifier: Annotated[
        bool, typer.Option(help="Enter the hospital's identifier at a hidden prompt instead; needs the key.")
    ] = False,
    key_file: Annotated[Path | None, typer.Option(help="The secret key; default: from the environment.")] = None,
    site: Annotated[str | None, typer.Option(help="Her site, if patients of several sites have the pseudonym.")] = None,
    task: Annotated[
        str | None, typer.Option(help="Only the workspace arrivals-TASK, with all its tasks; default: all workspaces.")
    ] = None,
    workspace: Annotated[Path | None, typer.Option(help="Only this workspace, with all its tasks.")] = None,
) -> None:
    """Remove a patient's rows and cines for ever, from every task; the next retraining is without them."""
    from fetalflow.settings.params import load_settings
    from flows.care.stores import configured_key, find_in, refuse_foreign_key, stores
    from flows.care.withdrawal import withdraw_everywhere
    from flows.checkout import CHECKOUT
    from flows.retrain import workspace_of

    if identifier == bool(patient):
        raise InputError("withdraw needs either a pseudonym, as in the manifest, or --identifier.")
    if workspace is None and task is not None:
        workspace, _ = store_of(task, workspace_of(task))
    chosen, key = stores(workspace), configured_key(key_file)
    if not chosen:
        tasks = ", ".join(load_settings((workspace or CHECKOUT) / "params.yaml").tasks)
        raise InputError(f"{workspace or 'No workspace'} takes no drops of {tasks}. See `fetalflow retrain`.")
    if identifier:
        if key is None:
            raise InputError(
                "--identifier needs the key of the pseudonyms: --key-file, or FETALFLOW_PSEUDONYM_KEY_FILE."
            )
        refuse_foreign_key(key, chosen)
        # A prompt, because arguments stay in the shell's history and are visible in the list of processes.
        patient = typer.prompt("Identifier", hide_input=True, err=True).strip()
    found = find_in(chosen, patient, site, key)
    for line in withdraw_everywhere(found, chosen, patient, by, why, key):
        print(line)
    others = sorted({str(each.workspace) for each in stores()} - {str(each.workspace) for each in chosen})
    if workspace is not None and others:
        print(f"Not looked at: {', '.join(others)}. Without --task and --workspace all are.")


def store_of(task: str, workspace: Path | None) -> tuple[Path, Path]:
    """A workspace that takes drops, and its store. Raises InputError for another folder."""
    from fetalflow.settings.params import load_settings
    from flows.checkout import CHECKOUT

    folder = workspace or CHECKOUT / "workspaces" / f"arrivals-{task}"
    store = folder / load_settings(folder / "params.yaml").block(task).retrain.store / task
    if not store.is_dir():
        raise InputError(f"{folder} takes no drops of {task}: there is no {store}. See `fetalflow retrain`.")
    return folder, store


def deidentify(
    drop: Annotated[Path, typer.Argument(help="A hospital's drop (docs/data-engineer/drop.md), folder or zip.")],
    out: Annotated[Path, typer.Argument(help="Folder to write the de-identified drop to.")],
    key_file: Annotated[Path | None, typer.Option(help="The secret key; default: from the environment.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="A label to keep; default: the labels of the task.")] = None,
    patient_pattern: Annotated[
        str | None, typer.Option(help="Finds the patient in a file's name, such as 'P(\\d+)', if the drop names none.")
    ] = None,
    near_patients: Annotated[
        Literal["stop", "same", "different"], typer.Option(help="What patients with nearly equal names are.")
    ] = "stop",
    reveal: Annotated[
        bool, typer.Option(help="Messages may quote the drop; only for a terminal in the hospital.")
    ] = False,
    task: Task = "movement",
) -> None:
    """De-identify a drop: pseudonyms, shifted dates, cleaned headers, masked text in the pixels."""
    from fetalflow.artefacts import read_json
    from fetalflow.hospital.deidentify.drop import QUARANTINE, RECORD, deidentify_drop
    from fetalflow.hospital.deidentify.pseudonyms import read_key
    from fetalflow.settings.params import load_settings
    from flows.checkout import CHECKOUT

    extract = load_settings(CHECKOUT / "params.yaml").block(task).extract
    changes = {"near_patients": near_patients} | ({"patient_pattern": patient_pattern} if patient_pattern else {})
    try:
        extract = type(extract).model_validate(
            extract.model_dump() | changes | ({"labels": tuple(label)} if label else {})
        )
    except ValidationError as error:
        raise InputError(f"--patient-pattern: {error.errors()[0]['msg']}.") from None
    key = read_key(key_file)
    earlier = read_json(out / RECORD).get("key") if (out / RECORD).is_file() else key.name
    if earlier != key.name:
        raise InputError(
            f"OUT holds a drop that was de-identified with the key {earlier}, and the key now is {key.name}: the same "
            "patients would get other pseudonyms. Give the key of before, or another OUT if the new key is right."
        )
    found = deidentify_drop(drop, out, key, extract, reveal=reveal).summary
    kinds = ", ".join(f"{count} {kind}" for kind, count in found["quarantined"].items()) or "none"
    print(
        f"{out}: {found['rows_written']} of {found['rows']} rows, {found['cines_written']} cines of "
        f"{found['patients']} patients, key {found['key']}.\nQuarantined: {kinds}; rows in {out / QUARANTINE}.\n"
        "Not all text over tissue is found: look at a sample before the drop leaves the hospital "
        "(docs/data-engineer/deidentification.md)."
    )
