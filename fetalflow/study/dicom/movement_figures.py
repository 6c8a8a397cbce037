"""The figures of an actogram with their names and units: what the DICOM report and FHIR state of movement.

DICOM and LOINC have one code for movement of a fetus (LOINC 11631-9, gross body movement): a score of 0 or 2 of the
biophysical profile. We give no such score, so the names are our own; parts of the body have their SNOMED code.
"""

from collections.abc import Iterator
from hashlib import sha256

from pydicom.sr.coding import Code

from fetalflow.inference.actogram.result import Actogram, Event
from fetalflow.study.dicom.codes import MM, ONE, OURS, PERCENT, PIXEL

Figure = tuple[Code, float, Code]  # name, value, unit
LONGEST_CODE, LONGEST_MEANING = 16, 64  # characters

SECOND, PER_MINUTE = Code("s", "UCUM", "second"), Code("/min", "UCUM", "per minute")
PATHS = {"mm": MM, "px": PIXEL}
SPEEDS = {"mm": Code("mm/s", "UCUM", "millimeter per second"), "px": Code("{pixels}/s", "UCUM", "pixels per second")}
PARTS: dict[str, Code] = {  # by label
    "head": Code("69536005", "SCT", "Head"),
    "body": Code("22943007", "SCT", "Trunk"),
    "arm": Code("53120007", "SCT", "Upper limb"),
    "hand": Code("85562004", "SCT", "Hand"),
    "leg": Code("61685007", "SCT", "Lower limb"),
    "foot": Code("56459004", "SCT", "Foot"),
    "heart": Code("80891009", "SCT", "Heart"),
}
MOVEMENT = Code("fetal-movement", OURS, "Movement of the fetus")
ONE_MOVEMENT = Code("one-movement", OURS, "One movement of the fetus")
PART = Code("moving-part", OURS, "Part of the fetus that moves")
NOT_EXCLUDED = Code("part-set", OURS, "Part of the fetus that is not excluded")
JUDGED = Code("judged-time", OURS, "Time in which movement can be judged")
MOVING = Code("moving-time", OURS, "Time in which the fetus moves")
MOVING_SHARE = Code("moving-share", OURS, "Share of the judged time in which the fetus moves")
STILL = Code("still-time", OURS, "Time in which the fetus rests")
NOT_SAID = Code("not-said-time", OURS, "Time in which movement is not said")
LONGEST = Code("longest-rest", OURS, "Longest rest without an interruption")
COUNT = Code("movements", OURS, "Number of movements")
RATE = Code("movement-rate", OURS, "Movements per minute of the judged time")
LABEL_P = Code("label-p", OURS, "Probability of the part")
WINDOW_SHARE = Code("window-share", OURS, "Share of the windows in which the part is the likeliest")
SET_LEVEL = Code("set-level", OURS, "Probability that the set holds the true part")
BEGIN = Code("begin", OURS, "Begin of the movement after the first frame")
END = Code("end", OURS, "End of the movement after the first frame")
DURATION = Code("duration", OURS, "Duration of the movement")
SPEED = Code("speed", OURS, "Mean speed of the movement")
PEAK = Code("peak-speed", OURS, "Peak speed of the movement")
PATH = Code("path", OURS, "Path of the movement")


def part_of(label: str) -> Code:
    """The code of a label: SNOMED CT for the parts of the body that we know, else our own."""
    text = label.replace("\\", "/").strip() or "none"  # a backslash ends a value in DICOM
    value = text if len(text) <= LONGEST_CODE else f"label-{sha256(label.encode()).hexdigest()[:10]}"
    return PARTS.get(label.casefold(), Code(value, OURS, text[:LONGEST_MEANING]))


def of_cine(actogram: Actogram) -> Iterator[Figure]:
    """Of the whole cine; MOVING is the first."""
    yield MOVING, actogram.moving_s, SECOND
    if actogram.judged_s > 0:
        yield MOVING_SHARE, 100 * actogram.moving_s / actogram.judged_s, PERCENT
    yield JUDGED, actogram.judged_s, SECOND
    yield STILL, actogram.still_s, SECOND
    yield LONGEST, actogram.longest_still_s, SECOND
    yield NOT_SAID, actogram.not_said_s, SECOND
    yield COUNT, float(len(actogram.events)), ONE
    if actogram.events_per_minute is not None:
        yield RATE, actogram.events_per_minute, PER_MINUTE
    if (answer := actogram.answer) is not None:
        if answer.probability is not None:
            yield LABEL_P, answer.probability, ONE
        if answer.level is not None:
            yield SET_LEVEL, answer.level, ONE
        yield WINDOW_SHARE, 100 * answer.share, PERCENT


def of_event(event: Event, unit: str) -> Iterator[Figure]:
    """Of one movement; DURATION is the first. unit: of the actogram."""
    yield DURATION, event.duration_s, SECOND
    yield BEGIN, event.start_s, SECOND
    yield END, event.end_s, SECOND
    yield SPEED, event.speed, SPEEDS[unit]
    yield PEAK, event.peak_speed, SPEEDS[unit]
    yield PATH, event.path, PATHS[unit]
    if event.probability is not None:
        yield LABEL_P, event.probability, ONE


def part_in(found: Actogram | Event) -> tuple[Code | None, str]:
    """The part that moves in a cine or in one movement, or why it is not said."""
    if isinstance(found, Event):
        return (None, found.why_no_label) if found.label is None else (part_of(found.label), "")
    if found.answer is None:
        return None, "no network answered a window of this cine"
    return (None, found.answer.in_words) if found.answer.label is None else (part_of(found.answer.label), "")


def not_excluded(actogram: Actogram) -> list[Code]:
    """The parts in the set of the whole cine, the likeliest first; empty where there is no set."""
    return [part_of(label) for label in (actogram.answer and actogram.answer.label_set) or ()]


def not_said(actogram: Actogram) -> list[str]:
    """A sentence for each span of time in which movement is not said."""
    return [f"{each.start_s:.1f} to {each.end_s:.1f} s: it is not said: {each.why}" for each in actogram.not_said]
