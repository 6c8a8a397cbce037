"""The model package in MLflow: its files unchanged, the source of what answers, and the packages that it needs."""

import tempfile
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions, version
from pathlib import Path
from shutil import copyfile, copytree, ignore_patterns
from types import ModuleType
from typing import Any
from unittest.mock import patch

import fetalflow
from fetalflow.artefacts import read_json
from fetalflow.evaluation.certainty.record import CERTAINTY
from fetalflow.inference.engines.choice import EXPORTS, JUDGED
from fetalflow.inference.engines.engine import RUNTIMES
from fetalflow.models.package_files import unchecked_config
from fetalflow.registry.registered_files import certainty_of

# Packages that reading a cine and predicting import. The source of what answers is part of the logged model.
SERVING = (
    *("mlflow", "torch", "numpy", "pandas", "safetensors", "pydantic", "PyYAML", "joblib", "pyarrow", "scikit-learn"),
    *("av", "pydicom", "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "opencv-python-headless"),
    *("pillow", "ImageHash", "scikit-video", "scipy", "contourpy"),
)
# Parts of the library that answer, without those that train, judge, serve and show. A server takes each file by itself
# and checks the password each time, and the whole library has 600 files.
ANSWERING = (
    *("__init__.py", "artefacts.py", "errors.py"),
    *("biometry", "cine", "evaluation", "inference", "models", "settings"),
)
OPTIONAL = {"openvino"}  # a server may install it; without it the next fastest engine answers


def log_model(mlflow: ModuleType, package: Path, exports: Path | None, card: str) -> Any:
    """Log the package, to be loaded by `fetalflow.inference.serving`: its files unchanged, how sure it is, its formats
    in the folder `exports`, the model card, and the source of the rooms that answer. No pickle."""
    from fetalflow.models.building import segments  # torch: every command that asks the registry would wait for it
    from fetalflow.models.weights import read

    with tempfile.TemporaryDirectory() as folder:
        staged = Path(folder) / "package"
        staged.mkdir()
        for path in package.iterdir():
            (staged / path.name).symlink_to(path.resolve())
        if exports is not None:
            (staged / EXPORTS).symlink_to(exports.resolve(), target_is_directory=True)
        if certainty := certainty_of(package):
            (staged / CERTAINTY).symlink_to(certainty.resolve())
        (staged / "README.md").write_text(card, encoding="utf-8")
        code = answering_code(Path(folder) / fetalflow.__name__)
        # The requirements are the installed versions, so MLflow's check of them finds nothing, and takes a second.
        with patch("mlflow.utils.environment.warn_dependency_requirement_mismatches", create=True):
            return mlflow.pyfunc.log_model(
                name="model",
                loader_module="fetalflow.inference.serving",
                data_path=str(staged),
                code_paths=[str(code)],
                pip_requirements=_requirements(package, exports),
                signature=_signature(mlflow, segments(read(package)[0])),
            )


def answering_code(folder: Path) -> Path:
    """`folder`, with the source of ANSWERING."""
    folder.mkdir()
    library = Path(fetalflow.__file__).parent
    for name in ANSWERING:
        copy = partial(copytree, ignore=ignore_patterns("__pycache__")) if (library / name).is_dir() else copyfile
        copy(library / name, folder / name)
    return folder


def _requirements(package: Path, exports: Path | None) -> list[str]:
    """Requirements of the model, without packages of pretrained weights: the model package has all weights."""
    names = sorted({*SERVING, *network_packages(package), *runtimes(exports)}, key=str.lower)
    return [f"{name}=={version(name).split('+')[0]}" for name in names]


def runtimes(exports: Path | None) -> set[str]:
    """The packages that run the formats in `exports`, without OPTIONAL ones."""
    rows = read_json(exports / JUDGED)["engines"] if exports else []
    return {RUNTIMES[row["engine"]] for row in rows if row["passed"] and row["engine"] in RUNTIMES} - OPTIONAL


def network_packages(package: Path) -> set[str]:
    """The installed packages that define layers of the package's network."""
    from fetalflow.models.weights import without_weights

    network = without_weights(unchecked_config(package))
    modules = {type(module).__module__.partition(".")[0] for module in network.modules()} - {fetalflow.__name__}
    return {_package_of(module) for module in modules}


def _package_of(module: str) -> str:
    try:
        return distribution(module).metadata["Name"]  # most packages are called like their module
    except PackageNotFoundError:
        return packages_distributions()[module][0]  # reads the lists of files of all packages: half a second


def _signature(mlflow: ModuleType, measures: bool) -> Any:
    schema = mlflow.types.schema
    outputs = schema.Schema(_measuring_columns(schema) if measures else _classifying_columns(schema))
    # No input schema: with one, MLflow turns every input into a table with two dimensions and refuses [N, H, W]. The
    # model checks its input (fetalflow.inference.serving).
    return mlflow.models.ModelSignature(None, outputs)


def _classifying_columns(schema: ModuleType) -> list[Any]:
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
        *_set_columns(schema),
    ]


def _set_columns(schema: ModuleType) -> list[Any]:
    text, number = schema.DataType.string, schema.DataType.double
    sets = schema.ColSpec(schema.Array(text), "label_set", required=False)
    return [sets, schema.ColSpec(number, "level", required=False)]


def _measuring_columns(schema: ModuleType) -> list[Any]:
    ColSpec, Array, Map = schema.ColSpec, schema.Array, schema.Map
    number, whole, text = schema.DataType.double, schema.DataType.long, schema.DataType.string
    placed = {"z": number, "percentile": number}
    interval = {"low": number, "high": number, "level": number}
    length = {"value": number, "unit": text, "spread": number, "frames": whole, "left_out": whole}
    age = {"formula": text, "lengths": Array(text), "unit": text, "reason": text}
    mask = _object(schema, {"size": Array(whole), "counts": Array(whole)})
    frame = {"frame": whole, "used": schema.DataType.boolean, "lengths": Map(number), "mask": mask}
    frame |= {"warnings": Array(text)}
    drawn = {"ellipse": Map(number), "calipers": Array(Array(number))}
    return [
        ColSpec(text, "label"),
        ColSpec(Map(number), "probabilities"),
        ColSpec(number, "unfamiliarity", required=False),
        ColSpec(schema.DataType.boolean, "unfamiliar", required=False),
        ColSpec(text, "structure", required=False),
        ColSpec(text, "unit"),
        ColSpec(number, "mm_per_px", required=False),
        ColSpec(Map(_object(schema, length, placed | interval)), "lengths"),
        ColSpec(_object(schema, age, {"value": number} | placed), "age", required=False),
        ColSpec(Array(text), "warnings"),
        ColSpec(Array(_object(schema, frame, drawn)), "frames"),
        ColSpec(text, "engine"),
        *_set_columns(schema),
    ]


def _object(schema: ModuleType, required: dict[str, Any], optional: dict[str, Any] | None = None) -> Any:
    properties = [schema.Property(name, kind) for name, kind in required.items()]
    properties += [schema.Property(name, kind, required=False) for name, kind in (optional or {}).items()]
    return schema.Object(properties)
