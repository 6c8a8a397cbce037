"""What every engine takes: a batch of frames of one type and shape, and a number of threads."""

import numpy as np

from fetalflow.errors import InputError

THREADS = 2


def check_batch(batch: np.ndarray, shape: list[int | None]) -> None:
    """Raises InputError if `batch` is not float32 [B, *shape]. None in `shape`: any number."""
    fits = batch.ndim == 4 and all(want in (None, found) for want, found in zip(shape, batch.shape[1:], strict=True))
    if batch.dtype != np.float32 or not fits or not len(batch):
        wanted = ", ".join("any" if side is None else str(side) for side in shape)
        raise InputError(
            f"an engine answers float32 [B, {wanted}] in 0-1, found {batch.dtype} {list(batch.shape)}. "
            "Fit the frames to the package's size; clips of another length are for the engine torch."
        )
