"""Several engines for one network: the outputs have the same names and nearly the same values, whichever computes them.

Largest difference from torch on the same machine: onnx 1e-4 of the largest logit (sums in another order); int8 and
openvino (bf16 where the processor has it) round on purpose, and `fetalflow.inference.engines.parity` measures the loss.
"""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from fetalflow.artefacts import read_json
from fetalflow.errors import InputError
from fetalflow.inference.engines.batch import THREADS, check_batch
from fetalflow.inference.engines.record import FRAMES, MODEL, read_record
from fetalflow.models.network_answer import NetworkAnswer
from fetalflow.models.package_files import CONFIG

# Where each engine's model lies in the folder of a package's exports; torch computes the package itself.
FOLDERS = {"onnx": "onnx", "int8": "int8", "openvino": "onnx"}
RUNTIMES = {"onnx": "onnxruntime", "int8": "onnxruntime", "openvino": "openvino"}  # module that must be installed
ENGINES = ("torch", *FOLDERS)


class Engine(Protocol):
    """name: of ENGINES. outputs: their names. size: bytes of the files it reads. threads: number of threads it uses."""

    name: str
    outputs: tuple[str, ...]
    size: int
    threads: int

    def answer(self, batch: np.ndarray) -> NetworkAnswer:
        """float32 [B, N, H, W] in 0-1. Raises InputError for another type or shape."""
        ...


class OnnxRuntime:
    """An exported file, float32 or 8 bits, in ONNX Runtime."""

    def __init__(self, folder: Path | str, package: str | None = None, threads: int = THREADS):
        """package: SHA-256 of the weights that it must have been exported from."""
        self.record = read_record(folder, package)
        self.name, self.size, self.threads = self.record["format"], self.record["bytes"], threads
        self.outputs = tuple(self.record["outputs"])
        self.session = onnx_session(folder, threads)

    def answer(self, batch: np.ndarray) -> NetworkAnswer:
        check_batch(batch, self.record["input"][FRAMES][1:])
        return _named(self.outputs, self.session.run(self.outputs, {FRAMES: batch}))


class OpenVINO:
    """The float32 file in OpenVINO, an optional extra; in bfloat16 where the processor multiplies it."""

    name = "openvino"

    def __init__(self, folder: Path | str, package: str | None = None, threads: int = THREADS):
        """package: SHA-256 of the weights that it must have been exported from."""
        self.record, runtime = read_record(folder, package), installed("openvino")
        self.size, self.threads = self.record["bytes"], threads
        self.outputs = tuple(self.record["outputs"])
        core = runtime.Core()
        bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.precision = "bf16" if bf16 else "f32"
        options = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        options["INFERENCE_PRECISION_HINT"] = self.precision
        self.request = core.compile_model(Path(folder) / MODEL, "CPU", options).create_infer_request()

    def answer(self, batch: np.ndarray) -> NetworkAnswer:
        check_batch(batch, self.record["input"][FRAMES][1:])
        self.request.infer({FRAMES: batch})
        return _named(self.outputs, [self.request.get_tensor(name).data.copy() for name in self.outputs])


def open_engine(name: str, package: Path | str, exported: Path | str, threads: int = THREADS) -> Engine:
    """The engine `name` of the model package in `package`; its exports lie in `exported`, in a folder each (FOLDERS).

    Raises InputError when there is no such engine, it is not installed, its file is missing or damaged, or was exported
    from another package.
    """
    if name not in ENGINES:
        raise InputError(f"no engine is called {name!r}; known engines: {', '.join(ENGINES)}.")
    if name == "torch":
        from fetalflow.inference.engines.torch_engine import Torch  # it imports torch, which takes 2 s

        return Torch(package, threads)
    kind = OpenVINO if name == "openvino" else OnnxRuntime
    return kind(Path(exported) / FOLDERS[name], package_digest(package), threads)


def onnx_session(folder: Path | str, threads: int) -> Any:
    """`onnxruntime.InferenceSession` of the model in `folder`."""
    runtime = installed("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Without this, threads that wait for the next call would keep the processor busy.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return runtime.InferenceSession(str(Path(folder) / MODEL), options, providers=["CPUExecutionProvider"])


def package_digest(package: Path | str) -> str:
    """SHA-256 of a package's weights, which contain the digest of its configuration.

    Raises InputError when there is no package.
    """
    path = Path(package) / CONFIG
    if not path.is_file():
        raise InputError(f"{package} holds no {CONFIG}. Expected a folder that the train stage wrote.")
    return read_json(path)["weights"]["sha256"]


def is_installed(name: str) -> bool:
    """Whether this machine has what the engine `name` needs."""
    return name not in RUNTIMES or find_spec(RUNTIMES[name]) is not None


def installed(module: str) -> ModuleType:
    """The imported module. Raises InputError with the package to install."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        extra = "'fetalflow[openvino]'" if module == "openvino" else module
        raise InputError(f"the engine {module} is not installed. Run: pip install {extra}") from None


def _named(names: Any, outputs: list[np.ndarray]) -> NetworkAnswer:
    by_name = dict(zip(names, outputs, strict=True))
    return NetworkAnswer(by_name["logits"], by_name.get("mask"), by_name.get("features"))
