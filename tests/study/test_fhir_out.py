"""The figures of a study as FHIR R4: against a schema of the parts that are used, and against the result."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from bright_biometry import shown
from cine_files import save_dicom
from fhir_schema import resources
from measured_study import NAME, delivered, image, measured

from fetalflow.study.dicom.codes import AGE, GROWTH_PERCENTILE, GROWTH_Z, LENGTH_CODES, LEVEL, LOWER, UPPER, WEIGHT
from fetalflow.study.fhir import fhir_bundle


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
