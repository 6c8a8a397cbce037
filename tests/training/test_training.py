"""Loading, fitting and answering, on small sets whose classes can be told apart."""

from copy import copy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import SequentialSampler
from training_sets import FRAMES, LABELS, SIZE, make_workspace

from fetalflow.artefacts import file_digest
from fetalflow.errors import InputError
from fetalflow.models.building import build
from fetalflow.settings.params import Train
from fetalflow.training.answers import answer_dataset
from fetalflow.training.augmentation import augment
from fetalflow.training.checkpoints import Epochs
from fetalflow.training.classifier import (
    Classifier,
    averaging,
    balancing_weights,
    freeze,
    learning_rate,
    parameter_groups,
)
from fetalflow.training.fitting import choose_device, fit_network
from fetalflow.training.loading import (
    UNKNOWN,
    Batches,
    EpochOrder,
    SequenceDataset,
    check_sequences,
    ordered_loader,
)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    return make_workspace(tmp_path_factory.mktemp("training"))


@pytest.fixture(scope="module")
def data(workspace) -> Path:
    return workspace / "data" / "movement"


@pytest.fixture(scope="module")
def rows(data) -> pd.DataFrame:
    split = pd.read_parquet(data / "split.parquet")[["sequence", "part"]]
    return pd.read_parquet(data / "manifest.parquet").merge(split, on="sequence")


@pytest.fixture(scope="module")
def parts(rows, data) -> dict[str, SequenceDataset]:
    return {part: SequenceDataset(rows[rows["part"] == part], data, LABELS) for part in ("train", "validation", "test")}


def network(variant: str = "cnn") -> nn.Module:
    torch.manual_seed(1)
    return build(variant, FRAMES, SIZE, len(LABELS), batch_norm_momentum=0.1)


def with_pretrained_branch() -> nn.Module:
    """A network that says its convolutions bring knowledge with them."""
    net = network()
    net.pretrained_parameters = lambda: list(net.conv_branch.parameters())
    return net


def fit(net: nn.Module, parts: dict, folder: Path, seed: int = 0, report=lambda row: None, **train):
    settings = Train(**{"batch": 4, "epochs": 3, "learning_rate": 3e-4, "device": "cpu"} | train)
    return fit_network(net, parts["train"], parts["validation"], settings, seed, folder, len(LABELS), report)


def bits(net: nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in net.state_dict().items()}


def mean_loss(net: nn.Module, dataset: SequenceDataset) -> float:
    with torch.inference_mode():
        losses = [F.cross_entropy(net.eval()(x), y, reduction="none") for x, y in ordered_loader(dataset, 4)]
    return torch.cat(losses).mean().item()


def accuracy(net: nn.Module, dataset: SequenceDataset) -> float:
    return float((answer_dataset(net, dataset, 4)[0].argmax(1) == dataset.targets).mean())


def test_a_sequence_is_what_is_stored_in_0_to_1(rows, data, parts):
    frames, target = parts["validation"][4]
    row = rows[rows["part"] == "validation"].iloc[4]
    stored = np.load(data / row["path"])
    assert frames.dtype == torch.float32 and frames.shape == (FRAMES, SIZE, SIZE)
    assert np.array_equal(np.rint(frames.numpy() * 255), stored)
    assert LABELS[target] == row["label"]


def test_a_mask_comes_along_where_there_is_one(rows, data, tmp_path):
    mask = (np.arange(FRAMES * SIZE * SIZE).reshape(FRAMES, SIZE, SIZE) % 3 == 0).astype(np.uint8)
    np.save(tmp_path / "m.npy", mask)
    named = rows.assign(mask_path=["", str(tmp_path / "m.npy"), *[""] * (len(rows) - 2)])
    masked = SequenceDataset(named, data, LABELS, masks=True)
    frames, unknown, label = masked[0]
    assert unknown.shape == frames.shape and unknown.dtype == torch.uint8 and (unknown == UNKNOWN).all()
    assert torch.equal(frames, SequenceDataset(rows, data, LABELS)[0][0]) and label == masked.targets[0]
    assert np.array_equal(masked[1][1].numpy(), mask) and masked[1][1].dtype == torch.uint8
    assert (SequenceDataset(rows, data, LABELS, masks=True)[1][1] == UNKNOWN).all()  # a manifest without the column
    batch = next(iter(ordered_loader(masked, 3)))
    assert [part.shape[0] for part in batch] == [3, 3, 3] and torch.equal(batch[1][1], masked[1][1])


def test_an_unknown_label_is_refused(rows, data):
    with pytest.raises(InputError, match=r"has the labels \['right'\]"):
        SequenceDataset(rows, data, ["left", "flicker"])


def test_a_corrupted_or_missing_sequence_is_refused(tmp_path):
    data = make_workspace(tmp_path) / "data" / "movement"
    manifest = pd.read_parquet(data / "manifest.parquet")
    check_sequences(manifest, data)
    file = data / manifest["path"][3]
    whole = bytearray(file.read_bytes())
    whole[-1] ^= 1
    file.write_bytes(whole)
    (data / manifest["path"][5]).unlink()
    with pytest.raises(InputError, match="2 of 39 sequence files") as refused:
        check_sequences(manifest, data)
    assert manifest["path"][3] in str(refused.value) and manifest["digest"][3] in str(refused.value)
    assert f"{manifest['path'][5]}: no such file" in str(refused.value)


def test_a_mask_that_changed_is_refused(rows, data, tmp_path):
    np.save(tmp_path / "m.npy", np.zeros((FRAMES, SIZE, SIZE), np.uint8))
    path, digest = [str(tmp_path / "m.npy"), *[""] * (len(rows) - 1)], file_digest(tmp_path / "m.npy")
    named = rows.assign(mask_path=path, mask_digest=[digest, *[""] * (len(rows) - 1)])
    check_sequences(named, data)
    np.save(tmp_path / "m.npy", np.ones((FRAMES, SIZE, SIZE), np.uint8))
    with pytest.raises(InputError, match="1 of 40 sequence files"):
        check_sequences(named, data)


@given(n=st.integers(2, 60), batch=st.integers(2, 9), seed=st.integers(0, 5), epoch=st.integers(0, 5))
def test_batches_hold_every_sequence_once_and_never_one_alone(n, batch, seed, epoch):
    order = EpochOrder(n, seed)
    order.set_epoch(epoch)
    batches = Batches(order, batch)
    found = list(batches)
    assert sorted(i for b in found for i in b) == list(range(n))
    assert len(found) == len(batches)
    assert all(2 <= len(b) <= batch + 1 for b in found)
    assert found == list(batches)


def test_the_order_differs_by_epoch_and_seed():
    def order(seed: int, epoch: int) -> tuple[int, ...]:
        sampler = EpochOrder(20, seed)
        sampler.set_epoch(epoch)
        return tuple(sampler)

    assert len({order(seed, epoch) for seed in range(3) for epoch in range(3)}) == 9


def test_batches_of_an_ordered_sampler_stay_in_order():
    assert list(Batches(SequentialSampler(range(7)), 3)) == [[0, 1, 2], [3, 4, 5, 6]]


def test_training_learns_what_can_be_learnt(parts, tmp_path):
    net = network("fetalmovnet")
    before = accuracy(net, parts["test"])
    fitted = fit(net, parts, tmp_path, epochs=6)
    assert accuracy(net, parts["test"]) >= 0.85 > before
    assert fitted.curves["train_loss"].iloc[-1] < 0.5 * fitted.curves["train_loss"].iloc[0]
    assert list(fitted.curves["epoch"]) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("more", [{}, {"ema": 0.9, "label_smoothing": 0.2}, {"keep": "lowest"}])
def test_the_curves_are_the_figures_of_the_whole_part(parts, tmp_path, more):
    net = network()
    fitted = fit(net, parts, tmp_path, **more)
    kept = fitted.curves.iloc[fitted.kept_epoch - 1]
    assert kept["val_loss"] == pytest.approx(mean_loss(net, parts["validation"]), rel=1e-5)
    assert kept["val_accuracy"] == pytest.approx(accuracy(net, parts["validation"]))


def test_early_stopping_keeps_the_epoch_with_the_lowest_loss(parts, tmp_path):
    misleading = copy(parts["validation"])
    misleading.targets = np.roll(parts["validation"].targets, 3)  # the better it learns, the worse it looks
    net, rows = network(), []
    fitted = fit(net, parts | {"validation": misleading}, tmp_path, report=rows.append, epochs=30, patience=2)
    losses = fitted.curves["val_loss"]
    assert fitted.stopped_early and len(losses) == fitted.kept_epoch + 2 < 30
    assert fitted.kept_epoch == losses.argmin() + 1
    assert mean_loss(net, misleading) == pytest.approx(losses.min(), rel=1e-5)
    assert rows == fitted.curves.to_dict("records")

    again, more = network(), []  # killed after the last epoch, before the stage had written anything
    fit(again, parts | {"validation": misleading}, tmp_path, report=more.append, epochs=30, patience=2)
    assert more == [] and bits(again) == bits(net)


NAN = float("nan")


@pytest.mark.parametrize(
    ("losses", "epochs", "keep", "kept"),
    [
        ([3.0, 1.0, 2.0], 3, "last", 3),
        ([3.0, 1.0, 2.0], 3, "lowest", 2),
        ([3.0, 1.0, 2.0], 9, "last", 2),  # stopped early
        ([3.0, 1.0, NAN], 3, "last", 2),  # a loss that is no number ends the training
        ([NAN], 3, "last", 0),
        ([2.0], 1, "last", 1),
    ],
)
def test_which_epoch_is_kept(tmp_path, losses, epochs, keep, kept):
    followed = Epochs(tmp_path, 0, Train(epochs=epochs, keep=keep), print)
    lowest = int(np.nanargmin(losses)) + 1 if np.isfinite(losses).any() else 0
    followed.load_state_dict({"rows": [{"val_loss": loss} for loss in losses], "lowest_epoch": lowest})
    assert followed.kept_epoch == kept


FINE_TUNING = {"optimizer": "adamw", "weight_decay": 0.05, "frozen_epochs": 2, "pretrained_rate": 0.3, "ema": 0.9}
FINE_TUNING |= {"label_smoothing": 0.1, "schedule": "cosine", "augment": True, "class_weights": True}


@pytest.mark.parametrize("more", [{}, FINE_TUNING | {"keep": "lowest"}])
def test_a_training_broken_off_in_every_epoch_ends_in_the_same_bits(parts, tmp_path, more):
    def break_off(row: dict) -> None:
        if row["epoch"] not in told:
            told.append(row["epoch"])
            raise ConnectionAbortedError

    whole, again, broken, told = *(with_pretrained_branch() for _ in range(3)), []
    for net in (whole, again):  # the second one was killed after the last epoch
        fit(net, parts, tmp_path / "whole", epochs=4, **more)
    assert bits(again) == bits(whole)
    for _ in range(4):
        with pytest.raises(ConnectionAbortedError):
            fit(with_pretrained_branch(), parts, tmp_path / "broken", epochs=4, report=break_off, **more)
    fitted = fit(broken, parts, tmp_path / "broken", epochs=4, report=break_off, **more)
    assert told == list(fitted.curves["epoch"]) == [1, 2, 3, 4]
    assert bits(broken) == bits(whole)


def test_the_cosine_schedule_falls_to_nearly_nothing():
    settings = Train(learning_rate=2e-3, schedule="cosine", epochs=10)
    rates = [learning_rate(settings, epoch) for epoch in range(10)]
    assert rates[0] == 2e-3 and rates[5] == pytest.approx(1e-3) and 0 < rates[9] < 1e-4
    assert rates == sorted(rates, reverse=True)
    assert learning_rate(Train(learning_rate=2e-3), 9) == 2e-3


def test_the_schedule_reaches_the_optimiser(parts, tmp_path):
    nets = [network(), network()]
    for net, schedule in zip(nets, ("constant", "cosine"), strict=True):
        fit(net, parts, tmp_path / schedule, epochs=3, schedule=schedule)
    assert bits(nets[0]) != bits(nets[1])


def test_same_seed_same_bits_another_seed_others(parts, tmp_path):
    found = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.rand(ord(folder))  # what was drawn before must not matter
        net = network()
        fit(net, parts, tmp_path / folder, seed, epochs=2)
        found.append(bits(net))
    assert found[0] == found[1] != found[2]


def test_loader_workers_change_nothing(parts, tmp_path):
    found = []
    for workers in (0, 1):
        net = network()
        fit(net, parts, tmp_path / str(workers), epochs=2, loader_workers=workers)
        found.append(bits(net))
    assert found[0] == found[1]


def test_augmentation_moves_whole_sequences_and_nothing_within_them():
    frame = torch.zeros(64, 1, 32, 32)
    frame[:, :, 8:16, 10:14] = 0.7
    torch.manual_seed(0)
    seen = augment(frame.expand(-1, 5, -1, -1))
    assert seen.shape == (64, 5, 32, 32) and seen.min() >= 0 and seen.max() <= 1
    assert torch.equal(seen, seen[:, :1].expand_as(seen))
    assert len({tuple(x.flatten().tolist()) for x in seen[:, 0]}) == 64
    middle = (seen[:, 0] * torch.arange(32)).sum((1, 2)) / seen[:, 0].sum((1, 2))  # 11.5 before
    assert (middle < 16).any() and (middle > 16).any(), "none was mirrored, or all were"
    torch.manual_seed(0)
    assert torch.equal(seen, augment(frame.expand(-1, 5, -1, -1)))


def test_augmentation_leaves_up_and_down_where_they_are():
    frame = torch.zeros(200, 1, 64, 64)
    frame[:, :, 6:16, 24:40] = 0.5
    torch.manual_seed(0)
    seen = augment(frame)[:, 0]
    rows = (seen * torch.arange(64)[:, None]).sum((1, 2)) / seen.sum((1, 2))  # 10.5 before, 31.5 is the middle
    assert rows.max() < 26 and rows.std() > 1


def test_frozen_weights_stand_still_and_thaw(parts, tmp_path):
    start, found = bits(network()), []
    for frozen in (2, 1):
        net = with_pretrained_branch()
        fit(net, parts, tmp_path / str(frozen), epochs=2, frozen_epochs=frozen)
        assert all(p.requires_grad for p in net.parameters())
        found.append({name for name, value in bits(net).items() if value != start[name]})
    # Frozen to the end: no weight and no running statistic of the branch has moved.
    assert not any(name.startswith("conv_branch") for name in found[0]) and "head.8.weight" in found[0]
    assert {"conv_branch.conv1.weight", "conv_branch.norm.running_mean", "head.8.weight"} <= found[1]


def test_freezing_reaches_what_is_pretrained_and_no_more():
    net = nn.Sequential(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout()), nn.BatchNorm2d(2)).train()
    net.pretrained_parameters = lambda: list(net[0].parameters())
    freeze(net, True)
    assert not any(m.training for m in net[0].modules()) and net.training and net[1].training
    assert [p.requires_grad for p in net.parameters()] == [False] * 4 + [True] * 2
    freeze(net, False)
    assert all(m.training for m in net.modules()) and all(p.requires_grad for p in net.parameters())


def test_pretrained_weights_learn_at_their_share_of_the_rate(parts, tmp_path):
    start, net = bits(network()), with_pretrained_branch()
    fit(net, parts, tmp_path, epochs=1, pretrained_rate=0.0)
    still = {name for name, _ in net.named_parameters() if bits(net)[name] == start[name]}
    assert still == {f"conv_branch.{name}" for name, _ in net.conv_branch.named_parameters()}


def test_every_parameter_is_in_one_group_and_decays_only_where_it_should():
    net = with_pretrained_branch()
    (alone,) = parameter_groups(network(), Train())
    assert [p.shape for p in alone["params"]] == [p.shape for p in net.parameters()] and alone["weight_decay"] == 0
    groups = parameter_groups(net, Train(optimizer="adamw", weight_decay=0.05, pretrained_rate=0.3))
    assert {(g["share"], g["weight_decay"]) for g in groups} == {(0.3, 0.05), (0.3, 0), (1, 0.05), (1, 0)}
    found = {id(p): g for g in groups for p in g["params"]}
    assert len(found) == sum(len(g["params"]) for g in groups) == len(list(net.parameters()))
    for name, parameter in net.named_parameters():
        group = found[id(parameter)]
        assert group["share"] == (0.3 if name.startswith("conv_branch") else 1), name
        assert group["weight_decay"] == (0 if name.endswith("bias") or ".norm" in name else 0.05), name


def test_adamw_shrinks_weights_and_leaves_biases():
    net = nn.Linear(3, 2)
    weight, bias = net.weight.detach().clone(), net.bias.detach().clone()
    optimizer = Classifier(net, Train(optimizer="adamw", weight_decay=0.5)).configure_optimizers()
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert isinstance(optimizer, torch.optim.AdamW)
    torch.testing.assert_close(net.weight.detach(), weight * (1 - 1e-3 * 0.5))
    assert torch.equal(net.bias, bias)


def test_the_average_is_the_moving_average_and_begins_quickly():
    net = nn.BatchNorm1d(2)
    averaged, expected = AveragedModel(net, multi_avg_fn=averaging(0.5), use_buffers=True), None
    for n in range(12):
        value = torch.tensor([float(n), n**2])
        net.weight.data.copy_(value)
        net.running_mean.copy_(-value)
        averaged.update_parameters(net)
        decay = min(0.5, (1 + n) / (10 + n))
        expected = value if expected is None else decay * expected + (1 - decay) * value
    torch.testing.assert_close(averaged.module.weight.detach(), expected)
    torch.testing.assert_close(averaged.module.running_mean, -expected)


def test_averaging_answers_otherwise_and_trains_the_same(parts, tmp_path):
    nets = [network(), network()]
    curves = [fit(n, parts, tmp_path / str(ema), ema=ema).curves for n, ema in zip(nets, (0.0, 0.9), strict=True)]
    assert curves[0]["train_loss"].tolist() == curves[1]["train_loss"].tolist()
    assert curves[0]["val_loss"].tolist() != curves[1]["val_loss"].tolist()
    assert bits(nets[0])["head.0.weight"] != bits(nets[1])["head.0.weight"]


def test_smoothing_is_trained_on_and_not_told():
    weights, x, y = torch.tensor([0.5, 1.5, 1.0]), torch.rand(4, 3), torch.tensor([0, 1, 2, 1])
    classifier, told = Classifier(nn.Identity(), Train(label_smoothing=0.3), weights), {}
    classifier.log_dict = lambda means, **_: told.update(means)
    smooth = torch.full((4, 3), 0.3 / 3).scatter_(1, y[:, None], 0.7 + 0.3 / 3)
    by_hand = (-(smooth * x.log_softmax(1)).sum(1) * weights[y]).mean()
    torch.testing.assert_close(classifier.training_step((x, y), 0), by_hand)
    classifier.validation_step((x, y), 0)
    hard = F.cross_entropy(x, y, weight=weights, reduction="sum") / 4
    torch.testing.assert_close(told["train_loss"], hard)
    torch.testing.assert_close(told["val_loss"], hard)


def test_class_weights_give_every_class_the_same_weight():
    targets = np.array([0, 0, 0, 1, 3, 3])
    weights = balancing_weights(targets, 4)
    assert weights.tolist() == pytest.approx([2 / 3, 2.0, 0.0, 1.0])
    assert weights[targets].mean().item() == pytest.approx(1)
    sums = [weights[targets[targets == c]].sum().item() for c in (0, 1, 3)]
    assert sums == pytest.approx([2, 2, 2])


def test_class_weights_are_torchs_own_weighted_loss():
    weights, x, y = torch.tensor([0.5, 1.5, 1.0]), torch.rand(4, 3), torch.tensor([0, 1, 2, 1])
    classifier = Classifier(nn.Identity(), Train(), weights)
    classifier.log_dict = lambda *_, **__: None
    expected = F.cross_entropy(x, y, weight=weights, reduction="sum") / 4
    torch.testing.assert_close(classifier.training_step((x, y), 0), expected)


def test_rmsprop_steps_as_keras_does():
    net = nn.Linear(1, 1, bias=False)
    optimizer = Classifier(net, Train()).configure_optimizers()
    for gradient in (10.0, 1e-6):  # far above the floor of sqrt(1e-7), and far below it
        start = net.weight.item()
        optimizer.state.clear()
        net.weight.grad = torch.full_like(net.weight, gradient)
        optimizer.step()
        keras = 1e-3 * gradient / (0.1 * gradient**2 + 1e-7) ** 0.5
        assert start - net.weight.item() == pytest.approx(keras, rel=0.05, abs=1e-7)


@pytest.mark.parametrize(("bf16", "precision"), [(True, "bf16-mixed"), (False, "16-mixed")])
def test_on_a_gpu_mixed_precision_is_chosen(monkeypatch, bf16, precision):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bf16)
    assert choose_device(Train()) == ("cuda", precision)
    assert choose_device(Train(precision="32")) == ("cuda", "32-true")
    assert choose_device(Train(device="cpu")) == ("cpu", "32-true")


def test_a_gpu_that_is_not_there_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="finds no GPU"):
        choose_device(Train(device="cuda"))


def test_a_loss_that_is_no_number_is_an_error(parts, tmp_path):
    net = network()
    nn.init.constant_(net.head[-1].bias, float("nan"))
    with pytest.raises(InputError, match="not a number in any of 1 epochs"):
        fit(net, parts, tmp_path)
    with pytest.raises(InputError, match="not a number"):
        answer_dataset(net, parts["test"], 4)


def test_probabilities_stand_in_the_order_of_the_dataset(parts):
    net = network()
    p, features = answer_dataset(net, parts["test"], 4)
    assert p.shape == (9, 3) and p.dtype == np.float64 and features.shape[0] == 9
    assert np.allclose(p.sum(1), 1, atol=1e-6)
    with torch.inference_mode():
        alone = net(parts["test"][6][0][None]).softmax(1).numpy()[0]
    assert np.allclose(p[6], alone, atol=1e-6)


def test_a_decay_without_effect_is_refused():
    with pytest.raises(ValueError, match="weight_decay 0.01 has no effect with adam; use adamw, or 0"):
        Train(optimizer="adam", weight_decay=0.01)
