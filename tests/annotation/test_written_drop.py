"""What people label becomes a drop: it passes `check`, gives sequences, and is taken from an inbox."""

import shutil
from dataclasses import replace
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
import yaml
from cine_files import dicom, save_dicom, speckle, ultrasound_region, write_video
from closures import ROOT
from finished_run import FRAMES, LABELS, TASK, small_params

from fetalflow.annotation import patients
from fetalflow.annotation.adjudication import counting, decide
from fetalflow.annotation.annotation import Caliper, Ellipse, Span
from fetalflow.annotation.corrections import accuracy_in_use, correct, judged, sides_of
from fetalflow.annotation.drop import write_in_place
from fetalflow.annotation.journal import Event, Journal
from fetalflow.annotation.patients import name_patients
from fetalflow.annotation.rows import Subject, rows_of
from fetalflow.annotation.shapes import dice, raster
from fetalflow.annotation.standing import standing
from fetalflow.annotation.studies import UNLABELLED, Study, write_study
from fetalflow.artefacts import file_digest, write_table
from fetalflow.biometry.calipers import Ellipse as Axes
from fetalflow.cine.mask_store import stored_mask
from fetalflow.cine.store import store_cine
from fetalflow.errors import InputError
from fetalflow.hospital.arrival.intake import Prepare, arrive, arrive_from_station
from fetalflow.hospital.drop.table import read_text_table
from fetalflow.sequences.extraction import extract_drop
from fetalflow.settings.params import Extract
from fetalflow.station.catalogue import Catalogue
from fetalflow.station.delivery import deliver
from fetalflow.station.delivery import write_in_place as write_labels
from fetalflow.station.labelled import Labelled
from fetalflow.station.place import Place

PATTERN = r"(P\d)"
LENGTH = 16  # frames of each cine


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Six cines, three patients, and settings."""
    folder = tmp_path_factory.mktemp("cines")
    for number in range(6):
        write_video(folder / f"P{number % 3}_{number}.avi", speckle(LENGTH, 60, 80, seed=number), "ffv1")
    return folder


@pytest.fixture
def place(files, tmp_path):
    """A workspace whose drop has the first two cines, of which P0 is tested; the others are an unlabelled drop."""
    drop, unlabelled = tmp_path / "data" / TASK / "drop", tmp_path / "unlabelled"
    params = small_params(("cnn",), FRAMES)
    params[TASK]["extract"]["workers"] = 1
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    for path in sorted(files.glob("*.avi"), key=lambda path: path.stem[-1]):
        target = drop if path.stem[-1] in "01" else unlabelled
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    rows = [
        {"video": f"P{i}_{i}.avi", "patient": f"P{i}", "site": "S", "device": "D", "annotator": "old"}
        | {"start_frame": "", "end_frame": "", "label": LABELS[i]}
        for i in range(2)
    ]
    pd.DataFrame(rows).to_csv(drop / "annotations.csv", index=False)
    sides = {"patient": ["P0", "P1"], "fold": 0, "part": ["test", "train"]}
    write_table(tmp_path / "data" / TASK / "split.parquet", pd.DataFrame(sides))
    return Place(tmp_path, TASK, unlabelled)


def source_of(place: Place, name: str) -> str:
    return file_digest(next(place.workspace.rglob(f"{name}.avi")))


def label(place: Place, who: str, name: str, text: str, first: int = 0, last: int = LENGTH - 1) -> None:
    source, mark = source_of(place, name), Span(id=uuid4().hex, label=text, first_frame=first, last_frame=last)
    events = [("mark", mark.model_dump(mode="json")), ("submit", {})]
    place.journal.add([Event(who, TASK, source, uuid4().hex, *each) for each in events])


def labelled(place: Place, pattern: str | None = PATTERN) -> Labelled:
    return Labelled(place, Catalogue(place), pattern)


def judge(place: Place, name: str, first: int, answer: str, right_label: str, side: str, origin: str = "test") -> None:
    last = first + FRAMES - 1
    mark = Span(id=uuid4().hex, label=right_label, first_frame=first, last_frame=last)
    said = {"origin": origin, "model": "fetal-movement 1", "first_frame": first, "last_frame": last, "answer": answer}
    said |= {"right": answer == right_label, "marks": [mark.model_dump(mode="json")], "why": "seen"}
    correct(place.journal, TASK, source_of(place, name), "ben", said, side)


def test_a_drop_without_labels_becomes_one_that_gives_sequences(place):
    write_study(place.journal, TASK, "lea", Study(name="two", accounts=("anna", "ben")))
    for who in ("anna", "ben"):
        label(place, who, "P2_2", "arm")
        label(place, who, "P1_4", "head")
        label(place, who, "P2_5", {"anna": "heart", "ben": "head"}[who])
    label(place, "anna", "P0_3", "arm")  # ben has not read it yet; and its patient is tested
    work = labelled(place)
    (case,) = work.counted(source_of(place, "P2_5")).open
    decide(place.journal, TASK, source_of(place, "P2_5"), "ada", case, "anna", "valves are seen", [])
    written = write_labels(labelled(place), "lea")
    assert written.cines == 3 and any("waits for ben" in remark for remark in written.remarks)
    table = pd.read_csv(place.drop / "annotations.csv", dtype=str, keep_default_na=False)
    assert sorted(zip(table["video"], table["annotator"], table["label"], strict=True)) == [
        ("P1_4.avi", "anna", "head"),
        ("P1_4.avi", "ben", "head"),
        ("P2_2.avi", "anna", "arm"),
        ("P2_2.avi", "ben", "arm"),
        ("P2_5.avi", "ada", "heart"),
    ]
    assert table.loc[table["video"] == "P2_5.avi", "decided_by"].tolist() == ["ada"]
    extract = place.settings.block(TASK).extract
    found = extract_drop(place.drop, extract, place.workspace / "store")
    assert found.quarantine.empty, found.quarantine.to_dict("records")
    assert found.sequences.groupby("label").size().to_dict() == {"arm": 4, "head": 4, "heart": 4}
    label(place, "ben", "P0_3", "arm")
    again = write_labels(labelled(place), "lea")  # a table of the station may be written again
    assert again.cines == 3 and any("test patients" in remark for remark in again.remarks)
    (place.drop / "annotations.csv").write_text("by hand\n")
    with pytest.raises(InputError, match="the station did not write it"):
        write_labels(labelled(place), "lea")


def test_what_nobody_decided_is_never_trained_on(place):
    write_study(place.journal, TASK, "lea", Study(name="two", accounts=("anna", "ben")))
    label(place, "anna", "P2_2", "arm")
    label(place, "ben", "P2_2", "head")
    label(place, "anna", "P1_4", "arm", 0, 7)
    label(place, "ben", "P1_4", "arm", 8, 15)  # neither saw the other's span
    for who in ("anna", "ben"):
        label(place, who, "P2_5", "heart")
    write_labels(labelled(place), "lea")
    found = extract_drop(place.drop, place.settings.block(TASK).extract, place.workspace / "store")
    assert set(found.sequences["video"]) == {"P2_5.avi"}
    kinds = found.quarantine.groupby("video")["kind"].agg(set).to_dict()
    assert kinds == {"P2_2.avi": {"disagreement"}, "P1_4.avi": {"row"}}
    assert found.quarantine["reason"].str.contains("nobody has decided").sum() == 2


def test_a_correction_reaches_the_store_and_a_tested_patient_stays_tested(place, tmp_path):
    block = place.settings.block(TASK)
    inbox, store = tmp_path / "inbox", place.workspace / block.retrain.store / TASK
    inbox.mkdir()
    shutil.copytree(place.workspace / "data" / TASK / "drop", inbox / "first")
    table = pd.read_csv(inbox / "first" / "annotations.csv").assign(part=["test", "train"])
    table.to_csv(inbox / "first" / "annotations.csv", index=False)
    (inbox / "first" / block.retrain.marker).touch()
    arrive(str(inbox), store, block.retrain, block.split)
    (place.workspace / "data" / TASK / "split.parquet").unlink()
    sides = sides_of(place.workspace, TASK, store)
    assert sides == {"P0": "test", "P1": "train"}
    judge(place, "P0_0", 4, "head", "heart", sides["P0"])  # the truth, arm, is wrong
    judge(place, "P1_1", 8, "arm", "heart", sides["P1"])
    judge(place, "P1_1", 0, "arm", "head", sides["P1"])  # the label is right already, so no row changes
    judge(place, "P1_4", 0, "arm", "arm", sides["P1"], "predict")
    label(place, "anna", "P2_2", "arm")
    actions = [event.action for event in place.journal.events(TASK)]
    assert actions.count("truth") == 1 and actions.count("correct") == 3
    written = deliver(labelled(place), "station", "lea")
    assert [each.path.name for each in written] == ["station", "station-corrections", "station-truth"]
    with pytest.raises(InputError, match="is there already"):
        deliver(labelled(place), "station", "lea")
    arrivals = arrive_from_station(store, block.retrain, block.split)
    assert {each.name: each.state for each in arrivals} == dict.fromkeys([each.path.name for each in written], "taken")
    assert not list((store / "station").iterdir())  # no second copy of a patient's cines stays
    assert sides.items() <= sides_of(place.workspace, TASK, store).items()
    table = pd.read_csv(store / "drop" / "annotations.csv", dtype=str, keep_default_na=False)
    of = {name: table[table["video"].str.contains(source_of(place, name))] for name in ("P0_0", "P1_1", "P1_4")}
    spans = [(r["start_frame"], r["end_frame"], r["label"], r["annotator"]) for r in of["P1_1"].to_dict("records")]
    assert sorted(spans) == [
        ("0", "7", "head", "old"),
        ("12", "15", "head", "old"),
        ("8", "11", "heart", "ben"),
    ]
    assert set(of["P0_0"]["label"]) == {"arm", "heart"}
    assert set(of["P1_4"]["label"]) == {"arm"} and len(of["P1_4"]) == 1
    found = extract_drop(store / "drop", block.extract, tmp_path / "frames")
    assert found.quarantine.empty, found.quarantine["reason"].tolist()

    # The next station works on what arrived: nothing is delivered twice, and a change takes the place of what was.
    shutil.rmtree(place.workspace / "data" / TASK / "drop")
    shutil.copytree(store / "drop", place.workspace / "data" / TASK / "drop")
    later = Place(place.workspace, TASK)
    with pytest.raises(InputError, match="nothing is new"):
        deliver(labelled(later), "again", "lea")
    source = next(event.source for event in place.journal.events(TASK) if event.account == "anna")  # of P2_2
    mark = {"kind": "span", "id": uuid4().hex, "label": "heart", "first_frame": 0, "last_frame": LENGTH - 1}
    old = next(event for event in place.journal.events(TASK, source) if event.action == "mark")
    said = [("reopen", {}), ("remove", {"mark": old.value["id"]}), ("mark", mark), ("submit", {})]
    place.journal.add([Event("anna", TASK, source, uuid4().hex, *each) for each in said])
    assert [each.path.name for each in deliver(labelled(later), "again", "lea")] == ["again-corrections"]
    arrive_from_station(store, block.retrain, block.split)
    table = pd.read_csv(store / "drop" / "annotations.csv", dtype=str, keep_default_na=False)
    assert table.loc[table["video"].str.contains(source), "label"].tolist() == ["heart"]


def take_back(place: Place, who: str, name: str, text: str) -> None:
    """Remove the marks with a label, and submit."""
    events = place.journal.events(TASK, source_of(place, name), who)
    marks = [mark for mark in standing(events) if mark.label == text]
    said = [("reopen", {}), *(("remove", {"mark": mark.id}) for mark in marks), ("submit", {})]
    place.journal.add([Event(who, TASK, source_of(place, name), uuid4().hex, *each) for each in said])


def test_labels_and_corrections_of_one_cine_hold_by_the_last_word_and_none_is_lost(place, tmp_path):
    block, drop = place.settings.block(TASK), place.workspace / "data" / TASK / "drop"
    store, old = place.workspace / block.retrain.store / TASK, ("old", "0", "15", "arm")
    of = {
        "P0_0": [old], "P1_1": [old], "P2_2": [old], "P2_5": [old],
        "P0_3": [("anna", "0", "7", "arm"), ("anna", "8", "15", "head")], "P1_4": [("anna", "0", "15", "arm")],
    }  # fmt: skip
    columns = ["annotator", "start_frame", "end_frame", "label"]
    rows = [
        {"video": f"{name}.avi", "patient": name[:2], "part": "train"} | dict(zip(columns, row, strict=True))
        for name, of_cine in of.items()
        for row in of_cine
    ]
    for path in [*place.drop.glob("*.avi")]:
        path.rename(drop / path.name)
    pd.DataFrame(rows).assign(site="S", device="D").to_csv(drop / "annotations.csv", index=False)
    (place.workspace / "data" / TASK / "split.parquet").unlink()
    shutil.copytree(drop, tmp_path / "inbox" / "first")
    (tmp_path / "inbox" / "first" / block.retrain.marker).touch()
    arrive(str(tmp_path / "inbox"), store, block.retrain, block.split)
    judge(place, "P0_0", 0, "arm", "arm", "train")  # right, and then two people label the cine anew
    label(place, "anna", "P0_0", "heart"), label(place, "ben", "P0_0", "heart")
    judge(place, "P1_1", 0, "arm", "heart", "train")  # a correction, and a label after it
    label(place, "anna", "P1_1", "head")
    label(place, "anna", "P2_2", "head")  # a label, and a correction after it
    judge(place, "P2_2", 0, "arm", "heart", "train")
    label(place, "anna", "P0_3", "arm", 0, 7), label(place, "anna", "P0_3", "head", 8, 15)
    take_back(place, "anna", "P0_3", "head")
    label(place, "anna", "P1_4", "arm")
    take_back(place, "anna", "P1_4", "arm")
    judge(place, "P2_5", 0, "head", "arm", "train")  # the label is right already
    of |= {
        "P0_0": [old, ("anna", "0", "15", "heart"), ("ben", "0", "15", "heart")],
        "P1_1": [old, ("anna", "0", "15", "head")],
        "P2_2": [("anna", "4", "15", "head"), ("ben", "0", "3", "heart"), ("old", "4", "15", "arm")],
        "P0_3": [("anna", "0", "7", "arm")],
    }
    sources = {name: source_of(place, name) for name in of}
    written = deliver(labelled(Place(place.workspace, TASK)), "station", "lea")
    assert {each.path.name: each.cines for each in written} == {"station-corrections": 3, "station-further": 2}
    said = [remark for each in written for remark in each.remarks]
    assert len(said) == 2 and all("frames 0 to 3 by ben, because these frames were labelled again" in s for s in said)
    arrive_from_station(store, block.retrain, block.split)
    shutil.rmtree(drop)
    shutil.copytree(store / "drop", drop)
    table = pd.read_csv(drop / "annotations.csv", dtype=str, keep_default_na=False)
    for name, expected in of.items():
        found = table[table["video"].str.contains(sources[name])]
        assert sorted(zip(*(found[column] for column in columns), strict=True)) == sorted(expected), name
        assert (found["fault"] != "").any() == (name == "P1_4")
    with pytest.raises(InputError, match="nothing is new"):
        deliver(labelled(Place(place.workspace, TASK)), "again", "lea")


def test_an_outline_that_was_drawn_again_takes_the_place_of_the_one_that_was_delivered(tmp_path):
    (new := tmp_path / "new").mkdir()
    shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")
    region = {"SequenceOfUltrasoundRegions": [ultrasound_region(0.05, 0, 0, 159, 119)], "PatientID": "P0"}
    made = dicom(speckle(4, seed=1), Rows=120, Columns=160, FrameTime=40, NumberOfFrames=4, **region)
    save_dicom(new / "head.dcm", made)
    place, source = Place(tmp_path, "biometry", new), file_digest(new / "head.dcm")
    block, drop = place.settings.block("biometry"), tmp_path / "data" / "biometry" / "drop"
    (store := tmp_path / block.retrain.store / "biometry").mkdir(parents=True)

    def put(mark: Ellipse, *gone: Ellipse) -> None:
        said = [("reopen", {}), *(("remove", {"mark": each.id}) for each in gone)]
        said += [("mark", mark.model_dump(mode="json")), ("submit", {})]
        place.journal.add([Event("anna", "biometry", source, uuid4().hex, *each) for each in said])

    def delivered(at: Place, name: str) -> list[str]:
        return [each.path.name for each in deliver(Labelled(at, Catalogue(at)), name, "lea")]

    put(first := ellipse(30, 20))
    assert delivered(place, "one") == ["one"]
    arrive_from_station(store, block.retrain, block.split)
    shutil.copytree(store / "drop", drop)
    later = Place(tmp_path, "biometry")
    with pytest.raises(InputError, match="nothing is new"):
        delivered(later, "two")
    put(ellipse(20, 30), first)  # the same lengths, turned by a right angle
    assert delivered(later, "two") == ["two-corrections"]


def test_a_cine_on_which_nothing_is_right_leaves_the_training(place):
    block = place.settings.block(TASK)
    store = place.workspace / block.retrain.store / TASK
    (inbox := place.workspace / "inbox").mkdir()
    shutil.copytree(place.workspace / "data" / TASK / "drop", inbox / "first")
    (inbox / "first" / block.retrain.marker).touch()
    arrive(str(inbox), store, block.retrain, block.split)
    for first in range(0, LENGTH, FRAMES):
        judge(place, "P1_1", first, "arm", "other", "train")
    deliver(labelled(place), "station", "lea")
    arrive_from_station(store, block.retrain, block.split)
    found = extract_drop(store / "drop", block.extract, place.workspace / "frames")
    assert set(found.sequences["patient"]) == {"P0"}
    assert found.quarantine["reason"].str.contains("no label of the task is right").tolist() == [True]


def test_a_store_with_a_key_gets_pseudonyms_past_its_inbox_and_names_through_it(place, tmp_path):
    block = place.settings.block(TASK)
    store = place.workspace / block.retrain.store / TASK
    (hospital := tmp_path / "hospital").mkdir()
    shutil.copytree(place.workspace / "data" / TASK / "drop", hospital / "first")
    (hospital / "first" / block.retrain.marker).touch()
    arrive(str(hospital), store, block.retrain, block.split, Prepare(lambda folder, _: folder, key="0123abcd"))
    label(place, "anna", "P2_2", "arm")
    with pytest.raises(InputError, match="--inbox"):
        deliver(labelled(place), "station", "lea")
    judge(place, "P1_1", 8, "arm", "heart", "train")
    (inbox := tmp_path / "inbox").mkdir()
    places = {each.path.name: each.path.parent for each in deliver(labelled(place), "station", "lea", inbox)}
    assert places == {"station": inbox, "station-corrections": store / "station"}
    (arrival,) = arrive_from_station(store, block.retrain, block.split)  # no key is configured here
    assert arrival.state == "taken"
    table = pd.read_csv(store / "drop" / "annotations.csv", dtype=str, keep_default_na=False)
    assert set(table["patient"]) == {"P0", "P1"} and "heart" in set(table["label"])


@pytest.mark.parametrize(
    ("table", "pattern", "said"),
    [
        (None, None, "is not known"),
        ("video,patient\nP2_2.avi,A\n", None, "of 3 of 4 cines"),
        ("video,patient\nother.avi,A\n", None, "names a cine of the drop"),
        ("video,patient\nP2_2.avi,A\nP2_2.avi,B\n", None, "several rows"),
        (None, r"X(\d)", "is not known"),
        ("video,patient\nP2_2.avi,unknown\nP2_5.avi,B\nP0_3.avi,C\nP1_4.avi,D\n", None, "of 1 of 4 cines"),
    ],
)
def test_a_patient_is_never_guessed(place, table, pattern, said):
    if table:
        (place.drop / "patients.csv").write_text(table)
    extract = place.settings.block(TASK).extract.model_copy(update={"patient_pattern": pattern})
    with pytest.raises(InputError, match=said):
        name_patients(place.drop, [path.name for path in place.drop.glob("*.avi")], extract)


def test_the_table_of_patients_goes_before_the_pattern(place):
    (place.drop / "patients.csv").write_text("Video;Patient;site\nP2_2.avi;A;North\n")
    extract = place.settings.block(TASK).extract.model_copy(update={"patient_pattern": PATTERN})
    found = name_patients(place.drop, ["P2_2.avi", "P2_5.avi"], extract)
    assert found["P2_2.avi"] == {"patient": "A", "site": "North", "device": ""}
    assert found["P2_5.avi"]["patient"] == "P2"


def test_the_table_of_patients_is_read_once_for_all_cines(place, monkeypatch):
    (place.drop / "patients.csv").write_text("video,patient\nP2_2.avi,A\nP2_5.avi,unknown\nP0_3.avi,C\n")
    for name in ("P2_2", "P2_5", "P0_3", "P1_1"):
        label(place, "anna", name, "arm")
    read = []
    monkeypatch.setattr(patients, "read_text_table", lambda *a, **k: read.append(a) or read_text_table(*a, **k))
    work = labelled(place, None)
    expected = {source_of(place, name): patient for name, patient in (("P2_2", "A"), ("P0_3", "C"), ("P1_1", "P1"))}
    assert work.patients == expected and len(read) == 1
    assert work.side(source_of(place, "P1_1")) == "train" and len(read) == 1


def test_accuracy_in_use_counts_the_last_word_on_each_answer_by_patient(place):
    for number in range(12):
        judge(place, "P1_1", number, "arm", "arm", "train", "service")
    judge(place, "P0_0", 0, "arm", "arm", "test", "test")
    judge(place, "P1_1", 0, "arm", "head", "train", "service")  # a second thought
    found = judged(place.journal.events(TASK))
    assert len(found) == 13
    patients = {source_of(place, name): name[:2] for name in ("P0_0", "P1_1")}
    rows = {row["origin"]: row for row in accuracy_in_use(found, patients)}
    assert (rows["service"]["right"], rows["service"]["wrong"]) == (11, 1)
    assert rows["all"]["accuracy"] == pytest.approx(12 / 13) and rows["all"]["patients"] == 2
    assert rows["all"]["low"] is None  # two patients give no interval
    many = {f"{n:064x}": f"P{n}" for n in range(10)}
    spread = [replace(found[-1 - n % 2], source=source) for n, source in enumerate(many)]  # one of two is wrong
    (row,) = [row for row in accuracy_in_use(spread, many) if row["origin"] == "all"]
    assert row["low"] < row["accuracy"] == 0.5 < row["high"]
    assert not accuracy_in_use([], {})


@pytest.mark.parametrize(
    "wrong",
    [
        {"right": False, "marks": [], "why": "so"},
        {"right": False, "why": " "},
        {"last_frame": 0, "first_frame": 3},
        {"origin": "elsewhere"},
        {"marks": [{"kind": "span", "id": "0" * 32, "label": "arm", "first_frame": 0, "last_frame": 99}]},
        {"answer": ""},
    ],
)
def test_a_correction_that_is_not_whole_is_refused(place, wrong):
    mark = Span(id=uuid4().hex, label="arm", first_frame=0, last_frame=3).model_dump(mode="json")
    said = {"origin": "test", "model": "m 1", "first_frame": 0, "last_frame": 3, "answer": "leg", "right": False}
    with pytest.raises(InputError, match="not whole"):
        correct(place.journal, TASK, "a" * 64, "ben", said | {"marks": [mark], "why": "seen"} | wrong, "")
    assert not place.journal.events(TASK)


def ellipse(a: float, b: float, frame: int = 1, **more) -> Ellipse:
    values = {
        "label": "head",
        "first_frame": frame,
        "last_frame": frame,
        "centre": (80, 60),
        "axes": (a, b),
        "angle": 10,
    }
    return Ellipse(id=uuid4().hex, **values | more)


def test_outlines_become_masks_and_lengths_in_mm_that_extraction_reads(tmp_path):
    drop, store = tmp_path / "drop", tmp_path / "frames"
    drop.mkdir()
    for number in range(3):
        region = {"SequenceOfUltrasoundRegions": [ultrasound_region(0.05, 0, 0, 159, 119)], "PatientID": f"P{number}"}
        made = dicom(speckle(4, seed=number), Rows=120, Columns=160, FrameTime=40, NumberOfFrames=4, **region)
        save_dicom(drop / f"{number}.dcm", made)
    extract = Extract(labels=("head", "femur"), frames=1, workers=1)
    records = {name: store_cine(drop / name, extract, store) for name in ("0.dcm", "1.dcm", "2.dcm")}
    patients = name_patients(drop, records, extract)
    journal, found = Journal(tmp_path / "journal.db"), []
    other = {
        "0.dcm": ellipse(30.5, 20),
        "1.dcm": ellipse(30.5, 20),
        "2.dcm": ellipse(20, 20),
    }  # the last differs
    femur = Caliper(id=uuid4().hex, label="femur", first_frame=3, last_frame=3, ends=((10, 60), (50, 60)))
    for name, record in records.items():
        marks = {"anna": [ellipse(29.5, 20)], "ben": [other[name]]}
        if name == "0.dcm":
            marks = {who: [*of_one, femur.model_copy(update={"id": uuid4().hex})] for who, of_one in marks.items()}
        for who, of_one in marks.items():
            said = [("mark", mark.model_dump(mode="json")) for mark in of_one] + [("submit", {})]
            journal.add([Event(who, "biometry", record["source"], uuid4().hex, *each) for each in said])
        shape = record["frames"], record["height"], record["width"]
        counted = counting(journal.events("biometry", record["source"]), UNLABELLED, shape[1:], 0.8)
        subject = Subject(record["source"], name, shape, record["mm_per_px"], **patients[name])
        found.append(rows_of(subject, counted, extract.labels))
    write_in_place(drop, found, journal, "biometry", "lea")
    done = extract_drop(drop, extract, store)
    assert done.quarantine["kind"].tolist() == ["row", "row"]
    assert set(done.quarantine["video"]) == {"2.dcm"}
    heads = done.sequences[done.sequences["label"] == "head"].sort_values("video")
    assert heads["patient"].tolist() == ["P0", "P1"] and set(heads["annotators"]) == {"anna;ben"}
    assert heads["first_frame"].tolist() == [1, 1]
    middle = Axes(0, 0, 60, 40, 0)
    assert heads["hc_mm"].astype(float).tolist() == pytest.approx([middle.circumference * 0.5] * 2, rel=1e-3)
    assert heads["ofd_mm"].astype(float).tolist() == pytest.approx([30, 30])
    (mask,) = {tuple(map(tuple, stored_mask(name, store)[1])) for name in heads["mask_source"]}
    mask = np.array(mask, bool)
    assert dice(mask, raster(ellipse(30, 20), mask.shape)) > 0.98
    (bone,) = done.sequences[done.sequences["label"] == "femur"].to_dict("records")
    assert (bone["first_frame"], float(bone["fl_mm"])) == (3, 20.0)
