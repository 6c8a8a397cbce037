"""A finished run in MLflow: a parent run for the pipeline, and a child run for each variant."""

import math
import re
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from fetalflow.artefacts import read_json
from fetalflow.evaluation.predictions import predictions_of
from fetalflow.inference.engines.choice import JUDGED
from fetalflow.models.package_files import CONFIG
from fetalflow.registry.lineage import PATIENTS, patients_csv
from fetalflow.registry.provenance import data_digest
from fetalflow.registry.run_origin import read_origin
from fetalflow.registry.run_record import curve_points, engine_figures, flatten, headline, run_tags, scores, start_tags
from fetalflow.settings.params import Settings

INPUTS_TAG = "fetalflow.inputs"  # digest of all files that a run logs, so that the same files are logged only once
BATCH = 500  # metrics per request; MLflow accepts at most 1000


def log_pipeline(
    mlflow: ModuleType, experiment: str, inputs: str, task: str, settings: Settings, workspace: Path
) -> str:
    """Log the parent run and its child runs; return the id of the parent."""
    # With its whole path, so that `get_source().load()` finds it from every folder of this machine.
    source = (workspace / "data" / task / "manifest.parquet").resolve()
    manifest = pd.read_parquet(source)
    reports = workspace / "reports" / task
    split = pd.read_parquet(workspace / "data" / task / "split.parquet")
    digest = data_digest(manifest)
    dataset = mlflow.data.from_pandas(manifest, source=str(source), name=task, digest=digest[:36])
    origin = read_origin(task, settings, workspace)
    tags = run_tags(task, workspace, digest) | origin.tags
    parameters = flatten(settings.tasks[task].model_dump(mode="json"), "task.")
    parameters |= flatten(settings.blocks[task].model_dump(mode="json", by_alias=True))
    metrics = read_json(reports / "metrics.json")
    main = settings.tasks[task].variant
    models = workspace / "models" / task
    started = start_tags(models / main) | {INPUTS_TAG: inputs}
    with mlflow.start_run(experiment_id=experiment, run_name=origin.words, tags=tags | started) as parent:
        # First, so that the lineage of a patient finds this run even if it is interrupted after this line.
        mlflow.log_text(patients_csv(manifest, split, _pretrained(models / main, reports)), PATIENTS)
        mlflow.log_input(dataset, context="all parts")
        _log_parameters(mlflow, parameters)
        _log_metrics(mlflow, _once(headline(metrics[main])))
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
            variant_tags = tags | {"variant": variant} | start_tags(models / variant)
            name = f"{variant} · {origin.words}"
            with mlflow.start_run(experiment_id=experiment, run_name=name, nested=True, tags=variant_tags):
                mlflow.log_input(dataset, context="all parts")
                _log_parameters(mlflow, parameters)
                score = read_json(reports / "evaluation" / f"{variant}-score.json")
                _log_metrics(mlflow, _once(scores(figures, score)))
                _log_variant(mlflow, task, variant, workspace)
    return parent.info.run_id


def _pretrained(package: Path, reports: Path) -> pd.DataFrame | None:
    """Patient and site of the files that a package was pretrained on; None if it was not."""
    files = reports / "pretrain" / "files.csv"
    if "pretraining" not in read_json(package / CONFIG) or not files.is_file():
        return None
    return pd.read_csv(files, dtype=str, keep_default_na=False)


def _log_variant(mlflow: ModuleType, task: str, variant: str, workspace: Path) -> None:
    reports, data = workspace / "reports" / task, workspace / "data" / task
    mlflow.log_artifact(str(predictions_of(data, variant)))
    mlflow.log_artifact(str(workspace / "models" / task / variant / CONFIG), "package")
    for folder in ("evaluation", "figures"):
        for path in sorted((reports / folder).glob(f"{variant}-*")):
            mlflow.log_artifact(str(path), folder)
    curves = pd.read_csv(reports / "curves" / f"{variant}.csv")
    _log_metrics(mlflow, curve_points(curves))
    judged = read_json(reports / JUDGED) if (reports / JUDGED).is_file() else {}
    if judged.get("variant") == variant:
        mlflow.log_artifact(str(reports / JUDGED))
        _log_metrics(mlflow, _once(engine_figures(judged)))


def _log_parameters(mlflow: ModuleType, parameters: dict[str, Any]) -> None:
    mlflow.log_params({key: str(value)[:6000] for key, value in parameters.items()})


def _once(figures: dict[str, Any]) -> list[tuple[str, Any, int]]:
    return [(name, value, 0) for name, value in figures.items()]


def _log_metrics(mlflow: ModuleType, points: list[tuple[str, Any, int]]) -> None:
    """Log (name, value, step). A value that is not a finite number, such as an undefined metric, is left out."""
    now = int(time.time() * 1000)
    metrics = [
        mlflow.entities.Metric(re.sub(r"[^\w\-./ :]", "_", name), float(value), now, step)
        for name, value, step in points
        if isinstance(value, (int, float)) and math.isfinite(value)
    ]
    run = mlflow.active_run().info.run_id
    for start in range(0, len(metrics), BATCH):
        mlflow.MlflowClient().log_batch(run, metrics=metrics[start : start + BATCH])
