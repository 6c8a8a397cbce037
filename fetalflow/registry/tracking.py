"""Log a finished run to MLflow and register its model. The only file of the library that imports MLflow.

Everything is read from the files of the workspace after all of them are written. So training needs no server, and if
the server is out of reach, only this step must be repeated.
"""

import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from fetalflow.errors import InputError, TrackingFailed
from fetalflow.inference.engines.choice import JUDGED, exports_of, read_judged
from fetalflow.models.package_files import CONFIG
from fetalflow.registry.address import DATABASE, EMBEDDED, public_uri, require_store, tracking_uri
from fetalflow.registry.client import Registry
from fetalflow.registry.embedded_database import prepare_database
from fetalflow.registry.interrupted_logging import (
    complete_model,
    finished_run,
    remove_live_runs,
    remove_other_models,
    remove_unfinished_runs,
    set_finished,
    variant_runs,
)
from fetalflow.registry.ledger.anchor import known_run
from fetalflow.registry.logged_model import log_model
from fetalflow.registry.logged_run import log_pipeline
from fetalflow.registry.model_card import model_card
from fetalflow.registry.moved_store import ARTEFACTS
from fetalflow.registry.registered_files import PACKAGE_TAG, registered_digest
from fetalflow.registry.run_record import inputs_digest
from fetalflow.registry.version_page import card_of
from fetalflow.settings.params import Settings
from fetalflow.settings.tasks import get_task

# MLflow's page then shows runs and charts, and not the traces of language models.
EXPERIMENT_KIND = {"mlflow.experimentKind": "custom_model_development"}
QUIET = {  # environment variables
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # with the default of 7, a person waits for minutes
    "GIT_PYTHON_REFRESH": "quiet",
}
MLMODEL = "MLmodel"  # the file of a logged model that says where in it the package is
NOISY_LOGGERS = ("mlflow.store.db.utils", "alembic", "mlflow.tracking._model_registry")


def log_run(task: str, settings: Settings, workspace: Path = Path()) -> dict[str, Any]:
    """Log the finished run of `task` in `workspace` and register its main model; return what registered.json holds.

    The pipeline gets one parent run, each variant a child run. If the same files are logged again, there is no second
    run and no second version, even if the call before was interrupted. The alias is not moved: record_move of
    fetalflow.registry.ledger.record does that, with `evidence`, the digest of everything that was logged. Raises
    TrackingFailed when the server is out of reach, InputError when the run is not finished.
    """
    register = settings.blocks[task].register_
    variant = settings.tasks[task].variant
    package = workspace / "models" / task / variant
    reports = workspace / "reports" / task
    for needed in (package / CONFIG, reports / "metrics.json", reports / "report.html"):
        if not needed.is_file():
            raise InputError(f"{needed} is missing: only a finished run can be registered. Run the earlier stages.")
    card, exports = model_card(task, settings, workspace), _exports(package)
    uri = tracking_uri()
    with _mlflow(uri) as mlflow:
        experiment = _experiment(mlflow, register.experiment, workspace)
        inputs = inputs_digest(task, workspace)
        parent = finished_run(mlflow, experiment, inputs)
        remove_unfinished_runs(mlflow, experiment, inputs, parent)
        if parent is None:
            parent = log_pipeline(mlflow, experiment, inputs, task, settings, workspace)
            remove_unfinished_runs(mlflow, experiment, inputs, parent)
        runs = variant_runs(mlflow, experiment, parent)
        version = _registered_version(mlflow, register.model, package, exports, card, runs[variant])
        _describe(mlflow, register.model, task, register.alias, settings.blocks[task].promote.champion)
        set_finished(mlflow, runs[variant])
        remove_live_runs(mlflow, public_uri(uri), workspace / "live" / task)
    return {
        "model_uri": f"models:/{register.model}@{register.alias}",
        "name": register.model,
        "version": str(version),
        "alias": register.alias,
        "tracking_uri": public_uri(uri),
        "experiment": register.experiment,
        "experiment_id": experiment,
        "run_id": parent,
        "evidence": inputs,
        "variants": runs,
    }


def numbered(model_uri: str) -> str:
    """`models:/NAME@ALIAS` as `models:/NAME/VERSION`, which stays the same model when the alias moves.

    Raises InputError when there is no such model, TrackingFailed when the server is out of reach.
    """
    name, at, alias = model_uri.removeprefix("models:/").partition("@")
    if not at:
        return model_uri
    with _holding(model_uri) as mlflow:
        return f"models:/{name}/{mlflow.MlflowClient().get_model_version_by_alias(name, alias).version}"


def download_package(model_uri: str) -> Path:
    """Download the model package `models:/NAME@ALIAS` (or /VERSION) from the tracking server; return its folder.

    Raises InputError when there is no such model, TrackingFailed when the server is out of reach.
    """
    with _holding(model_uri) as mlflow, tempfile.TemporaryDirectory() as scratch:
        place, listed = _repository(model_uri), Path(scratch, MLMODEL)
        if MLMODEL not in {entry.path for entry in place.list_artifacts(None)}:
            raise InputError(f"{model_uri}: its files are not in the store of {public_uri(tracking_uri())}.")
        place._download_file(MLMODEL, str(listed))
        flavour = mlflow.models.Model.load(listed).flavors.get("python_function", {})
        # Without the source beside it, which has ten times as many files.
        package = Path(place.download_artifacts(flavour.get("data", "")))
    if not (package / CONFIG).is_file():
        raise InputError(f"{model_uri} is not a model package of fetalflow (it has no {CONFIG}).")
    return package


@contextmanager
def _holding(model_uri: str) -> Iterator[ModuleType]:
    """MLflow with the store that should hold a model. Raises InputError if the block finds no such model there."""
    uri = tracking_uri()
    require_store(uri)
    with _mlflow(uri) as mlflow:
        try:
            yield mlflow
        except mlflow.exceptions.MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise InputError(f"{model_uri} is not in the registry at {public_uri(uri)}: {error.message}") from None
            raise


@contextmanager
def registry() -> Iterator[Registry]:
    """Models, aliases, ledger and runs of the tracking server, or of the embedded store in the current folder.

    Raises InputError when there is no store here, TrackingFailed when the server is out of reach or fails.
    """
    uri = tracking_uri()
    require_store(uri)
    with _mlflow(uri) as mlflow:
        client, failure, artefacts = (
            mlflow.MlflowClient(),
            mlflow.exceptions.MlflowException,
            _artefacts(mlflow, Path()),
        )
        yield Registry(client, failure, artefacts, _repository, *known_run())


def _repository(uri: str) -> Any:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(uri)


@contextmanager
def _mlflow(uri: str) -> Iterator[ModuleType]:
    """The module mlflow with the tracking URI `uri`. Its failures become TrackingFailed with a short message."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import mlflow
    import requests

    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    where = public_uri(uri)
    try:
        if uri == EMBEDDED:
            prepare_database(mlflow)
        # With the full path, because MLflow caches stores by URI and does not notice another current folder.
        mlflow.set_tracking_uri(f"sqlite:///{Path(DATABASE).resolve()}" if uri == EMBEDDED else uri)
        if uri == EMBEDDED:  # else this path, which MLflow puts there, is the store of every later workspace
            os.environ.pop("MLFLOW_TRACKING_URI", None)
        mlflow.MlflowClient().search_experiments(max_results=1)
    except (mlflow.exceptions.MlflowException, requests.RequestException) as error:
        raise TrackingFailed(f"MLflow at {where} is out of reach ({_first_line(error, uri)}).") from error
    try:
        with warnings.catch_warnings():
            # Hints about integer columns and input examples, which are meant for models of tables.
            warnings.simplefilter("ignore", UserWarning)
            yield mlflow
    except (mlflow.exceptions.MlflowException, requests.RequestException) as error:
        raise TrackingFailed(f"MLflow at {where} failed: {_first_line(error, uri)}") from error


def _first_line(error: Exception, uri: str) -> str:
    """The first line of an error message, without the password that MLflow repeats in it."""
    return str(error).strip().split("\n")[0].replace(uri, public_uri(uri))[:300]


def _experiment(mlflow: ModuleType, name: str, workspace: Path) -> str:
    """The id of an experiment; it is made if there is none."""
    found = mlflow.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage == "deleted":
        raise InputError(
            f"the MLflow experiment {name!r} was deleted. Restore it, or choose another name: "
            "--set TASK.register.experiment=NAME."
        )
    if found is None:
        return mlflow.create_experiment(name, _artefacts(mlflow, workspace), EXPERIMENT_KIND)
    for tag in EXPERIMENT_KIND.keys() - found.tags.keys():  # made by an earlier fetalflow
        mlflow.MlflowClient().set_experiment_tag(found.experiment_id, tag, EXPERIMENT_KIND[tag])
    return found.experiment_id


def _artefacts(mlflow: ModuleType, workspace: Path) -> str | None:
    """URI of the embedded store's artefacts, next to its database; None for a server, which has a setting for it."""
    local = mlflow.get_tracking_uri().startswith("sqlite:")
    return (workspace / ARTEFACTS).resolve().as_uri() if local else None


def _exports(package: Path) -> Path | None:
    """The folder of the package's exported formats; None if the run has no export stage.

    Raises InputError if they were exported from other weights.
    """
    exports = exports_of(package)
    if not (exports / JUDGED).is_file():
        return None
    if read_judged(package) is None:
        raise InputError(f"{exports} was exported from other weights than those in {package}. Run the export stage.")
    return exports


def _describe(mlflow: ModuleType, name: str, task: str, challenger: str, champion: str) -> None:
    """Describe a registered model that has no description yet; what a person wrote there stays."""
    client = mlflow.MlflowClient()
    if not client.get_registered_model(name).description:
        text = (
            f"{get_task(task).title}. Each version is the main network of one finished run of fetalflow's task {task}; "
            f"its description is its model card. Alias {challenger}: the newest version. Alias {champion}: the version "
            "in use. For research, not a medical device."
        )
        client.update_registered_model(name, description=text)


def _registered_version(mlflow: ModuleType, name: str, package: Path, exports: Path | None, card: str, run: str) -> str:
    """The version of the registered model `name` with this package, its formats and this card; made if there is none.

    The results of an interrupted attempt are used: a logged model if it is complete, a version if it exists.
    """
    client = mlflow.MlflowClient()
    digest = registered_digest(package, exports, card)

    def versions() -> list[Any]:
        known = client.search_model_versions(f"name = '{name}'")
        return sorted((v for v in known if v.tags.get(PACKAGE_TAG) == digest), key=lambda version: int(version.version))

    if not versions():
        logged = complete_model(mlflow, run)
        if logged is None:
            with mlflow.start_run(run_id=run):
                logged = log_model(mlflow, package, exports, card).model_id
        mlflow.register_model(f"models:/{logged}", name, tags={PACKAGE_TAG: digest})
    version, *duplicates = versions()
    for duplicate in duplicates:  # MLflow's client repeats a request when the response is lost
        if duplicate.run_id == run and not client.get_model_version(name, duplicate.version).aliases:
            client.delete_model_version(name, duplicate.version)
    shown = card_of(version.description)  # before it may be the verdict of a promotion, and then a long card is cut
    if not shown or not card.startswith(shown):
        client.update_model_version(name, version.version, description=card)
    if version.run_id == run:
        remove_other_models(mlflow, run, version.source.rpartition("/")[2])
    return str(version.version)
