"""A bad delivery is recalled by one command from every task that took it, and labels are corrected from a table."""

import shutil
from pathlib import Path

import pytest
import yaml
from inbox_folder import deliver, rows_of, taken
from typer.testing import CliRunner

from fetalflow.errors import InputError
from flows import checkout
from flows.care import stores
from flows.cli.app import app

WHO = ("--by", "Ada", "--reason", "labels of another site")


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A checkout with arrivals of movement and of planes from one inbox, and of movement from another one."""
    folder = tmp_path_factory.mktemp("template")
    (folder / "params.yaml").write_bytes((Path(__file__).parents[2] / "params.yaml").read_bytes())
    deliver(folder / "north", "good", ["1.avi,P1,north,U7,A,,,head"], {"1.avi": b"1"})
    deliver(folder / "north", "bad", ["2.avi,P2,north,U7,A,,,arm"], {"2.avi": b"2"})
    deliver(folder / "south", "good", ["3.avi,P3,south,U7,A,,,head"], {"3.avi": b"3"})
    for name, task, inbox in (
        ("arrivals-movement", "movement", "north"),
        ("arrivals-planes", "planes", "north/"),
        ("other", "movement", "south"),
    ):
        params = yaml.safe_load((folder / "params.yaml").read_text())
        params[task]["retrain"] = params[task].get("retrain", {}) | {"inbox": inbox}
        store = folder / "workspaces" / name / "arrivals" / task
        taken(folder / inbox, store)
        (folder / "workspaces" / name / "params.yaml").write_text(yaml.safe_dump(params))
    return folder


@pytest.fixture
def place(template, tmp_path, monkeypatch) -> Path:
    """The same, for one test. It is the current folder."""
    folder = shutil.copytree(template, tmp_path / "checkout")
    for module in (checkout, stores):
        monkeypatch.setattr(module, "CHECKOUT", folder)
    monkeypatch.setenv("FETALFLOW_USER", "ada")
    monkeypatch.chdir(folder)
    return folder


def patients() -> dict[str, list[str]]:
    return {store.workspace.name: sorted(rows_of(store.path)["patient"]) for store in stores.stores()}


def call(*words: str) -> str:
    done = CliRunner().invoke(app, words)
    if done.exception is not None:
        raise done.exception
    return done.output


def test_a_delivery_is_recalled_from_every_task_that_took_it_and_back(place):
    before = patients()
    said = call("recall", "bad", *WHO)
    assert patients() == {"arrivals-movement": ["P1"], "arrivals-planes": ["P1"], "other": ["P3"]}
    assert "movement in" in said and "planes in" in said and "other" not in said
    assert "fetalflow retrain --task movement and fetalflow retrain --task planes" in said
    with pytest.raises(InputError, match="are left out already"):
        call("recall", "bad", *WHO)
    call("recall", "bad", *WHO, "--restore")
    assert patients() == before


def test_one_that_was_left_out_of_one_task_before_is_left_out_of_the_others(place):
    call("recall", "bad", *WHO, "--task", "planes")
    assert patients() == {"arrivals-movement": ["P1", "P2"], "arrivals-planes": ["P1"], "other": ["P3"]}
    said = call("recall", "bad", *WHO)
    assert "are left out already" in said and patients()["arrivals-movement"] == ["P1"]


def test_deliveries_of_two_inboxes_with_one_name_are_not_mixed_up(place):
    before = patients()
    with pytest.raises(InputError, match="several inboxes are called 'good'.*--workspace or --task"):
        call("recall", "good", *WHO)
    assert patients() == before
    call("recall", "good", *WHO, "--workspace", str(place / "workspaces" / "other"))
    assert patients() == before | {"other": []}


def test_a_drop_names_the_other_tasks_that_have_other_rows_of_the_delivery(place):
    deliver(place / "north", "labels", ["1.avi,P1,north,U7,A,,,head"], {"1.avi": b"1"})
    movement, planes, _ = stores.stores()
    taken(movement.inbox, movement.path)
    deliver(place / "north", "labels", ["1.avi,P1,north,U7,A,,,brain"], {"1.avi": b"1"})
    taken(planes.inbox, planes.path)
    drop = next(each for each in rows_of(planes.path)["drop"] if ";" not in each)
    said = call("recall", drop, *WHO)
    assert "Not recalled: movement in" in said and "delivery labels as drop" in said


@pytest.mark.parametrize("words", [("nix",), ("bad", "--task", "biometry")])
def test_a_delivery_that_nobody_took_is_a_message(place, words):
    with pytest.raises(InputError, match="no delivery called"):
        call("recall", *words, *WHO)


def test_labels_are_corrected_from_a_table_by_the_account_that_is_logged_in(place):
    where, table = ("--workspace", str(place / "workspaces" / "other")), str(place / "table.csv")
    store = stores.stores(Path(where[1]))[0].path
    (place / "table.csv").write_text(f"file,old,new,reason\n{rows_of(store)['video'][0]},head,arm,swapped\n")
    said = call("relabel", table, "--plan", *where)
    assert (
        "Nothing was changed" in said and "1 rows: head becomes arm." in said and rows_of(store)["label"][0] == "head"
    )
    said = call("relabel", table, *where)
    assert rows_of(store)["label"][0] == "arm" and ",ada,swapped," in (store / "recalled.csv").read_text()
    call("recall", said.split("fetalflow recall ")[1].split(".")[0], *WHO)
    assert rows_of(store)["label"][0] == "head"
