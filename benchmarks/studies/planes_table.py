"""The table of FETAL_PLANES_DB through extraction, split and gate, with small drawn images.

    python -m benchmarks planes_table TABLE

TABLE is `FETAL_PLANES_DB_data.csv` as published, 12 233 rows; its images need not be there. For each row a small image
is drawn, all of them different. So everything that depends on the table is tried (rows, patients, labels, parts), and
nothing that depends on the images. Prints the counts after each step, and the gate's checks that failed.
"""

import argparse
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from fetalflow.hospital.drop.layouts import fetal_planes_db
from fetalflow.hospital.drop.table import read_text_table
from fetalflow.quality.gate import build_tables, failure_lines, run_checks
from fetalflow.quality.suites import checks
from fetalflow.sequences.extraction import extract_drop
from fetalflow.sequences.preprocessing import preprocess
from fetalflow.sequences.split import count, shared_patients, split
from fetalflow.settings.params import TaskSettings, load_settings

SIDE = 96  # px of a drawn image, the least that the gate allows


def draw(table: Path, drop: Path, rows: int | None) -> None:
    """A drop with the first `rows` rows of the table; None for all."""
    (drop / "Images").mkdir(parents=True)
    lines = table.read_bytes().splitlines(keepends=True)
    (drop / fetal_planes_db.TABLE).write_bytes(b"".join(lines[: rows + 1 if rows else None]))
    names = read_text_table(drop / fetal_planes_db.TABLE, fetal_planes_db.COLUMNS, separators=";,\t")["Image_name"]
    rng = np.random.default_rng(0)
    for name in names:
        picture = cv2.resize(rng.integers(20, 255, (6, 6)).astype(np.uint8), (SIDE, SIDE))
        picture = cv2.add(picture, rng.integers(0, 20, picture.shape).astype(np.uint8))
        cv2.imwrite(str(drop / "Images" / f"{name}.png"), picture)


def run(drop: Path, data: Path, settings: TaskSettings, kinds: list[str]) -> None:
    start = time.perf_counter()
    found = extract_drop(drop, settings.extract, data / "frames")
    summary = found.summary
    print(f"extract: {summary['rows']} rows, {summary['rows_used']} used, {summary['rows_quarantined']} in quarantine")
    patients, seconds = found.sequences["patient"].nunique(), time.perf_counter() - start
    print(f"  {summary['quarantined']}, {patients} patients; {seconds:.0f} s")
    manifest = preprocess(found.sequences, data / "frames", data / "sequences", settings.preprocess.size, 1)
    for kind in kinds:
        chosen = settings.split.model_copy(update={"kind": kind, "folds": 1})
        table = split(manifest, chosen)
        print(f"split {kind}:")
        for part, labels in count(table).items():
            patients = table.loc[table["part"] == part, "patient"].nunique()
            print(f"  {part}: {sum(labels.values())} images of {patients} patients; {labels}")
        print(f"  patients in two parts: {shared_patients(table)}")
        gate(manifest, table, data, settings, kind)


def gate(manifest: pd.DataFrame, table: pd.DataFrame, data: Path, settings: TaskSettings, kind: str) -> None:
    labels, size, bounds = settings.extract.labels, settings.preprocess.size, settings.validation
    start = time.perf_counter()
    tables = build_tables(manifest, table, data, labels, size, bounds.near_duplicate_bits)
    expected = checks(bounds, labels, settings.extract.frames, size, kind)
    with tempfile.TemporaryDirectory() as folder:
        verdict = run_checks("planes", tables, expected, bounds.warn_only, Path(folder))
    results = verdict["expectations"]
    failed = [each for each in results if not each["success"]]
    print(f"  gate: {len(results) - len(failed)} of {len(results)} checks passed; {time.perf_counter() - start:.0f} s")
    for each in failed:
        print(f"    {failure_lines(each)[:400]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--rows", type=int, help="only the first ones; all by default")
    parser.add_argument("--workers", type=int, default=1)
    chosen = parser.parse_args()
    settings = load_settings().blocks["planes"]
    labels = tuple(sorted(set(read_text_table(chosen.table, fetal_planes_db.COLUMNS, separators=";,\t")["Plane"])))
    extract = settings.extract.model_copy(update={"workers": chosen.workers, "labels": labels})
    settings = settings.model_copy(update={"extract": extract})
    with tempfile.TemporaryDirectory() as folder:
        draw(chosen.table, Path(folder) / "drop", chosen.rows)
        run(Path(folder) / "drop", Path(folder) / "data", settings, ["official", "grouped"])


if __name__ == "__main__":
    main()
