"""A profile, a drop or a changed setting gets a workspace of its own and edits no tracked file."""

import subprocess
import sys
from pathlib import Path

import pytest

from fetalflow.errors import InputError
from fetalflow.settings import load_settings
from fetalflow.split import TABLE_1
from flows.workspace import drop_changes, overlay, parse_change, prepare

ROOT = Path(__file__).parents[1]


def test_overlay_replaces_leaves_and_keeps_the_rest():
    base = {"train": {"batch": 8, "epochs": 12}, "labels": ["a", "b"], "ablations": {"cnn": {"variant": "cnn"}}}
    changed = overlay(base, {"train": {"epochs": 50}, "labels": None, "ablations": {"cnn": None}})
    assert changed == {"train": {"batch": 8, "epochs": 50}, "labels": None, "ablations": {}}
    assert base["train"]["epochs"] == 12


def test_paper_profile_is_the_papers_protocol(tmp_path):
    before = (ROOT / "params.yaml").read_bytes()
    block = load_settings(prepare(tmp_path / "paper", "paper", []) / "params.yaml").blocks["movement"]
    assert (block.preprocess.size, block.train.epochs, block.train.batch) == (300, 50, 4)
    assert (block.split.kind, block.train.optimizer, block.train.learning_rate) == ("paper", "rmsprop", 1e-3)
    needed = {label: sum(counts) for label, counts in TABLE_1.items()}  # 587 in all
    assert all(block.phantom.sequences[label] > n for label, n in needed.items())
    assert (ROOT / "params.yaml").read_bytes() == before


def test_a_drop_takes_the_place_of_the_synthetic_hospital(tmp_path):
    drop = tmp_path / "hospital"
    drop.mkdir()
    with pytest.raises(InputError, match="annotations.csv"):
        drop_changes(drop, "movement")
    with pytest.raises(InputError, match="no such folder"):
        drop_changes(tmp_path / "nowhere", "movement")
    (drop / "annotations.csv").write_text("video,patient,label\n")
    folder = prepare(tmp_path / "run", None, [drop_changes(drop, "movement")])
    settings = load_settings(folder / "params.yaml")
    assert settings.phantoms == ()
    assert settings.tasks["movement"].drop == str(drop)
    assert settings.blocks["movement"].extract.labels is None
    listed = subprocess.run(
        [Path(sys.executable).with_name("dvc"), "stage", "list", "--name-only"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "extract@movement" in listed.stdout.split()
    assert "phantom@movement" not in listed.stdout.split()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("movement.train.epochs", "expected KEY.KEY=VALUE"),
        ("movement.train.epoch=5", "movement.train.epoch"),
        ("movement.train.epochs=many", "movement.train.epochs"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        prepare(tmp_path / "run", None, [parse_change(change)])


def test_an_unknown_profile_lists_the_known(tmp_path):
    with pytest.raises(InputError, match="there are: paper"):
        prepare(tmp_path / "run", "papper", [])
