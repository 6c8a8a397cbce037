"""The model package as MLflow keeps it: its files as they are, the library's source, what answering needs."""

import tempfile
from importlib.metadata import packages_distributions, version
from pathlib import Path
from types import ModuleType
from typing import Any

import fetalflow
from fetalflow.artefacts import read_json
from fetalflow.export.choice import EXPORTS, JUDGED
from fetalflow.export.engine import RUNTIMES
from fetalflow.models.building import segments
from fetalflow.weights import read

# What reading a cine and answering it imports; fetalflow itself travels in the model as source.
SERVING = (
    *("mlflow", "torch", "numpy", "pandas", "safetensors", "pydantic", "PyYAML", "joblib", "scikit-learn"),
    *("av", "pydicom", "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "opencv-python-headless"),
    *("pillow", "ImageHash", "scikit-video", "scipy", "contourpy"),
)
OPTIONAL = {"openvino"}  # an engine's runtime that whoever serves may add; without it the next fastest answers


def log_model(mlflow: ModuleType, package: Path, exports: Path | None, card: str) -> Any:
    """Log the package behind `fetalflow.serving`: its files as they are, with the formats that passed in its folder
    `exports`, and the library's source, no pickle."""
    with tempfile.TemporaryDirectory() as folder:
        staged = Path(folder) / "package"
        staged.mkdir()
        for path in package.iterdir():
            (staged / path.name).symlink_to(path.resolve())
        if exports is not None:
            (staged / EXPORTS).symlink_to(exports.resolve(), target_is_directory=True)
        (staged / "README.md").write_text(card, encoding="utf-8")
        return mlflow.pyfunc.log_model(
            name="model",
            loader_module="fetalflow.serving",
            data_path=str(staged),
            code_paths=[str(Path(fetalflow.__file__).parent)],
            pip_requirements=_requirements(package, exports),
            signature=_signature(mlflow, segments(read(package)[0])),
        )


def _requirements(package: Path, exports: Path | None) -> list[str]:
    """What answering needs: no package of pretrained weights, because the model's own hold all."""
    names = sorted({*SERVING, *network_packages(package), *runtimes(exports)}, key=str.lower)
    return [f"{name}=={version(name).split('+')[0]}" for name in names]


def runtimes(exports: Path | None) -> set[str]:
    """What the formats in `exports` are computed by."""
    rows = read_json(exports / JUDGED)["engines"] if exports else []
    return {RUNTIMES[row["engine"]] for row in rows if row["passed"] and row["engine"] in RUNTIMES} - OPTIONAL


def network_packages(package: Path) -> set[str]:
    """The installed packages from which the network of a model package takes its layers."""
    network, _ = read(package)
    rooms = {type(module).__module__.partition(".")[0] for module in network.modules()} - {fetalflow.__name__}
    installed = packages_distributions()
    return {installed[room][0] for room in rooms}


def _signature(mlflow: ModuleType, measures: bool) -> Any:
    schema = mlflow.types.schema
    outputs = schema.Schema(_measured(schema) if measures else _named(schema))
    inputs = schema.Schema([schema.ColSpec(schema.AnyType(), "cine_or_sequence")])
    signature = mlflow.models.ModelSignature(inputs, outputs)
    # MLflow would turn every input into a table of two dimensions and refuse [N, H, W]; this leaves the check of the
    # input to the model, which makes it (fetalflow.serving).
    signature._is_signature_from_type_hint = True
    return signature


def _named(schema: ModuleType) -> list[Any]:
    ColSpec, DataType = schema.ColSpec, schema.DataType
    best = {"frame": DataType.long, "label": DataType.string, "probability": DataType.double}
    return [
        ColSpec(DataType.string, "label"),
        ColSpec(schema.Map(DataType.double), "probabilities"),
        ColSpec(schema.Array(DataType.double), "frame_weights"),
        ColSpec(DataType.string, "frame_weights_method"),
        ColSpec(DataType.double, "unfamiliarity", required=False),
        ColSpec(DataType.boolean, "unfamiliar", required=False),
        ColSpec(_object(schema, best), "best_frame", required=False),
        ColSpec(DataType.string, "engine"),
    ]


def _measured(schema: ModuleType) -> list[Any]:
    ColSpec, Array, Map = schema.ColSpec, schema.Array, schema.Map
    number, whole, text = schema.DataType.double, schema.DataType.long, schema.DataType.string
    placed = {"z": number, "percentile": number}
    length = {"value": number, "unit": text, "spread": number, "frames": whole, "left_out": whole}
    age = {"formula": text, "lengths": Array(text), "unit": text, "reason": text}
    mask = _object(schema, {"size": Array(whole), "counts": Array(whole)})
    frame = {"frame": whole, "lengths": Map(number), "warnings": Array(text), "mask": mask}
    drawn = {"ellipse": Map(number), "calipers": Array(Array(number))}
    return [
        ColSpec(text, "label"),
        ColSpec(Map(number), "probabilities"),
        ColSpec(number, "unfamiliarity", required=False),
        ColSpec(schema.DataType.boolean, "unfamiliar", required=False),
        ColSpec(text, "structure", required=False),
        ColSpec(text, "unit"),
        ColSpec(number, "mm_per_px", required=False),
        ColSpec(Map(_object(schema, length, placed)), "lengths"),
        ColSpec(_object(schema, age, {"value": number} | placed), "age", required=False),
        ColSpec(Array(text), "warnings"),
        ColSpec(Array(_object(schema, frame, drawn)), "frames"),
        ColSpec(text, "engine"),
    ]


def _object(schema: ModuleType, always: dict[str, Any], sometimes: dict[str, Any] | None = None) -> Any:
    own = [schema.Property(name, kind) for name, kind in always.items()]
    return schema.Object(
        own + [schema.Property(name, kind, required=False) for name, kind in (sometimes or {}).items()]
    )
