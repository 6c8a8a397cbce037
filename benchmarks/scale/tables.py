"""How the steps that read whole tables grow, up to ten million rows.

    python -m benchmarks tables [accumulate] [split] [duplicates] [drift] [gate] [--sizes 100000 1000000]

The tables are drawn: 5 sequences of one cine per patient, 1 000 rows per delivery, each of another site. Each step runs
alone in a fresh process, reads its tables from files as its stage does, and stops at --limit GB. The
bytes of sequences are not read, because `growth` measures them. docs/operator/scale.md says what follows.
"""

import argparse
import contextlib
import math
import os
import shutil
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import psutil

LABELS = ("head", "body", "arm", "hand", "heart", "leg", "foot")
PER_PATIENT, PER_SITE, BLOCK = 5, 1000, 500_000
DATA = Path("data/movement")

# --- drawn tables ----------------------------------------------------------------------------------------------------


def block(first: int, last: int, total: int) -> pd.DataFrame:
    """Rows first to last of a manifest. The five sequences of a patient are of one cine, and look nearly alike."""
    rng, number = np.random.default_rng(first), np.arange(first, last)
    cine = number // PER_PATIENT
    # Knuth's multiplier spreads the numbers, so that neither patients nor cines are in order.
    name = pd.Series((cine * 2_654_435_761) % 2**32).map("{:012x}".format)
    digest = name.str.pad(64, fillchar="5")
    site = number // PER_SITE
    picture = np.random.default_rng(total).integers(0, 2**63, total // PER_PATIENT + 1, dtype=np.uint64)[cine]
    hashes = picture ^ (np.uint64(1) << rng.integers(0, 64, len(number), dtype=np.uint64))
    sequence = name + "-" + pd.Series(number % PER_PATIENT).map("{:06d}".format)
    figures = ("mean_intensity", "sharpness", "niqe", "brisque")
    return pd.DataFrame(
        {"sequence": sequence, "video": "videos/" + name.str[:2] + "/" + digest + ".mp4", "source": digest}
        | {"patient": "P" + name, "site": [f"site {n}" for n in site], "device": [f"device {n}" for n in site]}
        | {"label": rng.choice(LABELS, len(number)), "annotators": "a"}
        | {"first_frame": number % PER_PATIENT * 10}
        | {"last_frame": number % PER_PATIENT * 10 + 9, "frames": 10, "fps": 25.0, "step": 1, "mm_per_px": 0.3}
        | {"height": 200, "width": 300, "min_intensity": 0.0, "max_intensity": 250.0}
        | {"blank_share": 0.0, "frozen_share": 0.0, "phash": pd.Series(hashes).map("{:016x}".format)}
        | {"path": "sequences/" + sequence + ".npy", "digest": sequence.str[::-1] + digest.str[19:]}
        | {"mask_source": "", "mask_path": "", "mask_digest": "", "sector": "1,2;3,4"}
        | {"drop": [f"{n:012x}" for n in number // PER_SITE]}
        | {figure: rng.gamma(9, 5, len(number)) for figure in figures}
    )


def draw(total: int, folder: Path) -> None:
    """A workspace's manifest and split, and a store of deliveries. One row in twenty is delivered twice."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from fetalflow.sequences.split import split
    from fetalflow.settings.params import Split

    for place in (folder / DATA, folder / "received", folder / "drift", folder / "drop"):
        place.mkdir(parents=True)
    shutil.copy(Path(__file__).parents[2] / "params.yaml", folder)
    with contextlib.ExitStack() as files:
        writers: dict[str, pq.ParquetWriter] = {}
        for first in range(0, total, BLOCK):
            rows = block(first, min(first + BLOCK, total), total)
            # The parts are drawn for each block, and no patient is in two blocks.
            parts = split(rows, Split()).sample(frac=1, random_state=0)
            for name, table in (("manifest", rows), ("split", parts)):
                arrow = pa.Table.from_pandas(table, preserve_index=False)
                if name not in writers:
                    writers[name] = pq.ParquetWriter(folder / DATA / f"{name}.parquet", arrow.schema)
                    files.enter_context(writers[name])
                writers[name].write_table(arrow)
            rows = rows[["video", "patient", "site", "device", "label", "first_frame", "last_frame", "drop"]]
            rows = rows.assign(annotator="a", mask="").rename(
                columns={"first_frame": "start_frame", "last_frame": "end_frame"}
            )
            for drop, of_drop in rows.groupby("drop"):
                again = rows.iloc[:: len(rows) // 50]
                pd.concat([of_drop, again]).drop(columns="drop").to_csv(folder / f"received/{drop}.csv", index=False)
                (folder / f"drift/{drop}.json").touch()
    (folder / f"drift/{total // PER_SITE // 2:012x}.json").unlink()  # the delivery that is new


# --- steps -----------------------------------------------------------------------------------------------------------


def accumulate() -> str:
    from fetalflow.hospital.arrival.accumulated_drop import accumulate
    from fetalflow.settings.params import Split

    return f"{accumulate(Path(), Split())} rows"


def split() -> str:
    from stages.split import main

    main("movement")
    return ""


def duplicates() -> str:
    from fetalflow.artefacts import read_columns
    from fetalflow.quality.duplicates import duplicate_of, near_duplicate_of

    columns = ["sequence", "video", "patient", "source", "phash", "path"]
    manifest = read_columns(DATA / "manifest.parquet", columns, repeated=("video", "patient", "source"))
    return f"{sum(map(bool, duplicate_of(manifest) + near_duplicate_of(manifest, DATA, 2)))} found"


def drift() -> str:
    from fetalflow.quality import drop_drift
    from fetalflow.settings.params import Drift

    frame = np.zeros((4, 4), np.uint8)
    with patch.object(drop_drift, "_middle", lambda path: frame), patch.object(drop_drift, "speckle", lambda _: 5.0):
        ((drop, found),) = drop_drift.judge_new_drops(Path(), DATA, Drift()).items()
    Path(f"drift/{drop}.json").unlink()  # so that it is new in a second run, too
    return f"a delivery of {found['sequences']} sequences, {len(found['tests'])} tests"


def gate() -> str:
    from fetalflow.quality import evidence
    from stages.validate import main

    with patch.object(evidence, "_array_fault", lambda *_: None):
        main("movement")
    return ""


STEPS = {step.__name__: step for step in (accumulate, split, duplicates, drift, gate)}

# --- measuring -------------------------------------------------------------------------------------------------------


def _work(name: str, folder: Path, answers) -> None:
    os.chdir(folder)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        note = STEPS[name]()
    answers.send((time.process_time(), note))


def measured(name: str, size: int, folder: Path, limit: float, seconds: float) -> float | None:
    """Print processor seconds, wall seconds and highest memory of one step; returns the first, None if it was stopped.

    The imports are in both figures."""
    spawn = get_context("spawn")
    mine, yours = spawn.Pipe()
    process = spawn.Process(target=_work, args=(name, folder, yours))
    began, most, answer = time.perf_counter(), 0.0, None
    process.start()
    yours.close()
    watched = psutil.Process(process.pid)
    while process.is_alive() and most <= limit and time.perf_counter() - began < seconds:
        with contextlib.suppress(psutil.NoSuchProcess):
            most = max(most, watched.memory_info().rss / 1e9)
        if mine.poll(0.05):
            with contextlib.suppress(EOFError):
                answer = mine.recv()
            break
    wall = time.perf_counter() - began
    process.kill()
    process.join()
    used, note = answer or (math.nan, "over the limit of memory" if most > limit else "too slow, or it failed")
    print(f"{name:<12}{size:>10}{used:>10.1f}{wall:>9.1f}{most:>8.2f}  {note}", flush=True)
    return None if answer is None else used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("steps", nargs="*", help=f"of {', '.join(STEPS)}; all if none is named")
    parser.add_argument("--sizes", nargs="*", type=int, default=[100_000, 1_000_000])
    parser.add_argument("--limit", type=float, default=4.5, help="GB; a step that takes more is stopped")
    parser.add_argument("--seconds", type=float, default=600, help="a step that takes longer is stopped")
    parser.add_argument("--keep", type=Path, help="a folder for the drawn tables, which a second run takes again")
    words = parser.parse_args()
    if unknown := set(words.steps) - set(STEPS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    print(f"{'step':<12}{'rows':>10}{'cpu s':>10}{'wall s':>9}{'GB':>8}  note")
    with tempfile.TemporaryDirectory(prefix="fetalflow-tables-") as scratch:
        for size in words.sizes:
            folder = (words.keep or Path(scratch)).resolve() / str(size)
            if not folder.is_dir():
                drawing = get_context("spawn").Process(target=draw, args=(size, folder))
                drawing.start()
                drawing.join()
            for name in words.steps or STEPS:
                measured(name, size, folder, words.limit, words.seconds)


if __name__ == "__main__":
    main()
