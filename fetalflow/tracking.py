"""A finished run in MLflow, and its model by an alias. The only file of the library that knows MLflow.

Everything is read from the workspace's files after the last of them is written: training needs no server, and a server
that was out of reach costs nothing but this step.
"""

import hashlib
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from fetalflow.artefacts import file_digest, read_json
from fetalflow.errors import InputError
from fetalflow.export.choice import JUDGED, exports_of, read_judged
from fetalflow.export.record import RECORD
from fetalflow.logged_model import log_model
from fetalflow.logged_run import log_pipeline
from fetalflow.model_card import model_card
from fetalflow.registry import Registry
from fetalflow.replay import end_well, finished_run, remove_other_models, remove_torn_runs, variant_runs, whole_model
from fetalflow.run_record import inputs_digest
from fetalflow.settings import Settings
from fetalflow.weights import CONFIG

DATABASE = "mlflow.db"
EMBEDDED = f"sqlite:///{DATABASE}"  # in the current folder
ARTEFACTS = "mlartifacts"
PACKAGE_TAG = "fetalflow.package"  # digest of the package, its formats and card: the same model gets no second version
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
    return os.environ.get("MLFLOW_TRACKING_URI") or EMBEDDED


def public_uri(uri: str) -> str:
    """`uri` without a user name and password."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else uri


def log_run(task: str, settings: Settings, workspace: Path = Path()) -> dict[str, Any]:
    """Log the finished run of `task` in `workspace` and register its main model; return what registered.json holds.

    The alias is not moved: that is `fetalflow.ledger.record_move`, with the digest `evidence` of all that was logged.
    One parent run for the pipeline, one child per variant. The same files logged again make neither a second run nor
    a second version, also where the call before was cut off anywhere. Raises TrackingFailed when the server is out of
    reach, InputError when the run is not finished.
    """
    register = settings.blocks[task].register_
    variant = settings.tasks[task].variant
    package = workspace / "models" / task / variant
    reports = workspace / "reports" / task
    for needed in (package / CONFIG, reports / "metrics.json", reports / "report.html"):
        if not needed.is_file():
            raise InputError(f"{needed} is missing: only a finished run is registered. Run the stages before.")
    card, exports = model_card(task, settings, workspace), _exports(package)
    with _mlflow(tracking_uri()) as mlflow:
        experiment = _experiment(mlflow, register.experiment, workspace)
        inputs = inputs_digest(task, workspace)
        parent = finished_run(mlflow, experiment, inputs)
        remove_torn_runs(mlflow, experiment, inputs, parent)
        if parent is None:
            parent = log_pipeline(mlflow, experiment, inputs, task, settings, workspace)
            remove_torn_runs(mlflow, experiment, inputs, parent)
        runs = variant_runs(mlflow, experiment, parent)
        version = _version(mlflow, register.model, package, exports, card, runs[variant])
        end_well(mlflow, runs[variant])
    return {
        "model_uri": f"models:/{register.model}@{register.alias}",
        "name": register.model,
        "version": str(version),
        "alias": register.alias,
        "tracking_uri": public_uri(tracking_uri()),
        "experiment": register.experiment,
        "run_id": parent,
        "evidence": inputs,
        "variants": runs,
    }


def fetch_package(model_uri: str) -> Path:
    """The folder of the model package behind `models:/NAME@ALIAS` (or /VERSION), fetched from the tracking server.

    Raises InputError when there is no such model, TrackingFailed when the server is out of reach.
    """
    uri = tracking_uri()
    _require_store(uri)
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
def registry() -> Iterator[Registry]:
    """The models, aliases, ledger and runs of the tracking server, or of the embedded store of the current folder.

    Raises InputError when there is no store here, TrackingFailed when the server is out of reach or fails.
    """
    uri = tracking_uri()
    _require_store(uri)
    with _mlflow(uri) as mlflow:
        yield Registry(mlflow.MlflowClient(), mlflow.exceptions.MlflowException, _artefacts(mlflow, Path()))


def _require_store(uri: str) -> None:
    if uri == EMBEDDED and not Path(DATABASE).is_file():
        raise InputError(
            f"no MLflow store here: looked for {Path(DATABASE).resolve()}. Run the pipeline in this folder first, or "
            "set MLFLOW_TRACKING_URI, or name a model package's folder."
        )


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
        # By its full path: MLflow remembers an opened store by its URI, also when the current folder has changed.
        mlflow.set_tracking_uri(f"sqlite:///{Path(DATABASE).resolve()}" if uri == EMBEDDED else uri)
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
    return mlflow.create_experiment(name, _artefacts(mlflow, workspace))


def _artefacts(mlflow: ModuleType, workspace: Path) -> str | None:
    """A server keeps its artefacts where it was told to (None); the embedded store keeps them beside its database."""
    local = mlflow.get_tracking_uri().startswith("sqlite:")
    return (workspace / ARTEFACTS).resolve().as_uri() if local else None


def _exports(package: Path) -> Path | None:
    """The formats that travel with a package; None where a run has no export stage.

    Raises InputError when they were exported from another one.
    """
    exports = exports_of(package)
    if not (exports / JUDGED).is_file():
        return None
    if read_judged(package) is None:
        raise InputError(f"{exports} was exported from other weights than those in {package}. Run the export stage.")
    return exports


def _digest(package: Path, exports: Path | None, card: str) -> str:
    """The same for the same model, whatever the times of its formats."""
    formats = sorted(exports.glob(f"*/{RECORD}")) if exports else []
    files = [f"{path.parent.name} {read_json(path)['files']}" for path in formats]
    return hashlib.sha256("".join([file_digest(package / CONFIG), card, *files]).encode()).hexdigest()


def _version(mlflow: ModuleType, name: str, package: Path, exports: Path | None, card: str, run: str) -> str:
    """The version of the registered model `name` that is this package with its formats and this card; made where there
    is none.

    Whatever an attempt that was cut off had done is used: the logged model if it is whole, the version if it is there.
    """
    client = mlflow.MlflowClient()
    digest = _digest(package, exports, card)

    def same() -> list[Any]:
        known = client.search_model_versions(f"name = '{name}'")
        return sorted((v for v in known if v.tags.get(PACKAGE_TAG) == digest), key=lambda version: int(version.version))

    if not same():
        logged = whole_model(mlflow, run)
        if logged is None:
            with mlflow.start_run(run_id=run):
                logged = log_model(mlflow, package, exports, card).model_id
        mlflow.register_model(f"models:/{logged}", name, tags={PACKAGE_TAG: digest})
    version, *twice = same()
    for other in twice:  # a request whose answer was lost was sent again
        if other.run_id == run and not client.get_model_version(name, other.version).aliases:
            client.delete_model_version(name, other.version)
    if version.description != card:
        client.update_model_version(name, version.version, description=card)
    if version.run_id == run:
        remove_other_models(mlflow, run, version.source.rpartition("/")[2])
    return str(version.version)
