"""Cines that stand in a drop under more than one patient: byte for byte, or seen once more (another copy of a file)."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

THUMBNAIL = 32  # px, side of the picture that confirms a candidate
MIN_CORRELATION = 0.95  # of two thumbnails, for the same picture; copies encoded again stayed above 0.997 (measured)
BLOCK = 512  # rows compared at once: BLOCK x n distances in memory, n those that agree in a stretch of the hash
MOST_STRETCHES = 16  # more would be so short that nearly all rows agree in one


def duplicate_of(manifest: pd.DataFrame) -> list[str | None]:
    """For every row of (source, video, patient): the same cine bytes under another patient, or None."""
    owners = manifest.drop_duplicates(["source", "patient"]).groupby("source")[["patient", "video"]]
    shared = {source: list(map(tuple, group.to_numpy())) for source, group in owners if len(group) > 1}
    return [
        next((f"{video} of patient {other}" for other, video in shared.get(source, []) if other != patient), None)
        for source, patient in zip(manifest["source"], manifest["patient"], strict=True)
    ]


def near_duplicate_of(manifest: pd.DataFrame, root: Path, bits: int) -> list[str | None]:
    """For every row of (sequence, patient, source, phash, path): a sequence of another patient that shows the same
    picture, or None.

    Candidates are the rows whose 64-bit perceptual hashes differ in at most `bits` bits. A hash keeps only the coarsest
    waves of a picture, in which two scans of one anatomy on one machine can agree by chance, so a candidate counts
    only when the middle frames of the two sequences (uint8 [N, size, size] at root / path), shrunk to THUMBNAIL px,
    correlate by at least MIN_CORRELATION. Cines with the same bytes are left to `duplicate_of`.

    Measured at 2 bits: on the synthetic hospital no finding in 119 267 pairs of sequences of different patients (the
    nearest differ in 6 bits); on 92 real lung cines one in 839 727, two recordings of what is plainly one examination
    under two patient ids; on 797 real head planes of one set (HC18) none in 317 024, the nearest differ in 8 bits and
    no two correlate by more than 0.911. Of frames encoded again (H.264, crf 18 to 35, smaller, brighter) 94 % or more
    are found.
    """
    found: list[str | None] = [None] * len(manifest)
    pictures = _Pictures([root / str(path) for path in manifest["path"]])
    ones, others, distance = candidates(manifest, bits)
    parts = [slice(start, start + BLOCK) for start in range(0, len(ones), BLOCK)]
    alike = [np.einsum("ij,ij->i", pictures[ones[part]], pictures[others[part]]) for part in parts]
    correlation = np.concatenate([np.zeros(0), *alike])
    best_first = np.lexsort((others, -correlation, ones))
    _, best = np.unique(ones[best_first], return_index=True)
    for pair in best_first[best]:
        if correlation[pair] >= MIN_CORRELATION:
            row = manifest.iloc[others[pair]]
            like = f"{distance[pair]} of 64 bits differ, correlation {correlation[pair]:.3f}"
            found[ones[pair]] = f"{row['sequence']} ({row['video']}) of patient {row['patient']}: {like}"
    return found


def candidates(manifest: pd.DataFrame, bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which pairs of rows, of different patients and cines, have hashes that differ in at most `bits` bits.

    Row, other row, bits that differ; each pair stands there both ways, in order. Hashes that differ in at most `bits`
    bits agree in one of `bits` + 1 stretches, so only rows that agree in one are compared: 100 000 rows with each other
    would be 10^10 comparisons.
    """
    hashes = np.array([_hash(value) for value in manifest["phash"]], dtype=np.uint64)
    valid = [isinstance(value, str) and len(value) == 16 for value in manifest["phash"]]
    # Numbers for the texts: comparing 12 400 x 12 400 texts took 8 s.
    patient, source = (pd.factorize(manifest[column], use_na_sentinel=False)[0] for column in ("patient", "source"))
    edges = np.linspace(0, 64, bits + 2).astype(int) if bits < MOST_STRETCHES else [0, 0]  # of 0 bits: all agree
    found = [np.zeros((0, 3), np.int64)]
    for low, high in pairwise(edges):
        stretch = (hashes >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1)
        known = np.flatnonzero(valid)
        known = known[np.argsort(stretch[known], kind="stable")]
        for rows in np.split(known, np.flatnonzero(np.diff(stretch[known])) + 1):
            if len(rows) > 1:
                found.extend(_near(rows, hashes, patient, source, bits))
    pairs = np.unique(np.concatenate(found), axis=0)
    return pairs[:, 0], pairs[:, 1], pairs[:, 2]


def _near(
    rows: np.ndarray, hashes: np.ndarray, patient: np.ndarray, source: np.ndarray, bits: int
) -> Iterator[np.ndarray]:
    """The candidates among `rows`, int64 [pairs, 3], by blocks."""
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        distance = np.bitwise_count(hashes[block, None] ^ hashes[rows])
        near = (distance <= bits) & (patient[block, None] != patient[rows]) & (source[block, None] != source[rows])
        i, j = np.nonzero(near)
        yield np.stack([block[i], rows[j], distance[i, j]], axis=1).astype(np.int64)


class _Pictures:
    """Thumbnails of sequence files as unit vectors, float32 [rows, THUMBNAIL²], each read once when first asked for.

    Their products are correlations; a file that is missing or shows nothing is a row of zeros.
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
        return None  # the check of the sequence files names it
    centred = frame.ravel() - frame.mean()
    return centred / np.linalg.norm(centred) if centred.any() else None


def _hash(value: object) -> int:
    return int(value, 16) if isinstance(value, str) and len(value) == 16 else 0
