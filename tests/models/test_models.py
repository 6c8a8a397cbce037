"""The networks against the paper's Table 3, its other readings, and what each ablation must not see."""

import pytest
import torch
from torch.nn import functional as F

from fetalflow.errors import InputError
from fetalflow.models.building import build, known_networks
from fetalflow.models.summary import count_gmac

TABLE_3 = {
    "conv_branch.conv1": (64, 300, 300),
    "conv_branch.pool1": (64, 150, 150),
    "conv_branch.conv2": (128, 150, 150),
    "conv_branch.pool2": (128, 75, 75),
    "conv_branch.conv3": (256, 75, 75),
    "conv_branch.pool3": (256, 37, 37),
    "conv_branch.conv4": (512, 37, 37),
    "conv_branch.pool4": (512, 18, 18),
    "conv_branch.conv5": (256, 18, 18),  # not in the table, but in the text and in the next row
    "conv_branch.norm": (256, 9, 9),
    "conv_branch.dense": (256,),
    "attention_branch.query": (10, 1024),
    "attention_branch.value": (10, 1024),
    "attention_branch.dense": (256,),
    "attention_branch.norm": (256,),
    "head.0": (256,),
    "head.3": (128,),
    "head.6": (64,),
    "head.8": (7,),
}


def on_meta(variant: str = "fetalmovnet", size: int = 300, **options) -> torch.nn.Module:
    with torch.device("meta"):
        return build(variant, 10, size, 7, **options)


def trainable(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def small(variant: str, frames: int = 6, **options) -> tuple[torch.nn.Module, torch.Tensor]:
    """A network in evaluation mode and two sequences in 0-1 of stored grey values."""
    torch.manual_seed(3)
    network = build(variant, frames, 32, 4, **options).eval()
    return network, torch.randint(0, 256, (2, frames, 32, 32)) / 255


def test_shapes_of_table_3():
    network, seen = on_meta(), {}
    for name in TABLE_3:
        network.get_submodule(name).register_forward_hook(
            lambda module, given, made, name=name: seen.update({name: tuple(made.shape[1:])})
        )
    assert network(torch.empty(2, 10, 300, 300, device="meta")).shape == (2, 7)
    assert seen == TABLE_3
    assert network.conv_branch.flat == 20_736
    assert network.attention_branch.dense.in_features == 10_240
    assert network.head[0].in_features == 512


@pytest.mark.parametrize(
    ("variant", "options", "parameters"),
    [
        ("fetalmovnet", {}, 195_161_287),
        ("fetalmovnet", {"scale": False}, 195_161_287),
        ("fetalmovnet", {"heads": 8}, 195_161_287),
        ("fetalmovnet", {"separate_key": True}, 195_161_287 + 90_000 * 1024 + 1024),
        ("fetalmovnet", {"convolutions": 4}, 195_161_287 - 1_179_904 + 512 + (512 * 18 * 18 - 20_736) * 256),
        ("fetalmovnet", {"join": "flatten1"}, 195_161_287 - (20_736 + 1) * 256 + (20_736 - 256) * 256),
        ("fetalmovnet", {"norm_each": True}, 195_161_287 + 2 * (64 + 128 + 256 + 512 + 256)),
        ("single_frame", {}, 195_161_287),
        ("shuffled_frames", {}, 195_161_287),
        ("cnn", {}, 8_151_495),
        ("cnn_lstm", {}, 1_704_775),
        ("cnn_lstm", {"norm_each": True}, 1_704_775 + 2 * (16 + 32 + 64 + 128 + 64)),
        ("fetalmovnet_s", {}, 998_023),
        ("fetalmovnet_s", {"motion": "none"}, 998_023 - 9 * 32),
        ("fetalmovnet_s", {"time": "mean"}, 998_023 - 132_480 - 9 * 128),
    ],
)
def test_trainable_parameters(variant, options, parameters):
    network = on_meta(variant, **options)
    assert trainable(network) == parameters
    assert network(torch.empty(2, 10, 300, 300, device="meta")).shape == (2, 7)


def test_keras_counts_the_statistics_of_batch_norm_too():
    network = on_meta()
    statistics = sum(b.numel() for name, b in network.named_buffers() if "running" in name)
    assert trainable(network) + statistics == 195_162_311


@pytest.mark.parametrize("variant", [name for name, module in known_networks().items() if ".movement." in module])
def test_every_variant_learns_from_every_layer_at_another_size(variant):
    network = build(variant, 5, 64, 3).train()
    F.cross_entropy(network(torch.rand(3, 5, 64, 64)), torch.tensor([0, 1, 2])).backward()
    still = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not still


@pytest.mark.parametrize("options", [{}, {"scale": False}, {"separate_key": True}, {"heads": 4}])
def test_attention_is_torchs_own(options):
    network, x = small("fetalmovnet", **options)
    branch = network.attention_branch
    with torch.no_grad():
        tokens = x.flatten(2)
        query, value = branch._by_head(branch.query(tokens)), branch._by_head(branch.value(tokens))
        key = branch._by_head(branch.key(tokens)) if branch.key else value
        scale = None if options.get("scale", True) else 1.0
        expected = F.scaled_dot_product_attention(query, key, value, scale=scale)
        weights, value = branch.attend(x)
    torch.testing.assert_close(weights @ value, expected, rtol=1e-4, atol=1e-5)
    rows = network.attention_weights(x)
    assert rows.shape == (2, 6, 6)
    torch.testing.assert_close(rows.sum(-1), torch.ones(2, 6))


def test_without_scale_attention_starts_sharp():
    scaled, x = small("fetalmovnet")
    bare, _ = small("fetalmovnet", scale=False)
    sharpness = [n.attention_weights(x).amax(-1).mean().item() for n in (scaled, bare)]
    # At 32 px. At the paper's 300 px it is one-hot (docs/ml-lead/networks.md). Equal weights would be 1 / 6.
    assert sharpness[0] < 0.3 and sharpness[1] > 0.6, sharpness


def test_single_frame_sees_the_middle_frame_only():
    network, x = small("single_frame", frames=5)
    other = torch.rand_like(x)
    other[:, 2] = x[:, 2]
    assert torch.equal(network(x), network(other))
    other[:, 2] = 1 - x[:, 2]
    assert not torch.allclose(network(x), network(other))
    torch.testing.assert_close(network.attention_weights(x), torch.full((2, 5, 5), 0.2))


def test_shuffled_frames_cannot_know_the_order():
    network, x = small("shuffled_frames")
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    assert torch.equal(network(x), network(x[:, order]))
    torch.testing.assert_close(network(x[1:])[0], network(x)[1])  # alone or in a batch
    whole, _ = small("fetalmovnet")
    assert not torch.allclose(whole(x), whole(x[:, order]))


def test_shuffled_frames_tells_attention_in_the_recorded_order():
    network, x = small("shuffled_frames")
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    rows = network.attention_weights(x)
    torch.testing.assert_close(network.attention_weights(x[:, order]), rows[:, order][:, :, order])


def test_shuffled_frames_draws_a_new_order_at_each_training_step():
    network, x = small("shuffled_frames", dropout=0.0)
    network.train()
    assert len({tuple(network(x).flatten().tolist()) for _ in range(4)}) > 1


def test_cnn_lstm_reads_the_order_and_any_length():
    network, x = small("cnn_lstm")
    assert not torch.allclose(network(x), network(x.flip(1)))
    assert network(x[:, :3]).shape == (2, 4)


def test_fetalmovnet_s_keeps_a_frame_for_every_window_that_holds_it():
    network, x = small("fetalmovnet_s")
    kept = torch.stack([network.keep(x[:, i : i + 2]) for i in range(5)], dim=1)
    torch.testing.assert_close(network.answer(kept), network(x))


def test_fetalmovnet_s_starts_from_frames_as_imagenet_knows_them_and_learns_what_changes():
    network, x = small("fetalmovnet_s", motion="difference")
    still, _ = small("fetalmovnet_s", motion="none")
    assert torch.equal(network.backbone.stem.conv.weight[:, :1], still.backbone.stem.conv.weight)
    still.load_state_dict(
        network.state_dict() | {"backbone.stem.conv.weight": network.backbone.stem.conv.weight[:, :1]}
    )
    torch.testing.assert_close(network(x), still(x))
    torch.nn.init.ones_(network.backbone.stem.conv.weight[:, 1:])
    assert not torch.allclose(network(x), still(x))


@pytest.mark.parametrize(("time", "knows"), [("attention", True), ("mean", False)])
def test_fetalmovnet_s_knows_the_order_by_its_attention_alone(time, knows):
    network, x = small("fetalmovnet_s", time=time, motion="none")
    if knows:  # places start small
        torch.nn.init.normal_(network.places)
    order = torch.tensor([0, 5, 3, 1, 4, 2])  # the first frame is seen as a neighbour only
    assert torch.allclose(network(x), network(x[:, order]), atol=1e-5) is not knows


@pytest.mark.parametrize("options", [{}, {"layers": 2}, {"time": "mean"}])
def test_fetalmovnet_s_shares_attention_out_between_frames(options):
    network, x = small("fetalmovnet_s", **options)
    rows = network.attention_weights(x)
    torch.testing.assert_close(rows.sum(-1), torch.ones(2, 6))
    assert (rows >= 0).all()


def test_fetalmovnet_s_is_small_at_the_papers_size():
    assert count_gmac("fetalmovnet_s", 10, 300, 7) <= 0.3
    assert trainable(on_meta("fetalmovnet_s")) <= 2_000_000


@pytest.mark.parametrize(
    ("variant", "given", "message"),
    [
        ("resnet", {}, "known networks: backbone_frames, cnn, cnn_gru, cnn_lstm, fetalmovnet"),
        ("fetalmovnet_s", {"frames": 1}, "needs 2 frames"),
        ("fetalmovnet_s", {"motion": "flow"}, "motion must be difference or none"),
        ("fetalmovnet_s", {"heads": 3}, "divide the width 128"),
        ("fetalmovnet", {"depth": 3}, "no option depth; its options: batch_norm_momentum"),
        ("fetalmovnet", {"convolutions": 6}, "must be 4 or 5"),
        ("fetalmovnet", {"join": "dense"}, "dense1 or flatten1"),
        ("fetalmovnet", {"heads": 3}, "divide 1024"),
        ("cnn", {"size": 16}, "at least 32 px"),
        ("cnn_lstm", {"classes": 1}, "2 classes"),
    ],
)
def test_what_cannot_be_built_is_refused(variant, given, message):
    shape = {"frames": 10, "size": 64, "classes": 7} | given
    with pytest.raises(InputError, match=message):
        build(variant, **shape)
