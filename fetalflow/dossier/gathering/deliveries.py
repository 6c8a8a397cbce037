"""What hospitals delivered: rows, cines and patients of each delivery, consent and licence as its columns state them,
what was recalled, withdrawn and erased. Deliveries have numbers; no name of a folder or file is kept."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
import yaml

from fetalflow.artefacts import named, read_json, write_json
from fetalflow.dossier.gathering.data_of_version import manifest_of
from fetalflow.dossier.subject import Subject
from fetalflow.errors import InputError
from fetalflow.evaluation.intervals import LEAST_PATIENTS
from fetalflow.hospital.arrival.journal import read_journal
from fetalflow.hospital.arrival.recall_record import RESTORE, Line, left_out
from fetalflow.hospital.arrival.recall_record import lines as recalls
from fetalflow.hospital.arrival.withdrawal import read_withdrawn
from fetalflow.settings.params import Loader, load_settings

FILE = "deliveries.json"
TERMS = {"licence": ("licence", "license"), "consent": ("consent", "consent_given")}  # columns, in any case
PLAIN = re.compile(
    r"yes|no|true|false|given|refused|broad|waived|withdrawn|cc[ -](by|0)[\w .-]{0,16}|cc0", re.IGNORECASE
)
NO_STORE = "The version was made from deliveries, and the workspace does not have their store."
NOT_STATED, OTHER_TEXT = "not stated", "another text"
STORE = "arrivals"  # where the settings do not say
CERTIFICATES = "erasures"  # beside the workspaces
MIDNIGHT = 10  # characters of a day


def gather(subject: Subject, folder: Path) -> None:
    """Write `deliveries.json`. Only what happened before the version's run counts as its deliveries."""
    read, until = _read(subject), _started(subject)
    try:
        found = _of_drop(subject) if read is None else _of_store(read, until) if read.is_dir() else _nothing(NO_STORE)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"the journal or a table of {STORE}/{subject.task} cannot be read ({type(error).__name__}). Restore the "
            "store from a backup; fetalflow arrivals shows whether it can be read."
        ) from None
    found |= {"withdrawn": _withdrawn(_store(subject)), "certificates": _certificates(subject.workspace)}
    write_json(folder / FILE, found)


def _read(subject: Subject) -> Path | None:
    """The store of deliveries that the version's run read; None if it read another drop, or if nobody knows."""
    try:
        found = yaml.load(subject.store.artefact(subject.run, "params.yaml") or "", Loader)
        store = PurePosixPath((found[subject.task].get("retrain") or {}).get("store") or STORE, subject.task)
        drop = PurePosixPath(found["tasks"][subject.task]["drop"])
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        return None
    return subject.workspace / store if drop == store / "drop" else None


def _store(subject: Subject) -> Path:
    """The store of the workspace as it is now."""
    try:
        settings = load_settings(subject.workspace / "params.yaml")
        return subject.workspace / settings.blocks[subject.task].retrain.store / subject.task
    except (InputError, OSError, KeyError):
        return subject.workspace / STORE / subject.task


def _started(subject: Subject) -> float:
    """Seconds of the epoch at which the version's run was logged."""
    return subject.store.client.get_run(subject.run).info.start_time / 1000


def _of_store(store: Path, until: float) -> dict[str, Any]:
    journal = [line for line in read_journal(store) if line["time"] <= until]
    taken = {line["drop"]: line for line in reversed(journal) if line["state"] == "taken" and line["drop"]}
    lines = sorted(taken.values(), key=lambda line: (line["time"], line["drop"]))
    gone, decided = left_out(store), recalls(store)
    deliveries = []
    for number, line in enumerate(lines, 1):
        said = {"number": number, "drop": line["drop"], "day": _day(line["time"]), "rows": line["rows"]}
        said |= {"cines": line["cines"], "recalled": _recalled(gone, line["drop"])}
        said |= {"used_before": _after(decided, line["drop"], until)}
        path = store / "received" / f"{line['drop']}.csv"
        rows = pd.read_csv(path, dtype=str, keep_default_na=False) if path.is_file() else None
        deliveries.append(said | ({} if rows is None else _facts(rows)))
    states = Counter(line["state"] for line in journal if line["state"] != "seen")
    decisions = Counter(line.decision for line in decided)
    return {"from": "store", "deliveries": deliveries, "states": dict(sorted(states.items()))} | {
        "recalls": dict(sorted(decisions.items()))
    }


def _recalled(gone: Mapping[str, set[str]], drop: str) -> str:
    return "" if drop not in gone else "in part" if gone[drop] else "all"


def _after(decided: Sequence[Line], drop: str, until: float) -> bool:
    """Whether rows of a drop were recalled or replaced, and only after the version was made, which used them."""
    times = [line.time for line in decided if line.drop == drop and line.decision != RESTORE]
    return bool(times) and datetime.fromisoformat(min(times)).timestamp() > until


def _nothing(why: str) -> dict[str, Any]:
    return {"from": "", "why": why, "deliveries": [], "states": {}, "recalls": {}}


def _of_drop(subject: Subject) -> dict[str, Any]:
    """The one drop of a workspace without a store, from the manifest, which keeps the drop's columns."""
    manifest, why = manifest_of(subject)
    if manifest is None:
        return _nothing(why)
    rows = manifest.drop_duplicates("source")
    said = {"number": 1, "drop": "", "day": "", "rows": None, "cines": len(rows), "recalled": ""}
    return {"from": "manifest", "why": "", "deliveries": [said | _facts(manifest)], "states": {}, "recalls": {}}


def _facts(rows: pd.DataFrame) -> dict[str, Any]:
    """sites, devices: their numbers of patients. licence, consent: rows by what the column states."""
    found: dict[str, Any] = {"patients": int(rows["patient"].nunique())}
    for column in ("site", "device"):
        given = named(rows[column]) if column in rows else pd.Series("", index=rows.index)
        patients = rows["patient"].groupby(given.replace("", NOT_STATED)).nunique()
        found[f"{column}s"] = {str(name): int(n) for name, n in patients.items()}
    lower = {str(column).strip().lower(): column for column in rows}
    for term, names in TERMS.items():
        column = next((lower[name] for name in names if name in lower), None)
        found[term] = None if column is None else _terms(rows["patient"], rows[column])
    return found


def _terms(patients: pd.Series, column: pd.Series) -> dict[str, int]:
    """Rows by value. A free text may name a woman: it is shown only if it holds for several patients."""
    given = named(column).str.strip()
    several = patients.groupby(given).nunique()
    shown = {value for value, n in several.items() if n >= LEAST_PATIENTS or PLAIN.fullmatch(value)}
    words = given.map(lambda value: NOT_STATED if value == "" else value if value in shown else OTHER_TEXT)
    return {str(value): int(n) for value, n in sorted(words.value_counts().items())}


def _withdrawn(store: Path) -> int | None:
    """Patients who withdrew; None without a store."""
    return int(read_withdrawn(store)["patient"].nunique()) if store.is_dir() else None


def _certificates(workspace: Path) -> list[dict[str, Any]]:
    """Day of each erasure that concerned this workspace, and how many files and rows it removed there."""
    found = []
    for path in sorted((workspace.resolve().parent / CERTIFICATES).glob("*.json")):
        try:
            certificate = read_json(path)
            here = {Path(folder).resolve(): done for folder, done in certificate["workspaces"].items()}
            done = here.get(workspace.resolve())
            if done is not None and not certificate["plan"]:
                removed = sum(n for n in done.values() if isinstance(n, int))
                found.append({"day": str(certificate["time"])[:MIDNIGHT], "removed": removed})
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise InputError(
                f"{CERTIFICATES}/{path.name} cannot be read as a certificate of `fetalflow erase`. "
                "Restore it from a backup, or move it to another folder."
            ) from None
    return sorted(found, key=lambda each: (each["day"], each["removed"]))


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()
