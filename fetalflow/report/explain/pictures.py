"""The pictures of the explain stage for sequences, each with its caption."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from fetalflow.cine.field_of_view import sector_of
from fetalflow.models.answering import to_input
from fetalflow.models.frame_weights import attention_matrix, frame_weights, frame_weights_method, has_attention
from fetalflow.report.explain.attribution import frame_maps, integrated_gradients, method
from fetalflow.report.explain.drawing import (
    draw_attention,
    draw_filters,
    draw_overview,
    draw_sequence,
    scaled,
    strip,
    tile,
)
from fetalflow.report.explain.filters import feature_maps, strongest
from fetalflow.report.explain.gradcam import convolution_layer, grad_cam
from fetalflow.report.explain.maps import short_name

FILTERS = 12
ACROSS = 8  # columns of a picture that shows several sequences


@dataclass(frozen=True)
class Picture:
    """A figure and its entry in `explain.json`."""

    file: str
    kind: str
    sequence: str  # empty where the picture shows several
    label: str
    caption: str
    figure: Figure

    def entry(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in ("file", "kind", "sequence", "label", "caption")}


@dataclass(frozen=True)
class Shown:
    """One sequence to draw: `frames` uint8 [N, H, W], its manifest row with the answer, and its known anatomy."""

    row: pd.Series
    frames: np.ndarray
    probabilities: dict[str, float]
    anatomy: np.ndarray | None  # bool [N, H, W]

    @property
    def name(self) -> str:
        mistake = "" if self.row["correct"] else f", predicted {self.row['predicted']}"
        return f"{self.row['label']}{mistake} ({self.row['confidence']:.2f})"

    @property
    def title(self) -> str:
        row = self.row
        return (
            f"{row['label']}, predicted {row['predicted']} with {row['confidence']:.2f}     "
            f"{row['video']}, frames {row['first_frame']}-{row['last_frame']}, "
            f"patient {row['patient']}, {row['device']}"
        )


class Painter:
    """Draws sequences for one network; `labels` are in the order of its outputs."""

    unit = "sequence"

    def __init__(self, network: nn.Module, config: dict[str, Any], device: torch.device) -> None:
        self.network, self.device, self.labels = network, device, config["labels"]
        name, self.layer = convolution_layer(network)
        self.layer_name = short_name(name).capitalize()
        self._maps: dict[tuple[str, str, str], np.ndarray] = {}

    def class_map(self, shown: Shown, label: str) -> np.ndarray:
        """Grad-CAM for `label`, 0-1 within the field of view, float [N or 1, H, W]."""
        return self._once("class", shown, label, lambda x, y: grad_cam(self.network, x, y, self.layer).cpu().numpy())

    def frame_map(self, shown: Shown, label: str) -> np.ndarray:
        """Per-frame attribution for `label`, 0-1 within the field of view, float [N, H, W]."""
        return self._once(
            "frame", shown, label, lambda x, y: frame_maps(integrated_gradients(self.network, x, y).cpu().numpy())
        )

    def _once(self, kind: str, shown: Shown, label: str, make: Callable[[Tensor, Tensor], np.ndarray]) -> np.ndarray:
        key = (kind, str(shown.row["sequence"]), label)
        if key not in self._maps:
            maps = make(self._input(shown), self._target(label))[0]
            self._maps[key] = scaled(maps.astype(np.float32), sector_of(shown.frames, fitted=True))
        return self._maps[key]

    def sequence(self, shown: Shown) -> Picture:
        label = shown.row["predicted"]
        rows = [
            ("frames", strip(shown.frames)),
            self._class_row(shown, label),
            self._frame_row(shown, label),
        ]
        caption = (
            f"A test sequence of {shown.row['label']}. Middle: Grad-CAM of {self.layer_name} for {label}, one map "
            f"where the frames enter as channels. Below: attribution per frame ({method(len(shown.frames))}). "
            f"Bars: weight of each frame ({frame_weights_method(self.network)}).{outline(shown)}"
        )
        return self._picture("sequence", shown, caption, rows)

    def mistake(self, shown: Shown) -> Picture:
        truth, label = shown.row["label"], shown.row["predicted"]
        rows = [
            ("frames", strip(shown.frames)),
            self._class_row(shown, label),
            (
                f"attribution per frame for {label}, the predicted label",
                strip(shown.frames, self.frame_map(shown, label), shown.anatomy),
            ),
            (
                f"attribution per frame for {truth}, the true label",
                strip(shown.frames, self.frame_map(shown, truth), shown.anatomy),
            ),
        ]
        caption = (
            f"Misclassified: {truth} predicted as {label} with probability {shown.probabilities[label]:.2f} "
            f"({truth}: {shown.probabilities[truth]:.2f}). Maps for {label}, and in the last row for {truth}."
            f"{outline(shown)}"
        )
        return self._picture("mistake", shown, caption, rows)

    def overview(self, chosen: list[Shown]) -> Picture:
        middle = len(chosen[0].frames) // 2
        columns = []
        for shown in chosen[:ACROSS]:
            label = shown.row["predicted"]
            frame, anatomy = shown.frames[middle], None if shown.anatomy is None else shown.anatomy[middle]
            one, each = self.class_map(shown, label), self.frame_map(shown, label)
            heat = one[min(middle, len(one) - 1)]
            columns.append((shown.name, [tile(frame), tile(frame, heat, anatomy), tile(frame, each[middle], anatomy)]))
        caption = (
            f"The middle frame of one test sequence per class: as recorded, with Grad-CAM of {self.layer_name} and "
            "with the attribution of this frame, for the predicted class (probability in brackets)."
            f"{outline(chosen[0])}"
        )
        figure = draw_overview(columns, ["frame", f"Grad-CAM, {self.layer_name}", "attribution"])
        return Picture("overview.png", "overview", "", "", caption, figure)

    def attention(self, chosen: list[Shown]) -> Picture:
        inputs = torch.cat([self._input(shown) for shown in chosen[:ACROSS]])
        matrices = attention_matrix(self.network, inputs).float().cpu().numpy()
        caption = (
            "Attention between frames: row i shows how much frame i takes from each frame (rows sum to 1). The bars "
            f"are the column means; at the dotted line, 1/{matrices.shape[-1]}, every frame has the same weight."
        )
        figure = draw_attention([(shown.name, matrix) for shown, matrix in zip(chosen, matrices, strict=False)])
        return Picture("attention.png", "attention", "", "", caption, figure)

    def filters(self, chosen: list[Shown]) -> Picture:
        inputs = torch.cat([self._input(shown) for shown in chosen[:ACROSS]])
        maps = strongest(feature_maps(self.network, inputs, self.layer), FILTERS)
        rows = [(s.row["label"], s.frames[len(s.frames) // 2], each) for s, each in zip(chosen, maps, strict=False)]
        caption = (
            f"Outputs of the {len(maps[0])} filters of {self.layer_name} with the highest mean output, "
            f"{maps.shape[-2]} x {maps.shape[-1]} values each: one row per {self.unit}, one column per filter."
        )
        return Picture("filters.png", "filters", "", "", caption, draw_filters(rows, self.layer_name, self.unit))

    def all(self, chosen: list[Shown], mistakes: list[Shown]) -> Iterator[Picture]:
        """One at a time, so that a figure can be freed when it is written."""
        if chosen:
            yield self.overview(chosen)
        yield from map(self.sequence, chosen)
        if chosen and has_attention(self.network):
            yield self.attention(chosen)
        if chosen:
            yield self.filters(chosen)
        yield from map(self.mistake, mistakes)

    def _class_row(self, shown: Shown, label: str) -> tuple[str, np.ndarray]:
        maps = self.class_map(shown, label)
        name = f"Grad-CAM of {self.layer_name} for {label}"
        if not maps.any():
            name += ": 0 everywhere, on average no filter supports this class"
        return name, strip(shown.frames, maps, shown.anatomy)

    def _frame_row(self, shown: Shown, label: str, remark: str = "") -> tuple[str, np.ndarray]:
        return (
            f"attribution per frame for {label}{remark}",
            strip(shown.frames, self.frame_map(shown, label), shown.anatomy),
        )

    def _picture(self, kind: str, shown: Shown, caption: str, rows: list[tuple[str, np.ndarray]]) -> Picture:
        truth, predicted, sequence = (str(shown.row[key]) for key in ("label", "predicted", "sequence"))
        weights = frame_weights(self.network, self._input(shown), self._target(predicted))[0].float().cpu().numpy()
        way = frame_weights_method(self.network)
        figure = draw_sequence(
            shown.title, rows, weights, f"frame weight: {way}", shown.probabilities, truth, predicted
        )
        return Picture(f"{kind}-{sequence}.png", kind, sequence, truth, caption, figure)

    def _input(self, shown: Shown) -> Tensor:
        return to_input(shown.frames[None], self.device)

    def _target(self, label: str) -> Tensor:
        return torch.tensor([self.labels.index(label)], device=self.device)


def outline(shown: Shown) -> str:
    return "" if shown.anatomy is None else " White line: the labelled anatomy."
