"""A file with the masks that a network predicted, by sequence, so that they can be measured again without training."""

import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from fetalflow.artefacts import atomic_file
from fetalflow.errors import InputError

LEVELS = 255  # steps of a stored probability; rounding moves the outline at one half by less than 1/100 px
DAMAGED = (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error)


@contextmanager
def writing(path: Path) -> Iterator[Callable[[str, np.ndarray], None]]:
    """Write an archive that NumPy can read, with one sequence at a time in memory. Yields a function that adds a
    sequence: its name and its mask, float [N, H, W] in 0-1."""
    with atomic_file(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:

        def add(sequence: str, mask: np.ndarray) -> None:
            with archive.open(f"{sequence}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.rint(mask * LEVELS).astype(np.uint8))

        yield add


@contextmanager
def reading(path: Path) -> Iterator[Callable[[str], np.ndarray]]:
    """Yields a function that returns the mask of a sequence, float32 [N, H, W] in 0-1.

    Raises InputError when the file is missing or damaged, or does not hold the sequence.
    """
    if not path.is_file():
        raise InputError(f"{path}, with the masks that the network predicted, is missing. Run the train stage again.")

    try:
        archive = np.load(path, allow_pickle=False)
    except DAMAGED as error:
        raise _damaged(path, error) from None

    def find(sequence: str) -> np.ndarray:
        try:
            return archive[sequence].astype(np.float32) / LEVELS
        except KeyError:
            raise InputError(f"{path} holds no mask of {sequence}. Run the train stage again.") from None
        except DAMAGED as error:
            raise _damaged(path, error) from None

    with archive:
        yield find


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} is damaged ({error}). Run the train stage again.")
