"""What `examinations` counted, as figures with intervals and as the claims of its result file."""

from collections.abc import Iterator
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.studies.examination_jobs import STRUCTURES
from fetalflow.evaluation.intervals import bootstrap, percentile_interval
from fetalflow.inference.latency import machine

WHY_NONE = "missing", "views differ", "apart"
DRAWS, CONFIDENCE = 2000, 0.95


def share(top: pd.Series, bottom: pd.Series) -> tuple[float, list[float] | None]:
    """sum(top) / sum(bottom), each by fetus, and its interval: a bootstrap over fetuses."""
    top, bottom = top.fillna(0).to_numpy(float), bottom.fillna(0).to_numpy(float)
    if not bottom.sum():
        return float("nan"), None
    with np.errstate(invalid="ignore"):
        draws = bootstrap(lambda w: {"share": (w @ top) / (w @ bottom)}, len(top), DRAWS, 0)["share"]
    low, high = percentile_interval(draws, CONFIDENCE, len(top))
    return float(top.sum() / bottom.sum()), None if np.isnan(low) else [float(low), float(high)]


def figures(rows: pd.DataFrame, prefix: str = "") -> dict[str, Any]:
    """All figures of one way to examine, by name."""
    one = rows[~rows["twin"]]
    said = {
        "planes": share(rows["right"], rows["files"]),
        "others": share(rows["others_counted"], rows["others"]),
        "views": share(rows["views_counted"], rows["views"]),
    }
    for name in STRUCTURES.values():
        error = (one[f"{name}_found"] - one[f"{name}_true"]).astype(float)
        there = error.notna().astype(float)
        said[f"{name}_mm"] = share(error.abs(), there)
        said[f"{name}_bias"] = share(error, there)
        said[f"{name}_given"] = share(there, pd.Series(1.0, index=one.index))
        inside = (one[f"{name}_low"] <= one[f"{name}_true"]) & (one[f"{name}_true"] <= one[f"{name}_high"])
        said[f"{name}_covered"] = share(inside.astype(float), one[f"{name}_low"].notna().astype(float))
        error = one[f"{name}_weeks"].astype(float)
        said[f"{name}_weeks"] = share(error.abs(), error.notna().astype(float))
        said[f"{name}_weeks_bias"] = share(error, error.notna().astype(float))
    possible = one[~one["true_apart"].astype(bool) & ~one["cut_off"].astype(bool)]
    everybody = pd.Series(1.0, index=one.index)
    said |= {"true_age": share((~one["true_apart"].astype(bool)).astype(float), everybody)}
    said |= {"possible_age_given": share(possible["age"].notna().astype(float), pd.Series(1.0, index=possible.index))}
    said |= {f"no_age_{why.split()[0]}": share((one["no_age"] == why).astype(float), everybody) for why in WHY_NONE}
    said |= {
        "no_age_both": share(((one["no_age"] == "apart") & one["true_apart"].astype(bool)).astype(float), everybody)
    }
    if "sweep" in one:
        said |= _of_long_cines(one, everybody)
    weeks = (one["age"] - one["weeks"]).astype(float).abs()
    said |= {"age": share(weeks, weeks.notna().astype(float))}
    said |= {"age_given": share(weeks.notna().astype(float), pd.Series(1.0, index=one.index))}
    twins = rows[rows["twin"]]
    said |= {"twin_age_given": share(twins["age"].notna().astype(float), pd.Series(1.0, index=twins.index))}
    values = {f"{prefix}{name}": value for name, (value, _) in said.items() if np.isfinite(value)}
    return values | {f"{prefix}{name}_interval": bounds for name, (_, bounds) in said.items() if bounds}


def _of_long_cines(one: pd.DataFrame, everybody: pd.Series) -> dict[str, tuple[float, list[float] | None]]:
    """Only where the studies have a sweep and a cine of movement."""
    sweep = one["sweep"].astype(float)
    seen = one[one["seen_moving"].notna()]
    right = (seen["seen_moving"].astype(bool) == seen["moves"].astype(bool)).astype(float)
    return {
        "sweep": share(100 * sweep, sweep.notna().astype(float)),
        "sweep_given": share(sweep.notna(), everybody),
        "moves_right": share(right, pd.Series(1.0, index=seen.index)),
    }


def claims(
    both: dict[str, pd.DataFrame], command: str, seed: int, seeds: list[int], trained: str
) -> Iterator[dict[str, Any]]:
    """The result file's claims. both: rows by way. seed: of the fetuses;
    seeds: of the trainings of the packages. trained: how they were trained."""
    rows = both["planes"]
    found, alone = figures(rows), figures(both["alone"], "alone_")
    strangers = rows[rows["stranger"]]
    about_machine = machine()
    count = {"fetuses": len(rows), "cines": int(rows["files"].sum()), "twins": int(rows["twin"].sum())}
    about = {
        "data": f"the synthetic hospital, whole examinations, seed {seed}; packages: {trained}",
        "split_unit": "fetus; none was in the training of the packages",
        "n": count | {"studies with another woman's file": len(strangers)},
        "seeds": seeds,
        "interval": "95 %, bootstrap over fetuses",
        "command": command,
        "machine": f"{about_machine['processor']}, {about_machine['cores']} cores",
        "date": date.today().isoformat(),
    }

    def claim(text: str, names: list[str], source: dict[str, Any], outcome: str = "measured") -> dict[str, Any]:
        chosen = {name: source.get(name) for each in names for name in (each, f"{each}_interval")}
        has_interval = any(chosen[f"{each}_interval"] for each in names)
        interval = about["interval"] if has_interval else "none: too few fetuses, or all have the same result"
        return about | {"claim": text, "figures": chosen, "interval": interval, "outcome": outcome}

    yield claim(
        "{planes} {planes_interval} of the cines of whole examinations get their right plane: head, abdomen, femur, or "
        "none of them; a cine that is unlike the training data counts as none.",
        ["planes"],
        found,
    )
    lengths = list(STRUCTURES.values())
    yield claim(
        "Joined lengths are wrong by {hc_mm} {hc_mm_interval} mm (HC), {ac_mm} {ac_mm_interval} mm (AC) and {fl_mm} "
        "{fl_mm_interval} mm (FL) on average; they are given for {hc_given}, {ac_given} and {fl_given} of the fetuses.",
        [f"{name}_{kind}" for kind in ("mm", "given", "bias") for name in lengths],
        found,
    )
    yield claim(
        "The stated intervals hold the true length of {hc_covered} {hc_covered_interval} (HC), {ac_covered} "
        "{ac_covered_interval} (AC) and {fl_covered} {fl_covered_interval} (FL) of the fetuses.",
        [f"{name}_covered" for name in lengths],
        found,
    )
    yield claim(
        "The age from head, abdomen and femur together is wrong by {age} {age_interval} weeks on average; it is given "
        "for {age_given} {age_given_interval} of the fetuses, and for {possible_age_given} "
        "{possible_age_given_interval} of those whose true lengths have one and of whom a short cine shows each "
        "structure whole.",
        ["age", "age_given", "possible_age_given"],
        found,
    )
    yield claim(
        "The true lengths of {true_age} {true_age_interval} of the fetuses have an age together; those of the others "
        "have single ages more than 2 weeks apart, because the phantom draws lengths with a correlation of .49.",
        ["true_age"],
        found,
    )
    yield claim(
        "There is no age because a length is missing for {no_age_missing} {no_age_missing_interval}, because its views "
        "differ by more than 10 % for {no_age_views} {no_age_views_interval}, and because single ages are more than 2 "
        "weeks apart for {no_age_apart} {no_age_apart_interval}; those of the true lengths are as well for "
        "{no_age_both} {no_age_both_interval}.",
        ["no_age_missing", "no_age_views", "no_age_apart", "no_age_both"],
        found,
    )
    yield claim(
        "The age by one length is wrong, against the age by its true length, by {hc_weeks} {hc_weeks_interval} weeks "
        "(HC), {ac_weeks} {ac_weeks_interval} (AC) and {fl_weeks} {fl_weeks_interval} (FL) on average, with a bias of "
        "{hc_weeks_bias}, {ac_weeks_bias} and {fl_weeks_bias} weeks.",
        [f"{name}_weeks{end}" for name in lengths for end in ("", "_bias")],
        found,
    )
    if "sweep_given" in found:
        yield claim(
            "A sweep through a head or an abdomen gives a length for {sweep_given} {sweep_given_interval} of the "
            "fetuses, wrong by {sweep} {sweep_interval} % on average, with its sign.",
            ["sweep", "sweep_given"],
            found,
        )
        yield claim(
            "Of a cine of 3.6 s, whether the fetus moves is said rightly for {moves_right} {moves_right_interval}.",
            ["moves_right"],
            found,
        )
    ways = found | alone
    yield claim(
        "With the planes model {others} {others_interval} of the distractors give a length that counts, without it "
        "{alone_others} {alone_others_interval}.",
        ["others", "alone_others"],
        ways,
        "better" if found["others"] < alone["alone_others"] else "worse",
    )
    yield claim(
        "With the planes model {views} {views_interval} of the views of a structure count, without it {alone_views} "
        "{alone_views_interval}.",
        ["views", "alone_views"],
        ways,
        "better" if found["views"] > alone["alone_views"] else "worse",
    )
    yield claim(
        "Without the planes model joined lengths are wrong by {alone_hc_mm} {alone_hc_mm_interval} mm (HC), "
        "{alone_ac_mm} {alone_ac_mm_interval} mm (AC) and {alone_fl_mm} {alone_fl_mm_interval} mm (FL), and the "
        "age, given for {alone_age_given}, by {alone_age} {alone_age_interval} weeks.",
        [f"alone_{name}_{kind}" for kind in ("mm", "given") for name in lengths] + ["alone_age", "alone_age_given"],
        alone,
    )
    yield claim(
        "An age is still given for {twin_age_given} {twin_age_given_interval} of the studies in which a view of a twin "
        "of the same age was stored too: nothing in an image says which twin it shows.",
        ["twin_age_given"],
        found,
    )
    refused, good = int(strangers["refused"].sum()), rows[~rows["stranger"]]
    yield about | {
        "claim": "{refused} of {studies} studies with a file of another woman are refused, "
        "and {wrong} of {good} others.",
        "figures": {
            "refused": refused,
            "studies": len(strangers),
            "wrong": int(good["refused"].sum()),
            "good": len(good),
        },
        "interval": "none: the patient's number in the header decides, not a network",
        "outcome": "measured",
    }
