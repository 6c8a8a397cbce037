"""Every new drop is tested once for drift, against the data before it."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fetalflow.artefacts import read_columns, write_json
from fetalflow.inference.package import Package, load
from fetalflow.quality.drift import FIGURES, compare_drop, speckle
from fetalflow.settings.params import Drift

BASELINE = "The first drops: later drops are compared with them."
NOTHING = "No row of this drop gave a sequence: look at the quarantine."


def unjudged(store: Path) -> list[str]:
    """The drops of a store that have no drift report yet."""
    return sorted(_names(store, "received", "csv") - _names(store, "drift", "json"))


def judge_new_drops(
    store: Path, data: Path, settings: Drift, package: Path | None = None, predictions: Path | None = None
) -> dict[str, dict[str, Any]]:
    """`compare_drop` for each drop of a store that has no report in `store/drift` yet; write and return the reports.

    data: the task's folder with `manifest.parquet` and its sequences. package, predictions: the model in use, and its
    predictions for its test and validation patients. With both, the unfamiliarity of the new sequences is compared with
    that of these patients, because the model was not trained on them either.
    """
    reported, new = _names(store, "drift", "json"), unjudged(store)
    if not new:
        return {}
    if not reported:
        reports = {drop: {"drifted": False, "verdict": BASELINE, "tests": []} for drop in new}
    else:
        known = _known_unfamiliarity(predictions)
        model = load(package) if package and known is not None else None
        table = data / "manifest.parquet"
        # One column after another, and no column twice: of ten million rows, a text column is half a gigabyte.
        speckles = [speckle(_middle(data / path)) for path in read_columns(table, ["path"])["path"]]
        held, drops = pd.factorize(read_columns(table, ["drop"])["drop"])
        drops = [set(text.split(";")) for text in drops]
        old = np.array([bool(each & reported) for each in drops])[held]
        manifest = read_columns(table, ["patient", "site", *FIGURES]).assign(speckle=np.array(speckles, float))
        before, rest, held = manifest[old], manifest[~old], held[~old]
        del manifest, speckles
        if model is not None and model.familiarity is not None:
            sequences = read_columns(table, ["sequence", "path"])
            before = before.assign(unfamiliarity=sequences.loc[old, "sequence"].map(known))
            paths = sequences.loc[~old, "path"]
            rest = rest.assign(unfamiliarity=[_unfamiliarity(model, data / path) for path in paths])
        reports = {}
        for drop in new:
            rows = rest[np.array([drop in each for each in drops])[held]]
            empty = {"drifted": False, "verdict": NOTHING, "tests": []}
            reports[drop] = compare_drop(before, rows, settings) if len(rows) else empty
    for drop, report in reports.items():
        write_json(store / "drift" / f"{drop}.json", {"drop": drop} | report)
    return reports


def _names(store: Path, folder: str, suffix: str) -> set[str]:
    return {path.stem for path in (store / folder).glob(f"[!.]*.{suffix}")}


def _middle(path: Path) -> np.ndarray:
    sequence = np.load(path, mmap_mode="r")
    return np.asarray(sequence[len(sequence) // 2])


def _unfamiliarity(model: Package, path: Path) -> float:
    return model.predict(np.load(path)).unfamiliarity


def _known_unfamiliarity(predictions: Path | None) -> pd.Series | None:
    """Unfamiliarity by sequence in the predictions of the first fold and seed, which are those of the package."""
    if predictions is None or not predictions.is_file():
        return None
    table = pd.read_csv(predictions, dtype={"sequence": str})
    if "unfamiliarity" not in table:
        return None
    first = table[(table["fold"] == table["fold"].min()) & (table["seed"] == table["seed"].min())]
    return first.drop_duplicates("sequence").set_index("sequence")["unfamiliarity"]
