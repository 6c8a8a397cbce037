"""Draws a measured frame as a sonographer sees it: the outline found, its ellipse, the calipers and the values."""

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes

from fetalflow.biometry.measuring import Measured
from fetalflow.biometry.outline import HALF, Spacing

FOUND, TRUE, ELLIPSE, CALIPER, WARNING = "#4cc9f0", "#52d273", "#ffd166", "#ffffff", "#ff9f68"
LEGEND = "Blue: outline of the mask; dashed: ellipse fitted to it; crosses: calipers; green: the annotated outline."
TITLE_WIDTH = 75  # characters per line of the title


def draw_measured(
    axes: Axes,
    frame: np.ndarray,
    answer: np.ndarray,
    measured: Measured,
    spacing: Spacing | None,
    title: str = "",
    *,
    truth: np.ndarray | None = None,
    values: Mapping[str, str] | None = None,
) -> None:
    """frame: uint8 [H, W]. answer: float [H, W] in 0-1, or a mask. truth: the annotated mask, bool [H, W].

    measured: the result of `measure_frame` for this answer with the same `spacing` (None: in pixels). values: text by
    length, written instead of this frame's lengths (hc: "281.3 ± 0.9 mm"). Warnings are written below.
    """
    height, width = frame.shape
    axes.imshow(frame, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
    if truth is not None:
        _outline(axes, truth, TRUE)
    _outline(axes, answer, FOUND)
    to_px = 1 / np.array([spacing.column, spacing.row]) if spacing else np.ones(2)
    if measured.ellipse is not None:
        x, y = (np.concatenate([points := measured.ellipse.points(), points[:1]]) * to_px).T
        axes.plot(x, y, color=ELLIPSE, lw=1.2, ls=(0, (4, 3)))
    if measured.calipers is not None:
        _calipers(axes, measured.calipers * to_px)
    _write_values(axes, measured, values)
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    axes.axis("off")
    if title:
        axes.set_title(fill(title, TITLE_WIDTH), fontsize=9, loc="left", pad=4)


def lengths_text(lengths: Mapping[str, float], unit: str) -> dict[str, str]:
    """The text of each length with its unit: to a tenth of a mm, or to a whole px."""
    return {name: f"{value:.1f} mm" if unit == "mm" else f"{value:.0f} px" for name, value in lengths.items()}


def _outline(axes: Axes, answer: np.ndarray, colour: str) -> None:
    # Padded as for measuring, so that the outline of a mask that reaches the border is closed. Every piece is drawn.
    padded = np.pad(np.asarray(answer, dtype=np.float32), 1)
    if padded.max() > HALF:
        x, y = np.arange(padded.shape[1]) - 1, np.arange(padded.shape[0]) - 1
        axes.contour(x, y, padded, levels=[HALF], colors=[colour], linewidths=1.4)


def _calipers(axes: Axes, ends: np.ndarray) -> None:
    for pair in ends.reshape(-1, 2, 2):
        axes.plot(*pair.T, color=CALIPER, lw=0.9, ls=":", marker="+", ms=9, mew=1.4)


def _write_values(axes: Axes, measured: Measured, values: Mapping[str, str] | None) -> None:
    values = lengths_text(measured.lengths, measured.unit) if values is None else values
    lines: Sequence[str] = [f"{name.upper()} {value}" for name, value in values.items()]
    text = "\n".join([*lines, *(fill(warning, 44) for warning in measured.warnings)])
    if text:
        colour = WARNING if measured.warnings else CALIPER
        box = {"facecolor": "black", "alpha": 0.65, "edgecolor": "none", "pad": 3}
        axes.text(
            0.015, 0.02, text, transform=axes.transAxes, fontsize=8, color=colour, va="bottom", ha="left", bbox=box
        )
