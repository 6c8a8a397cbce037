"""The rules of a promotion beside the tests: budgets, lineage, patients. Most of them need no champion."""

from typing import Any

import numpy as np
import pandas as pd

from fetalflow.evaluation.calibration import bin_sums, ece_if_calibrated, expected_calibration_error
from fetalflow.evaluation.predictions import Predictions
from fetalflow.models.familiarity import UNLIKE
from fetalflow.promotion.comparison import interval_of_one
from fetalflow.promotion.findings import Finding
from fetalflow.promotion.speed import CHALLENGER, CHAMPION, REFERENCE, REFERENCE_MS, Speed
from fetalflow.registry.candidates import Candidate
from fetalflow.registry.usable import withdrawn_among
from fetalflow.settings.params import Promote


def calibration(challenger: Predictions, champion: Predictions | None, rules: Promote, bins: int) -> Finding:
    """The expected calibration error with its interval over patients; the estimate must keep the budget. The words say
    what chance alone gives a perfectly calibrated model, because an ECE is never 0 on few patients."""
    patient, confidence, right = _confidence(challenger)
    sums = bin_sums(confidence, right, patient, int(patient.max()) + 1, bins)
    value = float(expected_calibration_error(sums.sum(axis=0)))
    low, high = interval_of_one(sums, expected_calibration_error, 1 - 2 * rules.alpha)
    chance = ece_if_calibrated(confidence, right, patient, bins, rules.bootstrap, rules.seed, 1 - rules.alpha)
    passed, before = value <= rules.max_ece, None
    if champion is not None:
        one, confidence, right = _confidence(champion)
        before = float(expected_calibration_error(bin_sums(confidence, right, 0 * one, 1, bins)[0]))
    words = f"On average the probabilities are off by {value:.3f}" + (
        "." if passed else f"; {rules.max_ece:.3g} are allowed."
    )
    return Finding(
        f"Expected calibration error is at most {rules.max_ece:.3g}",
        "budget",
        _outcome(passed),
        f"{words} Chance alone gives a perfectly calibrated model up to {chance:.3f} here.",
        champion=before,
        challenger=value,
        low=low,
        high=high,
        bound=rules.max_ece,
    )


def _confidence(predictions: Predictions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Patient int, top probability float and whether it is right, bool, each [rows]."""
    p = predictions.probabilities
    return predictions.patient_codes, p.max(axis=1), predictions.truth == p.argmax(axis=1)


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


def latency(speed: Speed, rules: Promote) -> list[Finding]:
    """The ratio to the champion decides; without a champion, that to the reference network. The time in ms is a warning
    at most: it also depends on what else the machine does."""
    ms, champion_ms, here = speed.ms(CHALLENGER), speed.ms(CHAMPION), _load_in_words(speed.machine["load"])
    slow = ms > rules.max_latency_ms
    absolute = Finding(
        f"One sequence takes at most {rules.max_latency_ms:.4g} ms",
        "budget",
        "warning" if slow else "pass",
        f"{ms:.1f} ms on this machine, {here}." + (" This does not decide: the next rule does." if slow else ""),
        **{"champion": champion_ms, "challenger": ms, "bound": rules.max_latency_ms, "unit": "ms"},
    )
    other, words, most = CHAMPION, "the champion", rules.max_latency_ratio
    if champion_ms is None:
        other, words, most = REFERENCE, "the reference network", rules.max_latency_ms / REFERENCE_MS
    ratio, of_other = speed.ratio(other), speed.ms(other)
    relative = Finding(
        f"One sequence takes at most {most:.3g} times as long as with {words}",
        "budget",
        _outcome(ratio <= most),
        f"{ratio:.2f} times as long, in turns: {ms:.1f} ms, {words} {of_other:.1f} ms, {here}.",
        **{"champion": champion_ms, "challenger": ms, "bound": of_other * most, "unit": "ms"},
        facts={"ratio": ratio, "reference_ms": speed.ms(REFERENCE)},
    )
    return [absolute, relative]


def _load_in_words(load: list[float | None]) -> str:
    known = [f"{each:.1f}" for each in load if each is not None]
    return f"load {' to '.join(known)}" if known else "load not known"


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


def registered_files(named: dict[str, Candidate]) -> list[Finding]:
    """The files of both models are those that were registered: nobody swapped or changed them in the store."""
    findings = []
    for name, model in named.items():
        wrong = model.problems
        words = f"They are not: {'; '.join(wrong)}." if wrong else "Every file has its recorded digest."
        rule = f"The files of the {name} are those that were registered"
        findings.append(Finding(rule, "lineage", _outcome(not wrong), words, unit="", facts={"wrong": wrong}))
    return findings


def withdrawn(named: dict[str, Candidate], gone: pd.DataFrame) -> list[Finding]:
    """No patient who was withdrawn took part in the training of the challenger. A champion that was trained on one
    should be replaced, so that is only a warning. gone: as `fetalflow.registry.usable.withdrawn_here` gives it."""
    findings = []
    for name, model in named.items():
        rule, bad = (
            f"No withdrawn patient took part in training the {name}",
            "fail" if name == CHALLENGER else "warning",
        )
        if gone.empty:
            findings.append(Finding(rule, "lineage", "pass", "Nobody was withdrawn.", unit=""))
            continue
        if model.seen is None:
            words = "Its run does not record whom it was trained on, and patients were withdrawn."
            findings.append(Finding(rule, "lineage", bad, words, unit=""))
            continue
        count = withdrawn_among(model.people, gone)
        words = f"{count} withdrawn patients did. Train a new model." if count else "None of those withdrawn did."
        findings.append(Finding(rule, "lineage", bad if count else "pass", words, unit="", facts={"withdrawn": count}))
    return findings


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
