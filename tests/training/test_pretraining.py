"""Pretraining without labels: the loss falls, the same seed gives the same weights, and a network starts from them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from fetalflow.artefacts import file_digest
from fetalflow.errors import InputError
from fetalflow.models.building import build
from fetalflow.models.package_files import CONFIG, WEIGHTS
from fetalflow.settings.params import Pretrain
from fetalflow.training import pretraining
from fetalflow.training.pretrained import FITTING, PRETRAINING, kept_weights, pretrained_in, save_pretrained
from fetalflow.training.pretraining import Pretrained, pretrain, vicreg
from fetalflow.training.start import begin_from, started_from

FRAMES, SIZE, FILES = 2, 32, 12
MODEL = {"network": "fetalmovnet_s", "frames": FRAMES, "size": SIZE, "options": {"pretrained": False, "dropout": 0.0}}
SETTINGS = Pretrain(epochs=5, batch=6, learning_rate=3e-3)


def network(model: dict = MODEL, classes: int = 3, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build(model["network"], model["frames"], model["size"], classes, **model["options"])


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[list[Path]]:
    """Files that differ: each shows bars of its width, at other places in its two sequences."""
    folder, found = tmp_path_factory.mktemp("files"), []
    for i in range(FILES):
        found.append([folder / f"{i}-{j}.npy" for j in range(2)])
        for j, path in enumerate(found[-1]):
            columns = (np.arange(SIZE) + 3 * j) // (i + 1) % 2
            np.save(path, np.broadcast_to(columns * np.uint8(200), (FRAMES, SIZE, SIZE)).astype(np.uint8))
    return found


@pytest.fixture(scope="module")
def done(files, tmp_path_factory) -> Pretrained:
    return pretrain(network(), files, SETTINGS, tmp_path_factory.mktemp("checkpoints"), report=lambda row: None)


@pytest.fixture(scope="module")
def saved(done, tmp_path_factory) -> Path:
    config = {key: MODEL[key] for key in FITTING} | {PRETRAINING: {"method": "VICReg", "recipe": "r"}}
    return save_pretrained(tmp_path_factory.mktemp("pretrained") / "network", done.weights, config)


def test_the_loss_falls_and_the_features_do_not_collapse(done):
    assert done.curves["loss"].iloc[-1] < done.curves["loss"].iloc[0] - 0.5, (
        "it begins at 25 for features without spread"
    )
    assert done.curves["spread"].iloc[-1] > 0.3 * done.curves["spread"].iloc[0] > 0


def test_all_but_the_head_is_learned(done):
    names = set(network().state_dict())
    assert names - set(done.weights) == {name for name in names if name.startswith("head.")}


def test_a_killed_pretraining_ends_with_the_same_weights(done, files, tmp_path, monkeypatch):
    monkeypatch.setattr(pretraining, "SAVED_S", -1.0)

    def kill(row: dict) -> None:
        if row["epoch"] == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(network(), files, SETTINGS, tmp_path, report=kill)
    rows = []
    again = pretrain(network(seed=5), files, SETTINGS, tmp_path, report=rows.append)
    assert [row["epoch"] for row in rows] == [4, 5]
    assert again.weights.keys() == done.weights.keys()
    assert all(torch.equal(again.weights[name], weight) for name, weight in done.weights.items())


def test_a_network_with_other_labels_starts_from_it(done, saved):
    begun, cold = network(classes=5, seed=9), network(classes=5, seed=9)
    begin_from(str(saved), begun, MODEL | {"labels": list("abcde")})
    state = begun.state_dict()
    assert all(torch.equal(state[name], weight) for name, weight in done.weights.items())
    assert torch.equal(state["head.1.weight"], cold.state_dict()["head.1.weight"])
    assert started_from(str(saved)) == {PRETRAINING: {"method": "VICReg", "recipe": "r", "weights": saved.name}}


@pytest.mark.parametrize("change", [{"size": 64}, {"frames": 3}, {"network": "fetalmovnet"}, {"options": {}}])
def test_weights_of_another_network_are_refused(saved, change):
    with pytest.raises(InputError, match=f"do not fit.*\n.*{next(iter(change))}"):
        begin_from(str(saved), network(), MODEL | change | {"labels": ["a"]})


@pytest.mark.parametrize(
    ("damage", "says"),
    [("weights", "SHA-256"), ("config", "name of its folder"), ("gone", "no such file"), ("tensor", "does not fit")],
)
def test_damaged_weights_are_refused(done, saved, tmp_path, damage, says):
    place = tmp_path / saved.name
    shutil.copytree(saved, place)
    if damage == "weights":
        (place / WEIGHTS).write_bytes((place / WEIGHTS).read_bytes()[:-1] + b"x")
    elif damage == "config":
        (place / CONFIG).write_text((place / CONFIG).read_text().replace("VICReg", "other"))
    elif damage == "gone":
        (place / WEIGHTS).unlink()
    else:
        wrong = {"backbone.stem.conv.weight": torch.zeros(1)}
        place = save_pretrained(tmp_path / "wrong", wrong, json.loads((saved / CONFIG).read_text()))
    with pytest.raises(InputError, match=says):
        begin_from(str(place), network(), MODEL | {"labels": ["a"]})


def test_weights_of_the_same_recipe_are_kept_while_they_are_whole(saved, tmp_path):
    folder = tmp_path / "network"
    shutil.copytree(saved.parent, folder)
    assert kept_weights(folder, "r") and not kept_weights(folder, "other") and not kept_weights(tmp_path / "none", "r")
    assert pretrained_in(folder).name == file_digest(folder / saved.name / CONFIG)
    (folder / saved.name / WEIGHTS).write_bytes(b"x")
    assert not kept_weights(folder, "r")
    with pytest.raises(InputError, match="found 0"):
        pretrained_in(tmp_path / "none")


def test_too_few_files_are_refused(files, tmp_path):
    with pytest.raises(InputError, match="8 files at least, found 7"):
        pretrain(network(), files[:7], SETTINGS, tmp_path)


def test_the_loss_is_the_sum_of_its_three_terms():
    torch.manual_seed(0)
    first = torch.randn(64, 4) @ torch.diag(torch.tensor([2.0, 2.0, 2.0, 0.0]))
    std = (first.var(0) + 1e-4).sqrt()
    variance = torch.relu(1 - std).mean()
    covariance = torch.cov(first.T)
    covariance = (covariance - torch.diag(covariance.diagonal())).square().sum() / 4
    assert torch.isclose(vicreg(first, first), 25 * variance + 2 * covariance, atol=1e-4)
    assert torch.isclose(vicreg(first, first + 1) - vicreg(first, first), torch.tensor(25.0), atol=1e-3)
