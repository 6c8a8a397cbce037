"""How often the gate on models promotes one that it should not, and how often it finds a better one.

    python -m benchmarks promotion_simulation [not_refuted | shown | power | compare] [RUNS]

Synthetic patients, whose truth is known. `compare` shows the two-sided test of `fetalflow compare`, which is the same,
beside the bootstrap that it took before. Without a word all four, some ten minutes on one core with 1000 runs. Every
share has its exact 95 % binomial interval. docs/ml-lead/promotion.md says what follows.
"""

import argparse
import time

import numpy as np
from scipy import stats

from fetalflow.evaluation.intervals import bootstrap
from fetalflow.evaluation.metrics import confusion_by_patient, summary_metrics
from fetalflow.evaluation.paired import difference, sums
from fetalflow.promotion.comparison import Answers
from fetalflow.promotion.simulation import Hospital, answers, simulate
from fetalflow.settings.params import Promote

PATIENTS = (8, 12, 25, 50, 100, 200)
MANY = (25, 50, 100, 200, 400)
COMPARED = (8, 15, 48)
# Patients differ much, and suit one model far more than the other: their sequences are nearly copies.
ALIKE = {"patient_sd": 2.0, "model_sd": 1.5}
HARD = {"a class loses 0.30": {"first_class": -0.35}, "a site loses 0.30": {"first_site": -0.35}}


def row(title: str, rules: Promote, runs: int, patients: tuple[int, ...] = PATIENTS, **truth: float) -> None:
    cells = []
    for n in patients:
        found = simulate(Hospital(patients=n, **truth), rules, runs)
        cells.append((found["promoted"], found["low"], found["high"]))
    show(title, cells)


def show(title: str, cells: list[tuple[float, float, float]]) -> None:
    print(f"{title:<58}" + "  ".join(f"{share:.3f} [{low:.3f}, {high:.3f}]" for share, low, high in cells), flush=True)


def bootstrapped(drawn: Answers, draws: int = 1000) -> np.ndarray:
    """[draws]: the challenger's gain in accuracy, whole patients drawn with replacement."""
    by_patient = [sums(answer == drawn.truth, drawn.patient) for answer in (drawn.challenger, drawn.champion)]
    gain, rows = by_patient[0][:, 0] - by_patient[1][:, 0], by_patient[0][:, 1]
    return bootstrap(lambda weights: {"gain": (weights @ gain) / (weights @ rows)}, len(rows), draws, 0)["gain"]


def by_bootstrap(drawn: Answers) -> float:
    """Two-sided p-value of a percentile bootstrap over patients."""
    draws = bootstrapped(drawn)
    return 2 * (min((draws <= 0).sum(), (draws >= 0).sum()) + 1) / (len(draws) + 1)


def by_jackknife(drawn: Answers) -> float:
    """Two-sided p-value of `fetalflow compare`."""
    both = (drawn.champion, drawn.challenger)
    counts = [confusion_by_patient(drawn.truth, answer, drawn.patient, len(drawn.labels)) for answer in both]
    return difference(*counts, lambda c: summary_metrics(c)["accuracy"]).p_unequal()


def compared(runs: int) -> None:
    """How often the two-sided test at .05 calls one of two equal models better."""
    for title, test in {"percentile bootstrap": by_bootstrap, "jackknife, as `compare`": by_jackknife}.items():
        for name, truth in {"no difference": {}, "sequences alike": ALIKE}.items():
            cells = []
            for n in COMPARED:
                hospital = Hospital(patients=n, **truth)
                hits = sum(test(answers(hospital, np.random.default_rng([0, run]))) < 0.05 for run in range(runs))
                cells.append((hits / runs, *stats.binomtest(int(hits), runs).proportion_ci(0.95)))
            show(f"{name}, two-sided, by {title}", cells)


def bootstrap_row(runs: int) -> None:
    """The same with a percentile bootstrap of the accuracy, one-sided."""
    cells = []
    for patients in PATIENTS:
        drawn = (answers(Hospital(patients=patients), np.random.default_rng([0, run])) for run in range(runs))
        hits = sum(np.percentile(bootstrapped(each), 5) > 0 for each in drawn)
        cells.append((hits / runs, *stats.binomtest(int(hits), runs).proportion_ci(0.95)))
    show("no difference, by percentile bootstrap of accuracy", cells)


def by_sequence_row(runs: int, **truth: float) -> None:
    """The mistake that the gate avoids: sequences taken for independent, by McNemar's exact one-sided test."""
    cells = []
    for patients in PATIENTS:
        hits = 0
        for run in range(runs):
            drawn = answers(Hospital(patients=patients, **truth), np.random.default_rng([0, run]))
            first, second = drawn.champion == drawn.truth, drawn.challenger == drawn.truth
            won, lost = int((second & ~first).sum()), int((first & ~second).sum())
            hits += stats.binom.sf(won - 1, won + lost, 0.5) <= 0.05
        cells.append((hits / runs, *stats.binomtest(int(hits), runs).proportion_ci(0.95)))
    show("no difference, sequences alike, by McNemar over sequences", cells)


def not_refuted(runs: int) -> None:
    """How often a model is promoted that should not be."""
    better = Promote(guards="not_refuted")
    accuracy = better.model_copy(update={"metric": "accuracy"})
    # The truth is set in accuracy: at the margin of a mean class F1 the true loss would be a little off.
    like = accuracy.model_copy(update={"aim": "non_inferiority", "margin": 0.05})
    row("superiority: no difference", better, runs)
    row("superiority of accuracy: no difference", accuracy, runs)
    row("superiority: no difference, sequences alike", better, runs, **ALIKE)
    row("superiority: worse by 0.03", better, runs // 4, gain=-0.03)
    row("non-inferiority of accuracy, 0.05: worse by 0.05", like, runs, gain=-0.05)
    row("the same, sequences alike", like, runs, gain=-0.05, **ALIKE)
    row("the same, champion's accuracy 0.95", like, runs, gain=-0.05, accuracy=0.95)
    for name, lost in HARD.items():
        row(f"superiority: better by 0.05, but {name}", better, runs // 4, gain=0.05, **lost)
    bootstrap_row(runs // 4)
    by_sequence_row(runs // 4, **ALIKE)


def power(runs: int) -> None:
    """How often a better, or an equal, model is found."""
    better = Promote(guards="not_refuted")
    for gain in (0.03, 0.05, 0.08):
        row(f"superiority: better by {gain}", better, runs // 4, gain=gain)
    for margin in (0.03, 0.05):
        like = better.model_copy(update={"aim": "non_inferiority", "margin": margin})
        row(f"non-inferiority, {margin}: no difference", like, runs // 4)
    row("non-inferiority, 0.03: better by 0.03", like.model_copy(update={"margin": 0.03}), runs // 4, gain=0.03)


def shown(runs: int) -> None:
    """The same where it must be shown of every class and site that no more than the margin is lost."""
    for aim, truths in {"superiority": (0.0, 0.05, 0.08), "non_inferiority": (-0.05, 0.0, 0.05)}.items():
        for margin in (0.1, 0.2):
            rules = Promote(aim=aim, margin=0.05, class_margin=margin, site_margin=margin, guards="shown")
            for gain in truths:
                enough = runs if gain == truths[0] and margin == 0.2 else runs // 4
                row(f"shown at {margin}, {aim}: gain {gain:+.2f}", rules, enough, MANY, gain=gain)


PARTS = {
    "not_refuted": (not_refuted, PATIENTS),
    "power": (power, PATIENTS),
    "shown": (shown, MANY),
    "compare": (compared, COMPARED),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="WORD")
    words = parser.parse_args().words
    if unknown := {word for word in words if not word.isdigit()} - set(PARTS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    runs = int(words[-1]) if words and words[-1].isdigit() else 1000
    print(f"{Hospital()}\n{runs} runs, a quarter of it where no error rate is bounded; share promoted")
    for name in [word for word in words if word in PARTS] or PARTS:
        start, (part, patients) = time.monotonic(), PARTS[name]
        print(f"{name:<58}" + "  ".join(f"{n:<20}" for n in patients))
        part(runs)
        print(f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
