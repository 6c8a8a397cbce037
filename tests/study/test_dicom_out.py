"""The results of a study in DICOM: valid, in the study of the sources, opened again and compared with the figures."""

import shutil
import subprocess
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import highdicom
import numpy as np
import pytest
from bright_biometry import shown
from cine_files import save_dicom
from dicom_standard import faults
from highdicom.sr import GraphicTypeValues
from measured_study import NAME, WEEKS, delivered, image, measured, models
from pydicom import dcmread
from pydicom.sr.codedict import codes
from pydicom.uid import UID

from fetalflow.biometry.structures import LENGTHS
from fetalflow.errors import InputError
from fetalflow.study.dicom.codes import (
    AGE,
    FORMULA_CODES,
    LENGTH_CODES,
    LEVEL,
    LOWER,
    NOT_MEASURED,
    SEVERAL_LENGTHS_AGE,
    UPPER,
    WEIGHT,
)
from fetalflow.study.dicom.measurement_report import shown_frames
from fetalflow.study.dicom.sentences import without_names
from fetalflow.study.dicom.writing import check_request, objects_of, write_dicom
from fetalflow.study.result import FOR_RESEARCH
from flows.cli.examine import examine

OF_NAME = {code.value: name for name, code in LENGTH_CODES.items()}
HEAD = shown("head", axes=(78, 62))
EXACT = 5e-4  # half of the last digit that is written


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The result, its files, and what was written."""
    folder = tmp_path_factory.mktemp("study")
    result = measured(delivered(folder))
    out = folder.parent / f"{folder.name}-out"
    return result, folder, write_dicom(result, out)


@pytest.fixture(scope="module")
def report(study):
    return highdicom.sr.srread(study[2][0])


def written(study, modality):
    return [dcmread(path) for path in study[2] if path.name.startswith(f"{modality}.")]


def groups(report):
    """The groups of the report by their title."""
    found = report.content.get_image_measurement_groups()
    return {each.tracking_identifier: each for each in found}


def children(item, name):
    return [each for each in item.get("ContentSequence", []) if each.ConceptNameCodeSequence[0].CodeValue == name.value]


def numbers(item, code):
    return [float(each.MeasuredValueSequence[0].NumericValue) for each in children(item, code)]


def unit(item):
    return item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue


def comments(item):
    return [each.TextValue for each in children(item, codes.DCM.Comment)]


def test_dicom_validator_finds_no_fault_and_every_object_is_in_the_study_of_the_sources(study):
    result, folder, files = study
    assert Counter(path.name.split(".")[0] for path in files) == {"SR": 1, "SEG": 3, "SC": 3}
    assert {path.name: faults(path) for path in [*files, *folder.iterdir()]} == dict.fromkeys(
        [path.name for path in [*files, *folder.iterdir()]], []
    )
    source = dcmread(folder / "head.dcm")
    made = [dcmread(path) for path in files]
    for each in made:
        for keyword in ("StudyInstanceUID", "PatientName", "PatientID", "PatientBirthDate", "AccessionNumber"):
            assert each[keyword].value == source[keyword].value
        assert FOR_RESEARCH in each.SeriesDescription and each.Manufacturer == "fetalflow"
        assert "InstitutionName" not in each and each.SOPInstanceUID.is_valid
    assert len({each.SeriesInstanceUID for each in made}) == 3 and source.SeriesInstanceUID not in made


def test_the_validator_sees_a_fault_deep_in_a_report(study, tmp_path):
    broken = dcmread(study[2][0])
    (group,) = children(broken, codes.DCM.ImagingMeasurements)
    del next(each for each in group.ContentSequence[0].ContentSequence if each.ValueType == "NUM").MeasuredValueSequence
    assert faults(save_dicom(tmp_path / "broken.dcm", broken))


@pytest.mark.parametrize("tool", ["dsrdump", "dcmdump", "dciodvfy"])
def test_the_tools_of_others_read_it(study, tool):
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed: apt-get install dcmtk dicom3tools")
    for path in study[2]:
        if tool == "dsrdump" and not path.name.startswith("SR."):
            continue
        ran = subprocess.run([tool, path], capture_output=True, text=True)
        faulty = [line for line in ran.stderr.splitlines() if line.startswith(("E:", "Error"))]
        assert ran.returncode == 0 and not faulty, faulty


def test_the_report_states_the_lengths_of_the_study_with_interval_and_growth(study, report):
    result, found = study[0], {}
    for structure in LENGTHS:
        for number in groups(report)[f"{structure} of the study"].get_measurements():
            found[OF_NAME[number.name.value]] = number
    assert set(found) == set(result.lengths) == {"hc", "bpd", "ofd", "ac", "fl"}
    for name, length in result.lengths.items():
        item = found[name][0]
        assert (found[name].value, unit(item)) == (pytest.approx(length.value, abs=EXACT), "mm")
        assert numbers(item, codes.DCM.ZScoreOfMeasurement) == [pytest.approx(length.z, abs=EXACT)]
        assert numbers(item, codes.DCM.PercentileRankingOfMeasurement) == [pytest.approx(length.percentile, abs=0.05)]
        stated = [] if length.low is None else [length.high - length.value, length.value - length.low, length.level]
        assert [*numbers(item, UPPER), *numbers(item, LOWER), *numbers(item, LEVEL)] == pytest.approx(
            stated, abs=2 * EXACT
        )
        assert all(unit(each) == "mm" for code in (UPPER, LOWER) for each in children(item, code))
        authority = [each.TextValue for each in item.ContentSequence if each.ValueType == "TEXT"]
        assert f"INTERGROWTH-21st, at the stated age of {WEEKS:g} weeks" in authority
    assert result.lengths["hc"].level and result.lengths["ac"].level is None  # both kinds are tried


@pytest.mark.parametrize(("title", "name", "of"), [("gestational age", AGE, "ages"), ("weight", WEIGHT, "weights")])
def test_the_report_states_age_and_weight_with_their_formulas(study, report, title, name, of):
    items = [each[0] for each in groups(report)[title].get_measurements(name)]
    estimates = getattr(study[0], of)
    assert len(items) == len(estimates) == 2
    for item, estimate in zip(items, estimates, strict=True):
        assert float(item.MeasuredValueSequence[0].NumericValue) == pytest.approx(estimate.value, abs=EXACT)
        assert unit(item) == {"weeks": "wk", "g": "g"}[estimate.unit]
        used = {each: numbers(item, LENGTH_CODES[each]) for each in estimate.lengths}
        assert used == {each: [pytest.approx(study[0].lengths[each].value, abs=EXACT)] for each in estimate.lengths}
        code = FORMULA_CODES.get((estimate.formula, estimate.lengths))
        coded = [each.ConceptCodeSequence[0].CodeValue for each in children(item, codes.DCM.Equation)]
        cited = [each.TextValue for each in children(item, codes.DCM.EquationCitation)]
        assert (coded, cited) == (([code.value], []) if code else ([], [estimate.name]))
    percentiles = [numbers(item, codes.DCM.PercentileRankingOfMeasurement) for item in items]
    assert percentiles == [[] if e.percentile is None else [pytest.approx(e.percentile, abs=0.05)] for e in estimates]


def test_the_report_for_obstetric_systems_has_the_same_figures_with_ages_in_days(study, tmp_path):
    result = study[0]
    made = objects_of(replace(result, examinations=()), obgyn=True)
    path = save_dicom(tmp_path / "obgyn.dcm", made[1])
    assert not faults(path) and made[1].SeriesInstanceUID == made[0].SeriesInstanceUID
    (summary,) = children(made[1], codes.DCM.Summary)
    (fetus,) = children(summary, codes.DCM.FetusSummary)
    assert numbers(fetus, WEIGHT) == pytest.approx([each.value for each in result.weights], abs=EXACT)
    ages = children(fetus, SEVERAL_LENGTHS_AGE)
    assert numbers(fetus, SEVERAL_LENGTHS_AGE) == pytest.approx([7 * each.value for each in result.ages], abs=EXACT)
    assert {unit(each) for each in ages} == {"d"}
    assert any(f"sha256 of the weights: {'ab' * 32}" in each for each in comments(summary))
    (biometry,) = children(made[1], codes.DCM.FetalBiometry)
    found = {}
    for group in children(biometry, codes.DCM.BiometryGroup):
        length = next(each for each in group.ContentSequence if each.ConceptNameCodeSequence[0].CodeValue in OF_NAME)
        name = OF_NAME[length.ConceptNameCodeSequence[0].CodeValue]
        found[name] = (
            float(length.MeasuredValueSequence[0].NumericValue),
            numbers(group, codes.DCM.GrowthPercentileRank),
        )
    expected = {name: (each.value, [each.percentile]) for name, each in result.lengths.items()}
    assert found.keys() == expected.keys()
    for name, (value, rank) in found.items():
        assert value == pytest.approx(expected[name][0], abs=EXACT) and rank == pytest.approx(
            expected[name][1], abs=EXACT
        )


def test_the_calipers_measure_the_lengths_in_the_pixels_of_the_file(study, report):
    result = study[0]
    views = list(shown_frames(result))
    assert len(views) == 3
    for view, frame in views:
        file = result.file(view.file)
        group = groups(report)[f"{view.structure} in image {file.sop_instance_uid}"]
        down, across = (
            frame.mm_per_px * size for size in (frame.height / file.recorded[0], frame.width / file.recorded[1])
        )
        measures = [each for each in group.get_measurements() if each.name.value in OF_NAME]
        assert [OF_NAME[each.name.value] for each in measures] == list(frame.lengths)
        for number in measures:
            (coordinates,) = number.referenced_coordinates
            points = coordinates.value * [across, down]
            if coordinates.graphic_type == GraphicTypeValues.ELLIPSE:
                long, short = (np.linalg.norm(points[i] - points[i + 1]) for i in (0, 2))
                length = np.pi * (3 * (long + short) / 2 - np.sqrt((3 * long + short) * (long + 3 * short)) / 2)
            else:
                length = np.linalg.norm(np.diff(points, axis=0), axis=1).sum()
            assert length == pytest.approx(number.value, rel=2e-4)
            referred = coordinates.ContentSequence[0].ReferencedSOPSequence[0]
            assert referred.ReferencedSOPInstanceUID == file.sop_instance_uid
            assert referred.ReferencedSOPClassUID == file.sop_class_uid
            assert referred.get("ReferencedFrameNumber") == (frame.frame + 1 if file.frames > 1 else None)
            middle = points.reshape(-1, 2).mean(axis=0) / [across, down]
            rows, columns = np.nonzero(frame.pixels)
            assert middle == pytest.approx(
                [
                    (columns.mean() + 0.5) * file.recorded[1] / frame.width,
                    (rows.mean() + 0.5) * file.recorded[0] / frame.height,
                ],
                abs=1.0,
            )
        model = comments(group[0]), [each.TextValue for each in children(group[0], codes.DCM.AlgorithmParameters)]
        assert "it counts for the study" in model[0] and f"sha256 of the weights: {'ab' * 32}" in model[1]


def test_a_segmentation_holds_the_mask_of_every_measured_frame(study, report):
    result = study[0]
    for path in study[2]:
        if not path.name.startswith("SEG."):
            continue
        masks = highdicom.seg.segread(path)
        (uid,) = {each[2] for each in masks.get_source_image_uids()}
        file = next(each for each in result.files if each.sop_instance_uid == uid)
        frames = [each for each in result.frames if each.file == file.name]
        assert masks.NumberOfFrames == len(frames) == {"femur cine.dcm": 6}.get(file.name, 1)
        assert (masks.Rows, masks.Columns) == file.recorded
        referred = [
            each.DerivationImageSequence[0].SourceImageSequence[0].get("ReferencedFrameNumber", 1)
            for each in masks.PerFrameFunctionalGroupsSequence
        ]
        assert referred == [each.frame + 1 for each in frames]
        pixels = masks.pixel_array.reshape(len(frames), *file.recorded)
        for group, mask in zip(masks.PerFrameFunctionalGroupsSequence, pixels, strict=True):
            source = group.DerivationImageSequence[0].SourceImageSequence[0]
            number = source.get("ReferencedFrameNumber", 1)
            frame = next(each for each in frames if each.frame == number - 1)
            assert ("ReferencedFrameNumber" in source) == (file.frames > 1)
            assert source.ReferencedSOPClassUID == file.sop_class_uid
            expected = frame.pixels if frame.pixels.shape == file.recorded else frame.pixels[:, ::2]
            assert (mask == expected).mean() > 0.999 and mask.any()
        segment = masks.SegmentSequence[0]
        title = f"{segment.SegmentLabel} in image {uid}"
        assert groups(report)[title].tracking_uid == segment.TrackingUID
        assert segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion == "3"


def test_two_structures_of_one_cine_are_two_segments(study):
    result = study[0]
    bones = [each for each in result.frames if each.file == "femur cine.dcm"]
    head = next(each for each in result.frames if each.structure == "head")
    others = [replace(head, file=each.file, frame=each.frame) for each in bones[:2]]
    kept = [each for each in result.frames if not any(each is bones[i] for i in (1, 3))]  # frame 3 has no length then
    made = objects_of(replace(result, frames=(*kept, *others), examinations=()))
    masks = next(each for each in made if each.Modality == "SEG" and len(each.SegmentSequence) == 2)
    assert [each.SegmentLabel for each in masks.SegmentSequence] == ["head", "femur"]
    numbers_of = [
        each.SegmentIdentificationSequence[0].ReferencedSegmentNumber for each in masks.PerFrameFunctionalGroupsSequence
    ]
    assert numbers_of == [1, 1, 2, 2, 2, 2]
    places = [each.FrameContentSequence[0] for each in masks.PerFrameFunctionalGroupsSequence]
    assert [each.TemporalPositionIndex for each in places] == [1, 2, 1, 3, 4, 5]  # counted without gaps
    assert [each.DimensionIndexValues[1] for each in places] == [1, 2, 1, 3, 4, 5]
    assert masks.SegmentsOverlap == "YES"  # the femur lies where the head is, so both cannot be right
    assert (masks.pixel_array[0] == head.pixels).all() and (masks.pixel_array[2] == bones[0].pixels).all()


def test_the_pictures_are_marked_as_drawn_into(study):
    for picture in written(study, "SC"):
        pixels = picture.pixel_array
        assert picture.BurnedInAnnotation == "YES" and picture.ImageComments == FOR_RESEARCH
        assert picture.ImageType[0] == "DERIVED" and pixels.shape[1] >= 640 and pixels.ndim == 3
        colourful = np.ptp(pixels.astype(int), axis=2) > 40
        assert colourful.any()  # the outline
        assert (pixels[-30:] > 200).any()  # the sentence below the picture
    referred = {each.SourceImageSequence[0].ReferencedSOPInstanceUID for each in written(study, "SC")}
    assert referred == {study[0].file(name).sop_instance_uid for name, _ in study[0].best.values()}


def test_the_same_images_and_model_are_the_same_objects_whatever_the_files_are_called(study, tmp_path):
    result, folder, files = study
    for number, name in enumerate(["head.dcm", "femur cine.dcm", "empty.dcm", "abdomen.dcm"]):
        shutil.copy(folder / name, tmp_path / f"{number}.dcm")
    shutil.copy(files[0], tmp_path)  # a study comes back from the PACS with the report in it
    before = {path: path.read_bytes() for path in files}
    again = write_dicom(measured([tmp_path]), files[0].parent)  # the same results may be written again
    assert {path: path.read_bytes() for path in again} == before
    newer = replace(result, models=(replace(result.models[0], sha256="cd" * 32),), examinations=())
    assert not {each.SOPInstanceUID for each in objects_of(newer)} & {dcmread(path).SOPInstanceUID for path in files}


NOBODY = ("PatientName", "PatientID", "PatientSex", "PatientBirthDate", "AccessionNumber", "StudyID")
ODD = {
    "without a patient and a date": dict.fromkeys((*NOBODY, "ReferringPhysicianName", "StudyDate", "StudyTime")),
    "values that the standard forbids": {"PatientSex": "FEMALE", "StudyTime": "noon"},
    "moved dates without names": {
        **{"PatientName": "", "PatientIdentityRemoved": "YES", "DeidentificationMethod": "fetalflow"},
        "LongitudinalTemporalInformationModified": "MODIFIED",
    },
    "letters of another alphabet": {"SpecificCharacterSet": "ISO_IR 144", "PatientName": "Иванова^Анна"},
    "a retired class, a place in space, lossy": {
        **{"SOPClassUID": UID("1.2.840.10008.5.1.4.1.1.6"), "FrameOfReferenceUID": "1.2.3"},
        **{"LossyImageCompression": "01", "LossyImageCompressionRatio": "12"},
        "LossyImageCompressionMethod": "ISO_10918_1",
    },
}


@pytest.mark.parametrize("elements", ODD.values(), ids=ODD)
def test_an_odd_header_stops_no_report_and_is_copied_as_it_is(elements, tmp_path):
    path = save_dicom(tmp_path / "head.dcm", image(1, HEAD, **elements))
    result = replace(measured([path]), examinations=())  # to draw pictures takes long
    source = dcmread(path)
    with warnings.catch_warnings(action="error"):  # a warning of pydicom quotes the value
        written = write_dicom(result, tmp_path / "out")
    assert [path.name.split(".")[0] for path in written] == ["SR", "SEG"]
    for path_of in written:
        again = dcmread(path_of)
        for keyword in (
            "PatientName",
            "PatientSex",
            "PatientIdentityRemoved",
            "LongitudinalTemporalInformationModified",
        ):
            assert str(again.get(keyword) or "") == str(source.get(keyword) or "")
        new = {each.partition(" / ")[2] for each in faults(path_of)}
        assert not new or new <= {each.partition(" / ")[2] for each in faults(path)}
        referred = {
            item.ReferencedSOPClassUID
            for element in again.iterall()
            if element.VR == "SQ"
            for item in element.value
            if item.get("ReferencedSOPInstanceUID") == source.SOPInstanceUID
        }
        assert referred == {source.SOPClassUID}


def test_the_name_of_a_file_is_in_no_object(tmp_path):
    for number, name in enumerate([f"{NAME} head.dcm", f"{NAME} again.dcm"], start=1):
        save_dicom(tmp_path / name, image(number, HEAD, PatientName="", PatientID=None if number == 1 else "P-17"))
    (tmp_path / f"{NAME} letter.txt").write_text("about her")
    result = measured([tmp_path])
    assert any(NAME in each for each in result.warnings)  # the page names the files
    made = objects_of(result)
    for each in made:
        save_dicom(tmp_path / "made.dcm", each)
        data = (tmp_path / "made.dcm").read_bytes()
        assert NAME.encode() not in data and "Müller".encode() not in data and str(tmp_path).encode() not in data
    image_uid = result.files[1].sop_instance_uid
    assert any(each.startswith(f"image {image_uid}: no patient is stated") for each in comments(made[0]))


def test_what_was_not_measured_is_stated_with_the_reason(tmp_path):
    path = save_dicom(tmp_path / "empty.dcm", image(4, np.full((1, 240, 320), 20, np.uint8)))
    made = objects_of(measured([path]), obgyn=True)
    assert [each.Modality for each in made] == ["SR", "SR"]
    save_dicom(tmp_path / "obgyn.dcm", made[1])
    save_dicom(tmp_path / "report.dcm", made[0])
    assert not faults(tmp_path / "report.dcm") and not faults(tmp_path / "obgyn.dcm")
    assert any(each.startswith("no head: ") for each in comments(children(made[1], codes.DCM.Summary)[0]))
    found = groups(highdicom.sr.srread(tmp_path / "report.dcm"))
    for structure, names in LENGTHS.items():
        group = found[f"{structure} of the study"]
        (missing,) = children(group[0], LENGTH_CODES[names[0]])
        assert missing.ConceptCodeSequence[0].CodeValue == NOT_MEASURED.value and comments(missing)
        assert not group.get_measurements()


@pytest.mark.parametrize(
    ("name", "elements", "sentence"),
    [
        ("head.png", {}, "head.png is not DICOM"),
        ("head.dcm", {"SeriesInstanceUID": None}, "head.dcm states no SeriesInstanceUID"),
        ("head.dcm", {"StudyInstanceUID": ""}, "head.dcm states no StudyInstanceUID"),
    ],
)
def test_a_file_that_no_report_can_refer_to_is_refused(name, elements, sentence, tmp_path):
    path = tmp_path / name
    if path.suffix == ".png":
        cv2.imwrite(str(path), HEAD[0])
        with pytest.raises(InputError, match=sentence):  # before a model is looked for
            examine([path], out=tmp_path / "page", dicom=tmp_path / "out", workspace=tmp_path)
    else:
        save_dicom(path, image(1, HEAD, **elements))
    with pytest.raises(InputError, match=sentence):
        objects_of(measured([path]))
    assert not (tmp_path / "out").exists()


def test_the_folder_must_hold_nothing_else(study, tmp_path):
    _, folder, files = study
    (tmp_path / "note.txt").write_text("")
    with pytest.raises(InputError, match=r"found 1 other file \(note.txt\)"):
        check_request([folder], tmp_path)
    with pytest.raises(InputError, match="found a file"):
        check_request([folder], tmp_path / "note.txt")
    with pytest.raises(InputError, match="expected a new or empty folder"):
        write_dicom(replace(measured([folder / "head.dcm"]), examinations=()), files[0].parent)


def test_the_command_writes_all_of_it_and_names_the_places(study, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("flows.cli.examine._models", lambda *of: (models(), []))
    monkeypatch.setattr("fetalflow.report.paper.print_page", lambda page, printed: "not tried")
    path = study[1] / "head.dcm"
    out, dicom, fhir = tmp_path / "page", tmp_path / "dicom", tmp_path / "figures.json"
    examine([path], out=out, weeks=WEEKS, dicom=dicom, obgyn=True, fhir=fhir)
    assert sorted(each.name.split(".")[0] for each in dicom.iterdir()) == ["SC", "SEG", "SR", "SR"]
    assert f"{dicom}, 4 files" in (said := capsys.readouterr().out) and str(fhir) in said and fhir.is_file()
    for wrong in ({"obgyn": True}, {"fhir": tmp_path}, {"dicom": fhir}):
        with pytest.raises(InputError):
            examine([path], out=out, **wrong)


@pytest.mark.parametrize(
    ("names", "text", "said"),
    [
        (["Jane Doe.dcm"], "Jane Doe.dcm: no length", "image 1: no length"),
        (
            ["a.dcm", "b.dcm"],
            "unlike the training data in a.dcm, b.dcm.",
            "unlike the training data in image 1, image 2.",
        ),
        (["1.2.3", "1.2.3.4"], "1.2.3.4: HC 1.2 mm; 1.2.3: HC 1.2 mm", "image 2: HC 1.2 mm; image 1: HC 1.2 mm"),
        (
            ["head", "6"],
            "head: no head in 6 of 9 frames; 6: no head",
            "image 1: no head in 6 of 9 frames; image 2: no head",
        ),
        (["doe+(1)"], "doe+(1): cut off", "image 1: cut off"),
        (["x/Doe.dcm"], "Doe.dcm: cut off; x/Doe.dcm: cut off", "image 1: cut off; image 1: cut off"),
    ],
)
def test_a_sentence_names_an_image_by_its_uid(study, names, text, said):
    file = study[0].files[0]
    files = [
        replace(file, name=name, path=Path(name), sop_instance_uid=str(i)) for i, name in enumerate(names, start=1)
    ]
    assert without_names(text, replace(study[0], files=tuple(files))) == said
