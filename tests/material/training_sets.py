"""A small workspace whose classes can be told apart, for the tests of training."""

from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from variant_entries import entry, put_variants

from fetalflow.artefacts import file_digest
from fetalflow.models.movement import fetalmovnet

LABELS = ("flicker", "left", "right")
FRAMES, SIZE = 4, 32
MOVEMENT = {"fetalmovnet": {"batch_norm_momentum": 0.1}, "cnn": {"batch_norm_momentum": 0.1}}
PLANES = {"lite_attention": {"backbone": "lite0_short"}}  # variant: its options; the first one is the main one
PARTS = {"train": 7, "validation": 3, "test": 3}  # sequences of each label


def sequence(label: str, rng: np.random.Generator, frames: int = FRAMES, size: int = SIZE) -> np.ndarray:
    """uint8 [frames, size, size]: noise, with a bright bar that stands left, right, or in every other frame in the
    middle."""
    made = rng.integers(0, 90, (frames, size, size)).astype(np.uint8)
    scale = size // 32
    column = scale * {"left": 4, "right": 22, "flicker": 13}[label]
    shown = range(0, frames, 2) if label == "flicker" else range(frames)
    for frame in shown:
        made[frame, 4 * scale : 28 * scale, column : column + 6 * scale] += 120
    return made


def narrow_networks() -> None:
    """From now on the paper's networks have an eighth of their channels in this process: how a network is trained does
    not depend on that, and it takes a quarter of the time."""
    fetalmovnet.WIDTHS = tuple(width // 8 for width in fetalmovnet.WIDTHS)
    fetalmovnet.ATTENTION_WIDTH //= 8


def make_workspace(
    folder: Path,
    task: str = "movement",
    variants: dict[str, dict] = MOVEMENT,
    frames: int = FRAMES,
    size: int = SIZE,
    **train: object,
) -> Path:
    """params.yaml, manifest, split and sequences of a task in `folder`, as earlier stages leave them. Each of
    `variants` (with its options) is named like its network; the first is the main one."""
    rng = np.random.default_rng(5)
    data = folder / "data" / task
    (data / "sequences").mkdir(parents=True)
    rows = []
    for part, count in PARTS.items():
        for label in LABELS:
            for i in range(count):
                name = f"{part}-{label}-{i}"
                path = f"sequences/{name}.npy"
                np.save(data / path, sequence(label, rng, frames, size))
                row = {
                    "sequence": name,
                    "patient": f"{part}-{i}",
                    "site": "a",
                    "device": "b",
                    "label": label,
                    "fps": 25.0,
                }
                rows.append(row | {"path": path, "digest": file_digest(data / path), "part": part})
    table = pd.DataFrame(rows)
    table.drop(columns="part").to_parquet(data / "manifest.parquet", index=False)
    table[["sequence", "patient", "label", "part"]].assign(fold=0).to_parquet(data / "split.parquet", index=False)
    params = {
        "tasks": {},
        "phantoms": [],
        task: {
            "phantom": {"sequences": {label: 4 for label in LABELS}},
            "extract": {"frames": frames, "stride": frames},
            "preprocess": {"size": size},
            "split": {},
            "validate": {},
            "train": {"batch": 4, "epochs": 6, "patience": 6, "learning_rate": 3e-4} | train,
            "register": {},
        },
    }
    put_variants(params, task, [entry(task, variant, **options) for variant, options in variants.items()])
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return folder
