"""What is unlike the training sequences is found, what is like them mostly is not, and the package says what the
stage said."""

import contextlib
import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import LedoitWolf
from torch import nn
from training_sets import FRAMES, LABELS, SIZE, make_workspace, sequence

from fetalflow.errors import InputError
from fetalflow.evaluation.predictions import read_predictions
from fetalflow.inference.package import load
from fetalflow.models import familiarity
from fetalflow.models.answering import ask, feature_layer
from fetalflow.models.building import build
from fetalflow.models.familiarity import Familiarity, at_length_1, fit_familiarity
from stages.train import main

TASK, VARIANT = "movement", "cnn"


def clusters(n: int, d: int, rng: np.random.Generator, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Features of which no direction is wide alone, and their labels."""
    centres = np.random.default_rng(9).normal(size=(classes, d)) * 3
    labels = rng.integers(classes, size=n)
    mix = np.random.default_rng(8).normal(size=(d, d)) / np.sqrt(d)
    return centres[labels] + rng.normal(size=(n, d)) @ mix, labels


def test_it_is_the_mahalanobis_distance_of_the_ledoit_wolf_covariance():
    rng = np.random.default_rng(0)
    (train, labels), (validation, _) = clusters(90, 12, rng), clusters(40, 12, rng)
    found = fit_familiarity("head", train, labels, validation, 0.05)
    unit = at_length_1(train)
    means = np.stack([unit[labels == k].mean(axis=0) for k in range(3)])
    precision = LedoitWolf(assume_centered=True).fit(unit - means[labels]).precision_
    off = at_length_1(validation)[:, None] - means
    wanted = np.sqrt(np.einsum("ncd,de,nce->nc", off, precision, off).min(axis=1))
    np.testing.assert_allclose(found.score(validation) * found.threshold, wanted, rtol=2e-3)


def test_many_features_of_few_sequences_are_remembered_in_little_room(monkeypatch):
    rng = np.random.default_rng(1)
    (train, labels), (validation, _) = clusters(60, 900, rng), clusters(60, 900, rng)
    found = fit_familiarity("head", train, labels, validation, 0.05)
    assert found.directions.shape[0] < 60 and found.variances.min() > 0
    np.testing.assert_allclose(found.directions @ found.directions.T, np.eye(len(found.directions)), atol=1e-4)
    monkeypatch.setattr(familiarity, "DIRECTIONS", 10)
    fewer = fit_familiarity("head", train, labels, validation, 0.05)
    assert fewer.directions.shape == (10, 900)
    unlike = rng.normal(size=(50, 900)) * 3
    assert (found.score(unlike) > 1).all() and (fewer.score(unlike) > 1).all()


@given(st.integers(1, 60), st.sampled_from([0.01, 0.05, 0.2]), st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_no_more_of_validation_is_flagged_than_was_asked_for(n, share, seed):
    rng = np.random.default_rng(seed)
    (train, labels), (validation, _) = clusters(40, 6, rng), clusters(n, 6, rng)
    scores = fit_familiarity("head", train, labels, validation, share).score(validation)
    assert (scores > 1).mean() <= share and scores.max() > 0.99
    assert (scores >= 0).all()


def test_false_alarms_on_others_of_the_same_kind_are_near_what_was_asked_for():
    rng = np.random.default_rng(2)
    (train, labels), (validation, _), (test, _) = (clusters(n, 40, rng) for n in (300, 1000, 4000))
    found = fit_familiarity("head", train, labels, validation, 0.05)
    assert 0.03 < (found.score(test) > 1).mean() < 0.07


def test_features_that_never_vary_do_not_break_it():
    same = np.ones((6, 5), np.float32)
    found = fit_familiarity("head", same, np.zeros(6), same, 0.05)
    assert (found.score(same) <= 1).all()
    assert found.score(-same).min() > 1 and found.score(0 * same).min() > 1


def test_what_cannot_be_scored_is_named():
    some = np.random.default_rng(0).normal(size=(8, 4))
    with pytest.raises(InputError, match="training and validation sequences, found 8 and 0"):
        fit_familiarity("head", some, np.zeros(8), some[:0], 0.05)
    with pytest.raises(InputError, match="not a number"):
        fit_familiarity("head", some * np.nan, np.zeros(8), some, 0.05)
    found = fit_familiarity("head", some, np.zeros(8), some, 0.05)
    with pytest.raises(InputError, match=r"\[n, 4\], found shape \[3, 5\]"):
        found.score(np.zeros((3, 5)))
    with np.errstate(invalid="ignore"):
        assert found.score(np.full((1, 4), np.nan))[0] == np.inf


@pytest.mark.parametrize(
    ("network", "width"), [("fetalmovnet", 512), ("cnn", 256), ("cnn_lstm", 128), ("lite_attention", 1280)]
)
def test_features_are_what_enters_the_head_one_vector_a_sequence(network, width):
    frames, size = (1, 64) if network == "lite_attention" else (4, 32)
    options = {"pretrained": False} if network == "lite_attention" else {}
    net = build(network, frames, size, 3, **options).eval()
    x = torch.rand(5, frames, size, size)
    answer = ask(net, x, feature_layer(net))
    assert answer.features.shape == (5, width) and answer.features.dtype == np.float32
    with torch.inference_mode():
        assert torch.allclose(net.head(torch.from_numpy(answer.features)), net(x), atol=1e-5)
        assert torch.allclose(torch.from_numpy(answer.logits), net(x), atol=1e-5)
    assert not net.head._forward_pre_hooks  # the layer is watched during the call only
    assert ask(net, x).features is None


def test_a_network_without_a_head_is_watched_at_its_last_layer():
    plain = nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.ReLU(), nn.Linear(5, 2))
    assert feature_layer(plain) == "3"
    assert ask(plain, torch.rand(2, 1, 4, 4), "3").features.shape == (2, 5)
    plain.unused = nn.Linear(2, 2)
    plain.forward = lambda x: plain[1](plain[0](x))
    with pytest.raises(InputError, match="unused was not used"):
        ask(plain, torch.rand(2, 1, 4, 4), "unused")
    with pytest.raises(InputError, match="Flatten has neither"):
        feature_layer(nn.Flatten())


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A workspace after the train stage."""
    folder = make_workspace(tmp_path_factory.mktemp("run"), epochs=10, patience=10)
    table = pd.read_parquet(folder / "data" / TASK / "manifest.parquet")
    table = table.assign(operator=[f"Op. {i % 2}" for i in range(len(table))])
    table.to_parquet(folder / "data" / TASK / "manifest.parquet", index=False)
    with contextlib.chdir(folder):
        main(TASK, VARIANT)
    return folder


def test_the_package_says_of_a_sequence_what_the_stage_said(workspace):
    package = load(workspace / "models" / TASK / VARIANT)
    rows = pd.read_csv(workspace / "data" / TASK / "predictions" / f"{VARIANT}.csv")
    columns = list(rows)
    assert columns.index("unfamiliarity") == columns.index("y_pred") + 1
    assert columns[columns.index("unfamiliarity") + 1] == f"p_{LABELS[0]}"
    for row in rows.itertuples():
        answer = package.predict(np.load(workspace / "data" / TASK / "sequences" / f"{row.sequence}.npy"))
        assert answer.unfamiliarity == pytest.approx(row.unfamiliarity, rel=1e-4)
        assert answer.unfamiliar == (row.unfamiliarity > 1)
        assert answer.windows[0].unfamiliarity == answer.unfamiliarity


def test_the_threshold_comes_from_the_validation_patients(workspace):
    rows = pd.read_csv(workspace / "data" / TASK / "predictions" / f"{VARIANT}.csv")
    validation = rows.loc[rows["part"] == "validation", "unfamiliarity"]
    assert validation.max() == pytest.approx(1 / 1.001)  # 5 % of 9 sequences is none
    config = json.loads((workspace / "models" / TASK / VARIANT / "config.json").read_text())
    assert config["familiarity"]["false_alarms"] == 0.05 and config["familiarity"]["layer"] == "head"
    assert config["familiarity"]["threshold"] == load(workspace / "models" / TASK / VARIANT).familiarity.threshold


def test_evaluation_reads_the_operator_and_the_unfamiliarity_that_the_stage_wrote(workspace):
    table = read_predictions(workspace / "data" / TASK / "predictions" / f"{VARIANT}.csv").table
    assert set(table["operator"]) == {"Op. 0", "Op. 1"}
    assert table["unfamiliarity"].dtype == np.float64 and len(table) == 9


def test_what_is_unlike_anything_seen_is_flagged_and_new_patients_mostly_are_not(workspace):
    package, rng = load(workspace / "models" / TASK / VARIANT), np.random.default_rng(77)
    new = [sequence(label, rng) for label in LABELS for _ in range(20)]
    rows, columns = np.mgrid[:SIZE, :SIZE]
    stripes = np.broadcast_to((rows + columns) % 6 * 50, (FRAMES, SIZE, SIZE)).astype(np.uint8)
    unlike = {
        "noise": rng.integers(0, 256, (FRAMES, SIZE, SIZE), dtype=np.uint8),
        "inverted": 255 - new[30],
        "stripes": stripes,
        "white": np.full((FRAMES, SIZE, SIZE), 255, np.uint8),
        "upside down and turned": np.rot90(new[30], 1, (1, 2)).copy(),
    }
    alarms = np.mean([package.predict(each).unfamiliar for each in new])
    assert alarms < 0.25  # the threshold comes from 9 sequences
    for name, pixels in unlike.items():
        assert package.predict(pixels).unfamiliar, name


def test_a_package_remembers_what_was_fitted(workspace):
    package = load(workspace / "models" / TASK / VARIANT)
    assert isinstance(package.familiarity, Familiarity)
    arrays = package.familiarity.arrays
    assert arrays["means"].shape == (3, 256) and len(arrays["variances"]) == len(arrays["directions"]) + 1
    again = Familiarity.of_package(package.config["familiarity"], arrays)
    some = np.random.default_rng(0).random((4, 256))
    assert np.array_equal(again.score(some), package.familiarity.score(some))
