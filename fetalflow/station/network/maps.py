"""Where the network looks: a map over the frames of one window, as pictures that the page draws over them."""

from typing import Any

import cv2
import numpy as np

from fetalflow.cine.letterbox import fit, unfit
from fetalflow.errors import InputError
from fetalflow.station.catalogue import Catalogue, Cine
from fetalflow.station.frames import packed, png
from fetalflow.station.network.asking import Model, kept, model_of, windows_of

OPAQUE = 170  # of 255, where the map is highest
FAINT = 0.15  # of the highest value; lower ones are not drawn


def map_of(catalogue: Catalogue, cine: Cine, frame: int) -> bytes:
    """The map of the window around `frame`, as `station.frames.packed`: RGBA pictures in px of the cine's frames, one
    for each frame of the window or one for all, with the facts model, method, label, first_frame, last_frame, and
    `numbers`: the recorded frame of each picture.

    Raises InputError where no window holds the frame.
    """
    model = model_of(catalogue.place, cine.task)
    cut = windows_of(model, cine)
    holding = [i for i, (first, last) in enumerate(cut.spans) if first <= frame <= last]
    if not holding:
        raise InputError(f"no window of the network holds frame {frame}: the windows are on the time line.")
    place = min(holding, key=lambda i: abs(sum(cut.spans[i]) / 2 - frame))
    key = f"map {model.weights} {cine.record['digest']} {cut.spans[place]}"

    def make() -> bytes:
        numbers = cut.numbers(place)
        frames = catalogue.frames(cine.source, cine.task)
        method, label, maps = _maps(model, fit(frames[numbers], model.config["size"]))
        facts = {"model": model.name, "method": method, "label": label}
        facts |= dict(zip(("first_frame", "last_frame"), cut.spans[place], strict=True))
        facts["numbers"] = numbers.tolist() if len(maps) > 1 else [int(numbers[0])]
        return packed([png(each) for each in _coloured(maps, *frames.shape[1:])], facts)

    return kept(catalogue.place, cine.source, key, make)


def _maps(model: Model, clip: np.ndarray) -> tuple[str, str, np.ndarray]:
    """Name of the method, label that is explained, and the maps, float32 [N or 1, size, size] >= 0. clip: uint8
    [N, size, size]."""
    import torch

    from fetalflow.models.answering import ask, to_input
    from fetalflow.report.explain.cases import GATES, gate_maps
    from fetalflow.report.explain.gradcam import convolution_layer, grad_cam
    from fetalflow.report.explain.maps import GRAD_CAM, short_name

    network = model.package().network
    inputs = to_input(clip[None], torch.device("cpu"))
    if gates := gate_maps(network, inputs):
        return GATES, "", gates[GATES][0]
    likeliest = int(ask(network, clip[None]).probabilities[0].argmax())
    name, layer = convolution_layer(network)
    maps = grad_cam(network, inputs, torch.tensor([likeliest]), layer)[0].float().cpu().numpy()
    return f"{GRAD_CAM} of {short_name(name)}", model.config["labels"][likeliest], maps


def _coloured(maps: np.ndarray, height: int, width: int) -> list[np.ndarray]:
    """uint8 [H, W, 4] (blue, green, red, alpha) of each map; one scale for all, so that frames can be compared."""
    scaled = unfit(maps / max(float(maps.max()), 1e-12), height, width).clip(0, 1)
    pictures: list[np.ndarray] = []
    for each in scaled:
        colours = cv2.applyColorMap((255 * each).astype(np.uint8), cv2.COLORMAP_TURBO)
        alpha: Any = np.where(each >= FAINT, OPAQUE * np.sqrt(each), 0).astype(np.uint8)
        pictures.append(np.dstack([colours, alpha]))
    return pictures
