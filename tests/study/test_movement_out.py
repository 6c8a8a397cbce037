"""Movement in the record: the answer of a cine and its events in DICOM and FHIR, read back and compared by value."""

import shutil
import subprocess
from dataclasses import replace

import highdicom
import pytest
from cine_files import save_dicom
from dicom_standard import faults
from fhir_schema import resources
from measured_study import delivered, measured

from fetalflow.inference.actogram.result import Actogram, Event, NotSaid, WholeAnswer
from fetalflow.study.dicom import movement_figures as names
from fetalflow.study.dicom.codes import NOT_CALCULATED
from fetalflow.study.dicom.writing import objects_of
from fetalflow.study.fhir import fhir_bundle
from fetalflow.study.page import page
from fetalflow.study.result import UsedModel

CINE = "femur cine.dcm"
ARM = Event(1, 3, 0.04, 0.16, "arm", 0.71, "", 21.5, 40.0, 2.58)
NAMELESS = Event(4, 5, 0.16, 0.24, None, None, "no label is likely enough", 8.0, 9.0, 0.64)
WHOLE = WholeAnswer("arm", 0.7, ("arm", "leg"), 0.9, 0.75, 0.0, 12)
ODD = "Bein\\links " + 70 * "x"  # a label of a hospital that DICOM cannot hold as it is
MOVED = Actogram(
    source=CINE, seconds=60.0, fps=25.0, unit="mm", labels=("arm", "leg"), judged_s=50.0, moving_s=12.5, still_s=37.5,
    not_said_s=10.0, longest_still_s=20.25, events_per_minute=2.4, events=(ARM, NAMELESS),
    not_said=(NotSaid(0.0, 10.0, "the probe moves too much"),), time_s=(), activity=(), speed=(), probe=(),
    remarks=(f"{CINE} states no scale",), answer=WHOLE,
)  # fmt: skip
CASES = {
    "events, and a set": MOVED,
    "no network": replace(MOVED, labels=(), events=(NAMELESS,), answer=None),
    "px, too short for a rate": replace(MOVED, unit="px", events_per_minute=None, events=(ARM,)),
    "unlike the training data": replace(
        MOVED, events=(), answer=WholeAnswer(None, None, None, None, 0.5, 0.8, 5)
    ),
    "nothing moves": replace(MOVED, events=(), answer=WholeAnswer(None, None, None, None, 0.5, 0.0, 5)),
    "nothing can be judged": replace(MOVED, judged_s=0.0, moving_s=0.0, events=(), events_per_minute=None),
    "a label of a hospital": replace(
        MOVED, events=(replace(ARM, label=ODD),), answer=replace(WHOLE, label=ODD, label_set=(ODD,))
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """The cine of the study, without pictures, which take long to draw."""
    paths = delivered(tmp_path_factory.mktemp("study"))
    result = measured([path for path in paths if path.name == CINE])
    model = UsedModel("movement", "fetal-movement", "7", "fetalmovnet_s", "cd" * 32, "onnx")
    return replace(result, examinations=(), models=(*result.models, model))


def stated(actogram: Actogram) -> dict[str, dict[str, tuple[float, str]]]:
    """Value and unit by code, of the cine and of each event, as they must be read back."""
    of = {"": names.of_cine(actogram)}
    of |= {str(n): names.of_event(event, actogram.unit) for n, event in enumerate(actogram.events, start=1)}
    return {
        key: {code.value: (round(value, 3), unit.value) for code, value, unit in figures} for key, figures in of.items()
    }


def children(item, name):
    return [each for each in item.get("ContentSequence", []) if each.ConceptNameCodeSequence[0].CodeValue == name]


def code_in(item) -> str:
    code = item.ConceptCodeSequence[0]
    return code.get("CodeValue") or code.LongCodeValue


@pytest.mark.parametrize("actogram", CASES.values(), ids=CASES)
def test_the_report_states_the_movement_of_a_cine_with_its_frames(bare, actogram, tmp_path):
    made = objects_of(replace(bare, movement=(actogram,)))[0]
    path = save_dicom(tmp_path / "report.dcm", made)
    assert not faults(path)
    if shutil.which("dsrdump"):
        ran = subprocess.run(["dsrdump", path], capture_output=True, text=True)
        assert ran.returncode == 0 and not [
            line for line in ran.stderr.splitlines() if line.startswith(("E:", "Error"))
        ]
    uid = bare.file(CINE).sop_instance_uid
    found = {}
    for group in highdicom.sr.srread(path).content.get_image_measurement_groups():
        title = group.tracking_identifier
        if not title.startswith("movement"):
            continue
        number = title.removeprefix("movement").removesuffix(f"in image {uid}").strip()
        found[number] = {each.name.value: (each.value, each.unit.value) for each in group.get_measurements()}
        (image,) = group.source_images
        assert image.referenced_sop_instance_uid == uid
        event = actogram.events[int(number) - 1] if number else None
        frames = None if event is None else list(range(event.first_frame + 1, event.last_frame + 2))
        assert image.referenced_frame_numbers == frames
        (part,) = children(group[0], names.PART.value)
        code, reason = names.part_in(event or actogram)
        assert code_in(part) == (code.value if code else NOT_CALCULATED.value)
        assert [each.TextValue for each in children(part, "121106")] == ([] if code else [reason])
        said = [each.TextValue for each in group[0].ContentSequence if each.ValueType == "TEXT"]
        assert "fetalflow fetal-movement" in said and f"sha256 of the weights: {'cd' * 32}" in said
        assert [code_in(each) for each in children(group[0], names.NOT_EXCLUDED.value)] == (
            [] if event else [each.value for each in names.not_excluded(actogram)]
        )
        if not number:
            said = [each.TextValue for each in children(group[0], "121106")]
            assert said == ["0.0 to 10.0 s: it is not said: the probe moves too much", f"image {uid} states no scale"]
    assert found == stated(actogram)
    assert CINE not in str(made)


@pytest.mark.parametrize("actogram", CASES.values(), ids=CASES)
def test_fhir_states_the_same_figures(bare, actogram):
    found = resources(fhir_bundle(replace(bare, movement=(actogram,))), "Observation")
    moved = [each for each in found if each["code"]["coding"][0]["code"] in ("fetal-movement", "one-movement")]
    read = {}
    for number, each in enumerate(moved):
        parts = {part["code"]["coding"][0]["code"]: part for part in each["component"]}
        first = (names.DURATION if number else names.MOVING).value
        quantities = {first: each["valueQuantity"]}
        quantities |= {code: part["valueQuantity"] for code, part in parts.items() if "valueQuantity" in part}
        read[str(number or "")] = {code: (value["value"], value["code"]) for code, value in quantities.items()}
        assert parts["image"]["valueString"] == bare.file(CINE).sop_instance_uid
        event = actogram.events[number - 1] if number else None
        if event:
            assert [parts[name]["valueInteger"] for name in ("first-frame", "last-frame")] == [
                event.first_frame + 1, event.last_frame + 1
            ]  # fmt: skip
        code, reason = names.part_in(event or actogram)
        part = parts[names.PART.value]
        if code is None:
            assert part["dataAbsentReason"]["text"] == reason
        else:
            assert part["valueCodeableConcept"]["coding"][0]["code"] == code.value
        assert each["device"] != found[0]["device"]
    assert read == stated(actogram) and CINE not in str(moved)


def test_movement_changes_the_uids_and_its_absence_does_not(bare):
    """A PACS must not take a report with movement for the one without; names of files change nothing."""
    plain, moved = objects_of(bare)[0], objects_of(replace(bare, movement=(MOVED,)))[0]
    assert plain.SOPInstanceUID != moved.SOPInstanceUID
    files = tuple(replace(each, name=f"x{each.name}") for each in bare.files)
    renamed = replace(MOVED, source=f"x{CINE}", remarks=(f"x{CINE} states no scale",))
    again = replace(
        bare, files=files, movement=(renamed,),
        views=tuple(replace(each, file=f"x{each.file}") for each in bare.views),
        frames=tuple(replace(each, file=f"x{each.file}") for each in bare.frames),
        planes=tuple(replace(each, file=f"x{each.file}") for each in bare.planes),
        best={structure: (f"x{name}", frame) for structure, (name, frame) in bare.best.items()},
    )  # fmt: skip
    assert objects_of(again)[0].SOPInstanceUID == moved.SOPInstanceUID


def test_every_name_fits_into_its_element():
    for code in vars(names).values():
        if isinstance(code, names.Code):
            assert len(code.value) <= 16 and len(code.meaning) <= 64
    odd = names.part_of(ODD)
    assert (len(odd.value), len(odd.meaning)) == (16, 64) and "\\" not in odd.value + odd.meaning


def test_the_page_says_the_answer_of_the_whole_cine(bare):
    assert "Whole cine: arm (0.70), not excluded: arm, leg; likeliest in 75% of 12 windows" in page(
        replace(bare, movement=(MOVED,))
    )
