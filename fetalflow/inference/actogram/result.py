"""The actogram of one cine: its events, its stillness, and what cannot be said."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

EVENT_COLUMNS = (
    *("source", "event", "label", "start_s", "end_s", "duration_s", "speed", "peak_speed", "path"),
    *("unit", "probability", "why_no_label", "first_frame", "last_frame"),
)


@dataclass(frozen=True)
class Event:
    """A movement of the fetus. label, probability: None where it is not said what moved; `why_no_label` is the reason.

    speed: mean over the event, and peak_speed: the highest, of the fast part of what moves, in the actogram's unit per
    s; above about 50 mm/s too low (docs/ml-lead/actogram.md). path: how far it moved, speed times duration.
    """

    first_frame: int
    last_frame: int
    start_s: float
    end_s: float
    label: str | None
    probability: float | None
    why_no_label: str
    speed: float
    peak_speed: float
    path: float

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s


@dataclass(frozen=True)
class NotSaid:
    """From when to when it is not said whether something moves, and why."""

    start_s: float
    end_s: float
    why: str


MOSTLY = 0.5  # share of the windows of a cine


@dataclass(frozen=True)
class WholeAnswer:
    """What the network says of the whole cine: the mean over its windows. label, probability: None where nothing moves,
    since a network names a part of a still fetus too, or most windows are unlike the training data. label_set: the
    labels that are not excluded, the likeliest first; it holds the true one of a sequence with the probability `level`.
    Both are None where the package cannot say. share: of the windows whose likeliest label is that of the mean, 0-1.
    unlike: share of the windows that are unlike the training data; None where that is not known."""

    label: str | None
    probability: float | None
    label_set: tuple[str, ...] | None
    level: float | None
    share: float
    unlike: float | None
    windows: int

    @property
    def in_words(self) -> str:
        """Such as `arm (0.71), not excluded: arm, leg; likeliest in 75% of 12 windows`."""
        if self.label is None:
            unlike = f"{self.unlike or 0:.0%} of {self.windows} windows are unlike the training data"
            return f"no part is named: {unlike if (self.unlike or 0) > MOSTLY else 'no movement was found'}"
        others = f", not excluded: {', '.join(self.label_set)}" if self.label_set else ""
        return f"{self.label} ({self.probability:.2f}){others}; likeliest in {self.share:.0%} of {self.windows} windows"


@dataclass(frozen=True)
class Actogram:
    """unit: mm, or px where the scale is not known. judged_s: the time in which movement can be seen; the fetus moves
    in moving_s and rests in still_s of it. not_said_s: the rest, and where nothing moves in a picture that is unlike
    the training data. longest_still_s: without an interruption. events_per_minute: of the judged time, without the
    movements and the time in which the picture is unlike the training data; None where it is too short. time_s,
    activity, speed, probe: the trace, of equal length; activity in multiples of the noise, speeds in `unit` per s.
    answer: of the whole cine; None without a network, or where no window was answered."""

    source: str
    seconds: float
    fps: float
    unit: str
    labels: tuple[str, ...]
    judged_s: float
    moving_s: float
    still_s: float
    not_said_s: float
    longest_still_s: float
    events_per_minute: float | None
    events: tuple[Event, ...]
    not_said: tuple[NotSaid, ...]
    time_s: tuple[float, ...]
    activity: tuple[float, ...]
    speed: tuple[float, ...]
    probe: tuple[float, ...]
    remarks: tuple[str, ...] = ()
    answer: WholeAnswer | None = None

    def as_dict(self) -> dict[str, Any]:
        """The same as plain dicts, lists, numbers and text, for JSON."""
        found = asdict(self)
        for event, of in zip(found["events"], self.events, strict=True):
            event["duration_s"] = round(of.duration_s, 3)
        return found


def event_rows(actograms: Sequence[Actogram]) -> list[dict[str, Any]]:
    """One row per event, with EVENT_COLUMNS, for a table."""
    rows = []
    for actogram in actograms:
        for number, event in enumerate(actogram.events, start=1):
            facts = asdict(event) | {"duration_s": round(event.duration_s, 3)}
            facts |= {"source": actogram.source, "event": number, "unit": f"{actogram.unit}/s"}
            rows.append({name: facts[name] for name in EVENT_COLUMNS})
    return rows
