"""The smallest parts of a FHIR resource: codes and quantities, as plain dicts."""

from typing import Any

from pydicom.sr.coding import Code

from fetalflow.study.dicom.codes import OURS
from fetalflow.study.dicom.numbers import DIGITS

SYSTEMS = {
    "LN": "http://loinc.org",
    "SCT": "http://snomed.info/sct",
    "UCUM": "http://unitsofmeasure.org",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    OURS: "urn:fetalflow:codes",
}
HL7 = "http://terminology.hl7.org/CodeSystem"


def concept(code: Code) -> dict[str, Any]:
    return {"coding": [coding(code)], "text": code.meaning}


def coding(code: Code) -> dict[str, str]:
    return {"system": SYSTEMS[code.scheme_designator], "code": code.value, "display": code.meaning}


def quantity(value: float, unit: Code) -> dict[str, Any]:
    return {"value": round(float(value), DIGITS), "unit": unit.value, "system": SYSTEMS["UCUM"], "code": unit.value}


def absent(why: str, reason: str) -> dict[str, Any]:
    """Why there is no value. why: a code of HL7's data-absent-reason."""
    return {"coding": [{"system": f"{HL7}/data-absent-reason", "code": why}], "text": reason or why}


def notes(texts: list[str]) -> dict[str, Any]:
    return {"note": [{"text": text} for text in texts]} if texts else {}
