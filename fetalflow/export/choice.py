"""Which engine answers for a package: the one that is asked for, or the fastest that passed the gate and is installed
here. Only what passed travels with a package."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fetalflow.artefacts import read_json
from fetalflow.errors import InputError
from fetalflow.export.engine import ENGINES, THREADS, Engine, is_installed, open_engine, package_digest

EXPORTS = "exports"
JUDGED = "export.json"  # in it, what the gate said; of the formats beside it each has a record of its own
AUTO = "auto"


def exports_of(package: Path | str) -> Path:
    """The folder of a package's exports: `exports` within it, as it is registered; in a workspace, where a stage writes
    into no other stage's folder, exports/TASK/VARIANT for models/TASK/VARIANT. It may not be there."""
    package = Path(package).absolute()
    if (within := package / EXPORTS).is_dir():
        return within
    return package.parent.parent.parent / EXPORTS / package.parent.name / package.name


def read_judged(package: Path | str) -> dict[str, Any] | None:
    """What the gate said of a package's formats; None where nothing was exported from these weights."""
    path = exports_of(package) / JUDGED
    if not path.is_file():
        return None
    judged = read_json(path)
    return judged if judged["package"] == package_digest(package) else None


def choose(name: str, package: Path | str, threads: int = THREADS) -> Engine | None:
    """The engine `name` for the package in `package`, opened; None: torch, which reads the package itself.

    "auto" is the fastest that passed, by the times of the export stage, and is installed here; torch where nothing was
    exported. Raises InputError when an engine that was asked for did not pass, with the reasons, was not exported or is
    not installed; or its files are not those that were exported.
    """
    if name not in (AUTO, *ENGINES):
        raise InputError(f"no engine is called {name!r}; there are: {', '.join((AUTO, *ENGINES))}.")
    if name == "torch":
        return None
    judged = read_judged(package)
    rows = {row["engine"]: row for row in judged["engines"]} if judged else {}
    if name == AUTO:
        name = _fastest(rows)
    else:
        _check_passed(name, rows, package)
    return None if name == "torch" else open_engine(name, package, exports_of(package), threads)


def choose_for_stream(name: str, package: Path | str, reuse: bool = True) -> str:
    """The engine that streams the package: `name`, or for "auto" the fastest whose parts passed and that is installed
    here; of a network without parts, and without `reuse`, the fastest for whole windows.

    Raises InputError as `choose` does.
    """
    if name not in (AUTO, *ENGINES):
        raise InputError(f"no engine is called {name!r}; there are: {', '.join((AUTO, *ENGINES))}.")
    judged = read_judged(package) or {}
    rows = {row["engine"]: row for row in (reuse and judged.get("stream")) or judged.get("engines", ())}
    if name == AUTO:
        return _fastest(rows)
    if name != "torch":
        _check_passed(name, rows, package)
    return name


def _fastest(rows: Mapping[str, Mapping[str, Any]]) -> str:
    usable = [row for name, row in rows.items() if row["passed"] and is_installed(name)]
    return min(usable, key=lambda row: row["ms"])["engine"] if usable else "torch"


def _check_passed(name: str, rows: Mapping[str, Mapping[str, Any]], package: Path | str) -> None:
    if not rows:
        raise InputError(f"nothing was exported from {package}: only torch answers. Run the export stage.")
    passed = ", ".join(each for each, row in rows.items() if row["passed"])
    if name not in rows:
        raise InputError(f"{package} was not exported for the engine {name}; engines that passed: {passed}.")
    if not rows[name]["passed"]:
        reasons = "; ".join(rows[name]["reasons"])
        raise InputError(f"the engine {name} was refused for {package}: {reasons}. Engines that passed: {passed}.")
