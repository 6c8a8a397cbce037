"""The command `check`: what a run would read from a drop, before it runs."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fetalflow.errors import InputError
from flows.cli.options import Changes, Task

SHOWN = 20  # lines of each list on the terminal; --json has all of them
EMPTY = {
    "layout": "",
    "recognised": "",
    "rows": 0,
    "used": 0,
    "quarantined": [],
    "patients": 0,
    "patients_from": "",
    "labels": {},
    "sites": {},
    "cines": [],
    "not_used": [],
    "warnings": [],
}


def check(
    drop: Annotated[Path, typer.Argument(help="A hospital's drop (docs/data-engineer/drop.md), folder or zip.")],
    decode: Annotated[bool, typer.Option(help="Read the frames and masks as well, which takes longer.")] = False,
    profile: Annotated[list[str] | None, typer.Option(help="A profile of params.yaml; may be repeated.")] = None,
    change: Changes = None,
    patient_pattern: Annotated[
        str | None, typer.Option(help="Finds the patient in a file's name, such as 'P(\\d+)', if the drop names none.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
    task: Task = "movement",
) -> None:
    """Show what a run would read from a drop, without a workspace. Exit status: 0; 1 if rows would be quarantined or
    there are warnings; 2 if a run would refuse the drop."""
    found = look_at(drop, task, decode, profile or [], change or [], patient_pattern)
    print(json.dumps(found, indent=2, ensure_ascii=False) if as_json else in_words(drop, found))
    sys.exit(2 if found["refused"] else int(bool(found["quarantined"] or found["warnings"])))


def look_at(
    drop: Path, task: str, decode: bool, profiles: list[str], assignments: list[str], patient_pattern: str | None
) -> dict[str, Any]:
    """`fetalflow.sequences.preview` of a drop with the settings that `fetalflow run` would use, and `refused`: why the
    run would stop before it trains, else None. Raises InputError when the settings are wrong."""
    from fetalflow.hospital.drop.first_look import check_drop
    from fetalflow.hospital.drop.quarantine import check_share, quarantine_table, rejected_row
    from fetalflow.sequences.preview import preview
    from flows.workspaces.workspace import parse_changes, settings_of

    usual = settings_of(task).block(task).extract.labels or ()
    changes = [{task: {"extract": {"labels": None}}}, *([parse_changes(assignments)] if assignments else [])]
    if patient_pattern is not None:
        changes.append({task: {"extract": {"patient_pattern": patient_pattern}}})
    block = settings_of(task, profiles, changes).block(task)
    found = EMPTY | {"refused": None}
    try:
        found |= preview(drop, block.extract, decode, block.validation.rates)
        said = check_drop(drop, task, block.extract, block.split, usual).splitlines()
        further = (line.removeprefix("Warning: ") for line in said if line.startswith("Warning: "))
        found["warnings"] += [line for line in further if line not in found["warnings"]]
        rejected = quarantine_table(
            rejected_row({"video": each["file"]}, each["kind"], each["reason"]) for each in found["quarantined"]
        )
        check_share(rejected, found["rows"], block.extract.quarantine_share, "`fetalflow check --json`")
    except InputError as error:
        found["refused"] = str(error)
    return found


def in_words(drop: Path, found: dict[str, Any]) -> str:
    """The result of `look_at` as lines for a terminal."""
    lines = []
    if found["layout"]:
        lines += [
            f"{drop}, read as {found['layout']}. {found['recognised']}",
            f"rows      {found['used']} of {found['rows']} can be used, {len(found['quarantined'])} in quarantine",
            f"patients  {found['patients']}, named by: {found['patients_from']}",
            f"labels    {_counts(found['labels'])}",
            f"sites     {_counts(found['sites']) or 'none is named'}",
            f"cines     {len(found['cines'])}; {_facts(found['cines'])}",
        ]
    lines += _listed("quarantine", [_of_row(each) for each in found["quarantined"]])
    lines += _listed("not used", [f"{each['file']}: {each['why']}" for each in found["not_used"]])
    lines += _listed("warnings", found["warnings"])
    lines.append(f"\nA run would refuse this drop: {found['refused']}" if found["refused"] else "")
    return "\n".join(lines).rstrip()


def _of_row(row: dict[str, Any]) -> str:
    place = f" (line {row['line']})" if row["line"] else ""
    return f"{row['kind']:10s} {row['file']}{place}: {row['reason']}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _facts(cines: list[dict[str, Any]]) -> str:
    """Rate and scale of the cines: smallest, largest, and how many state none."""
    words = []
    for key, what in (("fps", "frames/s"), ("mm_per_px", "mm per px")):
        values = [each[key] for each in cines if each[key]]
        known = f"{min(values):.4g} to {max(values):.4g} {what}" if values else f"no {what}"
        words.append(known + (f" ({len(cines) - len(values)} state none)" if 0 < len(values) < len(cines) else ""))
    return ", ".join(words)


def _listed(title: str, lines: list[str]) -> list[str]:
    if not lines:
        return []
    more = [f"  and {len(lines) - SHOWN} more; --json lists all"] if len(lines) > SHOWN else []
    return ["", f"{title}:", *(f"  {line}" for line in lines[:SHOWN]), *more]
