"""Does another engine say what torch says? Judged on sequences of test patients, before anybody may use it.

A format is refused when it loses more than LOSS points (hundredths) of macro F1 against torch or, where the network
segments, of Dice; when its lengths are off by LOSS % of the length more; when it calls MORE points more of the
sequences unlike anything seen, or measures fewer of them by as much; or when an answer is not a number. The fastest
that passed is the default.
"""

import os
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit, softmax

from fetalflow.biometry.compared import compare, known_mask
from fetalflow.errors import InputError
from fetalflow.evaluation.latency import p95
from fetalflow.evaluation.measurement_columns import error_percent
from fetalflow.evaluation.metrics import confusion_by_patient, summary_metrics
from fetalflow.export.engine import Answered, Engine
from fetalflow.export.timing import in_turns
from fetalflow.familiarity import UNLIKE, Familiarity
from fetalflow.naming import names_nothing
from fetalflow.settings import Evaluate, Export

REFERENCE = "torch"
LOSS = 0.5  # points
MORE = 5.0  # points: of the sequences, those that may be flagged or left unmeasured besides
LIMIT_S = 30.0  # of timed calls, all engines together


class Judged(NamedTuple):
    """A figure of which a loss is judged: one of it is `points` points; more of it is better (1) or worse (-1)."""

    words: str
    points: float
    better: int
    allowed: float  # points that may be lost


JUDGED = {
    "macro_f1": Judged("macro F1", 100, 1, LOSS),
    "dice": Judged("Dice", 100, 1, LOSS),
    "length_error_percent": Judged("error of the lengths", 1, -1, LOSS),
    "unfamiliar": Judged("sequences unlike anything seen", 100, -1, MORE),
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
    timed: Mapping[str, Engine] | None = None,
) -> list[dict[str, Any]]:
    """Figures of each engine, in their order; JSON-able, None for what does not apply.

    config: of the package. engines: by name, torch among them. rows: of the manifest, sequences of test patients in the
    task's folder `data`; one at a time is in memory. familiarity: what the package remembers. timed: what is timed by
    the names of `engines`, where it is not these.

    engine, passed, reasons (of a refusal), default; sequences; p_difference, mask_difference: the largest difference of
    a probability from torch's; same_label: share of the sequences; macro_f1, dice (0-1), length_error_percent (of the
    true length, over the lengths that torch found as well), unfamiliar, unmeasured (shares of the sequences that are
    called unlike anything seen, and that got no length in mm), and each of these five with _loss: points lost against
    torch; ms, ms_p95: of one sequence, every engine in turns; threads; load of the machine; bytes.

    Raises InputError when torch is not among the engines, or there is no row.
    """
    if REFERENCE not in engines or rows.empty:
        raise InputError(f"parity needs {REFERENCE} and a test sequence; found {list(engines)} and {len(rows)}.")
    labels = list(config["labels"])
    told = _asked(engines, rows, data, labels)
    times = in_turns(timed or engines, _stored(rows.iloc[0], data), settings.latency_repeats, LIMIT_S)
    found = []
    for name, engine in engines.items():
        facts = _figures(told[name], told[REFERENCE], rows, labels, familiarity)
        there = _figures(told[REFERENCE], told[name], rows, labels, familiarity)
        facts |= {f"{key}_loss": each.better * each.points * (there[key] - facts[key]) for key, each in JUDGED.items()}
        reasons = _reasons(facts) if name != REFERENCE else []
        found.append(
            {"engine": name, "passed": not reasons, "reasons": reasons, "default": False, "sequences": len(rows)}
            | {key: _jsonable(value) for key, value in facts.items()}
            | {"ms": statistics.median(times[name]), "ms_p95": p95(times[name])}
            | {"threads": engine.threads, "load": round(os.getloadavg()[0], 1), "bytes": engine.size}
        )
    min((row for row in found if row["passed"]), key=lambda row: row["ms"])["default"] = True
    return found


def _asked(engines: Mapping[str, Engine], rows: pd.DataFrame, data: Path, labels: list[str]) -> dict[str, pd.DataFrame]:
    """What every engine says of every sequence, in the order of `rows`."""
    told: dict[str, list[dict[str, Any]]] = {name: [] for name in engines}
    for _, row in rows.iterrows():
        batch = _stored(row, data)
        answered = {name: engine.answer(batch) for name, engine in engines.items()}
        reference = answered[REFERENCE]
        mask = None if reference.mask is None else known_mask(data, row)
        for name, own in answered.items():
            told[name].append(_told(own, reference, mask, row, labels))
    return {name: pd.DataFrame(each) for name, each in told.items()}


def _told(
    own: Answered, reference: Answered, mask: np.ndarray | None, row: pd.Series, labels: list[str]
) -> dict[str, Any]:
    """What is kept of one sequence's answer; no mask is."""
    p = softmax(own.logits[0].astype(np.float64))
    told: dict[str, Any] = {"p": p, "features": None if own.features is None else own.features[0]}
    if own.mask is None:
        return told
    drawn = expit(own.mask[0])
    told["mask_difference"] = float(np.abs(drawn - expit(reference.mask[0])).max())
    named = None if names_nothing(p) else labels[int(p.argmax())]
    return told | compare(np.nan_to_num(drawn), mask, row, named)


def _figures(
    own: pd.DataFrame, other: pd.DataFrame, rows: pd.DataFrame, labels: list[str], familiarity: Familiarity | None
) -> dict[str, float]:
    """FIGURES of one engine, seen beside another; NaN for what does not apply."""
    p, other_p = np.stack(own["p"]), np.stack(other["p"])
    facts = dict.fromkeys(FIGURES, np.nan)
    facts["p_difference"] = _widest(np.abs(p - other_p))
    facts["same_label"] = (p.argmax(1) == other_p.argmax(1)).mean()
    facts["macro_f1"] = _macro_f1(p, rows, labels)
    if "mask_difference" in own:
        facts["mask_difference"] = _widest(own["mask_difference"])
        facts["dice"] = own["dice"].mean()
        facts["length_error_percent"] = _length_error(own, other)
        facts["unmeasured"] = own.filter(regex="^found_").isna().all(axis=1).mean()
    if familiarity is not None:
        facts["unfamiliar"] = (familiarity.score(np.stack(own["features"])) > UNLIKE).mean()
    return facts


def _macro_f1(p: np.ndarray, rows: pd.DataFrame, labels: list[str]) -> float:
    """NaN where the answers [n, C] tell no labels apart."""
    if len(labels) < 2 or names_nothing(p):
        return np.nan
    truth = pd.Index(labels).get_indexer(rows["label"])
    counts = confusion_by_patient(truth, p.argmax(1), np.zeros(len(rows), dtype=int), len(labels))
    return float(summary_metrics(counts.sum(axis=0))["mean_class_f1"])


def _length_error(own: pd.DataFrame, other: pd.DataFrame) -> float:
    """In % of the true lengths, over those that both found; NaN where there is none."""
    found = [name for name in own if name.startswith("found_")]
    return float(error_percent(own.assign(**{name: own[name].where(other[name].notna()) for name in found})).mean())


def _widest(differences: np.ndarray | pd.Series) -> float:
    """Infinite where one is no number, which a maximum may pass over."""
    return float(np.nan_to_num(np.asarray(differences), nan=np.inf).max())


def _reasons(facts: Mapping[str, float]) -> list[str]:
    """Sentences, with the figures, for which a format is refused."""
    said = []
    if np.isinf(facts["p_difference"]) or np.isinf(facts["mask_difference"]):
        said.append("some of its answers are not numbers")
    for name, judged in JUDGED.items():
        loss, here = facts[f"{name}_loss"], judged.points * facts[name]
        if loss > judged.allowed:
            there = here + judged.better * loss
            said.append(
                f"{judged.words} {here:.2f} %, with torch {there:.2f} %: {loss:.2f} points lost, "
                f"{judged.allowed:g} are allowed"
            )
    return said


def _stored(row: pd.Series, data: Path) -> np.ndarray:
    """float32 [1, N, H, W] in 0-1 of a row of the manifest."""
    return np.load(data / row["path"])[None].astype(np.float32) / 255


def _jsonable(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
