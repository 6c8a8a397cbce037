"""The facts of a finished run that are recorded. They are read from files of the workspace, without a server."""

import hashlib
import re
from pathlib import Path
from typing import Any

import pandas as pd

from fetalflow.artefacts import file_digest, read_json
from fetalflow.models.package_files import CONFIG
from fetalflow.registry.provenance import provenance

START = "fetalflow.started_from"  # tag: digest of the package that the training started from
BEGINNING = "fetalflow.pretrained"  # tag: digest of the weights of the pretraining that it began with
DISTILLED = "fetalflow.distilled"  # tag: how many teachers the network learned from
START_VERSION, START_RUN = f"{START}.version", f"{START}.run"  # its model version, and the pipeline run of that version
ENGINES = {"ms": "latency", "ms_p95": "latency"} | dict.fromkeys(("passed", "macro_f1_loss", "bytes"), "engine")
BOUNDS = ("_low", "_high")  # endings of the two ends of an interval
PER_CLASS, PER_SITE = ("f1", "precision", "recall"), ("accuracy", "mean_class_f1", "false_alarm_rate")


def start_tags(package: Path) -> dict[str, str]:
    """The tags of a package whose training started from an earlier model or from a pretraining, or learned from
    teachers; else empty."""
    config = read_json(package / CONFIG)
    start, distilled = config.get("started_from", {}), config.get("distilled")
    keys = {START: "package", START_VERSION: "version", START_RUN: "run"}
    tags = {tag: start[key] for tag, key in keys.items() if key in start}
    tags |= {BEGINNING: config["pretraining"]["weights"]} if "pretraining" in config else {}
    return tags | ({DISTILLED: f"{distilled['teachers']} teachers"} if distilled else {})


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


def headline(metrics: dict[str, Any]) -> dict[str, Any]:
    """`test/accuracy` and so on: the metrics of metrics.json without their intervals."""
    return {f"test/{key}": value for key, value in metrics.items() if not key.endswith(BOUNDS)}


def scores(metrics: dict[str, Any], score: dict[str, Any]) -> dict[str, Any]:
    """The metrics of a variant by their names in MLflow, which shows names with the same text before the last slash
    together: `test/accuracy`, `interval/accuracy_low`, `test/f1/head`, `site/A/accuracy`.

    metrics: from metrics.json. score: the variant's score.json, for classes and sites.
    """
    named = headline(metrics) | {f"interval/{key}": v for key, v in metrics.items() if key.endswith(BOUNDS)}
    for row in score.get("per_class") or ():
        named |= {f"test/{key}/{as_part(row['label'])}": row.get(key) for key in PER_CLASS}
    for row in score.get("slices", {}).get("site", ()):
        named |= {f"site/{as_part(row['site'])}/{key}": row.get(key) for key in PER_SITE}
    certainty = score.get("certainty") or {"metrics": {}}
    named |= {f"test/certainty/{key}": value for key, value in certainty["metrics"].items()}
    for row in (certainty.get("labels") or {}).get("by_site", ()):
        named[f"site/{as_part(row['site'])}/coverage"] = row["coverage"]
    return named


def as_part(name: str) -> str:
    """The name of a label or a site as one part of the name of a metric. MLflow refuses a part that has dots only, and
    it takes a slash for the beginning of a new part."""
    part = re.sub(r"[^\w\-. ]", "_", str(name)).strip()[:80]
    return part if part.strip(". ") else "_"


def curve_points(curves: pd.DataFrame) -> list[tuple[str, float, int]]:
    """(name, value, epoch) of every curve: `curves/val_loss`. MLflow's page sorts groups by name, so that these charts
    come first. With several folds or seeds, their numbers follow, as in `curves/val_loss/fold 0 seed 1`."""
    runs = curves.groupby(["fold", "seed"])
    points = []
    for (fold, seed), run in runs:
        ending = f"/fold {fold} seed {seed}" if runs.ngroups > 1 else ""
        for column in run.columns.drop(["fold", "seed", "epoch"]):
            name = f"curves/{column}{ending}"
            points += [(name, v, int(e)) for v, e in zip(run[column], run["epoch"], strict=True)]
    return points


def engine_figures(judged: dict[str, Any]) -> dict[str, Any]:
    """The most important numbers of export.json: `latency/ms/int8`, `engine/bytes/int8`, `stream/ms/int8`."""
    figures = {f"{group}/{k}/{row['engine']}": row.get(k) for row in judged["engines"] for k, group in ENGINES.items()}
    return figures | {f"stream/ms/{row['engine']}": row.get("ms") for row in judged.get("stream", ())}


def flatten(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"train": {"batch": 4}}` as `{"train.batch": 4}`."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
