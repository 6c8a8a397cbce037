"""Maps, attention, overlap with the anatomy, and the explain stage over a small workspace."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import imread
from torch import nn
from variant_entries import entry, put_variants

from fetalflow.cine.field_of_view import sector_of
from fetalflow.cine.letterbox import fit
from fetalflow.errors import InputError
from fetalflow.models.building import build
from fetalflow.models.frame_weights import attention_matrix, frame_weights
from fetalflow.models.weights import save
from fetalflow.report.explain.attribution import frame_maps, integrated_gradients
from fetalflow.report.explain.choosing import Sequences, answered, choose_measured, choose_mistakes, choose_per_class
from fetalflow.report.explain.drawing import GAP, TILE, scaled, strip, tile
from fetalflow.report.explain.filters import feature_maps, strongest
from fetalflow.report.explain.gradcam import _rectified, convolution_layer, earlier_and_later, grad_cam, hires_cam
from fetalflow.report.explain.maps import image_maps, short_name, untrained_twin
from fetalflow.report.explain.measuring import by_label, in_words, remarks
from fetalflow.report.explain.overlap import map_overlap, summarise
from fetalflow.report.explain.score import log_odds
from fetalflow.report.explain.stills import draw_examples
from stages import explain

ROOT = Path(__file__).parents[2]
VARIANTS = ["fetalmovnet", "cnn", "cnn_lstm", "single_frame", "shuffled_frames"]


# ---- a task whose answer lies in one place: does the square go right or left?


def moving_squares(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """uint8 [count, 4, 32, 32], direction [count], and where the square is: bool [count, 4, 32, 32]."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(40, 140, (count, 4, 32, 32))
    squares = np.zeros(frames.shape, bool)
    directions = rng.integers(0, 2, count)
    for k in range(count):
        row, column = rng.integers(2, 24), rng.integers(10, 17)
        for t in range(4):
            left = column + (2 * t if directions[k] else -2 * t)
            squares[k, t, row : row + 6, left : left + 6] = True
    frames[squares] += 60
    return frames.astype(np.uint8), directions, squares


def as_input(frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(frames).float() / 255


@pytest.fixture(scope="module")
def tiny():
    """A network that learned the direction of the squares."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(4, 16, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 2),
    )
    frames, directions, _ = moving_squares(512, seed=1)
    inputs, targets = as_input(frames), torch.from_numpy(directions)
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    for step in range(240):
        part = slice(32 * (step % 16), 32 * (step % 16) + 32)
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(inputs[part]), targets[part]).backward()
        optimiser.step()
    return network.eval()


def test_maps_find_the_planted_square_more_than_chance(tiny):
    frames, directions, squares = moving_squares(40, seed=2)
    inputs, targets = as_input(frames), torch.from_numpy(directions)
    with torch.no_grad():
        assert (tiny(inputs).argmax(1) == targets).float().mean() > 0.9
    attributions = integrated_gradients(tiny, inputs, targets)
    maps = {
        "Grad-CAM": grad_cam(tiny, inputs, targets, tiny[3]).numpy(),
        "HiResCAM": hires_cam(tiny, inputs, targets, tiny[3]).numpy(),
        "integrated gradients": frame_maps(attributions.numpy()),
    }
    everywhere = np.ones((32, 32), bool)
    for name, values in maps.items():
        rows = pd.DataFrame([map_overlap(one, square, everywhere) for one, square in zip(values, squares, strict=True)])
        assert rows["concentration"].mean() > 2, name
        assert rows["pointing"].mean() > 3 * rows["area"].mean(), name


def test_grad_cam_is_the_formula_of_its_paper():
    torch.manual_seed(0)
    network = build("cnn", 4, 64, 3).eval()
    inputs, targets = torch.rand(2, 4, 64, 64), torch.tensor([0, 2])
    name, layer = convolution_layer(network)
    assert name == "conv_branch.conv4"
    seen = []
    hook = layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
    scores = network(inputs)
    hook.remove()
    chances = scores.softmax(1)
    odds = torch.log(chances / (1 - chances))  # what is explained
    (gradient,) = torch.autograd.grad(odds[0, 0] + odds[1, 2], seen[0])
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    small = (weights * seen[0].relu()).sum(1, keepdim=True).relu().detach()
    wanted = nn.functional.interpolate(small, size=(64, 64), mode="bilinear")
    torch.testing.assert_close(grad_cam(network, inputs, targets, layer), wanted)
    with torch.no_grad():
        torch.testing.assert_close(network(inputs), scores)  # no hook is left behind


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("norm_each", [False, True])
def test_the_network_explained_is_the_network_that_answers(variant, norm_each):
    """ReLU stands where the network has it: put there once more for Grad-CAM it changes no answer."""
    torch.manual_seed(0)
    network = build(variant, 4, 64, 3, norm_each=norm_each).eval()
    inputs = torch.rand(2, 4, 64, 64)
    name, layer = convolution_layer(network)
    for _, each in [(name, layer), *earlier_and_later(network, name)]:
        with torch.no_grad(), _rectified(each):
            rectified = network(inputs)
        torch.testing.assert_close(rectified, network(inputs))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_network_can_be_explained(variant):
    torch.manual_seed(0)
    network = build(variant, 4, 64, 3).eval()
    inputs, targets = torch.rand(2, 4, 64, 64), torch.tensor([0, 2])
    _, layer = convolution_layer(network)
    maps = grad_cam(network, inputs, targets, layer)
    assert maps.shape == (2, 4 if variant == "cnn_lstm" else 1, 64, 64)
    assert maps.min() >= 0 and maps.isfinite().all()
    attributions = integrated_gradients(network, inputs, targets)
    assert attributions.shape == inputs.shape and attributions.abs().sum() > 0
    weights = frame_weights(network, inputs, targets)
    torch.testing.assert_close(weights.sum(1), torch.ones(2))
    assert weights.min() >= 0


def test_integrated_gradients_share_out_the_change_from_black(tiny):
    frames, directions, _ = moving_squares(6, seed=4)
    inputs, targets = as_input(frames), torch.from_numpy(directions)
    two_classes = nn.Sequential(nn.Flatten(), nn.Linear(4 * 32 * 32, 2))  # log-odds are linear: exact
    for network, tolerance in ((two_classes, 1e-4), (tiny, 0.6)):
        with torch.no_grad():
            change = (log_odds(network)(inputs) - log_odds(network)(torch.zeros_like(inputs))).gather(
                1, targets[:, None]
            )
        found = integrated_gradients(network, inputs, targets).sum(dim=(1, 2, 3)).float()
        torch.testing.assert_close(found, change[:, 0], atol=tolerance, rtol=tolerance)
    one = integrated_gradients(tiny, inputs[:1], targets[:1])
    torch.testing.assert_close(one, integrated_gradients(tiny, inputs, targets)[:1], atol=1e-5, rtol=1e-3)


class Named(nn.Module):
    """One frame, feature maps that the network names itself, global average pooling, pretrained layers."""

    explained_layer = "backbone.top.activation"

    def __init__(self):
        super().__init__()
        top = nn.Sequential()
        top.add_module("conv", nn.Conv2d(4, 6, 3, padding=1))
        top.add_module("norm", nn.BatchNorm2d(6))
        top.add_module("activation", nn.ReLU6())
        self.backbone = nn.Module()
        self.backbone.add_module("stem", nn.Conv2d(1, 4, 3, stride=2, padding=1))
        self.backbone.add_module("top", top)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.backbone.top(self.backbone.stem(x)).mean((2, 3)))


def test_a_network_names_the_layer_that_is_looked_at():
    torch.manual_seed(0)
    network = Named().eval()
    name, layer = convolution_layer(network)
    assert name == "backbone.top.activation" and layer is network.backbone.top.activation
    assert earlier_and_later(network, name) == []
    assert short_name(name) == "backbone" and short_name("conv_branch.conv4") == "conv4"
    inputs, targets = torch.rand(2, 1, 32, 32), torch.tensor([0, 2])
    with torch.no_grad():
        features = network.backbone.top(network.backbone.stem(inputs))
        logits = network.head(features.mean((2, 3)))
    odds = torch.autograd.functional.jacobian(log_odds(nn.Identity()), logits)
    weights = torch.stack([odds[i, t, i] @ network.head.weight for i, t in enumerate(targets)]) / features[0, 0].numel()
    small = (weights[:, :, None, None] * features).sum(1, keepdim=True).relu().detach()
    wanted = nn.functional.interpolate(small, size=(32, 32), mode="bilinear")
    torch.testing.assert_close(grad_cam(network, inputs, targets, layer), wanted)
    # Behind global average pooling the two methods are one.
    torch.testing.assert_close(hires_cam(network, inputs, targets, layer), wanted)
    network.explained_layer = "gone"
    with pytest.raises(InputError, match="no layer 'gone'"):
        convolution_layer(network)


def test_the_untrained_twin_knows_nothing_of_what_was_pretrained():
    options = {"backbone": "lite0_short"}
    config = {"network": "lite_attention", "frames": 1, "size": 64, "labels": list("abc"), "options": options}
    twin = untrained_twin(config, torch.device("cpu"))
    again = untrained_twin(config, torch.device("cpu"))
    pretrained = build("lite_attention", 1, 64, 3, **options)
    state, known = twin.state_dict(), pretrained.backbone.state_dict()
    for name, value in again.state_dict().items():
        torch.testing.assert_close(value, state[name])  # seeded
    kernels = [name for name, value in known.items() if value.ndim == 4]
    assert len(kernels) > 20
    for name in kernels:
        one, other = known[name].ravel(), state[f"backbone.{name}"].ravel()
        assert abs(np.corrcoef(one, other)[0, 1]) < 6 / len(one) ** 0.5, name
    means = [value for name, value in state.items() if name.endswith("running_mean")]
    assert not torch.cat(means).any()
    with torch.no_grad():
        features = twin.backbone(torch.rand(4, 1, 64, 64))
    assert features.std(dim=0).mean() > 0.01, "the control must still answer to its input"


def test_one_frame_has_no_change_between_frames():
    frames = np.random.default_rng(0).integers(0, 255, (2, 3, 32, 32), dtype=np.uint8)
    assert list(image_maps(frames)) == ["brightness of the frame", "change between frames"]
    assert list(image_maps(frames[:, :1])) == ["brightness of the frame"]


def test_log_odds_are_those_of_the_softmax_and_ignore_a_common_shift():
    logits = torch.tensor([[2.0, 0.0, -1.0]])
    p = logits.softmax(1)
    torch.testing.assert_close(log_odds(nn.Identity())(logits), torch.log(p / (1 - p)))
    torch.testing.assert_close(log_odds(nn.Identity())(logits + 50), log_odds(nn.Identity())(logits))
    sure = torch.tensor([[60.0, 0.0]], requires_grad=True)
    log_odds(nn.Identity())(sure)[0, 0].backward()
    torch.testing.assert_close(sure.grad, torch.tensor([[1.0, -1.0]]))  # where the probability's gradient is 0


@pytest.mark.parametrize("variant", ["fetalmovnet", "single_frame", "shuffled_frames"])
def test_attention_rows_sum_to_one(variant):
    torch.manual_seed(0)
    matrix = attention_matrix(build(variant, 5, 32, 3).eval(), torch.rand(3, 5, 32, 32))
    assert matrix.shape == (3, 5, 5)
    torch.testing.assert_close(matrix.sum(2), torch.ones(3, 5))


def test_layers_beside_conv4_and_a_layer_that_is_not_there():
    network = build("cnn", 4, 32, 3)
    names = [name for name, _ in earlier_and_later(network, "conv_branch.conv4", most=2)]
    assert names == ["conv_branch.conv3", "conv_branch.conv5"]
    with pytest.raises(InputError, match="no layer 'conv9'"):
        convolution_layer(network, "conv9")
    with pytest.raises(InputError, match="no convolution"):
        convolution_layer(network, "head.0")


def test_filters_are_the_layers_outputs_strongest_first():
    network = nn.Sequential(nn.Conv2d(2, 3, 1), nn.Flatten(), nn.Linear(3 * 16, 2))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[1.0, 0], [0, 2], [-1, -1]])[..., None, None])
        network[0].bias.zero_()
    maps = feature_maps(network, torch.ones(1, 2, 4, 4), network[0])
    np.testing.assert_array_equal(maps[0, :, 0, 0], [1, 2, 0])
    np.testing.assert_array_equal(strongest(maps, 2)[0, :, 0, 0], [2, 1])


# ---- overlap


def anatomy_of(rows: slice, columns: slice, frames: int = 3, size: int = 20) -> np.ndarray:
    mask = np.zeros((frames, size, size), bool)
    mask[:, rows, columns] = True
    return mask


EVERYWHERE = np.ones((20, 20), bool)


def test_a_map_exactly_on_the_anatomy_reaches_one_over_its_share():
    anatomy = anatomy_of(slice(2, 6), slice(3, 8))  # 20 of 400 px
    found = map_overlap(anatomy.astype(float), anatomy, EVERYWHERE)
    assert found["concentration"] == pytest.approx(20)
    assert found["inside"] == 1 and found["pointing"] == 1 and found["area"] == pytest.approx(0.05)


def test_a_uniform_map_is_chance_whatever_the_field():
    anatomy = anatomy_of(slice(2, 6), slice(3, 8))
    field = EVERYWHERE.copy()
    field[:, 12:] = False
    assert map_overlap(np.ones((1, 20, 20)), anatomy, EVERYWHERE)["concentration"] == pytest.approx(1)
    within = map_overlap(np.ones((1, 20, 20)), anatomy, field)
    assert within["concentration"] == pytest.approx(1)
    assert within["area"] == pytest.approx(20 / 240)
    assert within["outside_field"] == pytest.approx(0.4)


def test_staying_inside_the_sector_alone_does_not_look_better_than_chance():
    anatomy = anatomy_of(slice(2, 6), slice(3, 8))
    field = np.zeros((20, 20), bool)
    field[:10] = True
    assert map_overlap(field[None].astype(float), anatomy, field)["concentration"] == pytest.approx(1)


def test_a_map_beside_the_anatomy_scores_nothing_and_an_empty_map_is_no_answer():
    anatomy = anatomy_of(slice(2, 6), slice(3, 8))
    beside = map_overlap((~anatomy).astype(float), anatomy, EVERYWHERE)
    assert beside["concentration"] == 0 and beside["pointing"] == 0
    assert np.isnan(map_overlap(np.zeros((1, 20, 20)), anatomy, EVERYWHERE)["concentration"])


def test_pointing_counts_each_frame():
    anatomy = anatomy_of(slice(0, 5), slice(0, 5))
    maps = np.zeros((3, 20, 20))
    maps[0, 1, 1] = maps[1, 15, 15] = 1  # on it, beside it, nowhere
    assert map_overlap(maps, anatomy, EVERYWHERE)["pointing"] == pytest.approx(1 / 3)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), factor=st.floats(1e-3, 1e3))
def test_overlap_is_bounded_and_free_of_scale(seed, factor):
    rng = np.random.default_rng(seed)
    maps, anatomy = rng.random((3, 20, 20)), rng.random((3, 20, 20)) < 0.2
    anatomy[0, 0, 0] = True
    found, scaled_up = map_overlap(maps, anatomy, EVERYWHERE), map_overlap(maps * factor, anatomy, EVERYWHERE)
    assert 0 <= found["concentration"] <= 1 / found["area"] + 1e-9
    assert found["concentration"] == pytest.approx(scaled_up["concentration"])
    rest = map_overlap(maps, ~anatomy, EVERYWHERE)
    assert found["inside"] + rest["inside"] == pytest.approx(1)


def test_the_field_of_view_keeps_dark_fluid_and_leaves_the_outside():
    sequence = np.zeros((2, 96, 96), np.uint8)
    rows, columns = np.mgrid[:96, :96]
    sector = np.abs(columns - 48) < rows * 0.4
    sequence[:, sector] = 80
    sequence[:, 60:70, 44:54] = 0  # fluid
    sequence[:, 40:60, :40] = 0  # shadow to the sector's edge
    sequence[:, 3:6, 3:9] = 200  # a rest of an overlay
    field = sector_of(sequence, fitted=True)
    assert field[60:70, 44:54].all() and field[40:60, 38].all()
    assert not field[:, :3].any() and not field[:20, 80:].any()
    assert (field == sector).mean() > 0.97


def measures(patient: str, concentration: float) -> dict:
    rest = {"pointing": 0.5, "area": 0.1, "inside": concentration * 0.1, "outside_field": 0.0}
    return {"patient": patient, "concentration": concentration} | rest


def test_the_summary_draws_patients_not_sequences():
    same = summarise(pd.DataFrame([measures("a", value) for value in (1, 2, 3)]), seed=0)
    assert same["concentration"] == 2 and same["concentration_low"] is same["concentration_high"] is None
    rows = [measures("a", 1)] * 8 + [measures("b", 3)] * 8 + [measures("c", np.nan)]
    two = summarise(pd.DataFrame(rows), seed=0)
    assert (two["sequences"], two["patients"], two["empty"]) == (16, 2, 1)
    assert two["concentration"] == 2
    assert two["concentration_low"] is two["concentration_high"] is None, "two patients are too few"
    assert two["pointing_gain"] == pytest.approx(0.4)
    six = summarise(pd.DataFrame([measures(name, 1 + 2 * (name > "c")) for name in "abcdef" for _ in range(8)]), seed=0)
    # Of six draws with probability 1/2, none is one of the last three in 1.6 %, and at most one in 11 %.
    assert (six["concentration_low"], six["concentration_high"]) == pytest.approx((1 + 2 / 6, 3 - 2 / 6))


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (1.2, 1.9, "more than chance"),
        (0.3, 0.8, "less than chance"),
        (0.9, 1.4, "not significantly different from chance"),
    ],
)
def test_the_sentence_says_whichever_way_it_came_out(low, high, words):
    row = {"map": "m", "weights": "trained", "sequences": 9, "patients": 3, "concentration": (low + high) / 2}
    row |= {"concentration_low": low, "concentration_high": high, "pointing": 0.5, "area": 0.1, "empty": 0}
    assert f"({words})" in in_words([row], "m", frames=10)
    row |= {"inside": 0.41}
    still = in_words([row], "m", frames=1)
    assert "41% of the map lie inside the structure, by chance 10%;" in still and f"] ({words})" in still
    assert "9 test images of 3 patients" in still and "sequence" not in still


def test_what_was_left_out_is_counted():
    said = remarks(1, {"Fetal brain": 0, "Other": 17})
    assert said.endswith("Test images without a known structure are left out: Other 17.")
    assert "left out" not in remarks(10, {"head": 0}) and "change between frames" not in said


def test_by_label_sets_the_share_beside_chance():
    rows = [measures("a", 2) | {"label": "x"}, measures("b", 4) | {"label": "x"}, measures("b", 1) | {"label": "y"}]
    table = pd.DataFrame(rows).assign(map="m", weights="trained")
    found = by_label(table, "m")
    assert found["x"] == {"concentration": 3, "inside": pytest.approx(0.3), "area": pytest.approx(0.1), "sequences": 2}
    assert found["y"]["sequences"] == 1


# ---- what is drawn


def test_sequences_are_chosen_by_the_answer_and_a_seed():
    labels = ("head", "arm")
    rows = pd.DataFrame({"sequence": list("abcdefgh"), "label": ["head"] * 5 + ["arm"] * 3})
    p = np.array([[0.9, 0.1]] * 3 + [[0.2, 0.8]] * 2 + [[0.7, 0.3]] * 3)  # two heads called arm, every arm called head
    table = answered(rows, p, labels)
    assert table["correct"].tolist() == [True] * 3 + [False] * 5
    chosen = choose_per_class(table, labels, 2, seed=3)
    assert chosen["label"].tolist() == ["head", "head", "arm", "arm"]
    assert chosen["correct"].tolist() == [True, True, False, False]
    pd.testing.assert_frame_equal(chosen, choose_per_class(table, labels, 2, seed=3))
    mistakes = choose_mistakes(table, 2, seed=0)
    assert sorted(mistakes["label"]) == ["arm", "head"]  # both pairs before one comes twice
    assert len(choose_mistakes(table, 50, seed=0)) == 5
    assert choose_measured(table, 5, seed=0).empty
    masked = table.assign(mask_path=["m.npy", "", None] + ["m.npy"] * 5)
    assert set(choose_measured(masked, 50, seed=0)["sequence"]) == set("adefgh")
    assert len(choose_measured(masked, 4, seed=0)) == 4


def test_a_tile_shows_heat_where_it_is_and_says_when_there_is_none():
    frame, heat, anatomy = np.full((64, 64), 90, np.uint8), np.zeros((64, 64)), np.zeros((64, 64), bool)
    plain, empty = tile(frame), tile(frame, heat)
    assert (plain == 90).all()
    assert (empty != plain).any() and (empty[: TILE // 2] == plain[: TILE // 2]).all()  # a word at the bottom
    heat[:32], anatomy[10:20, 10:20] = 1, True
    hot = tile(frame, heat, anatomy).astype(int)
    assert (hot[: TILE // 3, :, 0] - hot[: TILE // 3, :, 2]).mean() > 50  # red
    assert (hot[-TILE // 3 :] == 90).all()
    assert strip(np.stack([frame] * 3), heat[None]).shape == (TILE, 3 * (TILE + GAP), 3)


def test_sequences_are_read_when_asked_for(tmp_path):
    frames = np.arange(3 * 2 * 8 * 8, dtype=np.uint8).reshape(3, 2, 8, 8)
    for i, each in enumerate(frames):
        np.save(tmp_path / f"{i}.npy", each)
    sequences = Sequences(tmp_path, pd.DataFrame({"path": [f"{i}.npy" for i in range(3)]}))
    assert len(sequences) == 3 and sequences.shape == (3, 2, 8, 8)
    np.testing.assert_array_equal(sequences[slice(1, 9)], frames[1:])
    np.testing.assert_array_equal(sequences[np.int64(2)], frames[2])
    with pytest.raises(InputError, match=r"gone\.npy: no such file"):
        Sequences(tmp_path, pd.DataFrame({"path": ["0.npy", "gone.npy"]}))


def test_examples_stand_in_rows_by_label():
    tiles = [np.zeros((TILE, TILE, 3), np.uint8)] * 3
    figure = draw_examples([("brain", [("one", tiles), ("two", tiles)]), ("cervix", [("three", tiles)])])
    assert [axes.get_title(loc="left") for axes in figure.axes[:3]] == ["one", "two", "three"]
    boxes = [axes.get_position() for axes in figure.axes[:3]]
    assert boxes[0].y0 == boxes[1].y0 > boxes[2].y0 and boxes[0].x1 < boxes[1].x0
    assert [text.get_text() for text in figure.texts] == ["brain", "cervix"]


def test_maps_of_a_sequence_share_one_scale_within_the_field():
    maps = np.zeros((2, 20, 20))
    maps[0, :10], maps[1, :10], maps[:, 15:] = 4, 2, 100
    field = np.zeros((20, 20), bool)
    field[:12] = True
    found = scaled(maps, field)
    assert found[0, :10].min() == 1 and found[1, :10].max() == 0.5 and found[:, 12:].max() == 0
    assert not scaled(np.zeros((1, 20, 20)), field).any()


# ---- the stage


def workspace(folder: Path, variant: str, masks: bool) -> None:
    """A small finished run: 12 test sequences of 6 patients, a network that was never trained."""
    labels, n, size = ["head", "arm", "leg"], 4, 48
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    put_variants(params, "movement", [entry("movement", variant)])
    params["movement"]["explain"] = {"per_class": 1, "measured": 6, "mistakes": 2}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    torch.manual_seed(0)
    network = build(variant, n, size, 3).eval()
    given = {
        "task": "movement",
        "variant": variant,
        "network": variant,
        "labels": labels,
        "frames": n,
        "size": size,
        "options": {},
    }
    save(folder / "models" / "movement" / variant, network, given | {"extract": {}})
    data = folder / "data" / "movement"
    (data / "sequences").mkdir(parents=True)
    (data / "masks").mkdir()
    rows = []
    for i in range(15):
        frames, _, squares = moving_squares(1, seed=i)
        np.save(data / "sequences" / f"s{i}.npy", fit(frames[0], size))
        np.save(data / "masks" / f"s{i}.npy", fit(255 * squares[0].astype(np.uint8), size) // 128)
        row = {"sequence": f"s{i}", "video": f"{i}.avi", "patient": f"p{i // 2}", "device": "d", "label": labels[i % 3]}
        row |= {"first_frame": 0, "last_frame": 3, "path": f"sequences/s{i}.npy"}
        rows.append(row | ({"mask_path": f"masks/s{i}.npy"} if masks else {}))
    manifest = pd.DataFrame(rows)
    manifest.to_parquet(data / "manifest.parquet")
    part = ["test"] * 12 + ["train"] * 3
    manifest[["sequence", "patient", "label"]].assign(fold=0, part=part).to_parquet(data / "split.parquet")


@pytest.mark.parametrize(("variant", "masks"), [("fetalmovnet", True), ("cnn_lstm", False)])
def test_the_stage_writes_everything_that_it_lists(tmp_path, monkeypatch, capsys, variant, masks):
    monkeypatch.chdir(tmp_path)
    workspace(tmp_path, variant, masks)
    explain.main("movement")
    folder = tmp_path / "reports" / "movement" / "explain"
    result = json.loads((folder / "explain.json").read_text(), parse_constant=pytest.fail)  # NaN is not JSON
    figures = result["figures"]
    kinds = [figure["kind"] for figure in figures]
    assert {"overview", "sequence", "filters", "mistake"} <= set(kinds)
    assert kinds.count("sequence") == 3 and kinds.count("mistake") == 2
    assert ("attention" in kinds) == (variant == "fetalmovnet")
    assert ("overlap" in kinds) == masks
    listed = {figure["file"] for figure in figures}
    assert listed == {path.name for path in folder.glob("*.png")}
    for figure in figures:
        assert imread(folder / figure["file"]).std() > 0.05, figure["file"]
        assert len(figure["caption"]) > 20
        if figure["kind"] in ("sequence", "mistake"):
            assert figure["sequence"] in {f"s{i}" for i in range(12)}, "only test sequences are drawn"
    if not masks:
        assert result["overlap"] == {"sequences": 0, "text": "No sequence has a mask: not measured."}
        return
    measured = pd.read_csv(folder / "overlap.csv")
    assert set(measured["weights"]) == {"trained", "random", "none"}
    assert measured["sequence"].nunique() == result["overlap"]["sequences"] == 6
    rows = result["overlap"]["rows"]
    assert rows[0]["map"] == "Grad-CAM conv4" and rows[0]["weights"] == "trained"
    trained = measured[(measured["map"] == "Grad-CAM conv4") & (measured["weights"] == "trained")]
    assert rows[0]["empty"] == trained["concentration"].isna().sum()
    if rows[0]["sequences"]:
        assert rows[0]["concentration"] == pytest.approx(trained["concentration"].mean())
        assert rows[0]["concentration_low"] <= rows[0]["concentration"] <= rows[0]["concentration_high"]
    assert "figures of fetalmovnet" in capsys.readouterr().out
