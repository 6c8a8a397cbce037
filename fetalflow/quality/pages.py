"""HTML pages of the quality gate: an index of the checks, and the data docs of Great Expectations for offline use."""

import re
import shutil
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from fetalflow.report.style import STYLE

LOOK = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #1c2733 }
table { border-collapse: collapse; width: 100% }
table:not(.scroll table) { display: block; overflow-x: auto } /* a page of Great Expectations has no box around it */
@media print { table:not(.scroll table) { display: table } }
td, th { border: 1px solid #d5dce3; padding: .35rem .5rem; text-align: left; vertical-align: top }
.fail, .badge-danger { color: #b3261e } .warn { color: #8a5a00 } .pass { color: #1b6e3c }
.fa-check-circle::before { content: "pass"; color: #1b6e3c } .fa-times::before { content: "fail"; color: #b3261e }
.fa-exclamation-triangle::before { content: "warning"; color: #8a5a00 }
details { margin-top: .3rem } ul { padding-left: 1.2rem } nav ol, nav ul { list-style: none; padding: 0 }
"""
HEAD = f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}{LOOK}</style>'
# Data docs load style sheets, scripts and a logo from the network; without a network the scripts fail.
_REMOTE = [
    re.compile(r"<script\b.*?</script>", re.DOTALL),
    re.compile(r"<link\b[^>]*>"),
    re.compile(r"<img\b[^>]*>", re.DOTALL),
    re.compile(r"<footer\b.*?</footer>", re.DOTALL),
    re.compile(r"background: url\('https?:[^;]*;"),
]


def make_offline(folder: Path) -> None:
    """Remove everything that needs the network from the data docs in `folder`, and add a simple style."""
    shutil.rmtree(folder / "static", ignore_errors=True)
    for page in folder.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        for pattern in _REMOTE:
            text = pattern.sub("", text)
        page.write_text(text.replace("</head>", f"{HEAD}</head>", 1), encoding="utf-8")


def write_index(folder: Path, verdict: Mapping[str, Any]) -> None:
    """Write `index.html`: for every check what was expected and found, what was done to masks, and links to the data
    docs of each suite."""
    word = "passed" if verdict["success"] else "failed"
    rows = "".join(map(_row, verdict["expectations"]))
    pages = sorted((folder / "validations").rglob("*.html"))
    links = "".join(
        f'<li><a href="{escape(page.relative_to(folder).as_posix())}">'
        f"{escape(page.relative_to(folder / 'validations').parts[0])}</a></li>"
        for page in pages
    )
    head = "<tr><th></th><th>check</th><th>suite</th><th>expected</th><th>found</th></tr>"
    title = f"Quality of {escape(verdict['task'])}: {word}"
    table = f'<div class="scroll"><table>{head}{rows}</table></div>'
    body = f"<h1>{title}</h1>{table}{_masks(verdict['masks'])}<h2>Great Expectations data docs</h2><ul>{links}</ul>"
    (folder / "index.html").write_text(
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"{HEAD}</head><body>{body}</body></html>\n",
        encoding="utf-8",
    )


def _masks(counts: Mapping[str, int]) -> str:
    rows = "".join(f"<tr><td>{escape(done)}</td><td>{count}</td></tr>" for done, count in counts.items())
    return f"<h2>What was done to masks</h2><table><tr><th></th><th>masks</th></tr>{rows}</table>" if counts else ""


def _row(expectation: Mapping[str, Any]) -> str:
    state = "pass" if expectation["success"] else "warn" if expectation["severity"] == "warning" else "fail"
    found = escape(expectation["found"])
    if expectation["rows"]:
        lines = "".join(f"<li>{escape(row)}</li>" for row in expectation["rows"])
        more = expectation["n_rows"] - len(expectation["rows"])
        lines += f"<li>and {more} more</li>" if more else ""
        found += f"<details{'' if state == 'pass' else ' open'}><summary>rows</summary><ul>{lines}</ul></details>"
    if state != "pass":
        found += f"<p>What to do: {escape(expectation['advice'])}</p>"
    cells = [expectation["name"], expectation["suite"], expectation["expected"]]
    name, suite, expected = map(escape, cells)
    return (
        f'<tr><td class="{state}">{state}</td><td>{name}</td><td>{suite}</td><td>{expected}</td><td>{found}</td></tr>'
    )
