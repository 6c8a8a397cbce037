"""The structured report of a study: TID 1500, as a Comprehensive SR.

Its groups are: for each structure the lengths of the study, or why there are none; the ages and the weights; and for
each structure in each image the lengths in one frame, with the ends of the calipers; and the movement in each cine. The
groups of a structure in an image have the tracking UID of the segment that shows it.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from highdicom.sr import (
    ComprehensiveSR,
    ContentItem,
    CoordinatesForMeasurement,
    DeviceObserverIdentifyingAttributes,
    GraphicTypeValues,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    NumContentItem,
    ObservationContext,
    ObserverContext,
    SourceImageForMeasurementGroup,
    SourceImageForRegion,
    SubjectContext,
    SubjectContextFetus,
)
from pydicom import Dataset
from pydicom.sr.codedict import codes

from fetalflow.biometry.structures import LENGTHS
from fetalflow.study.contents import MAKER
from fetalflow.study.dicom.codes import (
    ANATOMY,
    COMMENT,
    LENGTH_CODES,
    MEDIAN,
    MM,
    NOT_MEASURED,
    OBSTETRIC_SCAN,
    ONE,
    OURS,
    PROBABILITY,
    STRUCTURE_CODES,
    UNFAMILIARITY,
    UNITS,
)
from fetalflow.study.dicom.groups import frames_of, group_of
from fetalflow.study.dicom.movement_groups import of_movement
from fetalflow.study.dicom.numbers import CONTAINS, DIGITS, PROPERTY, Standing, add, estimated, missing, number, text
from fetalflow.study.dicom.segmentation import frame_number, tracking_uid, who_answered
from fetalflow.study.dicom.sentences import clean, of_study, without_names
from fetalflow.study.dicom.sources import Source, place_in_study
from fetalflow.study.dicom.uids import uid
from fetalflow.study.result import FOR_RESEARCH, MeasuredFrame, StudyResult, View

SERIES, TASK = 9700, "biometry"


def measurement_report(
    result: StudyResult, sources: dict[str, Source], masks: dict[str, Dataset], seed: str, classes: dict[str, str]
) -> ComprehensiveSR:
    """masks: the segmentations by the name of the file that they show. seed: `uids.fingerprint`."""
    order = list(sources)
    shown = sorted(shown_frames(result), key=lambda each: (order.index(each[0].file), each[0].structure))
    groups = [
        *(_of_structure(result, sources, structure, seed) for structure in LENGTHS),
        *_of_estimates(result, seed),
        *(_of_view(result, sources, masks, view, frame, seed) for view, frame in shown),
        *of_movement(result, sources, seed),
    ]
    notes = [FOR_RESEARCH, *who_answered(result), *of_study(result)]
    content = MeasurementReport(
        observation_context=ObservationContext(
            observer_device_context=observer(result),
            subject_context=SubjectContext(
                codes.DCM.Fetus, SubjectContextFetus(subject_id=f"fetus {result.fetus}".strip())
            ),
        ),
        procedure_reported=OBSTETRIC_SCAN,
        imaging_measurements=groups,
    )
    add(content[0], [text(COMMENT, note, CONTAINS) for note in notes])
    return sr_of(result, content[0], sources, list(masks.values()), 1, seed, classes)


def sr_of(
    result: StudyResult,
    content: Dataset,
    sources: dict[str, Source],
    masks: Sequence[Dataset],
    instance: int,
    seed: str,
    classes: dict[str, str],
) -> ComprehensiveSR:
    """The content of a report as a document of the study. instance: its number in the series of our reports."""
    first = next(iter(sources.values()))
    made = ComprehensiveSR(
        evidence=[*(each.stand_in for each in sources.values()), *masks],
        content=content,
        series_instance_uid=uid(seed, "series", "SR"),
        series_number=SERIES,
        sop_instance_uid=uid(seed, "SR", str(instance)),
        instance_number=instance,
        manufacturer=MAKER,
        manufacturer_model_name=MAKER,
        software_versions=result.fetalflow,
        is_complete=True,
        is_final=False,
        series_description=f"fetalflow report. {FOR_RESEARCH}",
        content_date=first.moment.date(),
        content_time=first.moment.time(),
    )
    made.CodingSchemeIdentificationSequence = [_our_scheme()]
    place_in_study(made, first, classes)
    return made


def shown_frames(result: StudyResult) -> Iterator[tuple[View, MeasuredFrame]]:
    """Each view with the frame that stands for it in the report: the best one of the study, else the used frame whose
    main length is nearest to that of the view. A view in which no frame was measured has none."""
    for view in result.views:
        frames = [each for each in result.frames if (each.file, each.structure) == (view.file, view.structure)]
        if not frames:
            continue
        main = LENGTHS[view.structure][0]
        best = next((each for each in frames if (each.file, each.frame) == result.best.get(view.structure)), None)
        of_view = view.lengths[main].value if main in view.lengths else frames[len(frames) // 2].lengths[main].value
        counted = [each for each in frames if each.frame in view.frames] or frames
        yield view, best or min(counted, key=lambda each: abs(each.lengths[main].value - of_view))


def _our_scheme() -> Dataset:
    made = Dataset()
    made.CodingSchemeDesignator, made.CodingSchemeName = OURS, "Names of fetalflow that no public scheme has"
    made.CodingSchemeResponsibleOrganization = MAKER
    return made


def observer(result: StudyResult) -> ObserverContext:
    """fetalflow, as the device that made the report (TID 1004)."""
    device = DeviceObserverIdentifyingAttributes(
        uid=uid(MAKER, result.fetalflow),
        name=f"{MAKER} {result.fetalflow}. {FOR_RESEARCH}",
        manufacturer_name=MAKER,
        model_name=MAKER,
    )
    return ObserverContext(codes.DCM.Device, device)


def images_of(result: StudyResult, sources: dict[str, Source], structure: str) -> list[SourceImageForMeasurementGroup]:
    """The frames that the lengths of a structure come from, in the order of the images' UIDs."""
    views = [each for each in result.views if each.structure == structure and each.used]
    return [frames_of(sources[name], view.frames) for name in sources for view in views if view.file == name]


def _of_structure(
    result: StudyResult, sources: dict[str, Source], structure: str, seed: str
) -> MeasurementsAndQualitativeEvaluations:
    joined = [each for each in result.lengths.values() if each.structure == structure]
    group = group_of(
        result,
        TASK,
        f"{structure} of the study",
        uid(seed, "structure", structure),
        (ANATOMY, STRUCTURE_CODES[structure]),
        [
            number(
                LENGTH_CODES[each.name],
                each.value,
                MM,
                Standing(each.low, each.high, each.level, each.z, each.percentile, result.weeks),
                derivation=MEDIAN if each.frames > 1 else None,
            )
            for each in joined
        ]
        or [missing(LENGTH_CODES[LENGTHS[structure][0]], NOT_MEASURED, _reasons(result, structure))],
        images_of(result, sources, structure),
    )
    against = clean((each for length in joined for each in length.speaks_against), result)
    add(group[0], [text(COMMENT, each, CONTAINS) for each in sorted(against)])
    return group


def _reasons(result: StudyResult, structure: str) -> list[ContentItem]:
    return [text(COMMENT, without_names(result.missing.get(structure, "it was not measured"), result), PROPERTY)]


def _of_estimates(result: StudyResult, seed: str) -> Iterator[MeasurementsAndQualitativeEvaluations]:
    lengths = {name: each.value for name, each in result.lengths.items()}
    for title, estimates in (("gestational age", result.ages), ("weight", result.weights)):
        if estimates:
            made = [estimated(each, lengths, result.weeks, without_names(each.reason, result)) for each in estimates]
            yield group_of(result, TASK, title, uid(seed, "estimate", title), (None, None), made, [])


def _of_view(
    result: StudyResult,
    sources: dict[str, Source],
    masks: dict[str, Dataset],
    view: View,
    frame: MeasuredFrame,
    seed: str,
) -> MeasurementsAndQualitativeEvaluations:
    source, mask = sources[view.file], masks[view.file]
    frames = [each for each in result.frames if each.file == view.file]
    of_mask = SourceImageForMeasurementGroup(mask.SOPClassUID, mask.SOPInstanceUID, [frame_number(frames, frame)])
    group = group_of(
        result,
        TASK,
        f"{view.structure} in image {source.uid}",
        tracking_uid(seed, source, view.structure),
        (ANATOMY, STRUCTURE_CODES[view.structure]),
        [
            number(
                LENGTH_CODES[name],
                length.value,
                UNITS[frame.unit],
                Standing(length.low, length.high, length.level),
                coordinates=[_coordinates(name, frame, source)],
            )
            for name, length in frame.lengths.items()
        ],
        [frames_of(source, [frame.frame]), of_mask],
    )
    known = ((PROBABILITY, frame.probability), (UNFAMILIARITY, frame.unfamiliarity))
    figures = [
        NumContentItem(code, round(float(value), DIGITS), ONE, relationship_type=CONTAINS)
        for code, value in known
        if value is not None
    ]
    counts = "it counts for the study" if view.used else "it does not count for the study"
    against = clean((*view.speaks_against, *frame.speaks_against), result)
    add(group[0], [*figures, *(text(COMMENT, each, CONTAINS) for each in (counts, *against))])
    return group


def _coordinates(name: str, frame: MeasuredFrame, source: Source) -> CoordinatesForMeasurement:
    """The line or ellipse that was measured, in the pixels of the file, from the corner of its first pixel."""
    scale = np.array([source.stand_in.Columns / frame.width, source.stand_in.Rows / frame.height])
    ends = frame.calipers
    kind = GraphicTypeValues.POLYLINE
    if name in ("hc", "ac") and frame.ellipse is not None:
        if abs(scale[0] / scale[1] - 1) < 1e-3:
            kind = GraphicTypeValues.ELLIPSE
        else:  # where pixels are not square, the axes of an ellipse are not those of its picture
            points = frame.ellipse.points()
            ends = np.concatenate([points, points[:1]])
    elif name == "ofd":
        ends = ends[:2]
    elif name == "bpd":
        ends = ends[2:]
    image = SourceImageForRegion(source.sop_class, source.uid, source.numbers([frame.frame]))
    return CoordinatesForMeasurement(kind, (ends + 0.5) * scale, image)
