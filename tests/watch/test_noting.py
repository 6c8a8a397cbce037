"""The verbs write what they answer where the workspace has a log; never a name, and never at the cost of an answer."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from bright_biometry import bright_package, shown
from cine_files import dicom, save_dicom, speckle, write_video

from fetalflow.errors import InputError
from fetalflow.inference.examination.examine import examine
from fetalflow.inference.prediction import Prediction
from fetalflow.settings.params import Extract
from fetalflow.watch.files import of_file, who
from fetalflow.watch.log import AnswerLog
from fetalflow.watch.row import UNREADABLE, UNSURE
from flows.checkout import CHECKOUT
from flows.cli.noting import noting

NAME = "DOE^JANE"
CONFIG = {"extract": {"frames": 2, "stride": 2}, "size": 32, "weights": {"sha256": "ab"}}


@pytest.fixture
def place(tmp_path, monkeypatch):
    text = (CHECKOUT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text + "\nwatch: {folder: answers}\n")
    monkeypatch.setattr("fetalflow.models.package_files.read_config", lambda folder: CONFIG)
    return tmp_path


def prediction(**facts) -> Prediction:
    whole = {"label": "arm", "probabilities": {"arm": 0.75, "leg": 0.25}, "frame_weights": [0.5, 0.5]}
    whole |= {"frame_weights_method": "", "unfamiliarity": 0.5, "unfamiliar": False, "best": None, "best_by_label": {}}
    return Prediction(**whole | {"engine": "onnx", "windows": [], "label_set": ["arm"], "level": 0.9} | facts)


def noted(place: Path, file: Path, found: Prediction) -> dict:
    with noting("predict", "movement", place, str(place / "variant"), place / "variant", file) as note:
        note(found)
    return AnswerLog(place / "answers").read().iloc[-1].to_dict()


def test_an_answer_is_noted_with_its_figures_and_a_pseudonym(place):
    file = place / f"{NAME}.dcm"
    facts = {"PatientID": NAME, "InstitutionName": "Northfield", "ManufacturerModelName": "E10"}
    save_dicom(file, dicom(speckle(4), **facts))
    row = noted(place, file, prediction())
    assert (row["site"], row["device"], row["label"], row["engine"]) == ("Northfield", "E10", "arm", "onnx")
    assert row["patient"] == AnswerLog(place / "answers").pseudonym(NAME) and row["weights"] == "ab"
    assert {"mean_intensity", "sharpness", "blank_share"} <= set(json.loads(row["figures"]))
    assert row["latency_ms"] >= 0 and row["role"] == "other" and row["refusal"] == ""
    assert NAME not in "".join(path.read_text() for path in (place / "answers").glob("*.jsonl"))


def test_what_is_not_said_and_what_cannot_be_read_are_refusals_without_a_name(place):
    file = place / f"{NAME}.avi"
    file.write_text("no cine")
    assert noted(place, file, prediction(label=None, not_said="too unsure"))["refusal"] == UNSURE
    refused = pytest.raises(InputError, match="cannot be read")
    with refused, noting("measure", "movement", place, "x", place / "x", file):
        raise InputError(f"{file} cannot be read")
    log = AnswerLog(place / "answers")
    assert list(log.read()["refusal"]) == [UNSURE, UNREADABLE]
    assert NAME not in "".join(path.read_text() for path in log.folder.glob("*.jsonl"))


def test_a_log_that_cannot_be_written_costs_no_answer(place, capsys):
    (place / "answers").write_text("a file is in the way")
    with noting("predict", "movement", place, "x", place / "x", place / "none.avi") as note:
        note(prediction())
    assert "was not logged" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "\nwatch: {days: 3}\n"])
def test_without_a_folder_nothing_is_written(place, text):
    (place / "params.yaml").write_text((CHECKOUT / "params.yaml").read_text() + text)
    with noting("predict", "movement", place, "x", place / "x", place / "none.avi") as note:
        note(prediction())
    assert [path.name for path in place.iterdir()] == ["params.yaml"]


def test_lengths_are_noted_and_the_pictures_where_they_are_to_be_kept(place):
    (place / "params.yaml").write_text(
        (CHECKOUT / "params.yaml").read_text() + "\nwatch: {folder: answers, keep_pictures: true}\n"
    )
    cv2.imwrite(str(file := place / "head.png"), shown("head")[0])
    found = examine(bright_package(), file, mm_per_px=0.5)
    with noting("measure", "biometry", place, str(place / "variant"), place / "variant", file) as note:
        note(found)
        note(found)
    rows = AnswerLog(place / "answers").read()
    assert json.loads(rows["lengths"][0])["hc"][0] == pytest.approx(found.lengths["hc"].value)
    assert "mean_intensity" in json.loads(rows["figures"][0]), "a still has fewer frames than a sequence"
    (kept,) = (place / "answers").rglob("*.npz")
    assert np.load(kept)["frames"].shape == (1, 240, 320)


def test_the_frame_rate_is_that_of_a_sequence(tmp_path):
    cine = write_video(tmp_path / "a.avi", speckle(8), fps=30)
    extract = Extract(frames=2, stride=2, every=2, labels=("arm",)).model_dump(mode="json")
    facts, frames = of_file(cine, {"extract": extract, "size": 32})
    assert facts["figures"]["fps"] == 15 and frames.shape[0] == 2


def test_a_deflated_header_is_not_unpacked_for_the_log(tmp_path, monkeypatch):
    """5 MB may unpack to 5 GB; the reader of the pixels has checked that, the log has not."""
    monkeypatch.setattr("pydicom.dcmread", lambda *how, **more: pytest.fail("it was unpacked"))
    monkeypatch.setattr("fetalflow.watch.files.is_deflated", lambda path: True)
    save_dicom(tmp_path / "a.dcm", dicom(speckle(2), PatientID=NAME))
    assert who(tmp_path / "a.dcm") == {"patient": "", "site": "", "device": ""}
