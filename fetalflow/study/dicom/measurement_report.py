"""The structured report of a study: TID 1500, as a Comprehensive SR.

Its groups are: for each structure the lengths of the study, or why there are none; the ages and the weights; and for
each structure in each image the lengths in one frame, with the ends of the calipers. The groups of an image have the
tracking UID of the segment that shows the same structure.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    ComprehensiveSR,
    ContentItem,
    CoordinatesForMeasurement,
    DeviceObserverIdentifyingAttributes,
    GraphicTypeValues,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    NumContentItem,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    SourceImageForMeasurementGroup,
    SourceImageForRegion,
    SubjectContext,
    SubjectContextFetus,
    TrackingIdentifier,
)
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

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
from fetalflow.study.dicom.numbers import CONTAINS, DIGITS, PROPERTY, Standing, add, estimated, missing, number, text
from fetalflow.study.dicom.segmentation import frame_number, model_of, parameters, tracking_uid, who_answered
from fetalflow.study.dicom.sentences import clean, of_study, without_names
from fetalflow.study.dicom.sources import Source, place_in_study
from fetalflow.study.dicom.uids import uid
from fetalflow.study.result import FOR_RESEARCH, MeasuredFrame, StudyResult, View

SERIES = 9700
MOST_REFERENCES = 200  # frames of one image that a group names; of a long cine, evenly spread ones


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
    ]
    notes = [FOR_RESEARCH, *who_answered(result), *of_study(result)]
    content = MeasurementReport(
        observation_context=ObservationContext(
            observer_device_context=observer(result),
            subject_context=SubjectContext(codes.DCM.Fetus, SubjectContextFetus(subject_id="fetus")),
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
    return [_image(sources[name], view.frames) for name in sources for view in views if view.file == name]


def _of_structure(
    result: StudyResult, sources: dict[str, Source], structure: str, seed: str
) -> MeasurementsAndQualitativeEvaluations:
    joined = [each for each in result.lengths.values() if each.structure == structure]
    group = _group(
        result,
        f"{structure} of the study",
        uid(seed, "structure", structure),
        STRUCTURE_CODES[structure],
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
            yield _group(result, title, uid(seed, "estimate", title), None, made, [])


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
    group = _group(
        result,
        f"{view.structure} in image {source.uid}",
        tracking_uid(seed, source, view.structure),
        STRUCTURE_CODES[view.structure],
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
        [_image(source, [frame.frame]), of_mask],
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


def _group(
    result: StudyResult,
    title: str,
    tracked: str,
    finding: Code | None,
    figures: Sequence[Measurement | QualitativeEvaluation],
    images: Iterable[SourceImageForMeasurementGroup],
) -> MeasurementsAndQualitativeEvaluations:
    model = model_of(result, "biometry")
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=tracked, identifier=title),
        finding_category=None if finding is None else ANATOMY,
        finding_type=finding,
        algorithm_id=AlgorithmIdentification(
            name=f"{MAKER} {model.name}",
            version=model.version or model.sha256[:12] or "none",
            parameters=[*parameters(model), f"{MAKER}: {result.fetalflow}"],
        ),
        measurements=[each for each in figures if isinstance(each, Measurement)] or None,
        qualitative_evaluations=[each for each in figures if isinstance(each, QualitativeEvaluation)] or None,
        source_images=list(images) or None,
    )


def _image(source: Source, frames: Sequence[int]) -> SourceImageForMeasurementGroup:
    numbers = source.numbers(frames)
    if numbers is not None and len(numbers) > MOST_REFERENCES:
        numbers = [numbers[i] for i in np.linspace(0, len(numbers) - 1, MOST_REFERENCES).round().astype(int)]
    return SourceImageForMeasurementGroup(source.sop_class, source.uid, numbers)


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
