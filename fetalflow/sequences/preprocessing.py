"""Writes sequences in the form that networks read (paper III-B): fitted to a square, one file each that can be
memory-mapped."""

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from fetalflow.artefacts import atomic_file, atomic_folder, file_digest, read_json
from fetalflow.cine.field_of_view import as_text, sector_of
from fetalflow.cine.letterbox import fit, fit_scale
from fetalflow.cine.mask_store import stored_mask
from fetalflow.cine.resampling import source_frames
from fetalflow.errors import InputError
from fetalflow.hospital.drop.columns import LENGTHS
from fetalflow.sequences.manifest_columns import FILE_COLUMNS, TAKEN

MASKS = "masks"  # the folder of the masks beside that of the sequences
HALF = 128  # of 255: a pixel of the fitted image belongs to the structure when half of its area does


def preprocess(extracted: pd.DataFrame, store: Path, folder: Path, size: int, workers: int = -1) -> pd.DataFrame:
    """Write `<sequence>.npy`, uint8 [N, size, size], for every row of `extracted` into `folder`, and its mask, of the
    same shape with 1 in the structure, into MASKS beside it where it has one. Both folders are replaced whole.

    Returns the manifest: `extracted` with `mm_per_px` of the resized image, `path` and `mask_path` (relative to the
    folder above), `digest` and `mask_digest` (SHA-256 of the files) and `sector` (`cine.field_of_view.as_text`). The
    mask's columns are empty where there is no mask, and `sector` where there is neither a mask nor a length. store: the
    decoded cines of `extract_drop`. workers: processes; joblib decides where they run, as for `extract_drop`.

    Raises InputError when a cine or a mask is missing in the store.
    """
    by_cine = itemgetter("source")
    rows = sorted(extracted.to_dict("records"), key=by_cine)
    masks = folder.with_name(MASKS)
    # Absolute, because a worker on another machine has another working folder.
    with atomic_folder(folder.absolute()) as target, atomic_folder(masks.absolute()) as outlines:
        store = store.absolute()
        calls = (
            delayed(_write_sequences)(list(of_cine), store, target, outlines, size)
            for _, of_cine in groupby(rows, by_cine)
        )
        facts = dict(pair for done in Parallel(n_jobs=workers)(calls) for pair in done)
        for half_written in [*target.glob(".*"), *outlines.glob(".*")]:  # left by a worker that died
            half_written.unlink()
    manifest = extracted.copy()
    scale = [fit_scale(row.height, row.width, size) for row in manifest.itertuples()]
    manifest["mm_per_px"] = manifest["mm_per_px"] / np.array(scale)
    manifest["path"] = [f"{folder.name}/{sequence}.npy" for sequence in manifest["sequence"]]
    for column in ("digest", "mask_digest", "sector"):
        manifest[column] = [facts[sequence][column] for sequence in manifest["sequence"]]
    known = manifest["mask_digest"] != ""
    manifest["mask_path"] = (f"{MASKS}/" + manifest["sequence"] + ".npy").where(known, "")
    assert tuple(manifest)[len(extracted.columns) :] == FILE_COLUMNS, "a column of the drop was replaced"
    return manifest


def _write_sequences(
    rows: Sequence[dict], store: Path, folder: Path, masks: Path, size: int
) -> list[tuple[str, dict[str, str]]]:
    """Write the sequences of one cine and their masks. Returns the sequences' ids and the facts on their files."""
    cv2.setNumThreads(1)  # joblib already gives every core a process
    cine = _cine(store, rows[0])
    by_mask, written = itemgetter("mask_source"), []
    for source, of_mask in groupby(sorted(rows, key=by_mask), by_mask):
        outline = (
            stored_mask(source, store) if source else None
        )  # one mask at a time: all of them may not fit in memory
        for row in of_mask:
            taken = _taken(row)
            facts = {"digest": "", "mask_digest": "", "sector": ""}
            frames = cine[taken]
            facts["digest"] = _write(folder / f"{row['sequence']}.npy", fit(frames, size))
            if outline is not None:
                fitted = fit(255 * outline[taken], size) >= HALF
                facts["mask_digest"] = _write(masks / f"{row['sequence']}.npy", fitted.astype(np.uint8))
            if outline is not None or any(row.get(name) for name in LENGTHS):  # nothing else needs the sector
                facts["sector"] = as_text(sector_of(frames), size)
            written.append((row["sequence"], facts))
    return written


def _taken(row: dict) -> np.ndarray:
    """Recorded frame numbers of a sequence, int [N]."""
    if by_time := row.get(TAKEN):
        return np.array(by_time.split(), dtype=int)
    return source_frames(row["first_frame"], row["frames"], row["step"])


def _write(file: Path, array: np.ndarray) -> str:
    """Write `array` to `file`. Returns the SHA-256 of the file."""
    with atomic_file(file) as temporary:
        np.save(temporary, array)
        return file_digest(temporary)


def _cine(store: Path, row: dict) -> np.ndarray:
    """The decoded cine of a row. Its digest is checked, since the store is kept for years and DVC does not cache it."""
    path = store / f"{row['source']}.npy"
    try:
        if file_digest(path) != read_json(path.with_suffix(".json"))["digest"]:
            raise InputError(
                f"{path}, the decoded frames of {row['video']}, has changed since extract wrote it; a disk "
                "may be failing. Remove the file and run the pipeline again, which decodes the cine again."
            )
        return np.lib.format.open_memmap(path, mode="r")
    except InputError:
        raise
    except (FileNotFoundError, ValueError, KeyError) as error:
        message = f"the decoded frames of {row['video']} are missing or damaged ({error}). Run extract again."
        raise InputError(message) from None
