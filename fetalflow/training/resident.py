"""Keeps all sequences of a part on the device, so that making a batch is indexing and does not wait for the disk."""

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

ROOM = 0.5  # share of a GPU's free memory that sequences may use; the rest is for the network and its activations
AT_ONCE = 64  # sequences that are read and then copied to the device together


class Resident(Dataset):
    """The items of `dataset` on `device`: frames as uint8, as they were stored; the other parts unchanged.

    A batch is read with `__getitems__` and is bit for bit the batch that the loader makes of `dataset`.
    """

    def __init__(self, dataset: Dataset, device: torch.device, workers: int = 0):
        self.device, self.count = device, len(dataset)
        # A table, because a GPU divides by multiplying with the inverse, which differs in the last bit.
        self.grey = (torch.arange(256, dtype=torch.float32) / 255).to(device)
        self.columns: list[Tensor] = []
        loader = DataLoader(
            dataset, AT_ONCE, num_workers=workers, multiprocessing_context="forkserver" if workers else None
        )
        filled = 0
        for frames, *others in loader:
            part = [frames.mul_(255).round_().to(torch.uint8), *others]
            if not self.columns:
                self.columns = [torch.empty((self.count, *c.shape[1:]), dtype=c.dtype, device=device) for c in part]
            for column, values in zip(self.columns, part, strict=True):
                column[filled : filled + len(values)] = values
            filled += len(frames)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> tuple[Tensor, ...]:
        return tuple(part[0] for part in self.__getitems__([i]))

    def __getitems__(self, places: list[int]) -> tuple[Tensor, ...]:
        """A batch of the items with indices `places`: float32 [B, N, H, W] in 0-1, and the other columns."""
        index = torch.tensor(places)
        if self.device.type == "cuda":  # pinned, since a plain copy waits until the GPU has finished its step
            index = index.pin_memory().to(self.device, non_blocking=True)
        frames, *others = (column[index] for column in self.columns)
        return self.grey[frames.int()], *others


def stored_bytes(dataset: Dataset) -> int:
    """Bytes of `dataset` when it is resident. All items have the same shapes; frames are stored as uint8."""
    frames, *others = default_collate([dataset[0]])
    return len(dataset) * (frames.numel() + sum(column.nbytes for column in others))


def fits(device: torch.device, *datasets: Dataset) -> bool:
    """Whether `resident: auto` keeps the datasets on the device: only on a GPU, and only if they fit."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return sum(map(stored_bytes, datasets)) <= ROOM * free
