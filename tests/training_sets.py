"""A small workspace whose classes can be told apart, for the tests of training."""

from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from fetalflow.artefacts import file_digest

LABELS = ("flicker", "left", "right")
FRAMES, SIZE = 4, 32
PARTS = {"train": 7, "validation": 3, "test": 3}  # sequences of each label


def network(name: str) -> dict[str, str]:
    return dict.fromkeys(("variant", "network", "base"), name)


def sequence(label: str, rng: np.random.Generator) -> np.ndarray:
    """uint8 [4, 32, 32]: noise, with a bright bar that stands left, right, or in two of four frames in the middle."""
    frames = rng.integers(0, 90, (FRAMES, SIZE, SIZE)).astype(np.uint8)
    column = {"left": 4, "right": 22, "flicker": 13}[label]
    shown = [0, 2] if label == "flicker" else range(FRAMES)
    for frame in shown:
        frames[frame, 4:28, column : column + 6] += 120
    return frames


def make_workspace(folder: Path, **train: object) -> Path:
    """params.yaml, manifest, split and sequences of the task `movement` in `folder`, as earlier stages leave them."""
    rng = np.random.default_rng(5)
    data = folder / "data" / "movement"
    (data / "sequences").mkdir(parents=True)
    rows = []
    for part, count in PARTS.items():
        for label in LABELS:
            for i in range(count):
                name = f"{part}-{label}-{i}"
                path = f"sequences/{name}.npy"
                np.save(data / path, sequence(label, rng))
                row = {"sequence": name, "patient": f"{part}-{i}", "site": "a", "device": "b", "label": label}
                rows.append(row | {"path": path, "digest": file_digest(data / path), "part": part})
    table = pd.DataFrame(rows)
    table.drop(columns="part").to_parquet(data / "manifest.parquet", index=False)
    table[["sequence", "patient", "label", "part"]].assign(fold=0).to_parquet(data / "split.parquet", index=False)
    params = {
        "tasks": {"movement": {"drop": "data/movement/drop", **network("fetalmovnet"), "rivals": ["cnn"]}},
        "phantoms": [],
        "ablations": {"movement-cnn": {"task": "movement", **network("cnn")}},
        "movement": {
            "phantom": {"sequences": {label: 4 for label in LABELS}},
            "extract": {"frames": FRAMES, "stride": FRAMES},
            "preprocess": {"size": SIZE},
            "split": {},
            "validate": {},
            "train": {"batch": 4, "epochs": 6, "patience": 6, "learning_rate": 3e-4} | train,
            "networks": {v: {"batch_norm_momentum": 0.1} for v in ("fetalmovnet", "cnn")},
            "register": {},
        },
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return folder
