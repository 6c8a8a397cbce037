"""The model card: what a person must know before using the registered model (Mitchell et al. 2019, shortened)."""

from pathlib import Path
from typing import Any

import pandas as pd

from fetalflow.artefacts import read_json
from fetalflow.settings import Settings
from fetalflow.tasks import get_task
from fetalflow.weights import CONFIG

NAMES = {
    "accuracy": "Accuracy",
    "macro_precision": "Macro precision",
    "macro_recall": "Macro recall",
    "f1_of_macros": "F1 of the macros (Table 4's)",
    "mean_class_f1": "Mean class F1",
    "auc": "Mean AUC",
    "ece": "ECE",
    "brier": "Brier score",
}
PARTS = ("train", "validation", "test")


def model_card(task: str, settings: Settings, workspace: Path = Path()) -> str:
    """Markdown about the main model of `task`: data, split, metrics with intervals, limits.

    The same files give the same text, so that it can be part of the model's digest.
    """
    data, variant = workspace / "data" / task, settings.tasks[task].variant
    config = read_json(workspace / "models" / task / variant / CONFIG)
    metrics = read_json(workspace / "reports" / task / "metrics.json")[variant]
    manifest = pd.read_parquet(data / "manifest.parquet")
    split = pd.read_parquet(data / "split.parquet")
    return (
        "\n\n".join(
            [
                f"# {variant}: {get_task(task).title}",
                "**For research, not a medical device.**",
                _model(config),
                _data(manifest, synthetic=task in settings.phantoms),
                _split(split, settings.blocks[task].split.kind),
                _metrics(metrics, settings.blocks[task].evaluate.confidence),
                _limits(synthetic=task in settings.phantoms),
                _use(settings, task),
            ]
        )
        + "\n"
    )


def _model(config: dict[str, Any]) -> str:
    n, size = config["frames"], config["size"]
    return (
        f"Input: {n} consecutive frames of an ultrasound cine as grey values in 0-1, [{n}, {size}, {size}] after "
        f"padding or resizing. Output: probabilities of {', '.join(config['labels'])}. Trainable parameters: "
        f"{config['weights']['trainable_parameters']:,}. Weights: SHA-256 {config['weights']['sha256']}. "
        f"From {get_task(config['task']).source}; options {config['options']}."
    )


def _data(manifest: pd.DataFrame, synthetic: bool) -> str:
    kind = "Synthetic cines of the phantom hospital, no real patient. " if synthetic else ""
    return (
        f"## Data\n\n{kind}{len(manifest)} sequences of {manifest['source'].nunique()} cines of "
        f"{manifest['patient'].nunique()} patients; {manifest['site'].nunique()} sites, "
        f"{manifest['device'].nunique()} devices ({', '.join(sorted(manifest['device'].astype(str).unique())[:12])})."
    )


def _split(split: pd.DataFrame, kind: str) -> str:
    first = split[split["fold"] == split["fold"].min()]
    lines = [f"## Split\n\nKind: {kind}. Shown is the first of {split['fold'].nunique()} fold(s).\n"]
    lines += ["| part | sequences | patients |", "|---|---|---|"]
    for part in PARTS:
        rows = first[first["part"] == part]
        lines.append(f"| {part} | {len(rows)} | {rows['patient'].nunique()} |")
    trained = set(first.loc[first["part"] == "train", "patient"])
    shared = trained & set(first.loc[first["part"] == "test", "patient"])
    lines.append(f"\nPatients that are in both training and test: {len(shared)}.")
    return "\n".join(lines)


def _metrics(metrics: dict[str, Any], confidence: float) -> str:
    lines = [
        "## Metrics on the test part\n",
        f"| metric | value | {confidence:.0%} interval over patients |",
        "|---|---|---|",
    ]
    for key, name in NAMES.items():
        if metrics.get(key) is not None:
            low, high = metrics.get(f"{key}_low"), metrics.get(f"{key}_high")
            interval = f"{low:.4f} to {high:.4f}" if low is not None and high is not None else ""
            lines.append(f"| {name} | {metrics[key]:.4f} | {interval} |")
    lines.append(f"\n{metrics.get('n_sequences')} sequences of {metrics.get('n_patients')} patients.")
    if metrics.get("majority_rate") is not None:
        lines.append(f"Always naming the commonest label would reach an accuracy of {metrics['majority_rate']:.4f}.")
    return "\n".join(lines)


def _limits(synthetic: bool) -> str:
    limits = ["Not a medical device; not validated for any clinical use."]
    if synthetic:
        limits.append("Trained on synthetic cines: it has seen no fetus, and its metrics say nothing about real ones.")
    limits += [
        "Knows only the sites and devices above; elsewhere it may fail unnoticed.",
        "Knows only its labels: a cine that shows something else gets one of them all the same.",
        "Probabilities are as calibrated as the ECE above says, on the test part's share of labels.",
    ]
    return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits)


def _use(settings: Settings, task: str) -> str:
    register = settings.blocks[task].register_
    return (
        "## Use\n\n```python\n"
        f'model = mlflow.pyfunc.load_model("models:/{register.model}@{register.alias}")\n'
        'model.predict("cine.mp4")   # or an array [N, H, W], uint8 0-255 or float 0-1\n```'
    )
