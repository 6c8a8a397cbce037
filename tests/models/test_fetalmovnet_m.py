"""The network that looks where something moves: the probe's movement is taken out, on paper and when exported."""

import numpy as np
import openvino
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fetalflow.errors import InputError
from fetalflow.inference.engines.engine import open_engine
from fetalflow.inference.engines.onnx_file import export_onnx
from fetalflow.models.building import build
from fetalflow.models.movement import fetalmovnet_m
from fetalflow.models.parts import probe_motion
from fetalflow.models.parts.probe_motion import smoothed, steadied
from fetalflow.models.reuse import Reusing
from fetalflow.models.summary import count_gmac
from fetalflow.models.weights import save
from fetalflow.report.explain.filters import feature_maps
from fetalflow.report.explain.gradcam import convolution_layer, grad_cam
from fetalflow.settings.params import Extract

FRAMES, SIDE = 10, 64
EXACT = {"INFERENCE_PRECISION_HINT": "f32"}
PROBES = {"still": (0, 0), "across": (0.15, 0), "both": (-0.1, 0.12), "far": (0.35, -0.2)}  # px a frame


def scene(probe: tuple[float, float], disc: float = 0.0, seed: int = 0, noise: float = 0.02) -> torch.Tensor:
    """float [1, 10, 64, 64]: speckle that the probe moves by `probe` px a frame, a disc at (44, 20) that moves `disc`
    px down a frame, new noise in each frame, and black columns beside the sector, which do not move."""
    make = torch.Generator().manual_seed(seed)
    speckle = smoothed(torch.rand(1, 1, 3 * SIDE, 3 * SIDE, generator=make), 2)
    speckle = 0.2 + 0.6 * (speckle - speckle.amin()) / (speckle.amax() - speckle.amin())
    at = torch.arange(SIDE, dtype=torch.float32)
    frames = []
    for t in range(FRAMES):
        right, down = (t - (FRAMES - 1) / 2) * torch.tensor(probe)
        grid = torch.stack(torch.meshgrid(at + SIDE - down, at + SIDE - right, indexing="ij")[::-1], -1)
        frame = F.grid_sample(speckle, (2 * grid + 1)[None] / (3 * SIDE) - 1, align_corners=False)[0, 0]
        y, x = at[:, None] - 44 - down - t * disc, at - 20 - right
        frames.append(torch.where(y**2 + x**2 < 36, 0.95, frame))
    x = torch.stack(frames)[None] + noise * torch.randn(1, FRAMES, SIDE, SIDE, generator=make)
    x = x.clamp(0.05, 1)
    x[..., :4] = x[..., -4:] = 0
    return x


def network(**options) -> nn.Module:
    torch.manual_seed(3)
    net = build("fetalmovnet_m", FRAMES, SIDE, 3, pretrained=False, **options)
    with torch.no_grad():
        net(torch.rand(4, FRAMES, SIDE, SIDE))
    return net.eval()


@pytest.mark.parametrize("disc", [0.0, 1.0])
@pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES)
def test_the_way_of_the_probe_is_found_also_where_something_else_moves(probe, disc):
    _, shift, inside = steadied(scene(probe, disc))
    way = shift[0, -1] - shift[0, 0]
    torch.testing.assert_close(way, (FRAMES - 1) * torch.tensor(probe, dtype=way.dtype), atol=0.3, rtol=0)
    assert not inside[..., :6].any() and inside[..., 10:-10].all()


def test_what_the_probe_moves_is_still_afterwards_and_what_moves_by_itself_is_not():
    net, found = network(), {}
    for name, probe in PROBES.items():
        for disc in (0.0, 1.0):
            found[name, disc] = net._changes(scene(probe, disc))[1]
    most = {key: moves.amax().item() for key, moves in found.items()}
    kept = network(probe="kept")._changes(scene(PROBES["far"]))[1].amax().item()
    for name in PROBES:
        assert most[name, 1.0] > most[name, 0.0] + 0.7
        down, across = divmod(int(smoothed(found[name, 1.0], 2).argmax()), SIDE)
        assert abs(across - 20) < 9 and abs(down - 48.5) < 12
    assert kept > most["far", 0.0] + 0.7


def test_it_looks_at_what_moves():
    net = network()
    x = scene(PROBES["both"], 1.0)
    changes, moves, _ = net._changes(x)
    middle = net._place(moves).mean((1, 2))[0]  # of the square, in -1 to 1
    assert ((middle + 1) * SIDE / 2 - torch.tensor([20.0, 48.5])).abs().max() < 9
    assert changes.shape == (1, 5, SIDE, SIDE)


@pytest.mark.parametrize("views", ["both", "whole"])
@pytest.mark.parametrize(("frames", "size"), [(4, 32), (11, 65), (30, 300)])
def test_any_length_and_size(views, frames, size):
    with torch.device("meta"):
        net = build("fetalmovnet_m", frames, size, 5, views=views)
        assert net(torch.empty(2, frames, size, size)).shape == (2, 5)


def test_parameters_and_cost():
    with torch.device("meta"):
        net = build("fetalmovnet_m", 10, 300, 7)
    assert sum(p.numel() for p in net.parameters()) == 1_041_583
    assert count_gmac("fetalmovnet_m", 10, 300, 7) == pytest.approx(0.066, abs=0.0005)
    assert len(net.pretrained_parameters()) == len(list(net.backbone.parameters()))


def test_black_and_constant_sequences_have_an_answer():
    net = network()
    with torch.inference_mode():
        for grey in (0.0, 0.5, 1.0):
            assert net(torch.full((2, FRAMES, SIDE, SIDE), grey)).isfinite().all()


def test_the_order_of_the_sequences_in_a_batch_changes_nothing():
    net = network()
    x = torch.cat([scene(PROBES["far"], 1.0), scene(PROBES["still"]), scene(PROBES["both"], 0.5, seed=4)])
    with torch.inference_mode():
        alone = torch.cat([net(x[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(net(x), alone, rtol=1e-4, atol=1e-5)
    assert not isinstance(net, Reusing)  # a stream computes whole windows


def test_its_map_is_of_the_whole_picture():
    net = network()
    x, targets = scene(PROBES["both"], 1.0).repeat(2, 1, 1, 1), torch.tensor([0, 2])
    name, layer = convolution_layer(net)
    assert name == "whole"
    maps = grad_cam(net, x, targets, layer)
    assert maps.shape[0] == 2 and maps.shape[-2:] == (SIDE, SIDE) and maps.isfinite().all()
    assert len(feature_maps(net, x, layer)) == 2


class Tiny(nn.Module):
    """An encoder of one convolution."""

    width = 6

    def __init__(self, *given):
        super().__init__()
        self.stem = nn.Module()
        self.stem.conv = nn.Conv2d(1, self.width, 3, 16, 1)

    def forward(self, x):
        return self.stem.conv(x).relu()


def test_an_exported_package_answers_as_the_network(tmp_path, monkeypatch):
    # With the whole encoder, all passes and all rounds the export takes 20 s.
    monkeypatch.setattr(fetalmovnet_m, "Backbone", Tiny)
    monkeypatch.setattr(probe_motion, "FINE", 0)
    monkeypatch.setattr(probe_motion, "ROUNDS", 1)
    net = network()
    config = {"task": "movement", "variant": "m", "network": "fetalmovnet_m", "labels": ["arm", "leg", "still"]}
    config |= {"frames": FRAMES, "size": SIDE, "options": {"pretrained": False}}
    save(tmp_path / "model", net, config | {"extract": Extract(frames=FRAMES).model_dump(mode="json")})
    export_onnx(tmp_path / "model", tmp_path / "exported" / "onnx")
    engine = open_engine("onnx", tmp_path / "model", tmp_path / "exported")
    batch = torch.cat([scene(probe, disc) for probe in PROBES.values() for disc in (0.0, 1.0)])
    for n in (1, 8):
        with torch.inference_mode():
            np.testing.assert_allclose(engine.answer(batch[:n].numpy()).logits, net(batch[:n]), atol=1e-3)
    # OpenVINO once read the graph of the moving place wrongly.
    other = openvino.compile_model(tmp_path / "exported" / "onnx" / "model.onnx", "CPU", EXACT)
    with torch.inference_mode():
        np.testing.assert_allclose(other(batch.numpy())["logits"], net(batch), atol=1e-3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"frames": 3}, "needs 4 frames, 2 classes and 32 px at least, found 3 frames"),
        ({"size": 24}, "found 10 frames, 7 classes, 24 px"),
        ({"views": "moving"}, "views both or whole; found 'removed' and 'moving'"),
        ({"probe": "still"}, "probe must be removed or kept"),
        ({"glimpse": 0.0}, "above 0 and at most 1, found 0.0"),
    ],
)
def test_what_cannot_be_built_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        build("fetalmovnet_m", **({"frames": 10, "size": 64, "classes": 7} | given))
