"""One measurement group of the report (TID 1501): what was found, by which model, in which frames."""

from collections.abc import Iterable, Sequence

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    Measurement,
    MeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    SourceImageForMeasurementGroup,
    TrackingIdentifier,
)
from pydicom.sr.coding import Code

from fetalflow.study.contents import MAKER
from fetalflow.study.dicom.segmentation import model_of, parameters
from fetalflow.study.dicom.sources import Source
from fetalflow.study.result import StudyResult

MOST_REFERENCES = 200  # frames of one image that a group names; of a long cine, evenly spread ones


def group_of(
    result: StudyResult,
    task: str,
    title: str,
    tracked: str,
    finding: tuple[Code | None, Code | None],
    figures: Sequence[Measurement | QualitativeEvaluation],
    images: Iterable[SourceImageForMeasurementGroup],
) -> MeasurementsAndQualitativeEvaluations:
    """task: of the model that answered. tracked: the tracking UID. finding: its category and type; None for none."""
    model = model_of(result, task)
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=tracked, identifier=title),
        finding_category=finding[0],
        finding_type=finding[1],
        algorithm_id=AlgorithmIdentification(
            name=f"{MAKER} {model.name}",
            version=model.version or model.sha256[:12] or "none",
            parameters=[*parameters(model), f"{MAKER}: {result.fetalflow}"],
        ),
        measurements=[each for each in figures if isinstance(each, Measurement)] or None,
        qualitative_evaluations=[each for each in figures if isinstance(each, QualitativeEvaluation)] or None,
        source_images=list(images) or None,
    )


def frames_of(source: Source, frames: Sequence[int]) -> SourceImageForMeasurementGroup:
    """A reference to some frames of an image; to the whole image where `frames` is empty."""
    numbers = source.numbers(frames) if len(frames) else None
    if numbers is not None and len(numbers) > MOST_REFERENCES:
        numbers = [numbers[i] for i in np.linspace(0, len(numbers) - 1, MOST_REFERENCES).round().astype(int)]
    return SourceImageForMeasurementGroup(source.sop_class, source.uid, numbers)
