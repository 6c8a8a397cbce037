"""Verbs of the command line about what a hospital brings: de-identify it, decide on what cannot be used."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fetalflow.errors import InputError

Task = Annotated[str, typer.Option(help="The task.")]

quarantine = typer.Typer(no_args_is_help=True, help="What a drop brought that cannot be used, and deciding on it.")

Workspace = Annotated[Path, typer.Option(help="A checkout or a workspace of it.")]
Rows = Annotated[list[str], typer.Argument(help="Names of rows, as `quarantine list` gives them.")]
Who = Annotated[str, typer.Option("--by", help="Who decides.")]
Why = Annotated[str, typer.Option("--why", help="Why. No name of a patient: the file is kept for ever.")]


@quarantine.command("list")
def quarantine_list(
    kind: Annotated[str | None, typer.Option(help="The rows of this kind only.")] = None,
    task: Task = "movement",
    workspace: Workspace = Path(),
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Quarantined rows: how many of each kind and what to do; then each row's name, cine and reason."""
    from fetalflow.quarantine_desk import Desk

    desk = Desk(workspace, task)
    counts, rows, waiting = desk.counts(), desk.rows(kind), desk.pending()
    if as_json:
        print(json.dumps({"kinds": counts, "rows": rows, "waiting": sorted(waiting)}, indent=2))
        return
    for found in counts:
        more = f" ({found['waiting']} decided, waiting for the next run)" if found["waiting"] else ""
        print(f"{found['rows']:5d} {found['kind']}{more}: {found['to_do']}")
    for row in rows:
        decided = f" [{waiting[row['row']].decision} waits for the next run]" if row["row"] in waiting else ""
        print(f"\n{row['row']} {row['kind']}{decided} {row['video']}\n  {row['reason']}", end="")
    print("" if rows else "Nothing is in quarantine.")


@quarantine.command("show")
def quarantine_show(row: str, task: Task = "movement", workspace: Workspace = Path()) -> None:
    """One quarantined row, what is known of its cine, the other rows of that cine, and past decisions; as JSON."""
    from fetalflow.quarantine_desk import Desk

    print(json.dumps(Desk(workspace, task).show(row), indent=2))


@quarantine.command("release")
def quarantine_release(
    rows: Rows,
    by: Who,
    why: Why,
    label: Annotated[str, typer.Option(help="The label that counts: for the kinds disagreement and label.")] = "",
    task: Task = "movement",
    workspace: Workspace = Path(),
) -> None:
    """Decide that rows are used after all. It takes effect at the next run."""
    from fetalflow.quarantine_desk import Desk

    desk = Desk(workspace, task)
    done = desk.release(rows, by, why, label)
    print(f"Released {len(done)} rows in {desk.reviews}. The next `fetalflow run` uses them.")


@quarantine.command("reject")
def quarantine_reject(rows: Rows, by: Who, why: Why, task: Task = "movement", workspace: Workspace = Path()) -> None:
    """Decide that rows stay out for ever; they no longer count against `quarantine_share`."""
    from fetalflow.quarantine_desk import Desk

    desk = Desk(workspace, task)
    done = desk.reject(rows, by, why)
    print(f"Rejected {len(done)} rows in {desk.reviews}. The next `fetalflow run` leaves them out for good.")


def arrivals(
    task: Task = "movement",
    workspace: Annotated[Path | None, typer.Option(help="Default: workspaces/arrivals-TASK.")] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """What came in, when, and what became of it; what still waits in the inbox, and why."""
    from fetalflow.arrival_journal import listing

    _, store = _store(task, workspace)
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
    print(f"The inbox was last looked at {found['looked']}." if found["looked"] else "Nothing was ever looked for.")


def withdraw(
    patient: Annotated[str, typer.Argument(help="Her pseudonym, as in the manifest.")],
    by: Who,
    why: Why,
    task: Task = "movement",
    workspace: Annotated[Path | None, typer.Option(help="Default: workspaces/arrivals-TASK.")] = None,
) -> None:
    """Take a patient's rows and cines out of what came in, for ever; the next retraining is without her."""
    from fetalflow.arrival import withdraw as withdraw_patient
    from fetalflow.settings import load_settings

    folder, store = _store(task, workspace)
    rows, files = withdraw_patient(store, patient, by, why, load_settings(folder / "params.yaml").blocks[task].split)
    decoded = [p for file in files for p in (folder / "data" / task / "frames").glob(f"{Path(file).stem}.*")]
    for path in decoded:
        path.unlink()
    print(
        f"{patient}: {rows} rows, {len(files)} files and {len(decoded)} decoded ones are gone from {folder}, and will "
        f"not come in again.\nNext: fetalflow retrain --task {task} (it trains without her, and from no model that saw "
        f"her), then `dvc gc --workspace` in {folder} for copies of old results.\nWhat used her before: fetalflow "
        f"lineage {patient}. The hospital's inbox is only read here: what lies there is for the hospital to remove."
    )


def _store(task: str, workspace: Path | None) -> tuple[Path, Path]:
    """A workspace that takes drops, and its store. Raises InputError when it is none."""
    from fetalflow.settings import load_settings
    from flows.workspace import CHECKOUT

    folder = workspace or CHECKOUT / "workspaces" / f"arrivals-{task}"
    blocks = load_settings(folder / "params.yaml").blocks
    if task not in blocks:
        raise InputError(f"params.yaml has no task {task!r}; it has: {', '.join(blocks)}.")
    store = folder / blocks[task].retrain.store / task
    if not store.is_dir():
        raise InputError(f"{folder} takes no drops of {task}: it has no {store}. See `fetalflow retrain`.")
    return folder, store


def deidentify(
    drop: Annotated[Path, typer.Argument(help="A hospital's drop (docs/drop.md), folder or zip.")],
    out: Annotated[Path, typer.Argument(help="The folder of the de-identified drop.")],
    key_file: Annotated[Path | None, typer.Option(help="The secret key; default: from the environment.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="A label that may pass; default: those of the task.")] = None,
    reveal: Annotated[bool, typer.Option(help="Let messages quote the drop, at a terminal in the hospital.")] = False,
    task: Task = "movement",
) -> None:
    """Pseudonyms for names, moved dates, clean headers, masked pixels: a drop that may leave the hospital's wing."""
    from fetalflow.deidentify.drop import QUARANTINE, deidentify_drop
    from fetalflow.deidentify.pseudonyms import read_key
    from fetalflow.settings import load_settings
    from flows.workspace import CHECKOUT

    settings = load_settings(CHECKOUT / "params.yaml")
    if task not in settings.blocks:
        raise InputError(f"params.yaml has no task {task!r}; it has: {', '.join(settings.blocks)}.")
    extract = settings.blocks[task].extract
    if label:
        extract = extract.model_copy(update={"labels": tuple(label)})
    found = deidentify_drop(drop, out, read_key(key_file), extract, reveal=reveal).summary
    kinds = ", ".join(f"{count} {kind}" for kind, count in found["quarantined"].items()) or "none"
    print(
        f"{out}: {found['rows_written']} of {found['rows']} rows, {found['cines_written']} cines of "
        f"{found['patients']} patients, key {found['key']}.\nQuarantined: {kinds}; by row in {out / QUARANTINE}.\n"
        "Text over tissue is only partly found: look at a sample before the drop leaves (docs/deidentification.md)."
    )
