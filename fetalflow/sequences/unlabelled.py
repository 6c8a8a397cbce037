"""Reads a folder of cines and stills without labels for pretraining; what cannot be used goes to quarantine.

Files are read, masked and fitted as those of a drop. Patients on whom the network is chosen or tested are left out: by
their name, by the digest of a file, and by that of its frames (the same frames in another container).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from fetalflow.artefacts import named, read_json
from fetalflow.cine.dicom import is_dicom
from fetalflow.cine.image_quality import picture_hash
from fetalflow.cine.resampling import clock_of, frame_step, source_frames
from fetalflow.cine.store import store_cine, stored_frames
from fetalflow.cine.suffixes import CINES
from fetalflow.cine.windows import Rates, check_rate, check_stated_rate, windows
from fetalflow.errors import InputError, Rejected
from fetalflow.hospital.drop.contents import list_contents
from fetalflow.hospital.drop.plain_names import is_added
from fetalflow.hospital.drop.rows import is_cine
from fetalflow.hospital.drop.spelling import near
from fetalflow.sequences.manifest_columns import TAKEN
from fetalflow.sequences.preprocessing import preprocess
from fetalflow.settings.params import Extract, Pretrain

HELD_PARTS = ("validation", "test")  # validation patients choose thresholds that shall hold for test patients
COLUMNS = ["video", "patient", "site", "kind", "reason"]  # of the quarantine
NO_ONE = {"patient": "", "site": "", "device": ""}
UNNAMED = (
    "nothing names its patient, so nobody can tell whether she is a test patient. Name her in patients.csv (video, "
    "patient, site), by extract.patient_pattern or in the DICOM header, or set pretrain.unknown_patients=true"
)


@dataclass(frozen=True)
class Held:
    """Who is held out of pretraining. people: (name, site) in their plain form; sources, frames: SHA-256 of their
    files and of the decoded frames; why: for the quarantine."""

    people: frozenset[tuple[Any, Any]]
    sources: frozenset[str] = frozenset()
    frames: frozenset[str] = frozenset()
    why: str = "this is a patient of the validation or test part of the task"

    def has(self, patient: str, site: str) -> bool:
        """Whether this may be one of them: sites count only where both are known, SITE/PSEUDONYM as the pseudonym."""
        plain = {near(patient), near(patient.rpartition("/")[2])} if patient else set()
        places = {where for name, where in self.people if name in plain}
        return bool(places) and (not site or bool(places & {near(""), near(site)}))


@dataclass(frozen=True)
class Unlabelled:
    """sequences: one row per sequence with `video`, `source`, `patient`, `phash`, `path` (in the store) and `digest`;
    quarantine: COLUMNS."""

    sequences: pd.DataFrame
    quarantine: pd.DataFrame

    def without(self, copies: Mapping[str, str], folder: Path) -> "Unlabelled":
        """Without the files `copies`, each with the held-out sequence whose picture it has. Raises InputError when no
        file is left."""
        if not copies:
            return self
        sequences, out = self.sequences, self.sequences["video"].isin(copies)
        rows = sequences[out].drop_duplicates("video")[["video", "patient", "site"]].assign(kind="held_out")
        why = Held.why
        rows["reason"] = [f"nearly the picture of {copies[video]} of the drop: {why}" for video in rows["video"]]
        left = sequences[~out].reset_index(drop=True)
        if left.empty:
            raise InputError(f"{folder}: every file that could be used shows a validation or test patient.")
        return Unlabelled(left, pd.concat([self.quarantine, rows[COLUMNS]], ignore_index=True))


def held_rows(manifest: pd.DataFrame, split: pd.DataFrame) -> pd.DataFrame:
    """The rows of the manifest that are in the validation or test part of any fold."""
    return manifest[manifest["sequence"].isin(split.loc[split["part"].isin(HELD_PARTS), "sequence"])]


def held_out(rows: pd.DataFrame, store: Path) -> Held:
    """The patients of these rows of the manifest; its SITE/PSEUDONYM counts as the pseudonym. store: their frames."""
    sites = named(rows["site"]) if "site" in rows else pd.Series("", rows.index)
    names = [name.removeprefix(f"{site}/") for name, site in zip(rows["patient"].astype(str), sites, strict=True)]
    people = frozenset((near(name), near(site)) for name, site in zip(names, sites, strict=True))
    records = [store / f"{source}.json" for source in rows["source"].unique()]
    frames = frozenset(read_json(record)["digest"] for record in records if record.is_file())
    return Held(people, frozenset(rows["source"]), frames)


def withdrawn_people(withdrawn: pd.DataFrame) -> Held:
    """Those in the table of `read_withdrawn`: by the pseudonyms under which a hospital may name them again."""
    people = frozenset((near(row.pseudonym), near(row.site)) for row in withdrawn.itertuples())
    return Held(people, why="this patient withdrew her recordings")


def cine_files(folder: Path) -> dict[str, Path]:
    """The cines and stills of a folder, at any depth, by their plain paths in it. Raises InputError when there is no
    such folder, or it holds a link, a folder that cannot be read, or no cine."""
    if not folder.is_dir():
        raise InputError(f"pretrain.folder is {folder}, which is no folder. Give the path of a folder of cines.")
    files = {name: stored for name, stored in list_contents(folder).files.items() if not is_added(name)}
    loose = {name: folder / stored.name for name, stored in files.items() if stored.holder is None}
    cines = {name: path for name, path in loose.items() if is_cine(name) or is_dicom(path)}
    if not cines:
        raise InputError(
            f"{folder} holds no cine and no still: {len(files)} files, none whose name ends in {' '.join(CINES)}, and "
            "no DICOM. A zip must be unpacked first. Correct pretrain.folder."
        )
    return cines


def read_unlabelled(
    folder: Path,
    who: Mapping[str, Mapping[str, str]],
    extract: Extract,
    settings: Pretrain,
    size: int,
    store: Path,
    held: Iterable[Held] = (),
    rates: Rates | None = None,
) -> Unlabelled:
    """Read every cine and still of `folder` and write its sequences, uint8 [N, size, size], below `store`.

    who: patient, site and device of the files that name one. A still becomes a sequence by being repeated. Of files
    with the same frames one is used. Raises InputError as `cine_files` does, and when no file can be used.
    """
    videos, frames, held = cine_files(folder), store.absolute() / "frames", tuple(held)
    frames.mkdir(parents=True, exist_ok=True)
    reasons: dict[str, Rejected] = {}
    for video in videos:
        person = who.get(video, NO_ONE)
        if found := [each for each in held if each.has(person["patient"], person["site"])]:
            reasons[video] = Rejected("held_out", found[0].why)
        elif not person["patient"] and not settings.unknown_patients:
            reasons[video] = Rejected("patient", UNNAMED)
    read = [video for video in videos if video not in reasons]
    calls = [delayed(store_cine)(videos[video].absolute(), extract, frames) for video in read]
    records = dict(zip(read, Parallel(n_jobs=extract.workers)(calls), strict=True))
    rows, first = [], {}
    for video, record in records.items():
        try:
            _check(record, held)
            if (same := first.setdefault(record["digest"], video)) != video:
                raise Rejected("copy", f"it has the same frames as {same}, which is used")
            check_stated_rate(record, rates)
            check_rate(record, extract)
            cine = stored_frames(record, frames)
            of_file = who.get(video, NO_ONE) | {"video": video}
            of_cine = [row | of_file for row in sequence_rows(record, extract, settings)]
            rows += [row | {"phash": picture_hash(cine[_middle(row)])} for row in of_cine]
        except Rejected as verdict:
            reasons[video] = verdict
    if not rows:
        raise InputError(_nothing(folder, videos, reasons))
    sequences = preprocess(pd.DataFrame(rows), frames, store / "sequences", size, extract.workers)
    return Unlabelled(sequences, quarantine_of(reasons, who))


def sequence_rows(record: Mapping[str, Any], extract: Extract, settings: Pretrain) -> list[dict[str, Any]]:
    """The rows, for `preprocess`, of at most `settings.clips` sequences of a cine, spread evenly over it. Raises
    Rejected `short` for a cine, not a still, that is shorter than a sequence."""
    n, last = extract.frames, record["frames"] - 1
    step = frame_step(record["fps"], extract.fps, extract.every)
    clock = clock_of(record["times"], record["fps"], extract.fps)
    taken = {first: source_frames(first, n, step, clock) for first, _ in _windows(record, extract, step, clock)}
    if record["frames"] == 1:
        taken = {0: np.zeros(n, int)}
    if not taken:
        raise Rejected("short", f"its frames 0-{last} hold no {extract.sequence_in_words} without a scene cut")
    chosen = np.unique(np.linspace(0, len(taken) - 1, min(settings.clips, len(taken))).round().astype(int))
    return [
        {
            "sequence": f"{record['source'][:12]}-{first:06d}",
            "source": record["source"],
            "first_frame": first,
            "last_frame": int(taken[first][-1]),
            "frames": n,
            "step": step,
            "mm_per_px": np.nan,
            "height": record["height"],
            "width": record["width"],
            "mask_source": "",
            TAKEN: " ".join(map(str, taken[first])),
        }
        for first in (list(taken)[i] for i in chosen)
    ]


def _middle(row: Mapping[str, Any]) -> int:
    """The recorded frame in the middle of a sequence, of which the manifest of a drop has the hash, too."""
    return int(row[TAKEN].split()[row["frames"] // 2])


def _windows(
    record: Mapping[str, Any], extract: Extract, step: float, clock: np.ndarray | None
) -> list[tuple[int, int]]:
    return windows(0, record["frames"] - 1, record["cuts"], extract.frames, extract.stride, step, clock)


def quarantine_of(reasons: Mapping[str, Rejected], who: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    rows = [
        {"video": video, "kind": why.kind, "reason": why.reason} | {c: who.get(video, NO_ONE)[c] for c in COLUMNS[1:3]}
        for video, why in sorted(reasons.items())
    ]
    return pd.DataFrame(rows, columns=COLUMNS, dtype=str)


def _check(record: Mapping[str, Any], held: Iterable[Held]) -> None:
    """Raises Rejected for a file that cannot be read, or is a file of a patient who is held out."""
    if record["rejected"]:
        raise Rejected(**record["rejected"])
    for each in held:
        if record["source"] in each.sources or record["digest"] in each.frames:
            raise Rejected("held_out", f"it has the frames of a file of the drop: {each.why}")


def _nothing(folder: Path, videos: Mapping[str, Path], reasons: Mapping[str, Rejected]) -> str:
    kinds = pd.Series([why.kind for why in reasons.values()]).value_counts()
    video = min(reasons)
    return (
        f"none of the {len(videos)} cines and stills in {folder} can be used for pretraining: "
        f"{', '.join(f'{count} {kind}' for kind, count in kinds.items())}. For example {video}: "
        f"{reasons[video].reason}."
    )
