"""The hospitals of `next_cines`, what a frozen backbone sees on their cines (made once, and kept in a folder), and what
is known of cines without a label when others have one."""

import importlib
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fetalflow.annotation.next_cines import reasons_to_label
from fetalflow.artefacts import atomic_file, write_text
from fetalflow.evaluation.certainty.conformal import bound
from fetalflow.models.familiarity import fit_familiarity

ROOT = Path(__file__).parents[2]
SIZE = 128  # px; the backbone has features of 4 x 4 places there
LEVEL, FALSE_ALARMS, HELD_OUT = 0.9, 0.05, 0.3


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
    params[task]["preprocess"]["size"] = SIZE
    place.mkdir(parents=True, exist_ok=True)
    write_text(place / "params.yaml", yaml.safe_dump(params, sort_keys=False))
    with chdir(place):
        for stage in ("phantom", "extract", "preprocess"):
            importlib.import_module(f"stages.{stage}").main(task)


def _features(paths: list[Path]) -> np.ndarray:
    """For each sequence the mean over its frames and the picture and, where it has several frames, the mean change from
    frame to frame."""
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


@dataclass(frozen=True)
class Hospital:
    """rows: source, patient, label of each of n sequences; x: float [n, D], what the backbone sees."""

    task: str
    rows: pd.DataFrame
    x: np.ndarray


def learn(x: np.ndarray, y: np.ndarray) -> LogisticRegression:
    """The network that learns from the labels."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300)).fit(x, y)


def full(model: Any, x: np.ndarray, labels: list[str]) -> np.ndarray:
    """float [n, K]: the probability of each label, 0 for one that was not learned."""
    found = np.zeros((len(x), len(labels)))
    found[:, pd.Index(labels).get_indexer(model.classes_)] = model.predict_proba(x)
    return found


def candidates(hospital: Hospital, x: np.ndarray, chosen: np.ndarray, pool: np.ndarray, seed: int) -> pd.DataFrame:
    """The rows of `order_cines`: what can be known of the cines of `pool` when those of `chosen` are labelled."""
    rows, labels = hospital.rows, sorted(hospital.rows["label"].unique())
    y, patients = rows["label"].to_numpy(), rows["patient"].to_numpy()
    known = np.flatnonzero(rows["source"].isin(chosen))
    rest = np.flatnonzero(rows["source"].isin(pool))
    learned = learn(x[known], y[known])
    p = full(learned, x[rest], labels)
    others = (KNeighborsClassifier(5, weights="distance"), RandomForestClassifier(30, random_state=seed))
    votes = [full(other.fit(x[known], y[known]), x[rest], labels).argmax(axis=1) for other in others]
    held = np.random.default_rng(seed).permutation(np.unique(patients[known]))
    held = np.isin(patients[known], held[: max(1, int(HELD_OUT * len(held)))])
    fitted, calibrated = known[~held], known[held]
    least, unfamiliarity = 0.0, np.zeros(len(rest))
    if len(np.unique(y[fitted])) > 1:
        of_held = full(learn(x[fitted], y[fitted]), x[calibrated], labels)
        at_label = of_held[np.arange(len(calibrated)), pd.Index(labels).get_indexer(y[calibrated])]
        least = 1 - bound(1 - at_label, patients[calibrated], LEVEL).value
        codes = pd.Index(labels).get_indexer(y[fitted])
        familiarity = fit_familiarity("frozen", x[fitted], codes, x[calibrated], FALSE_ALARMS)
        unfamiliarity = familiarity.score(x[rest])
    found: dict[str, list[int]] = {}
    for place, source in enumerate(rows["source"].to_numpy()[rest]):
        found.setdefault(source, []).append(place)
    made = []
    for source, places in found.items():
        windows = [
            {"first_frame": 0, "last_frame": 0, "probabilities": dict(zip(labels, p[at], strict=True))}
            | {"label_set": [label for label, each in zip(labels, p[at], strict=True) if each >= least]}
            | {"unfamiliarity": unfamiliarity[at]}
            for at in places
        ]
        named = {str(name): [labels[vote[at]] for at in places] for name, vote in enumerate(votes)}
        reasons = reasons_to_label(windows, named)
        made.append((source, patients[rest[places[0]]], reasons, p[places].mean(axis=0), False))
    done = rows.iloc[known].drop_duplicates("source")
    of_done = pd.DataFrame(full(learned, x[known], labels)).groupby(rows["source"].to_numpy()[known]).mean()
    made += [(s, q, [], of_done.loc[s].to_numpy(), True) for s, q in done[["source", "patient"]].to_numpy()]
    return pd.DataFrame(made, columns=["source", "patient", "reasons", "p", "done"])
