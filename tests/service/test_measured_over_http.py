"""`measure` and `examine` over HTTP, with lengths: the answer, the row of the log, and the challenger in shadow. The
workers are in this process."""

import json
import pickle
import time
from concurrent.futures import Future

import cv2
import numpy as np
import pytest
from bright_biometry import bright_package, shown
from cine_files import dicom, save_dicom
from fastapi.testclient import TestClient

from fetalflow.inference.examination.examine import examine
from fetalflow.service.answering import Models
from fetalflow.service.app import service
from fetalflow.service.desk import Desk
from fetalflow.service.limits import Limits
from fetalflow.service.served import Served
from fetalflow.service.tokens import Tokens
from fetalflow.watch.log import AnswerLog
from fetalflow.watch.row import NO_LENGTH, UNREADABLE, digest_of

TOKEN = "a-token-for-tests-0123456789"


class Here:
    """A pool whose worker is this process; what passes is pickled as for another one."""

    def __init__(self, served):
        self.served, self.models = served, Models(served, Limits())

    def submit(self, job):
        future = Future()
        future.set_result(pickle.loads(pickle.dumps(self.models.answer(job))))
        return future

    def drain(self):
        pass

    def join(self, seconds):
        pass


@pytest.fixture
def log(tmp_path):
    return AnswerLog(tmp_path / "answers", keep_pictures=True)


@pytest.fixture
def client(tmp_path, monkeypatch, log):
    monkeypatch.setattr("fetalflow.service.answering.load", lambda folder, **how: bright_package())
    in_use, challenger = (Served("biometry", f"models:/m/{n}", alias, tmp_path, n * 64) for n, alias in ("1a", "2b"))
    desk = Desk(Limits(), fixed={"biometry": in_use}, record=log.add, pseudonym=log.pseudonym, pictures=True)
    desk.pool, desk.shadow_pool = Here({"biometry": in_use}), Here({"biometry": challenger})
    with TestClient(service(desk, Tokens([TOKEN])), headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        yield client


@pytest.fixture
def head(tmp_path):
    cv2.imwrite(str(tmp_path / "MUSTERFRAU.png"), shown("head")[0])
    return tmp_path / "MUSTERFRAU.png"


def post(client, verb, *files, **form):
    return client.post(f"/v1/{verb}", files=[("files", (each.name, each.read_bytes())) for each in files], data=form)


def rows(log, role="champion", count=1):
    end = time.monotonic() + 10
    while len(found := log.read()[lambda table: table["role"] == role]) < count:
        assert time.monotonic() < end
        time.sleep(0.02)
    return found.to_dict("records")


@pytest.mark.parametrize("verb", ["measure", "examine"])
def test_lengths_are_answered_and_recorded_with_figures_by_the_champion_and_in_shadow(client, log, head, verb):
    answer = post(client, verb, head, mm_per_px="0.5", patient=" Erika ", site="S1")
    assert answer.status_code == 200, answer.text
    expected = examine(bright_package(), head, mm_per_px=0.5).lengths
    assert {"hc", "bpd"} <= set(expected), "the test needs lengths"
    if verb == "measure":
        (found,) = answer.json()["result"]["examinations"]
        assert {name: each["value"] for name, each in found["lengths"].items()} == pytest.approx(
            {name: each.value for name, each in expected.items()}
        )
    for role, version in (("champion", "1"), ("shadow", "2")):
        (row,) = rows(log, role)
        assert (row["version"], row["site"], row["refusal"], row["label"]) == (version, "S1", "", "head")
        assert row["patient"] == log.pseudonym("Erika")
        assert json.loads(row["lengths"])["hc"][0] == pytest.approx(expected["hc"].value)
        assert {"mean_intensity", "sharpness", "blank_share"} <= set(json.loads(row["figures"]))
    kept = [np.load(path)["frames"] for path in log.folder.rglob("*.npz")]
    assert len(kept) == 2 and all(each.shape == (1, 240, 320) for each in kept)
    assert "MUSTER" not in answer.text + "".join(path.read_text() for path in log.folder.glob("*.jsonl"))


def test_a_length_in_pixels_is_no_length_in_mm(client, log, head):
    assert post(client, "measure", head).json()["result"]["examinations"][0]["unit"] == "px"
    (row,) = rows(log)
    assert row["lengths"] == "{}" and row["refusal"] == "", "an answer was given"


def test_who_a_dicom_is_of_goes_to_the_log_where_the_request_does_not_say_it(client, log, tmp_path):
    frames = shown("head")
    facts = {"PatientID": "P-77", "InstitutionName": "Northfield", "ManufacturerModelName": "E10"}
    save_dicom(tmp_path / "a.dcm", dicom(np.asarray(frames), **facts))
    assert post(client, "measure", tmp_path / "a.dcm", mm_per_px="0.5", device="mine").status_code == 200
    (row,) = rows(log)
    assert (row["patient"], row["site"], row["device"]) == (log.pseudonym("P-77"), "Northfield", "mine")


@pytest.mark.parametrize("verb", ["predict", "measure"])
def test_one_file_at_fault_is_named_and_no_other_one_is_recorded_as_unreadable(client, log, head, tmp_path, verb):
    (bad := tmp_path / "b.png").write_bytes(head.read_bytes()[:60])
    cine = np.repeat(shown("head"), 4, axis=0)
    save_dicom(good := tmp_path / "g.dcm", dicom(cine))
    refused = post(client, verb, good, bad, good, task="biometry")
    assert refused.status_code == 422 and refused.json()["detail"].startswith("file-2.png")
    (row,) = rows(log)
    assert row["refusal"] == UNREADABLE and row["input"] == digest_of(bad.read_bytes())


def test_a_file_of_an_examination_that_cannot_be_read_is_a_refusal_of_its_own(client, log, head, tmp_path):
    (bad := tmp_path / "b.png").write_bytes(head.read_bytes()[:60])
    assert post(client, "examine", head, bad, mm_per_px="0.5").status_code == 200
    assert sorted(row["refusal"] for row in rows(log, count=2)) == ["", UNREADABLE]


def test_nan_is_no_json(client, monkeypatch, head):
    from fetalflow.inference.examination.result import Examination

    monkeypatch.setattr(Examination, "as_dict", lambda self: {"a": [float("nan"), float("inf"), 1.5, "x"]})
    answer = post(client, "measure", head, mm_per_px="0.5")
    assert json.loads(answer.text)["result"]["examinations"] == [{"a": [None, None, 1.5, "x"]}]


def test_what_shows_no_structure_is_a_refusal(client, log, tmp_path):
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((240, 320), 30, np.uint8))
    assert post(client, "measure", tmp_path / "grey.png", mm_per_px="0.5").status_code == 200
    assert rows(log)[0]["refusal"] == NO_LENGTH
