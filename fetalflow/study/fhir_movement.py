"""Movement as FHIR Observations: one for each cine that has an actogram, and one for each movement in it."""

from collections.abc import Iterable, Iterator
from typing import Any

from pydicom.sr.coding import Code

from fetalflow.inference.actogram.result import Actogram, Event
from fetalflow.study.dicom.codes import OURS
from fetalflow.study.dicom.movement_figures import (
    MOVEMENT,
    NOT_EXCLUDED,
    ONE_MOVEMENT,
    PART,
    Figure,
    not_excluded,
    not_said,
    of_cine,
    of_event,
    part_in,
)
from fetalflow.study.dicom.sentences import clean
from fetalflow.study.fhir_parts import absent, concept, notes, quantity
from fetalflow.study.result import StudyResult

IMAGE = Code("image", OURS, "SOP instance UID of the cine, or the SHA-256 of its file")
FIRST_FRAME = Code("first-frame", OURS, "First frame, counted from 1")
LAST_FRAME = Code("last-frame", OURS, "Last frame, counted from 1")


def movement_observations(result: StudyResult) -> Iterator[tuple[str, dict[str, Any]]]:
    """A name that stays the same, and what an Observation states beside patient, status and device. The value is the
    time in which the fetus moves, and the duration of one movement; the other figures are components."""
    for actogram in result.movement:
        file = result.file(actogram.source)
        image = file.sop_instance_uid or file.sha256
        sentences = [*not_said(actogram), *clean(actogram.remarks, result)]
        others = [_stated(NOT_EXCLUDED, "valueCodeableConcept", concept(each)) for each in not_excluded(actogram)]
        yield f"movement {image}", _observation(MOVEMENT, image, of_cine(actogram), actogram, others) | notes(sentences)
        for number, event in enumerate(actogram.events, start=1):
            frames = [
                _stated(code, "valueInteger", frame + 1)
                for code, frame in ((FIRST_FRAME, event.first_frame), (LAST_FRAME, event.last_frame))
            ]
            figures = of_event(event, actogram.unit)
            yield f"movement {image} {number}", _observation(ONE_MOVEMENT, image, figures, event, frames)


def _observation(
    name: Code, image: str, figures: Iterable[Figure], found: Actogram | Event, further: list[dict[str, Any]]
) -> dict[str, Any]:
    (_, value, unit), *others = figures
    part, reason = part_in(found)
    of_part = (
        {"code": concept(PART), "dataAbsentReason": absent("unknown", reason)}
        if part is None
        else _stated(PART, "valueCodeableConcept", concept(part))
    )
    components = [_stated(code, "valueQuantity", quantity(number, of)) for code, number, of in others]
    components += [of_part, *further, _stated(IMAGE, "valueString", image)]
    return {"code": concept(name), "valueQuantity": quantity(value, unit), "component": components}


def _stated(name: Code, kind: str, value: Any) -> dict[str, Any]:
    return {"code": concept(name), kind: value}
