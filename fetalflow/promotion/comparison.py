"""The tests of a promotion: the metric of params.yaml, every class and every site, with Holm's correction."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from fetalflow.evaluation.holm import holm
from fetalflow.evaluation.intervals import LEAST_PATIENTS, in_words, known_or_none
from fetalflow.evaluation.metrics import confusion_by_patient, summary_metrics
from fetalflow.evaluation.paired import Difference, Statistic, difference
from fetalflow.promotion.findings import Finding
from fetalflow.settings.params import Promote

METRICS = {"mean_class_f1": "mean class F1", "accuracy": "accuracy", "macro_recall": "mean class recall"}
METRICS |= {"measured_well": "share of sequences measured well"}
WRONG = "not measured well"  # the answer to a badly measured sequence, where lengths are compared instead of labels


@dataclass(frozen=True)
class Answers:
    """What both models answered to the same sequences; every array is int or text [sequences].

    truth, champion, challenger: indices into `labels`; site is "" where it is not known. Where lengths are compared,
    the answer is the true label if the sequence was measured well, and else WRONG.
    """

    labels: tuple[str, ...]
    patient: np.ndarray
    site: np.ndarray
    truth: np.ndarray
    champion: np.ndarray
    challenger: np.ndarray

    def counts(self, rows: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Confusion counts int [patients, C, C] of the champion and of the challenger, in `rows` bool [sequences]."""
        rows = np.ones(len(self.truth), dtype=bool) if rows is None else rows
        patient = np.unique(self.patient[rows], return_inverse=True)[1]
        truth, classes = self.truth[rows], len(self.labels)
        both = (confusion_by_patient(truth, a[rows], patient, classes) for a in (self.champion, self.challenger))
        return tuple(both)


def compare_answers(answers: Answers, rules: Promote) -> list[Finding]:
    """The metric's finding, then one per class and one per site."""
    champion, challenger = answers.counts()
    findings = [_of_metric(champion, challenger, rules)]
    lengths = rules.metric == "measured_well"
    of_class, at_site = ("Share measured well of", "Share measured well") if lengths else ("Recall of", "Accuracy")
    for k, label in enumerate(answers.labels):
        if label == WRONG:
            continue
        has = champion[:, k].sum(axis=1) > 0
        rule = f"{of_class} {label} is not worse by more than {rules.class_margin:.3g}"
        compared = (champion[has], challenger[has], recall_of(k))
        findings.append(_guard(rule, "class", compared, rules.class_margin, rules))
    sites = sorted(set(answers.site) - {""})
    for site in sites if len(sites) > 1 else ():
        rule = f"{at_site} at {site} is not worse by more than {rules.site_margin:.3g}"
        compared = (*answers.counts(answers.site == site), metric("accuracy"))
        findings.append(_guard(rule, "site", compared, rules.site_margin, rules))
    if len(sites) < 2:
        words = f"All of them are of one site ({sites[0]})." if sites else "No site is named in the manifest."
        findings.append(Finding("No site is worse than its margin", "site", "not applicable", words))
    return _judged(findings, rules)


def describe_answers(answers: Answers, rules: Promote) -> list[Finding]:
    """What the challenger reaches by itself, where there is no champion: the metric, every class and every site, each
    with its interval. No rule judges them; a person does."""
    lengths = rules.metric == "measured_well"
    of_class, at_site = ("Share measured well of", "Share measured well") if lengths else ("Recall of", "Accuracy")
    counts = answers.counts()[1]
    names = [rules.metric] if rules.metric in ("accuracy", "measured_well") else ["accuracy", rules.metric]
    groups = [("metric", METRICS[name][0].upper() + METRICS[name][1:], counts, metric(name)) for name in names]
    for k, label in enumerate(answers.labels):
        if label != WRONG:
            has = counts[:, k].sum(axis=1) > 0
            groups.append(("class", f"{of_class} {label}", counts[has], recall_of(k)))
    for site in sorted(set(answers.site) - {""}):
        groups.append(("site", f"{at_site} at {site}", answers.counts(answers.site == site)[1], metric("accuracy")))
    return [_of_one(name, kind, of_group, statistic, rules) for kind, name, of_group, statistic in groups]


def _of_one(rule: str, kind: str, counts: np.ndarray, statistic: Statistic, rules: Promote) -> Finding:
    patients = len(counts)
    if not patients:
        return Finding(rule, kind, "not applicable", "No test patient has this class.", patients=0)
    value = float(statistic(counts.sum(axis=0)))
    low, high = interval_of_one(counts, statistic, 1 - 2 * rules.alpha)
    few = f" {patients} patients are too few for a judgement." if patients < rules.min_patients else ""
    words = f"{value:.3f} {in_words(low, high, patients, '.3f')} over {patients} patients: a person must agree.{few}"
    return Finding(rule, kind, "not applicable", words, challenger=value, low=low, high=high, patients=patients)


def interval_of_one(counts: np.ndarray, statistic: Statistic, confidence: float) -> tuple[float | None, float | None]:
    """The interval of a statistic between 0 and 1 of one model, by the jackknife over patients and Student's t; None
    where there is none. The value itself always lies in it, also where the bootstrap is biased, as it is for an ECE.

    counts: counts or sums by patient [patients, *S], as for `difference`.
    """
    patients = len(counts)
    if patients < LEAST_PATIENTS:
        return None, None
    total = counts.sum(axis=0)
    without = statistic(total - counts)
    if np.isnan(without).any():  # a patient is the only one who has something
        return None, None
    error = float(np.sqrt((patients - 1) / patients * ((without - without.mean()) ** 2).sum()))
    away = float(special.stdtrit(patients - 1, (1 + confidence) / 2)) * error
    value = float(statistic(total))
    return known_or_none(max(0.0, value - away), min(1.0, value + away), patients)


def metric(name: str) -> Statistic:
    """A metric of `fetalflow.evaluation.metrics.summary_metrics`, from confusion counts. The share measured well is the
    accuracy of the answers that `Answers` describes for lengths."""
    return lambda counts: summary_metrics(counts)["accuracy" if name == "measured_well" else name]


def recall_of(k: int) -> Statistic:
    """Recall of class k, from confusion counts of patients who have that class."""
    return lambda counts: counts[..., k, k] / counts[..., k, :].sum(axis=-1)


def metric_rule(rules: Promote) -> str:
    """The rule on the metric, in words."""
    name = METRICS[rules.metric]
    name = name[0].upper() + name[1:]
    if rules.aim == "superiority":
        return f"{name} is better than the champion's"
    return f"{name} is not worse than the champion's by more than {rules.margin:.3g}"


def _of_metric(champion: np.ndarray, challenger: np.ndarray, rules: Promote) -> Finding:
    bound = 0.0 if rules.aim == "superiority" else -rules.margin
    if len(champion) < rules.min_patients:
        words = f"{len(champion)} test patients are too few to test; {rules.min_patients} are needed."
        return Finding(metric_rule(rules), "metric", "fail", words, bound=bound, patients=len(champion))
    result = difference(champion, challenger, metric(rules.metric))
    return _finding(metric_rule(rules), "metric", result, bound, result.p_above(bound), rules)


def _guard(rule: str, kind: str, compared: tuple, margin: float, rules: Promote) -> Finding:
    patients = len(compared[0])
    if patients < rules.min_patients:
        words = f"{patients} test patients are too few to test; {rules.min_patients} are needed."
        return Finding(rule, kind, "not applicable", words, bound=-margin, patients=patients)
    result = difference(*compared)
    p = result.p_above(-margin) if rules.guards == "shown" else result.p_below(-margin)
    return _finding(rule, kind, result, -margin, p, rules)


def _finding(rule: str, kind: str, result: Difference, bound: float, p: float, rules: Promote) -> Finding:
    low, high = known_or_none(*result.interval(1 - 2 * rules.alpha), result.patients)
    figures = {"champion": result.first, "challenger": result.second, "difference": result.difference}
    return Finding(
        rule, kind, "not applicable", "", **figures, low=low, high=high, bound=bound, p=p, patients=result.patients
    )


def _judged(findings: list[Finding], rules: Promote) -> list[Finding]:
    """The findings with Holm's p-values, outcomes and words. Holm corrects within two families: rules that must be
    shown to hold, and rules that fail only if they are shown not to hold."""
    tested = [i for i, finding in enumerate(findings) if finding.p is not None]
    shown = [i for i in tested if rules.guards == "shown" or findings[i].kind == "metric"]
    for family in (shown, [i for i in tested if i not in shown]):
        if not family:
            continue
        adjusted = holm([findings[i].p for i in family])
        for i, p_holm in zip(family, adjusted, strict=True):
            small = bool(p_holm <= rules.alpha)
            outcome = "pass" if small == (i in shown) else "fail"
            finding = replace(findings[i], p_holm=float(p_holm), outcome=outcome)
            findings[i] = replace(finding, words=_words(finding, i in shown, rules.alpha))
    return findings


def _words(finding: Finding, must_be_shown: bool, alpha: float) -> str:
    passed, bound, d = finding.outcome == "pass", finding.bound, finding.difference
    over = f"{finding.patients} patients"
    if must_be_shown and bound == 0:
        if passed:
            return f"Better by {d:.3f}, shown over {over}."
        if d <= 0:
            return f"Worse by {-d:.3f} over {over}." if d < 0 else f"No difference over {over}."
        return f"Better by {d:.3f}, which may be chance with {over}."
    if must_be_shown:
        if passed:
            return f"A loss of {-bound:.3g} or more is ruled out over {over}."
        if d <= bound:
            return f"The loss of {-d:.3f} is beyond the margin of {-bound:.3g}."
        return f"A loss of {-bound:.3g} or more is not ruled out: {over} are too few, or differ too much."
    if passed:
        beyond = d < bound
        remark = ", although the estimate is beyond it." if beyond else "."
        return f"No loss beyond {-bound:.3g} is shown over {over}{remark}"
    return f"A loss beyond {-bound:.3g} is shown over {over}: {-d:.3f}."
