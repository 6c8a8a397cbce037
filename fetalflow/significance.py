"""Is one model better than another, from their predictions of the same sequences.

Four tests, from the paper's own to the one a claim should rest on. Each tests another thing, so they may disagree:
- `wilcoxon_paper`: the paper's section V (p = 0.012 and 0.028): class F1s plus their average, normal approximation.
- `wilcoxon_classes`: the same without its faults: class F1s only, exact.
- `mcnemar`: sequences that only one of the two gets right, exact; takes sequences as independent.
- `patient_bootstrap`: difference in accuracy, drawing whole patients. The verdict is by this one.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from fetalflow.errors import InputError
from fetalflow.evaluation.intervals import bootstrap, percentile_interval
from fetalflow.evaluation.metrics import class_metrics, confusion_by_patient
from fetalflow.evaluation.predictions import Predictions
from fetalflow.settings import Significance

TESTS = ("patient_bootstrap", "mcnemar", "wilcoxon_classes", "wilcoxon_paper")
FEW_PATIENTS = 20
SIGN_FLIPS = 2**14  # up to 14 classes every sign pattern is tried, so the p-value is exact


def compare_all(
    reference: Predictions, others: Mapping[str, Predictions], settings: Significance, name: str | None = None
) -> dict[str, Any]:
    """`compare` the reference with each of `others`; Holm's correction over these comparisons, test by test.

    Adds `p_holm` to each test and a plain `verdict` to each comparison. `name` is what verdicts call the
    reference; by default its file's name. Raises InputError when a file holds other sequences than the reference.
    """
    name = name or Path(reference.source).stem
    comparisons = {other: compare(reference, table, settings) for other, table in others.items()}
    for test in TESTS:
        p = [comparison["tests"][test]["p"] for comparison in comparisons.values()]
        adjusted = multipletests(p, alpha=settings.alpha, method="holm")[1] if p else []
        for comparison, value in zip(comparisons.values(), adjusted, strict=True):
            comparison["tests"][test]["p_holm"] = float(value)
    for other, comparison in comparisons.items():
        comparison["verdict"] = _verdict(name, other, comparison, settings)
    return {
        "reference": name,
        "alpha": settings.alpha,
        "correction": f"Holm over {len(comparisons)} comparison{'s' if len(comparisons) != 1 else ''}, per test",
        "verdict_by": "patient_bootstrap",
        "comparisons": comparisons,
    }


def compare(a: Predictions, b: Predictions, settings: Significance) -> dict[str, Any]:
    """JSON-able comparison of two models on the same sequences; every difference is `a` minus `b`.

    p-values are two-sided and not corrected. Raises InputError when the files do not hold the same sequences, truths
    and patients.
    """
    table = _paired(a, b)
    labels = sorted(set(table["y_true"]) | set(table["a"]) | set(table["b"]))
    truth, first, second = (pd.Index(labels).get_indexer(table[c]) for c in ("y_true", "a", "b"))
    patient = np.unique(table["patient"].to_numpy(dtype=str), return_inverse=True)[1]
    right_a, right_b = first == truth, second == truth
    nobody = np.zeros(len(truth), dtype=int)
    f1 = [class_metrics(confusion_by_patient(truth, p, nobody, len(labels))[0])["f1"] for p in (first, second)]
    known = ~np.isnan(f1[0])
    class_f1 = {label: [float(x), float(y)] for label, x, y, k in zip(labels, *f1, known, strict=True) if k}
    return {
        "sources": [a.source, b.source],
        "n_sequences": len(table),
        "n_patients": int(patient.max()) + 1,
        "accuracy": [float(right_a.mean()), float(right_b.mean())],
        "difference": float(right_a.mean() - right_b.mean()),
        "class_f1": class_f1,
        "tests": {
            "patient_bootstrap": patient_bootstrap(right_a, right_b, patient, settings),
            "mcnemar": mcnemar(right_a, right_b),
            "wilcoxon_classes": wilcoxon_classes(f1[0][known], f1[1][known], settings.seed),
            "wilcoxon_paper": wilcoxon_paper(f1[0][known], f1[1][known]),
        },
    }


def wilcoxon_paper(f1_a: np.ndarray, f1_b: np.ndarray) -> dict[str, Any]:
    """The paper's test of class F1s [classes]: their average is added as one more pair, pairs without a difference
    are dropped, the normal approximation is taken without continuity correction.

    Kept to compare with the paper. The average is no new observation, and eight pairs are few for the approximation.
    """
    difference = _differences(np.append(f1_a, f1_a.mean()), np.append(f1_b, f1_b.mean()))
    if not len(difference):
        return {"n": 0, "dropped": len(f1_a) + 1, "statistic": None, "p": 1.0}
    result = stats.wilcoxon(difference, method="asymptotic", correction=False)
    return {
        "n": len(difference),
        "dropped": len(f1_a) + 1 - len(difference),
        "statistic": float(result.statistic),
        "p": float(result.pvalue),
    }


def wilcoxon_classes(f1_a: np.ndarray, f1_b: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """Exact signed-rank test of class F1s [classes], ties kept, pairs without a difference dropped.

    `smallest_p` is what this many classes can reach at best: 2 / 2^n. Above 14 classes the p-value is by simulation.
    """
    difference = _differences(f1_a, f1_b)
    n = len(difference)
    if n < 2:  # one pair has two equally likely signs, so its p-value is 1
        return {"n": n, "dropped": len(f1_a) - n, "statistic": None, "p": 1.0, "smallest_p": 1.0}
    flips = stats.PermutationMethod(n_resamples=SIGN_FLIPS, rng=np.random.default_rng(seed))
    result = stats.wilcoxon(difference, method=flips)
    statistic, p = float(result.statistic), float(result.pvalue)
    return {"n": n, "dropped": len(f1_a) - n, "statistic": statistic, "p": p, "smallest_p": 2 / 2**n}


def mcnemar(right_a: np.ndarray, right_b: np.ndarray) -> dict[str, Any]:
    """Exact McNemar test of bool [sequences]: a binomial test of the sequences that only one of the two gets right."""
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    p = float(stats.binomtest(only_a, only_a + only_b, 0.5).pvalue) if only_a + only_b else 1.0
    return {"only_first_right": only_a, "only_second_right": only_b, "p": p}


def patient_bootstrap(
    right_a: np.ndarray, right_b: np.ndarray, patient: np.ndarray, settings: Significance
) -> dict[str, Any]:
    """Percentile interval of the difference in accuracy when whole patients are drawn, and its p-value.

    right_a, right_b: bool [sequences]; patient: int [sequences]. The interval's confidence is 1 - alpha. The p-value is
    twice the share of draws on the other side of zero, (k + 1) / (draws + 1) as a bootstrap never shows p = 0.
    """
    gain = np.bincount(patient, right_a.astype(float) - right_b)
    asked = np.bincount(patient)

    def difference(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"difference": (weights @ gain) / (weights @ asked)}

    draws = bootstrap(difference, len(asked), settings.bootstrap, settings.seed)["difference"]
    low, high = percentile_interval(draws, 1 - settings.alpha)
    other_side = min((draws <= 0).sum(), (draws >= 0).sum())
    p = min(1.0, 2 * (other_side + 1) / (len(draws) + 1))
    return {"difference": float(gain.sum() / asked.sum()), "low": float(low), "high": float(high), "p": float(p)}


def _paired(a: Predictions, b: Predictions) -> pd.DataFrame:
    """sequence (index), patient, y_true, a, b: what both answered."""
    first, second = a.one_per_sequence, b.one_per_sequence
    only_a, only_b = first.index.difference(second.index), second.index.difference(first.index)
    if len(only_a) or len(only_b):
        example = [*only_a, *only_b][0]
        raise InputError(
            f"{a.source} and {b.source} must hold the same sequences: {len(only_a)} stand only in the first, "
            f"{len(only_b)} only in the second, {len(first.index.intersection(second.index))} in both (for example "
            f"{example!r} in one only). Predict the same test part with both models."
        )
    for column in ("y_true", "patient"):
        if (differ := first[column] != second[column]).any():
            sequence = differ.idxmax()
            raise InputError(
                f"{a.source} and {b.source} differ in {column} of {int(differ.sum())} sequences, for example "
                f"{sequence!r}: {first[column][sequence]!r} and {second[column][sequence]!r}. Mend one of the files."
            )
    return first.rename(columns={"y_pred": "a"}).assign(b=second["y_pred"])


def _differences(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Differences without the zeros. Rounded, because equal F1s of unlike fractions differ in the last bit."""
    difference = np.round(np.asarray(a) - np.asarray(b), 12)
    return difference[difference != 0]


def _verdict(name: str, other: str, comparison: dict[str, Any], settings: Significance) -> str:
    """What may be said, in plain words."""
    tests, (first, second), patients = comparison["tests"], comparison["accuracy"], comparison["n_patients"]
    by = tests["patient_bootstrap"]
    said = (
        f"{name} {first:.3f}, {other} {second:.3f}: difference {by['difference']:+.3f} "
        f"[{by['low']:+.3f}, {by['high']:+.3f}] over {patients} patients, p = {by['p_holm']:.3g} (Holm)."
    )
    significant = {test for test in TESTS if tests[test]["p_holm"] < settings.alpha}
    if "patient_bootstrap" in significant:
        said += f" {name if by['difference'] > 0 else other} is better on patients like these."
    else:
        said += " Not significant: these patients do not tell the two apart, which does not show that they are equal."
        if others := [test for test in TESTS if test in significant]:
            said += f" By {', '.join(others)} alone it would be; there patients are not accounted for."
    if patients < FEW_PATIENTS:
        said += f" Over as few as {patients} patients the interval is narrower than it should be."
    if (best := tests["wilcoxon_classes"]["smallest_p"]) > settings.alpha:
        said += f" The class F1s that differ are too few for their exact test (p is {best:.3g} at best)."
    return said
