"""The rules of a promotion beside the tests: budgets, lineage, patients. Most of them need no champion."""

from typing import Any

import numpy as np
import pandas as pd

from fetalflow.evaluation.calibration import bin_sums, expected_calibration_error
from fetalflow.evaluation.intervals import bootstrap, known_or_none, percentile_interval
from fetalflow.evaluation.predictions import Predictions
from fetalflow.models.familiarity import UNLIKE
from fetalflow.promotion.findings import Finding
from fetalflow.registry.candidates import Candidate
from fetalflow.settings.params import Promote

NO_CHAMPION = "There is no champion yet."


def calibration(challenger: Predictions, champion: Predictions | None, rules: Promote, bins: int) -> Finding:
    """The expected calibration error with its bootstrap interval over patients; the estimate must keep the budget."""
    value, low, high = _ece(challenger, rules, bins)
    passed = value <= rules.max_ece
    words = f"On average the probabilities are off by {value:.3f}" + (
        "." if passed else f"; {rules.max_ece:.3g} are allowed."
    )
    before = None if champion is None else _ece(champion, rules, bins)[0]
    return Finding(
        f"Expected calibration error is at most {rules.max_ece:.3g}",
        "budget",
        _outcome(passed),
        words,
        champion=before,
        challenger=value,
        low=low,
        high=high,
        bound=rules.max_ece,
    )


def _ece(predictions: Predictions, rules: Promote, bins: int) -> tuple[float, float | None, float | None]:
    patient, p = predictions.patient_codes, predictions.probabilities
    patients = int(patient.max()) + 1
    sums = bin_sums(p.max(axis=1), predictions.truth == p.argmax(axis=1), patient, patients, bins)
    flat = sums.reshape(patients, -1)

    def resampled(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"ece": expected_calibration_error((weights @ flat).reshape(-1, bins, 3))}

    draws = bootstrap(resampled, patients, rules.bootstrap, rules.seed)["ece"]
    bounds = known_or_none(*percentile_interval(draws, 1 - 2 * rules.alpha, patients), patients)
    return float(resampled(np.ones((1, patients)))["ece"][0]), *bounds


def false_alarms(challenger: Predictions, champion: Predictions | None, rules: Promote) -> Finding:
    """Test sequences that are flagged as unlike the training data although the model is made for their kind."""
    rule = f"At most {rules.max_false_alarms:.3g} of the test sequences are flagged as unlike the training data"
    share, before = _flagged(challenger), None if champion is None else _flagged(champion)
    if share is None:
        words = "The package cannot recognise what is unlike its training data."
        return Finding(rule, "budget", "fail", words, champion=before, bound=rules.max_false_alarms)
    passed = share <= rules.max_false_alarms
    words = f"{share:.1%} are flagged" + ("." if passed else f"; {rules.max_false_alarms:.1%} are allowed.")
    figures = {"champion": before, "challenger": share, "bound": rules.max_false_alarms}
    return Finding(rule, "budget", _outcome(passed), words, **figures)


def _flagged(predictions: Predictions) -> float | None:
    table = predictions.table
    return float((table["unfamiliarity"] > UNLIKE).mean()) if "unfamiliarity" in table else None


def latency(challenger_ms: float, champion_ms: float | None, rules: Promote) -> list[Finding]:
    """The absolute budget, and that relative to the champion, which was timed in the same process."""
    rule = f"One sequence takes at most {rules.max_latency_ms:.4g} ms"
    passed = challenger_ms <= rules.max_latency_ms
    figures = {"champion": champion_ms, "challenger": challenger_ms, "unit": "ms"}
    words = f"{challenger_ms:.1f} ms on this machine."
    absolute = Finding(rule, "budget", _outcome(passed), words, bound=rules.max_latency_ms, **figures)
    rule = f"One sequence takes at most {rules.max_latency_ratio:.3g} times as long as with the champion"
    if champion_ms is None:
        return [absolute, Finding(rule, "budget", "not applicable", NO_CHAMPION)]
    ratio = challenger_ms / champion_ms
    words = f"{ratio:.2f} times as long: {challenger_ms:.1f} ms against {champion_ms:.1f} ms."
    bound = champion_ms * rules.max_latency_ratio
    outcome = _outcome(ratio <= rules.max_latency_ratio)
    return [absolute, Finding(rule, "budget", outcome, words, bound=bound, **figures)]


def size(challenger: Candidate, champion: Candidate | None, rules: Promote) -> Finding:
    value, before = challenger.megabytes, None if champion is None else champion.megabytes
    return Finding(
        f"The model package has at most {rules.max_size_mb:.4g} MB",
        "budget",
        _outcome(value <= rules.max_size_mb),
        f"{value:.1f} MB.",
        champion=before,
        challenger=value,
        bound=rules.max_size_mb,
        unit="MB",
    )


def vocabulary(challenger: Candidate, champion: Candidate) -> Finding:
    """The challenger must know every class of the champion, also one that the test part happens not to contain."""
    known = challenger.config["labels"]
    lost = [label for label in champion.config["labels"] if label not in known]
    words = f"It does not know {', '.join(lost)}." if lost else f"It knows all {len(champion.config['labels'])}."
    new = [label for label in known if label not in champion.config["labels"]]
    words += f" New classes: {', '.join(new)}; the champion cannot be right there." if new else ""
    rule = "It knows every class that the champion knows"
    return Finding(rule, "class", _outcome(not lost), words, facts={"lost": lost, "new": new})


def on_record(model: str, champion: str, wrong: list[str]) -> Finding:
    """wrong: the problems found in the ledger of promotions."""
    rule = f"The ledger is intact and agrees with {model}@{champion}"
    words = " ".join(wrong) or "Every move of the alias is recorded."
    return Finding(rule, "lineage", _outcome(not wrong), words, unit="", facts={"wrong": wrong})


def lineage(challenger: Candidate, rules: Promote) -> list[Finding]:
    """Data, code, DVC lock and quality verdict, by the tags of the challenger's run."""
    tags = challenger.tags

    def recorded(rule: str, tag: str) -> Finding:
        value = tags.get(tag)
        words = f"{value[:12]}" if value else f"Its run has no tag {tag}."
        return Finding(rule, "lineage", _outcome(bool(value)), words, unit="", facts={tag: value})

    dirty = tags.get("git_dirty")
    tree = {"False": "Everything was committed.", "True": "Tracked files had uncommitted changes."}
    quality = tags.get("quality")
    rule = "It was trained from committed code"
    if rules.clean_tree:
        words = tree.get(dirty, "Its run does not record whether the code was committed.")
        clean = Finding(rule, "lineage", _outcome(dirty == "False"), words, unit="", facts={"git_dirty": dirty})
    else:
        words = "params.yaml does not require it (clean_tree: false)."
        clean = Finding(rule, "lineage", "not applicable", words, unit="")
    return [
        recorded("The digest of its data is recorded", "data_digest"),
        recorded("The commit of its code is recorded", "git_commit"),
        clean,
        recorded("The digest of dvc.lock is recorded", "dvc_lock_digest"),
        Finding(
            "Its data passed the quality checks",
            "lineage",
            _outcome(quality == "passed"),
            f"They {quality}." if quality else "Its run has no verdict of the quality checks.",
            unit="",
            facts={"quality": quality},
        ),
    ]


def unseen(named: dict[str, Candidate], rows: pd.DataFrame) -> list[Finding]:
    """No test patient took part in the training of either model. Patients are counted, never named."""
    tested, findings = set(rows["patient"].astype(str)), []
    for name, model in named.items():
        rule = f"No test patient took part in training the {name}"
        if model.seen is None:
            findings.append(Finding(rule, "patients", "fail", "Its run has no split.", unit=""))
            continue
        both = len(tested & model.seen)
        words = f"{both} of {len(tested)} test patients did." if both else f"None of {len(tested)} did."
        facts: dict[str, Any] = {"test_patients": len(tested), "seen": both}
        outcome = _outcome(not both)
        findings.append(Finding(rule, "patients", outcome, words, patients=len(tested), unit="", facts=facts))
    return findings


def _outcome(passed: bool) -> str:
    return "pass" if passed else "fail"
