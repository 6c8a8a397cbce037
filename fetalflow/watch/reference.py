"""What the answers in use are compared with: the pictures the model was trained on, and its answers in the test."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fetalflow.artefacts import read_columns
from fetalflow.evaluation.certainty.record import certainty_in
from fetalflow.evaluation.predictions import Predictions, predictions_of, read_predictions
from fetalflow.models.package_files import read_config
from fetalflow.watch.estimated import Held

PICTURE = ("mean_intensity", "sharpness", "niqe", "blank_share", "fps")


@dataclass(frozen=True)
class Reference:
    """rows: one per sequence, with patient, site, the figures of the picture, and for test patients the `label` that
    the model answered and its `unfamiliarity` and `unfamiliar` (0 or 1). weights: SHA-256 of the model. held: None
    where the model tells no labels apart."""

    rows: pd.DataFrame
    weights: str
    held: Held | None


def reference_of(workspace: Path, task: str, variant: str) -> Reference | None:
    """The reference of the model that was trained last in a workspace; None where its run is not finished."""
    data, package = workspace / "data" / task, workspace / "models" / task / variant
    table, predicted = data / "manifest.parquet", predictions_of(data, variant)
    if not (table.is_file() and predicted.is_file() and (package / "config.json").is_file()):
        return None
    weights = read_config(package)["weights"]["sha256"]
    rows = read_columns(table, ["sequence", "patient", "site", *PICTURE])
    tested = first_run(read_predictions(predicted))
    certainty = certainty_in(package, weights)
    held = None
    if tested.distinguishes_labels and tested.probabilities is not None:
        p = tested.probabilities if certainty is None else certainty.calibrated(tested.probabilities)
        patient = tested.table["patient"].to_numpy(str)
        held = Held(p.max(axis=1), tested.predicted == tested.truth, patient)
    answers = tested.table.set_index("sequence")
    rows["label"] = rows["sequence"].map(answers["y_pred"])
    if "unfamiliarity" in answers:
        rows["unfamiliarity"] = rows["sequence"].map(answers["unfamiliarity"])
        rows["unfamiliar"] = (rows["unfamiliarity"] > 1).where(rows["unfamiliarity"].notna()).astype(float)
    return Reference(rows.drop(columns="sequence"), weights, held)


def first_run(found: Predictions) -> Predictions:
    """The predictions of the first fold and seed, which are those of the package, each sequence once."""
    keep = np.ones(len(found.table), bool)
    for column in {"fold", "seed"} & set(found.table):
        order = pd.to_numeric(found.table[column], errors="coerce").fillna(0)
        keep &= (order == order[keep].min()).to_numpy()
    keep &= ~found.table["sequence"].duplicated().to_numpy()
    p = None if found.probabilities is None else found.probabilities[keep]
    return Predictions(found.table[keep].reset_index(drop=True), found.labels, p, found.source, found.notes)
