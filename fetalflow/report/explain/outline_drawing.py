"""Pictures of frames with outlines and calipers side by side, and of the lengths along a clip."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from fetalflow.biometry.drawing import FOUND, TRUE, draw_measured
from fetalflow.biometry.measuring import LENGTHS
from fetalflow.biometry.outline import HALF
from fetalflow.cine.field_of_view import sector_of
from fetalflow.report.explain.cases import Case
from fetalflow.report.explain.drawing import COLOURS, DPI, OTHER, TILE, draw_probabilities, line, side_by_side, tile

SIDE = 3.4  # inches of a frame
LARGE = 2 * TILE  # px of a frame
ACROSS = 3  # frames in a row
GAP = 0.15


def stretched(gates: np.ndarray, field: np.ndarray) -> np.ndarray:
    """`gates` [N, H, W] scaled to 0-1 within `field` [H, W], from the lowest to the highest value of the clip: without
    this, gates that are never closed would have one colour."""
    inside = gates[:, field]
    low, high = (inside.min(), inside.max()) if inside.size else (0.0, 0.0)
    return np.clip((gates - low) / (high - low), 0, 1) * field if high > low else np.zeros_like(gates)


def draw_gallery(examples: Sequence[tuple[str, Case]]) -> Figure:
    """The representative frame of each case with its measurement, below a name of one or more lines."""
    figure, places = _grid(len(examples), head=0.15 + 0.14 * max(name.count("\n") + 1 for name, _ in examples))
    for axes, (name, case) in zip(places, examples, strict=True):
        _measured(axes, case, case.telling_frame())
        axes.set_title(name, fontsize=8, loc="left", pad=3)
    return figure


def draw_gates(examples: Sequence[tuple[Case, np.ndarray]]) -> Figure:
    """The representative frame of each case, with its gates [N, H, W] drawn over it."""
    figure, places = _grid(len(examples), head=0.25)
    for axes, (case, gates) in zip(places, examples, strict=True):
        _gated(axes, case, case.telling_frame(), gates)
        axes.set_title(case.row["label"], fontsize=9, loc="left", pad=3)
    return figure


def draw_case(lines: Sequence[str], case: Case, i: int, gates: np.ndarray | None) -> Figure:
    """Frame `i` as recorded, measured, and with the gates [N, H, W]; probabilities beside, `lines` above."""
    rows = sum(text.count("\n") + 1 for text in lines)
    count, head, beside = 2 + (gates is not None), 0.2 * rows + 0.35, 3.2 * (len(case.probabilities) > 1)
    figure = Figure(figsize=(count * (SIDE + GAP) + beside, SIDE + head + 0.05), dpi=DPI)
    whole = figure.get_size_inches()
    figure.text(0.08 / whole[0], 1 - 0.1 / whole[1], "\n".join(lines), fontsize=9, va="top", linespacing=1.35)
    places = [_place(figure, 0.05 + j * (SIDE + GAP), head, SIDE, SIDE) for j in range(count)]
    places[0].imshow(case.frames[i], cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
    places[0].axis("off")
    _measured(places[1], case, i)
    if gates is not None:
        _gated(places[2], case, i, gates)
    shown = f"frame {i + 1} of {len(case.frames)}" if len(case.frames) > 1 else "image"
    for axes, name in zip(places, (shown, "measured", "attention"), strict=False):
        axes.set_title(name, fontsize=8, loc="left", pad=3)
    if beside:
        high = 0.3 * len(case.probabilities)
        axes = _place(figure, count * (SIDE + GAP) + 1.0, head, beside - 1.15, high)
        draw_probabilities(axes, case.probabilities, case.row["label"], case.row["predicted"])
    return figure


def draw_clip(title: str, case: Case, gates: np.ndarray | None) -> Figure:
    """All frames with their outlines, the same with the gates [N, H, W], and the main length of each frame."""
    n, left, right = len(case.frames), 0.75, 2.9  # inches
    wide = min(11.5, 2.2 * n)
    strips = [("outlines: found (blue), annotated (green)", side_by_side([_outlined(case, i) for i in range(n)]))]
    if gates is not None:
        heat = stretched(gates, sector_of(case.frames, fitted=True))
        truth = [None] * n if case.truth is None else case.truth
        tiles = [tile(case.frames[i], heat[i], truth[i], side=LARGE) for i in range(n)]
        strips.append(("attention of the gates", side_by_side(tiles)))
    high, label, below = wide * strips[0][1].shape[0] / strips[0][1].shape[1], 0.24, 1.5
    figure = Figure(figsize=(left + wide + right, 0.45 + len(strips) * (high + label) + below + 0.85), dpi=DPI)
    whole = figure.get_size_inches()
    figure.text(left / whole[0], 1 - 0.3 / whole[1], title, fontsize=11)
    for j, (name, picture) in enumerate(strips):
        axes = _place(figure, left, 0.45 + j * (high + label) + label, wide, high)
        axes.imshow(picture, aspect="auto", interpolation="antialiased")
        axes.set_title(name, fontsize=9, loc="left", pad=3)
        axes.axis("off")
    top = 0.45 + len(strips) * (high + label) + label + 0.1
    _along(_place(figure, left, top, wide, below), case)
    if len(case.probabilities) > 1:
        axes = _place(figure, left + wide + 0.95, 0.45 + label, right - 1.1, 0.27 * len(case.probabilities))
        draw_probabilities(axes, case.probabilities, case.row["label"], case.row["predicted"])
    if gates is not None:
        scale = _place(figure, left + wide + 0.95, top - 0.5, right - 1.1, 0.13)
        bar = figure.colorbar(ScalarMappable(cmap=COLOURS), cax=scale, orientation="horizontal", ticks=[0, 1])
        bar.set_label("gates, from least to most open", fontsize=8)
        bar.ax.tick_params(labelsize=8)
    return figure


def _along(axes: Axes, case: Case) -> None:
    """The main length of each frame, that of the clip with its spread, and the truth."""
    main, n = LENGTHS[case.clip.structure][0], len(case.frames)
    by_frame = np.array([frame.lengths.get(main, np.nan) for frame in case.clip.frames])
    at = np.arange(n) + 0.5
    axes.plot(at, by_frame, "o", color=FOUND, ms=6, mec="black", mew=0.5)
    if joined := case.clip.lengths.get(main):
        axes.axhline(joined.value, color=OTHER, lw=1.2)
        axes.axhspan(joined.value - joined.spread, joined.value + joined.spread, color=OTHER, alpha=0.3, lw=0)
    if main in case.errors:
        axes.axhline(case.known[main], color=TRUE, lw=1.2, ls="--")
    for place in at[np.isnan(by_frame)]:
        axes.text(place, 0.5, "no\nnumber", transform=axes.get_xaxis_transform(), fontsize=7, ha="center", va="center")
    axes.set(xlim=(0, n), xticks=at, xticklabels=range(1, n + 1))
    axes.set_title(f"{main.upper()} of each frame ({case.clip.unit})", fontsize=9, loc="left", pad=3)
    axes.set_xlabel("frame of the sequence", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _measured(axes: Axes, case: Case, i: int) -> None:
    truth = None if case.truth is None else case.truth[i]
    measured = replace(case.clip.frames[i], warnings=())  # shown above the picture; here they would cover the structure
    draw_measured(axes, case.frames[i], case.answer[i], measured, case.spacing, truth=truth)


def _gated(axes: Axes, case: Case, i: int, gates: np.ndarray) -> None:
    heat = stretched(gates, sector_of(case.frames, fitted=True))[i]
    truth = None if case.truth is None else case.truth[i]
    axes.imshow(tile(case.frames[i], heat, truth, side=LARGE), interpolation="antialiased")
    axes.axis("off")


def _outlined(case: Case, i: int) -> np.ndarray:
    """RGB uint8 [LARGE, LARGE, 3]."""
    picture = tile(case.frames[i], side=LARGE)
    if case.truth is not None:
        line(picture, case.truth[i], TRUE)
    line(picture, case.answer[i] > HALF, FOUND)
    return picture


def _grid(count: int, head: float) -> tuple[Figure, list[Axes]]:
    """A figure with axes for `count` frames, at most `ACROSS` in a row, each with `head` inches above it."""
    across, down = min(count, ACROSS), -(-count // ACROSS)
    figure = Figure(figsize=(across * (SIDE + GAP) + 0.1, down * (SIDE + head) + 0.1), dpi=DPI)
    corners = [(i % ACROSS * (SIDE + GAP) + 0.1, i // ACROSS * (SIDE + head) + head) for i in range(count)]
    return figure, [_place(figure, x, y, SIDE, SIDE) for x, y in corners]


def _place(figure: Figure, x: float, top: float, wide: float, high: float) -> Axes:
    """x, top, wide, high: inches."""
    width, height = figure.get_size_inches()
    return figure.add_axes((x / width, 1 - (top + high) / height, wide / width, high / height))
