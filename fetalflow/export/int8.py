"""An exported network with 8-bit integers: weights signed, each output channel with its own scale, activations unsigned
(U8S8, in QDQ form), calibrated on sequences of training patients.

U8S8 is what CPUs multiply fast (VNNI): FetalMovNet answers in 27.5 ms, with signed activations in 420 ms (DESIGN 9). On
x86 without VNNI its sums can overflow; the parity gate has to run where such a file is used.

Left in float, because rounding hurts there and costs next to nothing to leave out:
- what is no layer of weights and no step between two of them: softmax, normalisation, sigmoids and tanh of gates,
  recurrent cells, and sums and products of what these give;
- products of two activations, which is what attention is made of;
- the last layer before logits and mask: 256 levels are few for a logit;
- a first convolution over grey frames, and what is done to them before it: everything after it sees its rounding. Of
  101 sequences of the movement phantom 98 % keep fetalmovnet_s's label, 95 % otherwise; on 372 test frames of the
  planes' phantom, 96.8 % of lite_attention's labels then stay as they were, 94.4 % otherwise, and nothing is slower.
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
from fetalflow.export.onnx_file import IN_ONE_FILE, write_record
from fetalflow.export.record import DATA, FRAMES, MODEL, read_record

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# Steps that hand 8 bits on: without them every layer would go through float and back.
BETWEEN = (
    *("Relu", "Clip", "MaxPool", "Add", "Concat", "Pad", "Resize"),
    *("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Split", "Gather"),
)
FEW = 2  # channels: a grey frame, and its change since the one before
LAST = ("logits", "mask")  # outputs whose last layer stays float


class Sequences(CalibrationDataReader):
    """Sequences one at a time, as ONNX Runtime asks for them; none is kept."""

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
    """Write the network that `export_onnx` wrote to `exported` as 8 bits to `folder`; the record is that of
    `export_onnx` with `format` "int8" and `calibration`, the number of sequences.

    sequences: of training patients, uint8 0-255 or float 0-1 [N, H, W]; the range of every activation is the widest
    that they show. Raises InputError when `exported` is not whole, or there is no sequence or one of another shape.
    """
    source = read_record(exported)
    shape = tuple(source["input"][FRAMES][1:])
    large = DATA in source["files"]
    reader = Sequences(iter(sequences), shape)
    with atomic_folder(folder) as target, tempfile.TemporaryDirectory(dir=Path(folder).parent) as temporary:
        prepared = Path(temporary) / MODEL
        # Folds batch norm into convolutions and lays down every shape: only then does a layer show what it is.
        quant_pre_process(
            Path(exported) / MODEL,
            prepared,
            skip_symbolic_shape=True,  # the plain inference that follows it knows every shape of ours
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
    """Names of the products of two activations."""
    weights = {each.name for each in graph.initializer}
    return [node.name for node in graph.node if node.op_type == "MatMul" and not weights & set(node.input)]


def last_layers(graph: onnx.GraphProto) -> list[str]:
    """Names of the layers of weights after which none comes before an output of LAST."""
    weights = {each.name for each in graph.initializer}
    made_by = {output: node for node in graph.node for output in node.output}
    asked = [each.name for each in graph.output if each.name in LAST]
    found, seen = [], set(asked)
    while asked:
        node = made_by.get(asked.pop())
        if node is None or node.op_type == "Shape":  # of a shape, nothing is rounded
            continue
        if node.op_type in WEIGHTED and weights & set(node.input):
            found.append(node.name)
            continue
        asked += [name for name in node.input if name not in seen]
        seen |= set(node.input)
    return found


def first_steps(graph: onnx.GraphProto) -> list[str]:
    """Names of the convolutions that look at a grey frame, alone or with its change, and of all that is done to frames
    before them."""
    shapes = {each.name: tuple(each.dims) for each in graph.initializer}
    made_by = {output: node for node in graph.node for output in node.output}

    def steps_before(node: onnx.NodeProto) -> dict[str, onnx.NodeProto]:
        found, asked = {}, [node.input[0]]
        while asked:
            step = made_by.get(asked.pop())
            if step is not None and step.name not in found:
                found[step.name] = step
                asked += step.input
        return found

    first: set[str] = set()
    for node in graph.node:
        if node.op_type == "Conv" and len(shape := shapes.get(node.input[1], ())) >= 4 and shape[1] <= FEW:
            before = steps_before(node)
            if all(step.op_type not in WEIGHTED for step in before.values()):
                first |= {node.name, *before}
    return list(first)


def _not_empty(reader: Sequences) -> Sequences:
    """Raises InputError before minutes are spent when there is nothing to calibrate on."""
    first = next(reader.sequences, None)
    if first is None:
        raise InputError("calibration needs a sequence of a training patient at least, found none.")
    rest = reader.sequences

    def all_of_them() -> Iterator[np.ndarray]:
        yield first
        yield from rest

    reader.sequences = all_of_them()
    return reader
