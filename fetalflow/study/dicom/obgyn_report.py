"""The figures of a study as an OB-GYN Ultrasound Procedure Report (TID 5000), which obstetric record systems read.

It is written only on request: such a system may take its figures into the record without a person. It holds no more
than the report of `measurement_report.py`; docs/operator/dicom-out.md lists what this template has no place for.
"""

from collections.abc import Iterable, Iterator

from highdicom.sr import (
    ComprehensiveSR,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    LanguageOfContentItemAndDescendants,
    NumContentItem,
    SourceImageForMeasurement,
)
from highdicom.sr.templates import DEFAULT_LANGUAGE
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from fetalflow.biometry.estimates import Estimate
from fetalflow.study.dicom.codes import (
    AGE,
    CITATION,
    COMMENT,
    DAY,
    EFW_PERCENTILE,
    GRAM,
    GROWTH_PERCENTILE,
    GROWTH_Z,
    LENGTH_CODES,
    MEDIAN,
    MM,
    ONE,
    PERCENT,
    SEVERAL_LENGTHS_AGE,
    WEIGHT,
)
from fetalflow.study.dicom.measurement_report import images_of, observer, sr_of
from fetalflow.study.dicom.numbers import CONTAINS, DIGITS, INFERRED, Standing, add, formula, number, text
from fetalflow.study.dicom.segmentation import who_answered
from fetalflow.study.dicom.sentences import clean, of_study
from fetalflow.study.dicom.sources import Source
from fetalflow.study.result import FOR_RESEARCH, JoinedLength, StudyResult

DAYS = 7  # in a week: this template states ages in days


def obgyn_report(
    result: StudyResult, sources: dict[str, Source], seed: str, classes: dict[str, str]
) -> ComprehensiveSR:
    """The report, in the series of the other one. seed: `uids.fingerprint`. classes: as in `place_in_study`."""
    root = ContainerContentItem(name=codes.DCM.OBGYNUltrasoundProcedureReport, template_id="5000")
    sections = [_summary(result), *_biometry(result, sources)]
    root.ContentSequence = ContentSequence(
        [*LanguageOfContentItemAndDescendants(DEFAULT_LANGUAGE), *observer(result), *sections]
    )
    return sr_of(result, root, sources, [], 2, seed, classes)


def _summary(result: StudyResult) -> ContainerContentItem:
    """TID 5002 and 5003: what several lengths give together, and what speaks against it."""
    fetus = _container(codes.DCM.FetusSummary, _estimates(result))
    against = [
        *(f"no {structure}: {reason}" for structure, reason in result.missing.items()),
        *(f"no value by {each.name}: {each.reason}" for each in (*result.ages, *result.weights) if each.value is None),
        *(_of_length(each.name.upper(), reason) for each in result.lengths.values() for reason in each.speaks_against),
    ]
    notes = dict.fromkeys([FOR_RESEARCH, *who_answered(result), *of_study(result), *sorted(clean(against, result))])
    return _container(codes.DCM.Summary, [*(text(COMMENT, note, CONTAINS) for note in notes), fetus])


def _of_length(name: str, reason: str) -> str:
    return reason if reason.startswith(name) else f"{name}: {reason}"


def _estimates(result: StudyResult) -> Iterator[ContentItem]:
    for each in result.ages:
        if each.value is not None and len(each.lengths) > 1:
            yield _age(SEVERAL_LENGTHS_AGE, each)
    for each in result.weights:
        if each.value is not None:
            yield from number(WEIGHT, each.value, GRAM, further=[formula(each)])
            if each.percentile is not None:
                yield _rank(EFW_PERCENTILE, each.percentile, PERCENT, result)


def _biometry(result: StudyResult, sources: dict[str, Source]) -> Iterator[ContainerContentItem]:
    """TID 5005, with a group (TID 5008) for each length."""
    groups = [_container(codes.DCM.BiometryGroup, _group(result, sources, each)) for each in result.lengths.values()]
    if groups:
        yield _container(codes.DCM.FetalBiometry, groups)


def _group(result: StudyResult, sources: dict[str, Source], length: JoinedLength) -> Iterator[ContentItem]:
    images = [
        SourceImageForMeasurement(
            each.referenced_sop_class_uid, each.referenced_sop_instance_uid, each.referenced_frame_numbers
        )
        for each in images_of(result, sources, length.structure)
    ]
    derivation = MEDIAN if length.frames > 1 else None
    standing = Standing(length.low, length.high, length.level)
    yield from number(LENGTH_CODES[length.name], length.value, MM, standing, derivation=derivation, images=images)
    for each in result.ages:
        if each.lengths == (length.name,) and each.value is not None:
            yield _age(AGE, each)
    if length.percentile is not None:
        yield _rank(GROWTH_PERCENTILE, length.percentile, PERCENT, result)
    elif length.z is not None:
        yield _rank(GROWTH_Z, length.z, ONE, result)


def _age(name: Code, estimate: Estimate) -> ContentItem:
    (made,) = number(name, estimate.value * DAYS, DAY, further=[formula(estimate)])
    return made


def _rank(name: Code, value: float, unit: Code, result: StudyResult) -> ContentItem:
    made = NumContentItem(name, round(value, DIGITS), unit, relationship_type=CONTAINS)
    add(made, [text(CITATION, Standing(weeks=result.weeks).population, INFERRED)])
    return made


def _container(name: Code, items: Iterable[ContentItem]) -> ContainerContentItem:
    made = ContainerContentItem(name=name, relationship_type=CONTAINS)
    if items := list(items):
        made.ContentSequence = ContentSequence(items)
    return made
