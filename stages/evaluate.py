"""Metrics and data of the figures of every variant (paper Table 4, Figs. 12 and 13)."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from fetalflow.artefacts import atomic_folder, read_json, write_json, write_table
from fetalflow.errors import InputError
from fetalflow.evaluation.certainty.fitting import BY_SEQUENCE, UNKNOWN, Run, fit
from fetalflow.evaluation.certainty.record import CERTAINTY, Certainty
from fetalflow.evaluation.certainty.seen import seen
from fetalflow.evaluation.intervals import in_words
from fetalflow.evaluation.measurement_columns import MEASURES
from fetalflow.evaluation.measurement_scores import score_measurements
from fetalflow.evaluation.predictions import predictions_of, read_predictions
from fetalflow.evaluation.scoring import confusion_rows, roc_points, score
from fetalflow.hospital.drop.unknown_patients import count_unknown
from fetalflow.models.package_files import CONFIG
from fetalflow.settings.params import load_settings

HEADLINE = ("accuracy", "accuracy_low", "accuracy_high", "f1_of_macros", "auc", "ece", "n_sequences", "n_patients")
HEADLINE_MEASURED = ("dice", "dice_low", "dice_high", *(f"{m}_mae_mm" for m in MEASURES), "mae_percent")


def main(task: str) -> None:
    settings = load_settings()
    evaluate, variants = settings.blocks[task].evaluate, settings.variants(task)
    metrics, no_promise = {}, _no_promise(task, settings.blocks[task].split.kind)
    with atomic_folder(Path("reports", task, "evaluation")) as folder, atomic_folder(Path("metrics", task)) as rows:
        for variant in variants:
            file = predictions_of(Path("data", task), variant)
            predictions = read_predictions(file)
            certainty = _certainty(file, evaluate.level, no_promise)
            report = score(predictions, evaluate) | {"certainty": seen(predictions, certainty, evaluate)}
            measured = score_measurements(predictions, evaluate)
            metrics[variant] = report["metrics"] | (measured or {"metrics": {}})["metrics"]
            write_json(folder / f"{variant}-score.json", report)
            write_json(folder / f"{variant}-{CERTAINTY}", _of_package(task, variant, certainty))
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


def _no_promise(task: str, split: str) -> str:
    """Why nothing can be promised for a new patient; empty where it can."""
    if split in ("paper", "random"):
        return BY_SEQUENCE
    manifest = Path("data", task, "manifest.parquet")
    return UNKNOWN if manifest.is_file() and count_unknown(pd.read_parquet(manifest)) else ""


def _certainty(predictions: Path, level: float, no_promise: str) -> dict[Run, Certainty]:
    """By fold and seed, fitted on the validation rows of the file."""
    if no_promise:
        return {(): Certainty(reason=no_promise)}
    try:
        return fit(read_predictions(predictions, "validation"), level)
    except InputError as error:
        return {(): Certainty(reason=str(error).rstrip("."))}


def _of_package(task: str, variant: str, certainty: dict[Run, Certainty]) -> dict:
    """The certainty of the first training, whose network the package holds, with the digest of its weights."""
    config = Path("models", task, variant, CONFIG)
    weights = read_json(config)["weights"]["sha256"] if config.is_file() else ""
    return replace(next(iter(certainty.values())), weights=weights).as_dict()


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
