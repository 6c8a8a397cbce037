"""Examinations as one picture: of each the frame that shows best what was found."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from fetalflow.biometry.measuring import Measured
from fetalflow.biometry.outline import Spacing
from fetalflow.examined import Examination, Length
from fetalflow.explain.measured_frame import LEGEND, draw_measured

ACROSS = 3
WIDE = 6.4  # inches of one frame
HEAD, FOOT = 0.4, 0.3
DPI = 110


def draw_examinations(found: Sequence[Examination]) -> Figure:
    """Mask outline, ellipse, calipers and the values joined over the cine."""
    across = min(ACROSS, len(found))
    down = -(-len(found) // across)
    high = max(WIDE * each.height / each.width for each in found)
    width, height = across * WIDE, down * (high + HEAD) + FOOT
    figure = Figure(figsize=(width, height), dpi=DPI)
    for i, each in enumerate(found):
        row, column = divmod(i, across)
        top = row * (high + HEAD) + HEAD
        place = (column / across, 1 - (top + high) / height, 0.98 / across, high / height)
        own = each.measured[each.shown] or Measured(each.label, each.unit)
        draw_measured(
            figure.add_axes(place),
            each.picture,
            each.answer(each.shown),
            own,
            Spacing(each.mm_per_px, each.mm_per_px) if each.mm_per_px else None,
            f"{each.source}, frame {each.frames[each.shown]}: {each.label} ({each.probabilities[each.label]:.2f})",
            values={name: length_text(length) for name, length in each.lengths.items()},
        )
    figure.text(0.1 / width, 0.1 / height, f"{LEGEND.rpartition(';')[0]}. Values: over all frames.", fontsize=8)
    return figure


def length_text(length: Length) -> str:
    """`281.3 ± 0.9 mm`; the spread where there are several frames."""
    spread = f" ± {length.spread:.1f}" if length.frames > 1 else ""
    return f"{length.value:.1f}{spread} {length.unit}"
