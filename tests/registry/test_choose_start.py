"""What a warm start goes on from: chosen once for every state of the data, and never from a model that saw too much."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from new_registry import registry_in

from fetalflow.artefacts import file_digest, read_json
from fetalflow.errors import InputError
from fetalflow.hospital.arrival.withdrawal import add_withdrawn
from fetalflow.models.building import build
from fetalflow.models.package_files import CONFIG
from fetalflow.models.weights import save
from fetalflow.registry.candidates import SPLIT, Candidate, people_of
from fetalflow.registry.lineage import PATIENTS, patients_csv, sentences, trace
from fetalflow.registry.run_record import START, START_RUN, start_tags
from fetalflow.registry.warm_start import choose_start
from fetalflow.settings.params import TaskSettings
from fetalflow.training.start import started_from

BLOCK = TaskSettings.model_validate(
    {
        **{"phantom": {"sequences": {"arm": 4}}, "extract": {}, "preprocess": {}, "split": {}, "validate": {}},
        **{"train": {}, "register": {"model": "net"}, "retrain": {"warm": True}},
    }
)
GIVEN = {"task": "movement", "variant": "cnn", "network": "cnn", "labels": ["arm", "leg"], "frames": 2, "size": 32}


@pytest.fixture
def models(tmp_path, monkeypatch) -> dict[str, Candidate]:
    """Alias to what the registry has under it; the current folder is the workspace."""
    held: dict[str, Candidate] = {}

    def look_up(model: str, alias: str) -> Candidate | None:
        if not held:
            raise InputError(f"no model {model!r} is registered")
        return held.get(alias)

    monkeypatch.setattr("fetalflow.registry.warm_start.candidate", look_up)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return held


@pytest.fixture
def store(tmp_path) -> Path:
    folder = tmp_path / "store"
    (folder / "drop").mkdir(parents=True)
    (folder / "drop" / "annotations.csv").write_text("the first drop\n")
    (folder / "patients.csv").write_text("patient,side,since\nP1,train,d1\nP2,train,d1\nP9,test,d1\n")
    return folder


def version(folder: Path, number: int, seen: set[str] | None = frozenset({"P1", "P2"})) -> Candidate:
    place = folder / f"package{number}"
    torch.manual_seed(number)
    save(place, build("cnn", 2, 32, 2), GIVEN | {"options": {}, "extract": {}})
    tags = {"mlflow.parentRunId": f"run{number}"}
    return Candidate("net", str(number), f"child{number}", tags, None if seen is None else frozenset(seen), place)


def test_before_anything_is_registered_the_start_is_cold_and_stays_so_for_these_data(models, store, tmp_path):
    start = choose_start("movement", BLOCK, store)
    assert start.path == "" and "no champion and no challenger of net" in start.words
    models["challenger"] = version(tmp_path, 1)
    assert choose_start("movement", BLOCK, store) == start, "its own challenger would start a training for ever"


def test_the_champion_else_the_challenger_and_anew_for_new_data_only(models, store, tmp_path):
    models["challenger"] = version(tmp_path, 1)
    start = choose_start("movement", BLOCK, store)
    assert start.words == "warm: from the challenger, version 1 of net"
    assert Path(start.path).name == file_digest(tmp_path / "package1" / CONFIG)
    assert started_from(start.path)["started_from"] | {"package": ""} == {
        **{"package": "", "model": "net", "version": "1", "run": "run1", "before": []},
    }
    models |= {"challenger": version(tmp_path, 2), "champion": version(tmp_path, 3)}
    assert choose_start("movement", BLOCK, store) == start
    (store / "drop" / "annotations.csv").write_text("the second drop\n")
    later = choose_start("movement", BLOCK, store)
    assert later.words == "warm: from the champion, version 3 of net"
    assert Path(later.path).is_dir() and not Path(start.path).exists(), "a start that nobody needs is not kept"


def test_warm_or_cold_by_setting_and_by_word(models, store, tmp_path):
    models["champion"] = version(tmp_path, 1)
    cold = BLOCK.model_copy(update={"retrain": BLOCK.retrain.model_copy(update={"warm": False})})
    assert choose_start("movement", cold, store).path == ""
    warm = choose_start("movement", cold, store, warm=True)
    assert warm.path and choose_start("movement", cold, store) == warm, "the next look does not undo a person's word"
    assert choose_start("movement", BLOCK, store, warm=False).path == ""
    assert read_json("starts/movement/chosen.json")["warm"] is False


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ({"P1", "P9"}, "was trained on patients who are in the test part (1 of them)"),
        ({"P1", "P7"}, "was trained on patients who are withdrawn (1 of them)"),
        (None, "do not record the patients of its training"),
    ],
)
def test_a_model_that_saw_too_much_is_no_start(models, store, tmp_path, seen, said):
    add_withdrawn(store, "P7", "Ada", "she asked")
    models["champion"] = version(tmp_path, 1, seen)
    start = choose_start("movement", BLOCK, store)
    assert start.path == "" and said in start.words


def test_a_withdrawal_that_changes_no_row_ends_a_start_that_saw_her(models, store, tmp_path):
    """Her delivery was recalled before, so the accumulated drop stays as it is. She may be of another store."""
    models["champion"] = replace(
        version(tmp_path, 1, {"P1", "P5"}), people=frozenset({("P1", "North"), ("P5", "South")})
    )
    assert choose_start("movement", BLOCK, store).path
    add_withdrawn(store, "South/P1", "Ada", "she asked", [("South", "P1")])
    assert choose_start("movement", BLOCK, store).path, "the woman of another hospital"
    add_withdrawn(store, "South/P5", "Ada", "she asked", [("South", "P5")])
    assert "trained on patients who are withdrawn (1 of them)" in choose_start("movement", BLOCK, store).words


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """Three pipeline runs: the second goes on from the first, the third from the second."""
    tmp_path = tmp_path_factory.mktemp("chain")
    with pytest.MonkeyPatch.context() as patch, registry_in(tmp_path, patch) as found:
        client, runs = found.client, []
        experiment = client.create_experiment("movement", (tmp_path / "artefacts").as_uri())
        for number in range(3):
            sequences, patients = ["a", "b"], [f"P{number}", "T"]
            split = pd.DataFrame({"sequence": sequences, "patient": patients, "fold": 0, "part": ["train", "test"]})
            manifest = split[["sequence", "patient"]]
            tags = {"task": "movement", "data_digest": f"d{number}"}
            tags |= {START: "0" * 64, START_RUN: runs[-1]} if runs else {}
            run = client.create_run(experiment, start_time=1000 * (number + 1), tags=tags).info.run_id
            split.to_parquet(tmp_path / "split.parquet")
            client.log_artifact(run, str(tmp_path / "split.parquet"), "data")
            client.log_text(run, patients_csv(manifest, split), PATIENTS)
            runs.append(run)
        yield found, runs


def test_whom_a_model_saw_goes_back_through_all_its_starts(chain):
    store, runs = chain

    def seen(run: str) -> set[str] | None:
        people = people_of(store, run)
        return people and {patient for patient, _ in people}

    assert [seen(run) for run in runs] == [{"P0"}, {"P0", "P1"}, {"P0", "P1", "P2"}]
    store.client.set_tag(runs[1], START_RUN, "f" * 32)
    assert seen(runs[2]) is None, "a start whose run was purged may have seen anybody"
    found = trace(store, "P0")
    assert found.starts_gone == [runs[1]] and f"a run that is gone: {runs[1]}" in "\n".join(sentences(found))
    store.client.delete_tag(runs[1], START_RUN)
    assert seen(runs[2]) is None, "a start whose run is not known may have seen anybody"
    store.client.set_tag(runs[1], START_RUN, runs[0])
    assert SPLIT == "data/split.parquet"


def test_lineage_follows_warm_starts(chain):
    store, runs = chain
    found = trace(store, "P1")
    assert [(use.run, use.through, bool(use.parts)) for use in found.uses] == [
        (runs[1], "", True),
        (runs[2], runs[1], False),
    ]
    assert f"no sequence; its training started from a model of run {runs[1]}" in "\n".join(sentences(found))
    assert len(trace(store, "P2").uses) == 1


def test_the_tags_of_a_run_are_what_the_package_says(tmp_path):
    start = {"package": "abc", "model": "net", "version": "3", "run": "r3", "before": []}
    for name, more in (("cold", {}), ("warm", {"started_from": start})):
        save(tmp_path / name, build("cnn", 2, 32, 2), GIVEN | {"options": {}, "extract": {}} | more)
    assert start_tags(tmp_path / "cold") == {}
    assert start_tags(tmp_path / "warm") == {START: "abc", f"{START}.version": "3", START_RUN: "r3"}
