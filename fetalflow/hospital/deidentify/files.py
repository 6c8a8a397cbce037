"""Writes the cines and masks of a de-identified drop."""

import errno
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.valuerep import DSfloat

from fetalflow.artefacts import atomic_file
from fetalflow.cine.dicom import is_dicom
from fetalflow.cine.masks import Reading, read_mask
from fetalflow.cine.recording import Limits
from fetalflow.cine.still import is_still
from fetalflow.errors import Rejected
from fetalflow.hospital.deidentify.free_text import is_harmless, words_of
from fetalflow.hospital.deidentify.header import clean_header, persons, read_header
from fetalflow.hospital.deidentify.pixels import masked_frames, survey, write_dicom, write_still, write_video
from fetalflow.hospital.deidentify.pseudonyms import Key
from fetalflow.hospital.deidentify.table import REASONS, rejected

CINES, MASKS = "cines", "masks"
# The disk or the machine has no room; no fault of a file.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.ENOMEM, errno.EMFILE, errno.ENFILE)


@dataclass(frozen=True)
class Written:
    name: str  # path in the new drop
    shape: tuple[int, int, int]
    blanked: float  # share of the pixels


def write_cine(
    path: Path, source: str, patient: str, texts: set[str], target: Path, key: Key, limits: Limits, cut_threshold: float
) -> Written | str:
    """Write one de-identified cine. texts: free texts of its rows, which may not name a person of its header. Returns a
    kind of REASONS if that is impossible. Raises OSError when the disk of `target` is full."""
    name = f"{CINES}/{cine_name(key.pseudonym('patient', patient), source, key)}"
    try:
        first_pass = survey(path, limits, cut_threshold)
        frames = masked_frames(path, limits, first_pass)
        if is_still(path):
            name += ".png"
            write_still(target / name, next(frames))
        elif is_dicom(path) or not first_pass.fps or first_pass.aspect != 1:
            name += ".dcm"
            original = read_header(path, limits) if is_dicom(path) else Dataset()
            if not is_dicom(path) and first_pass.spacing:  # of a MetaImage
                original.PixelSpacing = [DSfloat(length, auto_format=True) for length in first_pass.spacing]
            if not all(is_harmless(text, words_of(*persons(original))) for text in texts):
                raise Rejected("site", REASONS["site"])
            write_dicom(
                target / name, clean_header(original, key, patient, source, first_pass), frames, first_pass.shape
            )
        else:
            name += ".mkv"
            write_video(target / name, frames, first_pass)
    except Rejected as verdict:
        return rejected(verdict.kind)
    except Exception as error:  # messages of readers and writers may quote a name; the number of the row is enough
        if has_no_room(error):  # no fault of this cine
            raise
        return "broken"
    starts = [0, *(end for end, _ in first_pass.masks)]
    blank = [np.mean(m == 0) * (end - start) for (end, m), start in zip(first_pass.masks, starts[:-1], strict=True)]
    return Written(name, first_pass.shape, float(sum(blank) / first_pass.frames))


def has_no_room(error: BaseException | None) -> bool:
    """Whether an error says that nothing can be written. pydicom raises it again without its number."""
    while error is not None:
        if getattr(error, "errno", None) in NO_ROOM:
            return True
        error = error.__cause__ or error.__context__
    return False


def cine_name(pseudonym: str, source: str, key: Key) -> str:
    """source: SHA-256 of the original file."""
    return f"{pseudonym}-{key.digest('cine', source).hex()[:12]}"


def write_mask(path: Path, row: dict[str, str], cine: Written, target: Path, key: Key) -> str:
    """Write the known outline of a cine as 0 and 1: what extraction makes of it. row: says how to read it (USED_UP).

    Raises Rejected `mask`.
    """
    try:
        reading = Reading(row.get("mask_class", ""), float(row.get("mask_pen_px") or 0))
        mask = read_mask(path, cine.shape, reading)
    except Exception:  # NumPy and zipfile raise errors of many types, and every message quotes the path
        raise Rejected("mask", REASONS["mask"]) from None
    content = key.digest("mask", hashlib.sha256(mask.tobytes()).hexdigest()).hex()[:12]
    name = f"{MASKS}/{Path(cine.name).stem}-{content}.npz"
    with atomic_file(target / name) as temporary:
        np.savez_compressed(temporary, mask=mask)
    return name
