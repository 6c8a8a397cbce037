"""How exactly networks trained on real images of HC18 measure heads that they never saw, in mm.

    python -m benchmarks hc18 FOLDER OUT --result        every fold, then the result file
    python -m benchmarks hc18 FOLDER OUT --only 0 1      these folds
    python -m benchmarks hc18 FOLDER OUT --package       a package to use, trained on all heads

FOLDER holds HC18's training set as published. Heads, not images, are held out, a fifth of them in each fold. The recipe
is that of `--profile hc18` in params.yaml, the last epoch is kept, and nothing is chosen on the held-out heads. Each
fold leaves OUT/fold-K with package, table (measured.csv) and a picture of its worst ten images. A fold whose table is
there is not trained again, and a killed training continues after its last whole epoch. The last lines, and with
--result benchmarks/results/hc18.json, are of all finished folds, with 95 % intervals over heads.

--landmarks TABLES adds BPD and OFD against experts' landmarks (doi 10.5522/04/30819911, CC BY-NC-SA 4.0); nothing is
trained on them.
"""

import argparse
import time
from datetime import date
from itertools import pairwise
from pathlib import Path

import pandas as pd
import torch

from benchmarks.claims import write_claims
from benchmarks.studies.hc18_jobs import (
    Heads,
    check_same_recipe,
    draw_worst,
    fold_parts,
    landmarks_of,
    recipe,
    train_package,
    usable_rows,
)
from fetalflow.artefacts import write_json, write_table
from fetalflow.errors import InputError
from fetalflow.evaluation.measurement_scores import bounded, score_measurements
from fetalflow.evaluation.predictions import check_predictions
from fetalflow.hospital.drop.plain_names import alike
from fetalflow.inference.examination.examine import examine
from fetalflow.inference.examination.folder import measure_rows, summary
from fetalflow.inference.latency import machine
from fetalflow.inference.package import Package, load
from fetalflow.settings.params import Evaluate
from flows.workspaces.workspace import parse_changes

TABLE, TIMES = "measured.csv", "times.json"  # of a fold
TIMED = 10  # images
THREADS = 2  # of the timed answers
BANDS = (0, 120, 250, 400)  # mm of circumference: early, middle and late heads


def measure_fold(folder: Path, rows: pd.DataFrame, root: Path, marks: dict[str, dict[str, str]]) -> None:
    """Write what the package in `folder` measures in `rows`, which it never saw: table, times and picture."""
    package = load(folder / "package", engine="torch")
    # The error is that of every image, also of one that the package calls unlike its training data.
    table = pd.DataFrame([row for row, _ in measure_rows(package, rows, root, show_unfamiliar=True)])
    for name in ("bpd", "ofd") if marks else ():
        table[f"true_{name}_mm"] = [float(marks.get(alike(f), {}).get(f"{name}_mm", "nan")) for f in table["filename"]]
    draw_worst(folder / "worst.png", package, table, rows, root)
    write_json(folder / TIMES, timed(package, [root / video for video in rows["video"][:TIMED]], rows))
    write_table(folder / TABLE, table)  # last: it says that the fold is whole


def timed(package: Package, images: list[Path], rows: pd.DataFrame) -> list[dict[str, float]]:
    """ms from file to lengths of each image on THREADS threads, and the ms of processor time of all threads."""
    before, times = torch.get_num_threads(), []
    torch.set_num_threads(THREADS)
    for image, scale in zip(images, rows["mm_per_px"], strict=False):
        start = time.perf_counter(), time.process_time()
        examine(package, image, float(scale), show_unfamiliar=True)
        wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
        times.append({"ms": 1000 * wall, "cpu_ms": 1000 * cpu})
    torch.set_num_threads(before)
    return times


def claims(table: pd.DataFrame, folds: list[int], of: int, seed: int, command: str) -> list[dict]:
    """The claims of benchmarks/results/hc18.json from the tables of the finished folds."""
    found = score_measurements(check_predictions(with_known(table)), Evaluate())
    heads, facts = int(table["patient"].nunique()), machine()
    shared = {
        "split_unit": "head",
        "seeds": [seed],
        "interval": "95 %, bootstrap over heads",
        "command": command,
        "machine": f"{facts['processor']}, {facts['cores']} cores",
        "date": date.today().isoformat(),
        "outcome": "measured",
    }
    whole = f"{len(folds)} of {of} folds by head" if len(folds) < of else f"{of} folds by head"
    said = []
    for row in (each for each in found["agreement"] if each["n"]):
        name, truth = row["measure"].upper(), "HC18's table" if row["measure"] == "hc" else "experts' landmarks"
        figures = {key: row[key] for key in ("mae", "bias", "sd", "refused", "mae_percent")}
        figures |= {f"{key}{end}": row[f"{key}{end}"] for key in ("mae", "bias") for end in ("_low", "_high")}
        median = (table[f"found_{row['measure']}_mm"] - table[f"true_{row['measure']}_mm"]).abs().median()
        said.append(
            shared
            | {
                "claim": f"On heads of HC18 that it never saw, fetalnet_lite misses the {name} of {truth} by "
                "{mae:.2f} mm [{mae_low:.2f}, {mae_high:.2f}] on average (mean error {bias:+.2f} mm, SD {sd:.2f}).",
                "figures": figures | {"median_error": float(median)},
                "data": f"HC18 training set, {whole}",
                "n": {"heads": row["patients"], "images": row["n"]},
            }
        )
    for low, high in pairwise(BANDS):
        part = table[table["true_hc_mm"].between(low, high, inclusive="left") & table["found_hc_mm"].notna()]
        errors = part["found_hc_mm"] - part["true_hc_mm"]
        figures = bounded("mae", errors.abs(), part["patient"], Evaluate())
        figures |= {"bias": errors.mean(), "sd": errors.std(), "dice": part["dice"].mean(), "low": low, "high": high}
        if figures["mae_low"] == figures["mae_low"]:  # there is an interval
            said.append(
                shared
                | {
                    "claim": "Heads of {low} to {high} mm are missed by {mae:.2f} mm [{mae_low:.2f}, {mae_high:.2f}] "
                    "(mean error {bias:+.2f} mm, SD {sd:.2f}, Dice {dice:.4f}).",
                    "figures": {
                        key: value if isinstance(value, int) else float(value) for key, value in figures.items()
                    },
                    "data": f"HC18 training set, {whole}",
                    "n": {"heads": int(part["patient"].nunique()), "images": len(part)},
                }
            )
    dice = {key: found["metrics"][key] for key in ("dice", "dice_low", "dice_high")}
    said.append(
        shared
        | {
            "claim": "On these heads its mask has a Dice of {dice:.4f} [{dice_low:.4f}, {dice_high:.4f}], at recorded "
            "pixels.",
            "figures": dice | {"median": float(table["dice"].median())},
            "data": f"HC18 training set, {whole}; half of the pen is taken off the annotation",
            "n": {"heads": heads, "images": int(table["dice"].notna().sum())},
        }
    )
    return said


def with_known(table: pd.DataFrame) -> pd.DataFrame:
    """`table` without the lengths that no row has a truth of."""
    measures = [c.removeprefix("true_") for c in table if c.startswith("true_") and table[c].isna().all()]
    return table.drop(columns=[f"{kind}_{name}" for kind in ("true", "found") for name in measures])


def report(out: Path, folds: int, seed: int, result: bool) -> None:
    """Print the figures of the finished folds; with `result`, write them to benchmarks/results too."""
    finished = [k for k in range(folds) if (out / f"fold-{k}" / TABLE).is_file()]
    if not finished:
        return
    table = pd.concat([pd.read_csv(out / f"fold-{k}" / TABLE, dtype={"patient": str}) for k in finished])
    times = pd.concat([pd.read_json(out / f"fold-{k}" / TIMES) for k in finished]).median()
    print(f"\nfolds {', '.join(map(str, finished))} of {folds}")
    print("\n".join(summary(table)))
    print(
        f"one image, file to lengths, {THREADS} threads: median {times['ms']:.0f} ms, {times['cpu_ms']:.0f} ms of "
        "processor time"
    )
    if result:
        write_claims("hc18", claims(table, finished, folds, seed, "python -m benchmarks hc18 FOLDER OUT --result"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--only", type=int, nargs="+", help="numbers of folds, from 0")
    parser.add_argument("--package", action="store_true", help="train OUT/package on all heads, and no fold")
    parser.add_argument("--result", action="store_true", help="write benchmarks/results/hc18.json")
    parser.add_argument("--landmarks", type=Path, help="folder of the landmark tables")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as `fetalflow run --set`")
    parser.add_argument("--seed", type=int, default=0, help="of the trainings")
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    numbers = range(chosen.folds) if chosen.only is None else chosen.only
    if wrong := [k for k in numbers if not 0 <= k < chosen.folds]:
        raise InputError(f"--only {wrong[0]}: there are the folds 0 to {chosen.folds - 1}.")
    settings = recipe([parse_changes(chosen.set)])
    check_same_recipe(chosen.out, settings, chosen.folds, chosen.seed)
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    folders = {k: chosen.out / f"fold-{k}" for k in numbers}
    wanted = {None: chosen.out} if chosen.package else {k: f for k, f in folders.items() if not (f / TABLE).is_file()}
    if wanted:
        rows = usable_rows(chosen.folder)
        heads = Heads(rows, chosen.folder, settings)
        marks = landmarks_of(chosen.landmarks, "HC18") if chosen.landmarks else {}
    for k, folder in wanted.items():
        parts = fold_parts(rows["patient"], chosen.folds, k)
        print(f"package of all heads in {folder}" if k is None else f"fold {k} of {chosen.folds}", flush=True)
        if not (folder / "package").is_dir():
            train_package(heads, parts, settings, chosen.seed, folder)
        if k is not None:
            measure_fold(folder, rows[parts == "test"], chosen.folder, marks)
            report(chosen.out, chosen.folds, chosen.seed, result=False)
    if not chosen.package:
        report(chosen.out, chosen.folds, chosen.seed, chosen.result)


if __name__ == "__main__":
    main()
