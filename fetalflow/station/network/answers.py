"""The label of each window of a cine: as the run predicted it for its validation and test part, else asked now."""

import json
from typing import Any

import numpy as np

from fetalflow.cine.letterbox import fit
from fetalflow.evaluation.certainty.record import Certainty, certainty_in
from fetalflow.evaluation.equal_labels import labels_equally_likely
from fetalflow.models.familiarity import UNLIKE
from fetalflow.station.catalogue import Catalogue, Cine
from fetalflow.station.network.asking import Model, kept, model_of, predicted_rows, windows_of

MOST_WINDOWS = 300  # of a longer cine, so many are asked, evenly spread
NO_LABEL = "This network gives no label: all are equally likely."


def answer_of(catalogue: Catalogue, cine: Cine, variant: str = "") -> dict[str, Any]:
    """For JSON: model (words for a mark), notes (sentences), level (of the sets, or None), limit (of unfamiliarity),
    and windows: first_frame, last_frame, label, probabilities by label, label_set, unfamiliarity.

    variant: another one than the main one, for a cine without predictions, which are those of the main one. Raises
    InputError where the network cannot answer.
    """
    model = model_of(catalogue.place, cine.task, variant)
    certainty = certainty_in(model.folder, model.weights) or Certainty()
    found = _predicted(model, cine, certainty)
    if found is None:
        key = f"answer {model.weights} {cine.record['digest']} {certainty!r}"
        found = json.loads(kept(catalogue.place, cine.source, key, lambda: _asked(catalogue, cine, model)))
    if "training" in cine.state and found["asked"]:
        found["notes"].append("The network may have learned from this cine, so this says little of how good it is.")
    return {"model": model.name, "limit": UNLIKE, "level": certainty.level} | found


def _predicted(model: Model, cine: Cine, certainty: Certainty) -> dict[str, Any] | None:
    """From the predictions of the run whose weights the package has; None where this cine has none."""
    rows = predicted_rows(model, cine)
    if not rows or labels_equally_likely(np.array([list(row["probabilities"].values()) for row in rows])):
        return None
    parts = sorted({row["part"] for row in rows})
    note = f"Predicted by the run, in its {' and '.join(parts)} part: the network did not learn from it."
    return {"asked": False, "notes": [note], "windows": [_window(row, certainty) for row in rows]}


def _window(row: dict[str, Any], certainty: Certainty) -> dict[str, Any]:
    p = row["probabilities"]
    shown = certainty.calibrated(np.array(list(p.values())))
    unfamiliarity = row.get("unfamiliarity")
    familiar = unfamiliarity is None or unfamiliarity <= UNLIKE
    return {
        **{name: row[name] for name in ("first_frame", "last_frame")},
        "label": max(p, key=p.get),
        "probabilities": dict(zip(p, shown.tolist(), strict=True)),
        "label_set": certainty.label_set(p) if familiar else None,
        "unfamiliarity": unfamiliarity,
    }


def _asked(catalogue: Catalogue, cine: Cine, model: Model) -> bytes:
    cut = windows_of(model, cine)
    chosen = np.unique(np.linspace(0, len(cut.spans) - 1, min(MOST_WINDOWS, len(cut.spans))).round().astype(int))
    frames, size = catalogue.frames(cine.source, cine.task), model.config["size"]
    answers = model.package().predict(np.stack([fit(frames[cut.numbers(i)], size) for i in chosen])).windows
    notes = ["Asked now."]
    if labels_equally_likely(np.array([list(each.probabilities.values()) for each in answers])):
        return json.dumps({"asked": True, "notes": [NO_LABEL], "windows": []}).encode()
    if len(chosen) < len(cut.spans):
        notes.append(f"{len(chosen)} of {len(cut.spans)} windows were asked, spread over the cine.")
    windows = [
        dict(zip(("first_frame", "last_frame"), cut.spans[i], strict=True))
        | {name: getattr(each, name) for name in ("label", "probabilities", "label_set", "unfamiliarity")}
        for i, each in zip(chosen, answers, strict=True)
    ]
    return json.dumps({"asked": True, "notes": notes, "windows": windows}).encode()
