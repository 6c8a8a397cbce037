"""The parity gate: all engines answer sequences of validation patients; one that does not agree with torch is refused.

Which disagreement is allowed: `agreement.py` beside this file. The engines also answer sequences of test patients, on
which nothing is decided: these figures are reported. The fastest engine that passed is the default.
"""

import os
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit, softmax

from fetalflow.biometry.outline import HALF
from fetalflow.errors import InputError
from fetalflow.evaluation.equal_labels import labels_equally_likely
from fetalflow.evaluation.measurement_columns import error_percent
from fetalflow.evaluation.measurement_rows import known_mask, measurement_row
from fetalflow.evaluation.metrics import confusion_by_patient, summary_metrics
from fetalflow.evaluation.segmentation import overlap
from fetalflow.inference.engines.agreement import agreement, disagreements
from fetalflow.inference.engines.arithmetic import arithmetic
from fetalflow.inference.engines.engine import Engine
from fetalflow.inference.engines.timing import LIMIT_S, in_turns
from fetalflow.inference.latency import p95
from fetalflow.models.familiarity import UNLIKE, Familiarity
from fetalflow.models.network_answer import NetworkAnswer
from fetalflow.settings.params import Evaluate, Export

REFERENCE = "torch"


class Reported(NamedTuple):
    """A figure on test patients. points: factor from the figure to percentage points; better: 1 where larger is better,
    else -1."""

    points: float
    better: int


REPORTED = {
    "macro_f1": Reported(100, 1),
    "dice": Reported(100, 1),
    "length_error_percent": Reported(1, -1),
    "unfamiliar": Reported(100, -1),
    "unmeasured": Reported(100, -1),
}
FIGURES = ("p_difference", "mask_difference", "same_label", "accuracy", *REPORTED)
NO_NUMBER = "some of its answers are not numbers"
NO_VALIDATION = "the split has no validation patients by whom it could be judged"


def judge(
    config: Mapping[str, Any],
    engines: Mapping[str, Engine],
    validation: pd.DataFrame,
    test: pd.DataFrame,
    data: Path,
    settings: Evaluate | Export,
    familiarity: Familiarity | None = None,
    times: Mapping[str, list[float]] | None = None,
) -> list[dict[str, Any]]:
    """Verdict and figures of each engine, in their order; JSON-able, None for what does not apply.

    config: of the package. engines: by name, torch among them. validation, test: rows of the manifest, sequences of
    these patients in the task's folder `data`; one at a time is in memory. familiarity: of the package. times: ms of
    the timed answers by engine, from `timing.in_turns`; None: they are timed here.

    Keys of a row: engine, passed, reasons (of a refusal), default; agreement (on validation patients; see
    `agreement.agreement`). On test patients: sequences; p_difference, mask_difference (largest difference of a
    probability from that of torch); same_label (share of the sequences); accuracy, macro_f1, dice (0-1),
    length_error_percent (of the true length, over the lengths that torch measured too), unfamiliar, unmeasured (shares
    of the sequences that are flagged as unlike the training data, and that have no length in mm), and each of REPORTED
    with _loss (points lost against torch). ms, ms_p95 (of one sequence, the engines in turns); threads; load of the
    machine; bytes; arithmetic.

    Raises InputError when torch is not among the engines, or there is no row of test patients.
    """
    if REFERENCE not in engines or test.empty:
        raise InputError(f"parity needs {REFERENCE} and a test sequence; found {list(engines)} and {len(test)}.")
    labels = list(config["labels"])
    judged_by = answers_of(engines, validation, data, labels, familiarity) if len(validation) else {}
    reported = answers_of(engines, test, data, labels, familiarity)
    if times is None:
        times = in_turns(engines, stored(test.iloc[0], data), settings.latency_repeats, LIMIT_S)
    judged = []
    for name, engine in engines.items():
        facts = _figures(reported[name], reported[REFERENCE], test, labels)
        there = _figures(reported[REFERENCE], reported[name], test, labels)
        facts |= {
            f"{key}_loss": each.better * each.points * (there[key] - facts[key]) for key, each in REPORTED.items()
        }
        agreed, reasons = None, [NO_VALIDATION]
        if judged_by:
            agreed = agreement(judged_by[name], judged_by[REFERENCE], validation["patient"])
            reasons = disagreements(agreed)
        if np.isinf(facts["p_difference"]) or np.isinf(facts["mask_difference"]) or _no_numbers(judged_by.get(name)):
            agreed, reasons = None, [NO_NUMBER]
        reasons = [] if name == REFERENCE else reasons
        judged.append(
            {"engine": name, "passed": not reasons, "reasons": reasons, "default": False, "agreement": agreed}
            | {"sequences": len(test)}
            | {key: _jsonable(value) for key, value in facts.items()}
            | {"ms": statistics.median(times[name]), "ms_p95": p95(times[name])}
            | {"threads": engine.threads, "load": round(os.getloadavg()[0], 1), "bytes": engine.size}
            | {"arithmetic": arithmetic(name)}
        )
    min((row for row in judged if row["passed"]), key=lambda row: row["ms"])["default"] = True
    return judged


def answers_of(
    engines: Mapping[str, Engine], rows: pd.DataFrame, data: Path, labels: list[str], familiarity: Familiarity | None
) -> dict[str, pd.DataFrame]:
    """What is kept of the answers of every engine to every sequence, in the order of `rows`: p float [C]; unlike, where
    the package has a familiarity; of a network that segments, mask_difference, mask_apart (1 - Dice from torch's mask)
    and the columns of `measurement_row`."""
    kept: dict[str, list[dict[str, Any]]] = {name: [] for name in engines}
    for _, row in rows.iterrows():
        batch = stored(row, data)
        answers = {name: engine.answer(batch) for name, engine in engines.items()}
        reference = answers[REFERENCE]
        mask = None if reference.mask is None else known_mask(data, row)
        for name, answer in answers.items():
            kept[name].append(_kept(answer, reference, mask, row, labels))
    found = {name: pd.DataFrame(each) for name, each in kept.items()}
    if familiarity is not None:
        for table in found.values():
            table["unlike"] = familiarity.score(np.stack(table["features"])) > UNLIKE
    return found


def _kept(
    answer: NetworkAnswer, reference: NetworkAnswer, mask: np.ndarray | None, row: pd.Series, labels: list[str]
) -> dict[str, Any]:
    """The facts that are kept of the answer to one sequence: measures of its mask, but not the mask."""
    p = softmax(answer.logits[0].astype(np.float64))
    facts: dict[str, Any] = {"p": p, "features": None if answer.features is None else answer.features[0]}
    if answer.mask is None:
        return facts
    drawn, by_torch = expit(answer.mask[0]), expit(reference.mask[0])
    facts["mask_difference"] = float(np.abs(drawn - by_torch).max())
    facts["mask_apart"] = 1 - overlap(drawn > HALF, by_torch > HALF)[0]
    structure = None if labels_equally_likely(p) else labels[int(p.argmax())]
    return facts | measurement_row(np.nan_to_num(drawn), mask, row, structure)


def _figures(answers: pd.DataFrame, other: pd.DataFrame, rows: pd.DataFrame, labels: list[str]) -> dict[str, float]:
    """FIGURES of one engine compared with another; NaN for what does not apply."""
    p, other_p = np.stack(answers["p"]), np.stack(other["p"])
    facts = dict.fromkeys(FIGURES, np.nan)
    facts["p_difference"] = _widest(np.abs(p - other_p))
    facts["same_label"] = (p.argmax(1) == other_p.argmax(1)).mean()
    if len(labels) > 1 and not labels_equally_likely(p):
        truth = pd.Index(labels).get_indexer(rows["label"])
        counts = confusion_by_patient(truth, p.argmax(1), np.zeros(len(rows), dtype=int), len(labels)).sum(axis=0)
        summary = summary_metrics(counts)
        facts |= {"accuracy": float(summary["accuracy"]), "macro_f1": float(summary["mean_class_f1"])}
    if "mask_difference" in answers:
        facts["mask_difference"] = _widest(answers["mask_difference"])
        facts["dice"] = answers["dice"].mean()
        facts["length_error_percent"] = _length_error(answers, other)
        facts["unmeasured"] = answers.filter(regex="^found_").isna().all(axis=1).mean()
    if "unlike" in answers:
        facts["unfamiliar"] = answers["unlike"].mean()
    return facts


def _length_error(answers: pd.DataFrame, other: pd.DataFrame) -> float:
    """Mean absolute error in % of the true lengths, over those that both engines measured; NaN where there is none."""
    columns = [name for name in answers if name.startswith("found_")]
    both = answers.assign(**{name: answers[name].where(other[name].notna()) for name in columns})
    return float(error_percent(both).mean())


def _widest(differences: np.ndarray | pd.Series) -> float:
    """The maximum; infinite where a value is NaN, which a maximum may ignore."""
    return float(np.nan_to_num(np.asarray(differences), nan=np.inf).max())


def _no_numbers(answers: pd.DataFrame | None) -> bool:
    """Whether a probability of a label or of a pixel is not a number."""
    if answers is None:
        return False
    masks = answers["mask_difference"].isna().any() if "mask_difference" in answers else False
    return bool(masks or np.isnan(np.stack(answers["p"])).any())


def stored(row: pd.Series, data: Path) -> np.ndarray:
    """float32 [1, N, H, W] in 0-1 of a row of the manifest."""
    return np.load(data / row["path"])[None].astype(np.float32) / 255


def _jsonable(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
