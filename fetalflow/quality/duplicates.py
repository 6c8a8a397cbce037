"""Cines that a drop has under more than one patient: with the same bytes, or nearly the same pictures."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

THUMBNAIL = 32  # px, side of the thumbnail that confirms a candidate
MIN_CORRELATION = 0.95  # of two thumbnails of the same picture; re-encoded copies were above 0.997 (measured)
BLOCK = 512  # rows compared at once: BLOCK x n distances are in memory, with n rows that share a segment of the hash
MAX_SEGMENTS = 16  # shorter segments would agree in nearly all rows


def duplicate_of(manifest: pd.DataFrame) -> list[str | None]:
    """For every row of (source, video, patient): a cine of another patient with the same bytes, or None."""
    owners = manifest.drop_duplicates(["source", "patient"]).groupby("source")[["patient", "video"]]
    shared = {source: list(map(tuple, group.to_numpy())) for source, group in owners if len(group) > 1}
    return [
        next((f"{video} of patient {other}" for other, video in shared.get(source, []) if other != patient), None)
        for source, patient in zip(manifest["source"], manifest["patient"], strict=True)
    ]


def near_duplicate_of(manifest: pd.DataFrame, root: Path, bits: int) -> list[str | None]:
    """For every row of (sequence, patient, source, phash, path): a sequence of another patient with nearly the same
    picture, or None.

    Candidates are the rows whose 64-bit perceptual hashes differ in at most `bits` bits. The hash has only the lowest
    spatial frequencies of a picture, and two scans of the same anatomy on one machine can agree in them by chance. So
    the middle frames of both sequences (uint8 [N, size, size] at root / path), resized to THUMBNAIL px, must also have
    a correlation of at least MIN_CORRELATION. Cines with the same bytes are left to `duplicate_of`.

    Measured at 2 bits. Synthetic hospital: none in 119 267 pairs of sequences of different patients (the nearest differ
    in 6 bits). 92 real lung cines: one in 839 727 pairs, two recordings of clearly one examination under two patient
    ids. 797 real head planes of one data set (HC18): none in 317 024 pairs, the nearest differ in 8 bits, and the
    largest correlation is 0.911. At least 94 % of re-encoded frames (H.264, crf 18 to 35, smaller, brighter) are found.
    """
    found: list[str | None] = [None] * len(manifest)
    pictures = _Pictures([root / str(path) for path in manifest["path"]])
    ones, others, distance = candidates(manifest, bits)
    blocks = [slice(start, start + BLOCK) for start in range(0, len(ones), BLOCK)]
    products = [np.einsum("ij,ij->i", pictures[ones[block]], pictures[others[block]]) for block in blocks]
    correlation = np.concatenate([np.zeros(0), *products])
    best_first = np.lexsort((others, -correlation, ones))
    _, best = np.unique(ones[best_first], return_index=True)
    for pair in best_first[best]:
        if correlation[pair] >= MIN_CORRELATION:
            row = manifest.iloc[others[pair]]
            facts = f"{distance[pair]} of 64 bits differ, correlation {correlation[pair]:.3f}"
            found[ones[pair]] = f"{row['sequence']} ({row['video']}) of patient {row['patient']}: {facts}"
    return found


def candidates(manifest: pd.DataFrame, bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of rows, of different patients and cines, whose hashes differ in at most `bits` bits.

    Returns row, other row, number of different bits; each pair is in the result in both directions, sorted. Hashes that
    differ in at most `bits` bits agree in one of `bits` + 1 segments, so only rows that agree in a segment are
    compared: all pairs of 100 000 rows would be 10^10 comparisons.
    """
    hashes = np.array([_hash(value) for value in manifest["phash"]], dtype=np.uint64)
    valid = [isinstance(value, str) and len(value) == 16 for value in manifest["phash"]]
    # Numbers instead of texts: comparing 12 400 x 12 400 texts took 8 s.
    patient, source = (pd.factorize(manifest[column], use_na_sentinel=False)[0] for column in ("patient", "source"))
    edges = (
        np.linspace(0, 64, bits + 2).astype(int) if bits < MAX_SEGMENTS else [0, 0]
    )  # one segment of 0 bits: all rows agree
    found = [np.zeros((0, 3), np.int64)]
    for low, high in pairwise(edges):
        segment = (hashes >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1)
        known = np.flatnonzero(valid)
        known = known[np.argsort(segment[known], kind="stable")]
        for rows in np.split(known, np.flatnonzero(np.diff(segment[known])) + 1):
            if len(rows) > 1:
                found.extend(_near(rows, hashes, patient, source, bits))
    pairs = np.unique(np.concatenate(found), axis=0)
    return pairs[:, 0], pairs[:, 1], pairs[:, 2]


def _near(
    rows: np.ndarray, hashes: np.ndarray, patient: np.ndarray, source: np.ndarray, bits: int
) -> Iterator[np.ndarray]:
    """The candidates among `rows`, int64 [pairs, 3], in blocks."""
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        distance = np.bitwise_count(hashes[block, None] ^ hashes[rows])
        near = (distance <= bits) & (patient[block, None] != patient[rows]) & (source[block, None] != source[rows])
        i, j = np.nonzero(near)
        yield np.stack([block[i], rows[j], distance[i, j]], axis=1).astype(np.int64)


class _Pictures:
    """Thumbnails of sequence files as unit vectors, float32 [rows, THUMBNAIL²]. Each file is read once, at first use.

    The dot product of two vectors is a correlation. A missing file or a blank picture gives a row of zeros.
    """

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self.vectors = np.zeros((len(paths), THUMBNAIL**2), np.float32)
        self.read = np.zeros(len(paths), bool)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        for row in np.unique(rows[~self.read[rows]]):
            if (picture := _thumbnail(self.paths[row])) is not None:
                self.vectors[row] = picture
        self.read[rows] = True
        return self.vectors[rows]


def _thumbnail(path: Path) -> np.ndarray | None:
    try:
        sequence = np.load(path, mmap_mode="r")
        middle = np.asarray(sequence[len(sequence) // 2])
        frame = cv2.resize(middle, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    except (OSError, ValueError, IndexError, cv2.error):
        return None  # the check `sequence_files` reports it
    centred = frame.ravel() - frame.mean()
    return centred / np.linalg.norm(centred) if centred.any() else None


def _hash(value: object) -> int:
    return int(value, 16) if isinstance(value, str) and len(value) == 16 else 0
