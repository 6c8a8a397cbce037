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

from benchmarks.studies.hc18 import Heads, add_training, trained
from fetalflow.biometry.structures import LENGTHS
from fetalflow.cine.masks import Reading, read_mask
from fetalflow.hospital.drop.layouts.hc18 import read_hc18
from fetalflow.hospital.drop.layouts.landmarks import read_landmarks
from fetalflow.hospital.drop.layouts.layout import Files
from fetalflow.hospital.drop.plain_names import alike
from fetalflow.inference.examination.examine import examine
from fetalflow.inference.latency import machine
from fetalflow.inference.package import Package, load
from fetalflow.models.weights import save
from fetalflow.settings.params import Extract

Marks = dict[str, dict[str, str]]  # by the plain name of an image, see `read_landmarks`


def landmarks(folder: Path, name: str) -> Marks:
    """The landmarks of the set `name` that can be used."""
    names = tuple(sorted(path.name for path in folder.iterdir()))
    found = read_landmarks(Files("", names, (), lambda table: folder / table, folder), name)
    return {image: mark for image, mark in found.items() if not mark["fault"]}


def trained_package(rows: pd.DataFrame, root: Path, chosen: argparse.Namespace, folder: Path) -> Package:
    torch.set_num_threads(chosen.threads)
    network = trained(Heads(rows, root, chosen.size), chosen).cpu().eval()
    extract = Extract(frames=1, stride=1, labels=("head",)).model_dump(mode="json")
    config = {"task": "biometry", "variant": chosen.network, "network": chosen.network, "labels": ["head"]}
    config |= {"frames": 1, "size": chosen.size, "options": {}, "extract": extract}
    save(folder / "package", network, config)
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
    add_training(parser)
    chosen = parser.parse_args()
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    rows, marks = read_hc18(chosen.hc18), landmarks(chosen.tables, "HC18")
    rows = rows[(rows["fault"] == "") & rows["video"].map(lambda video: (chosen.hc18 / video).is_file())]
    keys = rows["video"].map(lambda video: alike(Path(video).name))
    parts = keys.map(lambda key: marks.get(key, {}).get("part", ""))
    agreement(rows[parts != ""], chosen.hc18, marks)
    of_planes = landmarks(chosen.tables, "FP")
    images = {p: of_planes[alike(p.name)] for p in sorted(chosen.planes.rglob("*.png")) if alike(p.name) in of_planes}
    test = zip(rows["video"][parts == "test"], keys[parts == "test"], strict=True)
    held = {chosen.hc18 / video: marks[key] for video, key in test}
    with tempfile.TemporaryDirectory() as folder:
        if chosen.package:
            package = load(chosen.package, engine="torch")
        else:
            count = (parts == "train").sum()
            print(f"{chosen.network} at {chosen.size} px, {chosen.epochs} epochs on {count} images of HC18")
            package = trained_package(rows[parts == "train"], chosen.hc18, chosen, Path(folder))
        report("HC18, Test", package, held, each=False)
        report("FETAL_PLANES_DB", package, images, each=True)


if __name__ == "__main__":
    main()
