"""How well the answers of an engine agree with those of torch to the same sequences, and which disagreement is allowed.

An engine is judged on validation patients, so that the test patients stay free for what is reported. The answers are
paired: of each sequence it counts whether they are the same, not whether they are right. Each figure has two limits:
what is seen may be at most `seen`, and what is possible by chance, its upper limit at 95 %, at most `possible`. So an
engine of which too little is known is refused. An engine whose answers are those of torch up to rounding needs no limit
for chance: more sequences would not show anything else.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from fetalflow.evaluation.equal_labels import labels_equally_likely
from fetalflow.evaluation.paired import difference, mean, sums

ROUNDING = 1e-3  # largest difference of a probability, of a label or of a pixel, that counts as rounding
LEVEL = 0.90  # of the two-sided interval whose upper end is the limit at 95 %


class Allowed(NamedTuple):
    """One figure in words, the most of it that may be seen, and the most that may be possible by chance. share: whether
    it is a share of the sequences; else it is a mean over them."""

    words: str
    seen: float
    possible: float
    share: bool = False

    def form(self, value: float) -> str:
        return f"{value:.1%}" if self.share else f"{value:.3f}"


AGREEMENT = {
    "label_changed": Allowed("another label than with torch", 0.05, 0.10, True),
    "alarm_changed": Allowed("another verdict on whether a sequence is unlike the training data", 0.05, 0.10, True),
    "measured_changed": Allowed("a length where torch gives none, or none where torch gives one", 0.05, 0.10, True),
    "distance": Allowed("distance between the probabilities (half the sum of differences)", 0.02, 0.04),
    "mask_changed": Allowed("1 - Dice between the masks", 0.02, 0.04),
    "length_changed": Allowed("difference of a length in % of that by torch", 0.5, 1.0),
}


def agreement(answers: pd.DataFrame, reference: pd.DataFrame, patients: pd.Series) -> dict[str, Any]:
    """The figures of AGREEMENT of one engine, JSON-able; None for what does not apply.

    answers, reference: of the engine and of torch to the same sequences, from `parity.answers_of`. patients: of these
    sequences. Keys: sequences, patients, rounding (whether all answers are those of torch up to ROUNDING), and by
    figure [seen, possible].
    """
    by_sequence = _differences(answers, reference)
    codes = np.unique(patients.to_numpy(dtype=str), return_inverse=True)[1]
    found: dict[str, Any] = {
        name: _limits(by_sequence[name], codes, allowed.share) for name, allowed in AGREEMENT.items()
    }
    pixels = answers["mask_difference"].max() if "mask_difference" in answers else 0.0
    labels = np.abs(np.stack(answers["p"]) - np.stack(reference["p"])).max()
    rounding = bool(max(labels, pixels) <= ROUNDING)
    return {"sequences": len(answers), "patients": int(codes.max()) + 1, "rounding": rounding} | found


def disagreements(found: Mapping[str, Any]) -> list[str]:
    """Why the engine with these figures from `agreement` is refused; empty where it agrees with torch."""
    reasons = []
    for name, allowed in AGREEMENT.items():
        if found[name] is None:
            continue
        seen, possible = found[name]
        if seen > allowed.seen or (possible > allowed.possible and not found["rounding"]):
            seen, possible, *limits = map(allowed.form, (seen, possible, allowed.seen, allowed.possible))
            reasons.append(
                f"{allowed.words}: {seen} over {found['sequences']} validation sequences of {found['patients']} "
                f"patients, and within chance up to {possible}; {' and '.join(limits)} are allowed"
            )
    return reasons


def _differences(answers: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """By sequence: the figures of AGREEMENT; NaN where one does not apply."""
    p, other = np.stack(answers["p"]), np.stack(reference["p"])
    found = pd.DataFrame(np.nan, index=answers.index, columns=list(AGREEMENT), dtype=float)
    found["distance"] = np.abs(p - other).sum(axis=1) / 2
    if p.shape[1] > 1 and not labels_equally_likely(other):
        found["label_changed"] = p.argmax(axis=1) != other.argmax(axis=1)
    if "unlike" in answers:
        found["alarm_changed"] = answers["unlike"] != reference["unlike"]
    if "mask_apart" in answers:
        found["mask_changed"] = answers["mask_apart"]
        here, there = (each.filter(regex="^found_").astype(float) for each in (answers, reference))
        found["measured_changed"] = (here.isna() != there.isna()).any(axis=1)
        found["length_changed"] = (100 * (here - there).abs() / there).max(axis=1)
    return found.astype(float)


def _limits(values: pd.Series, codes: np.ndarray, share: bool) -> list[float] | None:
    """[seen, possible] of one figure. Rounding changes single labels, wherever a sequence lies near a boundary, so that
    the limit of a share is the exact one over sequences (Clopper and Pearson); that of a mean is over patients."""
    known = values.notna().to_numpy()
    if not known.any():
        return None
    number, patient = values.to_numpy()[known], np.unique(codes[known], return_inverse=True)[1]
    if share:
        upper = stats.binomtest(int(number.sum()), len(number)).proportion_ci(LEVEL).high
        return [float(number.mean()), float(upper)]
    if patient.max() < 1:
        patient = np.arange(len(number))
    totals = sums(number, patient)
    if len(totals) < 2:
        return [float(number.mean()), float("inf")]
    nothing = totals * [0, 1]
    return [float(number.mean()), float(difference(nothing, totals, mean).interval(LEVEL)[1])]
