"""The trainings of the study `pretraining`: of lung cines and of heads of HC18, each from four beginnings."""

import tempfile
import time
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.studies.hc18_jobs import Heads, fold_parts, recipe, train_package, usable_rows
from fetalflow.artefacts import read_json, write_json, write_table
from fetalflow.inference.examination.folder import measure_rows
from fetalflow.inference.package import load
from fetalflow.models.building import build
from fetalflow.sequences.extraction import extract_drop
from fetalflow.sequences.preprocessing import preprocess
from fetalflow.sequences.split import split
from fetalflow.sequences.unlabelled import Held, held_out, read_unlabelled
from fetalflow.settings.params import Machines, Pretrain, Split
from fetalflow.training.answers import answer_rows
from fetalflow.training.one_run import train_once
from fetalflow.training.pretrained import FITTING, PRETRAINING, pretrained_in, save_pretrained
from fetalflow.training.pretraining import METHOD, pretrain
from flows.workspaces.workspace import settings_of

# The beginning: ImageNet's weights in the encoder or random ones, and whether pretraining without labels follows.
# In this order, so that a study that is stopped has compared the most important ones; `both` is what the stage does.
STARTS = {"random": (False, False), "imagenet": (True, False), "both": (True, True), "unlabelled": (False, True)}
STRIDE = 80  # frames between two labelled lung sequences, as in docs/ml-lead/lung.md
SHARE = 0.1  # of the training heads that have labels
FOLDS = 5

Job = Callable[[str, int, int], dict[str, Any]]  # start, fold, seed -> result


@dataclass(frozen=True)
class Sizes:
    """What decides how long the study takes."""

    lung_frames: int = 2  # movement says nothing about these labels (docs/ml-lead/lung.md)
    lung_epochs: int = 6
    lung_pretraining: int = 10
    hc18_epochs: int = 10
    hc18_pretraining: int = 2
    hc18_size: int = 64
    hc18_measured: int = 40  # heads of the tested fold


def kept(file: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result in `file`, which is made first where there is none."""
    if not file.is_file():
        start = time.process_time()
        result = make()
        write_json(file, result | {"cpu_s": round(time.process_time() - start, 1)})
        print(f"{file.parent.name}/{file.stem}: {time.process_time() - start:.0f} s", flush=True)
    return read_json(file)


def beginning(
    folder: Path, model: dict[str, Any], files: Callable[[], list[list[Path]]], epochs: int, seed: int = 0
) -> Path:
    """The pretrained weights in `folder`, which are made first where there are none."""
    if not folder.is_dir():
        torch.manual_seed(seed)
        network = build(model["network"], model["frames"], model["size"], 2, **model["options"])
        settings, start = Pretrain(epochs=epochs, seed=seed), time.process_time()
        with tempfile.TemporaryDirectory() as scratch:
            done = pretrain(network, files(), settings, Path(scratch), report=lambda row: None)
        facts = {"method": METHOD, "epochs": epochs, "cpu_s": round(time.process_time() - start, 1)}
        facts |= {"losses": done.curves["loss"].tolist(), "spread": done.curves["spread"].tolist()}
        save_pretrained(folder, done.weights, {key: model[key] for key in FITTING} | {PRETRAINING: facts})
        losses = done.curves["loss"].iloc[[0, -1]].round(2).tolist()
        print(f"{folder.name}: pretrained, loss {losses}, {facts['cpu_s']} s", flush=True)
    return pretrained_in(folder)


class Lung:
    """Labels of lung cines, by the light network of movement at 64 px. Without labels: all sequences of the training
    patients' cines, of which the labelled ones are a part."""

    name = "lung"

    def __init__(self, drop: Path, folder: Path, sizes: Sizes):
        self.drop, self.folder, self.sizes = drop, folder, sizes
        self.block = settings_of("movement").blocks["movement"]
        data = folder / "data"
        self.extract = self.block.extract.model_copy(
            update={"labels": None, "stride": STRIDE, "workers": 1, "frames": sizes.lung_frames}
        )
        if not (data / "manifest.parquet").is_file():
            found = extract_drop(drop, self.extract, data / "frames").sequences
            write_table(data / "manifest.parquet", preprocess(found, data / "frames", data / "sequences", 64, 1))
        self.data, self.manifest = (
            data,
            pd.read_parquet(data / "manifest.parquet").drop(columns="part", errors="ignore"),
        )
        self.parts = split(self.manifest, Split(kind="grouped", folds=FOLDS))
        self.labels = sorted(set(self.manifest["label"]))

    def rows(self, fold: int) -> pd.DataFrame:
        return self.manifest.merge(self.parts.loc[self.parts["fold"] == fold, ["sequence", "part"]], on="sequence")

    def files(self, fold: int) -> list[list[Path]]:
        store, rows = self.folder / f"unlabelled-{fold}", self.rows(fold)
        if not (store / "frames").exists():
            store.mkdir(parents=True, exist_ok=True)
            (store / "frames").symlink_to((self.data / "frames").absolute())
        who = {row.video: {"patient": row.patient, "site": row.site, "device": ""} for row in rows.itertuples()}
        held = held_out(rows[rows["part"] != "train"], self.data / "frames")
        dense = self.extract.model_copy(update={"stride": self.block.extract.stride})
        found = read_unlabelled(self.drop, who, dense, Pretrain(), 64, store, [held])
        return [[store / path for path in of["path"]] for _, of in found.sequences.groupby("source")]

    def run(self, start: str, fold: int, seed: int) -> dict[str, Any]:
        imagenet, unlabelled = STARTS[start]
        model = {"task": "movement", "variant": start, "network": "fetalmovnet_s", "labels": self.labels, "size": 64}
        model |= {"frames": self.extract.frames, "options": {"pretrained": imagenet}}
        begin = ""
        if unlabelled:
            place = self.folder / "weights" / f"{start}-fold{fold}"
            begin = str(beginning(place, model, lambda: self.files(fold), self.sizes.lung_pretraining))
        epochs, rows = self.sizes.lung_epochs, self.rows(fold)
        changes = {"epochs": epochs, "patience": epochs, "start": begin}
        settings = self.block.train.model_copy(update=changes)
        with tempfile.TemporaryDirectory() as scratch, chdir(scratch):
            network, fitted, _ = train_once(model, rows, self.data.absolute(), settings, fold, seed, Machines())
        asked = rows[rows["part"] == "test"]
        found = answer_rows(network, asked, self.data, self.labels).probabilities.argmax(axis=1)
        return {
            "sequence": asked["sequence"].tolist(),
            "patient": asked["patient"].tolist(),
            "truth": asked["label"].tolist(),
            "answers": {"last": [self.labels[each] for each in found]},
            "training_accuracy": float(fitted.curves["train_accuracy"].iloc[-1]),
            "fold": fold,
            "seed": seed,
        }


class Hc18:
    """Circumferences of heads, by the light network of biometry, with the labels of a tenth of the training heads.
    Without labels: the images of all training heads."""

    name = "hc18"

    def __init__(self, root: Path, folder: Path, sizes: Sizes):
        self.root, self.folder, self.sizes = root, folder, sizes
        self.table = usable_rows(root)
        self.heads: Heads | None = None

    def settings(self, imagenet: bool, begin: str) -> Any:
        epochs = self.sizes.hc18_epochs
        train = {"epochs": epochs, "patience": epochs, "small_epochs": 0, "ema": 0.9, "start": begin}
        options = {"tasks": {"biometry": {"options": {"pretrained": imagenet}}}}
        return recipe([{"biometry": {"preprocess": {"size": self.sizes.hc18_size}, "train": train}}, options])

    def parts(self, fold: int, seed: int) -> pd.Series:
        """train, validation, test, or unlabelled, by head."""
        parts = fold_parts(self.table["patient"], FOLDS, fold)
        heads = np.random.default_rng(seed).permutation(sorted(self.table.loc[parts == "train", "patient"].unique()))
        labelled = heads[: max(8, round(SHARE * len(heads)))]
        return parts.mask((parts == "train") & ~self.table["patient"].isin(labelled), "unlabelled")

    def files(self, fold: int) -> list[list[Path]]:
        parts, store = fold_parts(self.table["patient"], FOLDS, fold), self.folder / f"unlabelled-{fold}"
        who = {row.video: {"patient": row.patient, "site": "", "device": ""} for row in self.table.itertuples()}
        rest = self.table[parts != "train"].assign(site="")
        held = Held(held_out(rest.assign(source=""), Path("nowhere")).people)
        block = self.settings(True, "").block("biometry")
        extract = block.extract.model_copy(update={"workers": 1})
        found = read_unlabelled(self.root, who, extract, Pretrain(), block.preprocess.size, store, [held])
        return [[store / path for path in of["path"]] for _, of in found.sequences.groupby("source")]

    def run(self, start: str, fold: int, seed: int) -> dict[str, Any]:
        imagenet, unlabelled = STARTS[start]
        settings = self.settings(imagenet, "")
        entry, block = settings.tasks["biometry"], settings.block("biometry")
        model = {"network": entry.network, "frames": 1, "size": block.preprocess.size, "options": entry.options}
        begin = ""
        if unlabelled:
            place = self.folder / "weights" / f"{start}-fold{fold}"
            begin = str(beginning(place, model, lambda: self.files(fold), self.sizes.hc18_pretraining))
        if self.heads is None:
            self.heads = Heads(self.table, self.root, settings)
        parts = self.parts(fold, seed)
        rows = self.table[parts == "test"].drop_duplicates("patient").iloc[: self.sizes.hc18_measured]
        with tempfile.TemporaryDirectory() as scratch:
            train_package(self.heads, parts, self.settings(imagenet, begin), seed, Path(scratch))
            package = load(Path(scratch) / "package", engine="torch")
            table = pd.DataFrame([row for row, _ in measure_rows(package, rows, self.root, show_unfamiliar=True)])
        return {
            "image": table["sequence"].tolist(),
            "patient": table["patient"].astype(str).tolist(),
            "found": [None if np.isnan(each) else each for each in table["found_hc_mm"].astype(float)],
            "true": table["true_hc_mm"].astype(float).tolist(),
            "dice": table["dice"].astype(float).fillna(0).tolist(),
            "labelled": int((parts == "train").sum()),
            "fold": fold,
            "seed": seed,
        }
