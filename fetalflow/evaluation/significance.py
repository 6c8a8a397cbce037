"""Tests whether one model is better than another, from their predictions of the same sequences.

Tests of the labels. Each has a different null hypothesis, so they may disagree:
- `paired_patients`: difference in accuracy, over whole patients (`fetalflow.evaluation.paired`, as in promotion). The
  verdict on labels is by this one.
- `wilcoxon_paper`: the paper's section V (p = 0.012 and 0.028): class F1s plus their average, normal approximation.
- `wilcoxon_classes`: the same test without its faults: class F1s only, exact.
- `mcnemar`: sequences that only one of the two models gets right, exact; treats sequences as independent.

Where both models measure, also over whole patients:
- `length_error`: difference in mean absolute error, in % of the truth, of the sequences that both models measured. The
  verdict on lengths is by this one.
- `dice`: difference in Dice.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from fetalflow.errors import InputError
from fetalflow.evaluation.holm import holm
from fetalflow.evaluation.intervals import in_words, known_or_none
from fetalflow.evaluation.measurement_columns import IN_MM, SAME_MM, error_percent
from fetalflow.evaluation.metrics import class_metrics, confusion_by_patient, summary_metrics
from fetalflow.evaluation.paired import Statistic, difference, mean, sums
from fetalflow.evaluation.predictions import Predictions
from fetalflow.settings.params import Significance

TESTS = ("paired_patients", "mcnemar", "wilcoxon_classes", "wilcoxon_paper")
OF_LENGTHS = ("length_error", "dice")
FEW_PATIENTS = 20
SIGN_FLIPS = 2**14  # with up to 14 classes every sign pattern is tried, so the p-value is exact


def compare_all(
    reference: Predictions, others: Mapping[str, Predictions], settings: Significance, name: str | None = None
) -> dict[str, Any]:
    """`compare_models` for the reference and each of `others`; Holm's correction over these comparisons, per test.

    Adds `p_holm` to each test and a `verdict` in words to each comparison. `name`: the name of the reference in the
    verdicts, by default that of its file. Raises InputError when a file holds other sequences than the reference.
    """
    name = name or Path(reference.source).stem
    comparisons = {other: compare_models(reference, table, settings) for other, table in others.items()}
    for test in (*TESTS, *OF_LENGTHS):
        made = [comparison["tests"][test] for comparison in comparisons.values() if test in comparison["tests"]]
        for each, value in zip(made, holm([each["p"] for each in made]), strict=True):
            each["p_holm"] = value
    for other, comparison in comparisons.items():
        comparison["verdict"] = _verdict(name, other, comparison, settings)
    measured = any("length_error" in comparison["tests"] for comparison in comparisons.values())
    return {
        "reference": name,
        "alpha": settings.alpha,
        "correction": f"Holm over {len(comparisons)} comparison{'s' if len(comparisons) != 1 else ''}, per test",
        "verdict_by": "length_error" if measured else "paired_patients",
        "comparisons": comparisons,
    }


def compare_models(a: Predictions, b: Predictions, settings: Significance) -> dict[str, Any]:
    """JSON-able comparison of two models on the same sequences; every difference is `a` minus `b`.

    p-values are two-sided and not corrected. averaged: whether a sequence has several answers of one model, of which
    the mean is compared (`Predictions.one_per_sequence`). tests: of labels where both models distinguish them
    (`Predictions.distinguishes_labels`; else accuracy and difference are None), and of lengths and masks where both
    have them. Raises InputError when the files do not hold the same sequences, truths and patients.
    """
    table = _paired(a, b)
    patients = int(table["patient"].nunique())
    facts = {"sources": [a.source, b.source], "n_sequences": len(table), "n_patients": patients}
    facts["averaged"] = len(a.table) > len(table) or len(b.table) > len(table)
    labels = {"accuracy": None, "difference": None, "class_f1": {}, "tests": {}}
    if a.distinguishes_labels and b.distinguishes_labels:
        labels = _labels(table, settings)
    return facts | labels | {"tests": labels["tests"] | _lengths(a, b, settings)}


def _labels(table: pd.DataFrame, settings: Significance) -> dict[str, Any]:
    """accuracy, difference, class_f1 and the tests of labels."""
    labels = sorted(set(table["y_true"]) | set(table["a"]) | set(table["b"]))
    truth, first, second = (pd.Index(labels).get_indexer(table[c]) for c in ("y_true", "a", "b"))
    patient = np.unique(table["patient"].to_numpy(dtype=str), return_inverse=True)[1]
    right_a, right_b = first == truth, second == truth
    counts = [confusion_by_patient(truth, answer, patient, len(labels)) for answer in (first, second)]
    f1 = [class_metrics(of_all.sum(axis=0))["f1"] for of_all in counts]
    known = ~np.isnan(f1[0])
    class_f1 = {label: [float(x), float(y)] for label, x, y, k in zip(labels, *f1, known, strict=True) if k}
    return {
        "accuracy": [float(right_a.mean()), float(right_b.mean())],
        "difference": float(right_a.mean() - right_b.mean()),
        "class_f1": class_f1,
        "tests": {
            "paired_patients": paired_patients(*counts, lambda c: summary_metrics(c)["accuracy"], settings),
            "mcnemar": mcnemar(right_a, right_b),
            "wilcoxon_classes": wilcoxon_classes(f1[0][known], f1[1][known], settings.seed),
            "wilcoxon_paper": wilcoxon_paper(f1[0][known], f1[1][known]),
        },
    }


def _lengths(a: Predictions, b: Predictions, settings: Significance) -> dict[str, Any]:
    """The tests of OF_LENGTHS for which there is data: the result of `paired_patients`, values (both means), n and
    patients. length_error also has refused: [by the first, by the second], among sequences that the other measured."""
    if not (a.measures and b.measures):
        return {}
    first, second = _measured(a), _measured(b)
    for column in sorted({c for c in IN_MM if c.startswith("true_")} & set(first) & set(second)):
        apart = (first[column] - second[column]).abs() > SAME_MM
        if (apart | (first[column].isna() != second[column].isna())).any():
            raise InputError(f"{a.source} and {b.source} differ in {column}: predict the same sequences with both.")
    tests = {}
    for test in OF_LENGTHS:
        values = pd.DataFrame({"a": first.get(test), "b": second.get(test), "patient": first["patient"]})
        both = values.dropna()
        if both.empty:
            continue
        patient = np.unique(both["patient"].to_numpy(dtype=str), return_inverse=True)[1]
        by_patient = [sums(both[which].to_numpy(float), patient) for which in ("a", "b")]
        result = paired_patients(*by_patient, mean, settings)
        result |= {"values": [float(both["a"].mean()), float(both["b"].mean())], "n": len(both)}
        tests[test] = result | {"patients": int(patient.max()) + 1}
    if "length_error" in tests:
        number = [f["length_error"].notna() for f in (first, second)]
        refused = [int((number[1] & ~number[0]).sum()), int((number[0] & ~number[1]).sum())]
        tests["length_error"]["refused"] = refused
    return tests


def _measured(predictions: Predictions) -> pd.DataFrame:
    """By sequence, sorted: patient, true lengths, length_error and dice; means where there are several runs."""
    table = predictions.table
    numbers = [c for c in table if c in IN_MM and c.startswith("true_")] + (["dice"] if "dice" in table else [])
    means = table[numbers].assign(length_error=error_percent(table)).groupby(table["sequence"]).mean()
    return means.sort_index().assign(patient=table.drop_duplicates("sequence").set_index("sequence")["patient"])


def wilcoxon_paper(f1_a: np.ndarray, f1_b: np.ndarray) -> dict[str, Any]:
    """The paper's test of class F1s [classes]: their average is added as one more pair, pairs without a difference
    are dropped, and the normal approximation is used without continuity correction.

    Kept to compare with the paper. The average is not a new observation, and eight pairs are too few for the
    approximation.
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
    """Exact signed-rank test of class F1s [classes]; ties are kept, pairs without a difference are dropped.

    `smallest_p`: the smallest p-value possible with n pairs, 2 / 2^n. Above 14 classes the p-value is simulated.
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


def paired_patients(
    first: np.ndarray, second: np.ndarray, statistic: Statistic, settings: Significance
) -> dict[str, Any]:
    """Difference in `statistic`, `first` minus `second`, with its interval and its two-sided p-value.

    first, second: counts or sums by patient, [patients, *S]. The confidence of the interval is 1 - alpha; low
    and high are None where `intervals.known` finds no interval. With one patient p is 1.
    """
    if len(first) < 2:
        values = [float(statistic(each.sum(axis=0))) for each in (first, second)]
        return {"difference": values[0] - values[1], "low": None, "high": None, "p": 1.0}
    result = difference(second, first, statistic)
    low, high = known_or_none(*result.interval(1 - settings.alpha), len(first))
    return {"difference": result.difference, "low": low, "high": high, "p": result.p_unequal()}


def _paired(a: Predictions, b: Predictions) -> pd.DataFrame:
    """sequence (index), patient, y_true, and the labels predicted by both models, `a` and `b`."""
    first, second = a.one_per_sequence, b.one_per_sequence
    only_a, only_b = first.index.difference(second.index), second.index.difference(first.index)
    if len(only_a) or len(only_b):
        example = [*only_a, *only_b][0]
        raise InputError(
            f"{a.source} and {b.source} must hold the same sequences: {len(only_a)} are only in the first, "
            f"{len(only_b)} only in the second, {len(first.index.intersection(second.index))} in both (for example "
            f"{example!r} in one only). Predict the same test part with both models."
        )
    for column in ("y_true", "patient"):
        if (differ := first[column] != second[column]).any():
            sequence = differ.idxmax()
            raise InputError(
                f"{a.source} and {b.source} differ in {column} of {int(differ.sum())} sequences, for example "
                f"{sequence!r}: {first[column][sequence]!r} and {second[column][sequence]!r}. Correct one of the files."
            )
    return first.rename(columns={"y_pred": "a"}).assign(b=second["y_pred"])


def _differences(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Differences that are not zero. Rounded, because equal F1s of different fractions may differ in the last bit."""
    difference = np.round(np.asarray(a) - np.asarray(b), 12)
    return difference[difference != 0]


def _verdict(name: str, other: str, comparison: dict[str, Any], settings: Significance) -> str:
    """The result of a comparison in words."""
    tests, patients = comparison["tests"], comparison["n_patients"]
    sentences = []
    if "length_error" in tests:
        sentences += _of_lengths(name, other, tests["length_error"], settings)
    if "dice" in tests:
        sentences += _of_dice(name, other, tests["dice"], settings)
    if "paired_patients" in tests:
        sentences += _of_labels(name, other, comparison, settings)
    if not sentences:
        return f"{name} and {other} have neither labels nor lengths of the same sequences: nothing to compare."
    if comparison["averaged"]:
        sentences.append("Where several runs answered a sequence, the mean of their probabilities was compared.")
    if 1 < patients < FEW_PATIENTS:
        sentences.append(f"With only {patients} patients, only a large difference can be shown.")
    if "wilcoxon_classes" in tests and (best := tests["wilcoxon_classes"]["smallest_p"]) > settings.alpha:
        sentences.append(f"Too few class F1s differ for their exact test (its p is {best:.3g} at best).")
    return " ".join(sentences)


def _of_labels(name: str, other: str, comparison: dict[str, Any], settings: Significance) -> list[str]:
    tests, patients, (first, second) = comparison["tests"], comparison["n_patients"], comparison["accuracy"]
    by = tests["paired_patients"]
    heading = "Labels: " if "length_error" in tests or "dice" in tests else ""
    sentences = [
        f"{heading}{name} {first:.3f}, {other} {second:.3f}: difference {by['difference']:+.3f} "
        f"{in_words(by['low'], by['high'], patients, '+.3f')} over {patients} patients, "
        f"p = {by['p_holm']:.3g} (Holm)."
    ]
    significant = {test for test in TESTS if tests[test]["p_holm"] < settings.alpha}
    if "paired_patients" in significant:
        return [*sentences, f"{name if by['difference'] > 0 else other} is better on patients like these."]
    sentences.append("Not significant: these patients show no difference, but they do not show that the two are equal.")
    if others := [test for test in TESTS if test in significant]:
        sentences.append(f"Significant by {', '.join(others)} alone, which ignores that sequences belong to patients.")
    return sentences


def _of_lengths(name: str, other: str, by: dict[str, Any], settings: Significance) -> list[str]:
    (first, second), refused = by["values"], by["refused"]
    sentences = [
        f"Lengths: {name} is off by {first:.2f} % of the truth, {other} by {second:.2f} %: difference "
        f"{by['difference']:+.2f} {in_words(by['low'], by['high'], by['patients'], '+.2f')} over {by['n']} sequences "
        f"of {by['patients']} patients, p = {by['p_holm']:.3g} (Holm)."
    ]
    if by["p_holm"] < settings.alpha:
        sentences.append(f"{other if by['difference'] > 0 else name} measures better on patients like these.")
    else:
        sentences.append("Not significant: these patients do not show whose lengths are better.")
    if any(refused):
        sentences.append(f"Left out: {refused[0]} that only {name} refused, {refused[1]} that only {other} refused.")
    return sentences


def _of_dice(name: str, other: str, by: dict[str, Any], settings: Significance) -> list[str]:
    better = (
        f"{name if by['difference'] > 0 else other} is better." if by["p_holm"] < settings.alpha else "Not significant."
    )
    return [
        f"Dice: {by['values'][0]:.3f} and {by['values'][1]:.3f}, difference {by['difference']:+.3f} "
        f"{in_words(by['low'], by['high'], by['patients'], '+.3f')}, p = {by['p_holm']:.3g} (Holm). {better}"
    ]
