"""What a page draws over a cine is what the library answers, in the cine's px, and only for those who may see it."""

import dataclasses
import json
import re

import numpy as np
import pandas as pd
import pytest
from bright_biometry import bright_package, shown
from test_frames import signed_in, unpacked

from fetalflow.annotation.studies import Study
from fetalflow.cine.letterbox import fit
from fetalflow.errors import InputError
from fetalflow.evaluation.certainty.conformal import Bound
from fetalflow.evaluation.certainty.record import Certainty, OfLabels
from fetalflow.station import sight
from fetalflow.station.catalogue import Catalogue, Cine
from fetalflow.station.network import answers, asking, maps, measured
from fetalflow.station.scale import mm_per_px


@pytest.fixture(scope="module")
def catalogue(answering) -> Catalogue:
    return Catalogue(answering.place)


@pytest.fixture
def cine(catalogue, answering) -> Cine:
    return catalogue.cine(answering.cines["first"])


def test_a_cine_that_the_run_did_not_predict_is_answered_as_predict_answers_it(catalogue, cine):
    found = answers.answer_of(catalogue, cine)
    said = asking.model_of(catalogue.place, "movement").package().predict(cine.path)
    assert [(each["first_frame"], each["last_frame"]) for each in found["windows"]] == [
        (each.first_frame, each.last_frame) for each in said.windows
    ]
    for mine, its in zip(found["windows"], said.windows, strict=True):
        assert mine["label"] == its.label and mine["probabilities"] == pytest.approx(its.probabilities)
    assert found["asked"] and found["model"].startswith("fetalmovnet_s of the workspace (")


def test_the_predictions_of_the_packages_run_are_shown_as_predict_would_say_them(catalogue, cine, monkeypatch):
    labels = catalogue.labels("movement")
    certainty = Certainty(OfLabels(2.0, Bound(0.2, 0.9, 20), {}))
    monkeypatch.setattr(answers, "certainty_in", lambda folder, weights: certainty)

    def row(seed: int, first: int, top: str, unfamiliarity: float) -> dict:
        p = {label: 0.6 if label == top else 0.4 / (len(labels) - 1) for label in labels}
        window = {"first_frame": first, "last_frame": first + 9, "part": "test", "fold": 0, "seed": seed}
        return window | {"unfamiliarity": unfamiliarity, "probabilities": p}

    rows = [row(0, 3, "hand", 0.4), row(1, 3, "leg", 0.4), row(0, 13, "foot", 1.5)]
    known = dataclasses.replace(cine, predictions=rows)
    found = answers.answer_of(catalogue, known)
    assert [each["label"] for each in found["windows"]] == ["hand", "foot"]  # those of seed 0, whose weights there are
    assert [each["label_set"] for each in found["windows"]] == [["hand"], None]  # none where it is unlike the training
    shown_p = found["windows"][0]["probabilities"]
    tempered = np.sqrt([0.6, *[0.4 / 6] * 6])
    assert shown_p["hand"] == pytest.approx(tempered[0] / tempered.sum()) and found["level"] == 0.9
    assert "test part" in found["notes"][0] and not found["asked"]
    assert unpacked(maps.map_of(catalogue, known, 5))[0]["first_frame"] == 3  # the window of the answer is explained


def test_a_cine_of_the_training_part_says_so(catalogue, cine):
    found = answers.answer_of(catalogue, dataclasses.replace(cine, state=frozenset({"training"})))
    assert "may have learned from this cine" in found["notes"][-1]


def test_the_map_is_that_of_the_library_and_lies_over_the_frames(catalogue, cine, monkeypatch):
    head, pictures = unpacked(maps.map_of(catalogue, cine, 14))
    assert (head["first_frame"], head["last_frame"], head["numbers"][0]) == (10, 19, 10)
    assert head["label"] in catalogue.labels("movement") and head["method"].startswith("Grad-CAM of ")
    frames = catalogue.frames(cine.source)
    assert {picture.shape for picture in pictures} == {(*frames.shape[1:], 4)}
    model = asking.model_of(catalogue.place, "movement")
    of_library = maps._maps(model, fit(frames[10:20], model.config["size"]))[2][0]
    high = np.unravel_index(pictures[0][..., 3].argmax(), frames.shape[1:])
    high = np.array(high) * of_library.shape[0] / 160 + [(160 - 120) / 2 * of_library.shape[0] / 160, 0]
    there = np.array(np.unravel_index(of_library.argmax(), of_library.shape))
    assert of_library.max() == 0 or np.abs(high - there).max() <= 2
    monkeypatch.setattr(maps, "_maps", lambda *_: pytest.fail("it was computed before"))
    assert unpacked(maps.map_of(catalogue, cine, 12))[0] == head
    with pytest.raises(InputError, match="no window of the network holds frame 40"):
        maps.map_of(catalogue, cine, 40)


@pytest.mark.parametrize("scale", [0.5, None])
def test_outlines_and_calipers_lie_where_the_structure_is(catalogue, cine, monkeypatch, scale):
    package = bright_package()
    frames = shown("head", 4, centre=(160, 130), axes=(90, 70), degrees=20)
    monkeypatch.setattr(asking.Model, "package", lambda self: package)
    monkeypatch.setattr(measured, "mm_per_px", lambda place, cine: scale)
    monkeypatch.setattr(catalogue.__class__, "frames", lambda self, source, task=None: frames)
    found = measured.measured_of(catalogue, dataclasses.replace(cine, path=None, source=f"{scale}".ljust(64, "0")))
    here = found["frames"]["2"]
    unit = scale or 1.0
    assert (found["unit"], found["label"]) == ("mm" if scale else "px", "head")
    assert here["ellipse"]["centre"] == pytest.approx([160, 130], abs=0.6)
    assert here["ellipse"]["axes"] == pytest.approx([45, 35], abs=1) and here["ellipse"]["angle"] == pytest.approx(
        20, abs=2
    )
    ends = np.array(here["calipers"])
    assert np.linalg.norm(ends[1] - ends[0]) * unit == pytest.approx(here["lengths"]["ofd"], rel=1e-6)
    assert np.linalg.norm(ends[3] - ends[2]) * unit == pytest.approx(here["lengths"]["bpd"], rel=1e-6)
    outline = np.array(here["outline"])
    assert outline.mean(axis=0) == pytest.approx([160, 130], abs=1.5) and not here["refused"]


def test_a_network_that_draws_nothing_and_one_that_is_not_there_say_so(catalogue, cine):
    with pytest.raises(InputError, match="draws no outline, so it measures nothing"):
        measured.measured_of(catalogue, cine)
    with pytest.raises(InputError, match="was not trained in this workspace yet"):
        asking.model_of(catalogue.place, "planes")


BOTH = Study(name="s", accounts=("anna", "ben"))


@pytest.mark.parametrize(
    ("account", "study", "cine_name", "network", "marks", "labels"),
    [
        ("anna", None, "unlabelled", False, False, True),
        ("anna", None, "first", True, False, True),
        ("ada", None, "first", True, True, True),
        ("anna", BOTH, "first", False, False, False),
        ("ben", BOTH.model_copy(update={"network": True}), "first", True, False, False),
        ("ben", BOTH.model_copy(update={"blind": False}), "first", False, True, True),
        ("ada", BOTH, "first", False, True, True),
        ("lea", BOTH.model_copy(update={"accounts": ("lea", "anna")}), "first", False, False, False),
    ],
)
def test_nobody_sees_what_a_study_hides(answering, monkeypatch, account, study, cine_name, network, marks, labels):
    monkeypatch.setattr(sight, "studies", lambda events: [study] if study else [])
    client, source = signed_in(answering.app, account), answering.cines[cine_name]
    for what in ("answer", "map/3", "measured"):
        answer = client.get(f"/overlays/movement/{source}/{what}")
        assert (answer.status_code == 403) != network, what
        assert network or "hidden here" in answer.json()["detail"]
    assert client.get(f"/overlays/movement/{source}/marks").status_code == (200 if marks else 403)
    page = client.get(f"/cine/{source}", headers={"accept": "text/html"}).text
    facts = json.loads(re.search(r'id="facts">(.*?)</script>', page, re.DOTALL)[1])
    assert facts["may_see"] == {"network": network, "marks": marks}
    assert ("labels: head" in page) == (labels and cine_name == "first")
    assert labels or not (facts["rows"] or facts["quarantined"])


@pytest.mark.parametrize(("account", "is_blind"), [("ben", True), ("ada", False)])
def test_who_labels_blind_is_not_shown_where_the_labels_of_the_drop_lie(answering, monkeypatch, account, is_blind):
    study = BOTH.model_copy(update={"network": True})
    monkeypatch.setattr(sight, "studies", lambda events: [study])
    p = dict.fromkeys(answering.app.state.catalogue.labels("movement"), 0.1) | {"leg": 0.4}
    window = {"first_frame": 13, "last_frame": 22}
    answer = window | {"part": "test", "fold": 0, "seed": 0, "unfamiliarity": 0.4, "probabilities": p}
    sequence = window | {"sequence": "s", "label": "head", "annotators": "A1"}
    plain = Catalogue.cine

    def labelled(self, *of, **how):
        return dataclasses.replace(plain(self, *of, **how), rows=[sequence], predictions=[answer])

    monkeypatch.setattr(Catalogue, "cine", labelled)
    client, source = signed_in(answering.app, account), answering.cines["first"]
    page = client.get(f"/cine/{source}", headers={"accept": "text/html"}).text
    facts = json.loads(re.search(r'id="facts">(.*?)</script>', page, re.DOTALL)[1])
    found = client.get(f"/overlays/movement/{source}/answer").json()["windows"]
    shown_map = unpacked(client.get(f"/overlays/movement/{source}/map/15").content)[0]
    firsts = [facts["windows"][0][0], found[0]["first_frame"], shown_map["first_frame"]]
    assert firsts == ([0, 0, 10] if is_blind else [13, 13, 13])


@pytest.mark.parametrize(
    ("stated", "expected"), [([0.4, 0.4], 0.4), ([0.4, 0.5], None), ([None, None], None), ([None, 0.4], 0.4), ([], 0.9)]
)
def test_the_scale_is_that_of_the_extraction(tmp_path, catalogue, cine, stated, expected):
    place = dataclasses.replace(catalogue.place, workspace=tmp_path)
    file = tmp_path / "data" / "movement" / "extracted.parquet"
    file.parent.mkdir(parents=True)
    rows = [{"source": cine.source, "mm_per_px": value} for value in stated] + [{"source": "b" * 64, "mm_per_px": 7.0}]
    pd.DataFrame(rows).astype({"mm_per_px": float}).to_parquet(file)
    of_cine = dataclasses.replace(cine, record={"mm_per_px": 0.9}, rows=[{"label": "head"}] * len(stated))
    assert mm_per_px(place, of_cine) == expected
