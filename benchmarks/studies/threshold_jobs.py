"""The hospitals and networks of `thresholds`: made once, by the stages, and kept in a folder.

Three synthetic hospitals of each task differ in their seed, so they share no patient: one trains, on one thresholds are
set, and on one they are reported.
"""

import importlib
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack, chdir
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import yaml
from torch import nn

from fetalflow.artefacts import write_text
from fetalflow.hospital.phantom.biometry import hospital as biometry
from fetalflow.hospital.phantom.movement import hospital as movement
from fetalflow.models.answering import ask

ROOT = Path(__file__).parents[2]
MAIN = {"movement": "fetalmovnet_s", "biometry": "fetalnet_lite"}
LIMBS = ("head", "body", "arm", "hand", "heart", "leg", "foot")
VIEWS = ("head", "abdomen", "femur", "other")
HELD_OUT = {  # smaller than the demo's, at whose size the first hospital trains
    "movement": {"patients": 24, "sequences": dict.fromkeys(LIMBS, 25)},
    "biometry": {"patients": 60, "sequences": dict.fromkeys(VIEWS, 60)},
    "femurs": {"patients": 60, "sequences": {"femur": 100}},
}
RARE = ((biometry, "PARTIAL"), (movement, "CUT"))  # cut-off views and scene cuts: too rare in the demo to set a bound
OFTEN = 0.3
BATCH = 8


def hospital(folder: Path, task: str, seed: int, trains: bool, kind: str = "") -> Path:
    """The folder of a hospital's run: with a package in models/TASK if it `trains`, else with sequences only. kind: of
    HELD_OUT; empty: the task's."""
    place = folder / f"{kind or task}-{seed}"
    if (place / "made").is_file():
        return place
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(ROOT / "reviews", place / "reviews")
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params[task]["phantom"] |= {"seed": seed} | ({} if trains else HELD_OUT[kind or task])
    if not trains:
        params[task]["extract"]["labels"] = list(HELD_OUT[kind or task]["sequences"])
    write_text(place / "params.yaml", yaml.safe_dump(params, sort_keys=False))
    stages = ["phantom", "extract", "preprocess", *(["split", "train"] if trains else [])]
    with chdir(place), ExitStack() as changes:
        for module, name in () if trains else RARE:
            changes.enter_context(patch.object(module, name, OFTEN))
        for name in stages:
            arguments = (task, MAIN[task]) if name == "train" else (task,)
            importlib.import_module(f"stages.{name}").main(*arguments)
    write_text(place / "made", "")
    return place


@dataclass(frozen=True)
class Answered:
    """What a network answers to n sequences: rows of the manifest, probabilities float64 [n, C], masks float16
    [n, N, H, W] or None, and features [n, D] by layer."""

    rows: pd.DataFrame
    p: np.ndarray
    masks: np.ndarray | None
    features: dict[str, np.ndarray]

    @property
    def patients(self) -> np.ndarray:
        return self.rows["patient"].to_numpy(dtype=str)


def sequences(place: Path, task: str) -> pd.DataFrame:
    """The manifest, with the whole path of every sequence in `path`."""
    data = place / "data" / task
    rows = pd.read_parquet(data / "manifest.parquet")
    return rows.assign(path=[str(data / path) for path in rows["path"]])


def answered(
    network: nn.Module,
    rows: pd.DataFrame,
    layers: Sequence[str],
    changed: Callable[[np.ndarray], np.ndarray] = lambda frames: frames,
) -> Answered:
    """The answers to `rows`, with the inputs of `layers` as features. changed: what is done to frames uint8 [B, N, H,
    W]."""
    network.eval()
    seen: dict[str, np.ndarray] = {}

    def keep(layer: str) -> None:
        module = network.get_submodule(layer)
        module.register_forward_pre_hook(lambda _, given: seen.update({layer: given[0].flatten(1).numpy().copy()}))

    for layer in layers:
        keep(layer)
    p, masks, features = [], [], {layer: [] for layer in layers}
    for start in range(0, len(rows), BATCH):
        frames = np.stack([np.load(path) for path in rows["path"].iloc[start : start + BATCH]])
        found = ask(network, changed(frames))
        p.append(found.probabilities)
        for layer in layers:
            features[layer].append(seen[layer])
        if found.mask is not None:
            masks.append(found.mask_probabilities.astype(np.float16))
    joined = {layer: np.concatenate(each) for layer, each in features.items()}
    return Answered(rows, np.concatenate(p).astype(float), np.concatenate(masks) if masks else None, joined)
