"""Numbers in a report: a value with its unit, interval, standing, formula and comment; or a value that is missing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from highdicom.sr import (
    CodeContentItem,
    ContentItem,
    CoordinatesForMeasurement,
    Measurement,
    NumContentItem,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForMeasurement,
    TextContentItem,
)
from pydicom.sr.coding import Code

from fetalflow.biometry.estimates import Estimate
from fetalflow.study.dicom.codes import (
    AGE,
    CITATION,
    COMMENT,
    EQUATION,
    FORMULA_CODES,
    LENGTH_CODES,
    LEVEL,
    LOWER,
    MM,
    NOT_CALCULATED,
    ONE,
    PERCENT,
    PERCENTILE,
    UNITS,
    UPPER,
    WEIGHT,
    Z_SCORE,
)

PROPERTY, MODIFIER = RelationshipTypeValues.HAS_PROPERTIES, RelationshipTypeValues.HAS_CONCEPT_MOD
INFERRED, CONTAINS = RelationshipTypeValues.INFERRED_FROM, RelationshipTypeValues.CONTAINS
DIGITS = 3  # after the point: a thousandth of a millimetre or a week is more than any figure here knows


@dataclass(frozen=True)
class Standing:
    """low, high: the interval that holds the true value with the probability `level`. z, percentile (0-100): among
    fetuses of `weeks`, the stated age. None where there is none."""

    low: float | None = None
    high: float | None = None
    level: float | None = None
    z: float | None = None
    percentile: float | None = None
    weeks: float | None = None

    @property
    def population(self) -> str:
        """Whom z and percentile compare with."""
        return f"INTERGROWTH-21st, at the stated age of {self.weeks:g} weeks"


def number(
    name: Code,
    value: float,
    unit: Code,
    standing: Standing = Standing(),
    *,
    derivation: Code | None = None,
    images: Sequence[SourceImageForMeasurement] | None = None,
    coordinates: Sequence[CoordinatesForMeasurement] | None = None,
    further: Iterable[ContentItem] = (),
) -> Measurement:
    """TID 300. The interval is stated as its distances to the value, in the unit of the value."""
    made = Measurement(
        name=name,
        value=round(float(value), DIGITS),
        unit=unit,
        derivation=derivation,
        referenced_images=images,
        referenced_coordinates=coordinates,
    )
    add(made[0], [*properties(round(float(value), DIGITS), unit, standing), *further])
    return made


def missing(name: Code, why: Code, reasons: Iterable[ContentItem]) -> QualitativeEvaluation:
    """A figure that there is none of: the name of the figure, with a code of CID 42 as its value. DICOM also knows a
    number without a value, but highdicom (0.28) cannot open a report with one."""
    made = QualitativeEvaluation(name=name, value=why)
    add(made[0], reasons)
    return made


def estimated(
    estimate: Estimate, lengths_mm: dict[str, float], weeks: float | None, reason: str
) -> Measurement | QualitativeEvaluation:
    """Age or weight by one formula, with the lengths that it comes from; or why there is none. weeks: as stated."""
    name, unit = (AGE if estimate.unit == "weeks" else WEIGHT), UNITS[estimate.unit]
    reasons = [text(COMMENT, reason, PROPERTY)] if reason else []
    if estimate.value is None:
        return missing(name, NOT_CALCULATED, [*reasons, formula(estimate)])
    used = [
        NumContentItem(LENGTH_CODES[each], round(lengths_mm[each], DIGITS), MM, relationship_type=INFERRED)
        for each in estimate.lengths
        if each in lengths_mm
    ]
    standing = Standing(z=estimate.z, percentile=estimate.percentile, weeks=weeks)
    return number(name, estimate.value, unit, standing, further=[*reasons, formula(estimate), *used])


def formula(estimate: Estimate) -> ContentItem:
    """The formula as a code where DICOM has one, else by its name (TID 315)."""
    code = FORMULA_CODES.get((estimate.formula, estimate.lengths))
    if code is None:
        return text(CITATION, estimate.name, INFERRED)
    return CodeContentItem(EQUATION, code, relationship_type=INFERRED)


def properties(value: float, unit: Code, standing: Standing) -> list[ContentItem]:
    """TID 310 and 311. highdicom's MeasurementProperties states an interval without a unit."""
    found: list[ContentItem] = []
    if standing.percentile is not None:
        found.append(NumContentItem(PERCENTILE, round(standing.percentile, 1), PERCENT, relationship_type=PROPERTY))
    if standing.z is not None:
        found.append(NumContentItem(Z_SCORE, round(standing.z, DIGITS), ONE, relationship_type=PROPERTY))
    if found:
        found.append(text(Code("121406", "DCM", "Reference Authority"), standing.population, PROPERTY))
    if standing.low is not None and standing.high is not None:
        for code, size in ((UPPER, standing.high - value), (LOWER, value - standing.low)):
            found.append(NumContentItem(code, round(size, DIGITS), unit, relationship_type=PROPERTY))
        if standing.level is not None:
            found.append(NumContentItem(LEVEL, round(standing.level, DIGITS), ONE, relationship_type=PROPERTY))
    return found


def text(name: Code, value: str, relation: RelationshipTypeValues) -> TextContentItem:
    return TextContentItem(name=name, value=value, relationship_type=relation)


def add(item: ContentItem, children: Iterable[ContentItem]) -> None:
    """Put children below a content item, after those that it has."""
    children = list(children)
    if children:
        item.ContentSequence = [*item.get("ContentSequence", []), *children]
