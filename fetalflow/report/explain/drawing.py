"""Pictures of sequences, maps and attention (paper Figs. 11, 14, 15, 16)."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

TILE = 150  # px of one frame in a picture
GAP = 4
DPI = 100
COLOURS = colormaps["turbo"]
OUTLINE = "#ffffff"
TRUE, PREDICTED, OTHER = "#2a9d5c", "#d1495b", "#9aa5b1"


def scaled(maps: np.ndarray, field: np.ndarray) -> np.ndarray:
    """`maps` [N or 1, H, W] scaled to 0-1 within `field` [H, W]: 1 is the 99.5th percentile over all frames."""
    seen = maps * field
    top = np.percentile(seen[:, field], 99.5) if field.any() else 0
    return np.clip(seen / top, 0, 1) if top > 0 else np.zeros_like(seen)


def tile(
    frame: np.ndarray, heat: np.ndarray | None = None, anatomy: np.ndarray | None = None, side: int = TILE
) -> np.ndarray:
    """One frame uint8 [H, W] as RGB uint8 [side, side, 3], with `heat` (0-1, [H, W]) and the outline of `anatomy`
    drawn over it.

    The higher the heat, the more it covers the frame, so that the anatomy stays visible where the map is low.
    """
    picture = np.repeat(_enlarge(frame.astype(np.float32), side)[..., None] / 255, 3, axis=2)
    if heat is not None:
        strength = np.clip(_enlarge(heat.astype(np.float32), side), 0, 1)
        alpha = (0.8 * strength**0.6)[..., None]
        picture = picture * (1 - alpha) + COLOURS(strength)[..., :3] * alpha
    picture = np.ascontiguousarray((np.clip(picture, 0, 1) * 255).astype(np.uint8))
    if heat is not None and not heat.any():
        cv2.putText(picture, "map is 0", (6, side - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
    if anatomy is not None:
        line(picture, anatomy)
    return picture


def line(picture: np.ndarray, mask: np.ndarray, colour: str = OUTLINE) -> None:
    """Draw the outline of `mask` (bool [H, W]) into `picture`, RGB uint8 [side, side, 3]."""
    inside = (_enlarge(mask.astype(np.float32), len(picture)) >= 0.5).astype(np.uint8)
    outlines, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outlines, -1, [round(255 * part) for part in to_rgb(colour)], 1, cv2.LINE_AA)


def strip(frames: np.ndarray, maps: np.ndarray | None = None, anatomy: np.ndarray | None = None) -> np.ndarray:
    """`frames` [N, H, W] side by side, RGB uint8; `maps` [N or 1, H, W] 0-1 and `anatomy` [N, H, W] drawn over."""
    tiles = []
    for i, frame in enumerate(frames):
        heat = None if maps is None else maps[i if len(maps) > 1 else 0]
        tiles.append(tile(frame, heat, None if anatomy is None else anatomy[i]))
    return side_by_side(tiles)


def draw_sequence(
    title: str,
    rows: Sequence[tuple[str, np.ndarray]],
    weights: np.ndarray,
    weights_name: str,
    probabilities: Mapping[str, float],
    truth: str,
    predicted: str,
) -> Figure:
    """Strips of one sequence one below the other, its frame weights [N] below them, and the probabilities beside."""
    n = len(weights)
    strip_width, label, weights_height, left, right = 11.5, 0.24, 0.85, 0.55, 2.9  # inches
    strip_height = strip_width * rows[0][1].shape[0] / rows[0][1].shape[1]
    width, height = left + strip_width + right, 0.45 + len(rows) * (strip_height + label) + weights_height + 0.75
    figure = Figure(figsize=(width, height), dpi=DPI)

    def place(x: float, top: float, wide: float, high: float) -> Axes:
        return figure.add_axes((x / width, 1 - (top + high) / height, wide / width, high / height))

    figure.text(left / width, 1 - 0.3 / height, title, fontsize=12)
    top = 0.45
    for name, picture in rows:
        axes = place(left, top + label, strip_width, strip_height)
        axes.imshow(picture, extent=(0, n, 0, 1), aspect="auto", interpolation="antialiased")
        axes.set_title(name, fontsize=9, loc="left", pad=3)
        axes.axis("off")
        top += strip_height + label
    below = place(left, top + label, strip_width, weights_height)
    below.bar(np.arange(n) + 0.5, weights, width=0.8, color=OTHER)
    below.axhline(1 / n, color="black", lw=0.8, ls=":")
    below.set(xlim=(0, n), xticks=np.arange(n) + 0.5, xticklabels=range(1, n + 1))
    below.set_title(weights_name, fontsize=9, loc="left", pad=3)
    below.set_xlabel("frame of the sequence", fontsize=9)
    below.tick_params(labelsize=8)
    _bare(below)
    beside = left + strip_width + 0.85
    draw_probabilities(
        place(beside, 0.45 + label, right - 1.0, 0.27 * len(probabilities)), probabilities, truth, predicted
    )
    bar = figure.colorbar(
        ScalarMappable(cmap=COLOURS), cax=place(beside, top + label, right - 1.0, 0.13), orientation="horizontal"
    )
    bar.set_label("map, share of its peak", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return figure


def draw_overview(columns: Sequence[tuple[str, Sequence[np.ndarray]]], rows: Sequence[str]) -> Figure:
    """One column of tiles per sequence, as in the paper's Fig. 15; rows: names of the tiles from top to bottom."""
    across, down = len(columns), len(rows)
    figure = Figure(figsize=(1.55 * across + 1.2, 1.55 * down + 0.6), dpi=DPI * 1.3, layout="constrained")
    axes = figure.subplots(down, across, squeeze=False)
    for j, (title, tiles) in enumerate(columns):
        axes[0, j].set_title(title, fontsize=9)
        for i, picture in enumerate(tiles):
            axes[i, j].imshow(picture, interpolation="none")
            axes[i, j].set(xticks=[], yticks=[])
            axes[i, j].spines[:].set_visible(False)
    for i, name in enumerate(rows):
        axes[i, 0].set_ylabel(name, fontsize=9)
    bar = figure.colorbar(
        ScalarMappable(cmap=COLOURS), ax=axes.ravel().tolist(), fraction=0.02, aspect=30, ticks=[0, 1]
    )
    bar.set_label("map, share of its peak", fontsize=8)
    return figure


def draw_attention(matrices: Sequence[tuple[str, np.ndarray]]) -> Figure:
    """softmax(QKᵀ/√d) [N, N] of some sequences on one scale, and below each the mean weight that a frame receives."""
    across = len(matrices)
    top = max(float(matrix.max()) for _, matrix in matrices)
    figure = Figure(figsize=(1.8 * across + 1.2, 3.4), dpi=DPI, layout="constrained")
    axes = figure.subplots(2, across, squeeze=False, height_ratios=[3, 1.2])
    for j, (title, matrix) in enumerate(matrices):
        n = len(matrix)
        image = axes[0, j].imshow(matrix, vmin=0, vmax=top, cmap="viridis", interpolation="none")
        axes[0, j].set_title(title, fontsize=9)
        axes[0, j].set(xticks=[0, n - 1], xticklabels=[1, n], yticks=[0, n - 1], yticklabels=[1, n])
        axes[1, j].bar(range(1, n + 1), matrix.mean(axis=0), color=OTHER)
        axes[1, j].axhline(1 / n, color="black", lw=0.8, ls=":")
        axes[1, j].set(xticks=[1, n], ylim=(0, top))
        axes[1, j].tick_params(labelsize=7, labelleft=j == 0)
        axes[0, j].tick_params(labelsize=7)
        _bare(axes[1, j])
    axes[0, 0].set_ylabel("query frame", fontsize=9)
    axes[1, 0].set_ylabel("mean weight", fontsize=9)
    figure.supxlabel("key frame", fontsize=9)
    figure.colorbar(image, ax=axes[0, :].tolist(), fraction=0.04, aspect=12).set_label("attention", fontsize=8)
    return figure


def draw_filters(rows: Sequence[tuple[str, np.ndarray, np.ndarray]], layer: str, unit: str = "sequence") -> Figure:
    """Per sequence its middle frame [H, W] and the outputs [k, h, w] of the same k filters of `layer` (Fig. 11).

    unit: the word for a sequence.
    """
    figure = Figure(figsize=(14, 1.12 * len(rows) + 0.7), dpi=DPI, layout="constrained")
    axes = figure.subplots(len(rows), 2, squeeze=False, width_ratios=[1, len(rows[0][2])])
    colours = colormaps["magma"]
    for i, (title, frame, outputs) in enumerate(rows):
        # One scale per sequence: one per filter would hide which class the filter responds to.
        top = float(outputs.max()) or 1.0
        tiles = [
            (colours(_enlarge(each / top, TILE, smooth=False))[..., :3] * 255).astype(np.uint8) for each in outputs
        ]
        axes[i, 0].imshow(tile(frame), interpolation="none")
        axes[i, 1].imshow(side_by_side(tiles), interpolation="none")
        axes[i, 0].set_ylabel(title, fontsize=9)
        for each in axes[i]:
            each.set(xticks=[], yticks=[])
            each.spines[:].set_visible(False)
    bar = figure.colorbar(ScalarMappable(cmap=colours), ax=axes[:, 1].tolist(), fraction=0.02, aspect=20, ticks=[0, 1])
    bar.set_label("output, share of the row's highest", fontsize=8)
    axes[0, 0].set_title("image" if unit == "image" else "middle frame", fontsize=9)
    axes[0, 1].set_title(f"{layer}: its {len(rows[0][2])} strongest filters over these {unit}s", fontsize=9)
    return figure


def draw_overlap(rows: Sequence[Mapping[str, float | str]], still: bool = False) -> Figure:
    """Concentration and pointing game of every map with 95 % intervals, against chance.

    `still`: a sequence is one image.
    """
    names = list(dict.fromkeys(str(row["map"]) for row in rows))
    figure = Figure(figsize=(11, 0.42 * len(names) + 1.5), dpi=DPI, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    looks = {"trained": ("o", PREDICTED, 0.12), "random": ("s", OTHER, -0.12), "none": ("D", "black", 0.0)}
    texts = {"trained": "trained network", "random": "same network, random weights", "none": "no network"}
    for axes, measure in ((left, "concentration"), (right, "pointing")):
        for kind, (marker, colour, lift) in looks.items():
            chosen = [row for row in rows if row["weights"] == kind and measure in row]
            if not chosen:
                continue
            x = np.array([float(row[measure]) for row in chosen])
            bounds = [[row[f"{measure}_{end}"] for row in chosen] for end in ("low", "high")]
            low, high = np.array(bounds, dtype=float)  # None, where there is no interval, becomes NaN: no bar is drawn
            y = [len(names) - 1 - names.index(str(row["map"])) + lift for row in chosen]
            error = np.maximum([x - low, high - x], 0)
            axes.errorbar(x, y, xerr=error, fmt=marker, color=colour, ms=5, capsize=2.5, lw=1.2, label=texts[kind])
        _bare(axes)
    chance = [float(row["area"]) for row in rows if "area" in row]
    left.axvline(1, color="black", lw=0.9, ls=":")
    right.axvline(float(np.mean(chance)), color="black", lw=0.9, ls=":")
    left.set(yticks=range(len(names)), yticklabels=names[::-1], xscale="log")
    known, unit = ("structure", "images") if still else ("anatomy", "frames")
    left.set_xlabel(f"map's mass on the {known} over chance (dotted)", fontsize=9)
    low, high = left.get_xlim()
    # A structure may fill a third of an image: then the axis ends at a few times chance and needs finer ticks.
    near = [0.4, 0.6, 0.8, 1.2, 1.5, 3, 4] if high < (5 if still else 2) * low else []
    left.xaxis.set_major_locator(FixedLocator([0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, *near]))
    left.xaxis.set_major_formatter("{x:g}")
    left.xaxis.set_minor_locator(NullLocator())
    right.set_xlabel(f"share of {unit} with the peak on the {known} (dotted: chance)", fontsize=9)
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    return figure


def draw_probabilities(axes: Axes, probabilities: Mapping[str, float], truth: str, predicted: str) -> None:
    names = list(probabilities)[::-1]
    values = [probabilities[name] for name in names]
    colours = [TRUE if name == truth else PREDICTED if name == predicted else OTHER for name in names]
    axes.barh(names, values, color=colours)
    for place, value in enumerate(values):
        axes.text(value + 0.02, place, f"{value:.2f}", va="center", fontsize=8)
    axes.set(xlim=(0, 1.22), xticks=[0, 0.5, 1])
    axes.set_title("probability (green: true label)", fontsize=9, loc="left", pad=3)
    axes.tick_params(labelsize=8)
    _bare(axes)


def _bare(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def _enlarge(image: np.ndarray, side: int, smooth: bool = True) -> np.ndarray:
    kind = cv2.INTER_AREA if image.shape[-1] > side else cv2.INTER_LINEAR if smooth else cv2.INTER_NEAREST
    return cv2.resize(np.asarray(image, dtype=np.float32), (side, side), interpolation=kind)


def side_by_side(tiles: Sequence[np.ndarray]) -> np.ndarray:
    """`tiles`, RGB uint8 [side, side, 3] each, as one picture, with a white gap after each."""
    gap = np.full((len(tiles[0]), GAP, 3), 255, dtype=np.uint8)
    pieces = [piece for each in tiles for piece in (each, gap)]
    return np.concatenate(pieces, axis=1)
