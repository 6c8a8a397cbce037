"""The parity gate: compares every engine with torch on sequences of test patients, before anybody may use it.

An engine is refused when it loses more than LOSS points (percentage points) of macro F1 against torch or, where the
network segments, of Dice; when the mean error of its lengths is more than LOSS % of the length larger; when it flags
more than MORE points more sequences as unlike the training data, or leaves as many more without a length; or when an
answer is not a number. The fastest engine that passed is the default.
"""

import os
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit, softmax

from fetalflow.errors import InputError
from fetalflow.evaluation.equal_labels import labels_equally_likely
from fetalflow.evaluation.measurement_columns import error_percent
from fetalflow.evaluation.measurement_rows import known_mask, measurement_row
from fetalflow.evaluation.metrics import confusion_by_patient, summary_metrics
from fetalflow.inference.engines.engine import Engine
from fetalflow.inference.engines.timing import LIMIT_S, in_turns
from fetalflow.inference.latency import p95
from fetalflow.models.familiarity import UNLIKE, Familiarity
from fetalflow.models.network_answer import NetworkAnswer
from fetalflow.settings.params import Evaluate, Export

REFERENCE = "torch"
LOSS = 0.5  # points
MORE = 5.0  # points of all sequences that may be flagged or left without a length in addition


class Judged(NamedTuple):
    """A figure whose loss is judged. points: factor from the figure to points; better: 1 where larger is better, else
    -1."""

    words: str
    points: float
    better: int
    allowed: float  # points that may be lost


JUDGED = {
    "macro_f1": Judged("macro F1", 100, 1, LOSS),
    "dice": Judged("Dice", 100, 1, LOSS),
    "length_error_percent": Judged("error of the lengths", 1, -1, LOSS),
    "unfamiliar": Judged("sequences unlike the training data", 100, -1, MORE),
    "unmeasured": Judged("sequences without a length", 100, -1, MORE),
}
FIGURES = ("p_difference", "mask_difference", "same_label", *JUDGED)


def judge(
    config: Mapping[str, Any],
    engines: Mapping[str, Engine],
    rows: pd.DataFrame,
    data: Path,
    settings: Evaluate | Export,
    familiarity: Familiarity | None = None,
    times: Mapping[str, list[float]] | None = None,
) -> list[dict[str, Any]]:
    """Figures of each engine, in their order; JSON-able, None for what does not apply.

    config: of the package. engines: by name, torch among them. rows: of the manifest, sequences of test patients in the
    task's folder `data`; one at a time is in memory. familiarity: of the package. times: ms of the timed answers by
    engine, from `timing.in_turns`; None: they are timed here.

    Keys of a row: engine, passed, reasons (of a refusal), default; sequences; p_difference, mask_difference (largest
    difference of a probability from that of torch); same_label (share of the sequences); macro_f1, dice (0-1),
    length_error_percent (of the true length, over the lengths that torch measured too), unfamiliar, unmeasured (shares
    of the sequences that are flagged as unlike the training data, and that have no length in mm), and each of these
    five with _loss (points lost against torch); ms, ms_p95 (of one sequence, the engines in turns); threads; load of
    the machine; bytes.

    Raises InputError when torch is not among the engines, or there is no row.
    """
    if REFERENCE not in engines or rows.empty:
        raise InputError(f"parity needs {REFERENCE} and a test sequence; found {list(engines)} and {len(rows)}.")
    labels = list(config["labels"])
    answers = _answers(engines, rows, data, labels)
    if times is None:
        times = in_turns(engines, stored(rows.iloc[0], data), settings.latency_repeats, LIMIT_S)
    judged = []
    for name, engine in engines.items():
        facts = _figures(answers[name], answers[REFERENCE], rows, labels, familiarity)
        there = _figures(answers[REFERENCE], answers[name], rows, labels, familiarity)
        facts |= {f"{key}_loss": each.better * each.points * (there[key] - facts[key]) for key, each in JUDGED.items()}
        reasons = _reasons(facts) if name != REFERENCE else []
        judged.append(
            {"engine": name, "passed": not reasons, "reasons": reasons, "default": False, "sequences": len(rows)}
            | {key: _jsonable(value) for key, value in facts.items()}
            | {"ms": statistics.median(times[name]), "ms_p95": p95(times[name])}
            | {"threads": engine.threads, "load": round(os.getloadavg()[0], 1), "bytes": engine.size}
        )
    min((row for row in judged if row["passed"]), key=lambda row: row["ms"])["default"] = True
    return judged


def _answers(
    engines: Mapping[str, Engine], rows: pd.DataFrame, data: Path, labels: list[str]
) -> dict[str, pd.DataFrame]:
    """The answers of every engine to every sequence, in the order of `rows`."""
    kept: dict[str, list[dict[str, Any]]] = {name: [] for name in engines}
    for _, row in rows.iterrows():
        batch = stored(row, data)
        answers = {name: engine.answer(batch) for name, engine in engines.items()}
        reference = answers[REFERENCE]
        mask = None if reference.mask is None else known_mask(data, row)
        for name, answer in answers.items():
            kept[name].append(_kept(answer, reference, mask, row, labels))
    return {name: pd.DataFrame(each) for name, each in kept.items()}


def _kept(
    answer: NetworkAnswer, reference: NetworkAnswer, mask: np.ndarray | None, row: pd.Series, labels: list[str]
) -> dict[str, Any]:
    """The facts that are kept of the answer to one sequence: measures of its mask, but not the mask."""
    p = softmax(answer.logits[0].astype(np.float64))
    facts: dict[str, Any] = {"p": p, "features": None if answer.features is None else answer.features[0]}
    if answer.mask is None:
        return facts
    drawn = expit(answer.mask[0])
    facts["mask_difference"] = float(np.abs(drawn - expit(reference.mask[0])).max())
    structure = None if labels_equally_likely(p) else labels[int(p.argmax())]
    return facts | measurement_row(np.nan_to_num(drawn), mask, row, structure)


def _figures(
    answers: pd.DataFrame, other: pd.DataFrame, rows: pd.DataFrame, labels: list[str], familiarity: Familiarity | None
) -> dict[str, float]:
    """FIGURES of one engine compared with another; NaN for what does not apply."""
    p, other_p = np.stack(answers["p"]), np.stack(other["p"])
    facts = dict.fromkeys(FIGURES, np.nan)
    facts["p_difference"] = _widest(np.abs(p - other_p))
    facts["same_label"] = (p.argmax(1) == other_p.argmax(1)).mean()
    facts["macro_f1"] = _macro_f1(p, rows, labels)
    if "mask_difference" in answers:
        facts["mask_difference"] = _widest(answers["mask_difference"])
        facts["dice"] = answers["dice"].mean()
        facts["length_error_percent"] = _length_error(answers, other)
        facts["unmeasured"] = answers.filter(regex="^found_").isna().all(axis=1).mean()
    if familiarity is not None:
        facts["unfamiliar"] = (familiarity.score(np.stack(answers["features"])) > UNLIKE).mean()
    return facts


def _macro_f1(p: np.ndarray, rows: pd.DataFrame, labels: list[str]) -> float:
    """NaN where the answers [n, C] do not distinguish labels."""
    if len(labels) < 2 or labels_equally_likely(p):
        return np.nan
    truth = pd.Index(labels).get_indexer(rows["label"])
    counts = confusion_by_patient(truth, p.argmax(1), np.zeros(len(rows), dtype=int), len(labels))
    return float(summary_metrics(counts.sum(axis=0))["mean_class_f1"])


def _length_error(answers: pd.DataFrame, other: pd.DataFrame) -> float:
    """Mean absolute error in % of the true lengths, over those that both engines measured; NaN where there is none."""
    columns = [name for name in answers if name.startswith("found_")]
    both = answers.assign(**{name: answers[name].where(other[name].notna()) for name in columns})
    return float(error_percent(both).mean())


def _widest(differences: np.ndarray | pd.Series) -> float:
    """The maximum; infinite where a value is NaN, which a maximum may ignore."""
    return float(np.nan_to_num(np.asarray(differences), nan=np.inf).max())


def _reasons(facts: Mapping[str, float]) -> list[str]:
    """The reasons with their figures why an engine is refused."""
    reasons = []
    if np.isinf(facts["p_difference"]) or np.isinf(facts["mask_difference"]):
        reasons.append("some of its answers are not numbers")
    for name, judged in JUDGED.items():
        loss, here = facts[f"{name}_loss"], judged.points * facts[name]
        if loss > judged.allowed:
            there = here + judged.better * loss
            reasons.append(
                f"{judged.words} {here:.2f} %, with torch {there:.2f} %: {loss:.2f} points lost, "
                f"{judged.allowed:g} are allowed"
            )
    return reasons


def stored(row: pd.Series, data: Path) -> np.ndarray:
    """float32 [1, N, H, W] in 0-1 of a row of the manifest."""
    return np.load(data / row["path"])[None].astype(np.float32) / 255


def _jsonable(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
