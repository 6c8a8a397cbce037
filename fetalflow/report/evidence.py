"""The files of a finished run, read once for the report. A file that an optional step did not write is None."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from fetalflow.artefacts import read_json
from fetalflow.errors import InputError
from fetalflow.models.building import build
from fetalflow.models.package_files import CONFIG
from fetalflow.settings.params import Settings
from fetalflow.settings.tasks import Task, get_task


@dataclass(frozen=True)
class Evidence:
    """The artefacts of one task; dictionaries by variant have the main variant first."""

    name: str
    task: Task
    settings: Settings
    main: str
    manifest: pd.DataFrame
    split: pd.DataFrame
    metrics: dict[str, dict[str, Any]]
    scores: dict[str, dict[str, Any]]
    roc: dict[str, pd.DataFrame]
    curves: dict[str, pd.DataFrame]
    configs: dict[str, dict[str, Any]]
    mistakes: pd.DataFrame
    quarantine: pd.DataFrame | None
    extract: dict[str, Any] | None
    split_summary: dict[str, Any] | None
    verdict: dict[str, Any] | None
    export: dict[str, Any] | None
    measured: dict[str, dict[str, Any]]  # measurements.json of the variants that measure
    significance: dict[str, Any] | None
    explain: dict[str, Any] | None
    explain_folder: Path

    @property
    def synthetic(self) -> bool:
        return self.name in self.settings.phantoms

    @property
    def still(self) -> bool:
        """Whether a sequence is one frame."""
        return self.configs[self.main]["frames"] == 1

    @property
    def units(self) -> str:
        """The word for sequences on the page."""
        return "images" if self.still else "sequences"

    @property
    def with_labels(self) -> list[str]:
        """The variants whose answers distinguish labels."""
        return [variant for variant, row in self.metrics.items() if row["accuracy"] is not None]

    @property
    def latency(self) -> dict[str, Any] | None:
        """note, machine, and the latency of each variant; timed in the export stage, together with the engines."""
        return (self.export or {}).get("latency")

    @property
    def comparisons(self) -> dict[str, dict[str, Any]]:
        """The main variant compared with each other variant; empty where there is none."""
        return (self.significance or {}).get("comparisons") or {}

    @cached_property
    def pretrained(self) -> dict[str, int]:
        """Number of pretrained parameters by variant; variants without any are left out."""
        counts = {variant: _pretrained(config) for variant, config in self.configs.items()}
        return {variant: count for variant, count in counts.items() if count}


def read_evidence(name: str, settings: Settings, workspace: Path = Path()) -> Evidence:
    """Read the results of the earlier stages. Raises InputError naming the stage whose result is missing."""
    reports, data, models = (workspace / folder / name for folder in ("reports", "data", "models"))
    evaluation = reports / "evaluation"
    for path, stage in {
        data / "manifest.parquet": "preprocess",
        data / "split.parquet": "split",
        reports / "metrics.json": "evaluate",
    }.items():
        if not path.is_file():
            raise InputError(f"{path} is missing. Run the {stage} stage first.")
    main, metrics = settings.tasks[name].variant, read_json(reports / "metrics.json")
    if main not in metrics:
        raise InputError(f"{reports / 'metrics.json'} has no metrics of {main}, only of {', '.join(metrics)}.")
    variants = [main, *(v for v in settings.variants(name) if v in metrics and v != main)]
    curves = {v: reports / "curves" / f"{v}.csv" for v in variants}
    measured = {v: _optional(evaluation / f"{v}-measurements.json") for v in variants}
    quarantine = data / "quarantine.csv"
    return Evidence(
        name=name,
        task=get_task(name),
        settings=settings,
        main=main,
        manifest=pd.read_parquet(data / "manifest.parquet"),
        split=pd.read_parquet(data / "split.parquet"),
        metrics={v: metrics[v] for v in variants},
        scores={v: read_json(evaluation / f"{v}-score.json") for v in variants},
        roc={v: pd.read_csv(evaluation / f"{v}-roc.csv", dtype={"class": str}) for v in variants},
        curves={v: pd.read_csv(path) for v, path in curves.items() if path.is_file()},
        configs={v: read_json(models / v / CONFIG) for v in variants},
        mistakes=_mistakes(data / "predictions" / f"{main}.csv", metrics[main]["accuracy"] is not None),
        quarantine=pd.read_csv(quarantine, dtype=str, keep_default_na=False) if quarantine.is_file() else None,
        extract=_optional(reports / "extract.json"),
        split_summary=_optional(reports / "split.json"),
        verdict=_optional(reports / "quality" / "verdict.json"),
        export=_optional(reports / "export.json"),
        measured={v: found for v, found in measured.items() if found},
        significance=_optional(reports / "significance.json"),
        explain=_optional(reports / "explain" / "explain.json"),
        explain_folder=reports / "explain",
    )


def _pretrained(config: dict[str, Any]) -> int:
    with torch.device("meta"):  # shapes only
        network = build(config["network"], config["frames"], config["size"], len(config["labels"]), **config["options"])
    return sum(p.numel() for p in network.pretrained_parameters()) if hasattr(network, "pretrained_parameters") else 0


def _optional(path: Path) -> Any:
    return read_json(path) if path.is_file() else None


def _mistakes(predictions: Path, has_labels: bool) -> pd.DataFrame:
    """sequence, patient, site, device, y_true, y_pred, probability (of y_pred), true_probability (of y_true) of the
    wrong test rows, the most confident first; no rows for a variant that does not distinguish labels."""
    table = pd.read_csv(
        predictions, dtype={c: str for c in ("sequence", "patient", "site", "device", "y_true", "y_pred")}
    )
    wrong = table[(table["part"] == "test") & (table["y_true"] != table["y_pred"]) & has_labels]
    by_label = wrong.filter(regex="^p_").rename(columns=lambda c: c.removeprefix("p_"))

    def probability(column: str) -> list[float]:
        return [by_label.at[i, label] if label in by_label else float("nan") for i, label in wrong[column].items()]

    wrong = wrong.assign(probability=probability("y_pred"), true_probability=probability("y_true"))
    columns = ["sequence", "patient", "site", "device", "y_true", "y_pred", "probability", "true_probability"]
    wrong = wrong.reindex(columns=columns).fillna({"site": "–", "device": "–"})
    return wrong.sort_values("probability", ascending=False, ignore_index=True)
