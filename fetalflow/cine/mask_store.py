"""The store of annotated masks, beside the decoded cines: `<SHA-256 of the mask's file>.mask.npz`, key `mask`, uint8
[T, H, W] with 1 in the structure, and `<SHA-256>.mask.json`, its record. Where the table says how the file is read,
the name is the SHA-256 of the file's and of that.

A mask is read again only when its bytes, the code or the libraries that read it change, or the stored file is damaged.
"""

import hashlib
import json
import os
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fetalflow.artefacts import atomic_file, file_digest, read_json, write_json
from fetalflow.cine import ellipses, mask_values, masks, metaimage, orientation, outlines, recording, still
from fetalflow.cine.masks import PLAIN, Reading, mask_of, mask_shape
from fetalflow.cine.orientation import squared
from fetalflow.errors import InputError

CODE = (
    *(module.__file__ for module in (ellipses, mask_values, masks, metaimage, orientation, outlines, recording, still)),
    __file__,
)


@cache
def recipe() -> str:
    """SHA-256 of everything except the mask that decides what is stored: the code and the libraries' versions."""
    facts = [*(file_digest(path) for path in CODE), cv2.__version__, np.__version__]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def store_mask(path: Path, name: str, cine: dict[str, Any], store: Path, reading: Reading = PLAIN) -> dict[str, Any]:
    """Read, check and store the mask of a cine, unless it is stored already.

    name: the mask's path in the drop; cine: the cine's record, with frames, height and width; reading: how the table
    says that the file is read. Returns `source`, the name in the store ("" if it was not read), `done`, what was done
    to the mask (`Mask.done`), and `fault`, a sentence on what is wrong ("" if the mask is good). Only a good mask is
    stored.
    """
    cv2.setNumThreads(1)  # joblib already gives every core a process
    if not os.path.isfile(path):
        return _faulty("", f"the mask {name} is missing")
    try:
        source = _name(path, reading)
    except OSError as error:
        return _faulty("", f"the mask {name} cannot be read: {error.strerror}")
    shape = (cine["frames"], cine["height"], cine["width"])
    record = _known(source, store)
    if record is not None and tuple(record["shape"]) == shape:
        return {"source": source, "done": record["done"], "fault": ""}
    try:
        # Of a cine whose pixels were made square, the mask may have the recorded pixels or the square ones.
        recorded = (cine["frames"], *cine.get("recorded", shape[1:]))
        if (found := mask_shape(path)) not in (shape, recorded):  # not read: a small file may unpack beyond memory
            return _faulty(source, f"the mask {name} is {_in_words(found)}, its cine {_in_words(recorded)}")
        mask = mask_of(path, found, reading)
        if found != shape:
            enlarged = np.stack([squared(255 * frame, shape[1:]) for frame in mask.frames])
            mask = replace(mask, frames=(enlarged >= 128).astype(np.uint8))
    except InputError as error:
        return _faulty(source, f"the mask cannot be used: {str(error).replace(str(path), name).rstrip('.')}")
    if not mask.frames.any():
        return _faulty(source, f"the mask {name} is empty: it shows the structure on no frame")
    file = store / f"{source}.mask.npz"
    with atomic_file(file) as temporary:
        np.savez_compressed(temporary, mask=mask.frames)
        facts = {"bytes": temporary.stat().st_size, "digest": file_digest(temporary)}
    write_json(_record(file), {"recipe": recipe(), "shape": list(shape), "done": mask.done} | facts)
    return {"source": source, "done": mask.done, "fault": ""}


def _faulty(source: str, fault: str) -> dict[str, Any]:
    return {"source": source, "done": "", "fault": fault}


def _name(path: Path, reading: Reading) -> str:
    digest = file_digest(path)
    if reading == PLAIN:
        return digest
    return hashlib.sha256(f"{digest} {reading.wanted} {reading.pen}".encode()).hexdigest()


def stored_mask(source: str, store: Path) -> np.ndarray:
    """The stored mask with this SHA-256, uint8 [T, H, W]. Its file is checked against the digest in its record.

    Raises InputError when the file is missing or has changed.
    """
    file = store / f"{source}.mask.npz"
    try:
        if file_digest(file) != read_json(_record(file))["digest"]:
            raise InputError(
                f"{file}, a stored mask, has changed since extract wrote it; a disk may be failing. Remove the file "
                "and run the pipeline again, which reads the mask again."
            )
        with np.load(file, allow_pickle=False) as archive:
            return archive["mask"]
    except InputError:
        raise
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"the stored mask {file} is missing or damaged ({error}). Run extract again.") from None


def _record(file: Path) -> Path:
    return file.with_suffix(".json")


def _known(source: str, store: Path) -> dict[str, Any] | None:
    file = store / f"{source}.mask.npz"
    try:
        record = read_json(_record(file))
        return record if record["recipe"] == recipe() and file.stat().st_size == record["bytes"] else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None  # not stored, or damaged: it is read again


def _in_words(shape: tuple[int, ...]) -> str:
    if len(shape) != 3:
        return f"of shape {list(shape)}"
    return f"{shape[0]} {'frame' if shape[0] == 1 else 'frames'} of {shape[2]}x{shape[1]} pixels"
