"""A train stage that is killed ends, when it is run again, in the same bytes as one that was never killed."""

import json
import signal
import warnings
from pathlib import Path

import pandas as pd
import pytest
import torch
from ready_processes import stage
from training_sets import LABELS, PLANES, make_workspace, narrow_networks

from fetalflow.artefacts import read_json, write_json
from fetalflow.errors import InputError
from fetalflow.training.checkpoints import last_checkpoint, training_digest
from stages.train import main

EPOCHS = 5
WEIGHTS = Path("models/movement/fetalmovnet/model.safetensors")
PREDICTIONS = Path("data/movement/predictions/fetalmovnet.csv")
CURVES = Path("reports/movement/curves/fetalmovnet.csv")
# Whatever has a state: weights that stand still and thaw, their own rate, averaged weights, AdamW.
FINE_TUNING = {"optimizer": "adamw", "weight_decay": 0.05, "frozen_epochs": 2, "pretrained_rate": 0.3, "ema": 0.9}
FINE_TUNING |= {"label_smoothing": 0.1, "schedule": "cosine", "augment": True, "class_weights": True}
WORKSPACES = {
    ("movement", "fetalmovnet"): {},
    ("planes", "lite_attention"): {"variants": PLANES, "frames": 1, "size": 64, **FINE_TUNING},
}


def kill_at(workspace: Path, epoch: int, *words: str) -> list[str]:
    """Kill the stage outright once it has told of `epoch`, while it trains on; what it had said until then."""
    process, said = stage(workspace, "train", *words, before=narrow_networks), []
    for line in process.stdout:
        said.append(line)
        if f"epoch {epoch}/{EPOCHS}:" in line:
            process.send_signal(signal.SIGKILL)
            break
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, "".join(said)
    return said


def epochs_told(text: str) -> list[int]:
    return [int(line.split("epoch ")[1].split("/")[0]) for line in text.splitlines() if f"/{EPOCHS}:" in line]


def trained(folder: Path, task: str, variant: str) -> Path:
    """A workspace whose train stage was never killed."""
    workspace = make_workspace(folder, task, epochs=EPOCHS, patience=EPOCHS, **WORKSPACES[task, variant])
    # Not here: a test before may have left this process more threads.
    process = stage(workspace, "train", task, variant, before=narrow_networks)
    said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    return workspace


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> dict[tuple[str, str], Path]:
    return {unit: trained(tmp_path_factory.mktemp(unit[0]), *unit) for unit in WORKSPACES}


@pytest.mark.parametrize(("task", "variant"), WORKSPACES)
def test_a_killed_stage_ends_in_the_same_bytes(task, variant, uninterrupted, tmp_path):
    whole = uninterrupted[task, variant]
    workspace = make_workspace(tmp_path / "killed", task, epochs=EPOCHS, patience=EPOCHS, **WORKSPACES[task, variant])
    weights, predictions = f"models/{task}/{variant}/model.safetensors", f"data/{task}/predictions/{variant}.csv"
    kill_at(workspace, 3, task, variant)
    assert not (workspace / weights).exists() and not (workspace / predictions).exists()
    process = stage(workspace, "train", task, variant, before=narrow_networks)
    said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    # From 3 if it was killed while it wrote the third checkpoint; from 1 would be anew.
    assert epochs_told(said) in ([3, 4, 5], [4, 5]), said
    for file in (weights, predictions):
        assert (workspace / file).read_bytes() == (whole / file).read_bytes(), file
    curves = [pd.read_csv(w / f"reports/{task}/curves/{variant}.csv") for w in (workspace, whole)]
    pd.testing.assert_frame_equal(*(table.drop(columns="seconds") for table in curves), check_exact=True)
    assert list((workspace / "checkpoints").iterdir()) == []


def test_the_stage_writes_what_the_next_ones_read(uninterrupted):
    workspace = uninterrupted["movement", "fetalmovnet"]
    table = pd.read_csv(workspace / PREDICTIONS)
    identity = ["sequence", "patient", "site", "device", "variant", "fold", "seed", "part", "y_true", "y_pred"]
    identity.append("unfamiliarity")
    assert list(table.columns) == identity + [f"p_{label}" for label in LABELS]
    assert table["part"].value_counts().to_dict() == {"validation": 9, "test": 9}
    p = table[[f"p_{label}" for label in LABELS]]
    assert (p.idxmax(axis=1) == "p_" + table["y_pred"]).all()
    assert (table["y_true"] == table["y_pred"]).mean() >= 0.85
    curves = pd.read_csv(workspace / CURVES)
    figures = ["train_loss", "train_accuracy", "val_loss", "val_accuracy", "seconds"]
    assert list(curves.columns) == ["fold", "seed", "epoch", *figures]
    config = read_json(workspace / WEIGHTS.with_name("config.json"))
    assert config["labels"] == list(LABELS) and config["training"]["kept_epoch"] == EPOCHS
    assert config["training"]["device"] == "cpu" and config["training"]["precision"] == "32-true"


def test_a_corrupted_sequence_stops_the_stage(tmp_path, monkeypatch):
    monkeypatch.chdir(make_workspace(tmp_path))
    file = next(Path("data/movement/sequences").iterdir())
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match=f"1 of 39 sequence files(.|\n)*{file.name}"):
        main("movement", "fetalmovnet")
    assert not WEIGHTS.exists()


def test_a_part_without_sequences_stops_the_stage(tmp_path, monkeypatch):
    monkeypatch.chdir(make_workspace(tmp_path))
    split = pd.read_parquet("data/movement/split.parquet")
    split.replace({"part": {"validation": "train"}}).to_parquet("data/movement/split.parquet")
    with pytest.raises(InputError, match="fold 0 has 30 train, 0 validation, 9 test sequences"):
        main("movement", "fetalmovnet")


def test_the_digest_names_all_that_decides_a_training(tmp_path):
    rows = pd.DataFrame({"sequence": ["a", "b"], "digest": ["1", "2"], "label": ["x", "y"], "part": ["train", "test"]})
    facts = {"train": {"batch": 4}, "seed": 0}
    first = training_digest(facts, rows)
    assert training_digest(json.loads(json.dumps(facts)), rows.iloc[::-1]) == first
    others = [training_digest(facts | {"seed": 1}, rows)]
    for column, value in (("digest", "3"), ("part", "validation"), ("label", "y")):
        others.append(training_digest(facts, rows.assign(**{column: [value, rows[column][1]]})))
    masked = rows.assign(mask_digest=["4", ""])
    others += [training_digest(facts, masked), training_digest(facts, masked.assign(mask_digest=["5", ""]))]
    assert len({first, *others}) == 7


class Payload:
    """A pickle that writes a file when it is loaded."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return write_json, (str(self.target), "run")


def test_a_checkpoint_cannot_run_code(tmp_path):
    assert last_checkpoint(tmp_path) is None
    torch.save({"state_dict": {}, "callbacks": Payload(tmp_path / "harm.json")}, tmp_path / "last.ckpt")
    with pytest.raises(InputError, match="not a checkpoint of a training"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        last_checkpoint(tmp_path)
    assert not (tmp_path / "harm.json").exists()


def test_a_torn_checkpoint_is_an_error_that_says_what_to_do(tmp_path):
    torch.save({"state_dict": {"w": torch.rand(1000)}}, tmp_path / "last.ckpt")
    whole = (tmp_path / "last.ckpt").read_bytes()
    (tmp_path / "last.ckpt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=f"Remove {tmp_path} to start again"):
        last_checkpoint(tmp_path)
