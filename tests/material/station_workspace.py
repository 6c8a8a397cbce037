"""A small workspace for the station: cines that no run has read yet, and a network that was not trained."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from cine_files import speckle, write_video

from fetalflow.station.place import Place

ROOT = Path(__file__).parents[2]
TASK = "movement"
CINES = {"first": 40, "second": 24, "unlabelled": 24}  # frames
MARKED = (slice(4, 12), slice(4, 30))  # rows and columns of a mark beside the sector, as a machine draws it


def make_place(folder: Path) -> Place:
    """A movement workspace with a drop of two labelled cines, and one drop of a cine without labels."""
    drop, unlabelled = folder / "data" / TASK / "drop", folder / "unlabelled"
    shutil.copy(ROOT / "params.yaml", folder / "params.yaml")
    for seed, (name, frames) in enumerate(CINES.items()):
        path = (unlabelled if name == "unlabelled" else drop) / f"{name}.avi"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, marked(speckle(frames, seed=seed)), "ffv1")
    rows = [
        {"video": f"{name}.avi", "patient": f"P{i}", "site": "S1", "device": "D1", "annotator": "A1"}
        | {"start_frame": 0, "end_frame": CINES[name] - 1, "label": ("head", "arm")[i]}
        for i, name in enumerate(("first", "second"))
    ]
    pd.DataFrame(rows).to_csv(drop / "annotations.csv", index=False)
    return Place(folder, TASK, unlabelled)


def put_network(place: Place) -> None:
    """The package of the main variant with random weights; importing torch takes seconds."""
    import torch

    from fetalflow.models.building import build
    from fetalflow.models.weights import save

    block, variant = place.settings.block(TASK), place.settings.variants(TASK)[0]
    shape = {"frames": block.extract.frames, "size": block.preprocess.size}
    torch.manual_seed(3)
    network = build(variant, *shape.values(), len(block.extract.labels))
    config = {"task": TASK, "variant": variant, "network": variant, "labels": list(block.extract.labels), **shape}
    config |= {"training": {"fold": 0, "seed": 0}, "options": {}, "extract": block.extract.model_dump(mode="json")}
    save(place.workspace / "models" / TASK / variant, network, config)


def marked(frames: np.ndarray) -> np.ndarray:
    """The frames with a mark beside the sector, which masking removes."""
    changed = frames.copy()
    changed[:, *MARKED] = 200
    return changed


def sources(place: Place) -> dict[str, str]:
    """The SHA-256 of each cine by its name."""
    files = [*(place.workspace / "data" / TASK / "drop").glob("*.avi"), *place.drop.glob("*.avi")]
    return {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
