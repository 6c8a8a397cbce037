"""The pictures of the explain stage where a sequence is one image, each beside its maps."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from torch import nn

from fetalflow.report.explain.attribution import method
from fetalflow.report.explain.drawing import COLOURS, DPI, TILE, draw_probabilities, tile
from fetalflow.report.explain.pictures import ACROSS, Painter, Picture, Shown, outline

EXAMPLES = 3  # of a class, in one row of the overview
LARGE = 2 * TILE  # px of an image in a picture with few tiles
WIDE = 1.5  # inches of a tile in the overview


class StillPainter(Painter):
    """Draws images for one network; maps and layers are those of `Painter`."""

    unit = "image"

    def overview(self, chosen: list[Shown]) -> Picture:
        groups = {label: [s for s in chosen if s.row["label"] == label] for label in self.labels}
        rows = [
            (label, [(shown.name, self._beside(shown)) for shown in group[at : at + EXAMPLES]])
            for label, group in groups.items()
            for at in range(0, len(group), EXAMPLES)
        ]
        caption = (
            f"Test images of each class: as recorded; with Grad-CAM of {self.layer_name}; with the attribution "
            f"({method(1)}). Maps are of the predicted class (probability in brackets)."
            f"{next(filter(None, map(outline, chosen)), '')}"
        )
        return Picture("overview.png", "overview", "", "", caption, draw_examples(rows))

    def mistake(self, shown: Shown) -> Picture:
        truth, label = shown.row["label"], shown.row["predicted"]
        frame, anatomy = shown.frames[0], None if shown.anatomy is None else shown.anatomy[0]
        tiles = [("image", tile(frame, side=LARGE))]
        for role, name in (("the predicted label", label), ("the true label", truth)):
            heat = self.class_map(shown, name)[0]
            tiles.append((f"for {name}, {role}", tile(frame, heat, anatomy, side=LARGE)))
        caption = (
            f"Misclassified: {truth} predicted as {label} with probability {shown.probabilities[label]:.2f} "
            f"({truth}: {shown.probabilities[truth]:.2f}). Grad-CAM of {self.layer_name}, for {label} and for {truth}."
            f"{outline(shown)}"
        )
        figure = draw_mistake(shown, tiles)
        sequence = str(shown.row["sequence"])
        return Picture(f"mistake-{sequence}.png", "mistake", sequence, str(truth), caption, figure)

    def all(self, chosen: list[Shown], mistakes: list[Shown]) -> Iterator[Picture]:
        if chosen:
            yield self.overview(chosen)
            of_each = {str(shown.row["label"]): shown for shown in reversed(chosen)}
            yield self.filters([of_each[label] for label in self.labels if label in of_each][:ACROSS])
        yield from map(self.mistake, mistakes)

    def _beside(self, shown: Shown) -> list[np.ndarray]:
        label, frame = shown.row["predicted"], shown.frames[0]
        anatomy = None if shown.anatomy is None else shown.anatomy[0]
        maps = (self.class_map(shown, label)[0], self.frame_map(shown, label)[0])
        return [tile(frame), *(tile(frame, heat, anatomy) for heat in maps)]


def painter(network: nn.Module, config: dict[str, Any], device: torch.device) -> Painter:
    """The painter for sequences, or for images where the package has N = 1."""
    return (StillPainter if config["frames"] == 1 else Painter)(network, config, device)


def draw_examples(rows: Sequence[tuple[str, Sequence[tuple[str, Sequence[np.ndarray]]]]]) -> Figure:
    """rows: a label and its examples; an example: its title and its tiles, which are drawn side by side."""
    across = max(len(examples) for _, examples in rows)
    each = len(rows[0][1][0][1])
    width, height, left, gap, title, bottom = WIDE * each, WIDE, 0.35, 0.15, 0.3, 0.7  # inches
    whole = left + across * (width + gap), len(rows) * (height + title) + bottom
    figure = Figure(figsize=whole, dpi=DPI)
    for i, (label, examples) in enumerate(rows):
        top = i * (height + title) + title
        middle = 1 - (top + height / 2) / whole[1]
        figure.text(0.12 / whole[0], middle, label, rotation=90, va="center", ha="center", fontsize=9)
        for j, (name, tiles) in enumerate(examples):
            axes = _place(figure, whole, left + j * (width + gap), top, width, height)
            axes.imshow(np.concatenate(tiles, axis=1), interpolation="antialiased")
            axes.set_title(name, fontsize=9, loc="left", pad=3)
            axes.axis("off")
    _colour_bar(figure, _place(figure, whole, left, whole[1] - bottom + 0.12, min(width, 3.0), 0.12))
    return figure


def draw_mistake(shown: Shown, tiles: Sequence[tuple[str, np.ndarray]]) -> Figure:
    """Tiles of one image, each below its title, and the probabilities beside."""
    row, side, gap, beside, names = shown.row, 3.0, 0.12, 2.3, 1.35  # inches
    whole = len(tiles) * (side + gap) + names + beside + 0.1, side + 0.85
    figure = Figure(figsize=whole, dpi=DPI)
    title = (
        f"{row['label']}, predicted {row['predicted']} with {row['confidence']:.2f}     {row['video']}, "
        f"patient {row['patient']}, {row['device']}"
    )
    figure.text(0.1 / whole[0], 1 - 0.3 / whole[1], title, fontsize=11)
    for j, (name, picture) in enumerate(tiles):
        axes = _place(figure, whole, 0.1 + j * (side + gap), 0.75, side, side)
        axes.imshow(picture, interpolation="antialiased")
        axes.set_title(name, fontsize=9, loc="left", pad=3)
        axes.axis("off")
    left = len(tiles) * (side + gap) + names
    high = min(side - 0.9, 0.3 * len(shown.probabilities))
    bars = _place(figure, whole, left, 0.75, beside, high)
    draw_probabilities(bars, shown.probabilities, row["label"], row["predicted"])
    _colour_bar(figure, _place(figure, whole, left, 0.75 + side - 0.5, beside, 0.12))
    return figure


def _place(figure: Figure, whole: tuple[float, float], x: float, top: float, wide: float, high: float) -> Axes:
    return figure.add_axes((x / whole[0], 1 - (top + high) / whole[1], wide / whole[0], high / whole[1]))


def _colour_bar(figure: Figure, axes: Axes) -> None:
    bar = figure.colorbar(ScalarMappable(cmap=COLOURS), cax=axes, orientation="horizontal", ticks=[0, 1])
    bar.set_label("map, share of its peak", fontsize=8)
    bar.ax.tick_params(labelsize=8)
