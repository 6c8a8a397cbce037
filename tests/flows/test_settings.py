"""Settings of a workspace: kept, changed one by one, shown with where they come from, taken back, and recorded."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from fetalflow.errors import InputError
from fetalflow.settings.params import Settings, load_settings
from flows.cli.app import app
from flows.retrain import prepare_workspace
from flows.workspaces.changes import differences, leaves, nested, overlay, parse_changes
from flows.workspaces.settings_record import ORIGIN, SHARED, WRITTEN, read_history, record_changes_by_hand, shown
from flows.workspaces.workspace import prepare, update_workspace

FIRST = ["movement.train.epochs=2", "movement.retrain.warm=true", "movement.retrain.deidentify=true"]


def block(folder: Path):
    return load_settings(folder / "params.yaml").blocks["movement"]


def facts(folder: Path) -> tuple:
    of = block(folder)
    return of.train.epochs, of.retrain.warm, of.retrain.deidentify, of.preprocess.size, of.retrain.inbox, of.split.kind


@pytest.fixture
def night(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("FETALFLOW_USER", "Ada")
    return prepare_workspace(tmp_path / "night", "movement", "s3://drops/in", "paper", [parse_changes(FIRST)])


def settings(folder: Path, *words: str) -> str:
    done = CliRunner().invoke(app, ["settings", "--workspace", str(folder), *words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


@pytest.mark.parametrize("record", [True, False], ids=["with its record", "of an earlier version, without one"])
def test_each_change_of_a_retraining_keeps_all_earlier_ones(night, record):
    def change(**what) -> tuple:
        if not record:
            for name in (ORIGIN, WRITTEN):
                (night / name).unlink(missing_ok=True)
        given = {"inbox": None, "profile": None, "changes": []} | what
        prepare_workspace(night, "movement", given["inbox"], given["profile"], given["changes"])
        return facts(night)

    assert facts(night) == (2, True, True, 300, "s3://drops/in", "official")
    start = {"movement": {"train": {"start": "starts/movement/abc"}}}
    params = overlay(yaml.safe_load((night / "params.yaml").read_text()), start)
    for name in ("params.yaml", WRITTEN):
        (night / name).write_text(yaml.safe_dump(params))
    assert change(changes=[parse_changes(["movement.train.batch=6"])]) == (
        2,
        True,
        True,
        300,
        "s3://drops/in",
        "official",
    )
    assert change(inbox="s3://drops/new") == (2, True, True, 300, "s3://drops/new", "official")
    more = parse_changes(["movement.split.kind=grouped", "movement.train.epochs=3"])
    assert change(changes=[more]) == (3, True, True, 300, "s3://drops/new", "grouped")
    assert change(profile="folds")[:2] == (3, True) and block(night).train.batch == 6
    assert change(changes=[parse_changes(["machines.trainings=1"])])[5] == "grouped"
    assert block(night).train.start == "starts/movement/abc"
    prepare(night, "planes")
    assert load_settings(night / "params.yaml").machines.trainings == 1, "another task changes nothing of this one"
    assert facts(night)[:3] == (3, True, True)


def test_a_change_by_hand_is_seen_said_kept_and_can_be_taken_back(night, capsys):
    file = night / "params.yaml"
    file.write_text(file.read_text().replace("epochs: 2", "epochs: 7"))
    params = yaml.safe_load(file.read_text())
    del params["movement"]["rivals"]["movement-cnn"], params["ablations"]["movement-cnn"]
    file.write_text("# by me\n" + yaml.safe_dump(params, width=20))  # another form, as DVC gives it
    assert update_workspace(night) == ""
    said = capsys.readouterr().err
    assert "movement.train.epochs was changed by hand" in said and "from 2 to 7" in said
    assert file.read_text().startswith("# by me"), "a flow does not write the file again"
    prepare_workspace(night, "movement", None, None, [parse_changes(["movement.train.batch=6"])])
    assert (block(night).train.epochs, block(night).train.batch) == (7, 6) and "by hand" not in capsys.readouterr().err
    assert "movement-cnn" not in block(night).rivals
    assert "movement.train.epochs = 7  (by hand, Ada, 20" in settings(night, "movement.train.epochs")
    prepare(night, "movement", alone=True)
    assert block(night).train.epochs == 7 and block(night).train.batch != 6, "--set is for one run alone, a hand is not"
    settings(night, "--unset", "movement.train.epochs")
    assert block(night).train.epochs == load_settings("params.yaml").blocks["movement"].train.epochs
    assert record_changes_by_hand(night) == []
    file.write_text(file.read_text().replace("epochs: ", "epochs: many # "))
    before = (night / ORIGIN).read_bytes()
    with pytest.raises(InputError, match="movement.train.epochs"):
        prepare(night, "movement")
    assert (night / ORIGIN).read_bytes() == before, "a wrong value by hand is refused and not kept"


def test_what_is_of_the_whole_workspace_is_kept_by_every_task(night):
    """The pages of the log of answers and of the node say to write these blocks by hand."""
    file = night / "params.yaml"
    of_tasks = {"tasks", "phantoms", "ablations", "pretrainings", "profiles", "blocks"}
    assert {*SHARED} == set(Settings.model_fields) - of_tasks, "a new block of the whole workspace is kept, too"

    def whole() -> tuple:
        of = load_settings(file)
        return of.watch.folder, of.watch.days, of.node.title, of.machines.processes

    old = yaml.safe_load(file.read_text()) | {"node": {"title": "NORTH"}}
    for name in (file, night / WRITTEN):  # an earlier fetalflow kept the block, and no record of it
        name.write_text(yaml.safe_dump(old))
    file.write_text(file.read_text() + "watch: {folder: answers, days: 30}\n")
    prepare_workspace(night, "movement", None, None, [parse_changes(["movement.train.batch=6"])])
    assert whole() == ("answers", 30, "NORTH", 1) and "watch.days = 30  (by hand, Ada" in settings(night, "watch")
    prepare(night, "planes", changes=[parse_changes(["machines.processes=2", "watch.days=60"])])
    assert whole() == ("answers", 60, "NORTH", 2)
    settings(night, "--set", "machines.processes=3", "--task", "movement")
    assert whole() == ("answers", 60, "NORTH", 3)
    prepare(night, "planes")
    assert whole() == ("answers", 60, "NORTH", 3), "the newest value is that of all tasks"
    settings(night, "--set", "node.title=SOUTH")
    assert whole()[2] == "SOUTH", "it needs no --task"
    settings(night, "--unset", "node.title", "--unset", "machines.processes")
    prepare(night, "planes")
    assert whole() == ("answers", 60, "FETALFLOW", 1)
    params = yaml.safe_load(file.read_text())
    del params["watch"]["days"], params["movement"]["retrain"]["warm"]
    file.write_text(yaml.safe_dump(params))
    prepare(night, "planes")
    prepare_workspace(night, "movement", None, None, [])
    assert whole()[1] == 365 and not block(night).retrain.warm, "what was removed by hand does not come back"


@pytest.mark.parametrize(
    "url", ["s3://key:se@cret@drops/in", "s3://key:secret@drops/a@b", "https://h/in?sig=secret&x=secret"]
)
def test_no_secret_of_a_url_is_shown(url):
    assert "cret" not in shown(url) and "drops" in shown(url) + "drops"


def test_every_setting_is_shown_with_its_source_and_who_changed_it(night):
    settings(night, "--set", "movement.retrain.inbox=s3://key:secret@drops/in?X-Signature=abc")
    rows = {row["key"]: row for row in json.loads(settings(night, "--json"))}
    assert set(leaves({"machines": load_settings(night / "params.yaml").machines.model_dump()})) <= {
        tuple(key.split(".")) for key in rows
    }
    sources = {key: rows[key]["source"] for key in ("movement.train.epochs", "movement.preprocess.size")}
    assert sources == {"movement.train.epochs": "set", "movement.preprocess.size": "profile paper"}
    assert rows["movement.retrain.settle"]["source"] == "default" and rows["movement.retrain.settle"]["value"] == 900
    assert rows["movement.train.epochs"]["who"] == "Ada" and rows["movement.train.epochs"]["how"] == "fetalflow retrain"
    record = (night / "settings.jsonl").read_text() + settings(night) + settings(night, "--history")
    assert "secret" not in record and "abc" not in record and "s3://***@drops/in?X-Signature=***" in record
    assert load_settings(night / "params.yaml").blocks["movement"].retrain.inbox.startswith("s3://key:secret@")
    before = len(read_history(night))
    settings(night, "--set", "movement.train.epochs=5")
    settings(night, "--unset", "movement.train.epochs", "--unset", "profiles.paper")
    steps = [(line["key"], line["before"], line["after"]) for line in read_history(night)[before:]]
    assert steps[0] == ("movement.train.epochs", 2, 5) and steps[-1][0] and facts(night)[1:3] == (True, True)
    how = {line["key"]: line["how"] for line in read_history(night)[before:]}
    assert how["movement.preprocess.size"] == "fetalflow settings --unset", "the command names what the profile sets"
    assert ("movement.preprocess.size", 300, 64) in steps and "epochs: 5 -> 1" in settings(night, "--history")
    assert all(row["source"] != "default" for row in json.loads(settings(night, "--changed", "--json")))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["movement.train.epoch"], "there is no setting"),
        (["--unset", "movement.train.batch"], "was not changed here. Changed are: .*profiles.paper"),
        (["--unset", "tasks.movement.drop"], "what the workspace is for"),
        (["--set", "movement.train.epochs=many"], "movement.train.epochs"),
        (["--set", "planes.train.epochs=2"], "no settings of planes"),
    ],
)
def test_a_refused_change_leaves_all_as_it_was(night, words, message):
    before = {file.name: file.read_bytes() for file in night.iterdir() if file.is_file()}
    with pytest.raises(InputError, match=message):
        settings(night, *words)
    assert {file.name: file.read_bytes() for file in night.iterdir() if file.is_file()} == before


def test_differences_are_the_changes_that_were_made():
    base = {"a": {"b": 1, "c": {"d": [1]}}, "m": {"rivals": {"x": {"y": 1}, "z": {"y": 2}}}}
    change = {"a": {"c": {"d": [2]}, "e": None}, "m": {"rivals": {"x": None}}, "new": {"f": {}}}
    now = overlay(base, change)
    assert differences(base, now) == change and differences(now, now) == {}
    assert nested(leaves(change)) == change
    assert shown({"a": ["https://h/x?sig=1&k=2", "s3://u@b"]}) == {"a": ["https://h/x?sig=***&k=***", "s3://***@b"]}
