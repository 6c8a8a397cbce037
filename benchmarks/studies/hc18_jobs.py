"""What hc18 and landmarks share: heads of HC18 in the network's size, their folds, and a package trained on some."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch.utils.data import Dataset, Subset

from fetalflow.artefacts import atomic_file, read_json, write_json
from fetalflow.biometry.drawing import draw_measured
from fetalflow.biometry.measuring import Measured
from fetalflow.biometry.outline import Spacing
from fetalflow.cine.letterbox import fit
from fetalflow.cine.masked import open_masked
from fetalflow.cine.masks import Reading, read_mask
from fetalflow.errors import InputError
from fetalflow.hospital.drop.layouts.hc18 import read_hc18
from fetalflow.hospital.drop.layouts.landmarks import read_landmarks
from fetalflow.hospital.drop.layouts.layout import Files
from fetalflow.inference.examination.examine import examine
from fetalflow.inference.package import Package
from fetalflow.models.answering import feature_layer
from fetalflow.models.building import build
from fetalflow.models.familiarity import fit_familiarity
from fetalflow.models.weights import save
from fetalflow.settings.params import Settings
from fetalflow.training.answers import BATCH, answer_dataset
from fetalflow.training.fitting import fit_network
from fetalflow.training.start import begin_from
from flows.workspaces.workspace import settings_of

VALIDATION = 0.06  # of the heads that are not held out: for the curves, and for what is unlike the training data
SEED = 0  # of the order of the heads
WORST, ACROSS = 10, 4  # images of a picture, and in a row of it

Marks = dict[str, dict[str, str]]  # by the plain name of an image, see `read_landmarks`


class Heads(Dataset):
    """(float32 [1, size, size] in 0-1, mask uint8 [1, size, size], 0) of each row, read and masked as the pipeline does
    it, once, when it is first used."""

    def __init__(self, rows: pd.DataFrame, root: Path, settings: Settings):
        block = settings.block("biometry")
        self.rows, self.root, self.extract, self.size = (
            rows.to_dict("records"),
            root,
            block.extract,
            block.preprocess.size,
        )
        self.read: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        if i not in self.read:
            self.read[i] = self._read(self.rows[i])
        frames, mask = self.read[i]
        return frames.float() / 255, mask, 0

    def _read(self, row: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        with open_masked(self.root / row["video"], self.extract) as cine:
            frames = fit(np.asarray(cine.frames), self.size)
        mask = read_mask(self.root / row["mask"], None, Reading(pen=float(row["mask_pen_px"])))
        return torch.from_numpy(frames), torch.from_numpy((fit(255 * mask, self.size) > 127).astype(np.uint8))


def recipe(changes: Sequence[dict[str, Any]] = ()) -> Settings:
    """The settings of `fetalflow run --task biometry --profile hc18`, with further changes."""
    return settings_of("biometry", ["hc18"], changes)


def usable_rows(folder: Path) -> pd.DataFrame:
    """The rows of HC18 without a fault. The published set is also given out in part: rows whose image is not there are
    left out."""
    rows = read_hc18(folder)
    there = rows["video"].map(lambda video: (folder / video).is_file())
    return rows[(rows["fault"] == "") & there].reset_index(drop=True)


def fold_parts(patients: pd.Series, folds: int, fold: int | None) -> pd.Series:
    """train, validation or test for each image, by its head; no head is in two parts. fold: the tested one of `folds`;
    None: no head is tested, as for a package to use."""
    heads = np.random.default_rng(SEED).permutation(sorted(patients.unique()))
    test = heads[:0] if fold is None else np.array_split(heads, folds)[fold]
    rest = heads[~np.isin(heads, test)]
    validation = rest[: max(1, round(VALIDATION * len(rest)))]
    return pd.Series(
        np.select([patients.isin(test), patients.isin(validation)], ["test", "validation"], "train"), patients.index
    )


def train_package(heads: Heads, parts: pd.Series, settings: Settings, seed: int, folder: Path) -> None:
    """Train on `heads` by their `parts`, and write `folder`/package. A killed training continues after its last whole
    epoch, whose checkpoint is in `folder`/checkpoints."""
    block, entry = settings.block("biometry"), settings.tasks["biometry"]
    train, validation = (Subset(heads, np.flatnonzero(parts == part).tolist()) for part in ("train", "validation"))
    model = {"task": "biometry", "variant": entry.variant, "network": entry.network, "labels": ["head"], "frames": 1}
    model |= {"size": block.preprocess.size, "options": entry.options}
    print(f"{len(train)} images are trained on, {len(validation)} are for validation", flush=True)
    torch.manual_seed(seed)
    network = build(entry.network, 1, model["size"], 1, **entry.options)
    begin_from(block.train.start, network, model)
    fitted = fit_network(network, train, validation, block.train, seed, folder / "checkpoints", 1, _print_epoch)
    features = [answer_dataset(network, part, BATCH)[1] for part in (train, validation)]
    labels = np.full(len(train), "head")
    known = fit_familiarity(feature_layer(network), features[0], labels, features[1], block.train.false_alarms)
    training = {"seed": seed, "kept_epoch": fitted.kept_epoch, "epochs": len(fitted.curves)}
    config = model | {"extract": block.extract.model_dump(mode="json"), "training": training}
    config |= {"familiarity": known.facts | {"false_alarms": block.train.false_alarms}}
    save(folder / "package", network, config, known.arrays)


def _print_epoch(row: dict[str, Any]) -> None:
    print(
        f"epoch {row['epoch']}: training loss {row['train_loss']:.3f}, validation loss {row['val_loss']:.3f}, Dice "
        f"{row['val_dice']:.4f}, {row['seconds']:.0f} s",
        flush=True,
    )


def check_same_recipe(out: Path, settings: Settings, folds: int, seed: int) -> None:
    """Keep the recipe of the folder `out`. Raises InputError where it holds folds of another one."""
    block, entry = settings.block("biometry"), settings.tasks["biometry"]
    recipe = {"folds": folds, "seed": seed, "network": entry.network, "options": entry.options}
    recipe |= {name: getattr(block, name).model_dump(mode="json") for name in ("extract", "preprocess", "train")}
    kept = out / "recipe.json"
    if kept.is_file() and read_json(kept) != recipe:
        raise InputError(f"{out} holds folds of another recipe, see {kept}. Choose another folder, or remove it.")
    write_json(kept, recipe)


def landmarks_of(folder: Path, name: str) -> Marks:
    """The landmarks of the set `name` that can be used."""
    names = tuple(sorted(path.name for path in folder.iterdir()))
    found = read_landmarks(Files("", names, (), lambda table: folder / table, folder), name)
    return {image: mark for image, mark in found.items() if not mark["fault"]}


def draw_worst(path: Path, package: Package, table: pd.DataFrame, rows: pd.DataFrame, root: Path) -> None:
    """A picture of the WORST images of `table` by the error of the circumference; those without a length come first."""
    errors = (table["found_hc_mm"] - table["true_hc_mm"]).abs().fillna(np.inf)
    worst = table.loc[errors.sort_values(ascending=False).index[:WORST]]
    by_video = rows.set_index("video")
    figure, places = Figure(figsize=(5 * ACROSS, 4.2 * -(-len(worst) // ACROSS)), dpi=80), range(1, len(worst) + 1)
    for place, row in zip(places, worst.to_dict("records"), strict=True):
        fact = by_video.loc[row["sequence"]]
        scale = float(fact["mm_per_px"])
        found = examine(package, root / row["sequence"], scale, show_unfamiliar=True)
        mask = read_mask(root / fact["mask"], None, Reading(pen=float(fact["mask_pen_px"])))[0] > 0
        measured = found.measured[found.shown] or Measured("head", "mm")
        title = (
            f"{row['filename']}: HC {row['found_hc_mm']:.1f} mm, true {row['true_hc_mm']:.1f}, Dice {row['dice']:.3f}"
        )
        axes = figure.add_subplot(-(-len(worst) // ACROSS), ACROSS, place)
        answer = found.answer(found.shown)
        draw_measured(axes, found.picture, answer, measured, Spacing(scale, scale), title, truth=mask)
    figure.tight_layout()
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png")
