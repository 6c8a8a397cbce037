"""The hospitals of `next_cines`, and what a frozen backbone sees on their cines: made once, and kept in a folder."""

import importlib
from contextlib import chdir
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from fetalflow.artefacts import atomic_file, write_text

ROOT = Path(__file__).parents[2]
SIZE = 128  # px; the backbone has features of 4 x 4 places there
TWICE = {"movement": {"patients": 96, "sequences": dict.fromkeys("head body arm hand heart leg foot".split(), 140)}}


def seen(folder: Path, task: str) -> tuple[pd.DataFrame, np.ndarray]:
    """The sequences of a synthetic hospital (source, patient, label, ...), and float32 [n, D], what the backbone sees
    on each. Its weights are those of ImageNet, so no label of the hospital has a part in it."""
    data, kept = folder / task / "data" / task, folder / task / "features.npy"
    if not (data / "manifest.parquet").is_file():
        _hospital(folder / task, task)
    rows = pd.read_parquet(data / "manifest.parquet")
    if not kept.is_file():
        found = _features([data / path for path in rows["path"]])
        with atomic_file(kept) as temporary, temporary.open("wb") as file:
            np.save(file, found)
    return rows, np.load(kept)


def _hospital(place: Path, task: str) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params[task]["phantom"] |= TWICE.get(task, {})
    params[task]["preprocess"]["size"] = SIZE
    place.mkdir(parents=True, exist_ok=True)
    write_text(place / "params.yaml", yaml.safe_dump(params, sort_keys=False))
    with chdir(place):
        for stage in ("phantom", "extract", "preprocess"):
            importlib.import_module(f"stages.{stage}").main(task)


def _features(paths: list[Path]) -> np.ndarray:
    """For each sequence the mean over its frames and, where it has several, the mean change from frame to frame; each
    the mean over the picture and over its quarters' largest."""
    import torch

    from fetalflow.models.parts.backbones import Backbone

    network = Backbone("lite0", SIZE, pretrained=True, batch_norm_momentum=0.1).eval()
    found = []
    with torch.inference_mode():
        for path in paths:
            frames = torch.from_numpy(np.load(path)[:, None]).float() / 255
            maps = network(frames)
            parts = [maps.mean((0, 2, 3))]
            if len(maps) > 1:
                parts.append(maps.diff(dim=0).abs().mean((0, 2, 3)))
            found.append(torch.cat(parts).numpy())
    return np.stack(found).astype(np.float32)
