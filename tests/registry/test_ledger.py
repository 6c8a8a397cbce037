"""The ledger on a real embedded registry: what it writes, and what it notices."""

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from new_registry import registry_in

from fetalflow.errors import InputError
from fetalflow.registry.client import LEDGER, MARK_TAG, Registry
from fetalflow.registry.ledger import record as ledger
from fetalflow.registry.ledger import sentences
from fetalflow.registry.ledger.alias_history import versions_in_turn
from fetalflow.registry.ledger.chain import KEYS, line_digest, mark_of, next_line, read_lines, text_of
from fetalflow.registry.ledger.decisions import accept, put_back
from fetalflow.registry.ledger.record import alias_problems, history, record_move, verify
from fetalflow.registry.ledger.repair import repair
from fetalflow.registry.tracking import TrackingFailed, registry

MODEL = "net"


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A registry with three versions of one model and no alias."""
    folder = tmp_path_factory.mktemp("registry")
    with pytest.MonkeyPatch.context() as patch, registry_in(folder, patch) as store:
        store.client.create_registered_model(MODEL)
        for _ in range(3):
            store.client.create_model_version(MODEL, "file:///nowhere")
    return folder / "mlflow.db"


@pytest.fixture
def database(template, tmp_path, monkeypatch):
    path = shutil.copy(template, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    monkeypatch.setattr(ledger, "PATIENCE_S", 0.0)
    return path


@pytest.fixture
def three_moves(database):
    """Challenger to 1, champion to 1, champion to 2: six lines."""
    record_move(MODEL, "challenger", "1", "e1", "new", "ann")
    record_move(MODEL, "champion", "1", "e2", "first", "ann")
    return record_move(MODEL, "champion", "2", "e3", "better", "bea")


def sql(database, statement: str, *values) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        assert connection.execute(statement, values).rowcount == 1


def edit(database, number: int, **changes) -> None:
    line = next(line for line in history() if line["number"] == number) | changes
    sql(database, "UPDATE params SET value = ? WHERE key = ?", text_of(line), f"line.{number:06d}")


def delete(database, number: int) -> None:
    sql(database, "DELETE FROM params WHERE key = ?", f"line.{number:06d}")


def test_a_move_is_written_before_and_after(database, monkeypatch):
    seen = []
    set_alias = Registry.set_alias

    def watched(store, *words):
        seen.extend(json.loads(text)["step"] for text in store.lines().values())
        set_alias(store, *words)

    monkeypatch.setattr(Registry, "set_alias", watched)
    done = record_move(MODEL, "champion", "2", "abc", "it is better", "ann")
    assert seen == ["intent"]
    intent, last = history(MODEL)
    assert last == done and sorted(done) == sorted(KEYS)
    assert (intent["step"], done["step"]) == ("intent", "done") and intent["move"] == done["move"]
    wanted = {"from": None, "to": "2", "evidence": "abc", "reason": "it is better", "who": "ann", "alias": "champion"}
    assert {key: done[key] for key in wanted} == wanted
    assert done["previous"] == intent["sha256"] and done["time"].endswith("+00:00")
    with registry() as store:
        assert store.aliases(MODEL) == {"champion": "2"}


def test_a_whole_ledger_is_found_whole(three_moves):
    verdict = verify()
    assert (verdict.wrong, verdict.notes, verdict.lines) == ([], [], 6)
    assert verdict.head == three_moves["sha256"]
    assert verify(head=history()[2]["sha256"][:16]).wrong == []
    assert "rebuilt or cut" in verify(head="0123abcd").wrong[0]
    assert history("another") == []


def test_an_alias_that_is_there_already_is_not_moved(three_moves):
    assert record_move(MODEL, "champion", "2", None, "again") is None
    assert len(history()) == 6


def test_who_is_the_user_and_the_machine_unless_given(database):
    user, _, host = record_move(MODEL, "champion", "1", None, "why")["who"].partition("@")
    assert user and host


def test_an_alias_moved_by_hand_is_noticed_and_stays_on_record(three_moves):
    with registry() as store:
        store.set_alias(MODEL, "champion", "3")
    assert verify().wrong == [
        "net@champion was moved by hand: the registry shows version 3, the ledger says version 2."
    ]
    record_move(MODEL, "champion", "1", None, "back in order", "ann")
    assert verify().wrong == []
    found = history()[6]
    assert (found["step"], found["from"], found["to"]) == ("found", "2", "3")


def by_hand(version: str | None, alias: str = "champion") -> None:
    with registry() as store:
        store.set_alias(MODEL, alias, version)


def test_a_move_by_hand_is_accepted_with_who_and_why(three_moves):
    by_hand("3")
    assert alias_problems(MODEL, "champion") == verify().wrong and alias_problems(MODEL, "challenger") == []
    for empty in ("", "  "):
        with pytest.raises(InputError, match="needs a reason"):
            accept(MODEL, "champion", empty)
    line = accept(MODEL, "champion", "the clinic asked for it", "bea")
    assert (line["step"], line["kind"], line["from"], line["to"]) == ("found", "accept", "2", "3")
    assert (line["who"], line["reason"]) == ("bea", "the clinic asked for it")
    assert (verify().wrong, verify().notes, alias_problems(MODEL, "champion")) == ([], [], [])
    for again in (accept, put_back):
        with pytest.raises(InputError, match="was not moved by hand: registry and ledger say version 3"):
            again(MODEL, "champion", "again")


@pytest.mark.parametrize(
    ("alias", "moved", "back"), [("champion", "3", "2"), ("champion", None, "2"), ("new", "3", None)]
)
def test_a_move_by_hand_is_undone(three_moves, alias, moved, back):
    """Moved, taken away, and put where the ledger knows of none."""
    by_hand(moved, alias)
    assert len(verify().wrong) == 1
    line = put_back(MODEL, alias, "nobody knows who did it", "bea")
    assert (line["step"], line["kind"], line["from"], line["to"]) == ("done", "put back", moved, back)
    with registry() as store:
        assert store.aliases(MODEL).get(alias) == back
    assert (verify().wrong, verify().notes) == ([], [])
    assert [line["step"] for line in history()[6:]] == ["found", "intent", "done"]


def test_a_move_by_hand_that_was_only_noticed_still_waits_for_a_decision(three_moves, monkeypatch):
    """The process dies between the line that notices it and the move that it came before."""
    by_hand("3")
    add, written = ledger.append_line, []

    def dying(store, lines, said):
        if written:
            raise Crash
        written.append(said)
        return add(store, lines, said)

    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(ledger, "append_line", dying)
        record_move(MODEL, "champion", "1", None, "back")
    assert history()[-1]["step"] == "found" and "moved by hand" in verify().wrong[0]
    accept(MODEL, "champion", "it may stay")
    assert verify().wrong == []


def test_a_move_from_elsewhere_than_expected_is_not_begun(three_moves):
    with pytest.raises(InputError, match="is at version 2 now, not 1"):
        record_move(MODEL, "champion", "3", None, "judged against 1", expected="1")
    with pytest.raises(InputError, match="is at version 2 now, not none"):
        record_move(MODEL, "champion", "3", None, "the first", expected=None)
    assert len(history()) == 6
    assert record_move(MODEL, "champion", "3", None, "judged against 2", expected="2")["to"] == "3"


def test_a_move_that_was_cut_off_and_then_moved_by_hand_is_both(three_moves, monkeypatch):
    def dying(store, *words):
        raise Crash

    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(Registry, "set_alias", dying)
        record_move(MODEL, "champion", "1", None, "back")
    by_hand("3")
    assert "moved by hand" in verify().wrong[0]
    put_back(MODEL, "champion", "not by hand")
    assert verify().wrong == [] and [line["step"] for line in history()[6:]] == [
        *("intent", "settled", "found", "intent", "done")
    ]


def test_an_alias_removed_or_added_by_hand_is_noticed(three_moves):
    with registry() as store:
        store.client.delete_registered_model_alias(MODEL, "champion")
        store.set_alias(MODEL, "shadow", "3")
    assert verify().wrong == [
        "net@champion was moved by hand: the registry shows no version, the ledger says version 2.",
        "net@shadow was moved by hand: the registry shows version 3, the ledger says no version.",
    ]


def test_a_model_that_is_gone_is_noticed_and_stops_no_other(three_moves):
    with registry() as store:
        store.client.create_registered_model("other")
        store.client.create_model_version("other", "file:///nowhere")
        store.client.delete_registered_model(MODEL)
    assert verify().wrong == ["net is in the ledger and not in the registry: the model was deleted or renamed."]
    assert record_move("other", "champion", "1", None, "first")["number"] == 8


def test_an_edited_line_is_noticed(three_moves, database):
    edit(database, 4, reason="nothing to see")
    assert verify().wrong == ["line 4 was edited: its hash does not fit its content."]


def test_an_edited_line_with_a_new_hash_is_noticed(three_moves, database):
    line = history()[3] | {"who": "nobody"}
    edit(database, 4, who="nobody", sha256=line_digest(line))
    assert verify().wrong == ["line 5 does not follow line 4: one of the two was replaced."]


def test_a_last_line_with_a_new_hash_is_noticed(three_moves, database):
    line = history()[5] | {"who": "nobody"}
    edit(database, 6, who="nobody", sha256=line_digest(line))
    assert verify().wrong == ["line 6 was replaced: the mark of net has another hash for it."]


def test_a_line_that_is_no_line_is_noticed(three_moves, database):
    sql(database, "UPDATE params SET value = 'spilt coffee' WHERE key = 'line.000002'")
    assert "line 2 was edited: it is not a line of the ledger any more." in verify().wrong


def test_a_deleted_line_is_noticed(three_moves, database):
    delete(database, 3)
    assert verify().wrong == ["line 3 is missing: it was deleted."]


def test_a_cut_tail_is_noticed(three_moves, database):
    delete(database, 6)
    delete(database, 5)
    assert "the last lines were deleted: the mark of net names line 6, the last line is 4." in verify().wrong


def test_a_removed_mark_is_noticed(three_moves):
    with registry() as store:
        store.client.delete_registered_model_tag(MODEL, MARK_TAG)
    assert verify().wrong == ["the mark of net was removed: without it, deleted last lines would not be noticed."]


def test_a_ledger_that_is_gone_is_noticed(three_moves, database):
    with registry() as store:
        experiment = store.client.get_experiment_by_name(LEDGER).experiment_id
        store.client.delete_experiment(experiment)
    with pytest.raises(InputError, match=rf"mlflow experiments restore -x {experiment}"):
        verify()
    with registry() as store:
        store.client.restore_experiment(experiment)
        assert verify().wrong == []
        store.client.rename_experiment(experiment, "out of the way")
    (wrong,) = verify().wrong  # the workspace knows the run, so its lines are still read
    assert "names the run none, expected" in wrong and "fetalflow ledger repair" in wrong
    assert [said.startswith("the experiment of the ledger names the run") for said in repair()] == [True]
    assert verify().wrong == []


def test_no_alias_is_moved_under_a_broken_ledger(three_moves, database):
    edit(database, 4, reason="nothing to see")
    with pytest.raises(InputError, match="line 4 was edited"):
        record_move(MODEL, "champion", "3", None, "newest")
    with registry() as store:
        assert store.aliases(MODEL)["champion"] == "2"


def test_mlflow_itself_refuses_to_change_a_line(three_moves):
    with registry() as store:
        assert store.add_line(6, "something else") is False
        assert store.add_line(7, "spilt coffee") is True
    (wrong,) = verify().wrong
    assert "line 7 ('spilt coffee') is not a line of the ledger: expected a JSON object with the number 7" in wrong
    assert record_move(MODEL, "champion", "1", None, "it stops nothing")["number"] == 9 and verify().wrong == [wrong]


class Crash(BaseException):
    """The process dies here."""


@pytest.mark.parametrize("made", [False, True])
def test_after_a_crash_between_the_lines_the_registry_says_what_was_done(three_moves, monkeypatch, made):
    set_alias = Registry.set_alias

    def dying(store, *words):
        if made:
            set_alias(store, *words)
        raise Crash

    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(Registry, "set_alias", dying)
        record_move(MODEL, "champion", "3", "e4", "newest", "ann")
    verdict = verify()
    assert verdict.wrong == [] and len(verdict.notes) == 1
    words = "shows version 3, so it was made" if made else "shows version 2, so it was not made"
    assert "line 7: the move of net@champion" in verdict.notes[0] and words in verdict.notes[0]
    record_move(MODEL, "champion", "1", None, "back", "bea")
    assert (verify().wrong, verify().notes) == ([], [])
    assert [line["step"] for line in history()[6:]] == ["intent", "settled", "intent", "done"]
    settled = history()[7]
    assert settled["to"] == ("3" if made else "2") and settled["from"] == "2" and settled["who"] == "ann"


def test_a_crash_between_a_line_and_its_mark_is_no_fault(three_moves, monkeypatch):
    def dying(store, *words):
        raise Crash

    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(Registry, "set_mark", dying)
        record_move(MODEL, "champion", "3", None, "newest")
    assert verify().wrong == [] and "so it was not made" in verify().notes[0]


@pytest.mark.parametrize("settle", [repair, lambda: record_move("other", "champion", "1", None, "again")])
def test_a_crash_before_the_first_mark_of_a_model_stops_no_other_and_is_settled(three_moves, monkeypatch, settle):
    def dying(store, *words):
        raise Crash

    with registry() as store:
        store.client.create_registered_model("other")
        store.client.create_model_version("other", "file:///nowhere")
    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(Registry, "set_mark", dying)
        record_move("other", "champion", "1", None, "the first")
    assert verify().wrong == [] and "so it was not made" in verify().notes[0]
    assert record_move(MODEL, "challenger", "3", None, "the night goes on")["number"] == 9
    assert settle() and (verify().wrong, verify().notes) == ([], [])
    assert any(line["step"] == "settled" for line in history("other"))


def test_an_interrupted_move_is_an_error_when_nobody_can_still_make_it(three_moves, database, monkeypatch):
    """It is also what a forger leaves who cuts off the last line, and sets the mark back."""
    delete(database, 6)
    (database.parent / "ledger-heads.jsonl").unlink()
    with registry() as store:
        store.set_mark(MODEL, mark_of(history()[-1]))
    assert verify().wrong == [] and "was begun but not finished" in verify().notes[0]
    monkeypatch.setattr(sentences, "ABANDONED_S", -1.0)
    assert "was begun but not finished" in verify().wrong[0] and verify().notes == []


def test_a_first_line_that_is_not_yet_marked_is_no_fault(database, monkeypatch):
    """Another process has written it, and marks the model after this one has looked."""
    record_move(MODEL, "champion", "1", None, "the first")
    models, looks = Registry.models, []

    def early(store):
        aliases, marks = models(store)
        looks.append(marks)
        return aliases, marks if len(looks) > 1 else dict.fromkeys(marks)

    monkeypatch.setattr(Registry, "models", early)
    assert verify().wrong == [] and len(looks) == 2
    looks.clear()
    assert record_move(MODEL, "champion", "2", None, "the second")["to"] == "2"


def test_a_process_that_sleeps_before_it_sets_an_alias_sets_nothing(three_moves, monkeypatch):
    """Another call, or a person, settled its move in the meantime."""
    write, slept = ledger._write_intent, []

    def sleeping(store, *words):
        intent = write(store, *words)
        if not slept:
            slept.append("asleep")
            assert repair() if words[1] == "1" else record_move(MODEL, "champion", "1", None, "impatient")
        return intent

    monkeypatch.setattr(ledger, "_write_intent", sleeping)
    for expected in ("2", "1"):
        slept.clear()
        with pytest.raises(InputError, match="treated it as interrupted. Nothing was moved"):
            record_move(MODEL, "champion", "3", None, "slow", "ann", expected)
        with registry() as store:
            assert slept and store.aliases(MODEL)["champion"] == "1"
    assert (verify().wrong, verify().notes) == ([], [])


def test_a_move_that_was_held_for_cut_off_is_told(three_moves, monkeypatch):
    """Another call settles the intent while this one is slow, between its look and MLflow's answer."""
    set_alias, late = Registry.set_alias, []

    def slow(store, *words):
        if not late:
            late.append(words)
            record_move(MODEL, "champion", "1", None, "impatient", "bea")
        set_alias(store, *words)

    monkeypatch.setattr(Registry, "set_alias", slow)
    with pytest.raises(InputError, match="treated it as interrupted. .* was put back to version 1"):
        record_move(MODEL, "champion", "3", None, "slow", "ann")
    with registry() as store:
        assert store.aliases(MODEL)["champion"] == "1"
    assert (verify().wrong, verify().notes) == ([], [])
    assert [line["kind"] for line in history()[-3:]] == ["move", "put back", "put back"]


MOVES = """
import sys
from fetalflow.registry.ledger.record import record_move
for i in range(6):
    record_move("net", "champion", str(1 + (i + int(sys.argv[1])) % 3), None, f"move {i}", "process " + sys.argv[1])
"""


def test_two_processes_at_once_keep_the_chain_whole(database):
    """The first to write begins the ledger too. No move of an alias begins while another is under way."""
    started = [
        subprocess.Popen([sys.executable, "-c", MOVES, str(i)], stderr=subprocess.PIPE, text=True) for i in (0, 1)
    ]
    for process in started:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    verdict = verify()
    assert (verdict.wrong, verdict.notes) == ([], [])
    lines = history()
    assert {line["who"] for line in lines} == {"process 0", "process 1"}
    for intent, done in zip(lines[::2], lines[1::2], strict=True):
        assert (intent["step"], done["step"], intent["move"]) == ("intent", "done", done["move"])
    assert [line["to"] for line in lines[1:-1:2]] == [line["from"] for line in lines[3::2]]


def test_bad_words_are_refused_before_anything_is_written(database, monkeypatch):
    with pytest.raises(InputError, match="no model 'nobody'|model 'nobody' has no version"):
        record_move("nobody", "champion", "1", None, "why")
    with pytest.raises(InputError, match="'net' has no version 9"):
        record_move(MODEL, "champion", "9", None, "why")
    with pytest.raises(InputError, match="shorten"):
        record_move(MODEL, "champion", "1", None, "w" * 7000)
    assert history() == []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(TrackingFailed, match="out of reach"):
        record_move(MODEL, "champion", "1", None, "why")


def chain(length: int) -> list[dict]:
    lines: list[dict] = []
    for i in range(length):
        said = {"step": "done", "move": str(i), "kind": "move", "who": "ann", "model": MODEL, "alias": "champion"}
        lines.append(next_line(lines, **said, **{"from": str(i), "to": str(i + 1), "evidence": None, "reason": "r"}))
    return lines


@given(st.integers(1, 6), st.sampled_from(sorted(set(KEYS) - {"number"})), st.text(min_size=1), st.booleans())
def test_every_change_of_a_word_shows(number, key, word, rehash):
    lines = chain(6)
    marks = {MODEL: mark_of(lines[-1])}
    assert read_lines({line["number"]: text_of(line) for line in lines}, marks)[1] == []
    line = lines[number - 1]
    if word == line[key]:
        return
    changed = line | {key: word}
    if rehash and key != "sha256":
        changed |= {"sha256": line_digest(changed)}
    lines[number - 1] = changed
    assert read_lines({line["number"]: text_of(line) for line in lines}, marks)[1] != []


@given(st.sets(st.integers(1, 6), min_size=1))
def test_every_deletion_shows(numbers):
    lines = chain(6)
    kept = {line["number"]: text_of(line) for line in lines if line["number"] not in numbers}
    assert read_lines(kept, {MODEL: mark_of(lines[-1])})[1] != []


def test_terms_go_back_over_rollbacks():
    def line(to: str, kind: str = "move", step: str = "done") -> dict:
        return {"model": MODEL, "alias": "champion", "step": step, "kind": kind, "to": to}

    lines = [line("1"), line("2"), line("3", step="intent"), line("3")]
    assert versions_in_turn(lines, MODEL, "champion") == ["1", "2", "3"]
    lines.append(line("2", "rollback"))
    assert versions_in_turn(lines, MODEL, "champion") == ["1", "2"]
    lines.append(line("4"))
    assert versions_in_turn(lines, MODEL, "champion") == ["1", "2", "4"]
    lines += [line("2", "rollback"), line("1", "rollback")]
    assert versions_in_turn(lines, MODEL, "champion") == ["1"] and versions_in_turn(lines, MODEL, "shadow") == []
