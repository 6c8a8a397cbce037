"""Logging that was cut off and is done again: what of it counts, and what is put in MLflow's trash.

A run counts when it ended well. A killed stage or a lost server leaves one that did not; and MLflow's client sends a
request again when its answer is lost, so that a run, a version or a logged model may be there twice.
"""

from types import ModuleType
from typing import Any

from fetalflow.logged_run import INPUTS_TAG


def finished_run(mlflow: ModuleType, experiment: str, inputs: str) -> str | None:
    """The run that logged the same files and ended well."""
    runs = _runs(mlflow, experiment, INPUTS_TAG, inputs)
    return next((run.info.run_id for run in reversed(runs) if run.info.status == "FINISHED"), None)


def variant_runs(mlflow: ModuleType, experiment: str, parent: str) -> dict[str, str]:
    """Run id by variant, in the order they were logged."""
    runs = _runs(mlflow, experiment, "mlflow.parentRunId", parent)
    return {run.data.tags["variant"]: run.info.run_id for run in reversed(runs)}


def remove_torn_runs(mlflow: ModuleType, experiment: str, inputs: str, kept: str | None) -> None:
    """Delete every run that logged these files, with its variants, but `kept`; and of `kept` the variants that are
    there twice and did not end well. MLflow can restore them; those that still say "Running" are ended as killed first.
    """
    client = mlflow.MlflowClient()
    for run in _runs(mlflow, experiment, INPUTS_TAG, inputs):
        torn = variants = _runs(mlflow, experiment, "mlflow.parentRunId", run.info.run_id)
        if run.info.run_id == kept:
            # A variant without a finished run was opened again to log its model, which was cut off: that is finished
            # later. Its doubles, if there were any, went before it was opened.
            whole = {v.data.tags["variant"] for v in variants if v.info.status == "FINISHED"}
            torn = [v for v in variants if v.info.status != "FINISHED" and v.data.tags["variant"] in whole]
        for left in torn if run.info.run_id == kept else [*torn, run]:
            if left.info.status == "RUNNING":
                client.set_terminated(left.info.run_id, "KILLED")
            client.delete_run(left.info.run_id)


def end_well(mlflow: ModuleType, run: str) -> None:
    """Where logging its model was cut off and is whole now, the run of a variant says so."""
    if mlflow.MlflowClient().get_run(run).info.status != "FINISHED":
        mlflow.MlflowClient().set_terminated(run)


def whole_model(mlflow: ModuleType, run: str) -> str | None:
    """Id of the logged model of a run whose files are all there."""
    return next((model.model_id for model in _models(mlflow, run) if model.status == "READY"), None)


def remove_other_models(mlflow: ModuleType, run: str, kept: str) -> None:
    """Delete the logged models of a run but `kept`, which is the registered one."""
    for model in _models(mlflow, run):
        if model.model_id != kept:
            mlflow.MlflowClient().delete_logged_model(model.model_id)


def _runs(mlflow: ModuleType, experiment: str, tag: str, value: str) -> list[Any]:
    """The newest first."""
    return list(mlflow.MlflowClient().search_runs([experiment], f"tags.`{tag}` = '{value}'"))


def _models(mlflow: ModuleType, run: str) -> list[Any]:
    client = mlflow.MlflowClient()
    experiment = client.get_run(run).info.experiment_id
    return list(client.search_logged_models([experiment], f"source_run_id = '{run}'"))
