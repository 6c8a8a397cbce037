"""Metrics and data of the figures of every variant (paper Table 4, Figs. 12 and 13)."""

from pathlib import Path

import pandas as pd

from fetalflow.artefacts import atomic_folder, write_json, write_table
from fetalflow.evaluation.intervals import in_words
from fetalflow.evaluation.measurement_columns import MEASURES
from fetalflow.evaluation.measurement_scores import score_measurements
from fetalflow.evaluation.predictions import predictions_of, read_predictions
from fetalflow.evaluation.scoring import confusion_rows, roc_points, score
from fetalflow.settings.params import load_settings

HEADLINE = ("accuracy", "accuracy_low", "accuracy_high", "f1_of_macros", "auc", "ece", "n_sequences", "n_patients")
HEADLINE_MEASURED = ("dice", "dice_low", "dice_high", *(f"{m}_mae_mm" for m in MEASURES), "mae_percent")


def main(task: str) -> None:
    settings = load_settings()
    evaluate, variants = settings.blocks[task].evaluate, settings.variants(task)
    metrics = {}
    with atomic_folder(Path("reports", task, "evaluation")) as folder, atomic_folder(Path("metrics", task)) as rows:
        for variant in variants:
            predictions = read_predictions(predictions_of(Path("data", task), variant))
            report = score(predictions, evaluate)
            measured = score_measurements(predictions, evaluate)
            metrics[variant] = report["metrics"] | (measured or {"metrics": {}})["metrics"]
            write_json(folder / f"{variant}-score.json", report)
            headline = {name: metrics[variant][name] for name in HEADLINE}
            headline |= {name: metrics[variant][name] for name in HEADLINE_MEASURED if name in metrics[variant]}
            write_json(rows / f"{variant}.json", headline)  # a row of `dvc metrics show`
            write_table(folder / f"{variant}-confusion.csv", confusion_rows(predictions))
            write_table(folder / f"{variant}-roc.csv", roc_points(predictions))
            if report["calibration"]:
                write_table(folder / f"{variant}-reliability.csv", pd.DataFrame(report["calibration"]["reliability"]))
            write_table(folder / f"{variant}-per_class.csv", pd.DataFrame(report["per_class"]))
            if measured:
                write_json(folder / f"{variant}-measurements.json", measured)
            print(_line(variant, metrics[variant]), flush=True)
    write_json(Path("reports", task, "metrics.json"), metrics)


def _line(variant: str, metrics: dict[str, float]) -> str:
    facts = [f"{metrics['n_sequences']} sequences of {metrics['n_patients']} patients"]
    if metrics["accuracy"] is not None:
        interval = in_words(metrics["accuracy_low"], metrics["accuracy_high"], metrics["n_patients"], ".3f")
        facts.append(
            f"accuracy {metrics['accuracy']:.3f} {interval}, majority class {metrics['majority_rate']:.3f}, "
            f"F1 {metrics['f1_of_macros']:.3f}"
        )
    if metrics.get("dice") is not None:
        facts.append(f"Dice {metrics['dice']:.3f}")
    for m in MEASURES:
        if metrics.get(f"{m}_mae_mm") is not None:
            refused = f" ({metrics[f'{m}_refused']} refused)" if metrics[f"{m}_refused"] else ""
            facts.append(f"{m.upper()} mean error {metrics[f'{m}_mae_mm']:.2f} mm{refused}")
    if metrics.get("false_alarm_rate") is not None:
        facts.append(f"flagged as unlike the training data: {metrics['false_alarm_rate']:.1%}")
    return f"{variant}: {'; '.join(facts)}"


if __name__ == "__main__":
    from stages.runtime.lifeline import run

    run(main)
