"""Writes docs/evidence.md: every claim of the result files, with what it was measured on and how.

    python -m benchmarks evidence
    python -m benchmarks evidence --from-workspace workspaces/demo    # first writes the claims of a finished run

The claims lie in benchmarks/results (README.md there). A file in which a claim lacks something is refused.
"""

import argparse
import csv
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks.claims import RESULTS, Claim, read_claims, shown, write_claims
from fetalflow.artefacts import write_text
from fetalflow.errors import InputError

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/evidence.md"
NOT_KEPT = "not_kept.csv"
LOST = ("no difference", "worse")
HEAD = """# Evidence: what was claimed, and how it was measured

`python -m benchmarks evidence` writes this page from the files in `benchmarks/results`, and a test compares it with \
them. Do not edit it by hand. Figures have three digits; the files have all of them. A share is from 0 to 1. The line \
below a list says how its claims were measured. The seeds are those of the trainings.
"""


def page(claims: dict[str, list[Claim]], not_kept: Iterable[str]) -> str:
    """The Markdown of docs/evidence.md. claims: by name of the result file. not_kept: lines of its last part."""
    parts = {
        "## Measured": lambda each: each.outcome not in LOST,
        "## Tried, and no difference was found or it was worse": lambda each: each.outcome in LOST,
    }
    lines = [HEAD]
    for title, belongs in parts.items():
        lines += [title, ""]
        for name, of_file in claims.items():
            if kept := [each for each in of_file if belongs(each)]:
                lines += [f"### {name}", "", *_section(kept)]
        if not any(map(belongs, (each for of_file in claims.values() for each in of_file))):
            lines += ["Nothing yet.", ""]
    lines += ["## Stated in docs, result file not kept", ""]
    lines += ["These figures are older than the result files. Only a repeated measurement can prove them.", ""]
    return "\n".join([*lines, *not_kept]) + "\n"


def _section(claims: list[Claim]) -> Iterator[str]:
    by_facts: dict[str, list[Claim]] = {}
    for claim in claims:
        by_facts.setdefault(_facts(claim), []).append(claim)
    for facts, group in by_facts.items():
        yield from (*map(_line, group), "", facts, "")


def _line(claim: Claim) -> str:
    outcome = f"**{claim.outcome}**: " if claim.outcome != "measured" else ""
    further = ", ".join(f"{name} {shown(value)}" for name, value in claim.further.items())
    return f"- {outcome}{claim.sentence}{f' ({further})' if further else ''}"


def _facts(claim: Claim) -> str:
    counts = ", ".join(f"{number:,} {what}" for what, number in claim.n.items())
    seeds = ", ".join(map(str, claim.seeds)) or "none"
    return (
        f"*Data: {claim.data}. Split by: {claim.split_unit}. n: {counts}. Seeds: {seeds}. Interval: {claim.interval}. "
        f"Command: `{claim.command}`. Machine: {claim.machine}. Date: {claim.date}.*"
    )


def not_kept_lines(table: Path, root: Path = ROOT) -> Iterator[str]:
    """One line for each figure of `table` (columns page, text, what) whose `text` still is on its page."""
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            lines = (root / "docs" / row["page"]).read_text(encoding="utf-8").splitlines()
            if found := [number for number, line in enumerate(lines) if row["text"] in line]:
                before = [line for line in lines[: found[0]] if line.startswith("#")]
                yield f'- [{row["page"]}]({row["page"]}), {before[-1].lstrip("# ")}: {row["what"]} ("{row["text"]}")'
            else:
                print(f"{table.name}: {row['page']} no longer has {row['text']!r}; remove the row.", file=sys.stderr)


def written(results: Path = RESULTS, root: Path = ROOT) -> str:
    """The page of all files in `results`. Raises InputError naming a file that is incomplete."""
    claims = {path.stem: read_claims(path) for path in sorted(results.glob("*.json"))}
    return page(claims, not_kept_lines(results / NOT_KEPT, root))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--from-workspace", type=Path, help="a finished workspace, whose claims are written first")
    parser.add_argument("--print", action="store_true", help="print the page instead of writing it")
    chosen = parser.parse_args()
    try:
        if chosen.from_workspace:
            from benchmarks.workspace_claims import claims_of, tasks_of

            for task in tasks_of(chosen.from_workspace):
                name = f"{chosen.from_workspace.resolve().name}_{task}"
                print(f"wrote {write_claims(name, claims_of(chosen.from_workspace, task))}")
        text = written()
    except InputError as error:
        sys.exit(str(error))
    if chosen.print:
        print(text, end="")
    else:
        write_text(PAGE, text)
        print(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
