"""The rules of a promotion that no champion is needed for: budgets, lineage, patients."""

from typing import Any

import numpy as np
import pandas as pd

from fetalflow.evaluation.calibration import bin_sums, expected_calibration_error
from fetalflow.evaluation.intervals import bootstrap, percentile_interval
from fetalflow.evaluation.predictions import Predictions
from fetalflow.familiarity import UNLIKE
from fetalflow.promotion.candidates import Candidate
from fetalflow.promotion.findings import Finding
from fetalflow.settings import Promote

NO_CHAMPION = "There is no champion yet."


def calibration(challenger: Predictions, champion: Predictions | None, rules: Promote, bins: int) -> Finding:
    """The expected calibration error, with the patients' bootstrap interval; the estimate is what must keep it."""
    value, low, high = _ece(challenger, rules, bins)
    passed = value <= rules.max_ece
    words = f"The stated probabilities are {value:.3f} off on average" + (
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


def _ece(predictions: Predictions, rules: Promote, bins: int) -> tuple[float, float, float]:
    patient, p = predictions.patient_codes, predictions.probabilities
    patients = int(patient.max()) + 1
    sums = bin_sums(p.max(axis=1), predictions.truth == p.argmax(axis=1), patient, patients, bins)
    flat = sums.reshape(patients, -1)

    def resampled(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"ece": expected_calibration_error((weights @ flat).reshape(-1, bins, 3))}

    draws = bootstrap(resampled, patients, rules.bootstrap, rules.seed)["ece"]
    low, high = percentile_interval(draws, 1 - 2 * rules.alpha)
    return float(resampled(np.ones((1, patients)))["ece"][0]), float(low), float(high)


def false_alarms(challenger: Predictions, champion: Predictions | None, rules: Promote) -> Finding:
    """Test sequences that are called unlike anything seen though they are of the kind the model is for."""
    rule = f"At most {rules.max_false_alarms:.3g} of the test sequences are called unlike anything seen"
    share, before = _flagged(challenger), None if champion is None else _flagged(champion)
    if share is None:
        words = "The package does not know what is unlike its training data."
        return Finding(rule, "budget", "fail", words, champion=before, bound=rules.max_false_alarms)
    passed = share <= rules.max_false_alarms
    words = f"{share:.1%} are flagged" + ("." if passed else f"; {rules.max_false_alarms:.1%} are allowed.")
    figures = {"champion": before, "challenger": share, "bound": rules.max_false_alarms}
    return Finding(rule, "budget", _outcome(passed), words, **figures)


def _flagged(predictions: Predictions) -> float | None:
    table = predictions.table
    return float((table["unfamiliarity"] > UNLIKE).mean()) if "unfamiliarity" in table else None


def latency(challenger_ms: float, champion_ms: float | None, rules: Promote) -> list[Finding]:
    """Absolute, and relative to the champion timed in the same process."""
    rule = f"One sequence takes at most {rules.max_latency_ms:.4g} ms"
    passed = challenger_ms <= rules.max_latency_ms
    figures = {"champion": champion_ms, "challenger": challenger_ms, "unit": "ms"}
    words = f"{challenger_ms:.1f} ms on this machine."
    found = [Finding(rule, "budget", _outcome(passed), words, bound=rules.max_latency_ms, **figures)]
    rule = f"One sequence takes at most {rules.max_latency_ratio:.3g} times as long as with the champion"
    if champion_ms is None:
        return [*found, Finding(rule, "budget", "not applicable", NO_CHAMPION)]
    ratio = challenger_ms / champion_ms
    words = f"{ratio:.2f} times as long: {challenger_ms:.1f} ms against {champion_ms:.1f} ms."
    bound = champion_ms * rules.max_latency_ratio
    return [*found, Finding(rule, "budget", _outcome(ratio <= rules.max_latency_ratio), words, bound=bound, **figures)]


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
    """A class that the test part happens not to have is no class to forget."""
    known = challenger.config["labels"]
    lost = [label for label in champion.config["labels"] if label not in known]
    words = f"It does not know {', '.join(lost)}." if lost else f"It knows all {len(champion.config['labels'])}."
    new = [label for label in known if label not in champion.config["labels"]]
    words += f" New with it: {', '.join(new)}; the champion is wrong there by necessity." if new else ""
    rule = "It knows every class that the champion knows"
    return Finding(rule, "class", _outcome(not lost), words, facts={"lost": lost, "new": new})


def on_record(model: str, champion: str, wrong: list[str]) -> Finding:
    """`wrong`: what the ledger's reader found."""
    rule = f"The ledger is whole, and {model}@{champion} is where it says"
    words = " ".join(wrong) or "Every move of it is on record."
    return Finding(rule, "lineage", _outcome(not wrong), words, unit="", facts={"wrong": wrong})


def lineage(challenger: Candidate, rules: Promote) -> list[Finding]:
    """What the challenger's run says of data, code, lock and quality."""
    tags = challenger.tags

    def recorded(rule: str, tag: str) -> Finding:
        value = tags.get(tag)
        words = f"{value[:12]}" if value else f"Its run has no tag {tag}."
        return Finding(rule, "lineage", _outcome(bool(value)), words, unit="", facts={tag: value})

    dirty = tags.get("git_dirty")
    tree = {"False": "Everything was committed.", "True": "Tracked files had changes that no commit holds."}
    quality = tags.get("quality")
    rule = "It was trained from committed code"
    if rules.clean_tree:
        words = tree.get(dirty, "Its run does not say whether the code was committed.")
        clean = Finding(rule, "lineage", _outcome(dirty == "False"), words, unit="", facts={"git_dirty": dirty})
    else:
        clean = Finding(rule, "lineage", "not applicable", "params.yaml does not ask (clean_tree: false).", unit="")
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
    """Nobody who is tested took part in the training of either model. Patients are counted, never named."""
    tested, found = set(rows["patient"].astype(str)), []
    for name, model in named.items():
        rule = f"No test patient took part in training the {name}"
        if model.seen is None:
            found.append(Finding(rule, "patients", "fail", "Its run holds no split.", unit=""))
            continue
        both = len(tested & model.seen)
        words = f"{both} of {len(tested)} test patients did." if both else f"None of {len(tested)} did."
        facts: dict[str, Any] = {"test_patients": len(tested), "seen": both}
        found.append(Finding(rule, "patients", _outcome(not both), words, patients=len(tested), unit="", facts=facts))
    return found


def _outcome(passed: bool) -> str:
    return "pass" if passed else "fail"
