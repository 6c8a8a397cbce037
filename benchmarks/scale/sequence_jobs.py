"""What `growth` measures of cines and sequences. A job prepares for a size and gives back what is timed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

LABELS = ("head", "body", "arm", "hand", "heart", "leg", "foot")
PER_PATIENT = 5  # sequences of a patient, as in the demo

# --- cines -----------------------------------------------------------------------------------------------------------


def film(count: int, folder: Path) -> Path:
    """A drop of `count` cines, 20 frames of 96x128: at most 40 are filmed, the rest are these with another ending."""
    from fetalflow.hospital.phantom.movement.hospital import make_drop
    from fetalflow.settings.params import Phantom

    drop = folder / "drop"
    settings = Phantom(
        patients=20, sequences={"head": 40, "leg": 40}, height=96, width=128, min_frames=20, max_frames=20
    )
    table = make_drop(settings, drop, workers=1).drop(columns="mask")
    table = table[table["video"].str.endswith((".mp4", ".avi")) & ~table["video"].duplicated(keep=False)]
    rows = []
    for number in range(count):
        row = table.iloc[number % len(table)].to_dict()
        original = Path(row["video"])
        copy = original.with_name(f"{number}{original.suffix}")
        (drop / copy).write_bytes((drop / original).read_bytes() + number.to_bytes(16, "big"))
        rows.append(row | {"video": copy.as_posix(), "patient": f"{row['patient']}-{number // len(table)}"})
    for path in table["video"]:
        (drop / path).unlink()
    pd.DataFrame(rows).to_csv(drop / "annotations.csv", index=False)
    return drop


def extract_job(count: int, folder: Path) -> Callable[[], str]:
    from fetalflow.sequences.extraction import extract_drop
    from fetalflow.settings.params import Extract

    drop = film(count, folder)

    def work() -> str:
        found = extract_drop(drop, Extract(workers=1), folder / "frames")
        disk = sum(file.stat().st_size for file in (folder / "frames").iterdir()) / 1e6
        return f"{len(found.sequences)} sequences, {len(found.quarantine)} quarantined, {disk:.0f} MB"

    return work


def preprocess_job(count: int, folder: Path) -> Callable[[], str]:
    from fetalflow.sequences.extraction import extract_drop
    from fetalflow.sequences.preprocessing import preprocess
    from fetalflow.settings.params import Extract

    found = extract_drop(film(count, folder), Extract(workers=1), folder / "frames")

    def work() -> str:
        preprocess(found.sequences, folder / "frames", folder / "sequences", 64, workers=1)
        disk = sum(file.stat().st_size for file in (folder / "sequences").iterdir()) / 1e6
        return f"{disk:.0f} MB at 64 px"

    return work


def again_job(count: int, folder: Path) -> Callable[[], str]:
    from fetalflow.sequences.extraction import extract_drop
    from fetalflow.settings.params import Extract

    drop = film(count, folder)
    extract_drop(drop, Extract(workers=1), folder / "frames")

    def work() -> str:
        return f"{extract_drop(drop, Extract(workers=1), folder / 'frames').decoded} decoded"

    return work


# --- sequences -------------------------------------------------------------------------------------------------------


def synthetic(count: int, folder: Path, seed: int = 0) -> pd.DataFrame:
    """A manifest of `count` sequences whose figures are drawn; every row names one real file of 4 frames."""
    from fetalflow.artefacts import file_digest

    rng = np.random.default_rng(seed)
    np.save(folder / "s.npy", rng.integers(10, 200, (4, 32, 32)).astype(np.uint8))
    patient = rng.integers(0, max(8, count // PER_PATIENT), count)
    text = np.array([f"P{number}" for number in patient])
    numbers = {name: rng.gamma(9, 5, count) for name in ("mean_intensity", "sharpness", "niqe", "brisque", "speckle")}
    return pd.DataFrame(
        {
            "sequence": [f"{i:012x}-000000" for i in range(count)],
            "video": [f"cines/{i}.mp4" for i in range(count)],
            "source": [f"{i:064x}" for i in range(count)],
            "patient": text,
            "site": [f"site {number % max(3, count // 1000)}" for number in patient],
            "device": "d",
            "label": rng.choice(LABELS, count),
            "annotators": "a",
            "first_frame": 0,
            "last_frame": 3,
            "frames": 4,
            "fps": 25.0,
            "mm_per_px": 0.3,
            "height": 200,
            "width": 300,
            "min_intensity": 0.0,
            "max_intensity": 250.0,
            "blank_share": 0.0,
            "frozen_share": 0.0,
            "phash": [f"{value:016x}" for value in rng.integers(0, 2**63, count, dtype=np.uint64)],
            "path": "s.npy",
            "digest": file_digest(folder / "s.npy"),
        }
        | numbers
    )


def split_job(count: int, folder: Path) -> Callable[[], str]:
    from fetalflow.sequences.split import split
    from fetalflow.settings.params import Split

    manifest = synthetic(count, folder)
    return lambda: f"{manifest['patient'].nunique()} patients, {split(manifest, Split())['part'].eq('test').sum()} test"


def duplicates_job(count: int, folder: Path) -> Callable[[], str]:
    from fetalflow.quality.duplicates import near_duplicate_of

    manifest = synthetic(count, folder)
    return lambda: f"{sum(map(bool, near_duplicate_of(manifest, folder, 2)))} found"


def validate_job(count: int, folder: Path) -> Callable[[], str]:
    from fetalflow.quality.gate import build_tables, run_checks
    from fetalflow.quality.suites import checks
    from fetalflow.sequences.split import split
    from fetalflow.settings.params import Split, Validate

    manifest = synthetic(count, folder)
    parts = split(manifest, Split())

    def work() -> str:
        judged = build_tables(
            manifest, parts, folder, LABELS, 32, -1
        )  # -1 bits: the near duplicates are measured alone
        verdict = run_checks("movement", judged, checks(Validate(), LABELS, 4, 32, "grouped"), (), folder / "quality")
        return f"{len(verdict['expectations'])} checks"

    return work


def drift_job(count: int, folder: Path) -> Callable[[], str]:
    from fetalflow.quality.drift import compare_drop
    from fetalflow.settings.params import Drift

    manifest = synthetic(count, folder)
    new = manifest[manifest["patient"].isin(manifest["patient"].unique()[:100])]
    return lambda: f"drop of {len(new)} sequences, {len(compare_drop(manifest, new, Drift())['tests'])} tests"


def rows_of(manifest: pd.DataFrame) -> pd.DataFrame:
    table = manifest[["video", "patient", "site", "device", "label"]].astype(str)
    return table.assign(annotator="a", start_frame="", end_frame="")


def accumulate_job(count: int, folder: Path) -> Callable[[], str]:
    """The first time: every patient gets her side."""
    from fetalflow.hospital.arrival.accumulated_drop import accumulate
    from fetalflow.settings.params import Split

    manifest = rows_of(synthetic(count, folder))
    (folder / "received").mkdir()
    (folder / "drop").mkdir()
    for number, (_, rows) in enumerate(manifest.groupby("site")):
        rows.to_csv(folder / "received" / f"{number:012x}.csv", index=False)
    return lambda: f"{accumulate(folder, Split())} rows, {manifest['site'].nunique()} drops"


def accumulate_again_job(count: int, folder: Path) -> Callable[[], str]:
    """A night on which nothing of it is new."""
    work = accumulate_job(count, folder)
    work()
    return work
