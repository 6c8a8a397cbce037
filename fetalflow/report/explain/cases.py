"""The answer of a segmentation network to one sequence, measured and compared with the truth, for pictures."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from fetalflow.biometry.clip import MeasuredClip, measure_clip
from fetalflow.biometry.measuring import Measured
from fetalflow.biometry.outline import HALF, Spacing
from fetalflow.biometry.structures import LENGTHS
from fetalflow.errors import InputError
from fetalflow.evaluation.equal_labels import labels_equally_likely
from fetalflow.evaluation.measurement_rows import fitted_spacing, known_mask, number, seen_area, stated_weeks
from fetalflow.evaluation.segmentation import overlap
from fetalflow.models.answering import ask, to_input
from fetalflow.report.explain.choosing import read_sequence

GATES = "Attention of the gates"


@dataclass(frozen=True)
class Case:
    """One test sequence: its manifest row with `predicted`, `confidence` and `correct`.

    frames: uint8 [N, H, W]. answer: float32 [N, H, W] in 0-1. truth: the annotated mask, bool [N, H, W].
    clip: `answer` measured as the predicted structure. known: true lengths in mm by name, from the drop or, where
    `by_drop` is False, measured on the annotated mask.
    """

    row: pd.Series
    frames: np.ndarray
    probabilities: dict[str, float]
    answer: np.ndarray
    truth: np.ndarray | None
    spacing: Spacing | None
    clip: MeasuredClip
    known: dict[str, float]
    by_drop: bool

    @property
    def dice(self) -> float:
        """Over the clip; NaN without an annotated mask."""
        return np.nan if self.truth is None else overlap(self.answer > HALF, self.truth)[0]

    @property
    def errors(self) -> dict[str, float]:
        """In percent of the truth, by length; empty for a wrong label and without lengths in mm."""
        if self.clip.structure != self.row["label"] or self.clip.unit != "mm":
            return {}
        lengths = self.clip.lengths
        return {name: 100 * (lengths[name].value / self.known[name] - 1) for name in lengths if name in self.known}

    def telling_frame(self) -> int:
        """The one whose main length is nearest to the clip's; without a number, the one that agrees least with the
        truth; without a truth, the middle one."""
        main = LENGTHS.get(self.clip.structure, ("",))[0]
        if main in self.clip.lengths:
            lengths = np.array([frame.lengths.get(main, np.nan) for frame in self.clip.frames])
            return int(np.nanargmin(np.abs(lengths - self.clip.lengths[main].value)))
        return self.weakest_frame()

    def weakest_frame(self) -> int:
        """The one that agrees least with the truth (Dice); without a truth, the middle one."""
        if self.truth is None:
            return len(self.frames) // 2
        pairs = zip(self.answer > HALF, self.truth, strict=True)
        return int(np.argmin([overlap(found, truth)[0] for found, truth in pairs]))


class Cases:
    """The cases of `network`, whose package has `config`, on the sequences of `data` (the task's folder)."""

    def __init__(self, network: nn.Module, config: Mapping[str, Any], data: Path, device: torch.device) -> None:
        self.network, self.data, self.device = network, data, device
        self.labels: list[str] = config["labels"]

    def case(self, row: pd.Series) -> Case:
        """row: of the manifest."""
        frames = read_sequence(self.data / row["path"])
        answer = ask(self.network, frames[None])
        mask, p = answer.mask_probabilities[0], answer.probabilities[0]
        row = self._named(row, p)
        truth, spacing = known_mask(self.data, row), fitted_spacing(row, frames.shape[-1])
        sector, weeks = seen_area(row, frames.shape[-1]), stated_weeks(row)

        def measured(answer: np.ndarray, structure: str) -> MeasuredClip:
            if structure in LENGTHS:
                return measure_clip(answer, structure, spacing, sector, weeks)
            unit, said = "mm" if spacing else "px", (f"called {structure}, on which nothing is measured",)
            frames = (Measured(row["label"], unit, refused=True),) * len(answer)
            return MeasuredClip(row["label"], unit, {}, frames, said, (False,) * len(answer))

        known = {name: number(row.get(f"{name}_mm")) for name in LENGTHS.get(row["label"], ())}
        known = {name: value for name, value in known.items() if np.isfinite(value)}
        by_drop = bool(known)
        if not by_drop and truth is not None and spacing:
            known = {name: joined.value for name, joined in measured(truth, row["label"]).lengths.items()}
        probabilities = dict(zip(self.labels, map(float, p), strict=True))
        clip = measured(mask, row["predicted"])
        return Case(row, frames, probabilities, mask, truth, spacing, clip, known, by_drop)

    def gates(self, case: Case) -> np.ndarray | None:
        """float32 [N, H, W] in 0-1; None where the network has no attention gates."""
        maps = gate_maps(self.network, to_input(case.frames[None], self.device))
        return maps[GATES][0] if maps else None

    def _named(self, row: pd.Series, p: np.ndarray) -> pd.Series:
        named = row["label"] if labels_equally_likely(p) else self.labels[int(p.argmax())]
        answer = {"predicted": named, "confidence": float(p.max()), "correct": named == row["label"]}
        return pd.Series(dict(row) | answer, dtype=object)


def gate_maps(network: nn.Module, inputs: Tensor, _: Tensor | None = None) -> dict[str, np.ndarray]:
    """float32 [B, N, H, W] in 0-1 by name, for `inputs` of the same shape: how far the attention gates are open at each
    position of each frame. Empty where the network has none."""
    attention_maps = getattr(network, "attention_maps", None)
    if attention_maps is None:
        return {}
    try:
        with torch.inference_mode():
            return {GATES: attention_maps(inputs).float().cpu().numpy()}
    except InputError:  # it was built without them
        return {}
