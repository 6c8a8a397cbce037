"""The chapters of the model card about results: metrics, slices, how sure an answer is, false alarms, engines.

Each function gives Markdown, and an empty text where there is nothing to say. `many` is the word for what the network
answers: sequences or frames. `confidence` is that of the intervals, in 0-1.
"""

from pathlib import Path
from typing import Any

from fetalflow.artefacts import read_json
from fetalflow.evaluation.certainty.record import in_percent
from fetalflow.evaluation.intervals import no_interval
from fetalflow.evaluation.measurement_columns import MEASURES

NAMES = {
    "accuracy": "Accuracy",
    "top2_accuracy": "Top-2 accuracy",
    "macro_precision": "Macro precision",
    "macro_recall": "Macro recall",
    "f1_of_macros": "F1 of macro precision and macro recall",
    "mean_class_f1": "Mean class F1",
    "auc": "Mean AUC",
    "ece": "ECE",
    "brier": "Brier score",
    "dice": "Dice of the masks",
    "iou": "IoU of the masks",
    "hausdorff_mm": "Hausdorff-95 of the masks, mm",
    **{f"{m}_mae_mm": f"{m.upper()}: mean absolute error, mm" for m in MEASURES},
    **{f"{m}_bias_mm": f"{m.upper()}: bias, mm" for m in MEASURES},
}


def metrics(metrics: dict[str, Any], confidence: float, many: str) -> str:
    lines = [
        "## Metrics on the test part\n",
        f"| metric | value | {confidence:.0%} interval over patients |",
        "|---|---|---|",
    ]
    for key, name in NAMES.items():
        if metrics.get(key) is not None:
            lines.append(f"| {name} | {metrics[key]:.4f} | {_interval(metrics, key, metrics['n_patients'])} |")
    lines.append(f"\n{metrics.get('n_sequences')} {many} of {metrics.get('n_patients')} patients.")
    if metrics.get("majority_rate") is not None:
        lines.append(
            f"Always predicting the most frequent label would give an accuracy of {metrics['majority_rate']:.4f}."
        )
    return "\n".join(lines)


def refusals(metrics: dict[str, Any]) -> str:
    """How many lengths were refused: the errors in the table are those of the other lengths."""
    counts = [(m, metrics.get(f"{m}_n"), metrics.get(f"{m}_refused")) for m in MEASURES]
    refusals = [f"{m.upper()} {refused} of {n + refused}" for m, n, refused in counts if n is not None]
    reasons = "cut off, two pieces, another label"
    return f"Not measured, with the reason given ({reasons}): {', '.join(refusals)}." if refusals else ""


def _interval(values: dict[str, Any], key: str, patients: int) -> str:
    """Empty for a metric that never has an interval."""
    if f"{key}_low" not in values:
        return ""
    low, high = values[f"{key}_low"], values[f"{key}_high"]
    return no_interval(patients) if low is None else f"{low:.4f} to {high:.4f}"


def slices(slices: dict[str, list[dict[str, Any]]], confidence: float, many: str) -> str:
    lines = ["## Slices of the test part\n"]
    lines += [
        f"| slice | {many} | patients | accuracy | {confidence:.0%} interval over patients |",
        "|---|---|---|---|---|",
    ]
    rows = [(name, row) for name, rows in slices.items() for row in rows]
    for name, row in rows:
        figures = f"{row['accuracy']:.4f} | {_interval(row, 'accuracy', row['patients'])}"
        lines.append(f"| {name} {row[name]} | {row['n']} | {row['patients']} | {figures} |")
    return "\n".join(lines) if rows else ""


def certainty(sure: dict[str, Any] | None, one: str) -> str:
    """What an answer promises, and whether that held on test patients. Short, because MLflow cuts a long card."""
    if not sure:
        return ""
    lines = [f"{reason[0].upper()}{reason[1:]}." for reason in sure["reasons"]]
    if labels := sure["labels"]:
        before, after = (labels[when]["ece"] for when in ("before", "after"))
        rates = ", ".join(f"{row['rate']:.0%}" for row in labels["promises"] if row["promised"])
        lines.append(
            f"Probabilities in use have the temperature {labels['temperature'][0]:.3f}: ECE {before:.4f} before, "
            f"{after:.4f} after. Sets of labels, for a {one} of a new patient: {_held(labels, labels['all'])}, "
            f"{labels['all']['size'] or 0:.2f} labels each. Error rates that can be promised, up to 20 %: "
            f"{rates or 'none'}."
        )
    for row in sure["lengths"] or ():
        pooled = " from all lengths" if row["pooled"] else ""
        lines.append(f"{row['measure'].upper()}, interval{pooled}: {_held(row, row)}, ± {row['size'] or 0:.2f} mm.")
    return "## How sure\n\n" + "\n\n".join(lines) if lines else ""


def _held(promised: dict[str, Any], found: dict[str, Any]) -> str:
    """Such as `90 % stated, 0.9312 held (0.8700 to 0.9700)`."""
    if found["coverage"] is None:
        return f"{in_percent(promised['level'])} stated, no test patient shows it"
    interval = _interval(found, "coverage", found["patients"])
    return f"{in_percent(promised['level'])} stated, {found['coverage']:.4f} held ({interval})"


def familiarity(score: dict[str, Any] | None, config: dict[str, Any], confidence: float, many: str) -> str:
    if not score:
        return ""
    target = config.get("familiarity", {}).get("false_alarms")
    aim = "" if target is None else f" The threshold was set so that {target:.0%} of the validation {many} exceed it."
    counted = f"{score['flagged']} of {score['n']} {many}, {score['patients']} patients"
    lines = [
        "## Unlike the training data\n",
        f"`unfamiliarity` above {score['threshold']:g} means: unlike the training {many}, do not trust the label.{aim} "
        f"False alarms on test patients: {score['false_alarm_rate']:.4f} "
        f"({confidence:.0%} interval: {_interval(score, 'false_alarm_rate', score['patients'])}; {counted}).",
    ]
    if score["error_auc"] is not None:
        lines.append(
            f"A wrong answer has a larger unfamiliarity than a right one with probability {score['error_auc']:.4f} "
            f"({_interval(score, 'error_auc', score['patients'])}); 0.5 would be chance."
        )
    return "\n".join(lines)


def engines(path: Path) -> str:
    """Without times, because they differ from run to run and the card is part of the model's digest."""
    rows = read_json(path)["engines"] if path.is_file() else []
    others = [row for row in rows if row["engine"] != "torch"]
    passed = ", ".join(row["engine"] + _lost(row["macro_f1_loss"]) for row in others if row["passed"])
    refused = "".join(f" Refused: {r['engine']}, {'; '.join(r['reasons'])}." for r in others if not r["passed"])
    return (
        f"## Engines\n\nThese agree with torch on validation patients: {passed or 'none'}.{refused}" if others else ""
    )


def _lost(points: float | None) -> str:
    return "" if points is None else f" (on test patients {max(0.0, points):.2f} points of macro F1 lost)"
