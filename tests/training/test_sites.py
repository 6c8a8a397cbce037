"""Sites: one left out at a time, and what makes a network care less about which machine it looks through."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import TensorDataset
from training_sets import FRAMES, LABELS, SIZE, make_workspace

from fetalflow.errors import InputError
from fetalflow.inference.engines import onnx_file
from fetalflow.models.building import build
from fetalflow.models.parts.harmonise import MEAN, SPREAD, Harmonise, standardise
from fetalflow.sequences.split import shared_patients, split
from fetalflow.settings.params import Split, Train
from fetalflow.training.alignment import answer_and_features, coral
from fetalflow.training.batch_norm import refresh_batch_norm
from fetalflow.training.classifier import Classifier
from fetalflow.training.device_look import as_another_device, as_if_drifting, with_persistence
from fetalflow.training.fitting import fit_network
from fetalflow.training.loading import SequenceDataset, training_loader
from fetalflow.training.segmenter import Segmenter

SITES = ("alpine", "brigid", "corvus", "delta")


def table(rows: list[tuple[int, str]], sites: int) -> pd.DataFrame:
    """A manifest from (number of the patient, label) pairs; each patient is of one of `sites` sites."""
    return pd.DataFrame(
        [
            {"sequence": f"s{i:04}", "patient": f"P{patient}", "site": SITES[patient % sites], "label": label}
            for i, (patient, label) in enumerate(rows)
        ]
    )


pairs = st.lists(st.tuples(st.integers(0, 15), st.sampled_from(["head", "arm", "leg"])), min_size=1, max_size=80)
drops = st.builds(table, pairs, st.integers(2, 4))


@settings(max_examples=40, deadline=None)
@given(drops, st.integers(0, 5), st.floats(0.1, 0.5))
def test_each_site_is_tested_once_by_those_who_never_saw_it(manifest, seed, validation):
    sites = sorted(manifest["site"].unique())
    people = manifest.groupby("site")["patient"].nunique()
    try:
        result = split(manifest, Split(kind="site", seed=seed, validation=validation))
    except InputError:
        assert len(sites) < 3 or people.sum() - people.max() < 2  # nobody is left to train on, or to validate with
        return
    assert set(shared_patients(result).values()) == {0}
    at = result["sequence"].map(manifest.set_index("sequence")["site"])
    for fold, site in enumerate(sites):
        of_fold = result["fold"] == fold
        assert sorted(result.loc[of_fold, "sequence"]) == sorted(manifest["sequence"])
        assert ((result.loc[of_fold, "part"] == "test") == (at[of_fold] == site)).all()
        assert set(result.loc[of_fold, "part"]) == {"train", "validation", "test"}
    tested = result[result["part"] == "test"].drop_duplicates(["patient", "fold"])
    assert Counter(tested["patient"]) == Counter(manifest["patient"].unique())
    pd.testing.assert_frame_equal(result, split(manifest[::-1], Split(kind="site", seed=seed, validation=validation)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.drop(columns="site"), "the site of every sequence; 60 of 60 have none: s0000 of patient P0"),
        (lambda m: m.replace({"site": {"brigid": " "}}), "15 of 60 have none: s0001 of patient P1"),
        (lambda m: m[m["site"].isin(["alpine", "delta"])], "needs 3 sites, .* found 2: alpine, delta. .*grouped"),
        (lambda m: m.replace({"patient": {"P1": "P0"}}), "1 patients were recorded at more than one site: P0. "),
    ],
    ids=["no column", "empty", "two sites", "shared patients"],
)
def test_sites_that_cannot_be_left_out_are_an_error_that_says_so(change, words):
    manifest = table([(i % 12, ("head", "arm", "leg")[i % 3]) for i in range(60)], 4)
    with pytest.raises(InputError, match=words):
        split(change(manifest), Split(kind="site"))


def cine(seed: int = 0, batch: int = 6, frames: int = 5, size: int = 32) -> torch.Tensor:
    """float [B, N, H, W]: tissue of middling grey, a few rows and columns of black beside it."""
    torch.manual_seed(seed)
    x = 0.35 + 0.3 * torch.rand(batch, 1, size, size) + 0.05 * torch.rand(batch, frames, size, size)
    x[..., :4], x[..., :3, :] = 0, 0
    return x


def test_two_gains_and_ranges_of_one_sequence_come_out_alike():
    x = cine()
    other = torch.where(x > 0, (1 + (x - 1) * 0.8 + 0.12).clamp(0, 1), 0)
    assert (x - other).abs().mean() > 0.1
    torch.testing.assert_close(standardise(other), standardise(x), atol=1e-4, rtol=0)
    lit = standardise(x)[x > 0]
    assert lit.mean() == pytest.approx(MEAN, abs=0.01) and lit.std() == pytest.approx(SPREAD, abs=0.01)


def test_harmonising_leaves_black_black_and_each_sequence_to_itself():
    x = cine()
    seen = standardise(x)
    assert (seen[x.amax(1, keepdim=True).expand_as(x) == 0] == 0).all() and seen.min() >= 0 and seen.max() <= 1
    torch.testing.assert_close(standardise(x[2:3]), seen[2:3])
    for value in (0.0, 0.6):
        flat = torch.full((2, 3, 8, 8), value)
        assert torch.equal(standardise(flat), flat if value == 0 else torch.full_like(flat, MEAN))
    assert Harmonise("none")(x) is x and not list(Harmonise("standardise").state_dict())
    assert standardise(x.half()).dtype == torch.float16
    with pytest.raises(InputError, match="one of none, standardise, found 'match'"):
        Harmonise("match")


class Harmonised(nn.Module):
    """A network as small as one can be, behind the part."""

    def __init__(self):
        super().__init__()
        self.harmonise, self.head = Harmonise("standardise"), nn.Linear(2 * 8 * 8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.harmonise(x).flatten(1))


def test_the_exported_part_takes_any_number_of_sequences(tmp_path, monkeypatch):
    torch.manual_seed(0)
    network = Harmonised().eval()
    config = {"frames": 2, "size": 8, "network": "harmonised", "weights": {"sha256": ""}}
    config |= {"labels": ["a", "b"], "extract": {}}
    monkeypatch.setattr(onnx_file, "read", lambda package: (network, config))
    onnx_file.export_onnx("package", tmp_path / "onnx")
    session = onnxruntime.InferenceSession(tmp_path / "onnx" / onnx_file.MODEL)
    for n in (1, 5):
        x = cine(batch=n, frames=2, size=8)
        x[0] = 0
        (answer,) = session.run(["logits"], {onnx_file.FRAMES: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(answer), network(x).detach(), atol=1e-5, rtol=1e-5)


def test_another_device_changes_the_look_and_not_the_place():
    x = cine(batch=32)
    torch.manual_seed(1)
    seen = as_another_device(x)
    assert seen.shape == x.shape and seen.dtype == x.dtype and seen.min() >= 0 and seen.max() <= 1
    assert (seen[..., :4] == 0).all() and (seen[..., :3, :] == 0).all()
    means = [y.mean((1, 2, 3)) for y in (x, seen)]
    assert means[1].std() > 5 * means[0].std(), "the sequences' looks are alike"
    top, bottom = (seen[..., rows, 4:].mean((1, 2, 3)) for rows in (slice(3, 10), slice(25, 32)))
    assert (top - bottom).std() > 0.02, "gain is the same at every depth"
    bar = torch.zeros(32, 3, 32, 32)
    bar[..., 10:20, 10:20] = 0.5
    assert (as_another_device(bar)[bar > 0].view(32, -1).mean(1) > 0.1).all()
    assert (as_another_device(bar)[bar == 0] == 0).all()
    torch.manual_seed(1)
    assert torch.equal(seen, as_another_device(x))


def test_persistence_shows_what_was_there_before_and_nothing_that_comes():
    x = torch.zeros(2, 4, 8, 8)
    x[:, 1] = 1.0
    seen = with_persistence(x, torch.tensor([[0.0], [0.25]]))
    assert torch.equal(seen[0], x[0])
    assert seen[1, :, 0, 0].tolist() == pytest.approx([0, 0.75, 0.75 * 0.25, 0.75 * 0.25**2])
    still = cine(frames=1).expand(-1, 4, -1, -1)
    torch.testing.assert_close(with_persistence(still, torch.full((6, 1), 0.3)), still)


def test_a_drifting_probe_moves_every_frame_on_and_the_sector_stays():
    x = torch.full((16, 9, 48, 48), 0.01)
    x[..., 22:26, 22:26] = 1.0
    torch.manual_seed(0)
    seen = as_if_drifting(x, reach=0.25)
    assert seen.shape == x.shape and seen.dtype == x.dtype and seen.min() >= 0 and seen.max() <= 1
    torch.testing.assert_close(seen[:, 4], x[:, 4], atol=1e-5, rtol=0)  # the middle frame
    place, bright = torch.arange(48.0), seen * (seen > 0.05)
    across, down = ((bright.sum(axis) * place).sum(-1) / bright.sum((2, 3)) for axis in (2, 3))  # [B, N]
    steps = across.diff(dim=1)
    torch.testing.assert_close(steps, steps.mean(1, keepdim=True).expand_as(steps), atol=0.1, rtol=0)
    way = across[:, -1] - across[:, 0]
    assert 4 < way.abs().max() <= 0.25 * 48 + 0.1 and way.min() < -1 and way.max() > 1
    assert (down[:, -1] - down[:, 0]).abs().max() <= 0.4 * 0.25 * 48 + 0.1
    assert (as_if_drifting(x * (torch.arange(48) > 8), 0.25)[..., :9] == 0).all()
    assert torch.equal(as_if_drifting(x[:, :1], 0.25), x[:, :1])


def test_masks_stay_as_they_are_when_devices_change_and_cannot_drift():
    segmenter = Segmenter(build("fetalnet", 2, 32, 2, width=2), Train(device_augment=True))
    segmenter.log_dict, told = lambda *_, **__: None, []
    segmenter._answer_loss = lambda answer, masks, *_: told.append(masks) or answer.mask.sum()
    masks = torch.randint(0, 2, (2, 2, 32, 32), dtype=torch.uint8)
    segmenter.training_step((cine(batch=2, frames=2), masks, torch.tensor([0, 1])), 0)
    assert told and all(torch.equal(each, masks) for each in told)
    for wrong in ({"drift_augment": 0.1}, {"align": 1.0}):
        with pytest.raises(InputError, match=f"train.{next(iter(wrong))} is .* classifiers only: with FetalNet, masks"):
            Segmenter(build("fetalnet", 2, 32, 2, width=2), Train(**wrong))


def test_a_refresh_changes_the_statistics_of_batch_norm_alone():
    torch.manual_seed(0)
    network = build("cnn", 5, 32, 3, norm_each=True).eval()
    network.conv_branch.dense.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    sequences = TensorDataset(cine(batch=12) + 0.2, torch.full((12,), -1))  # no label is looked at
    torch.manual_seed(7)
    state = torch.get_rng_state()
    refresh_batch_norm(network, training_loader(sequences, 4, seed=0))
    assert torch.equal(torch.get_rng_state(), state) and [m.training for m in network.modules()] == modes
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    statistics = {name for name, _ in network.named_buffers()}
    assert changed and changed <= statistics and {"conv_branch.norm1.running_mean"} <= changed
    with torch.no_grad():  # the first layer sees what the convolution makes of the new site
        seen = network.conv_branch.conv1(sequences.tensors[0]).mean((0, 2, 3))
    torch.testing.assert_close(network.conv_branch.norm1.running_mean, seen, atol=1e-5, rtol=1e-4)


def test_without_batch_norm_there_is_nothing_to_refresh():
    with pytest.raises(InputError, match="Linear has no batch norm"):
        refresh_batch_norm(nn.Linear(2, 2), training_loader(TensorDataset(torch.rand(4, 2)), 2, seed=0))


def test_coral_is_the_distance_of_means_and_covariances():
    torch.manual_seed(0)
    a, b, lone = torch.randn(5, 7), 1.5 * torch.randn(6, 7) + 0.5, torch.randn(1, 7)
    features, sites = torch.cat([a, lone, b]), torch.tensor([4] * 5 + [2] + [0] * 6)
    variance = torch.cat([b, a]).var(0).mean()
    means = (a.mean(0) - b.mean(0)).square().mean() / variance
    covariances = (torch.cov(a.T) - torch.cov(b.T)).square().sum() / (4 * 7**2 * variance**2)
    torch.testing.assert_close(coral(features, sites), means + covariances)
    torch.testing.assert_close(coral(100 * features, sites), coral(features, sites))  # shrinking wins nothing
    alike = torch.cat([a, a.flip(0), a])
    assert coral(alike, torch.arange(3).repeat_interleave(5)) == pytest.approx(0, abs=1e-6)
    assert coral(features, torch.zeros(12)) == 0 and coral(features, torch.arange(12)) == 0


@pytest.fixture(scope="module")
def two_sites(tmp_path_factory) -> tuple[pd.DataFrame, Path]:
    """The training set's rows with `part`, at two sites of which one shows everything brighter; and their folder."""
    data = make_workspace(tmp_path_factory.mktemp("sites")) / "data" / "movement"
    split = pd.read_parquet(data / "split.parquet")[["sequence", "part"]]
    rows = pd.read_parquet(data / "manifest.parquet").merge(split, on="sequence")
    rows["site"] = [SITES[i % 2] for i in range(len(rows))]
    for path in rows.loc[rows["site"] == SITES[1], "path"]:
        np.save(data / path, (np.load(data / path) * 0.4 + 120).astype(np.uint8))
    return rows, data


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Flatten(), nn.Linear(4 * 4, 8), nn.Tanh()), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


def shifted(n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """float [n, 1, 4, 4], labels and sites int64 [n]: a label lights the left half, a site the lower half."""
    labels, sites = torch.randint(0, 2, (2, n))
    x = 0.3 + 0.1 * torch.randn(n, 1, 4, 4)
    x[..., :2] += 0.2 * labels[:, None, None, None]
    x[..., 2:, :] += 0.5 * sites[:, None, None, None]
    return x, labels, sites


def test_aligned_training_brings_the_sites_together_and_keeps_the_labels_apart():
    apart = {}
    for align in (0.0, 1.0):
        torch.manual_seed(0)
        classifier = Classifier(Tiny(), Train(align=align))
        classifier.log_dict = lambda *_, **__: None
        optimizer = torch.optim.Adam(classifier.parameters(), lr=0.003)
        for _ in range(500):
            x, labels, sites = shifted(8)  # about two sequences of each label at each site
            loss = classifier.training_step((x, labels, sites) if align else (x, labels), 0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        torch.manual_seed(1)
        x, labels, sites = shifted(400)
        with torch.no_grad():
            logits, features = answer_and_features(classifier.network, x)
        apart[align] = float(coral(features, sites))
        assert (logits.argmax(1) == labels).float().mean() > 0.9
    assert apart[1.0] < 0.5 * apart[0.0], apart


def test_a_fit_takes_sites_along_and_hands_the_network_back_without_a_hook(two_sites, tmp_path):
    rows, data = two_sites
    train, validation = (rows[rows["part"] == part] for part in ("train", "validation"))
    network = build("cnn", FRAMES, SIZE, len(LABELS))
    parts = SequenceDataset(train, data, LABELS, sites=True), SequenceDataset(validation, data, LABELS)
    settings = Train(batch=8, epochs=1, align=0.5, device_augment=True, drift_augment=0.1, augment=True, device="cpu")
    fitted = fit_network(network, *parts, settings, 0, tmp_path, len(LABELS), lambda row: None)
    assert fitted.curves["train_loss"].notna().all()
    assert not network.head._forward_pre_hooks


def test_a_compiled_network_is_not_aligned():
    with pytest.raises(ValueError, match="align 0.3 needs a hook, which compiled code does not call"):
        Train(align=0.3, compile=True)


def test_sites_to_align_must_be_known(two_sites):
    rows, data = two_sites
    for wrong in (rows.drop(columns="site"), rows.assign(site=None), rows.assign(site="alpine")):
        with pytest.raises(InputError, match="aligning sites needs a `site` .* or --set TASK.train.align=0"):
            SequenceDataset(wrong, data, LABELS, sites=True)
    assert len(SequenceDataset(rows, data, LABELS)[0]) == 2
