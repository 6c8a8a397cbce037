"""The store of annotated masks, beside the decoded cines: `<SHA-256 of the mask's file>.mask.npz`, key `mask`, uint8
[T, H, W] with 1 in the structure, and `<SHA-256>.mask.json`, its record.

A mask is read again only when its bytes, the code or the libraries that read it change, or the stored file is damaged.
"""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fetalflow.artefacts import atomic_file, file_digest, read_json, write_json
from fetalflow.cine import masks
from fetalflow.cine.masks import mask_shape, read_mask
from fetalflow.errors import InputError

CODE = (masks.__file__, __file__)


@cache
def recipe() -> str:
    """SHA-256 of everything except the mask that decides what is stored: the code and the libraries' versions."""
    facts = [*(file_digest(path) for path in CODE), cv2.__version__, np.__version__]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def store_mask(path: Path, name: str, cine: dict[str, Any], store: Path) -> dict[str, Any]:
    """Read, check and store the mask of a cine, unless it is stored already.

    name: the mask's path in the drop; cine: the cine's record, with frames, height and width. Returns `source`, the
    SHA-256 of the mask's file ("" if it was not read), and `fault`, a sentence on what is wrong ("" if the mask is
    good). Only a good mask is stored.
    """
    cv2.setNumThreads(1)  # joblib already gives every core a process
    if not path.is_file():
        return {"source": "", "fault": f"the mask {name} is missing"}
    source, shape = file_digest(path), (cine["frames"], cine["height"], cine["width"])
    record = _known(source, store)
    if record is not None and tuple(record["shape"]) == shape:
        return {"source": source, "fault": ""}
    try:
        mask, found = None, mask_shape(path)
        if found == shape:  # else it is not read: the header of a small file may state a size beyond memory
            mask = read_mask(path)
            found = mask.shape
    except InputError as error:
        return {
            "source": source,
            "fault": f"the mask cannot be used: {str(error).replace(str(path), name).rstrip('.')}",
        }
    if found != shape:
        return {"source": source, "fault": f"the mask {name} is {_in_words(found)}, its cine {_in_words(shape)}"}
    if not mask.any():
        return {"source": source, "fault": f"the mask {name} is empty: it shows the structure on no frame"}
    file = store / f"{source}.mask.npz"
    with atomic_file(file) as temporary:
        np.savez_compressed(temporary, mask=mask)
        facts = {"bytes": temporary.stat().st_size, "digest": file_digest(temporary)}
    write_json(_record(file), {"recipe": recipe(), "shape": list(shape)} | facts)
    return {"source": source, "fault": ""}


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
