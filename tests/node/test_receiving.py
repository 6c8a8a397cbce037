"""Objects that come in by C-STORE: de-identified before they are on a disk, each once, complete studies in an inbox."""

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from canary import HEIGHT, HULL, WIDTH
from certificates import certificate
from cine_files import dicom, speckle
from name_search import named_in, searched
from node_studies import FRAMES, KEY, SCANNER, STUDY, a_node, as_bytes, send, studied
from pydicom import dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    UltrasoundImageStorage,
)
from pynetdicom import AE
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification

from fetalflow.artefacts import read_json
from fetalflow.errors import InputError
from fetalflow.hospital.arrival.intake import arrive
from fetalflow.hospital.deidentify.drop import QUARANTINE, RECORD
from fetalflow.node.delivering import deliver
from fetalflow.node.listening import (
    CANNOT_UNDERSTAND,
    NOT_AUTHORISED,
    NOT_THIS_CLASS,
    OUT_OF_RESOURCES,
    listening,
    server_tls,
)
from fetalflow.node.sending import client_tls
from fetalflow.node.taking import take
from fetalflow.settings.params import Retrain, Split
from flows.retrain import deidentifier

HERE = ("127.0.0.1", 0)


def taken(folder, node) -> list[tuple[str, int]]:
    """What the next look of the night takes of the node's inbox."""
    prepare = deidentifier(folder / "store", node.settings.block("movement")) if node.key else None
    found = arrive(str(folder / "inbox"), folder / "store", Retrain(), Split(), prepare)
    return [(each.state, each.rows) for each in found]


@pytest.fixture
def key_set(monkeypatch):
    monkeypatch.setenv("FETALFLOW_PSEUDONYM_KEY", KEY.secret.hex())


def test_a_study_is_named_nowhere_and_is_taken_by_the_next_night(tmp_path, key_set, capfd):
    said = []
    with a_node(tmp_path) as node:
        with listening(node, HERE, said.append) as port:
            assert send(port, studied(2), studied(1)) == [0, 0]
            assert send(port, studied(1)) == [0]  # again
        searched(tmp_path)  # in the spool, too
        ((name, receipts),) = deliver(node)
        assert len(receipts) == 2 and deliver(node) == [] and not list((node.spool / "cines").iterdir())
        assert taken(tmp_path, node) == [("taken", 2)] and taken(tmp_path, node) == [("known", 2)]
    assert searched(tmp_path) > 8
    assert not named_in("".join([*said, *capfd.readouterr()]).encode())
    rows = pd.read_csv(tmp_path / "store" / "drop" / "annotations.csv", dtype=str)
    assert set(rows["patient"]) == {KEY.pseudonym("patient", "CANARY-4711")}  # as a drop of this hospital names her
    assert set(rows["label"]) == {"head"} and set(rows["site"]) == {"north"}
    one = dcmread(next((tmp_path / "inbox" / name / "cines").iterdir()))
    assert one.StudyInstanceUID == KEY.uid(STUDY) and not one.pixel_array[:, ~HULL].any()


def test_without_a_key_objects_come_as_they_are(tmp_path):
    with a_node(tmp_path, key=None) as node:
        take(node, as_bytes(studied()), SCANNER)
        deliver(node)
        assert taken(tmp_path, node) == [("taken", 1)]
    (cine,) = tmp_path.glob("inbox/*/cines/*")
    assert (
        cine.read_bytes() == as_bytes(studied()) and "CANARY-4711" in (cine.parents[1] / "annotations.csv").read_text()
    )


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEG2000Lossless],
    ids=lambda syntax: syntax.name,
)
def test_every_transfer_syntax_gives_the_same_pixels(tmp_path, syntax):
    def made():
        found = dicom(speckle(4), PatientID="4711", StudyInstanceUID=STUDY, SeriesInstanceUID="1.3")
        found.SeriesDescription, found["PixelData"].VR = "CLINIC head", "OB"
        return found

    sent = made()
    if syntax.is_encapsulated:
        sent.compress(syntax)
    else:
        sent.file_meta.TransferSyntaxUID = syntax
    sent = dcmread(BytesIO(as_bytes(sent)))
    pixels = []
    for number, each in enumerate((made(), sent)):
        folder = tmp_path / str(number)
        folder.mkdir()
        with a_node(folder) as node, listening(node, HERE, print) as port:
            assert send(port, each) == [0]
            deliver(node)
        (cine,) = folder.glob("inbox/*/cines/*")
        pixels.append(dcmread(cine).pixel_array)
    assert np.array_equal(*pixels) and pixels[0].any()


REFUSALS = {
    "no rule": ({"SeriesDescription": "liver", "StudyDescription": "liver"}, NOT_AUTHORISED, "rule"),
    "no image": ({"Modality": "CT"}, NOT_THIS_CLASS, "image"),
    "no study": ({"StudyInstanceUID": ""}, CANNOT_UNDERSTAND, "header"),
    "broken pixels": ({"PixelData": b"\0" * 100}, CANNOT_UNDERSTAND, "truncated"),
    "no sector": (
        {"PixelData": bytes(FRAMES * HEIGHT * WIDTH), "SequenceOfUltrasoundRegions": None},
        CANNOT_UNDERSTAND,
        "sector",
    ),
}


def test_what_is_refused_is_said_without_a_name_and_the_rest_goes_on(tmp_path):
    said = []
    rules = ({"description": "CLINIC$", "task": "movement", "labels": {"head": "head"}},)
    with a_node(tmp_path, rules=rules) as node, listening(node, HERE, said.append) as port:
        for number, (elements, status, _) in enumerate(REFUSALS.values(), 3):
            wrong = studied(number, **elements) if elements.get("StudyInstanceUID") is None else studied(number)
            for name, value in elements.items():
                setattr(wrong, name, value) if value is not None else wrong.pop(name)
            assert send(port, wrong) == [status], elements
        assert send(port, studied(1), studied(1, PatientID="OTHER", SOPInstanceUID="1.9")) == [0, CANNOT_UNDERSTAND]
        deliver(node)
        assert send(port, studied(1)) == [0]
    (record,) = tmp_path.glob(f"inbox/*/{RECORD}")
    assert read_json(record)["quarantined"] == {"truncated": 1, "sector": 1}
    assert len(pd.read_csv(record.with_name(QUARANTINE))) == 2
    assert not named_in("\n".join(said).encode()) and "another PatientID" in "".join(said)


def test_who_may_send_what_and_how_much(tmp_path):
    said = []
    with a_node(tmp_path, max_bytes=200_000) as node, listening(node, HERE, said.append) as port:
        assert send(port, studied(), title="STRANGER") == [] and "STRANGER" not in "".join(said)
        assert send(port, studied()) == [None]  # 0.6 MB: the association ends while it is sent
        assert node.receipts.counts() == {} and not list(node.spool.rglob("*.dcm"))
        small = dicom(
            speckle(1),
            PatientID="1",
            StudyInstanceUID="1.5",
            SeriesInstanceUID="1.6",
            SOPClassUID=UltrasoundImageStorage,
        )
        small.SeriesDescription = "CLINIC"
        small.file_meta.MediaStorageSOPClassUID = UltrasoundImageStorage
        assert send(port, small) == [0]
        asking = AE(ae_title=SCANNER)
        asking.add_requested_context(Verification)
        asking.add_requested_context(StorageCommitmentPushModel)
        association = asking.associate("127.0.0.1", port, ae_title="FETALFLOW")
        assert association.send_c_echo().Status == 0
        assert [context.abstract_syntax for context in association.rejected_contexts] == [StorageCommitmentPushModel]
        association.release()


def test_a_full_disk_is_no_fault_of_the_object(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    with a_node(tmp_path) as node, listening(node, HERE, print) as port:
        with monkeypatch.context() as patch:
            patch.setattr("fetalflow.hospital.deidentify.files.write_dicom", full)
            assert send(port, studied()) == [OUT_OF_RESOURCES]
        assert node.receipts.counts() == {} and send(port, studied()) == [0]


def test_an_inbox_that_is_away_holds_back_only_its_own_deliveries(tmp_path):
    away = tmp_path / "away"
    away.mkdir()
    rules = ({"description": "liver", "task": "planes", "inbox": str(away)}, {"task": "movement"})
    with a_node(tmp_path, rules=rules) as node:
        away.rmdir()
        for number, description in ((1, "liver"), (2, "head")):
            made = dicom(speckle(2, seed=number), PatientID="8", StudyInstanceUID=f"1.{number}")
            made.SeriesInstanceUID, made.StudyDescription = f"1.{number}.1", description
            take(node, as_bytes(made), SCANNER)
        with pytest.raises(InputError, match="needs an inbox for the deliveries of planes"):
            deliver(node)
        assert node.receipts.counts() == {"delivered": 1, "held": 1} and len(list((tmp_path / "inbox").iterdir())) == 1
        away.mkdir()
        ((name, _),) = deliver(node)
        assert (away / name / "UNLABELLED").is_file()


def test_the_same_object_on_two_associations_at_once_is_held_once(tmp_path):
    data = as_bytes(studied())
    with a_node(tmp_path) as node, ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda _: take(node, data, SCANNER), range(3)))
        assert node.receipts.counts() == {"held": 1} and not node.busy
        ((_, receipts),) = deliver(node)
    assert len(receipts) == 1 == len(list(tmp_path.glob("inbox/*/cines/*")))


def test_over_tls_only_senders_with_a_certificate_of_the_authority_are_admitted(tmp_path):
    ours, theirs, strangers = (certificate(tmp_path, name) for name in ("node", "scanner", "stranger"))
    with a_node(tmp_path) as node, listening(node, HERE, print, server_tls(*ours, theirs[0])) as port:
        small = dicom(speckle(2), PatientID="1", StudyInstanceUID="1.5", SeriesInstanceUID="1.6")
        small.StudyDescription = "CLINIC"
        assert send(port, small, tls_args=(client_tls(*theirs, ours[0]), "node")) == [0]
        for context in (client_tls(*strangers, ours[0]), client_tls(None, None, ours[0])):
            assert send(port, small, patience=2, tls_args=(context, "node")) == []
        assert send(port, small, patience=2) == []  # without TLS
        assert send(port, small, tls_args=(client_tls(*theirs, ours[0]), "node")) == [0]
    with pytest.raises(InputError, match="TLS cannot use"):
        server_tls(ours[0], theirs[1], None)
