"""A forger with the rights of a worker, or with the database: everything shows in `verify`, and nothing stops a night.

The ledger here is sealed: `ledger.json` names its run and the public key, and the forger does not have the key.
"""

import json
import os
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import apprise
import pytest
from new_registry import registry_in
from typer.testing import CliRunner

from fetalflow.errors import InputError
from fetalflow.registry.candidates import people_of
from fetalflow.registry.client import LEDGER, RUN_TAG
from fetalflow.registry.ledger import anchor, reading, signing
from fetalflow.registry.ledger import record as ledger
from fetalflow.registry.ledger.chain import line_digest, mark_of, next_line, text_of
from fetalflow.registry.ledger.decisions import roll_back
from fetalflow.registry.ledger.record import history, record_move, verify
from fetalflow.registry.ledger.repair import repair, seal
from fetalflow.registry.lineage import PATIENTS, sentences, trace
from fetalflow.registry.run_record import START_RUN
from fetalflow.registry.tracking import registry
from flows.cli.app import app

MODEL, EVIDENCE = "net", "e" * 64


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """Four versions with files, and evidence of version 2, the champion. Lines 1 to 4 were written before the seal."""
    place = tmp_path_factory.mktemp("sealed")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        with registry_in(place, patch) as store:
            client = store.client
            client.create_registered_model(MODEL)
            experiment = client.create_experiment("runs", (place / "artefacts").as_uri())
            for number in "1234":
                folder = place / "files" / number
                folder.mkdir(parents=True)
                (folder / "weights").write_text(number)
                run = client.create_run(experiment).info.run_id
                client.create_model_version(MODEL, folder.as_uri(), run)
                client.log_dict(run, {"digest": EVIDENCE}, f"promotion/{EVIDENCE[:12]}/page.json")
        record_move(MODEL, "challenger", "1", None, "new", "worker")
        record_move(MODEL, "champion", "1", None, "first", "ann")
        seal(place / "lead.key")
        patch.setenv(signing.VARIABLE, str(place / "lead.key"))
        record_move(MODEL, "champion", "2", EVIDENCE, "better", "ann")
    return place


@pytest.fixture
def sealed(template, tmp_path, monkeypatch):
    """The place as a worker has it, without the key. Files and evidence are put back afterwards."""
    for name in ("mlflow.db", anchor.FILE, anchor.HEADS):
        shutil.copy(template / name, tmp_path)
    tops = [template / "files", template / "artefacts"]
    kept = {path: path.read_bytes() for top in tops for path in top.rglob("*") if path.is_file()}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setattr(ledger, "PATIENCE_S", 0.0)
    monkeypatch.setattr(reading, "READS", 1)
    yield template
    for path, content in kept.items():
        path.write_bytes(content)
    (template / "files" / "2" / "sitecustomize.py").unlink(missing_ok=True)


def run_of_ledger(store) -> str:
    return json.loads(Path(anchor.FILE).read_text())["run"]


def forged(lines: list[dict], **content) -> dict:
    """A line as fetalflow would write it, with another hash and without a signature."""
    said = {key: value for key, value in lines[-1].items() if key not in ("signature", "package", "kept")}
    return next_line(lines, **(said | {"number": lines[-1]["number"] + 1} | content))


def append(store, line: dict) -> None:
    store.client.log_param(run_of_ledger(store), f"line.{line['number']:06d}", text_of(line))


def an_unsigned_line(store, lines, template):
    append(store, forged(lines, to="3", step="done", who="ann"))
    store.set_alias(MODEL, "champion", "3")


def a_line_with_another_key(store, lines, template):
    key = signing.make_key("forger.key")
    line = forged(lines, to="3")
    line |= {"signature": signing.sign(key, line_digest(line))}
    append(store, line | {"sha256": line_digest(line)})


def a_copied_signature(store, lines, template):
    line = forged(lines, to="3", signature=lines[-1]["signature"])
    append(store, line | {"sha256": line_digest(line)})


def another_run(store, lines, template):
    """All lines written again with good hashes, the marks too, and the tag of the experiment. It needs no database."""
    experiment = store.client.get_experiment_by_name(LEDGER)
    run = store.client.create_run(experiment.experiment_id).info.run_id
    written: list[dict] = []
    for line in lines[:4]:
        written.append(next_line(written, **{k: v for k, v in line.items() if k not in ("number", "sha256")}))
        store.client.log_param(run, f"line.{line['number']:06d}", text_of(written[-1]))
    store.client.set_experiment_tag(experiment.experiment_id, RUN_TAG, run)
    store.set_mark(MODEL, mark_of(written[-1]))
    store.set_alias(MODEL, "champion", "1")


def another_experiment(store, lines, template):
    store.client.rename_experiment(store.client.get_experiment_by_name(LEDGER).experiment_id, "old")
    another = store.client.create_experiment(LEDGER)
    store.client.set_experiment_tag(another, RUN_TAG, store.client.create_run(another).info.run_id)


def swapped_files(store, lines, template):
    for one, other in (("2", "3"), ("3", "2")):
        (template / "files" / one / "weights").write_text(other)


def a_file_that_is_gone(store, lines, template):
    (template / "files" / "1" / "weights").unlink()


def a_file_more(store, lines, template):
    (template / "files" / "2" / "sitecustomize.py").write_text("import os")


def changed_evidence(store, lines, template):
    evidence_file(store, template).write_text("{}")


def removed_evidence(store, lines, template):
    evidence_file(store, template).unlink()


def evidence_file(store, template: Path) -> Path:
    (found,) = (template / "artefacts" / store.run_of(MODEL, "2")).rglob("page.json")
    return found


def stray(name: str, text: str):
    return lambda store, lines, template: store.client.log_param(run_of_ledger(store), name, text)


def a_line_far_away(store, lines, template):
    """A good line of a worker, after whose number MLflow would take no other line."""
    append(store, forged(lines, alias="challenger", to="3", number=10**244))


def a_mark_of_many_digits(store, lines, template):
    store.set_mark(MODEL, "9" * 4500 + " abc")


def heads_without_a_form(store, lines, template):
    """Added to a file to which everybody may add: none of them is a head, and the last note has no signature."""
    now = {"time": "2026-12-01T00:00:00+00:00"}
    head = {"run": run_of_ledger(store), "number": 1, "sha256": "0" * 64} | now
    note = {"settled": 0, "run": run_of_ledger(store), "who": "ann", "reason": "restored"} | now
    written = [head | {"number": []}, head | {"sha256": 5}, {"settled": 1}, note]
    with Path(anchor.HEADS).open("a") as file:
        file.write("".join(json.dumps(each) + "\n" for each in written) + "[" * 10**5 + "\n\x00\n")


FORGERIES = {
    "numbers": {
        a_line_far_away: "line 10{244} .*is not a line of the ledger: the next line has the number 8",
        stray("line.000012", '{"number":' + "9" * 5000 + "}"): "line 12 .* is not a line",
        stray("line.000000", "coffee"): "line 0 .* is not a line",
        a_mark_of_many_digits: "the mark of net is '99999",
    },
    "heads": {heads_without_a_form: "(?!)"},
    "lines and parameters": {
        an_unsigned_line: "line 7 .net@champion, version 3. is not a line .* no signature",
        a_line_with_another_key: "line 8 .* does not fit any public key",
        a_copied_signature: "line 9 .* does not fit any public key",
        stray("line.000010", "coffee"): "line 10 .'coffee'. is not a line",
        stray("line.000011", '{"model":[]}'): "line 11 .* is not a line",
        stray("line.999999999999", "[]"): "line 999999999999 .* is not a line",
        stray("line.5", "x"): "has a parameter 'line.5'",
        stray("line.0000005", "x"): "has a parameter 'line.0000005'",
        stray("note", "x"): "has a parameter 'note'",
    },
    "another run": {another_run: "names the run .*, expected .* ledger repair"},
    "another experiment": {another_experiment: "names the run .*, expected .* ledger repair"},
    "files": {
        swapped_files: "the files of version 2 of net were changed or swapped: line 5 recorded",
        a_file_that_is_gone: "the files of version 1 of net are gone: line 1",
    },
    "more": {
        a_file_more: "the files of version 2 of net were changed",
        changed_evidence: "line 6: of the evidence .* page.json was changed: expected",
    },
    "less": {
        removed_evidence: "line 6: of the evidence .* page.json is gone: expected .* found nothing",
        lambda store, lines, template: store.remove_mark(MODEL): "the mark of net was removed",
    },
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forger_with_the_rights_of_a_worker_shows_and_stops_no_night(sealed, name):
    with registry() as store:
        lines = history()
        for number, forge in enumerate(FORGERIES[name], lines[-1]["number"]):
            forge(store, [*lines[:-1], lines[-1] | {"number": number}], sealed)
    found = verify().wrong
    for words in FORGERIES[name].values():
        assert any(re.search(words, said) for said in found) or (words == "(?!)" and not found), (words, found)
    done = record_move(MODEL, "challenger", "4", None, "the night", "worker")
    assert (done["previous"], len(history())) == (history()[-2]["sha256"], 8)


def test_without_a_seal_a_line_before_the_first_and_one_far_away_stop_no_move(sealed):
    Path(anchor.FILE).unlink()
    with registry() as store:
        run, lines = store.ledger()[0], history()
        first = next_line([], **{k: v for k, v in lines[0].items() if k not in ("previous", "sha256")} | {"number": 0})
        for line in (first, forged(lines, to="3", number=10**244)):
            store.client.log_param(run, f"line.{line['number']:06d}", text_of(line))
    assert record_move(MODEL, "champion", "3", None, "better")["number"] == 8
    assert [said.split()[1] for said in verify().wrong] == ["0", str(10**244)]


def test_a_run_that_starts_from_itself_or_has_damaged_tables_is_said_and_stops_nothing(sealed):
    with registry() as store:
        run = store.run_of(MODEL, "1")
        store.client.set_tag(run, "data_digest", "d")
        store.client.log_text(run, "patient,site,fold,part,sequences\nP1,North,0,train,4\n", PATIENTS)
        assert people_of(store, run) == {("P1", "North")}
        store.client.set_tag(run, START_RUN, run)
        assert people_of(store, run) is None
        child = store.client.create_run(store.client.get_run(run).info.experiment_id)
        store.client.set_tag(child.info.run_id, "mlflow.parentRunId", run)
        store.client.log_text(child.info.run_id, "patient\nP1\n", "promotion/1/challenger.csv")
        store.client.log_text(child.info.run_id, "{", "promotion/1/verdict.json")
        found = trace(store, "P1")
        assert found.damaged == [f"{child.info.run_id}/promotion/1"] and len(found.uses) == 1
        assert "have not the form of a promotion's evidence" in " ".join(sentences(found))
        store.client.log_text(run, "patient,fold\nP1,x", PATIENTS)
        assert people_of(store, run) is None and trace(store, "P1").runs_without_table == [run]


def rebuilt(lines: list[dict], **change) -> list[dict]:
    """Line 5 with other words, and every later line with good hashes."""
    written = lines[:4]
    for line in lines[4:]:
        said = line | change
        said |= {"previous": written[-1]["sha256"]}
        written.append(said | {"sha256": line_digest(said)})
    return written


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"reason": "nobody knows"}, "line 5 .* does not fit any public key"),
        (None, "line 6 with the hash .* was exported to .* and it is not in the ledger, whose last line is 4"),
    ],
    ids=["lines written again", "tail cut off"],
)
def test_a_forger_with_the_database_shows(sealed, change, words):
    """All hashes and the mark are good."""
    lines = history()
    written = rebuilt(lines, **change) if change else lines[:4]
    with closing(sqlite3.connect("mlflow.db")) as database, database:
        database.execute("DELETE FROM params WHERE key >= 'line.000005'")
    with registry() as store:
        for line in written[4:]:
            append(store, line)
        store.set_mark(MODEL, mark_of(written[-1]))
        store.set_alias(MODEL, "champion", "2" if change else "1")
    found = "\n".join(verify().wrong)
    assert re.search(words, found), found


def test_a_line_that_was_replaced_before_the_seal_shows_and_stops_every_move(sealed):
    lines = history()
    with closing(sqlite3.connect("mlflow.db")) as database, database:
        database.execute("DELETE FROM params WHERE key >= 'line.000004'")
    line = forged(lines[:3], to="3", step="done")
    with registry() as store:
        append(store, line)
        store.set_mark(MODEL, mark_of(line))
    assert "line 4 with the hash" in verify().wrong[0] and "when the ledger was sealed" in verify().wrong[0]
    with pytest.raises(InputError, match="the ledger is damaged"):
        record_move(MODEL, "challenger", "3", None, "the night")


def test_only_who_has_the_key_moves_the_champion(sealed, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="a move of champion must be signed, so nothing was moved"):
        record_move(MODEL, "champion", "3", None, "by a worker")
    assert "signature" not in record_move(MODEL, "challenger", "3", None, "by a worker")
    signing.make_key(tmp_path / "other.key")
    monkeypatch.setenv(signing.VARIABLE, str(tmp_path / "other.key"))
    with pytest.raises(InputError, match="nothing was moved: the key of .* and ledger.json names"):
        record_move(MODEL, "champion", "3", None, "with another key")
    os.chmod(tmp_path / "other.key", 0o604)
    with pytest.raises(InputError, match="every user of this machine may use"):
        record_move(MODEL, "champion", "3", None, "with a key that all can read")
    monkeypatch.setenv(signing.VARIABLE, str(sealed / "lead.key"))
    assert (sealed / "lead.key").stat().st_mode & 0o077 == 0
    assert [line.get("signature") is None for line in history()] == [True] * 4 + [False] * 2 + [True] * 2
    assert record_move(MODEL, "champion", "1", None, "worse") and verify().wrong == []
    with registry() as store:
        append(store, forged(history(), to="3"))
    record_move(MODEL, "champion", "2", None, "the first key was stolen")
    seal(tmp_path / "second.key", ["elsewhere.jsonl"], ["challenger", "shadow"], only=True)
    with pytest.raises(InputError, match="nothing was moved: the key of .* and ledger.json names"):
        record_move(MODEL, "champion", "1", None, "with the stolen key")
    monkeypatch.setenv(signing.VARIABLE, str(tmp_path / "second.key"))
    assert "signature" in record_move(MODEL, "champion", "1", None, "with the second key")
    (stray,) = verify().wrong
    assert "line 11 (net@champion, version 3) is not a line of the ledger" in stray


def test_a_version_whose_files_changed_is_not_given_an_alias(sealed, monkeypatch):
    monkeypatch.setenv(signing.VARIABLE, str(sealed / "lead.key"))
    (sealed / "files" / "1" / "weights").write_text("3")
    for move in (lambda: roll_back(MODEL, reason="worse"), lambda: record_move(MODEL, "champion", "1", None, "worse")):
        with pytest.raises(InputError, match="version 1 of net"):
            move()
    assert len(history()) == 6


def test_repair_writes_false_marks_and_the_name_of_the_run_again(sealed):
    with registry() as store:
        another_run(store, history(), sealed)
        store.set_mark(MODEL, "99 abc")
        store.set_alias(MODEL, "champion", "2")
    assert "the mark of net is '99 abc', expected 6 " in verify().wrong[0]
    assert len(repair()) == 2 and verify().wrong == [] and repair() == []
    Path(anchor.HEADS).unlink()
    with registry() as store:
        store.set_mark(MODEL, "99 abc")
    with pytest.raises(InputError, match="the mark of net names line 99"):
        record_move(MODEL, "challenger", "3", None, "the night")
    with pytest.raises(InputError, match="no exported head shows that no line is missing"):
        repair()


def test_a_restored_database_is_taken_on_record(sealed, tmp_path_factory, monkeypatch):
    backup = Path("mlflow.db").read_bytes()
    record_move(MODEL, "challenger", "3", None, "lost")
    Path("mlflow.db").write_bytes(backup)
    assert "line 8 with the hash" in verify().wrong[0] and "--restored" in verify().wrong[0]
    with pytest.raises(InputError, match="needs a reason"):
        repair(restored=True)
    with pytest.raises(InputError, match="a note that exported heads are lost must be signed"):
        repair("the disk broke", restored=True)
    monkeypatch.setenv(signing.VARIABLE, str(sealed / "lead.key"))
    assert "its last line is 6" in repair("the disk broke", restored=True)[0] and verify().wrong == []
    assert any("noted that the heads until then need not be" in said for said in verify().notes)
    moved = tmp_path_factory.mktemp("moved")
    shutil.copytree(".", moved, dirs_exist_ok=True)
    with monkeypatch.context() as patch:
        patch.chdir(moved)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{moved / 'mlflow.db'}")
        assert verify().wrong == [], "the address of the store is another one now"
    record_move(MODEL, "challenger", "3", None, "again")
    Path("mlflow.db").write_bytes(backup)
    assert "line 8 with the hash" in verify().wrong[0]


def test_evidence_that_was_changed_on_purpose_is_recorded_again(sealed, monkeypatch):
    """Such as for a patient who was erased. A worker cannot do it."""
    with registry() as store:
        changed_evidence(store, [], sealed)
    with pytest.raises(InputError, match="must be signed"):
        repair("a patient was erased", evidence=True)
    monkeypatch.setenv(signing.VARIABLE, str(sealed / "lead.key"))
    assert "line 7: the files of the evidence" in repair("a patient was erased", evidence=True)[0]
    assert verify().wrong == [] and history()[-1]["step"] == "renewed" and repair("why", evidence=True) == []
    assert "files of its evidence changed on purpose" in CliRunner().invoke(app, ["ledger", "history"]).stdout


def test_the_head_goes_to_files_and_addresses_after_each_move(sealed, monkeypatch, caplog):
    settings = json.loads(Path(anchor.FILE).read_text())
    targets = ["heads/a.jsonl", "b.jsonl", "json://user:secret@127.0.0.1:9/x", "nosuch://x"]
    Path(anchor.FILE).write_text(json.dumps(settings | {"export": targets}))
    sent = []
    monkeypatch.setattr(apprise.Apprise, "notify", lambda self, body, title: sent.append(body) or True)
    line = record_move(MODEL, "challenger", "3", None, "the night")
    for file in (anchor.HEADS, "b.jsonl"):
        head = json.loads(Path(file).read_text().splitlines()[-1])
        assert (head["number"], head["sha256"], head["run"]) == (8, line["sha256"], settings["run"])
    assert len(sent) == 1 and line["sha256"] in sent[0]
    assert "heads/a.jsonl" in caplog.text and "nosuch://" in caplog.text and "secret" not in caplog.text
    assert verify().wrong == []


@pytest.mark.parametrize("text", ["", "[]", '{"run": 1}', '{"key": "x"}', '{"sealed": 3}'])
def test_a_broken_ledger_json_is_a_message(sealed, text):
    Path(anchor.FILE).write_text(text)
    with pytest.raises(InputError, match="ledger.json does not have the settings of a ledger"):
        verify()


def test_a_ledger_json_that_is_named_must_be_there_and_fit_the_registry(sealed, monkeypatch):
    monkeypatch.setenv(anchor.VARIABLE, "nowhere.json")
    with pytest.raises(InputError, match="nowhere.json cannot be read"):
        verify()
    Path("nowhere.json").write_text(json.dumps({"run": "f" * 32}))
    with pytest.raises(InputError, match="ledger.json names the run ffff.* does not have it"):
        record_move(MODEL, "challenger", "3", None, "the night")


def test_the_verbs(sealed, tmp_path):
    with registry() as store:
        stray("line.5", "x")(store, [], sealed)
    done = CliRunner().invoke(app, ["ledger", "verify"])
    assert done.exit_code == 1 and done.stdout.count("WRONG  ") == 1 and "6 lines, 1 errors" in done.stdout
    assert "Nothing had to be repaired" in CliRunner().invoke(app, ["ledger", "repair"]).stdout
    done = CliRunner().invoke(app, ["ledger", "seal", "--key-file", "new.key", "--export", "x.jsonl"])
    assert done.exit_code == 0 and "2 public keys" in done.stdout and Path("new.key").read_text() not in done.stdout
    assert json.loads(Path("x.jsonl").read_text())["number"] == 6
