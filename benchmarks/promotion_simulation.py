"""False promotions and power of the gate on models, on synthetic patients whose truth is known (docs/promotion.md).

    python benchmarks/promotion_simulation.py [RUNS]

1000 runs take about a quarter of an hour on one core. Every share has its exact 95 % binomial interval.
"""

import sys
import time

import numpy as np
from scipy import stats

from fetalflow.promotion.simulation import Hospital, answers, simulate
from fetalflow.settings import Promote, Significance
from fetalflow.significance import patient_bootstrap

PATIENTS = (12, 25, 50, 100, 200)
FEW = {"guards": "not_refuted"}


def row(title: str, rules: Promote, runs: int, **truth: float) -> None:
    cells = []
    for patients in PATIENTS:
        found = simulate(Hospital(patients=patients, **truth), rules, runs)
        cells.append(f"{found['promoted']:6.3f} [{found['low']:.3f}, {found['high']:.3f}]")
    print(f"{title:<58}" + "  ".join(cells), flush=True)


def bootstrap_row(runs: int, draws: int = 1000) -> None:
    """The same with a percentile bootstrap of the accuracy, one-sided: what `fetalflow compare` goes by."""
    cells = []
    for patients in PATIENTS:
        settings, hits = Significance(bootstrap=draws, alpha=0.1), 0
        for run in range(runs):
            drawn = answers(Hospital(patients=patients), np.random.default_rng([0, run]))
            right = drawn.challenger == drawn.truth, drawn.champion == drawn.truth
            hits += patient_bootstrap(*right, drawn.patient, settings)["low"] > 0
        low, high = stats.binomtest(int(hits), runs).proportion_ci(0.95)
        cells.append(f"{hits / runs:6.3f} [{low:.3f}, {high:.3f}]")
    print(f"{'no difference, by percentile bootstrap of accuracy':<58}" + "  ".join(cells), flush=True)


def main(runs: int) -> None:
    start = time.monotonic()
    print(f"{Hospital()}\n{runs} runs; share promoted, for a number of test patients")
    print(" " * 58 + "  ".join(f"{patients:<21}" for patients in PATIENTS))
    better = Promote(**FEW)
    for truth, gain in {
        "no difference": 0.0,
        "worse by 0.03": -0.03,
        "better by 0.03": 0.03,
        "better by 0.05": 0.05,
    }.items():
        row(f"superiority: {truth}", better, runs, gain=gain)
    row("superiority, better by 0.05, a class loses 0.30", better, runs, gain=0.05, first_class=-0.35)
    row("superiority, better by 0.05, a site loses 0.30", better, runs, gain=0.05, first_site=-0.35)
    row("superiority of accuracy: no difference", Promote(metric="accuracy", **FEW), runs)
    bootstrap_row(runs)
    like = Promote(aim="non_inferiority", margin=0.05, **FEW)
    for truth, gain in {"worse by the margin": -0.05, "no difference": 0.0, "better by 0.03": 0.03}.items():
        row(f"non-inferiority, margin 0.05: {truth}", like, runs, gain=gain)
    shown = Promote(aim="non_inferiority", margin=0.05)
    row("the same, guards shown at 0.10: no difference", shown, runs)
    row("the same, guards shown at 0.10: better by 0.05", shown, runs, gain=0.05)
    wide = shown.model_copy(update={"class_margin": 0.2, "site_margin": 0.2})
    row("the same, guards shown at 0.20: better by 0.05", wide, runs, gain=0.05)
    print(f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
