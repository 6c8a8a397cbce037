"""What a person sees of a run: which stages, how long still, and signs of life; the rest is in test_pipeline.py."""

import logging
import time
from pathlib import Path

from small_stages import make_small_workspace

from flows.running import durations, terminal
from flows.running.durations import Estimate, in_words, of_the_demo
from flows.running.dvc_stages import stages_to_run

ROOT = Path(__file__).parents[2]


def test_only_stages_that_are_out_of_date_and_those_after_them_are_counted(tmp_path):
    workspace = make_small_workspace(tmp_path / "small")
    assert list(stages_to_run(workspace, ["train@movement"])) == ["train@movement", "evaluate@movement"]
    assert list(stages_to_run(workspace, ["evaluate@movement"], "movement")) == ["evaluate@movement"]
    assert list(stages_to_run(workspace, [], "movement")) == []


def test_the_estimate_has_a_basis_or_is_none():
    demo = {"extract@movement": 10.0, "train@movement": 100.0, "report@movement": 20.0}
    estimate = Estimate({}, demo)
    assert estimate.left(["extract@movement", "train@movement", "report@movement"]) == 130
    estimate.done("extract@movement", 30)  # this machine takes three times as long
    assert estimate.left(["train@movement", "report@movement"]) == 360
    assert estimate.left(["train@movement", "other@movement"]) is None
    assert Estimate({}, {}).left(["train@movement"]) is None
    last = Estimate({"train@movement": 50.0}, demo)
    assert last.left(["train@movement"]) == 50, "the last run of the workspace is better than the demo"
    assert [in_words(s) for s in (None, 10, 250, 9000)] == [
        "", "less than a minute left", "about 4 min left", "about 2.5 h left"
    ]  # fmt: skip


def test_the_demo_is_a_basis_only_for_its_settings(tmp_path, monkeypatch):
    monkeypatch.setattr(durations, "DEMO", tmp_path / "demo.json")
    (tmp_path / "demo.json").write_text('{"train@movement": 100, "ablate@planes-cnn": 7}')
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    assert of_the_demo(tmp_path) == {"train@movement": 100.0, "ablate@planes-cnn": 7.0}
    changed = (tmp_path / "params.yaml").read_text().replace("    epochs: ", "    epochs: 9", 1)
    (tmp_path / "params.yaml").write_text(changed)
    assert set(of_the_demo(tmp_path)) == {"ablate@planes-cnn"}


def test_the_file_of_durations_survives_a_person(tmp_path):
    file = tmp_path / durations.FILE
    file.parent.mkdir(parents=True)
    for text in ("", "[]", '{"a": "x"}', "{"):
        file.write_text(text)
        assert durations.read_durations(file) == {}
    durations.write_duration(tmp_path, "train@movement", 1.234)
    assert durations.read_durations(file) == {"train@movement": 1.2}


def test_a_silent_stage_shows_that_it_still_runs(capsys, monkeypatch):
    handlers = list(logging.getLogger().handlers)
    monkeypatch.setattr(terminal, "_terminal", None)
    monkeypatch.setattr(terminal, "SILENCE_S", 0)
    try:
        terminal.show_runs_here()
        with terminal.moving(lambda seconds: "train@movement, about 4 min left"):
            time.sleep(1.2)
    finally:
        logging.getLogger().handlers[:] = handlers
    assert "train@movement, about 4 min left, for 0 min now" in capsys.readouterr().err
