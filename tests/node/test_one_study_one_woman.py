"""Objects that do not fit to what the node has: another woman, picture or study; and a machine without room."""

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from cine_files import dicom, speckle
from node_studies import SCANNER, a_node, as_bytes, send
from pydicom import DataElement, Dataset
from pydicom.uid import JPEG2000Lossless, RLELossless

from fetalflow.node import taking
from fetalflow.node.delivering import deliver
from fetalflow.node.listening import OUT_OF_RESOURCES, listening
from fetalflow.node.receipts import Receipts
from fetalflow.node.taking import Refused, take

PARTS = {"one": ("1.5", 1), "another of the study": ("1.5", 2), "another study": ("1.6", 1)}


def one(which: str = "one", seed: int = 1, **elements) -> Dataset:
    study, number = PARTS[which]
    made = dicom(speckle(2, seed=seed), PatientID="8", StudyInstanceUID=study, SeriesInstanceUID=f"{study}.1")
    made.StudyDescription, made.SOPInstanceUID = "CLINIC head", f"{study}.1.{number}"
    for name, value in elements.items():
        setattr(made, name, value)
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    return made


def twice(folder, first: Dataset, second: Dataset, key) -> str:
    """Why the second object is refused, "" if it is not; the first one stays as it was."""
    with a_node(folder, **({} if key else {"key": None})) as node:
        held = take(node, as_bytes(first), SCANNER)
        try:
            take(node, as_bytes(second), SCANNER)
        except Refused as refused:
            assert refused.reason
            assert node.receipts.find(held.study, held.object) == held and node.receipts.counts() == {"held": 1}
            return refused.kind
        return ""


REFUSED = {
    "another PatientID": (one(), one("another of the study", PatientID="9"), "patient"),
    "another date of birth": (
        one(PatientBirthDate="19900101"),
        one("another of the study", PatientBirthDate="19910101"),
        "patient",
    ),
    "nobody named, two dates of birth": (
        one(PatientID="", PatientBirthDate="19900101"),
        one("another of the study", PatientID="", PatientBirthDate="19910101"),
        "patient",
    ),
    "the number of another hospital": (
        one(IssuerOfPatientID="A"),
        one("another of the study", IssuerOfPatientID="B"),
        "patient",
    ),
    "another picture": (one(), one(seed=2), "other"),
    "the object of another study": (one(), one("another study", SOPInstanceUID="1.5.1.1"), "twice"),
}
TAKEN = {
    "a header that a PACS changed": (one(), one(StudyID="7", PatientComments="seen")),
    "a date of birth that only one states": (one(), one("another of the study", PatientBirthDate="19900101")),
}


@pytest.mark.parametrize("key", [True, False], ids=["key", "no key"])
@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(tmp_path, case, key):
    first, second, kind = REFUSED[case]
    assert twice(tmp_path, first, second, key) == kind


@pytest.mark.parametrize("case", TAKEN)
def test_what_fits_is_taken(tmp_path, case):
    assert twice(tmp_path, *TAKEN[case], key=True) == ""


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless], ids=lambda syntax: syntax.name)
def test_a_picture_that_a_pacs_compressed_is_the_same(tmp_path, syntax):
    packed = one()
    packed["PixelData"].VR = "OB"
    packed.compress(syntax, generate_instance_uid=False)
    assert twice(tmp_path, one(), packed, key=True) == ""


AT_ONCE = {
    "another woman": one("another of the study", PatientID="9"),
    "another date of birth": one("another of the study", PatientBirthDate="19910101"),
    "another picture": one(seed=2),
    "the object of another study": one("another study", SOPInstanceUID="1.5.1.1"),
}


@pytest.mark.parametrize("what", AT_ONCE)
def test_what_does_not_fit_is_refused_also_at_the_same_moment(tmp_path, monkeypatch, what):
    both, write = threading.Barrier(2), taking.write_cine

    def slow(*arguments):
        both.wait(10)  # both were checked, and none is held
        return write(*arguments)

    monkeypatch.setattr(taking, "write_cine", slow)
    with a_node(tmp_path) as node, ThreadPoolExecutor(2) as threads:
        objects = one(PatientBirthDate="19900101"), AT_ONCE[what]
        tried = [threads.submit(take, node, as_bytes(each), SCANNER) for each in objects]
        assert sorted(type(each.exception()).__name__ for each in tried) == ["NoneType", "Refused"]
        assert node.receipts.counts() == {"held": 1}
        ((_, receipts),) = deliver(node)
    assert len(receipts) == 1 == len(list(tmp_path.glob("inbox/*/cines/*")))


FULL = {
    "the database": (Receipts, "add", sqlite3.OperationalError("database or disk is full")),
    "the memory": (taking, "_sealed", MemoryError()),
    "the largest file": (taking, "write_cine", OSError(27, "File too large")),
}


@pytest.mark.parametrize("what", FULL)
def test_a_machine_without_room_lets_the_sender_try_again(tmp_path, monkeypatch, what):
    place, name, error = FULL[what]

    def full(*arguments):
        raise error

    with a_node(tmp_path) as node, listening(node, ("127.0.0.1", 0), print) as port:
        with monkeypatch.context() as patch:
            patch.setattr(place, name, full)
            assert send(port, one()) == [OUT_OF_RESOURCES]
        assert node.receipts.counts() == {} and send(port, one()) == [0]


@pytest.mark.parametrize(("vr", "stated"), [("IS", "99999999999"), ("LO", "9" * 25), ("LO", "many")])
def test_a_number_of_objects_that_cannot_be_is_no_reason_to_refuse(tmp_path, vr, stated):
    made = one()
    made.add(DataElement(0x00201208, vr, stated))
    with a_node(tmp_path) as node:
        take(node, as_bytes(made), SCANNER)
        assert len(deliver(node)) == 1
