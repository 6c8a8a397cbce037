"""A picture of several examinations, each with its most representative frame."""

from collections.abc import Sequence
from dataclasses import replace

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
        measured = replace(measured, warnings=(*_frames_used(each), *each.warnings))
        draw_measured(
            figure.add_axes(place),
            each.picture,
            each.answer(each.shown),
            measured,
            Spacing(each.mm_per_px, each.mm_per_px) if each.mm_per_px else None,
            f"{each.source}, frame {each.frames[each.shown]}: {each.label} ({each.probabilities[each.label]:.2f})",
            values={name: length_text(length) for name, length in each.lengths.items()},
        )
    figure.text(0.1 / width, 0.1 / height, f"{LEGEND.rpartition(';')[0]}. Values: of the used frames.", fontsize=8)
    return figure


def _frames_used(examination: Examination) -> list[str]:
    """Which frames the lengths come from, where it is not all of them."""
    if not examination.used or len(examination.used) == len(examination.frames):
        return []
    return [f"lengths are from frames {runs(examination.used)}"]


def runs(numbers: Sequence[int]) -> str:
    """Ascending numbers as text: `3-7, 9`."""
    begin = [n for i, n in enumerate(numbers) if not i or n != numbers[i - 1] + 1]
    end = [n for i, n in enumerate(numbers) if i + 1 == len(numbers) or n != numbers[i + 1] - 1]
    return ", ".join(f"{a}-{b}" if a < b else f"{a}" for a, b in zip(begin, end, strict=True))


def length_text(length: Length) -> str:
    """Such as `281.3 mm [276.4, 286.2]`; without an interval `281.3 ± 0.9 mm`, where ± is the spread over the frames;
    without the spread where there is only one frame."""
    if length.low is not None:
        return f"{length.value:.1f} {length.unit} [{length.low:.1f}, {length.high:.1f}]"
    spread = f" ± {length.spread:.1f}" if length.frames > 1 else ""
    return f"{length.value:.1f}{spread} {length.unit}"
