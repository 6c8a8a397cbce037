"""The figures of a study as FHIR R4 (4.0.1): a bundle with a DiagnosticReport, its Observations and the models.

Names of figures are LOINC codes, units UCUM, as in the DICOM report (`dicom/codes.py`). The woman and her study are
referred to by their numbers; no name is in it. What there is no figure of is an Observation with the reason.
"""

from collections.abc import Iterable
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from pydicom.sr.coding import Code

from fetalflow.biometry.estimates import Estimate
from fetalflow.biometry.structures import LENGTHS
from fetalflow.study.dicom.codes import (
    AGE,
    FORMULA_CODES,
    GRAM,
    GROWTH_PERCENTILE,
    GROWTH_Z,
    LENGTH_CODES,
    LEVEL,
    LOWER,
    MM,
    OBSTETRIC_SCAN,
    ONE,
    PERCENT,
    STRUCTURE_CODES,
    UPPER,
    WEEK,
    WEIGHT,
)
from fetalflow.study.dicom.numbers import DIGITS, Standing
from fetalflow.study.dicom.sentences import clean, of_study, without_names
from fetalflow.study.dicom.sources import header_of
from fetalflow.study.dicom.uids import fingerprint
from fetalflow.study.fhir_movement import movement_observations
from fetalflow.study.fhir_parts import HL7, absent, coding, concept, notes, quantity
from fetalflow.study.result import FOR_RESEARCH, JoinedLength, StudyResult, UsedModel

RESEARCH = {"security": [{"system": f"{HL7}/v3-ActReason", "code": "HRESCH", "display": "healthcare research"}]}
SUBJECT_NUMBERS = "PatientID", "IssuerOfPatientID", "StudyDate"


def fhir_bundle(result: StudyResult) -> dict[str, Any]:
    """A collection Bundle as plain dicts, lists, numbers and text, for JSON.

    The same result has the same ids. Where no file is DICOM, no patient and no study is known, and there is no subject.
    """
    seed, facts = fingerprint(result), _header(result)
    devices = [_entry("Device", f"{seed} device {each.task}", _device(each)) for each in result.models]
    urls = {model.task: each["fullUrl"] for each, model in zip(devices, result.models, strict=True)}
    observations = [
        _entry("Observation", f"{seed} {name}", _observation(facts, urls.get(task, "")) | stated)
        for task, figures in (("biometry", _figures(result)), ("movement", movement_observations(result)))
        for name, stated in figures
    ]
    report = {
        **_common(facts),
        "category": [{"coding": [{"system": f"{HL7}/v2-0074", "code": "OUS", "display": "OB Ultrasound"}]}],
        "code": concept(OBSTETRIC_SCAN),
        "result": [{"reference": each["fullUrl"]} for each in observations],
        "conclusion": "; ".join([FOR_RESEARCH.rstrip("."), *of_study(result)]),
    }
    if result.study_instance_uid:
        report["imagingStudy"] = [_study(result.study_instance_uid)]
    entries = [_entry("DiagnosticReport", f"{seed} report", report), *observations, *devices]
    return {
        "resourceType": "Bundle",
        "id": _id(f"{seed} bundle"),
        "meta": RESEARCH,
        "type": "collection",
        "entry": entries,
    }


def _header(result: StudyResult) -> dict[str, str]:
    """Number of the woman and day of the study, of the DICOM header; nothing where the files are not DICOM."""
    path = next((each.path for each in result.files if each.study_instance_uid and each.kind), None)
    if path is None:
        return {}
    header = header_of(path)
    return {keyword: str(header.get(keyword) or "").strip(" \0") for keyword in SUBJECT_NUMBERS}


def _figures(result: StudyResult) -> Iterable[tuple[str, dict[str, Any]]]:
    for length in result.lengths.values():
        yield length.name, _length(length, result)
    for structure, reason in result.missing.items():
        why = without_names(reason, result)
        yield f"no {structure}", _missing(LENGTH_CODES[LENGTHS[structure][0]], "not-performed", why) | _site(structure)
    for each in (*result.ages, *result.weights):
        yield each.name, _estimate(each, result.weeks, without_names(each.reason, result))


def _length(length: JoinedLength, result: StudyResult) -> dict[str, Any]:
    standing = Standing(length.low, length.high, length.level, length.z, length.percentile, result.weeks)
    stated = _value(LENGTH_CODES[length.name], length.value, MM, standing) | _site(length.structure)
    return stated | notes([*_population(standing), *clean(length.speaks_against, result)])


def _estimate(estimate: Estimate, weeks: float | None, reason: str) -> dict[str, Any]:
    name, unit = (AGE, WEEK) if estimate.unit == "weeks" else (WEIGHT, GRAM)
    method = {"text": estimate.name}
    if code := FORMULA_CODES.get((estimate.formula, estimate.lengths)):
        method["coding"] = [coding(code)]
    if estimate.value is None:
        return _missing(name, "not-applicable", reason) | {"method": method}
    standing = Standing(z=estimate.z, percentile=estimate.percentile, weeks=weeks)
    return (
        _value(name, estimate.value, unit, standing)
        | {"method": method}
        | notes([*_population(standing), *filter(None, [reason])])
    )


def _value(name: Code, value: float, unit: Code, standing: Standing) -> dict[str, Any]:
    """The interval is stated as in the DICOM report: its distances to the value, and its level."""
    value = round(float(value), DIGITS)
    parts: list[tuple[Code, float, Code]] = []
    if standing.low is not None and standing.high is not None:
        parts += [(UPPER, standing.high - value, unit), (LOWER, value - standing.low, unit)]
        parts += [] if standing.level is None else [(LEVEL, standing.level, ONE)]
    parts += [] if standing.percentile is None else [(GROWTH_PERCENTILE, standing.percentile, PERCENT)]
    parts += [] if standing.z is None else [(GROWTH_Z, standing.z, ONE)]
    stated = {"code": concept(name), "valueQuantity": quantity(value, unit)}
    if parts:
        stated["component"] = [
            {"code": concept(code), "valueQuantity": quantity(number, of)} for code, number, of in parts
        ]
    return stated


def _missing(name: Code, why: str, reason: str) -> dict[str, Any]:
    return {"code": concept(name), "dataAbsentReason": absent(why, reason)}


def _common(facts: dict[str, str]) -> dict[str, Any]:
    stated: dict[str, Any] = {"meta": RESEARCH, "status": "preliminary"}
    if facts.get("PatientID"):
        identifier = {"value": facts["PatientID"]}
        if facts.get("IssuerOfPatientID"):
            identifier["assigner"] = {"display": facts["IssuerOfPatientID"]}
        stated["subject"] = {"type": "Patient", "identifier": identifier}
    day = facts.get("StudyDate", "")
    if len(day) == 8 and day.isdigit():
        stated["effectiveDateTime"] = f"{day[:4]}-{day[4:6]}-{day[6:]}"
    return stated


def _observation(facts: dict[str, str], device: str) -> dict[str, Any]:
    category = {"system": f"{HL7}/observation-category", "code": "imaging", "display": "Imaging"}
    stated = {**_common(facts), "category": [{"coding": [category]}]}
    return stated | ({"device": {"reference": device}} if device else {})


def _device(model: UsedModel) -> dict[str, Any]:
    known = {"version": model.version, "network": model.network, "sha256": model.sha256, "engine": model.engine}
    return {
        "deviceName": [{"name": f"fetalflow {model.name}", "type": "model-name"}],
        "version": [{"type": {"text": name}, "value": value} for name, value in known.items() if value],
        "note": [{"text": FOR_RESEARCH}],
    }


def _population(standing: Standing) -> list[str]:
    return [] if standing.z is None else [f"z and percentile: {standing.population}"]


def _site(structure: str) -> dict[str, Any]:
    return {"bodySite": concept(STRUCTURE_CODES[structure])}


def _study(uid: str) -> dict[str, Any]:
    return {"type": "ImagingStudy", "identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}}


def _entry(kind: str, of: str, stated: dict[str, Any]) -> dict[str, Any]:
    return {"fullUrl": f"urn:uuid:{_id(of)}", "resource": {"resourceType": kind, "id": _id(of)} | stated}


def _id(of: str) -> str:
    return str(uuid5(NAMESPACE_OID, of))
