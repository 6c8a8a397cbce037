"""Reads sequences from disk for a network: checked, memory-mapped, in an order that depends on seed and epoch only."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, distributed
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, SequentialSampler

from fetalflow.artefacts import file_digest, named
from fetalflow.errors import InputError
from fetalflow.training.resident import Resident

NAMED = 5  # how many wrong files a message names
UNKNOWN = 255  # value of all pixels of the mask of a sequence that has none


class SequenceDataset(Dataset):
    """The sequences of a manifest as (float32 [N, H, W] in 0-1, int64 index of the label in `labels`).

    manifest: one row per sequence with `path` (relative to `root`) and `label`. masks: items are (frames, mask uint8
    [N, H, W], label). The mask is read from the column `mask_path` and is 1 in the structure; a sequence without a mask
    has UNKNOWN in all pixels. sites: then the index of their `site` in the sorted sites follows. taught: probabilities
    float32 [sequences, C], of which each item ends with its row. Sequences are read from disk when an item is read.

    Raises InputError when a label of the manifest is not in `labels`; with `sites` also when a sequence has no site, or
    all have the same site.
    """

    def __init__(
        self,
        manifest: pd.DataFrame,
        root: Path,
        labels: Sequence[str],
        masks: bool = False,
        sites: bool = False,
        taught: np.ndarray | None = None,
    ):
        self.paths = [Path(root) / path for path in manifest["path"]]
        self.targets = pd.Index(labels).get_indexer(manifest["label"])  # int64 [sequences]
        if (self.targets < 0).any():
            unknown = sorted(set(manifest["label"]) - set(labels))
            raise InputError(f"the manifest has the labels {unknown}; expected only {list(labels)}.")
        self.masks: list[Path | None] | None = None
        if masks:
            paths = manifest["mask_path"] if "mask_path" in manifest else [""] * len(manifest)
            self.masks = [Path(root) / path if path else None for path in paths]
        self.sites = site_codes(manifest) if sites else None  # int64 [sequences]
        self.taught = None if taught is None else torch.tensor(taught)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[Tensor | int, ...]:
        frames = torch.from_numpy(np.load(self.paths[i], mmap_mode="r").astype(np.float32)).div_(255)
        others = () if self.sites is None else (int(self.sites[i]),)
        others += () if self.taught is None else (self.taught[i],)
        if self.masks is None:
            return frames, int(self.targets[i]), *others
        file = self.masks[i]
        mask = torch.full(frames.shape, UNKNOWN, dtype=torch.uint8) if file is None else torch.from_numpy(np.load(file))
        return frames, mask, int(self.targets[i]), *others


def site_codes(manifest: pd.DataFrame) -> np.ndarray:
    """int64 [rows]: the index of each row's `site` in the sorted sites.

    Raises InputError when a row has no site, or all have the same site.
    """
    sites = named(manifest["site"]) if "site" in manifest else pd.Series([""])
    if (sites == "").any() or sites.nunique() < 2:
        raise InputError(
            f"aligning sites needs a `site` for every training sequence, and at least two sites; found "
            f"{sorted(set(sites))}. Fill in `site` in the drop, or --set TASK.train.align=0."
        )
    return np.unique(sites.to_numpy(dtype=str), return_inverse=True)[1]


def check_sequences(manifest: pd.DataFrame, root: Path) -> None:
    """Compare every sequence file and every mask file with the SHA-256 in the manifest.

    A file may have changed since it was written: DVC checks out a damaged cache object without an error
    (docs/architecture.md, traps that were measured).
    Raises InputError naming the files that are missing or differ.
    """
    wrong = []
    listed = list(zip(manifest["path"], manifest["digest"], strict=True))
    if "mask_path" in manifest:
        listed += [pair for pair in zip(manifest["mask_path"], manifest["mask_digest"], strict=True) if pair[0]]
    for path, expected in listed:
        file = Path(root) / path
        if not file.is_file():
            wrong.append(f"  {file}: no such file")
        elif (found := file_digest(file)) != expected:
            wrong.append(f"  {file}: expected SHA-256 {expected}, found {found}")
    if wrong:
        more = [f"  and {len(wrong) - NAMED} more"] if len(wrong) > NAMED else []
        raise InputError(
            f"{len(wrong)} of {len(listed)} sequence files are not those that preprocessing wrote:\n"
            + "\n".join(wrong[:NAMED] + more)
            + "\nRun the preprocess stage again with --force, and check the disk and the DVC cache."
        )


def draw(seed: int, epoch: int, purpose: int) -> int:
    """A separate seed for each (seed, epoch, purpose), so that what epoch 7 draws does not depend on epochs 0-6."""
    return int(np.random.SeedSequence([seed, epoch, purpose]).generate_state(1, np.uint64)[0])


class EpochOrder(Sampler[int]):
    """A new random order of 0..n-1 in each epoch. Lightning calls `set_epoch`."""

    def __init__(self, n: int, seed: int):
        self.n, self.seed, self.epoch = n, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(draw(self.seed, self.epoch, purpose=0))
        yield from torch.randperm(self.n, generator=generator).tolist()


def rank_and_count() -> tuple[int, int]:
    """Rank of this process among those that train together, and the number of these processes."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


class Batches(BatchSampler):
    """Batches of `batch_size` for all processes that train together; this process gets its share of each batch.

    A last batch with fewer than two sequences for each process is added to the batch before it, because batch norm
    cannot train on one sequence.
    """

    def __init__(self, sampler: Sampler[int], batch_size: int):
        super().__init__(sampler, batch_size, drop_last=False)

    def __len__(self) -> int:
        n = len(self.sampler)
        return max(1, n // self.batch_size + (n % self.batch_size >= 2 * rank_and_count()[1]))

    def __iter__(self) -> Iterator[list[int]]:
        rank, processes = rank_and_count()
        held: list[int] = []
        for batch in super().__iter__():
            if held and len(batch) < 2 * processes:
                batch = held + batch
            elif held:
                yield held[rank::processes]
            held = batch
        yield held[rank::processes]


class Shares(BatchSampler):
    """The sequences in order, in batches of `batch_size` for all processes; this process gets its share of each batch,
    so that every sequence is used once. Empty shares are left out, since no process waits for them."""

    def __init__(self, dataset: Dataset, batch_size: int):
        super().__init__(SequentialSampler(dataset), batch_size, drop_last=False)

    def __len__(self) -> int:
        rank, _ = rank_and_count()
        whole, rest = divmod(len(self.sampler), self.batch_size)
        return whole + (rest > rank)

    def __iter__(self) -> Iterator[list[int]]:
        rank, processes = rank_and_count()
        yield from (share for batch in super().__iter__() if (share := batch[rank::processes]))


def training_loader(dataset: Dataset, batch: int, seed: int, workers: int = 0, pin: bool = False) -> DataLoader:
    """float32 [B, N, H, W], int64 [B], shuffled. Raises InputError for fewer than two sequences."""
    if len(dataset) < 2:
        raise InputError(f"training needs two sequences at least, found {len(dataset)}. Check the split.")
    return _loader(dataset, Batches(EpochOrder(len(dataset), seed), batch), workers, pin)


def ordered_loader(dataset: Dataset, batch: int, workers: int = 0, pin: bool = False) -> DataLoader:
    """float32 [B, N, H, W], int64 [B], in the order of the dataset."""
    return _loader(dataset, Shares(dataset, batch), workers, pin)


def _loader(dataset: Dataset, batches: BatchSampler, workers: int, pin: bool) -> DataLoader:
    # A separate generator: a loader would draw from the global one, and dropout would then depend on the loader.
    generator = torch.Generator()
    if isinstance(dataset, Resident):
        return DataLoader(dataset, batch_sampler=batches, collate_fn=tuple, generator=generator)
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        # Not forked, because a forked child of a process with running threads may hang or die.
        multiprocessing_context="forkserver" if workers else None,
        persistent_workers=workers > 0,
        pin_memory=pin,
        generator=generator,
    )
