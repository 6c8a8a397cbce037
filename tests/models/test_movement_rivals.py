"""The rivals of movement that reviewers ask for: as published, at any length, explained, exported, frame by frame."""

import numpy as np
import pytest
import torch
import yaml
from closures import DVC, NOT_THE_RESULT, ROOT, closure, resolve
from torch import nn
from torch.nn import functional as F

from fetalflow.errors import InputError
from fetalflow.inference.engines.engine import open_engine
from fetalflow.inference.engines.onnx_file import export_onnx
from fetalflow.models.building import build
from fetalflow.models.frame_weights import has_attention
from fetalflow.models.movement import x3d_s
from fetalflow.models.summary import count_gmac
from fetalflow.models.weights import save
from fetalflow.report.explain.filters import feature_maps
from fetalflow.report.explain.gradcam import convolution_layer, grad_cam, hires_cam
from fetalflow.settings.params import Extract, load_settings
from flows.workspaces.workspace import prepare

MEAN, ATTENTION = {"pooling": "mean"}, {"pooling": "attention"}
RIVALS = [
    ("cnn_gru", {}),
    ("backbone_frames", MEAN),
    ("backbone_frames", ATTENTION),
    ("x3d_s", {}),
    ("r2plus1d_18", {}),
]
BY_FRAME = RIVALS[:3]
COLOURS = {"x3d_s": 2 * 24 * 9, "r2plus1d_18": 2 * 45 * 49}  # weights of the stem that see the other two colours


def on_meta(name: str, frames: int = 10, size: int = 300, classes: int = 7, **options) -> nn.Module:
    with torch.device("meta"):
        return build(name, frames, size, classes, **options)


def small(name: str, frames: int = 4, **options) -> tuple[nn.Module, torch.Tensor]:
    """A network in evaluation mode whose batch norms have seen something, and two sequences."""
    torch.manual_seed(3)
    network = build(name, frames, 32, 3, **options)
    with torch.no_grad():
        network(torch.rand(4, frames, 32, 32))
    return network.eval(), torch.rand(2, frames, 32, 32)


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("name", "options", "parameters"),
    [
        ("cnn_gru", {}, 1_655_367),
        ("cnn_gru", {"norm_each": True}, 1_655_367 + 2 * (16 + 32 + 64 + 128 + 64)),
        ("backbone_frames", MEAN, 863_847),
        ("backbone_frames", ATTENTION, 1_014_375),
        ("backbone_frames", {"backbone": "lite0"}, 1_014_375 + 3_370_432 - 776_800 + (1280 - 672) * 128),
        ("x3d_s", {}, 2_988_633),
        ("r2plus1d_18", {}, 31_299_306),
    ],
)
def test_parameters(name, options, parameters):
    assert count(on_meta(name, **options)) == parameters


@pytest.mark.parametrize(
    ("name", "shape", "parameters", "gmac"),
    [
        # Table 4 of X3D's paper: 3.8 M, 1.96 GFLOPs (multiply-adds); with the 2048 wide head without a batch norm.
        ("x3d_s", (13, 160), 3_794_322, 1.96),
        # Published weights of 18 layers: 31 505 325 parameters, 40.5 GFLOPs.
        ("r2plus1d_18", (16, 112), 31_505_325, 40.52),
    ],
)
def test_in_colour_and_on_kinetics_the_3d_networks_are_the_published_ones(name, shape, parameters, gmac):
    frames, size = shape
    assert count(on_meta(name, frames, size, 400)) + COLOURS[name] == parameters
    colours = COLOURS[name] * frames * (size // 2) ** 2 / 1e9
    assert count_gmac(name, frames, size, 400) + colours == pytest.approx(gmac, abs=0.005)


@pytest.mark.parametrize(("name", "options"), RIVALS)
@pytest.mark.parametrize(("frames", "size"), [(1, 32), (2, 65), (30, 300)])
def test_any_length_and_size(name, options, frames, size):
    network = on_meta(name, frames, size, 5, **options)
    assert network(torch.empty(2, frames, size, size, device="meta")).shape == (2, 5)


@pytest.mark.parametrize(("name", "options"), BY_FRAME)
def test_what_was_kept_of_each_frame_answers_every_window(name, options):
    network, _ = small(name, **options)
    assert (network.reach, network.needs_frames) == (1, False)
    cine = torch.rand(1, 7, 32, 32)
    with torch.inference_mode():
        kept = torch.stack([network.keep(cine[:, i : i + 1]) for i in range(7)], 1)
        assert kept.ndim == 3
        for start in range(4):
            window = cine[:, start : start + 4]
            answer = network.answer(kept[:, start : start + 4], window)
            torch.testing.assert_close(answer, network(window), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "options"), RIVALS)
def test_all_but_the_mean_read_the_order_of_the_frames(name, options):
    network, x = small(name, frames=8, **options)
    with torch.inference_mode():
        same = torch.allclose(network(x), network(x.flip(1)), rtol=1e-4, atol=1e-6)
    assert same == (options == MEAN)


def test_attention_over_frames_is_told_and_used():
    network, x = small("backbone_frames", **ATTENTION)
    mean, _ = small("backbone_frames", **MEAN)
    assert has_attention(network) and not has_attention(mean)
    with torch.no_grad():
        rows = network.attention_weights(x)
        pooling, layer = network.pooling, network.pooling.attention
        given = layer.before(pooling.enter(network._features(x)) + pooling.positions)
        projected = F.linear(given, layer.attention.in_proj_weight, layer.attention.in_proj_bias)
        query, key, value = projected.chunk(3, -1)
        by_head = [part.unflatten(-1, (4, 32)).transpose(1, 2) for part in (query, key, value)]
        scores = (by_head[0] @ by_head[1].transpose(-1, -2) / 32**0.5).softmax(-1)
    assert rows.shape == (2, 4, 4)
    torch.testing.assert_close(rows, scores.mean(1))
    torch.testing.assert_close(rows.sum(-1), torch.ones(2, 4))


def test_pretrained_weights_are_read_and_named():
    network, drawn = build("backbone_frames", 4, 32, 3), build("backbone_frames", 4, 32, 3, pretrained=False)
    planes = build("lite_attention", 1, 64, 3, backbone="lite0_short")
    stem = "backbone.stem.conv.weight"
    assert torch.equal(network.state_dict()[stem], planes.state_dict()[stem])
    assert not torch.equal(network.state_dict()[stem], drawn.state_dict()[stem])
    assert {id(p) for p in network.pretrained_parameters()} == {id(p) for p in network.backbone.parameters()}
    assert drawn.pretrained_parameters() == []


@pytest.mark.parametrize(("name", "options"), RIVALS)
def test_maps_are_of_every_frame(name, options):
    network, x = small(name, frames=9, **options)
    targets = torch.tensor([0, 2])
    layer_name, layer = convolution_layer(network)
    assert layer_name == getattr(network, "explained_layer", "conv_branch.conv4")
    maps = grad_cam(network, x, targets, layer)
    assert maps.shape == hires_cam(network, x, targets, layer).shape == (2, 9, 32, 32)
    assert maps.min() >= 0 and maps.isfinite().all()
    found = feature_maps(network, x, layer)
    assert found.ndim == 4 and len(found) == 2


class InTime(nn.Module):
    """A layer that keeps time as an axis, and an answer that is its mean."""

    explained_layer = "layer"

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.ReLU(), nn.Linear(1, 2)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[1.0], [-1.0]]))

    def forward(self, x):
        return self.head(self.layer(x.unsqueeze(1)).mean((2, 3, 4)))


def test_a_map_lies_on_the_frame_and_place_that_it_is_of():
    network, x = InTime(), torch.zeros(2, 5, 8, 8)
    x[0, 3, 2, 6] = x[1, 1, 5, 4] = 1
    maps = grad_cam(network, x, torch.tensor([0, 0]), network.layer)
    assert (maps > 0).nonzero().tolist() == [[0, 3, 2, 6], [1, 1, 5, 4]]
    np.testing.assert_array_equal(feature_maps(network, x, network.layer)[:, 0], x[:, 2])


@pytest.mark.parametrize(("name", "options"), [RIVALS[2], RIVALS[3]])  # attention, three dimensions
def test_an_exported_rival_answers_any_number_of_sequences(tmp_path, monkeypatch, name, options):
    monkeypatch.setattr(x3d_s, "STAGES", ((24, 1), (48, 2)))  # whole it takes a quarter of a minute
    network, _ = small(name, **options)
    config = {"task": "movement", "variant": name, "network": name, "labels": ["arm", "leg", "head"], "frames": 4}
    extract = Extract(frames=4).model_dump(mode="json")
    save(tmp_path / "model", network, config | {"size": 32, "options": options, "extract": extract})
    export_onnx(tmp_path / "model", tmp_path / "exported" / "onnx")
    engine = open_engine("onnx", tmp_path / "model", tmp_path / "exported")
    for n in (1, 3):
        batch = torch.rand(n, 4, 32, 32)
        with torch.inference_mode():
            np.testing.assert_allclose(engine.answer(batch.numpy()).logits, network(batch), atol=1e-4)


@pytest.mark.parametrize("profiles", [["rivals"], ["folds"], ["paper", "rivals", "folds"]])
def test_the_profiles_can_be_built_and_laid_over_each_other(tmp_path, profiles):
    folder = prepare(tmp_path / "run", profiles=profiles)
    settings = load_settings(folder / "params.yaml")
    block, variants = settings.blocks["movement"], settings.variants("movement")
    for variant in variants:
        entry = settings.variant("movement", variant)
        on_meta(entry.network, 10, 64, 7, **entry.options)
    assert ("x3d_s" in variants) == ("rivals" in profiles)
    if "folds" in profiles:
        assert (block.split.kind, block.split.folds, block.train.seeds) == ("grouped", 5, (0, 1, 2))


PROFILES = yaml.safe_load((ROOT / "params.yaml").read_text())["profiles"]


@pytest.mark.parametrize(
    "unit", [a | {"key": k} for k, a in PROFILES["rivals"]["movement"]["rivals"].items()], ids=lambda a: a["key"]
)
def test_dvc_knows_the_files_of_every_rival(unit):
    listed = {resolve(dep, {"item": unit}) for dep in DVC["ablate"]["do"]["deps"]}
    needed = {n for n in closure(f"fetalflow/models/movement/{unit['network']}.py") if not n.startswith(NOT_THE_RESULT)}
    assert {n for n in needed if n not in listed and not n.startswith(tuple(f"{d}/" for d in listed))} == set()


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("backbone_frames", {"pooling": "max"}, "must be mean or attention, found 'max'"),
        ("backbone_frames", {"frames": 0}, "1 frame, 2 classes and 32 px at least, found 0 frames"),
        ("backbone_frames", {"backbone": "resnet"}, "known backbones: lite0"),
        ("cnn_gru", {"classes": 1}, "found 10 frames, 1 classes"),
        ("x3d_s", {"size": 16}, "x3d_s needs .* 32 px at least, .* 16 px"),
        ("x3d_s", {"depth": 3}, "no option depth; its options: dropout"),
        ("r2plus1d_18", {"frames": 0}, "r2plus1d_18 needs 1 frame"),
    ],
)
def test_what_cannot_be_built_is_refused(name, given, message):
    with pytest.raises(InputError, match=message):
        build(name, **({"frames": 10, "size": 64, "classes": 7} | given))
