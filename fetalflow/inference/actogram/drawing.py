"""The picture of an actogram: a time line with one lane for each part of the fetus, one for the probe's motion, and one
for what is not said."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fetalflow.inference.actogram.result import Actogram

WIDE, LANE, HEAD = 11.0, 0.34, 1.1  # inches: of the picture, of one lane, and around the lanes of one cine
DPI = 110
NO_NAME, PROBE, NOT_SAID = "part not said", "probe", "not to be said"
EVENT, NAMELESS, TRACE, HATCH = "#1f77b4", "#7f7f7f", "#d95f02", "#555555"


def draw_actograms(actograms: Sequence[Actogram]) -> Figure:
    """One below the other. Write it with `savefig` as PNG or SVG."""
    high = [HEAD + LANE * len(lanes_of(each)) for each in actograms]
    figure = Figure(figsize=(WIDE, sum(high)), dpi=DPI, layout="constrained")
    every = figure.subplots(len(actograms), 1, squeeze=False, height_ratios=high)[:, 0]
    for axes, actogram in zip(every, actograms, strict=True):
        _draw(axes, actogram)
    return figure


def lanes_of(actogram: Actogram) -> list[str]:
    """The names of the lanes from the top: parts of the fetus, movements whose part is not said, probe, not said."""
    nameless = [NO_NAME] if not actogram.labels or any(each.label is None for each in actogram.events) else []
    return [*actogram.labels, *nameless, PROBE, NOT_SAID]


def _draw(axes: Axes, actogram: Actogram) -> None:
    lanes = lanes_of(actogram)
    place = {name: len(lanes) - 1 - number for number, name in enumerate(lanes)}
    for event in actogram.events:
        lane = place[event.label or NO_NAME]
        colour = EVENT if event.label else NAMELESS
        axes.broken_barh([(event.start_s, event.duration_s)], (lane - 0.36, 0.72), color=colour)
        middle = (event.start_s + event.end_s) / 2
        axes.text(middle, lane, f"{event.speed:.0f}", color="white", ha="center", va="center", fontsize=7, clip_on=True)
    for each in actogram.not_said:
        span = [(each.start_s, each.end_s - each.start_s)]
        axes.broken_barh(span, (place[NOT_SAID] - 0.36, 0.72), facecolor="#dddddd", edgecolor=HATCH, hatch="////")
    if actogram.probe and (fastest := max(actogram.probe)) > 0:
        heights = [place[PROBE] - 0.4 + 0.8 * speed / fastest for speed in actogram.probe]
        axes.fill_between(actogram.time_s, place[PROBE] - 0.4, heights, color=TRACE, linewidth=0)
        lanes = [f"{PROBE} (up to {fastest:.0f} {actogram.unit}/s)" if name == PROBE else name for name in lanes]
    axes.set_yticks(range(len(lanes)), lanes[::-1], fontsize=8)
    axes.set_ylim(-0.6, len(lanes) - 0.4)
    axes.set_xlim(0, actogram.seconds)
    axes.set_xlabel("s", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", linewidth=0.4)
    axes.set_title(f"{actogram.source}: {in_short(actogram)}", fontsize=9, loc="left")


def in_short(actogram: Actogram) -> str:
    """Such as `4 events, 4.0 a minute, still for 41 of 60 s, not said for 0 s; numbers: mm/s`."""
    count = len(actogram.events)
    rate = "" if actogram.events_per_minute is None else f", {actogram.events_per_minute:.1f} a minute"
    return (
        f"{count} event{'s' * (count != 1)}{rate}, still for {actogram.still_s:.0f} of {actogram.seconds:.0f} s, "
        f"not said for {actogram.not_said_s:.0f} s; numbers: {actogram.unit}/s"
    )
