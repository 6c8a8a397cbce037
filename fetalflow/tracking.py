"""A finished run in MLflow, and its model by an alias. The only file of the library that knows MLflow.

Everything is read from the workspace's files after the last of them is written: training needs no server, and a server
that was out of reach costs nothing but this step.
"""

import hashlib
import logging
import math
import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import packages_distributions, version
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pandas as pd

import fetalflow
from fetalflow.artefacts import file_digest, read_json
from fetalflow.errors import InputError
from fetalflow.model_card import model_card
from fetalflow.provenance import data_digest
from fetalflow.run_record import curve_points, flatten, inputs_digest, run_tags
from fetalflow.settings import Settings
from fetalflow.weights import CONFIG, read

DATABASE = "mlflow.db"
ARTEFACTS = "mlartifacts"
INPUTS_TAG = "fetalflow.inputs"  # digest of everything a run logs: the same run is not logged twice
PACKAGE_TAG = "fetalflow.package"  # digest of the model package and its card: the same model gets no second version
# What reading a cine and answering it imports; fetalflow itself travels in the model as source.
SERVING = (
    *("mlflow", "torch", "numpy", "pandas", "safetensors", "pydantic", "PyYAML", "joblib", "scikit-learn"),
    *("av", "pydicom", "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "opencv-python-headless"),
    *("pillow", "ImageHash", "scikit-video", "scipy"),
)
BATCH = 500  # metrics per request; MLflow takes at most 1000
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # the default of 7 keeps a person waiting for minutes
    "GIT_PYTHON_REFRESH": "quiet",
}
TALKATIVE = ("mlflow.store.db.utils", "alembic", "mlflow.tracking._model_registry")


class TrackingFailed(RuntimeError):
    """The MLflow server is out of reach or refused. Nothing is lost: the step can be tried again."""


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or the embedded SQLite store of the current folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{DATABASE}"


def public_uri(uri: str) -> str:
    """`uri` without a user name and password."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else uri


def log_run(task: str, settings: Settings, workspace: Path = Path()) -> dict[str, Any]:
    """Log the finished run of `task` in `workspace` and register its main model; return what registered.json holds.

    One parent run for the pipeline, one child per variant. The same files logged again make neither a second run nor
    a second version. Raises TrackingFailed when the server is out of reach, InputError when the run is not finished.
    """
    register = settings.blocks[task].register_
    variant = settings.tasks[task].variant
    package = workspace / "models" / task / variant
    reports = workspace / "reports" / task
    for needed in (package / CONFIG, reports / "metrics.json", reports / "report.html"):
        if not needed.is_file():
            raise InputError(f"{needed} is missing: only a finished run is registered. Run the stages before.")
    card = model_card(task, settings, workspace)
    with _mlflow(tracking_uri()) as mlflow:
        experiment = _experiment(mlflow, register.experiment, workspace)
        inputs = inputs_digest(task, workspace)
        parent = _finished_run(mlflow, experiment, inputs)
        if parent is None:
            parent = _log_pipeline(mlflow, experiment, inputs, task, settings, workspace)
        runs = _children(mlflow, experiment, parent)
        version = _version(mlflow, register.model, package, card, runs[variant])
        mlflow.MlflowClient().set_registered_model_alias(register.model, register.alias, version)
    return {
        "model_uri": f"models:/{register.model}@{register.alias}",
        "name": register.model,
        "version": str(version),
        "alias": register.alias,
        "tracking_uri": public_uri(tracking_uri()),
        "experiment": register.experiment,
        "run_id": parent,
        "variants": runs,
    }


def fetch_package(model_uri: str) -> Path:
    """The folder of the model package behind `models:/NAME@ALIAS` (or /VERSION), fetched from the tracking server.

    Raises InputError when there is no such model, TrackingFailed when the server is out of reach.
    """
    uri = tracking_uri()
    if uri == f"sqlite:///{DATABASE}" and not Path(DATABASE).is_file():
        raise InputError(
            f"no MLflow store here: looked for {Path(DATABASE).resolve()}. Run the pipeline in this folder first, or "
            "set MLFLOW_TRACKING_URI, or name a model package's folder."
        )
    with _mlflow(uri) as mlflow:
        try:
            folder = Path(mlflow.artifacts.download_artifacts(model_uri))
        except mlflow.exceptions.MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise InputError(f"{model_uri} is not in the registry at {public_uri(uri)}: {error.message}") from None
            raise
        flavour = mlflow.models.Model.load(folder).flavors.get("python_function", {})
    found = folder / flavour.get("data", "")
    if not (found / CONFIG).is_file():
        raise InputError(f"{model_uri} holds no model package of fetalflow (no {CONFIG}).")
    return found


@contextmanager
def _mlflow(uri: str) -> Iterator[ModuleType]:
    """MLflow, pointed at `uri`, with its failures in plain words."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import mlflow
    import requests

    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    where = public_uri(uri)
    try:
        mlflow.set_tracking_uri(uri)
        mlflow.MlflowClient().search_experiments(max_results=1)
    except (mlflow.exceptions.MlflowException, requests.RequestException) as error:
        raise TrackingFailed(f"MLflow at {where} is out of reach ({_said(error, uri)}).") from error
    try:
        with warnings.catch_warnings():
            # Hints on integer columns and on input examples, which are meant for models of tables.
            warnings.simplefilter("ignore", UserWarning)
            yield mlflow
    except (mlflow.exceptions.MlflowException, requests.RequestException) as error:
        raise TrackingFailed(f"MLflow at {where} failed: {_said(error, uri)}") from error


def _said(error: Exception, uri: str) -> str:
    """The first line of a failure, without the password that MLflow repeats in it."""
    return str(error).strip().split("\n")[0].replace(uri, public_uri(uri))[:300]


def _experiment(mlflow: ModuleType, name: str, workspace: Path) -> str:
    found = mlflow.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage == "deleted":
        raise InputError(f"the MLflow experiment {name!r} was deleted. Restore it, or name another in params.yaml.")
    if found is not None:
        return found.experiment_id
    # A server keeps its artefacts where it was told to; the embedded store keeps them beside its database.
    local = mlflow.get_tracking_uri().startswith("sqlite:")
    return mlflow.create_experiment(name, (workspace / ARTEFACTS).resolve().as_uri() if local else None)


def _finished_run(mlflow: ModuleType, experiment: str, inputs: str) -> str | None:
    """The run that logged the same files already. One that was killed while it did so is marked as killed."""
    client = mlflow.MlflowClient()
    runs = client.search_runs([experiment], f"tags.`{INPUTS_TAG}` = '{inputs}'")
    for run in runs:
        if run.info.status == "RUNNING":
            for child in _children(mlflow, experiment, run.info.run_id).values():
                client.set_terminated(child, "KILLED")
            client.set_terminated(run.info.run_id, "KILLED")
    return next((run.info.run_id for run in runs if run.info.status == "FINISHED"), None)


def _children(mlflow: ModuleType, experiment: str, parent: str) -> dict[str, str]:
    """Run id by variant."""
    runs = mlflow.MlflowClient().search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'")
    return {run.data.tags["variant"]: run.info.run_id for run in reversed(runs)}


def _log_pipeline(
    mlflow: ModuleType, experiment: str, inputs: str, task: str, settings: Settings, workspace: Path
) -> str:
    manifest = pd.read_parquet(workspace / "data" / task / "manifest.parquet")
    reports = workspace / "reports" / task
    digest = data_digest(manifest)
    dataset = mlflow.data.from_pandas(manifest, source=f"data/{task}/manifest.parquet", name=task, digest=digest[:36])
    tags = run_tags(task, workspace, digest)
    parameters = flatten(settings.tasks[task].model_dump(mode="json"), "task.")
    parameters |= flatten(settings.blocks[task].model_dump(mode="json", by_alias=True))
    metrics = read_json(reports / "metrics.json")
    main = settings.tasks[task].variant
    name = f"{task} {digest[:8]}"
    with mlflow.start_run(experiment_id=experiment, run_name=name, tags=tags | {INPUTS_TAG: inputs}) as parent:
        mlflow.log_input(dataset, context="all parts")
        _log_parameters(mlflow, parameters)
        _log_metrics(mlflow, [(key, value, 0) for key, value in metrics[main].items()])
        for path in (workspace / "params.yaml", workspace / "dvc.yaml", workspace / "dvc.lock"):
            if path.is_file():
                mlflow.log_artifact(str(path))
        mlflow.log_artifact(str(workspace / "data" / task / "split.parquet"), "data")
        for path in sorted(reports.iterdir()):
            if path.is_dir():
                mlflow.log_artifacts(str(path), path.name)
            elif path.name != "registered.json":
                mlflow.log_artifact(str(path))
        for variant, figures in metrics.items():
            with mlflow.start_run(
                experiment_id=experiment, run_name=variant, nested=True, tags=tags | {"variant": variant}
            ):
                mlflow.log_input(dataset, context="all parts")
                others = tuple(f"networks.{v}." for v in metrics if v != variant)
                _log_parameters(mlflow, {k: v for k, v in parameters.items() if not k.startswith(others)})
                _log_metrics(mlflow, [(key, value, 0) for key, value in figures.items()])
                _log_variant(mlflow, task, variant, workspace)
    return parent.info.run_id


def _log_variant(mlflow: ModuleType, task: str, variant: str, workspace: Path) -> None:
    reports, data = workspace / "reports" / task, workspace / "data" / task
    mlflow.log_artifact(str(data / "predictions" / f"{variant}.csv"))
    mlflow.log_artifact(str(workspace / "models" / task / variant / CONFIG), "package")
    for folder in ("evaluation", "figures"):
        for path in sorted((reports / folder).glob(f"{variant}-*")):
            mlflow.log_artifact(str(path), folder)
    curves = pd.read_csv(reports / "curves" / f"{variant}.csv")
    _log_metrics(mlflow, curve_points(curves))


def _log_parameters(mlflow: ModuleType, parameters: dict[str, Any]) -> None:
    mlflow.log_params({key: str(value)[:6000] for key, value in parameters.items()})


def _log_metrics(mlflow: ModuleType, points: list[tuple[str, Any, int]]) -> None:
    """Log (name, value, step); what is not a number, such as a metric without meaning here, is left out."""
    from mlflow.entities import Metric
    from mlflow.utils.time import get_current_time_millis

    now = get_current_time_millis()
    metrics = [
        Metric(re.sub(r"[^\w\-./ :]", "_", name), float(value), now, step)
        for name, value, step in points
        if isinstance(value, (int, float)) and math.isfinite(value)
    ]
    run = mlflow.active_run().info.run_id
    for start in range(0, len(metrics), BATCH):
        mlflow.MlflowClient().log_batch(run, metrics=metrics[start : start + BATCH])


def _version(mlflow: ModuleType, name: str, package: Path, card: str, run: str) -> str:
    """The version of the registered model `name` that is this package with this card; made where there is none."""
    client = mlflow.MlflowClient()
    digest = hashlib.sha256((file_digest(package / CONFIG) + card).encode()).hexdigest()
    for known in client.search_model_versions(f"name = '{name}'"):
        if known.tags.get(PACKAGE_TAG) == digest:
            return str(known.version)
    with mlflow.start_run(run_id=run):
        logged = _log_model(mlflow, package, card)
    made = mlflow.register_model(f"models:/{logged.model_id}", name)
    client.update_model_version(name, made.version, description=card)
    client.set_model_version_tag(name, made.version, PACKAGE_TAG, digest)
    return str(made.version)


def _log_model(mlflow: ModuleType, package: Path, card: str) -> Any:
    """Log the package behind `fetalflow.serving`: its files as they are and the library's source, no pickle."""
    with tempfile.TemporaryDirectory() as folder:
        staged = Path(folder) / "package"
        staged.mkdir()
        for path in package.iterdir():
            (staged / path.name).symlink_to(path.resolve())
        (staged / "README.md").write_text(card, encoding="utf-8")
        return mlflow.pyfunc.log_model(
            name="model",
            loader_module="fetalflow.serving",
            data_path=str(staged),
            code_paths=[str(Path(fetalflow.__file__).parent)],
            pip_requirements=_requirements(package),
            signature=_signature(),
        )


def _requirements(package: Path) -> list[str]:
    """What answering needs: no package of pretrained weights, because the model's own hold all."""
    names = sorted({*SERVING, *network_packages(package)}, key=str.lower)
    return [f"{name}=={version(name).split('+')[0]}" for name in names]


def network_packages(package: Path) -> set[str]:
    """The installed packages from which the network of a model package takes its layers."""
    network, _ = read(package)
    rooms = {type(module).__module__.partition(".")[0] for module in network.modules()} - {fetalflow.__name__}
    installed = packages_distributions()
    return {installed[room][0] for room in rooms}


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types.schema import AnyType, Array, ColSpec, DataType, Map, Object, Property, Schema

    best = {"frame": DataType.long, "label": DataType.string, "probability": DataType.double}
    outputs = [
        ColSpec(DataType.string, "label"),
        ColSpec(Map(DataType.double), "probabilities"),
        ColSpec(Array(DataType.double), "frame_weights"),
        ColSpec(DataType.double, "unfamiliarity", required=False),
        ColSpec(DataType.boolean, "unfamiliar", required=False),
        ColSpec(Object([Property(name, kind) for name, kind in best.items()]), "best_frame", required=False),
    ]
    signature = ModelSignature(Schema([ColSpec(AnyType(), "cine_or_sequence")]), Schema(outputs))
    # MLflow would turn every input into a table of two dimensions and refuse [N, H, W]; this leaves the check of the
    # input to the model, which makes it (fetalflow.serving).
    signature._is_signature_from_type_hint = True
    return signature
