"""Every variant's test predictions to metrics, figures' data and latency (paper Table 4, Figs. 12 and 13)."""

from pathlib import Path

import pandas as pd
import torch

from fetalflow.artefacts import atomic_folder, write_json, write_table
from fetalflow.evaluation.latency import NOTE, machine, measure
from fetalflow.evaluation.predictions import read_predictions
from fetalflow.evaluation.scoring import confusion_rows, roc_points, score
from fetalflow.settings import load_settings

HEADLINE = ("accuracy", "accuracy_low", "accuracy_high", "f1_of_macros", "auc", "ece", "n_sequences", "n_patients")


def main(task: str) -> None:
    settings = load_settings()
    evaluate, variants = settings.blocks[task].evaluate, settings.variants(task)
    fps = pd.read_parquet(Path("data", task, "manifest.parquet"), columns=["fps"])["fps"].median()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    metrics, times = {}, {}
    with atomic_folder(Path("reports", task, "evaluation")) as folder:
        for variant in variants:
            predictions = read_predictions(Path("data", task, "predictions", f"{variant}.csv"))
            report = score(predictions, evaluate)
            metrics[variant] = report["metrics"]
            write_json(folder / f"{variant}-score.json", report)
            headline = {name: report["metrics"][name] for name in HEADLINE}
            write_json(folder / f"{variant}-headline.json", headline)  # a row of `dvc metrics show`
            write_table(folder / f"{variant}-confusion.csv", confusion_rows(predictions))
            write_table(folder / f"{variant}-roc.csv", roc_points(predictions))
            write_table(folder / f"{variant}-reliability.csv", pd.DataFrame(report["calibration"]["reliability"]))
            write_table(folder / f"{variant}-per_class.csv", pd.DataFrame(report["per_class"]))
            times[variant] = measure(
                Path("models", task, variant), evaluate.latency_repeats, None if pd.isna(fps) else float(fps), device
            )
            print(_line(variant, metrics[variant], times[variant]), flush=True)
        write_json(folder / "latency.json", {"note": NOTE, "machine": machine(device), "variants": times})
    write_json(Path("reports", task, "metrics.json"), metrics)


def _line(variant: str, metrics: dict[str, float], times: dict[str, float]) -> str:
    low, high = metrics["accuracy_low"], metrics["accuracy_high"]
    majority, wait = metrics["majority_rate"], times["ms_per_sequence"]
    alarms = metrics.get("false_alarm_rate")
    unlike = "" if alarms is None else f"unlike anything seen, wrongly: {alarms:.1%}; "
    return (
        f"{variant}: accuracy {metrics['accuracy']:.3f} [{low:.3f}, {high:.3f}], F1 {metrics['f1_of_macros']:.3f} on "
        f"{metrics['n_sequences']} sequences of {metrics['n_patients']} patients (majority class {majority:.3f}); "
        f"{unlike}{wait:.1f} ms per sequence"
    )


if __name__ == "__main__":
    from stages.lifeline import run

    run(main)
