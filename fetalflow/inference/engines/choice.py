"""Chooses the engine for a package: the requested one, or the fastest installed one that passed the gate. A registered
package contains only formats that passed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fetalflow.artefacts import read_json
from fetalflow.errors import InputError
from fetalflow.inference.engines.arithmetic import arithmetic
from fetalflow.inference.engines.engine import ENGINES, THREADS, Engine, is_installed, open_engine, package_digest

EXPORTS = "exports"
JUDGED = "export.json"  # the verdicts of the gate; each format in a subfolder has its own record
AUTO = "auto"


def exports_of(package: Path | str) -> Path:
    """The folder of a package's exports: `exports` inside a registered package; in a workspace exports/TASK/VARIANT for
    models/TASK/VARIANT, because no stage writes into the folder of another. The folder may not exist."""
    package = Path(package).absolute()
    if (within := package / EXPORTS).is_dir():
        return within
    return package.parent.parent.parent / EXPORTS / package.parent.name / package.name


def read_judged(package: Path | str) -> dict[str, Any] | None:
    """The gate's verdicts on the formats of a package; None where nothing was exported from these weights."""
    path = exports_of(package) / JUDGED
    if not path.is_file():
        return None
    judged = read_json(path)
    return judged if judged["package"] == package_digest(package) else None


def choose(name: str, package: Path | str, threads: int = THREADS, once: bool = False) -> Engine | None:
    """The opened engine `name` for the package in `package`; None means torch, which reads the package itself.

    "auto" is the fastest installed engine that passed on such a processor, by the times of the export stage; torch
    where nothing was exported. once: the process answers once and ends, so torch, which takes 2 s to start, is chosen
    only if no other engine passed. Raises InputError when a requested engine did not pass (with the reasons), was not
    exported, is not installed, was judged on another kind of processor, or its files have changed.
    """
    if name not in (AUTO, *ENGINES):
        raise InputError(f"no engine is called {name!r}; there are: {', '.join((AUTO, *ENGINES))}.")
    if name == "torch":
        return None
    judged = read_judged(package)
    rows = {row["engine"]: row for row in judged["engines"]} if judged else {}
    if name == AUTO:
        name = _fastest(rows, once)
    else:
        _check_passed(name, rows, package)
    return None if name == "torch" else open_engine(name, package, exports_of(package), threads)


def choose_for_stream(name: str, package: Path | str, reuse: bool = True, once: bool = False) -> str:
    """The engine that streams the package: `name`, or for "auto" the fastest installed engine whose parts passed; for
    a network without parts, or without `reuse`, the fastest engine for whole windows. once: as in `choose`.

    Raises InputError as `choose` does.
    """
    if name not in (AUTO, *ENGINES):
        raise InputError(f"no engine is called {name!r}; there are: {', '.join((AUTO, *ENGINES))}.")
    judged = read_judged(package) or {}
    rows = {row["engine"]: row for row in (reuse and judged.get("stream")) or judged.get("engines", ())}
    if name == AUTO:
        return _fastest(rows, once)
    if name != "torch":
        _check_passed(name, rows, package)
    return name


def _fastest(rows: Mapping[str, Mapping[str, Any]], once: bool) -> str:
    usable = [row for name, row in rows.items() if row["passed"] and is_installed(name) and _judged_alike(row)]
    if once:
        usable = [row for row in usable if row["engine"] != "torch"] or usable
    return min(usable, key=lambda row: row["ms"])["engine"] if usable else "torch"


def _judged_alike(row: Mapping[str, Any]) -> bool:
    """Whether this machine rounds as the one on which the gate judged the engine."""
    return row.get("arithmetic", "") == arithmetic(row["engine"])


def _check_passed(name: str, rows: Mapping[str, Mapping[str, Any]], package: Path | str) -> None:
    if not rows:
        raise InputError(f"nothing was exported from {package}: only torch answers. Run the export stage.")
    passed = ", ".join(each for each, row in rows.items() if row["passed"])
    if name not in rows:
        raise InputError(f"{package} was not exported for the engine {name}; engines that passed: {passed}.")
    if not rows[name]["passed"]:
        reasons = "; ".join(rows[name]["reasons"])
        raise InputError(f"the engine {name} was refused for {package}: {reasons}. Engines that passed: {passed}.")
    if not _judged_alike(rows[name]):
        raise InputError(
            f"the engine {name} was judged for {package} on another kind of processor "
            f"({rows[name].get('arithmetic', 'not known')}); this one ({arithmetic(name)}) may give other answers. "
            "Take another engine, or run the export stage here."
        )
