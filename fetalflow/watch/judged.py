"""One day of answers, compared with the training and with the days before it, by site."""

import json
from collections.abc import Collection, Mapping
from datetime import date, timedelta
from typing import Any

import numpy as np
import pandas as pd

from fetalflow.evaluation.intervals import bootstrap, known_or_none, percentile_interval
from fetalflow.quality.drift import EVERY_SITE
from fetalflow.settings.watch import Watch
from fetalflow.watch.comparing import FIGURES, SHARES, compare
from fetalflow.watch.estimated import Held, estimate
from fetalflow.watch.reference import Reference
from fetalflow.watch.row import CHAMPION, SHADOW

TRAINING, BEFORE = "training", "before"
NOBODY = "No champion answered on this day, so nothing is compared. Answers of other models are not judged."
WORDS = {TRAINING: "the training", BEFORE: "the days before"}


def flat(answers: pd.DataFrame) -> pd.DataFrame:
    """The log's rows with a column for each figure of the picture, `confidence` (of the likeliest label) and `refused`.

    A patient who is not known counts as one for each input."""
    figures = pd.DataFrame([json.loads(text or "{}") for text in answers["figures"]], index=answers.index)
    of_picture = [name for name in FIGURES if name in figures]
    table = answers.drop(columns=["figures"]).join(figures[of_picture].astype(float))
    confidence = [max(json.loads(text or "{}").values(), default=np.nan) for text in answers["probabilities"]]
    table["confidence"] = np.array(confidence, float)
    table["refused"] = (answers["refusal"].fillna("") != "").astype(float)
    table["unfamiliar"] = answers["unfamiliar"].astype("Float64").astype(float)
    table["label"] = answers["label"].astype(object).where(answers["label"].notna(), None)
    unknown = answers["patient"].fillna("") == ""
    # A site that is called like all sites together would take their place in the report.
    table["site"] = answers["site"].where(answers["site"] != EVERY_SITE, f"{EVERY_SITE} (name of a site)")
    each = answers["input"].where(answers["input"].fillna("") != "", answers["id"])
    table["patient"] = answers["patient"].where(~unknown, "input " + each)
    return table


def judge_day(
    answers: pd.DataFrame,
    day: str,
    settings: Watch,
    reference: Reference | None = None,
    changed: Collection[str] = (),
) -> dict[str, Any]:
    """What is to be said of a day, such as 2026-11-30; ready for JSON.

    answers: of one task, as `AnswerLog.read` returns them, of this day and of the days before it. changed: the days
    that had a finding. They are left out of the days before, of which the last `settings.before` are used: else a
    change is compared with itself and is over after some days.
    reference: of the model that answers; None or one of another model: only the days before are compared.

    models: the champions that answered. sites: for each site and for all of them, counts and shares. tests: of
    `watch.comparing.compare`, with `against`. estimated: by site, see `fetalflow.watch.estimated`. shadows:
    agreement with the champion. findings: one entry for each thing that changed, with kind, site and a sentence.
    """
    last = date.fromisoformat(day)
    first = last - timedelta(days=settings.window - 1)
    days = answers["time"].str.slice(0, 10)
    window = (days >= first.isoformat()) & (days <= day)
    quiet = sorted({*days[days < first.isoformat()]} - {*changed})[-settings.before :]
    earlier = days.isin(quiet)
    champion = answers["role"] == CHAMPION
    now, before = flat(answers[window & champion]), flat(answers[earlier & champion])
    found = {
        "day": day,
        "first_day": first.isoformat(),
        "models": sorted({f"{m} {v}".strip() for m, v in zip(now["model"], now["version"], strict=True)}),
        "sites": {site: _counts(part) for site, part in _by_site(now)},
        "reference": "" if len(now) else NOBODY,
        "tests": [],
        "estimated": {},
        "shadows": _shadows(answers[window]),
    }
    if len(now):
        weights = set(now["weights"].dropna()) - {""}
        known = reference is not None and weights == {reference.weights}
        found["reference"] = "" if known else _why_none(reference, weights)
        sides = {TRAINING: reference.rows if known else None, BEFORE: before if len(before) else None}
        for against, rows in sides.items():
            if rows is not None:
                found["tests"] += [test | {"against": against} for test in compare(rows, now, settings)]
        if known and reference.held is not None:
            found["estimated"] = _estimated(reference.held, now, settings)
    found["findings"] = _findings(found, settings)
    return found


def asks(days: Mapping[str, bool], day: str, settings: Watch) -> str:
    """Why a retraining is asked for on `day`; empty: it is not. days: whether a day had a finding.

    `settings.ask_days` of the last `settings.of_days` days with answers must have one, and `day` itself too."""
    last = [each for each in sorted(days) if each <= day][-settings.of_days :]
    bad = [each for each in last if days[each]]
    if len(bad) < settings.ask_days or day not in bad:
        return ""
    return f"{len(bad)} of the last {len(last)} days with answers had a finding: {', '.join(bad)}."


def _why_none(reference: Reference | None, weights: set[str]) -> str:
    if reference is None:
        return "This workspace has no finished run of the task, so nothing is compared with the training."
    if len(weights) > 1:
        return "More than one model answered on this day, so nothing is compared with the training."
    return (
        "The model that answered is not the one that was trained last in this workspace, so nothing is compared with "
        "the training."
    )


def _by_site(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """All rows, and those of each named site."""
    sites = table["site"].fillna("")
    return [(EVERY_SITE, table), *((site, table[sites == site]) for site in sorted(set(sites) - {""}))]


def _counts(part: pd.DataFrame) -> dict[str, Any]:
    latency = part["latency_ms"].dropna()
    shares = {
        name: float(part[name].mean()) if part[name].notna().any() else None for name in ("unfamiliar", "refused")
    }
    quantiles = {f"p{q}_ms": float(latency.quantile(q / 100)) if len(latency) else None for q in (50, 95, 99)}
    labels = part["label"].value_counts(normalize=True).to_dict()
    counts = {"answers": len(part), "patients": int(part["patient"].nunique())}
    return counts | shares | quantiles | {"labels": {str(k): float(v) for k, v in labels.items()}}


def _estimated(held: Held, now: pd.DataFrame, settings: Watch) -> dict[str, Any]:
    answered = now[now["confidence"].notna()]
    result = {}
    for site, part in _by_site(answered):
        if len(part) >= settings.min_answers:
            found = estimate(held, part["confidence"].to_numpy(), part["patient"].to_numpy(str))
            result[site] = found.as_dict()
    return result


def _shadows(answers: pd.DataFrame) -> list[dict[str, Any]]:
    """For each model in shadow: the share of its answers that are the champion's, over the inputs that both answered,
    with the interval by patient; and how far their lengths are apart."""
    table = flat(answers)
    table["label"] = table["label"].where(table["label"].notna(), "no answer")
    champion = table[(table["role"] == CHAMPION) & (table["input"].fillna("") != "")].drop_duplicates("input")
    result = []
    for (model, version), part in table[table["role"] == SHADOW].groupby(["model", "version"], sort=True, dropna=False):
        pairs = part.drop_duplicates("input").merge(
            champion[["input", "label", "lengths"]], on="input", suffixes=("", "_champion")
        )
        if not len(pairs):
            continue
        same = (pairs["label"] == pairs["label_champion"]).astype(float)
        by_patient = same.groupby(pairs["patient"]).agg(["sum", "size"]).to_numpy(float)
        samples = bootstrap(lambda w, of=by_patient: {"share": np.divide(*(w @ of).T)}, len(by_patient), 500, 0)
        low, high = known_or_none(*percentile_interval(samples["share"], 0.95, len(by_patient)), len(by_patient))
        result.append(
            {"model": f"{model} {version}".strip(), "pairs": len(pairs), "patients": len(by_patient)}
            | {"agreement": float(same.mean()), "low": low, "high": high, "apart": _apart(pairs)}
        )
    return result


def _apart(pairs: pd.DataFrame) -> dict[str, Any] | None:
    """How far the lengths of both models are apart, in mm; None where they have no length in common. Two models with
    the same label may measure differently."""
    lengths = ([json.loads(text or "null") or {} for text in pairs[f"lengths{of}"]] for of in ("", "_champion"))
    found = [
        abs(one[name][0] - other[name][0])
        for one, other in zip(*lengths, strict=True)
        for name in one.keys() & other.keys()
    ]
    if not found:
        return None
    return {"lengths": len(found)} | {f"p{q}_mm": float(np.quantile(found, q / 100)) for q in (50, 95)}


def _findings(found: dict[str, Any], settings: Watch) -> list[dict[str, str]]:
    findings = []
    for test in found["tests"]:
        if test["drifted"]:
            findings.append({"kind": "changed", "site": test["site"], "said": _in_words(test)})
    for site, one in found["estimated"].items():
        # The better end of the interval counts: a few answers say little.
        if one["high"] is not None and one["of_test"] - one["high"] > settings.max_loss:
            said = (
                f"{site}: the accuracy is estimated as {one['accuracy']:.2f} [{one['low']:.2f}, {one['high']:.2f}], "
                f"and was {one['of_test']:.2f} in the test ({one['answers']} answers, {one['patients']} patients)."
            )
            findings.append({"kind": "accuracy", "site": site, "said": said})
    for one in found["shadows"]:
        if one["pairs"] >= settings.min_answers and one["agreement"] < settings.min_agreement:
            share, pairs = one["agreement"], one["pairs"]
            said = f"{one['model']} in shadow agrees with the champion in {share:.0%} of {pairs} answers."
            findings.append({"kind": "shadow", "site": EVERY_SITE, "said": said})
    return findings


def _in_words(test: Mapping[str, Any]) -> str:
    if test["column"] == "label":
        size = f"{test['effect']:.0%} of the answers are others"
    elif test["column"] in SHARES:
        size = f"{test['new']:.0%}, before {test['before']:.0%}"
    elif test["new"] is None or test["before"] is None:
        size = f"{test['effect']:.1f} standard deviations"
    else:
        what = "mean of the sites' medians" if test["site"] == EVERY_SITE else "median"
        size = f"{what} {test['new']:.4g}, before {test['before']:.4g}"
    facts = f"p = {test['p_corrected']:.2g}, {test['patients_new']} and {test['patients_before']} patients"
    return f"{test['site']}: {test['figure']} differs from {WORDS[test['against']]}: {size} ({facts})."
