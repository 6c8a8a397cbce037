"""Movement in the report: for each cine one group for the whole of it and one for each movement, with its frames."""

from collections.abc import Iterator

from highdicom.sr import Measurement, MeasurementsAndQualitativeEvaluations, QualitativeEvaluation

from fetalflow.inference.actogram.result import Actogram, Event
from fetalflow.study.dicom.codes import COMMENT, NOT_CALCULATED
from fetalflow.study.dicom.groups import frames_of, group_of
from fetalflow.study.dicom.movement_figures import (
    MOVEMENT,
    NOT_EXCLUDED,
    ONE_MOVEMENT,
    PART,
    not_excluded,
    not_said,
    of_cine,
    of_event,
    part_in,
)
from fetalflow.study.dicom.numbers import CONTAINS, PROPERTY, add, missing, number, text
from fetalflow.study.dicom.sentences import clean
from fetalflow.study.dicom.sources import Source
from fetalflow.study.dicom.uids import uid
from fetalflow.study.result import StudyResult

TASK = "movement"


def of_movement(
    result: StudyResult, sources: dict[str, Source], seed: str
) -> Iterator[MeasurementsAndQualitativeEvaluations]:
    """The groups of all cines that have an actogram, in the order of their images' UIDs. seed: `uids.fingerprint`."""
    of_file = {each.source: each for each in result.movement}
    for name, source in sources.items():
        if (actogram := of_file.get(name)) is None:
            continue
        yield _whole(result, source, actogram, seed)
        for count, event in enumerate(actogram.events, start=1):
            yield _event(result, source, event, actogram.unit, count, seed)


def _whole(result: StudyResult, source: Source, actogram: Actogram, seed: str) -> MeasurementsAndQualitativeEvaluations:
    figures = [
        *(number(*figure) for figure in of_cine(actogram)),
        _part(actogram),
        *(QualitativeEvaluation(name=NOT_EXCLUDED, value=each) for each in not_excluded(actogram)),
    ]
    title, tracked = f"movement in image {source.uid}", uid(seed, "movement", source.uid)
    group = group_of(result, TASK, title, tracked, (None, MOVEMENT), figures, [frames_of(source, [])])
    sentences = [*not_said(actogram), *clean(actogram.remarks, result)]
    add(group[0], [text(COMMENT, each, CONTAINS) for each in sentences])
    return group


def _event(
    result: StudyResult, source: Source, event: Event, unit: str, count: int, seed: str
) -> MeasurementsAndQualitativeEvaluations:
    figures = [*(number(*figure) for figure in of_event(event, unit)), _part(event)]
    title, tracked = f"movement {count} in image {source.uid}", uid(seed, "movement", source.uid, str(count))
    images = [frames_of(source, range(event.first_frame, event.last_frame + 1))]
    return group_of(result, TASK, title, tracked, (None, ONE_MOVEMENT), figures, images)


def _part(found: Actogram | Event) -> Measurement | QualitativeEvaluation:
    part, reason = part_in(found)
    if part is None:
        return missing(PART, NOT_CALCULATED, [text(COMMENT, reason, PROPERTY)])
    return QualitativeEvaluation(name=PART, value=part)
