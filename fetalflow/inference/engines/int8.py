"""Quantises an exported network to 8-bit integers: signed weights with one scale per output channel, unsigned
activations (U8S8, in QDQ form), calibrated on sequences of training patients.

CPUs with VNNI instructions multiply U8S8 fast: FetalMovNet answers in 27.5 ms, with signed activations in 420 ms
(docs/architecture.md, traps that were measured). On x86 without VNNI the sums can overflow, so the parity gate must run
on the kind of machine that uses the file.

These parts stay float, because rounding harms them and float costs hardly any time there:
- everything that is neither a layer with weights nor a step between two such layers: softmax, normalisation, sigmoid
  and tanh of gates, recurrent cells, and sums and products of their outputs;
- products of two activations, as in attention;
- the last layer before logits and mask: 256 levels are too few for a logit;
- a first convolution over grey frames and the steps before it: its rounding affects everything after it. On synthetic
  patients of other seeds it halves the distance from torch's probabilities (docs/ml-lead/thresholds.md), and no network
  becomes slower by it.
"""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from fetalflow.artefacts import atomic_folder
from fetalflow.errors import InputError
from fetalflow.inference.engines.onnx_file import IN_ONE_FILE, write_record
from fetalflow.inference.engines.record import DATA, FRAMES, MODEL, read_record

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# Steps that pass 8-bit values on: without them the values would be converted to float and back after every layer.
BETWEEN = (
    *("Relu", "Clip", "MaxPool", "Add", "Concat", "Pad", "Resize"),
    *("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Split", "Gather"),
)
FEW = 2  # input channels of a first convolution: a grey frame, and its change since the previous one
LAST = ("logits", "mask")  # outputs whose last layer stays float


class Sequences(CalibrationDataReader):
    """Gives ONNX Runtime one sequence at a time; none is kept in memory."""

    def __init__(self, sequences: Iterator[np.ndarray], shape: tuple[int, ...]):
        self.sequences, self.shape, self.seen = sequences, shape, 0

    def get_next(self) -> dict[str, np.ndarray] | None:
        sequence = next(self.sequences, None)
        if sequence is None:
            return None
        if sequence.shape != self.shape:
            raise InputError(f"calibration needs sequences {list(self.shape)}, found shape {list(sequence.shape)}.")
        self.seen += 1
        scale = 255 if sequence.dtype == np.uint8 else 1
        return {FRAMES: np.divide(sequence[None], scale, dtype=np.float32)}


def quantise(exported: Path | str, folder: Path | str, sequences: Iterable[np.ndarray]) -> dict[str, Any]:
    """Quantise the network that `export_onnx` wrote to `exported` and write it to `folder`. Returns the record of
    `export_onnx` with `format` "int8" and `calibration`, the number of sequences.

    sequences: of training patients, uint8 0-255 or float 0-1 [N, H, W]; the range of every activation is its range over
    all of them. Raises InputError when `exported` is incomplete, or there is no sequence or one of another shape.
    """
    source = read_record(exported)
    shape = tuple(source["input"][FRAMES][1:])
    large = DATA in source["files"]
    reader = Sequences(iter(sequences), shape)
    with atomic_folder(folder) as target, tempfile.TemporaryDirectory(dir=Path(folder).parent) as temporary:
        prepared = Path(temporary) / MODEL
        # Folds batch norm into convolutions and infers every shape, which the functions below need.
        quant_pre_process(
            Path(exported) / MODEL,
            prepared,
            skip_symbolic_shape=True,  # the plain shape inference after it finds all shapes of our networks
            save_as_external_data=large,
            all_tensors_to_one_file=True,
            external_data_location=DATA if large else None,
        )
        graph = onnx.load(str(prepared), load_external_data=False).graph
        quantize_static(
            prepared,
            target / MODEL,
            _not_empty(reader),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=[*WEIGHTED, *BETWEEN],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=sorted({*products(graph), *last_layers(graph), *first_steps(graph)}),
            use_external_data_format=source["bytes"] > 4 * IN_ONE_FILE,
            calibrate_method=CalibrationMethod.MinMax,
        )
        onnx.checker.check_model(str(target / MODEL))
        facts = {key: source[key] for key in ("package", "network", "input", "outputs")}
        return write_record(target, {"format": "int8"} | facts | {"calibration": reader.seen})


def products(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes that multiply two activations."""
    weights = {each.name for each in graph.initializer}
    return [node.name for node in graph.node if node.op_type == "MatMul" and not weights & set(node.input)]


def last_layers(graph: onnx.GraphProto) -> list[str]:
    """Names of the last layers with weights before the outputs of LAST."""
    weights = {each.name for each in graph.initializer}
    made_by = {output: node for node in graph.node for output in node.output}
    waiting = [each.name for each in graph.output if each.name in LAST]
    layers, seen = [], set(waiting)
    while waiting:
        node = made_by.get(waiting.pop())
        if node is None or node.op_type == "Shape":  # a shape is not quantised
            continue
        if node.op_type in WEIGHTED and weights & set(node.input):
            layers.append(node.name)
            continue
        waiting += [name for name in node.input if name not in seen]
        seen |= set(node.input)
    return layers


def first_steps(graph: onnx.GraphProto) -> list[str]:
    """Names of the convolutions over a grey frame, alone or with its change, and of all steps before them."""
    shapes = {each.name: tuple(each.dims) for each in graph.initializer}
    made_by = {output: node for node in graph.node for output in node.output}

    def steps_before(node: onnx.NodeProto) -> dict[str, onnx.NodeProto]:
        steps, waiting = {}, [node.input[0]]
        while waiting:
            step = made_by.get(waiting.pop())
            if step is not None and step.name not in steps:
                steps[step.name] = step
                waiting += step.input
        return steps

    first: set[str] = set()
    for node in graph.node:
        if node.op_type == "Conv" and len(shape := shapes.get(node.input[1], ())) >= 4 and shape[1] <= FEW:
            before = steps_before(node)
            if all(step.op_type not in WEIGHTED for step in before.values()):
                first |= {node.name, *before}
    return list(first)


def _not_empty(reader: Sequences) -> Sequences:
    """Raises InputError at once, not after minutes of calibration, when there is no sequence."""
    first = next(reader.sequences, None)
    if first is None:
        raise InputError("calibration needs at least one sequence of a training patient, found none.")
    rest = reader.sequences

    def all_of_them() -> Iterator[np.ndarray]:
        yield first
        yield from rest

    reader.sequences = all_of_them()
    return reader
