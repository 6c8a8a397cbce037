"""The verdict on the page of its version in MLflow, where an ML lead reads it."""

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fetalflow.errors import TrackingFailed
from fetalflow.promotion.approval import SHOWN
from fetalflow.promotion.page import figure, signed
from fetalflow.registry.candidates import keep_evidence
from fetalflow.registry.ledger.files import evidence_folder
from fetalflow.registry.tracking import registry
from fetalflow.registry.version_page import APPROVE, EVIDENCE, VERDICT, WHY, show

LAST = ("pass", "not applicable")  # outcomes that come after all others: the description may be cut at its end
WAITS = "Waits for a person."
SHOWN_UNITS = ("ms", "MB")  # the others are shares

log = logging.getLogger(__name__)


def publish(verdict: Mapping[str, Any], folder: Path, state: str, words: str) -> None:
    """Put the verdict, its page and the predictions in `folder` on the page of the judged version.

    state: one word for the tag: champion, waits or refused. words: what was done. An evidence that is kept there
    already stays as it is, because the ledger may have its digests. If MLflow fails here, that is a warning.
    """
    judged, digest = verdict["challenger"], verdict["evidence_digest"]
    tags = {VERDICT: state, EVIDENCE: digest[:SHOWN], WHY: "; ".join(verdict["failed"])}
    try:
        with registry() as store:
            kept = store.client.list_artifacts(judged["run_id"], evidence_folder(digest))
        if not kept:
            keep_evidence(judged["run_id"], folder, digest)
        with registry() as store:
            experiment = store.client.get_run(judged["run_id"]).info.experiment_id
            run = f"#/experiments/{experiment}/runs/{judged['run_id']}/artifacts/{evidence_folder(digest)}/verdict.html"
            show(store, verdict["model"], judged["version"], as_markdown(verdict, state, words, run), tags)
    except TrackingFailed as error:
        log.warning("the verdict is not on the page of version %s in MLflow: %s", judged["version"], error)


def publish_words(model: str, version: str, state: str, words: str) -> None:
    """The same where there is no verdict: why a version was not judged."""
    with registry() as store:
        show(store, model, version, words, {VERDICT: state, WHY: words})


def as_markdown(verdict: Mapping[str, Any], state: str, words: str, page: str) -> str:
    """The verdict as text with one table: the rules that failed, then those with a figure. The others, such as that a
    digest is recorded, are only counted. page: address of the whole page."""
    digest, champion = verdict["evidence_digest"][:SHOWN], verdict["champion"]
    against = f"against version {champion['version']}" if champion else "as the first champion"
    has_row = [rule["outcome"] not in LAST or _has_figure(rule) for rule in verdict["rules"]]
    rules = [rule for rule, shown in zip(verdict["rules"], has_row, strict=True) if shown]
    others = Counter(rule["outcome"] for rule, shown in zip(verdict["rules"], has_row, strict=True) if not shown)
    lines = [
        f"**{words}** {verdict['words']}",
        "",
        f"Judged {verdict['made'][:16].replace('T', ' ')} UTC {against}, {verdict['test']['sequences']} sequences of "
        f"{verdict['test']['patients']} patients. Evidence `{digest}`. [The whole page]({page})",
        "",
    ]
    if state == "waits":
        lines += [f"Read the page. If you agree, set the tag `{APPROVE}` of this version to `{digest}`.", ""]
    if others:
        counted = ", ".join(f"{count} {outcome}" for outcome, count in sorted(others.items()))
        lines += [f"Rules without a figure, which are on the whole page alone: {counted}.", ""]
    lines += ["| rule | outcome | champion | this version | difference |", "|---|---|---|---|---|"]
    rules = sorted(rules, key=lambda rule: rule["outcome"] in LAST)
    return "\n".join(lines + [_row(rule, champion is None) for rule in rules])


def _has_figure(rule: Mapping[str, Any]) -> bool:
    return any(rule[name] is not None for name in ("champion", "challenger", "difference"))


def _row(rule: Mapping[str, Any], is_first: bool) -> str:
    unit = rule["unit"]
    values = [figure(rule["champion"], unit), figure(rule["challenger"], unit), signed(rule["difference"], unit)]
    values = [f"{value} {unit}" if value and unit in SHOWN_UNITS else value for value in values]
    name = rule["rule"].replace("|", "/").replace("\n", " ")
    outcome = "for a person" if is_first and rule["outcome"] == "not applicable" else rule["outcome"]
    return f"| {name} | {outcome} | {' | '.join(values)} |"
