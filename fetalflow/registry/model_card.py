"""The model card: what users of the registered model must know (after Mitchell et al. 2019, shortened)."""

from pathlib import Path
from typing import Any

import pandas as pd

from fetalflow.artefacts import named, read_json
from fetalflow.hospital.drop.unknown_patients import count_unknown, in_words
from fetalflow.models.package_files import CONFIG
from fetalflow.registry import model_card_results as results
from fetalflow.registry.run_origin import read_origin
from fetalflow.settings.params import Extract, Settings
from fetalflow.settings.tasks import get_task

PARTS = ("train", "validation", "test")
SPLITS = {
    "grouped": "by patient",
    "site": "by site: each fold is tested on a site that it was not trained on",
    "paper": "by sequence, as in the paper",
    "official": "given by the data set",
    "random": "by sequence, at random",
}


def model_card(task: str, settings: Settings, workspace: Path = Path()) -> str:
    """Markdown about the main model of `task`: data, split, metrics with intervals, slices, false alarms, limits.

    The same files give the same text, because the card is part of the model's digest.
    """
    data, variant = workspace / "data" / task, settings.tasks[task].variant
    config = read_json(workspace / "models" / task / variant / CONFIG)
    reports = workspace / "reports" / task
    metrics = read_json(reports / "metrics.json")[variant]
    score = read_json(reports / "evaluation" / f"{variant}-score.json")
    manifest = pd.read_parquet(data / "manifest.parquet")
    split = pd.read_parquet(data / "split.parquet")
    confidence = settings.blocks[task].evaluate.confidence
    measures = "dice" in metrics  # the network predicts masks and lengths
    one, many = ("frame", "frames") if config["frames"] == 1 else ("sequence", "sequences")
    chapters = [
        f"# {variant}: {get_task(task).title}",
        "**For research, not a medical device.**",
        _model(config, measures),
        _distilled(config.get("distilled")),
        _data(manifest, many, synthetic=task in settings.phantoms),
        _pretraining(config.get("pretraining")),
        _split(split, settings.blocks[task].split.kind, many, count_unknown(manifest)),
        results.metrics(metrics, confidence, many),
        _published(config, read_origin(task, settings, workspace).profiles),
        results.refusals(metrics),
        results.slices(score["slices"], confidence, many),
        results.certainty(score.get("certainty"), one),
        results.familiarity(score["familiarity"], config, confidence, many),
        results.engines(reports / "export.json"),
        _limits(config, score["familiarity"], metrics, synthetic=task in settings.phantoms),
        _use(settings, task, config["frames"], measures),
    ]
    return "\n\n".join(filter(None, chapters)) + "\n"


def _model(config: dict[str, Any], measures: bool) -> str:
    n, size = config["frames"], config["size"]
    answers = ", the mask of the structure in every frame, and its lengths in mm" if measures else ""
    sequence = Extract.model_validate(config["extract"]).sequence_in_words
    source = "one ultrasound frame" if n == 1 else f"{sequence} of an ultrasound cine"
    task, network = get_task(config["task"]), config["network"]
    options = f" Options: {config['options']}." if config["options"] else ""
    return (
        f"Task: {config['task']} ({task.title}). Network: {network}, {task.source_of(network)}.{options}\n\n"
        f"Input: {source} as grey values in 0-1, [{n}, {size}, {size}] after padding or resizing. Output: "
        f"probabilities of {', '.join(config['labels'])}{answers}. Trainable parameters: "
        f"{config['weights']['trainable_parameters']:,}. Weights: SHA-256 {config['weights']['sha256']}."
    )


def _distilled(how: dict[str, Any] | None) -> str:
    """From whom the network learned besides the labels (docs/ml-lead/networks.md)."""
    if not how:
        return ""
    mirror = ", also asked with the mirror image" if how["mirrored"] else ""
    alone = f" {how['by_label_alone']} sequences had the label alone." if how["by_label_alone"] else ""
    n, patients = how["teachers"], ", ".join(map(str, how["left_out"]))
    return (
        f"Distilled: it learned the labels and, with a share of {how['share']:g}, what {n} networks of the same kind "
        f"answer. The {how['patients']} training patients are in {n} groups. Each of the {n} networks was trained "
        f"without two groups ({patients} patients). The answer about a patient is the mean of the two networks that "
        f"never saw her{mirror}.{alone} No test patient was read. `distilled` in config.json has the digests of the "
        f"{n} trainings."
    )


def _published(config: dict[str, Any], profiles: tuple[str, ...]) -> str:
    """The paper's values, for its own network trained by its own settings only."""
    task = get_task(config["task"])
    values = task.published.get(config["network"]) if "paper" in profiles else None
    if not values:
        return ""
    figures = ", ".join(f"{results.NAMES.get(key, key)} {value:.4f}" for key, value in values.items())
    return f"In the paper: {figures}. On other data, so not comparable. Source: {task.source}."


def _data(manifest: pd.DataFrame, many: str, synthetic: bool) -> str:
    kind = "Synthetic ultrasound of the phantom hospital, no real patient. " if synthetic else ""
    sites = _distinct(manifest["site"])
    devices = _distinct(manifest["device"])
    return (
        f"## Data\n\n{kind}{len(manifest)} {many} of {manifest['source'].nunique()} files of "
        f"{manifest['patient'].nunique()} patients; {len(sites)} sites, {len(devices)} devices"
        f"{' (' + ', '.join(devices[:12]) + ')' if devices else ''}.{_licences(manifest)}"
    )


def _pretraining(facts: dict[str, Any] | None) -> str:
    if not facts:
        return ""
    nameless = facts["files_without_a_patient"]
    unknown = f" {nameless} of the files name no patient, so a test patient may be among them." if nameless else ""
    licence = facts["licence"] or "not stated"
    return (
        f"Before that it was pretrained without labels ({facts['method']}, {facts['epochs']} epochs) on "
        f"{facts['files']} further cines and stills of {facts['patients']} patients. Files of validation and test "
        f"patients were left out.{unknown} Licence of these files: {licence}. Weights: SHA-256 {facts['weights']}."
    )


def _licences(manifest: pd.DataFrame) -> str:
    """Where the drop names licences of its rows: whoever passes the model on is bound by them."""
    found = _distinct(manifest["licence"]) if "licence" in manifest else []
    return f"\n\nLicences of the data that this model saw: {'; '.join(found)}." if found else ""


def _distinct(column: pd.Series) -> list[str]:
    return sorted(set(named(column)) - {""})


def _split(split: pd.DataFrame, kind: str, many: str, unknown: int) -> str:
    first = split[split["fold"] == split["fold"].min()]
    lines = [
        f"## Split\n\nKind: {kind} ({SPLITS[kind]}). The table shows the first of {split['fold'].nunique()} fold(s).\n"
    ]
    lines += [f"| part | {many} | patients |", "|---|---|---|"]
    for part in PARTS:
        rows = first[first["part"] == part]
        lines.append(f"| {part} | {len(rows)} | {rows['patient'].nunique()} |")
    trained = set(first.loc[first["part"] == "train", "patient"])
    shared = trained & set(first.loc[first["part"] == "test", "patient"])
    warning = " Because of them, every metric below is too good." if shared else ""
    lines.append(f"\nPatients that are in both training and test: {len(shared)}.{warning}")
    if unknown:
        words = in_words(unknown, split["sequence"].nunique(), many)
        lines.append(f"\n**{words[0].upper()}{words[1:]}**")
    return "\n".join(lines)


def _limits(
    config: dict[str, Any], familiarity: dict[str, Any] | None, metrics: dict[str, Any], synthetic: bool
) -> str:
    limits = ["Not a medical device; not validated for any clinical use."]
    if synthetic:
        limits.append("Trained on synthetic images only: its metrics say nothing about real patients.")
    limits.append("Trained on the sites and devices above only; elsewhere it may fail without a warning.")
    recording = "an image" if config["frames"] == 1 else "a cine"
    limits.append(f"Knows only its labels: {recording} of something else also gets one of them.")
    if familiarity:
        limits.append("The test patients do not show how many truly unfamiliar inputs `unfamiliar` detects.")
    if config["frames"] == 1:
        limits.append("Each frame is classified alone: the order of frames and the movement in a sweep are not used.")
    if "dice" in metrics:
        limits.append(
            "Lengths are in mm only if the file or the caller states mm per pixel; a wrong scale gives wrong lengths."
        )
        limits.append("It does not check whether the image shows the correct plane for the measurement.")
    if metrics.get("ece") is not None:
        limits.append("The ECE above holds for the label frequencies of the test part.")
    return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits)


def _use(settings: Settings, task: str, frames: int, measures: bool) -> str:
    model, alias = settings.blocks[task].register_.model, settings.blocks[task].promote.champion
    if measures:
        example = (
            "# a cine of any length, a DICOM or an image; mm_per_px of the recorded frame, if the file does not state\n"
            "# it; weeks of gestation, if they are known. The result: docs/ml-lead/biometry.md\n"
            'model.predict({"file": ["cine.mp4"], "mm_per_px": [0.21], "weeks": [24]})'
        )
    elif frames == 1:
        comment = "# an image, a DICOM or a cine; or an array [H, W] or [T, H, W], uint8 0-255 or float 0-1"
        example = f'model.predict("sweep.mp4")   {comment}\n# best_frame: the standard plane of the sweep'
    else:
        example = 'model.predict("cine.mp4")   # or an array [N, H, W], uint8 0-255 or float 0-1'
    return (
        "## Use\n\n```python\n"
        "# the model in use; a number in place of the alias is one version, as in models:/NAME/3\n"
        f'model = mlflow.pyfunc.load_model("models:/{model}@{alias}")\n'
        f"{example}\n```"
    )
