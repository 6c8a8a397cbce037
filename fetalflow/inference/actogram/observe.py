"""The actogram of a cine: movement is seen in the frames themselves, and a network may say what moves."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fetalflow.cine.scales import SCALES
from fetalflow.errors import InputError
from fetalflow.inference.actogram.events import (
    BRIDGED_S,
    SHORTEST_S,
    UNFAMILIAR,
    Span,
    Windowed,
    anatomies_of,
    bridged,
    named,
    pieces,
    spells,
    unfamiliar_spans,
)
from fetalflow.inference.actogram.motion import looks
from fetalflow.inference.actogram.result import Actogram, Event, NotSaid
from fetalflow.inference.actogram.trace import CUT, Trace, trace_of
from fetalflow.inference.actogram.whole import answer_of
from fetalflow.inference.streaming.source import Recorded, open_recorded
from fetalflow.inference.streaming.streamer import Streamer
from fetalflow.settings.params import Extract

SLOWEST_FPS = 8.0  # frames/s: with fewer, a kick lies between two frames
OTHER = 0.02  # share by which what is given may differ from what the file states
TOO_SLOW, PAUSED = "too few frames per second", "the recording pauses"
SHORTEST_CINE_S = 3.0
LEAST_JUDGED_S = 10.0  # for a number of events per minute
NOT_COUNTED = (
    "movements in a picture that is unlike the training data may not be of a fetus: {count} of them and their time do "
    "not count in events per minute"
)
GLIMPSE_S = 0.5  # a moment that is shorter, between two that cannot be judged, cannot be judged either


def observe(
    path: Path, streamer: Streamer | None = None, fps: float | None = None, mm_per_px: float | None = None
) -> Actogram:
    """The actogram of a cine file.

    streamer: of the package that says what moves; None: only whether something moves. fps, mm_per_px: frames/s and
    millimetres per pixel, used instead of those of the file. Raises InputError when the file cannot be used, states no
    frame rate, or is too slow or too short.
    """
    for name, value in (("fps", fps), ("mm_per_px", mm_per_px)):
        if value is not None and not (np.isfinite(value) and value > 0):
            raise InputError(f"{name} is {value:g}; expected a number above 0.")
    settings = Extract(labels=None) if streamer is None else streamer.settings
    with open_recorded(Path(path), settings) as cine:
        return observe_frames(cine, Path(path).name, streamer, fps, mm_per_px)


def observe_frames(
    cine: Recorded,
    source: str,
    streamer: Streamer | None = None,
    fps: float | None = None,
    mm_per_px: float | None = None,
) -> Actogram:
    """The same for an opened cine. source: its name in the result."""
    rate, scale, about_scale = fps or cine.fps, *possible_scale(mm_per_px or cine.mm_per_px)
    if not rate:
        raise InputError(f"{source} states no frame rate. State its frames per second: --fps 30.")
    if rate < SLOWEST_FPS:
        raise InputError(
            f"{source} has {rate:g} frames/s. Movement is seen from {SLOWEST_FPS:g} frames/s; if the header is wrong, "
            "state the rate: --fps 30."
        )
    answers: list[Windowed] = []
    counted = _Counted(cine.frames)
    frames = counted if streamer is None else _answered(counted, cine, rate, streamer, answers)
    stamps = None if fps else cine.times
    trace = trace_of(list(looks(frames, rate, cine.cuts, stamps)), rate)
    if reason := too_short(source, counted.seen, rate):
        raise InputError(reason)
    labels = () if streamer is None else streamer.labels
    remarks = [*cine.remarks, *about_scale]
    for given, of_file, what in ((fps, cine.fps, "frames/s"), (mm_per_px, cine.mm_per_px, "mm per pixel")):
        if given and of_file and abs(given - of_file) > OTHER * of_file:
            remarks.append(f"the file has {of_file:.4g} {what}; {given:.4g} was given and is used")
    if streamer is not None and streamer.familiarity is None:
        remarks.append("this model cannot say whether a picture is unlike its training data")
    times = np.arange(counted.seen + 1) / rate if stamps is None else np.array([*stamps, 0.0])
    times[-1] = times[-2] + 1 / rate
    if stamps is not None:
        trace = replace(trace, why=where_too_slow(trace, times))
    rest = None if streamer is None else streamer.settings.rest
    found = compiled(
        trace, times, None if streamer is None else answers, labels, anatomies_of(labels, rest), rate,
        source=source, scale=scale, remarks=tuple(remarks),
    )  # fmt: skip
    if streamer is None:
        return found
    return replace(found, answer=answer_of(answers, labels, streamer.certainty, bool(found.events)))


def possible_scale(scale: float | None) -> tuple[float | None, list[str]]:
    """mm per px, None where it is not known or no ultrasound has it; and a sentence where it is None."""
    if scale is None:
        return None, ["the scale is not known, so lengths are in px; state it: --mm-per-px 0.4"]
    if SCALES[0] <= scale <= SCALES[1]:
        return scale, []
    limits = f"{SCALES[0]:g} to {SCALES[1]:g}"
    return None, [f"{scale:.4g} mm per pixel is impossible for ultrasound ({limits}), so lengths are in px"]


def where_too_slow(trace: Trace, times: np.ndarray) -> np.ndarray:
    """`why` of a trace, with TOO_SLOW where two frames that were compared are further apart than at SLOWEST_FPS."""
    slow = np.diff(times) > (1 + 1e-6) / SLOWEST_FPS
    first = 2 * trace.start - trace.end  # of the older picture
    return np.array(
        [
            why or (TOO_SLOW if slow[max(0, a) : b - 1].any() else "")
            for a, b, why in zip(first, trace.end, trace.why, strict=True)
        ],
        dtype=object,
    )


def too_short(source: str, frames: int, rate: float) -> str:
    """Why a cine of so many frames at `rate` frames/s has no actogram; empty where it is long enough."""
    if frames >= SHORTEST_CINE_S * rate:
        return ""
    return f"{source} has {frames} frames ({frames / rate:.1f} s). An actogram needs {SHORTEST_CINE_S:g} s or more."


class _Counted:
    """Frames, and how many of them there were."""

    def __init__(self, frames: Iterable[np.ndarray]) -> None:
        self.frames, self.seen = frames, 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for frame in self.frames:
            self.seen += 1
            yield frame


def _answered(
    frames: Iterable[np.ndarray], cine: Recorded, fps: float, streamer: Streamer, answers: list[Windowed]
) -> Iterator[np.ndarray]:
    """The same frames; on the way the network answers a window at every half of its length."""
    streamer.begin(cuts=cine.cuts, fps=fps)
    every = max(1, streamer.n // 2)
    for number, frame in enumerate(frames):
        if (answer := streamer.push(frame, answered=number % every == 0)) is not None:
            p = np.array([answer.probabilities[label] for label in streamer.labels])
            answers.append(Windowed(answer.first_frame, answer.frame, p, answer.unfamiliar))
        yield frame


def compiled(
    trace: Trace,
    times: np.ndarray,
    windows: Sequence[Windowed] | None,
    labels: Sequence[str],
    anatomies: np.ndarray,
    fps: float,
    *,
    source: str = "",
    scale: float | None = None,
    remarks: tuple[str, ...] = (),
) -> Actogram:
    """Events and stillness from a trace. times: s of every frame and of the end, float [frames + 1]. scale: mm per px;
    None: results are in px."""
    frames = len(times) - 1
    unjudged = with_pauses(unjudged_spans(trace, frames, GLIMPSE_S * fps), times)
    moving = moving_spans(trace, [span for span, _ in unjudged], fps)
    strange = [] if windows is None else unfamiliar_spans(windows, fps)
    events = [
        _event(piece, trace, times, named(piece, windows, labels, anatomies), scale or 1.0)
        for span in moving
        for piece in pieces(span, windows or (), anatomies, fps)
    ]
    state = np.zeros(frames, np.uint8)  # 0 still, 1 unfamiliar, 2 moving, 3 not judged
    for value, spans in ((1, strange), (2, moving), (3, [span for span, _ in unjudged])):
        for start, end in spans:
            state[start:end] = value
    seconds = np.bincount(state, np.diff(times), minlength=4)
    judged = float(seconds.sum() - seconds[3])
    foreign = np.zeros(frames, bool)
    for start, end in strange:
        foreign[start:end] = True
    familiar_s = float(np.diff(times)[(state != 3) & ~foreign].sum())
    counted = [each for each in events if each.why_no_label != UNFAMILIAR]
    if len(counted) < len(events):
        remarks = (*remarks, NOT_COUNTED.format(count=len(events) - len(counted)))
    not_said = [*unjudged, *((span, UNFAMILIAR) for span in _outside(strange, state))]
    return Actogram(
        source=source,
        seconds=float(times[-1] - times[0]),
        fps=float(fps),
        unit="px" if scale is None else "mm",
        labels=tuple(label for label, is_part in zip(labels, anatomies, strict=True) if is_part),
        judged_s=judged,
        moving_s=float(seconds[2]),
        still_s=float(seconds[0]),
        not_said_s=float(seconds[1] + seconds[3]),
        longest_still_s=max((float(times[b] - times[a]) for a, b in _runs(state == 0)), default=0.0),
        events_per_minute=60 * len(counted) / familiar_s if familiar_s >= LEAST_JUDGED_S else None,
        events=tuple(events),
        not_said=tuple(NotSaid(float(times[a]), float(times[b]), why) for (a, b), why in sorted(not_said)),
        time_s=tuple(np.round(times[trace.start], 3).tolist()),
        activity=tuple(np.round(trace.activity, 2).tolist()),
        speed=tuple(np.round(trace.speed * (scale or 1.0), 2).tolist()),
        probe=tuple(np.round(trace.probe * (scale or 1.0), 2).tolist()),
        remarks=remarks,
    )


def unjudged_spans(trace: Trace, frames: int, glimpse: float) -> list[tuple[Span, str]]:
    """The spans of frames in which movement cannot be judged, each with its reason; also shorter ones than `glimpse`
    between them."""
    found, at = [], 0
    for start, end, why in zip(trace.start.tolist(), trace.end.tolist(), trace.why.tolist(), strict=True):
        if start > at and (at or start > 2 * (end - start)):  # no look: around a cut, or a scene without one
            found.append(((at, start), CUT))
        if why:
            found.append(((start, end), why))
        at = end
    if frames - at > (trace.end[-1] - trace.start[-1] if len(trace.end) else 0):
        found.append(((at, frames), CUT))
    joined: list[tuple[Span, str]] = []
    for (start, end), why in found:
        if joined and start - joined[-1][0][1] < glimpse:
            start = joined[-1][0][1]
        if joined and joined[-1][1] == why and joined[-1][0][1] == start:
            joined[-1] = ((joined[-1][0][0], end), why)
        else:
            joined.append(((start, end), why))
    return joined


def with_pauses(unjudged: list[tuple[Span, str]], times: np.ndarray) -> list[tuple[Span, str]]:
    """The same spans, and the frames after which the next one comes late. Else such a frame would last, and the fetus
    rest, as long as the recording paused."""
    late = set(np.flatnonzero(np.diff(times) > (1 + 1e-6) / SLOWEST_FPS).tolist())
    late = late.difference(*(range(*span) for span, _ in unjudged))
    return sorted([*unjudged, *(((number, number + 1), PAUSED) for number in late)])


def moving_spans(trace: Trace, unjudged: Sequence[Span], fps: float) -> list[Span]:
    """The spans of frames with a movement of the fetus."""
    activity = np.where(trace.why == "", trace.activity, 0.0)
    spans = [(int(trace.start[a]), int(trace.end[b - 1])) for a, b in spells(activity)]
    parts = [part for span in spans for part in _without(span, unjudged)]  # a spell may go on over a scene cut
    return bridged(parts, round(BRIDGED_S * fps), round(SHORTEST_S * fps), unjudged)


def _without(span: Span, barriers: Sequence[Span]) -> Iterator[Span]:
    start = span[0]
    for begin, end in barriers:
        if begin < span[1] and end > start:
            if begin > start:
                yield start, begin
            start = max(start, end)
    if start < span[1]:
        yield start, span[1]


def _event(span: Span, trace: Trace, times: np.ndarray, name: tuple, scale: float) -> Event:
    label, probability, why = name
    inside = (trace.start < span[1]) & (trace.end > span[0])
    speeds = trace.speed[inside] * scale
    start, end = float(times[span[0]]), float(times[span[1]])
    return Event(
        first_frame=span[0],
        last_frame=span[1] - 1,
        start_s=round(start, 3),
        end_s=round(end, 3),
        label=label,
        probability=None if probability is None else round(probability, 3),
        why_no_label=why,
        speed=round(float(speeds.mean()), 2),
        peak_speed=round(float(speeds.max()), 2),
        path=round(float(speeds.mean()) * (end - start), 2),
    )


def _runs(chosen: np.ndarray) -> list[Span]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], chosen.astype(np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _outside(strange: Sequence[Span], state: np.ndarray) -> list[Span]:
    """The parts of unfamiliar spans in which nothing moves; an event has its reason with it."""
    return [(a + low, a + high) for a, b in strange for low, high in _runs(state[a:b] == 1)]
