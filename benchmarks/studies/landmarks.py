"""What biometry answers for images that have landmarks: heads of HC18, and images of FETAL_PLANES_DB.

    python -m benchmarks landmarks TABLES HC18 PLANES [--package FOLDER]

TABLES holds the landmark tables (doi 10.5522/04/30819911), HC18 and PLANES the two sets, or parts of them. Without
--package a network is trained on the heads of HC18 that the landmark table states as Train, so the other images are of
patients whom it never saw. A package must not have seen them either. Prints how the landmarks agree with HC18's
annotation, then the error of every length by set, and each image of PLANES.

The tables are CC BY-NC-SA 4.0. Landmarks are not trained on here: they only choose the heads.
"""

import argparse
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.studies.hc18_jobs import Heads, Marks, fold_parts, landmarks_of, recipe, train_package, usable_rows
from fetalflow.biometry.structures import LENGTHS
from fetalflow.cine.masks import Reading, read_mask
from fetalflow.hospital.drop.plain_names import alike
from fetalflow.inference.examination.examine import examine
from fetalflow.inference.latency import machine
from fetalflow.inference.package import Package, load
from flows.workspaces.workspace import parse_changes


def trained_package(rows: pd.DataFrame, parts: pd.Series, chosen: argparse.Namespace, folder: Path) -> Package:
    """A package of the recipe of HC18, trained on the heads that the landmark table calls Train, but for a few that
    are for validation."""
    torch.set_num_threads(chosen.threads)
    rows = rows[parts == "train"].reset_index(drop=True)
    settings = recipe([parse_changes(chosen.set)])
    heads = Heads(rows, chosen.hc18, settings)
    train_package(heads, fold_parts(rows["patient"], 1, None), settings, chosen.seed, folder)
    return load(folder / "package", engine="torch")


def differences(package: Package, image: Path, mark: dict[str, str]) -> dict[str, tuple[float, float]]:
    """Found and true length in mm, by name; NaN where the network gave none."""
    # The error is that of every image, also of one that is unlike the training data.
    found = examine(package, image, float(mark["mm_per_px"]), structure=mark["label"], show_unfamiliar=True).lengths
    known = {name: float(mark[f"{name}_mm"]) for name in LENGTHS[mark["label"]]}
    return {name: (found[name].value if name in found else np.nan, length) for name, length in known.items()}


def agreement(rows: pd.DataFrame, root: Path, marks: Marks) -> None:
    """The landmarks against HC18's table and masks."""
    errors, overlaps = [], []
    for row in rows.to_dict("records"):
        mark = marks[alike(Path(row["video"]).name)]
        errors.append(float(mark["hc_mm"]) - float(row["hc_mm"]))
        ellipse = read_mask(root / row["video"], None, Reading(mark["ellipse"])) > 0
        mask = read_mask(root / row["mask"], None, Reading(pen=float(row["mask_pen_px"]))) > 0
        overlaps.append(2 * (ellipse & mask).sum() / (ellipse.sum() + mask.sum()))
    print(
        f"{len(rows)} heads: circumference of the landmarks' ellipse less that of HC18 {np.mean(errors):+.2f} mm, "
        f"SD {np.std(errors):.2f}, largest {np.max(np.abs(errors)):.2f}; Dice of that ellipse with HC18's mask "
        f"{np.mean(overlaps):.4f}, least {np.min(overlaps):.4f}"
    )


def report(title: str, package: Package, images: dict[Path, dict[str, str]], each: bool) -> None:
    """each: whether to print every image."""
    pairs = defaultdict(list)
    for path, mark in images.items():
        found = differences(package, path, mark)
        for name, pair in found.items():
            pairs[name].append(pair)
        if each:
            said = ", ".join(f"{n.upper()} {a:.1f} (landmarks {b:.1f}) mm" for n, (a, b) in found.items())
            print(f"  {path.name}, {mark['label']}: {said}")
    for name, of_name in pairs.items():
        found, true = np.array(of_name).T
        off = (found - true)[np.isfinite(found)]
        share = 100 * np.abs(off) / true[np.isfinite(found)]
        print(
            f"{title}, {name.upper()}: MAE {np.abs(off).mean():.2f} mm ({share.mean():.1f} %), mean error "
            f"{off.mean():+.2f}, SD {off.std():.2f}; {len(off)} of {len(true)} images measured"
            if len(off)
            else f"{title}, {name.upper()}: none of {len(true)} images measured"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", type=Path)
    parser.add_argument("hc18", type=Path)
    parser.add_argument("planes", type=Path)
    parser.add_argument("--package", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as `fetalflow run --set`")
    parser.add_argument("--seed", type=int, default=0, help="of the training")
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    rows, marks = usable_rows(chosen.hc18), landmarks_of(chosen.tables, "HC18")
    keys = rows["video"].map(lambda video: alike(Path(video).name))
    parts = keys.map(lambda key: marks.get(key, {}).get("part", ""))
    agreement(rows[parts != ""], chosen.hc18, marks)
    of_planes = landmarks_of(chosen.tables, "FP")
    images = {p: of_planes[alike(p.name)] for p in sorted(chosen.planes.rglob("*.png")) if alike(p.name) in of_planes}
    test = zip(rows["video"][parts == "test"], keys[parts == "test"], strict=True)
    held = {chosen.hc18 / video: marks[key] for video, key in test}
    with tempfile.TemporaryDirectory() as folder:
        if chosen.package:
            package = load(chosen.package, engine="torch")
        else:
            package = trained_package(rows, parts, chosen, Path(folder))
        report("HC18, Test", package, held, each=False)
        report("FETAL_PLANES_DB", package, images, each=True)


if __name__ == "__main__":
    main()
