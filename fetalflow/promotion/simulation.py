"""How often the tests of a promotion pass, on synthetic patients whose truth is known.

A sequence is answered correctly when a sum of normal terms is above a threshold: how difficult the patient is for both
models, how difficult the sequence is for both, how well the patient suits this model, and chance. So the sequences of a
patient are alike, the two models err on the same patients, and each model's expected accuracy is known exactly.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

from fetalflow.promotion.comparison import Answers, compare_answers
from fetalflow.settings.params import Promote


@dataclass(frozen=True)
class Hospital:
    """The synthetic test patients and the two models."""

    patients: int = 40
    sequences: int = 10  # of a patient
    classes: int = 7
    sites: int = 3
    accuracy: float = 0.85  # of the champion, expected
    gain: float = 0.0  # the challenger's expected accuracy minus the champion's, in every class and at every site
    first_class: float = 0.0  # further gain in the first class
    first_site: float = 0.0  # further gain at the first site
    # Standard deviations of the terms; that of chance is 1.
    patient_sd: float = 0.7
    sequence_sd: float = 1.0
    model_sd: float = 0.4  # how patients suit one model more than the other


def answers(hospital: Hospital, rng: np.random.Generator) -> Answers:
    """One draw of both models' answers."""
    h, n = hospital, hospital.patients * hospital.sequences
    patient = np.repeat(np.arange(h.patients), h.sequences)
    site = (np.arange(h.patients) % h.sites)[patient]
    truth = rng.integers(h.classes, size=n)
    shared = rng.normal(0, h.patient_sd, h.patients)[patient] + rng.normal(0, h.sequence_sd, n)
    spread = np.sqrt(h.patient_sd**2 + h.sequence_sd**2 + h.model_sd**2 + 1)
    further = h.gain + h.first_class * (truth == 0) + h.first_site * (site == 0)
    predicted = []
    for gain in (np.zeros(n), further):
        ease = stats.norm.ppf(np.clip(h.accuracy + gain, 1e-9, 1 - 1e-9)) * spread
        of_model = rng.normal(0, h.model_sd, h.patients)[patient] + rng.normal(0, 1, n)
        other = (truth + rng.integers(1, h.classes, size=n)) % h.classes
        predicted.append(np.where(ease + shared + of_model > 0, truth, other))
    labels = tuple(f"class {k}" for k in range(h.classes))
    return Answers(labels, patient, np.array([f"site {s}" for s in range(h.sites)])[site], truth, *predicted)


def simulate(hospital: Hospital, rules: Promote, runs: int, seed: int = 0) -> dict[str, Any]:
    """Share of `runs` in which the tests promote, with its exact 95 % binomial interval; JSON-able.

    `metric`, `class` and `site` are the shares of runs in which all rules of this kind pass. Budgets and lineage do not
    depend on chance and are left out.
    """
    passed = {"promoted": 0, "metric": 0, "class": 0, "site": 0}
    for run in range(runs):
        findings = compare_answers(answers(hospital, np.random.default_rng([seed, run])), rules)
        for kind in passed:
            passed[kind] += all(f.outcome != "fail" for f in findings if kind in ("promoted", f.kind))
    low, high = stats.binomtest(passed["promoted"], runs).proportion_ci(0.95)
    shares = {kind: count / runs for kind, count in passed.items()}
    return asdict(hospital) | {"runs": runs} | shares | {"low": float(low), "high": float(high)}
