"""What longer windows and skipped frames are worth in accuracy, and what they cost in time.

    python -m benchmarks windows --variant fetalmovnet_s

One drop of the synthetic hospital whose cines hold the longest window; then, for every pair of `--frames` and
`--every`, sequences, training and answers as the stages make them, by `--folds` and `--seeds`. Beside the window
nothing differs: neither the cines (those that every window fits into), the patients of each fold's parts, the
recorded frames between two starts, nor the optimiser's steps (epochs in proportion, since fewer long windows fit into
a cine). Prints a table in Markdown, each row as it is known, with 95 % intervals over patients. The defaults are 9 x
5 trainings.
"""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import chdir
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch

from fetalflow.artefacts import write_table
from fetalflow.evaluation.intervals import in_words
from fetalflow.evaluation.predictions import read_predictions
from fetalflow.evaluation.scoring import score
from fetalflow.hospital.phantom.movement.hospital import WINDOW, make_drop
from fetalflow.inference.latency import machine, measure_latency
from fetalflow.sequences.extraction import extract_drop
from fetalflow.sequences.preprocessing import preprocess
from fetalflow.sequences.split import split
from fetalflow.settings.params import Extract, Phantom, TaskSettings, load_settings
from flows.workspaces.workspace import prepare
from stages import train

TASK = "movement"
APART = 12  # recorded frames between two starts: a multiple of every `every`


class Window(NamedTuple):
    frames: int
    every: int

    @property
    def span(self) -> int:
        """Recorded frames from the first to the last."""
        return (self.frames - 1) * self.every + 1

    @property
    def extract(self) -> dict[str, int]:
        return {"frames": self.frames, "every": self.every, "stride": APART // self.every}


def drop_of(folder: Path, block: TaskSettings, windows: list[Window], chosen: argparse.Namespace) -> Path:
    """The synthetic hospital's drop, made once in `folder`."""
    shortest = max(window.span for window in windows) + APART
    wanted = dict.fromkeys(block.phantom.sequences, chosen.cines * (shortest // WINDOW))
    facts = {"patients": chosen.patients, "sequences": wanted, "min_frames": shortest}
    phantom = Phantom.model_validate(block.phantom.model_dump() | facts | {"max_frames": shortest + 2 * APART})
    make_drop(phantom, folder / "drop")
    return folder / "drop"


def sequences_of(
    folder: Path, drop: Path, block: TaskSettings, windows: list[Window]
) -> Iterator[tuple[Window, pd.DataFrame]]:
    """Each window's table of sequences, of the cines that have sequences of every window."""
    found = {}
    for window in windows:
        settings = Extract.model_validate(block.extract.model_dump() | window.extract)
        found[window] = extract_drop(drop, settings, folder / "frames").sequences
    common = set.intersection(*(set(table["video"]) for table in found.values()))
    for window, table in found.items():
        yield window, table[table["video"].isin(common)].reset_index(drop=True)


def parts_of(table: pd.DataFrame, block: TaskSettings, folds: int) -> pd.DataFrame:
    """patient, fold, part: split by patient, on one row per cine, so that it is the same whatever the window."""
    cines = table.drop_duplicates("video").assign(sequence=lambda rows: rows["video"])
    parts = split(cines, block.split.model_copy(update={"kind": "grouped", "folds": folds}))
    return parts[["patient", "fold", "part"]].drop_duplicates()


def row_of(workspace: Path, window: Window, table: pd.DataFrame, chosen: argparse.Namespace) -> str:
    """Train and ask as the train stage does, in `workspace`, which has the sequences and their parts; a table's row."""
    data, block = workspace / "data" / TASK, load_settings(workspace / "params.yaml").blocks[TASK]
    with chdir(workspace):
        train.main(TASK, chosen.variant)
    found = score(read_predictions(data / "predictions" / f"{chosen.variant}.csv"), block.evaluate)["metrics"]
    seconds = ((table["last_frame"] - table["first_frame"] + 1) / (table["fps"] * table["step"])).median()
    times = measure_latency(workspace / "models" / TASK / chosen.variant, block.evaluate.latency_repeats)
    cells = [window.frames, window.every, f"{seconds:.2f}", len(table)]
    cells += [interval(found, "accuracy"), f"{times['ms_per_sequence']:.1f}"]
    return f"| {' | '.join(map(str, cells))} |"


def interval(metrics: dict[str, float], name: str) -> str:
    value, low, high = (metrics[f"{name}{end}"] for end in ("", "_low", "_high"))
    return f"{value:.3f} {in_words(low, high, metrics['n_patients'], '.3f')}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", default="fetalmovnet_s")
    parser.add_argument("--frames", type=int, nargs="+", default=[10, 20, 30])
    parser.add_argument("--every", type=int, nargs="+", default=[1, 2, 3], choices=[1, 2, 3, 4, 6])
    parser.add_argument("--longest", type=int, default=88, help="recorded frames: windows that span more are left out")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=10, help="of the window with most sequences")
    parser.add_argument("--patients", type=int, default=48)
    parser.add_argument("--cines", type=int, default=24, help="of each label")
    parser.add_argument("--size", type=int, default=64, help="px")
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    windows = [each for pair in product(chosen.frames, chosen.every) if (each := Window(*pair)).span <= chosen.longest]
    if not windows:
        parser.error(f"no window of these spans at most {chosen.longest} frames: raise --longest")
    with tempfile.TemporaryDirectory(prefix="fetalflow-windows-") as name:
        folder = Path(name)
        settings = load_settings(prepare(folder / "settings", profiles=["rivals"]) / "params.yaml")
        settings.variant(TASK, chosen.variant)  # known, or said so before hours are spent
        block = settings.blocks[TASK]
        tables = dict(sequences_of(folder, drop_of(folder, block, windows, chosen), block, windows))
        parts = parts_of(tables[windows[0]], block, chosen.folds)
        most = max(map(len, tables.values()))
        cines, patients = tables[windows[0]]["video"].nunique(), parts["patient"].nunique()
        print(", ".join(f"{key} {value}" for key, value in machine().items()))
        print(
            f"{chosen.variant}, {chosen.size} px, {cines} cines of {patients} patients, {chosen.folds} folds, ", end=""
        )
        print(f"{chosen.seeds} seeds, {chosen.epochs} epochs of {most} sequences")
        rows = []
        for window, table in tables.items():
            epochs = round(chosen.epochs * most / len(table))
            training = {"epochs": epochs, "patience": epochs, "seeds": list(range(chosen.seeds))}
            changes = {"extract": window.extract, "preprocess": {"size": chosen.size}, "train": training}
            workspace = prepare(folder / f"{window.frames}-{window.every}", TASK, ["rivals"], [{TASK: changes}])
            data = workspace / "data" / TASK
            manifest = preprocess(table, folder / "frames", data / "sequences", chosen.size)
            write_table(data / "manifest.parquet", manifest)
            write_table(data / "split.parquet", manifest[["sequence", "patient", "label"]].merge(parts, on="patient"))
            rows.append(row_of(workspace, window, table, chosen))
            print(rows[-1], flush=True)
        print("\n| frames | one in | seconds | sequences | accuracy | ms per sequence |")
        print("\n".join(["|---" * 6 + "|", *rows]))


if __name__ == "__main__":
    main()
