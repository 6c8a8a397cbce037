"""FetalNet and its light variant: shapes, what each option takes away, what reaches what."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fetalflow.errors import InputError
from fetalflow.models.biometry.fetalnet import ConvLSTM
from fetalflow.models.biometry.fetalnet_lite import ConvGRU
from fetalflow.models.building import build
from fetalflow.models.parts.backbones import load_published
from fetalflow.models.parts.mask_and_label import AttentionGate, StackedModule
from fetalflow.models.summary import count_gmac, describe
from fetalflow.models.weights import read, save

SMALL = {"fetalnet": {"width": 4}, "fetalnet_lite": {}}
PLAIN = {"attention": False, "stacked": False, "temporal": False}
LABELS = ["head", "abdomen", "femur"]


def small(name: str, **options) -> nn.Module:
    torch.manual_seed(0)
    return build(name, 3, 64, 3, **SMALL[name], **options)


def used(name: str, **options) -> nn.Module:
    """In evaluation mode, with batch norms that have seen some clips: fresh ones hand on next to nothing."""
    net = small(name, **options).train()
    with torch.no_grad():
        for _ in range(10):
            net(torch.rand(2, 3, 64, 64))
    return net.eval()


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def on_meta(name: str, classes: int = 3, **options) -> nn.Module:
    with torch.device("meta"):
        return build(name, 10, 224, classes, **options)


def clip(frames: int = 3, height: int = 64, width: int = 64, batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, frames, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("shape", [(2, 1, 32, 32), (1, 3, 45, 70), (2, 2, 64, 33), (1, 1, 100, 64)])
def test_any_number_of_frames_and_any_size(name, shape):
    batch, frames, height, width = shape
    net = small(name)
    for training in (True, False):
        answer = net.train(training)(clip(frames, height, width, max(batch, 1 + training)))
        one = (max(batch, 1 + training), frames, height, width)
        assert answer.mask.shape == one and answer.label.shape == (one[0], 3)
        assert [side.shape for side in answer.sides] == [one] * (4 if training else 0)


@pytest.mark.parametrize("name", SMALL)
def test_padding_is_black_and_to_the_right_and_below(name):
    net, x = used(name), clip(2, 50, 70, 1)
    whole = F.pad(x, (0, -70 % net.encoder.step, 0, 14))  # 64 x 80 or 64 x 96
    torch.testing.assert_close(net(x).mask, net(whole).mask[:, :, :50, :70])
    torch.testing.assert_close(net(x).label, net(whole).label)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("options", [{}, PLAIN])
def test_every_weight_learns(name, options):
    net = small(name, **options).train()
    answer = net(clip())
    loss = sum(F.binary_cross_entropy_with_logits(m, (clip() > 0.7).float()) for m in (answer.mask, *answer.sides))
    (loss + F.cross_entropy(answer.label, torch.tensor([0, 2]))).backward()
    assert all(p.grad is not None for p in net.parameters())
    # A bias before a batch norm has no effect: its gradient is nothing but rounding.
    assert not [name for name, p in net.named_parameters() if p.ndim > 1 and not p.grad.abs().sum() > 0]


@pytest.mark.parametrize("name", SMALL)
def test_without_a_memory_every_frame_is_on_its_own(name):
    net, x = used(name, temporal=False), clip()
    changed = x.clone()
    changed[:, 0] = clip(1)[:, 0].flip(-1)
    before, after = net(x).mask, net(changed).mask
    assert (before[:, 0] - after[:, 0]).abs().max() > 1e-3
    assert torch.equal(before[:, 1:], after[:, 1:])


@pytest.mark.parametrize("name", SMALL)
def test_a_memory_looks_back_and_not_ahead(name):
    net, x = used(name), clip()
    first, last = x.clone(), x.clone()
    first[:, 0], last[:, 2] = 0, 0
    mask = net(x).mask
    assert all((mask[:, i] - net(first).mask[:, i]).abs().max() > 1e-6 for i in range(3))
    torch.testing.assert_close(mask[:, :2], net(last).mask[:, :2])
    assert (mask[:, 2] - net(last).mask[:, 2]).abs().max() > 1e-3


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("level", range(4))
def test_every_level_of_every_frame_reaches_the_mask(name, level, monkeypatch):
    """The published file takes the skips of the last frame, and decodes none of what comes from below."""
    net, x = used(name), clip()
    skips, deep = net.encoder(x.flatten(0, 1).unsqueeze(1))
    monkeypatch.setattr(net.encoder, "forward", lambda _: (skips, deep))
    mask = net(x).mask
    for frame in range(3):
        for grad in torch.autograd.grad(mask[:, frame].sum(), [skips[level], deep], retain_graph=True):
            assert grad.unflatten(0, (2, 3))[:, frame].abs().sum() > 0


# The published file has 69 157 401: four labels, a channel of mask.
FULL, LITE = 69_156_888, 3_186_200
CELL = 9 * 1024 * 2048 + 2048  # input and state of 512 maps each, four gates, biases


def gates(widths: dict[int, int]) -> int:
    """Of attention: skip by what comes from below, both to half the skip; batch norms; one map of them."""
    return sum((k + g + 2) * (k // 2) + 4 * (k // 2) + k // 2 + 1 + 2 for k, g in widths.items())


@pytest.mark.parametrize(
    ("name", "options", "parameters"),
    [
        ("fetalnet", {}, FULL),
        ("fetalnet", {"temporal": False}, FULL - 2 * CELL),
        ("fetalnet", {"attention": False}, FULL - gates({64: 64, 128: 128, 256: 256, 512: 512})),
        ("fetalnet", {"stacked": False}, FULL - (960 * 9 + 4) - 37 + 65),
        ("fetalnet", {"label": False}, FULL - 513 * 3),
        ("fetalnet", PLAIN | {"label": False}, 31_042_369),
        ("fetalnet_lite", {}, LITE),
        ("fetalnet_lite", {"temporal": False}, LITE - 103_808),
        ("fetalnet_lite", {"attention": False}, LITE - gates({16: 16, 24: 32, 40: 48, 112: 96})),
        ("fetalnet_lite", {"stacked": False}, LITE - (192 * 9 + 4) - 37 + 17),
        ("fetalnet_lite", {"label": False}, LITE - 129 * 3),
    ],
)
def test_parameters_and_what_each_option_takes_away(name, options, parameters):
    assert count(on_meta(name, **options)) == parameters


def test_the_published_count_and_where_it_lies():
    net = on_meta("fetalnet", classes=4)
    assert count(net) == 69_157_401 and count(net.memory) == 2 * CELL == 37_752_832
    assert count(on_meta("fetalnet_lite")) < 5e6


def test_arithmetic_of_a_frame_of_256_px():
    assert count_gmac("fetalnet", 1, 256, 3) == pytest.approx(58.902, abs=1e-3)
    assert count_gmac("fetalnet_lite", 1, 256, 3) == pytest.approx(0.5479, abs=1e-4)
    assert "69,156,888" in describe("fetalnet", 2, 64, 3)


def test_the_light_encoder_is_the_published_backbone():
    net, published = build("fetalnet_lite", 1, 100, 1), load_published("lite0", 96, True).eval()
    grey, seen = clip(1, 96, 64, 2), {}
    for i in (0, 2, 4, 10):
        published._blocks[i].register_forward_hook(lambda m, given, made, i=i: seen.update({i: made}))
    with torch.inference_mode():
        published.extract_features((grey.expand(-1, 3, -1, -1) * 255 - 127) / 128)
        skips, deep = net.eval().encoder(grey)
    for skip, expected in zip(skips, seen.values(), strict=True):
        torch.testing.assert_close(skip, expected, rtol=1e-4, atol=1e-4)
    assert [tuple(s.shape[1:]) for s in skips] == [(16, 48, 32), (24, 24, 16), (40, 12, 8), (112, 6, 4)]
    assert deep.shape == (2, 128, 3, 2)


def test_pretrained_parameters_are_the_backbones():
    net = build("fetalnet_lite", 1, 64, 3)
    assert sum(p.numel() for p in net.pretrained_parameters()) == 3_370_432 - 412_160  # but for the backbone's top
    assert small("fetalnet_lite", pretrained=False).pretrained_parameters() == []


def test_the_memory_is_an_lstm_of_convolutions():
    """With 1 x 1 px only the middle of a kernel is used, and torch's LSTM must say the same."""
    torch.manual_seed(0)
    ours, torchs, x = ConvLSTM(3), nn.LSTM(3, 3, batch_first=True), torch.rand(2, 4, 3)
    order = [0, 1, 3, 2]  # ours: add, keep, show, new; torch's: add, keep, new, show

    def rows(values: torch.Tensor) -> torch.Tensor:
        return torch.cat([values.chunk(4)[i] for i in order]).detach()

    torchs.weight_ih_l0.data = rows(ours.of_input.weight[:, :, 1, 1])
    torchs.weight_hh_l0.data = rows(ours.of_state.weight[:, :, 1, 1])
    torchs.bias_ih_l0.data = rows(ours.of_input.bias)
    torchs.bias_hh_l0.data.zero_()
    torch.testing.assert_close(ours(x[..., None, None])[..., 0, 0], torchs(x)[0])


def test_the_light_memory_adds_what_it_remembers():
    torch.manual_seed(0)
    memory, x = ConvGRU(2), torch.rand(1, 3, 2, 4, 4)
    now, state = x[:, 0], torch.zeros(1, 2, 4, 4)
    keep, _ = memory.gates(torch.cat([now, state], 1)).sigmoid().chunk(2, 1)
    by_hand = (1 - keep) * memory.new(torch.cat([now, state], 1)).tanh()
    torch.testing.assert_close(memory(x)[:, 0], now + by_hand)
    nn.init.constant_(memory.gates[1].bias, 50.0)  # it keeps everything, and there was nothing
    torch.testing.assert_close(memory(x), x)


def test_attention_is_additive():
    torch.manual_seed(0)
    gate, below, skip = AttentionGate(5, 4, 2).eval(), torch.rand(2, 5, 3, 3), torch.rand(2, 4, 3, 3)
    norm = (1 + 1e-5) ** -0.5  # of a fresh batch norm
    sums = [
        torch.einsum("ik,bkhw->bihw", conv.weight[:, :, 0, 0], maps) + conv.bias[:, None, None]
        for conv, maps in ((gate.of_below[0], below), (gate.of_skip[0], skip))
    ]
    last = gate.both[0]
    seen = torch.einsum("i,bihw->bhw", last.weight[0, :, 0, 0], F.relu((sums[0] + sums[1]) * norm)) + last.bias
    torch.testing.assert_close(gate(below, skip)[:, 0], (seen * norm).sigmoid())


@pytest.mark.parametrize("name", SMALL)
def test_attention_maps_follow_the_gates(name):
    net, x = used(name), clip(2, 40, 70)
    maps = net.attention_maps(x)
    assert maps.shape == x.shape and maps.min() > 0 and maps.max() < 1 and maps.std() > 1e-3
    for level in net.decoder:
        nn.init.zeros_(level.gate.both[1].weight)
        nn.init.constant_(level.gate.both[1].bias, -1.0)
    torch.testing.assert_close(net.attention_maps(x), torch.full_like(x, torch.tensor(-1.0).sigmoid().item()))
    with pytest.raises(InputError, match="attention: false"):
        small(name, attention=False).eval().attention_maps(x)


def test_fusion_begins_as_the_mean_of_the_levels():
    torch.manual_seed(0)
    fused, sides = StackedModule([3, 5])([torch.rand(2, 3, 8, 8), torch.rand(2, 5, 4, 4)])
    assert [side.shape for side in sides] == [(2, 1, 8, 8)] * 2
    torch.testing.assert_close(fused, (sides[0] + sides[1]) / 2)


@pytest.mark.parametrize("name", SMALL)
def test_without_a_label_branch_no_label_is_preferred(name):
    net = small(name, label=False)
    label = net.train()(clip()).label
    assert torch.equal(label, torch.zeros(2, 3))


@pytest.mark.parametrize("name", SMALL)
def test_saved_and_read_again_it_answers_the_same(name, tmp_path):
    net, x = small(name), clip()
    net.train()(x)  # running statistics of their own
    config = {"task": "biometry", "variant": name, "network": name, "labels": LABELS, "frames": 3, "size": 64}
    save(tmp_path / "model", net, config | {"options": SMALL[name], "extract": {}})
    again, _ = read(tmp_path / "model")
    with torch.inference_mode():
        for one, other in zip(net.eval()(x)[:2], again(x)[:2], strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("name", SMALL)
def test_what_cannot_be_is_refused(name):
    for shape in ((0, 64, 3), (1, 16, 3), (1, 64, 0)):
        with pytest.raises(InputError, match=f"{name} needs 1 frame, 1 class and 32 px"):
            build(name, *shape)
    with pytest.raises(InputError, match="has no option depth; its options: attention"):
        build(name, 1, 64, 3, depth=5)


@pytest.mark.parametrize("name", SMALL)
def test_with_mirror_the_mask_turns_with_the_frames_and_the_label_is_that_of_the_frames(name):
    plain, x = used(name), clip(width=45)  # padded on the right, which must not turn with the frames
    mirror = small(name, mirror=True).eval()
    mirror.load_state_dict(plain.state_dict())  # the option adds no weights
    with torch.no_grad():
        answer, alone, turned = mirror(x), plain(x), plain(x.flip(-1))
        torch.testing.assert_close(answer.mask, (alone.mask + turned.mask.flip(-1)) / 2)
        torch.testing.assert_close(mirror(x.flip(-1)).mask, answer.mask.flip(-1))
        torch.testing.assert_close(answer.label, alone.label)
        assert not torch.allclose(answer.mask, alone.mask, atol=1e-4)
        torch.manual_seed(0)
        trained = mirror.train()(x).mask
        torch.manual_seed(0)
        torch.testing.assert_close(trained, plain.train()(x).mask)
