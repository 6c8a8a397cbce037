"""Logging after an interruption: which runs and models are kept, and which are deleted (MLflow can restore them).

A run is kept if its status is FINISHED. A killed stage or a lost connection leaves a run that is not finished. MLflow's
client repeats a request when the response is lost, so a run, a version or a logged model may exist twice.
"""

from pathlib import Path
from types import ModuleType
from typing import Any

from fetalflow.artefacts import read_json
from fetalflow.registry.logged_run import INPUTS_TAG


def finished_run(mlflow: ModuleType, experiment: str, inputs: str) -> str | None:
    """Id of the finished run that logged the same files; None if there is none."""
    runs = _runs(mlflow, experiment, INPUTS_TAG, inputs)
    return next((run.info.run_id for run in reversed(runs) if run.info.status == "FINISHED"), None)


def variant_runs(mlflow: ModuleType, experiment: str, parent: str) -> dict[str, str]:
    """Run id by variant, in the order of logging."""
    runs = _runs(mlflow, experiment, "mlflow.parentRunId", parent)
    return {run.data.tags["variant"]: run.info.run_id for run in reversed(runs)}


def remove_unfinished_runs(mlflow: ModuleType, experiment: str, inputs: str, kept: str | None) -> None:
    """Delete every run that logged these files, with the runs of its variants, except `kept`. Of `kept`, delete a
    variant's unfinished run if the variant also has a finished one. Runs with the status RUNNING are set to KILLED.
    """
    client = mlflow.MlflowClient()
    for run in _runs(mlflow, experiment, INPUTS_TAG, inputs):
        unwanted = variants = _runs(mlflow, experiment, "mlflow.parentRunId", run.info.run_id)
        if run.info.run_id == kept:
            # A variant without a finished run was opened again to log its model, and that was interrupted: it is
            # finished later. Its duplicates, if there were any, were deleted before it was opened.
            finished = {v.data.tags["variant"] for v in variants if v.info.status == "FINISHED"}
            unwanted = [v for v in variants if v.info.status != "FINISHED" and v.data.tags["variant"] in finished]
        for one in unwanted if run.info.run_id == kept else [*unwanted, run]:
            if one.info.status == "RUNNING":
                client.set_terminated(one.info.run_id, "KILLED")
            client.delete_run(one.info.run_id)


def remove_live_runs(mlflow: ModuleType, server: str, folder: Path) -> None:
    """Delete the runs that showed the trainings of `folder` on this server while they ran: the logged runs have their
    curves. The train stage leaves a record of each in `folder` (stages/runtime/live_server.py)."""
    client = mlflow.MlflowClient()
    for file in sorted(folder.glob("*/*/mlflow.json")):
        record = read_json(file)
        if record["server"] == server:
            runs = client.search_runs([record["experiment_id"]], f"attributes.run_id = '{record['run_id']}'")
            for run in runs:  # none if a person deleted it
                if run.info.status == "RUNNING":
                    client.set_terminated(run.info.run_id, "KILLED")
                client.delete_run(run.info.run_id)
            file.unlink()


def set_finished(mlflow: ModuleType, run: str) -> None:
    """Give a variant's run the status FINISHED, which it lacks if logging its model was interrupted before."""
    if mlflow.MlflowClient().get_run(run).info.status != "FINISHED":
        mlflow.MlflowClient().set_terminated(run)


def complete_model(mlflow: ModuleType, run: str) -> str | None:
    """Id of a run's logged model with all its files; None if there is none."""
    return next((model.model_id for model in _models(mlflow, run) if model.status == "READY"), None)


def remove_other_models(mlflow: ModuleType, run: str, kept: str) -> None:
    """Delete the logged models of a run except `kept`, which is the registered one."""
    for model in _models(mlflow, run):
        if model.model_id != kept:
            mlflow.MlflowClient().delete_logged_model(model.model_id)


def _runs(mlflow: ModuleType, experiment: str, tag: str, value: str) -> list[Any]:
    """Newest first."""
    return list(mlflow.MlflowClient().search_runs([experiment], f"tags.`{tag}` = '{value}'"))


def _models(mlflow: ModuleType, run: str) -> list[Any]:
    client = mlflow.MlflowClient()
    experiment = client.get_run(run).info.experiment_id
    return list(client.search_logged_models([experiment], f"source_run_id = '{run}'"))
