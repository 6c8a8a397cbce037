"""The figures of a study as FHIR R4: against a schema of the parts that are used, and against the result."""

from dataclasses import replace

import cv2
import jsonschema
import numpy as np
import pytest
from bright_biometry import shown
from cine_files import save_dicom
from measured_study import NAME, delivered, image, measured

from fetalflow.study.dicom.codes import AGE, GROWTH_PERCENTILE, GROWTH_Z, LENGTH_CODES, LEVEL, LOWER, UPPER, WEIGHT
from fetalflow.study.fhir import fhir_bundle
from fetalflow.study.result import FOR_RESEARCH

TEXT, UUID = {"type": "string", "minLength": 1}, {"type": "string", "pattern": "^urn:uuid:[0-9a-f-]{36}$"}


def of(required=(), **parts):
    return {"type": "object", "properties": parts, "required": list(required), "additionalProperties": False}


def many(item):
    return {"type": "array", "items": item, "minItems": 1}


# The elements of FHIR R4 that we use, each with its kind and whether it must be there. An element that R4 does not know
# is refused here as by a server. Once checked with fhir.resources 8.3 (R4B), which is too large to be installed.
CODING = of(("system", "code"), system=TEXT, code=TEXT, display=TEXT)
CONCEPT = of(coding=many(CODING), text=TEXT)
QUANTITY = of(
    ("value", "code"), value={"type": "number"}, unit=TEXT, system={"const": "http://unitsofmeasure.org"}, code=TEXT
)
IDENTIFIER = of(("value",), system=TEXT, value=TEXT, assigner=of(display=TEXT))
REFERENCE = of(reference=UUID, type=TEXT, identifier=IDENTIFIER)
META = of(("security",), security=many(CODING))
NOTES = many(of(("text",), text=TEXT))
COMMON = {
    **{"resourceType": TEXT, "id": TEXT, "meta": META, "status": {"const": "preliminary"}, "subject": REFERENCE},
    **{"category": many(CONCEPT), "code": CONCEPT},
    "effectiveDateTime": {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"},
}
OBSERVATION = of(
    ("status", "code", "meta"),
    **COMMON,
    valueQuantity=QUANTITY,
    dataAbsentReason=CONCEPT,
    note=NOTES,
    bodySite=CONCEPT,
    method=CONCEPT,
    device=REFERENCE,
    component=many(of(("code",), code=CONCEPT, valueQuantity=QUANTITY)),
)
OBSERVATION["oneOf"] = [{"required": ["valueQuantity"]}, {"required": ["dataAbsentReason"]}]
SCHEMAS = {
    "DiagnosticReport": of(
        ("status", "code", "meta", "conclusion"),
        **COMMON,
        result=many(of(("reference",), reference=UUID)),
        conclusion=TEXT,
        imagingStudy=many(REFERENCE),
    ),
    "Observation": OBSERVATION,
    "Device": of(
        **{"resourceType": TEXT, "id": TEXT, "note": NOTES},
        deviceName=many(of(("name", "type"), name=TEXT, type={"const": "model-name"})),
        version=many(of(("value",), type=CONCEPT, value=TEXT)),
    ),
}


def resources(bundle, kind):
    """Of a bundle that was checked against the schemas."""
    urls = [each["fullUrl"] for each in bundle["entry"]]
    assert len(set(urls)) == len(urls) and (bundle["resourceType"], bundle["type"]) == ("Bundle", "collection")
    for each in bundle["entry"]:
        jsonschema.validate(each["resource"], SCHEMAS[each["resource"]["resourceType"]])
        assert each["fullUrl"] == f"urn:uuid:{each['resource']['id']}"
    report = bundle["entry"][0]["resource"]
    assert {each["reference"] for each in report.get("result", [])} <= set(urls) and FOR_RESEARCH.rstrip(".") in report[
        "conclusion"
    ]
    return [each["resource"] for each in bundle["entry"] if each["resource"]["resourceType"] == kind]


def coded(observations, code):
    return [each for each in observations if each["code"]["coding"][0]["code"] == code.value]


def parts(observation):
    return {each["code"]["coding"][0]["code"]: each["valueQuantity"] for each in observation.get("component", [])}


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return measured(delivered(tmp_path_factory.mktemp("study")))


def test_the_figures_are_those_of_the_result(result):
    bundle = fhir_bundle(result)
    found = resources(bundle, "Observation")
    assert len(found) == len(result.lengths) + len(result.ages) + len(result.weights)
    for name, length in result.lengths.items():
        (one,) = coded(found, LENGTH_CODES[name])
        assert one["valueQuantity"]["value"] == pytest.approx(length.value, abs=5e-4)
        stated = {GROWTH_Z.value: length.z, GROWTH_PERCENTILE.value: length.percentile}
        if length.low is not None:
            stated |= {UPPER.value: length.high - length.value, LOWER.value: length.value - length.low}
            stated |= {LEVEL.value: length.level}
        assert {code: each["value"] for code, each in parts(one).items()} == pytest.approx(stated, abs=1.1e-3)
        assert {parts(one)[code.value]["code"] for code in (UPPER, LOWER) if code.value in parts(one)} <= {"mm"}
    for code, estimates, unit in ((AGE, result.ages, "wk"), (WEIGHT, result.weights, "g")):
        values = [each["valueQuantity"] for each in coded(found, code)]
        assert [each["value"] for each in values] == pytest.approx([each.value for each in estimates], abs=5e-4)
        assert {each["code"] for each in values} == {unit}
        assert [each["method"]["text"] for each in coded(found, code)] == [each.name for each in estimates]
    (device,) = resources(bundle, "Device")
    assert {each["value"] for each in device["version"]} >= {"3", "ab" * 32}


def test_it_refers_to_woman_and_study_by_their_numbers_and_names_nobody(result):
    (report,) = resources(fhir_bundle(result), "DiagnosticReport")
    assert report["subject"]["identifier"] == {"value": "P-17"} and report["effectiveDateTime"] == "2026-03-01"
    assert report["imagingStudy"][0]["identifier"]["value"] == f"urn:oid:{result.study_instance_uid}"
    assert report["meta"]["security"][0]["code"] == "HRESCH"
    assert "Müller" not in str(fhir_bundle(result)) and ".dcm" not in str(fhir_bundle(result))


def test_the_same_result_has_the_same_ids(result):
    assert fhir_bundle(result) == fhir_bundle(replace(result))
    assert fhir_bundle(result)["id"] != fhir_bundle(replace(result, fetalflow="9"))["id"]


@pytest.mark.parametrize("kind", ["nothing to measure", "no DICOM"])
def test_a_figure_that_is_missing_has_the_reason(kind, tmp_path):
    if kind == "no DICOM":
        path = tmp_path / f"{NAME}.png"
        cv2.imwrite(str(path), shown("head")[0])  # it has no scale, so its lengths are in pixels
    else:
        path = save_dicom(tmp_path / "empty.dcm", image(4, np.full((1, 240, 320), 20, np.uint8)))
    bundle = fhir_bundle(measured([path]))
    found = resources(bundle, "Observation")
    assert len(found) == 3 and all(each["dataAbsentReason"]["text"] for each in found)
    assert ("subject" in found[0]) == (kind != "no DICOM") and NAME not in str(bundle)
