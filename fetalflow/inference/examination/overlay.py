"""A picture of several examinations, each with its most representative frame."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from fetalflow.biometry.drawing import LEGEND, draw_measured
from fetalflow.biometry.measuring import Measured
from fetalflow.biometry.outline import Spacing
from fetalflow.inference.examination.result import Examination, Length

ACROSS = 3
WIDE = 6.4  # inches of one frame
HEAD, FOOT = 0.4, 0.3
DPI = 110


def draw_examinations(examinations: Sequence[Examination]) -> Figure:
    """Mask outline, ellipse, calipers and the lengths over the whole cine."""
    across = min(ACROSS, len(examinations))
    down = -(-len(examinations) // across)
    high = max(WIDE * each.height / each.width for each in examinations)
    width, height = across * WIDE, down * (high + HEAD) + FOOT
    figure = Figure(figsize=(width, height), dpi=DPI)
    for i, each in enumerate(examinations):
        row, column = divmod(i, across)
        top = row * (high + HEAD) + HEAD
        place = (column / across, 1 - (top + high) / height, 0.98 / across, high / height)
        measured = each.measured[each.shown] or Measured(each.label, each.unit)
        draw_measured(
            figure.add_axes(place),
            each.picture,
            each.answer(each.shown),
            measured,
            Spacing(each.mm_per_px, each.mm_per_px) if each.mm_per_px else None,
            f"{each.source}, frame {each.frames[each.shown]}: {each.label} ({each.probabilities[each.label]:.2f})",
            values={name: length_text(length) for name, length in each.lengths.items()},
        )
    figure.text(0.1 / width, 0.1 / height, f"{LEGEND.rpartition(';')[0]}. Values: over all frames.", fontsize=8)
    return figure


def length_text(length: Length) -> str:
    """Such as `281.3 ± 0.9 mm`; without the spread where there is only one frame."""
    spread = f" ± {length.spread:.1f}" if length.frames > 1 else ""
    return f"{length.value:.1f}{spread} {length.unit}"
