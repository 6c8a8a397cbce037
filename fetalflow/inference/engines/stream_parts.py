"""The two parts of a network that reuses its results for frames, as ONNX files: the first computes what is kept of a
new frame, the second answers for a window of kept results.

In a package's folder of exports, beside the whole network: `stream-keep`, frames float32 [B, reach, H, W] in 0-1 ->
`kept` [B, D]; `stream-answer`, `kept` [B, N - reach + 1, D], and `frames` [B, N, H, W] where the network needs them
again -> `logits` [B, C] and `features`, the input of the head; `stream-keep-int8`, the first part in 8 bits.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fetalflow.artefacts import atomic_folder
from fetalflow.inference.engines.answering import Answering, watched_layer
from fetalflow.inference.engines.feeding import how_to_feed
from fetalflow.inference.engines.int8 import quantise
from fetalflow.inference.engines.onnx_file import IN_ONE_FILE, save_model, traced, write_record
from fetalflow.inference.engines.record import ANSWER, FRAMES, KEEP, KEEP_INT8, KEPT, read_record
from fetalflow.models.reuse import Reusing
from fetalflow.models.weights import read

PARTS = {"onnx": (KEEP, ANSWER), "int8": (KEEP_INT8, ANSWER)}  # by engine


class Keeping(nn.Module):
    """[B, reach, H, W] -> [B, D]."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor) -> Tensor:
        return self.network.keep(frames)


class AnsweringKept(Answering):
    """[B, N - reach + 1, D], and [B, N, H, W] where the network needs it -> logits, features."""

    def forward(self, kept: Tensor, frames: Tensor | None = None) -> tuple[Tensor, ...]:
        return self.outputs(self.network.answer, kept, frames)


def export_stream(package: Path | str, exported: Path | str) -> dict[str, dict[str, Any]]:
    """Write both parts of the model package `package` to its folder of exports, `exported`. Returns their records (as
    `export_onnx`) by subfolder. Nothing is written for a network that cannot reuse results: it is used as a whole.

    Raises InputError when the package is incomplete or a part cannot be exported.
    """
    network, config = read(package)
    if not isinstance(network, Reusing):
        return {}
    n, size, reach = config["frames"], config["size"], network.reach
    keeping, answering = Keeping(network).eval(), AnsweringKept(network, watched_layer(network, config)).eval()
    frames = torch.zeros(2, n, size, size)
    with torch.no_grad():
        kept = keeping(frames[:, :reach])
    given = {KEPT: kept[:, None].repeat(1, n - reach + 1, 1)} | ({FRAMES: frames} if network.needs_frames else {})
    parts = {
        KEEP: (keeping, {FRAMES: frames[:, :reach]}, (KEPT,)),
        ANSWER: (answering, given, answering.names),
    }
    feeding = {
        KEEP: how_to_feed(dict(config) | {"frames": reach}, ()),
        ANSWER: how_to_feed(config, answering.names) | {KEPT: f"results of {KEEP} for the frames, in order of time"},
    }
    records = {}
    for name, (part, examples, outputs) in parts.items():
        facts = {"format": "onnx", "package": config["weights"]["sha256"], "network": config["network"]}
        facts |= {"input": {key: ["batch", *each.shape[1:]] for key, each in examples.items()}}
        model = traced(part, examples, outputs)
        with atomic_folder(Path(exported) / name) as temporary:
            save_model(model, temporary, IN_ONE_FILE, feeding[name])
            records[name] = write_record(temporary, facts | {"outputs": list(outputs)})
    return records


def quantise_stream(exported: Path | str, sequences: Iterable[np.ndarray]) -> dict[str, Any]:
    """Quantise the first part to 8 bits and write it beside the one from `export_stream`. Returns its record.

    sequences: of training patients, uint8 0-255 or float 0-1 [N, H, W], for calibration. Raises InputError when there
    is none or one has another shape.
    """
    folder = Path(exported)
    reach = read_record(folder / KEEP)["input"][FRAMES][1]
    return quantise(folder / KEEP, folder / KEEP_INT8, (sequence[:reach] for sequence in sequences))
