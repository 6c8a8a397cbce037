"""Cines that a drop has under more than one patient: with the same bytes, or nearly the same pictures."""

from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

THUMBNAIL = 32  # px, side of the thumbnail that confirms a candidate
MIN_CORRELATION = 0.95  # of two thumbnails of the same picture; re-encoded copies were above 0.997 (measured)
BLOCK = 512  # pairs of thumbnails that are compared at once
KEPT = 50_000  # thumbnails in memory, 4 kB each
PAIRS = 1_000_000  # pairs of hashes that are compared at once
MAX_SEGMENTS = 16  # shorter segments would agree in nearly all rows


def duplicate_of(manifest: pd.DataFrame) -> list[str | None]:
    """For every row of (source, video, patient): a cine of another patient with the same bytes, or None."""
    numbers = pd.DataFrame({column: _numbers(manifest[column]) for column in ("source", "patient")})
    owners = numbers.drop_duplicates()
    shared = owners.loc[owners.duplicated("source", keep=False), "source"]
    rows = manifest[["source", "patient", "video"]][numbers["source"].isin(shared).to_numpy()]
    first = rows.drop_duplicates(["source", "patient"]).groupby("source")[["patient", "video"]]
    cines = {source: list(map(tuple, group.to_numpy())) for source, group in first}
    found: list[str | None] = [None] * len(manifest)
    places = np.flatnonzero(numbers["source"].isin(shared))
    for place, source, patient in zip(places, rows["source"], rows["patient"], strict=True):
        others = (f"{video} of patient {other}" for other, video in cines.get(source, []) if other != patient)
        found[place] = next(others, None)
    return found


def _numbers(names: pd.Series) -> np.ndarray:
    """A number for each name, int32: texts are compared slowly and need much memory."""
    return pd.factorize(names, use_na_sentinel=False)[0].astype(np.int32)


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

    @lru_cache(KEPT)
    def picture(row: int) -> np.ndarray:
        return _thumbnail(root / str(manifest["path"].iloc[row]))

    ones, others, distance = candidates(manifest, bits)
    blocks = [slice(start, start + BLOCK) for start in range(0, len(ones), BLOCK)]
    products = [
        np.einsum("ij,ij->i", *(np.stack([picture(row) for row in rows[block]]) for rows in (ones, others)))
        for block in blocks
    ]
    correlation = np.concatenate([np.zeros(0), *products])
    best_first = np.lexsort((others, -correlation, ones))
    _, best = np.unique(ones[best_first], return_index=True)
    for pair in best_first[best]:
        if correlation[pair] >= MIN_CORRELATION:
            row = manifest.iloc[others[pair]]
            facts = f"{distance[pair]} of 64 bits differ, correlation {correlation[pair]:.3f}"
            found[ones[pair]] = f"{row['sequence']} ({row['video']}) of patient {row['patient']}: {facts}"
    return found


def copies_of(found: pd.DataFrame, held: pd.DataFrame, bits: int) -> dict[str, str]:
    """The files in `found` with nearly the picture of a row of `held`, by `video`, and which one it is. Both have
    sequence, video, source, phash and path, which is absolute. The names of patients do not count."""
    rows = pd.concat([found.assign(patient="found"), held.assign(patient="held")], ignore_index=True)
    copies = near_duplicate_of(rows[["sequence", "video", "source", "phash", "path", "patient"]], Path(), bits)
    named = zip(rows["video"][: len(found)], copies[: len(found)], strict=True)
    return {video: copy.replace(" of patient held", "") for video, copy in named if copy}


def candidates(manifest: pd.DataFrame, bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of rows, of different patients and cines, whose hashes differ in at most `bits` bits.

    Returns row, other row, number of different bits; each pair is in the result in both directions, sorted. Hashes that
    differ in at most `bits` bits agree in one of `bits` + 1 segments, so only rows that agree in a segment are
    compared: all pairs of 100 000 rows would be 10^10 comparisons.
    """
    hashes = np.fromiter(map(_hash, manifest["phash"]), np.uint64, len(manifest))
    known = np.flatnonzero(np.fromiter(map(_is_hash, manifest["phash"]), bool, len(manifest)))
    patient, source = _numbers(manifest["patient"]), _numbers(manifest["source"])
    edges = (
        np.linspace(0, 64, bits + 2).astype(int) if bits < MAX_SEGMENTS else [0, 0]
    )  # one segment of 0 bits: all rows agree
    found = [np.zeros((0, 2), np.int64)]
    for low, high in pairwise(edges):
        segment = (hashes >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1)
        for ones, others in _same(segment, known):
            near = np.bitwise_count(hashes[ones] ^ hashes[others]) <= bits
            near &= (patient[ones] != patient[others]) & (source[ones] != source[others])
            found.append(np.stack([ones[near], others[near]], axis=1))
    once, count = np.concatenate(found), max(len(manifest), 1)
    pairs = np.concatenate([once, once[:, ::-1]])
    # Equal numbers are found faster than equal pairs of numbers.
    ones, others = np.divmod(np.unique(pairs[:, 0] * count + pairs[:, 1]), count)
    return ones, others, np.bitwise_count(hashes[ones] ^ hashes[others]).astype(np.int64)


def _same(segment: np.ndarray, known: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All pairs of the rows `known` with the same segment, each once, in blocks.

    In the order of the segments, neighbours are compared, then rows that are two apart, three apart, and so on, as long
    as any two agree. So there is no loop over the groups, of which there are millions.
    """
    order = known[np.argsort(segment[known], kind="stable")]
    place, step = np.arange(len(order)), 1
    while len(place := place[place + step < len(order)]):
        place = place[segment[order[place]] == segment[order[place + step]]]
        for start in range(0, len(place), PAIRS):
            part = place[start : start + PAIRS]
            yield order[part], order[part + step]
        step += 1


def _thumbnail(path: Path) -> np.ndarray:
    """The middle frame of a sequence's file as a unit vector, float32 [THUMBNAIL²]: the product of two is a
    correlation. Zeros for a missing file or a blank picture."""
    nothing = np.zeros(THUMBNAIL**2, np.float32)
    try:
        sequence = np.load(path, mmap_mode="r")
        middle = np.asarray(sequence[len(sequence) // 2])
        frame = cv2.resize(middle, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    except (OSError, ValueError, IndexError, cv2.error):
        return nothing  # the check `sequence_files` reports it
    centred = frame.ravel() - frame.mean()
    return (centred / np.linalg.norm(centred)).astype(np.float32) if centred.any() else nothing


def _hash(value: object) -> int:
    return int(value, 16) if _is_hash(value) else 0


def _is_hash(value: object) -> bool:
    return isinstance(value, str) and len(value) == 16
