"""How exactly a network trained on real images of HC18 measures heads that it never saw, in mm.

    python -m benchmarks hc18 FOLDER

FOLDER holds HC18's training set as published. Heads, not images, are held out (a fifth of them, drawn by --seed); the
rest is trained on to the end, and nothing is chosen on the held-out heads. Prints seconds per epoch, then Dice, the
error of the circumference against the table, and the error of the annotation measured in the same way, without half of
the pen that drew it; with 95 % intervals over heads. Held-out images are measured as the pipeline measures them.
"""

import argparse
import tempfile
import time
import warnings
from pathlib import Path

import lightning
import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.data import Dataset

from fetalflow.biometry.measuring import measure_frame
from fetalflow.biometry.outline import Spacing
from fetalflow.cine.field_of_view import as_text, sector_of
from fetalflow.cine.letterbox import fit, fit_scale
from fetalflow.cine.masks import Reading, read_mask
from fetalflow.cine.reading import read_cine
from fetalflow.cine.recording import Limits
from fetalflow.evaluation.intervals import LEAST_PATIENTS, in_words
from fetalflow.evaluation.measurement_rows import measurement_row
from fetalflow.evaluation.measurement_scores import score_measurements
from fetalflow.evaluation.predictions import check_predictions
from fetalflow.hospital.drop.layouts.hc18 import read_hc18
from fetalflow.inference.latency import machine
from fetalflow.models.answering import ask
from fetalflow.models.building import build
from fetalflow.settings.params import Evaluate, Train
from fetalflow.training.fitting import choose_device, make_trainer
from fetalflow.training.loading import training_loader
from fetalflow.training.segmenter import Segmenter

HELD_OUT = 0.2  # of the heads
WARM_UP = 3  # held-out images that are not timed


class Heads(Dataset):
    """(float32 [1, size, size] in 0-1, mask uint8 [1, size, size], 0) of each row, read once. facts: by item, what the
    pipeline's manifest says of it."""

    def __init__(self, rows: pd.DataFrame, root: Path, size: int):
        self.items, self.facts = [], []
        for row in rows.to_dict("records"):
            frames = read_cine(root / row["video"], Limits()).frames
            mask = read_mask(root / row["mask"], None, Reading(pen=float(row["mask_pen_px"])))
            fitted = (fit(255 * mask, size) > 127).astype(np.uint8)
            self.items.append((torch.from_numpy(fit(frames, size)).float() / 255, torch.from_numpy(fitted), 0))
            height, width = frames.shape[1:]
            fitted_scale = float(row["mm_per_px"]) / fit_scale(height, width, size)
            sector = as_text(sector_of(frames), size)
            own = {"mm_per_px": fitted_scale, "height": height, "width": width, "sector": sector}
            self.facts.append(row | own | {"sequence": row["video"], "y_true": "head", "y_pred": "head"})

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        return self.items[i]


class Epochs(lightning.Callback):
    """Prints each epoch; ends the training after `seconds`."""

    def __init__(self, seconds: float):
        self.seconds, self.start = seconds, time.perf_counter()

    def on_train_batch_end(self, trainer: lightning.Trainer, *_) -> None:
        trainer.should_stop = trainer.should_stop or time.perf_counter() - self.start > self.seconds

    def on_train_epoch_end(self, trainer: lightning.Trainer, *_) -> None:
        loss, seconds = trainer.callback_metrics["train_loss"], time.perf_counter() - self.start
        print(f"epoch {trainer.current_epoch + 1}: training loss {loss:.3f}, {seconds:.0f} s", flush=True)


def interval(figures: dict[str, float], name: str, form: str) -> str:
    value, low, high = (figures[f"{name}{end}"] for end in ("", "_low", "_high"))
    return f"{value:{form}} {in_words(low, high, LEAST_PATIENTS, form)}"


def measure_held_out(network: nn.Module, held: Heads) -> None:
    network.eval()
    rows, times = [], []
    for (frames, mask, _), facts in zip(held.items, held.facts, strict=True):
        start = time.perf_counter()
        answer = ask(network, frames[None]).mask_probabilities[0]
        measure_frame(answer[0], "head", Spacing(facts["mm_per_px"], facts["mm_per_px"]))
        times.append(1000 * (time.perf_counter() - start))
        rows.append(facts | measurement_row(answer, mask.numpy() > 0, facts, None))
    found = score_measurements(check_predictions(pd.DataFrame(rows)), Evaluate())
    said = [f"Dice {interval(found['metrics'], 'dice', '.4f')}, median {pd.DataFrame(rows)['dice'].median():.4f}"]
    for name, row in (("the network", found["agreement"][0]), ("the annotation itself", found["floor"][0])):
        said.append(
            f"{name}: circumference MAE {interval(row, 'mae', '.2f')} mm, mean error {interval(row, 'bias', '+.2f')}, "
            f"SD {row['sd']:.2f}; {row['n']} images of {row['patients']} heads, {row['refused']} refused"
        )
    print("\n".join(said))
    print(f"one image, network and measuring: median {np.median(times[WARM_UP:]):.0f} ms")


def trained(heads: Heads, chosen: argparse.Namespace) -> nn.Module:
    """The network `chosen.network`, trained on the heads by the other options of `add_training`."""
    settings = Train(
        batch=chosen.batch,
        epochs=chosen.epochs,
        optimizer="adamw",
        learning_rate=chosen.rate,
        weight_decay=0.01,
        schedule="cosine",
        augment=True,
    )
    torch.manual_seed(chosen.seed)
    network = build(chosen.network, 1, chosen.size, 1).train()
    warnings.filterwarnings("ignore", message=".*no `val_dataloader`.*")  # on purpose: nothing is chosen
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(settings.epochs, *choose_device(settings), [Epochs(chosen.seconds)], Path(folder))
        trainer.fit(Segmenter(network, settings), training_loader(heads, settings.batch, chosen.seed))
    return network


def add_training(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--network", default="fetalnet_lite")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=5400.0, help="of training, at most")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    add_training(parser)
    parser.add_argument("--weights", type=Path, help="where to leave the trained weights")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    rows = read_hc18(chosen.folder)
    # The published set is also given out in part: rows whose image is not there are left out.
    rows = rows[(rows["fault"] == "") & rows["video"].map(lambda video: (chosen.folder / video).is_file())]
    heads = np.random.default_rng(chosen.seed).permutation(sorted(rows["patient"].unique()))
    out = rows["patient"].isin(heads[: int(HELD_OUT * len(heads))])
    train, held = (Heads(part, chosen.folder, chosen.size) for part in (rows[~out], rows[out]))
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    print(f"{chosen.network}, {chosen.size} px: {len(train)} images trained on, {len(held)} of other heads held out")

    network = trained(train, chosen)
    if chosen.weights:
        torch.save(network.state_dict(), chosen.weights)
    measure_held_out(network.cpu(), held)


if __name__ == "__main__":
    main()
