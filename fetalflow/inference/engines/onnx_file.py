"""Exports a model package as an ONNX file that any runtime can read: float32, any batch size, with N and size of the
package.

Input: `frames` float32 [B, N, H, W] in 0-1. Outputs: `logits` [B, C]; `mask` logits [B, N, H, W] where the network
segments; `features` [B, D], the input of the head, with which every engine can recognise what is unlike the training
data. The file's metadata say how it is fed (`feeding`).
"""

import logging
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
import onnx_ir
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from onnxscript import INT64, opset20
from torch import Tensor, nn

from fetalflow.artefacts import atomic_folder, file_digest, write_json
from fetalflow.errors import InputError
from fetalflow.inference.engines.answering import answering
from fetalflow.inference.engines.feeding import how_to_feed
from fetalflow.inference.engines.record import DATA, FRAMES, MODEL, RECORD
from fetalflow.models.parts.mask_and_label import NoLabel
from fetalflow.models.weights import read

OPSET = 20
# Weights with more bytes are written to a separate file: protobuf is limited to 2 GiB, and a runtime can map such a
# file into memory; a large model in one file would be read twice (FetalMovNet, 781 MB).
IN_ONE_FILE = 500_000_000
VERSIONS = ("torch", "onnx", "onnxscript", "onnxruntime", "numpy")


class Silent(nn.Module):
    """NoLabel for any batch size: in NoLabel, `len` of a tensor is a plain number, which an export would fix."""

    def __init__(self, classes: int):
        super().__init__()
        self.classes = classes

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros((x.shape[0], self.classes))


def export_onnx(package: Path | str, folder: Path | str, in_one_file: int = IN_ONE_FILE) -> dict[str, Any]:
    """Write the model package `package` as `folder`/model.onnx, with model.onnx.data beside it where the weights are
    more than `in_one_file` bytes, and export.json, which is returned: `format`, `package` (SHA-256 of its weights,
    which contain the digest of its configuration), `network`, `input`, `outputs`, `opset`, `versions`, `files` (SHA-256
    by name), `bytes`.

    Raises InputError when the package is incomplete, or the network cannot be exported for any batch size.
    """
    network, config = read(package)
    for name, module in list(network.named_modules()):
        if isinstance(module, NoLabel):
            network.set_submodule(name, Silent(module.classes))
    shape = [config["frames"], config["size"], config["size"]]
    whole = answering(network, config).eval()
    model = traced(whole, {FRAMES: torch.zeros(2, *shape)}, whole.names)
    facts = {
        "format": "onnx",
        "package": config["weights"]["sha256"],
        "network": config["network"],
        "input": {FRAMES: ["batch", *shape]},
        "outputs": [each.name for each in model.graph.outputs],
    }
    with atomic_folder(folder) as temporary:
        save_model(model, temporary, in_one_file, how_to_feed(config, facts["outputs"]))
        return write_record(temporary, facts)


def save_model(model: onnx_ir.Model, folder: Path, in_one_file: int, metadata: Mapping[str, str]) -> None:
    """Write and check model.onnx with its `metadata`, and with its weights in model.onnx.data where they are more than
    `in_one_file` bytes.

    The exporter adds module and source line to every node. They are removed: the same weights must give the same bytes
    in every checkout, else moving a source file would make a new version of the model.
    """
    ClearMetadataAndDocStringPass()(model)
    model.metadata_props.update(metadata)
    weights = sum(each.const_value.nbytes for each in model.graph.initializers.values())
    onnx_ir.save(model, folder / MODEL, external_data=DATA if weights > in_one_file else None)
    onnx.checker.check_model(str(folder / MODEL), full_check=True)


def write_record(folder: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write export.json to `folder`: `facts` with opset, versions, digests and bytes of the model there."""
    files = sorted(path for path in folder.iterdir() if path.name != RECORD)
    opset = {each.domain or "ai.onnx": each.version for each in _header(folder / MODEL).opset_import}
    record = dict(facts) | {
        "opset": opset,
        "versions": {name: version(name) for name in VERSIONS},
        "files": {path.name: file_digest(path) for path in files},
        "bytes": sum(path.stat().st_size for path in files),
    }
    write_json(folder / RECORD, record)
    return record


def traced(part: nn.Module, examples: Mapping[str, Tensor], names: Sequence[str]) -> onnx_ir.Model:
    """The graph of `part`, a module with a package's `network`. examples: its inputs by name, in order; their first
    axis is the batch, of any size. names: of its outputs. Raises InputError when the graph has a fixed batch size."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns that torchvision is missing, which is not used
    _remember_operators()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # deprecations inside the exporter of torch
        program = torch.onnx.export(
            part,
            tuple(examples.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(examples),
            output_names=list(names),
            dynamic_shapes=({0: torch.export.Dim("batch")},) * len(examples),
            custom_translation_table={torch.ops.aten.sort.stable: _sort_stable},
            optimize=True,
            verbose=False,
        )
    first = program.model.graph.inputs[0].shape[0]
    if isinstance(first, int):
        raise InputError(
            f"{type(part.network).__name__} is exported for batches of {first} only: its code uses the number of "
            "sequences as a plain number (len, int). Use x.shape[0]."
        )
    return program.model


def _remember_operators() -> None:
    """For each graph, the exporter of torch parses the source of its 500 operators, always the same ones: a seventh of
    the time of an export. Where torch keeps them in another place, this changes nothing."""
    with suppress(ImportError, AttributeError):
        from torch.onnx._internal._lazy_import import onnxscript_apis

        if not hasattr(onnxscript_apis.get_torchlib_ops, "cache_info"):
            onnxscript_apis.get_torchlib_ops = cache(onnxscript_apis.get_torchlib_ops)


def _sort_stable(self: INT64, stable: bool = False, dim: int = -1, descending: bool = False):
    """torch's stable sort, which the exporter does not support: TopK keeps equal values in the order of their index."""
    length = opset20.Gather(opset20.Shape(self), opset20.Constant(value_ints=[dim]))
    return opset20.TopK(self, length, axis=dim, largest=descending, sorted=True)


def _header(path: Path) -> onnx.ModelProto:
    return onnx.load(str(path), load_external_data=False)
