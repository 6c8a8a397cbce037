"""The answers on one cine that a person can judge: of the workspace's network, and of the log of the models in use."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fetalflow.annotation.corrections import Judged
from fetalflow.artefacts import read_json
from fetalflow.errors import InputError
from fetalflow.hospital.drop.columns import LENGTHS
from fetalflow.station.catalogue import Cine
from fetalflow.station.network.asking import model_of, predicted_rows
from fetalflow.station.place import Place
from fetalflow.watch.log import AnswerLog
from fetalflow.watch.row import SHADOW

ORIGIN = {"predict": "predict", "measure": "measure", "examine": "measure", "service": "service"}  # of a logged answer


@dataclass(frozen=True)
class Answer:
    """One answer. text: label and lengths; label: "" where none was said; truth: the label so far, "" if not known."""

    origin: str
    model: str
    first: int
    last: int
    text: str
    label: str = ""
    probability: float | None = None
    truth: str = ""

    @property
    def about(self) -> tuple[str, str, int, int, str]:
        """As `Correction.about`."""
        return self.origin, self.model, self.first, self.last, self.text

    def shown(self, mine: Mapping[tuple, Judged], said: Mapping[tuple, Judged], has_labels: bool) -> dict[str, Any]:
        """For the page. mine: the judgements that the account may see; said: those of all people."""
        found = mine.get(self.about)
        words = "another person judged it" if self.about in said else ""
        if found is not None:
            right = ", ".join(sorted({mark.label for mark in found.correction.marks}))
            words = "right" if found.correction.right else f"wrong: {right}"
        return self.__dict__ | {"said": words, "truth": self.truth if has_labels else ""}


def answers_of(place: Place, cine: Cine) -> list[Answer]:
    """The answers of the main network by frames, then those of the log by time, each once."""
    found = [*_predicted(place, cine), *_logged(place, cine)]
    return list({answer.about: answer for answer in found}.values())


def registered_model(place: Place, task: str) -> str:
    """Name and version of the model that this workspace registered; else its main variant and the digits of its
    weights, because the next training gives another network under the same name."""
    path = place.workspace / "reports" / task / "registered.json"
    found = read_json(path) if path.is_file() else {}
    if "version" in found:  # an experiment of DVC is not registered
        return f"{found['name']} {found['version']}"
    try:
        model = model_of(place, task)
        return f"{model.variant} (not registered, {model.weights[:8]})"
    except InputError:
        return f"{place.settings.variants(task)[0]} (not registered)"


def _predicted(place: Place, cine: Cine) -> list[Answer]:
    """Those of the run whose network the workspace has: other folds and seeds are other networks."""
    try:
        rows = predicted_rows(model_of(place, cine.task), cine)
    except InputError:  # the network is gone: the first run that answered
        runs = [(row.get("fold", 0), row.get("seed", 0)) for row in cine.predictions]
        rows = [row for row, run in zip(cine.predictions, runs, strict=True) if run == min(runs)]
    model = registered_model(place, cine.task)
    return [
        Answer(
            origin="test" if row.get("part", "test") == "test" else "predict",
            model=model,
            first=row.get("first_frame", 0),
            last=row.get("last_frame", 0),
            text=_words(row["y_pred"], {name: row.get(f"found_{name}") for name in LENGTHS}),
            label=row["y_pred"] or "",
            probability=row.get("probabilities", {}).get(row["y_pred"]),
            truth=row["y_true"] or "",
        )
        for row in rows
    ]


def _logged(place: Place, cine: Cine) -> list[Answer]:
    """What people were answered on the same file, about all its frames. The log knows a file by its SHA-256."""
    folder, last = place.settings.watch.folder, cine.record.get("frames", 0) - 1
    if not folder or last < 0 or not (place.workspace / folder).is_dir():
        return []
    found = []
    for row in AnswerLog(place.workspace / folder).answers_to(cine.source).to_dict("records"):
        lengths = {f"{name}_mm": mm for name, (mm, *_) in json.loads(row["lengths"] or "{}").items()}
        text = _words(row["label"], lengths)
        if row["task"] == cine.task and row["role"] != SHADOW and row["origin"] in ORIGIN and text:
            model = f"{row['model']} {row['version']}".strip() or "not named"
            probability = json.loads(row["probabilities"] or "{}").get(row["label"])
            label = row["label"] if isinstance(row["label"], str) else ""
            found.append(Answer(ORIGIN[row["origin"]], model, 0, last, text, label, probability))
    return found


def _words(label: Any, lengths: Mapping[str, float | None]) -> str:
    said = [f"{name.removesuffix('_mm').upper()} {mm:.1f} mm" for name, mm in lengths.items() if mm is not None]
    return " ".join([*([label] if isinstance(label, str) and label else []), *said])
