"""The facts of a finished run that are recorded. They are read from files of the workspace, without a server."""

import hashlib
from pathlib import Path
from typing import Any

import pandas as pd

from fetalflow.artefacts import file_digest, read_json
from fetalflow.models.weights import CONFIG
from fetalflow.registry.provenance import provenance

START = "fetalflow.started_from"  # tag: digest of the package that the training started from
START_VERSION, START_RUN = f"{START}.version", f"{START}.run"  # its model version, and the pipeline run of that version
NOT_METRICS = ("engine", "reasons")  # columns of export.json


def start_tags(package: Path) -> dict[str, str]:
    """The tags of a package whose training started from an earlier model; empty if it started from random weights."""
    start = read_json(package / CONFIG).get("started_from", {})
    keys = {START: "package", START_VERSION: "version", START_RUN: "run"}
    return {tag: start[key] for tag, key in keys.items() if key in start}


def inputs_digest(task: str, workspace: Path) -> str:
    """SHA-256, hex, of all files that a run logs."""
    reports, data = workspace / "reports" / task, workspace / "data" / task
    files = [workspace / "params.yaml", data / "manifest.parquet", data / "split.parquet"]
    files += [f for f in reports.rglob("*") if f.name != "registered.json"]
    files += [*(data / "predictions").glob("*.csv"), *(data / "measured").glob("*.csv")]
    files += (workspace / "models" / task).glob(f"*/{CONFIG}")
    lines = [f"{f.relative_to(workspace).as_posix()} {file_digest(f)}" for f in sorted(set(files)) if f.is_file()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def run_tags(task: str, workspace: Path, digest: str) -> dict[str, str]:
    """Where the run comes from. dvc.lock does not contain the stage `register` yet: DVC adds it afterwards."""
    origin = provenance(workspace)
    git = origin["git"] or {}
    verdict = workspace / "reports" / task / "quality" / "verdict.json"
    passed = read_json(verdict)["success"] if verdict.is_file() else None
    tags = {
        "task": task,
        "data_digest": digest,
        "dvc_lock_digest": origin["dvc_lock"],
        "quality": None if passed is None else "passed" if passed else "failed",
        "git_commit": git.get("commit"),
        "git_branch": git.get("branch"),
        "git_dirty": git.get("dirty"),
        "mlflow.source.git.commit": git.get("commit"),
        "mlflow.source.name": "fetalflow",
        "machine": ", ".join(str(v) for v in origin["machine"].values() if v),
    }
    tags |= {f"version.{package}": version for package, version in origin["versions"].items()}
    return {key: str(value) for key, value in tags.items() if value is not None}


def curve_points(curves: pd.DataFrame) -> list[tuple[str, float, int]]:
    """(name, value, epoch) of every curve; with several folds or seeds, their numbers are part of the name."""
    runs = curves.groupby(["fold", "seed"])
    points = []
    for (fold, seed), run in runs:
        prefix = f"fold {fold} seed {seed}/" if runs.ngroups > 1 else ""
        for column in run.columns.drop(["fold", "seed", "epoch"]):
            points += [(prefix + column, v, int(e)) for v, e in zip(run[column], run["epoch"], strict=True)]
    return points


def engine_figures(judged: dict[str, Any]) -> dict[str, Any]:
    """`engine.int8.ms`, `stream.int8.ms` and so on: every number of export.json by engine, `passed` as 1 or 0."""
    rows = {f"engine.{row['engine']}.": row for row in judged["engines"]}
    rows |= {f"stream.{row['engine']}.": row for row in judged.get("stream", ())}
    return {start + key: value for start, row in rows.items() for key, value in row.items() if key not in NOT_METRICS}


def flatten(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"train": {"batch": 4}}` as `{"train.batch": 4}`."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
