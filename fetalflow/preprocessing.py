"""Sequences as the networks take them (paper III-B): fitted to a square, one memory-mappable file each."""

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from fetalflow.artefacts import atomic_file, atomic_folder, file_digest, read_json
from fetalflow.cine.resampling import source_frames
from fetalflow.errors import InputError
from fetalflow.sequences import fit, fit_scale


def preprocess(extracted: pd.DataFrame, store: Path, folder: Path, size: int, workers: int = -1) -> pd.DataFrame:
    """Write `<sequence>.npy`, uint8 [N, size, size], for every row of `extracted` into `folder`, replaced whole.

    Returns the manifest: `extracted` with `mm_per_px` of the resized image, `path` (from the folder above) and `digest`
    (SHA-256 of the file). store: the decoded cines of `extract_drop`; runs where that does. Raises InputError when a
    cine is missing there.
    """
    by_cine = itemgetter("source")
    rows = sorted(extracted.to_dict("records"), key=by_cine)
    # Absolute: a worker on another machine stands in another folder.
    with atomic_folder(folder.absolute()) as target:
        store = store.absolute()
        calls = (delayed(_write_sequences)(list(of_cine), store, target, size) for _, of_cine in groupby(rows, by_cine))
        digests = dict(pair for done in Parallel(n_jobs=workers)(calls) for pair in done)
        for torn in target.glob(".*"):  # of a worker that died and whose work another one did again
            torn.unlink()
    manifest = extracted.copy()
    scale = [fit_scale(row.height, row.width, size) for row in manifest.itertuples()]
    manifest["mm_per_px"] = manifest["mm_per_px"] / np.array(scale)
    manifest["path"] = [f"{folder.name}/{sequence}.npy" for sequence in manifest["sequence"]]
    manifest["digest"] = [digests[sequence] for sequence in manifest["sequence"]]
    return manifest


def _write_sequences(rows: Sequence[dict], store: Path, folder: Path, size: int) -> list[tuple[str, str]]:
    """The sequences of one cine: ids and digests of the files."""
    cv2.setNumThreads(1)  # joblib already gives every core a process
    written, cine = [], _cine(store, rows[0])
    for row in rows:
        file = folder / f"{row['sequence']}.npy"
        with atomic_file(file) as temporary:
            np.save(temporary, fit(cine[source_frames(row["first_frame"], row["frames"], row["step"])], size))
        written.append((row["sequence"], file_digest(file)))
    return written


def _cine(store: Path, row: dict) -> np.ndarray:
    """Compared with its digest: DVC does not cache the store, and it is kept for years."""
    path = store / f"{row['source']}.npy"
    try:
        if file_digest(path) != read_json(path.with_suffix(".json"))["digest"]:
            raise InputError(
                f"{path}, the decoded frames of {row['video']}, is not as extract wrote it; a disk may be failing. "
                "Remove it and run the pipeline again: it is decoded anew."
            )
        return np.lib.format.open_memmap(path, mode="r")
    except (FileNotFoundError, ValueError, KeyError) as error:
        message = f"the decoded frames of {row['video']} are missing or damaged ({error}). Run extract again."
        raise InputError(message) from None
