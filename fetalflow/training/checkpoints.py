"""Checkpoints, from which a killed training continues.

The name of a checkpoint folder is a digest of everything that decides the result, so a training never resumes from the
state of a different one. The folder holds `last.ckpt` (the full state after the last complete epoch) and
`lowest-<epoch>.safetensors` (the weights of the epoch with the lowest validation loss). It is outside DVC's outs,
because DVC deletes outs before a run, and is removed when the stage has written its results.
"""

import hashlib
import json
import math
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.io import TorchCheckpointIO
from safetensors.torch import load_file, save_file
from torch import nn

import fetalflow
from fetalflow.artefacts import atomic_file, file_digest
from fetalflow.errors import InputError
from fetalflow.settings.params import Train
from fetalflow.training.loading import draw

LAST = "last.ckpt"
CODE = ("models", "training")  # folders of fetalflow/ that decide the result of a training
ROWS = ("sequence", "digest", "label", "part", "site", "mask_digest")  # those of them that the table has


def training_digest(facts: dict[str, Any], rows: pd.DataFrame) -> str:
    """SHA-256, hex, of everything that decides a training: `facts` (JSON-able settings), the sequences with their
    digests, labels, parts, sites and masks (`rows`, in any order), the code, the versions of torch and Lightning."""
    code = Path(fetalflow.__file__).parent
    files = sorted(file for room in CODE for file in (code / room).rglob("*.py"))
    columns = [column for column in ROWS if column in rows]
    lines = sorted("\t".join(map(str, row)) for row in rows[columns].itertuples(index=False))
    whole = {
        "facts": facts,
        "rows": lines,
        "code": {str(file.relative_to(code)): file_digest(file) for file in files},
        "versions": [torch.__version__, lightning.__version__],
    }
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def last_checkpoint(folder: Path) -> Path | None:
    """The checkpoint from which a training in `folder` continues, or None. Raises InputError when it is damaged."""
    path = folder / LAST
    if not path.is_file():
        return None
    try:
        torch.load(path, weights_only=True, mmap=True)  # reads the structure only
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{path} is not a checkpoint of a training: {reason}. Remove {folder} to start again."
        ) from None
    return path


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint atomically and streams it to disk, where Lightning would hold two copies of it in memory."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Path | str, storage_options: Any = None) -> None:
        with atomic_file(path) as temporary:
            torch.save(checkpoint, temporary)


class Epochs(Callback):
    """Seeds each epoch, records its figures, saves the weights of the epoch with the lowest validation loss, and says
    which epoch is kept (`keep` of the settings).

    report: called with the row of each finished epoch: epoch (from 1), losses, accuracies, seconds.
    """

    def __init__(self, folder: Path, seed: int, settings: Train, report: Callable[[dict[str, Any]], None]):
        self.folder, self.seed, self.settings, self.report = folder, seed, settings, report
        self.rows: list[dict[str, Any]] = []
        self.lowest_epoch = 0  # the epoch with the lowest validation loss
        self.started = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "lowest_epoch": self.lowest_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows, self.lowest_epoch = list(state["rows"]), state["lowest_epoch"]

    @property
    def over(self) -> bool:
        """Whether early stopping has ended the training. Lightning forgets this when it resumes."""
        if not self.rows:
            return False
        return self._waited >= self.settings.patience or not math.isfinite(self.rows[-1]["val_loss"])

    @property
    def kept_epoch(self) -> int:
        """The epoch whose weights are kept, from 1; 0 when no validation loss was a number."""
        to_the_end = len(self.rows) == self.settings.epochs and math.isfinite(self.rows[-1]["val_loss"])
        return len(self.rows) if to_the_end and self.settings.keep == "last" else self.lowest_epoch

    @property
    def _waited(self) -> int:
        return len(self.rows) - self.lowest_epoch

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        if self.over:
            trainer.should_stop = True

    def on_train_batch_start(
        self, trainer: lightning.Trainer, module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # Not in on_train_epoch_start, which Lightning does not call in the first epoch after a resume.
        if batch_idx == 0:
            self.started = time.perf_counter()
            # Each process draws its own dropout and augmentation.
            torch.manual_seed(draw(self.seed, trainer.current_epoch, purpose=1 + trainer.global_rank))
            if trainer.is_global_zero:
                self._keep_only_the_lowest()

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        row = {"epoch": len(self.rows) + 1} | {n: float(trainer.callback_metrics[n]) for n in module.figures}
        row["seconds"] = time.perf_counter() - self.started
        lowest = min((r["val_loss"] for r in self.rows if math.isfinite(r["val_loss"])), default=math.inf)
        if row["val_loss"] < lowest:
            self.lowest_epoch = row["epoch"]
            if trainer.is_global_zero:
                self._save(module.answering)
        self.rows.append(row)
        if trainer.is_global_zero:
            self.report(row)

    def read_back(self) -> None:
        """Load the state that other processes have saved in the last checkpoint."""
        saved = torch.load(self.folder / LAST, weights_only=True, mmap=True)
        self.load_state_dict(saved["callbacks"][self.state_key])

    def restore(self, network: nn.Module) -> None:
        """Put the kept epoch's weights into `network`."""
        if self.kept_epoch == self.lowest_epoch:
            network.load_state_dict(load_file(self._lowest()))
            return
        state = torch.load(self.folder / LAST, weights_only=True, mmap=True)["state_dict"]
        prefix = "averaged.module." if self.settings.ema else "network."
        kept = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        network.load_state_dict(kept)

    def _save(self, network: nn.Module) -> None:
        state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
        with atomic_file(self._lowest()) as temporary:
            save_file(state, temporary)

    def _lowest(self) -> Path:
        return self.folder / f"lowest-{self.lowest_epoch}.safetensors"

    def _keep_only_the_lowest(self) -> None:
        # Only when last.ckpt names the new epoch, so that after a kill before this the older weights still exist.
        for file in self.folder.glob("lowest-*.safetensors"):
            if file != self._lowest():
                file.unlink()
        for half_written in self.folder.glob(".tmp*"):
            half_written.unlink()
