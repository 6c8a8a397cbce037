"""How soon the watch notices another device at a site, and how good its estimated accuracy is.

    python -m benchmarks watch tune    # sets the thresholds, on hospitals that are not reported
    python -m benchmarks watch report

It needs the hospitals movement-100, -101 and -102, which `python -m benchmarks thresholds` makes.

One trained model, that of `make demo`, answers synthetic hospitals which nobody trained on (`watch_jobs.bank`). A day
is PATIENTS women of each site, drawn with replacement, with all their sequences. Every day is judged by
`fetalflow.watch.judged.judge_day`, as in use. The results are in benchmarks/results/watch.json.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.claims import write_claims
from benchmarks.studies.watch_jobs import DEVICES, FIGURES, bank
from fetalflow.artefacts import write_json
from fetalflow.hospital.phantom.sites import SITES
from fetalflow.inference.latency import machine
from fetalflow.inference.package import Package, load
from fetalflow.settings.params import load_settings
from fetalflow.settings.watch import Watch
from fetalflow.watch.comparing import SHARES
from fetalflow.watch.estimated import estimate
from fetalflow.watch.judged import asks, judge_day
from fetalflow.watch.log import NESTED
from fetalflow.watch.reference import Reference, reference_of
from fetalflow.watch.row import COLUMNS

TASK = "movement"
TUNED_ON, REPORTED_ON = (101, 102), (100,)  # seeds of the hospitals
PATIENTS = 8  # of each site, a day
CHANGE = 20  # the day on which a device changes
START = date(2026, 1, 1)
EFFECTS = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)  # of which `tune` takes the smallest with at most MOST false alarms
MIXES = (0.2, 0.25, 0.3, 0.35, 0.4, 0.5)
LOSSES = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2)
MOST = 0.01  # share of the quiet days


@dataclass(frozen=True)
class Bench:
    folder: Path
    package: Package
    reference: Reference
    hospitals: Path

    def bank(self, name: str, seeds: tuple[int, ...]) -> pd.DataFrame:
        return bank(self.folder, name, [self.hospitals / f"{TASK}-{seed}" for seed in seeds], self.package)


def as_log(table: pd.DataFrame, package: Package, weights: str) -> pd.DataFrame:
    """The rows of a bank as rows of the log, without a time."""
    p = package.calibrated(table[[f"p_{label}" for label in package.labels]].to_numpy())
    figures = [
        {n: float(v) for n, v in zip(FIGURES, row, strict=True) if np.isfinite(v)}
        for row in table[[*FIGURES]].to_numpy(float)
    ]
    facts = {
        "task": TASK, "origin": "service", "role": "champion", "model": "watched", "version": "1", "weights": weights,
        "site": table["site"].astype(str), "patient": table["patient"], "label": table["y_pred"].astype(str),
        "unfamiliarity": table["unfamiliarity"], "unfamiliar": (table["unfamiliarity"] > 1).astype("boolean"),
        "figures": [json.dumps(each) for each in figures], "refusal": "",
        "probabilities": [json.dumps(dict(zip(package.labels, row.tolist(), strict=True))) for row in p],
        "input": table.index.astype(str),
    }  # fmt: skip
    found = table[[]].assign(**facts)
    empty = {name: "null" if name in NESTED else None for name in COLUMNS if name not in facts}
    return found.assign(**empty)[[*COLUMNS]]


def a_day(rows: pd.DataFrame, number: int, rng: np.random.Generator, patients: int) -> pd.DataFrame:
    """The answers of a day: `patients` women of each site of `rows`."""
    day, places, names = START + timedelta(days=number), [], []
    for site, theirs in sorted(rows.groupby("site").indices.items()):
        codes, women = pd.factorize(rows["patient"].iloc[theirs])
        for place, chosen in enumerate(rng.integers(len(women), size=patients)):
            of_her = theirs[codes == chosen]
            places.append(of_her)
            names += [f"{number}-{site}-{place}"] * len(of_her)
    found = rows.iloc[np.concatenate(places)].reset_index(drop=True).assign(patient=names)
    ids = [f"{number}-{i}" for i in range(len(found))]
    latency = rng.lognormal(np.log(30), 0.3, len(found))
    return found.assign(time=f"{day}T12:00:00.000+00:00", id=ids, input=ids, latency_ms=latency)


def judged_days(
    bench: Bench,
    quiet: pd.DataFrame,
    days: range,
    settings: Watch,
    seed: int,
    patients: int,
    changed: pd.DataFrame | None = None,
) -> Iterator[dict[str, Any]]:
    """Each of `days`, judged. changed: the rows of one site from the day CHANGE on."""
    rng, held = np.random.default_rng(seed), []  # the last days without a finding, and the day itself
    for number in range(days.stop):
        rows = quiet
        if changed is not None and number >= CHANGE:
            rows = pd.concat([quiet[quiet["site"] != changed["site"].iloc[0]], changed])
        held = [*held[-settings.before :], a_day(rows, number, rng, patients)]
        if number in days:
            day = (START + timedelta(days=number)).isoformat()
            found = judge_day(pd.concat(held, ignore_index=True), day, settings, bench.reference)
            held = held[:-1] if found["findings"] else held
            yield found


def quiet_days(bench: Bench, seeds: tuple[int, ...], days: int, settings: Watch, patients: int) -> list[dict[str, Any]]:
    rows = as_log(bench.bank("quiet", seeds), bench.package, bench.reference.weights)
    first = settings.before
    return list(judged_days(bench, rows, range(first, first + days), settings, seeds[0], patients))


def alarms_at(days: list[dict[str, Any]], effect: float, mix: float) -> tuple[int, int]:
    """Days on which a figure or the mix would have changed at these thresholds: of figures, of mixes."""

    def is_over(test: dict[str, Any], of_mix: bool) -> bool:
        if test["column"] in SHARES:
            return not of_mix and test["drifted"]
        least = mix if of_mix else effect
        small = test["p_corrected"] is not None and test["p_corrected"] < 0.05
        return (test["column"] == "label") == of_mix and small and test["effect"] >= least

    return tuple(sum(any(is_over(test, kind) for test in day["tests"]) for day in days) for kind in (False, True))


def tune(bench: Bench, chosen: argparse.Namespace) -> None:
    lowest = Watch().drift.model_copy(update={"min_effect": EFFECTS[0], "min_mix": MIXES[0]})
    days = quiet_days(bench, TUNED_ON, chosen.days, Watch(drift=lowest), chosen.patients)
    most = MOST * len(days)
    figures = {effect: alarms_at(days, effect, 1)[0] for effect in EFFECTS}
    table = {"figures": figures, "mix": {mix: alarms_at(days, 9, mix)[1] for mix in MIXES}}
    taken = {kind: next((t for t, n in found.items() if n <= most), None) for kind, found in table.items()}
    losses = {each: sum(any(_loss(one) > each for one in day["estimated"].values()) for day in days) for each in LOSSES}
    table["estimated accuracy"] = losses
    taken["estimated accuracy"] = next((t for t, n in losses.items() if n <= most), None)
    said = {"days": len(days), "false alarms by threshold": table, "taken": taken}
    print(json.dumps(said, indent=2))
    write_json(bench.folder / "tuned.json", said)


def _loss(one: dict[str, Any]) -> float:
    return 0.0 if one["high"] is None else one["of_test"] - one["high"]


def report(bench: Bench, chosen: argparse.Namespace) -> None:
    settings = Watch()
    about = {
        "data": "synthetic hospital of the movement task, five sites, women whom nobody trained on",
        "split_unit": "patient", "seeds": [*REPORTED_ON], "command": "python -m benchmarks watch report",
        "machine": f"{(on := machine())['processor']}, {on['cores']} cores",
        "date": date.today(), "outcome": "measured",
    }  # fmt: skip
    claims = [estimates(bench, about)]
    days = quiet_days(bench, REPORTED_ON, chosen.days, settings, chosen.patients)
    claims.append(false_alarms(days, settings, about, chosen.patients))
    claims += [noticed(bench, name, settings, about, chosen.patients) for name in DEVICES]
    print(write_claims("watch", claims))
    for claim in claims:
        print(claim["claim"], claim["figures"])


def false_alarms(days: list[dict[str, Any]], settings: Watch, about: dict[str, Any], patients: int) -> dict[str, Any]:
    bad = {day["day"]: bool(day["findings"]) for day in days}
    kinds = [{finding["kind"] for finding in day["findings"]} for day in days]
    figures = {
        "days": len(days),
        "alarms": sum(bad.values()),
        "by_figures": sum("changed" in each for each in kinds),
        "by_accuracy": sum("accuracy" in each for each in kinds),
        "asked": sum(bool(asks(bad, day, settings)) for day in bad),
    }
    share = figures["alarms"] / len(days)
    claim = (
        "Over {days} quiet days the watch had a finding on {alarms} days ({by_figures} by a figure, {by_accuracy} by "
        "the estimated accuracy), and asked for a retraining on {asked}."
    )
    n = {"days": len(days), "patients a day": patients * len(SITES)}
    why = f"none: days that share women and their days before are not independent; the share is {share:.3f}"
    return about | {"claim": claim, "figures": figures, "n": n, "interval": why}


def noticed(bench: Bench, name: str, settings: Watch, about: dict[str, Any], patients: int) -> dict[str, Any]:
    quiet = as_log(bench.bank("quiet", REPORTED_ON), bench.package, bench.reference.weights)
    table = bench.bank(name, REPORTED_ON)
    changed = as_log(table, bench.package, bench.reference.weights)
    site = SITES[DEVICES[name][0]].name
    days = list(judged_days(bench, quiet, range(CHANGE - 2, CHANGE + 8), settings, REPORTED_ON[0], patients, changed))
    bad = {day["day"]: any(each["site"] == site for each in day["findings"]) for day in days}
    numbers = {day: (date.fromisoformat(day) - START).days for day in bad}
    first = next((numbers[day] for day in bad if bad[day] and numbers[day] >= CHANGE), None)
    asked = next((numbers[day] for day in bad if numbers[day] >= CHANGE and asks(bad, day, settings)), None)
    said = next(
        (each for day in days for each in day["findings"] if numbers[day["day"]] == first and each["site"] == site),
        {},
    )
    was = bench.bank("quiet", REPORTED_ON)
    was = was[was["site"] == site]
    figures = {
        "device": name, "site": site, "day": "none of 8 days" if first is None else first,
        "asked": "none of 8 days" if asked is None else asked, "first finding": said.get("said", "none"),
        "before": _right(was), "after": _right(table),
    }  # fmt: skip
    claim = (
        "A device ({device}) that changes at one of five sites on day 20 was noticed on day {day}, and a retraining "
        "was asked for on day {asked}; the accuracy at this site went from {before:.2f} to {after:.2f}."
    )
    n = {"patients of the site": int(table["patient"].nunique()), "patients a day and site": patients}
    return about | {"claim": claim, "figures": figures, "n": n, "interval": "none: one course of days for each device"}


def _right(table: pd.DataFrame) -> float:
    return float((table["label"] == table["y_pred"]).mean())


def estimates(bench: Bench, about: dict[str, Any]) -> dict[str, Any]:
    """The estimated accuracy against the truth, for every site as it is and for every new device."""
    quiet = bench.bank("quiet", REPORTED_ON)
    parts = {f"{site}, as it is": part for site, part in quiet.groupby("site")}
    parts |= {f"{SITES[DEVICES[name][0]].name}, {name}": bench.bank(name, REPORTED_ON) for name in DEVICES}
    rows = []
    for name, part in parts.items():
        p = bench.package.calibrated(part[[f"p_{label}" for label in bench.package.labels]].to_numpy())
        found = estimate(bench.reference.held, p.max(axis=1), part["patient"].to_numpy(str))
        truth = _right(part)
        rows.append({"part": name, "truth": truth} | found.as_dict())
    table = pd.DataFrame(rows)
    print(
        table[
            ["part", "truth", "accuracy", "low", "high", "by_difference", "by_threshold", "mean_confidence"]
        ].to_string()
    )
    write_json(bench.folder / "estimates.json", rows)
    error = {
        way: (table[way] - table["truth"]).abs()
        for way in ("accuracy", "by_difference", "by_threshold", "mean_confidence", "of_test")
    }
    shifted = ~table["part"].str.endswith("as it is")
    figures = {"error": float(error["accuracy"].mean()), "worst": float(error["accuracy"].max())}
    figures |= {
        "shifted": float(error["accuracy"][shifted].mean()),
        "no_watch": float(error["of_test"][shifted].mean()),
    }
    figures |= {f"error {way}": float(found.mean()) for way, found in error.items() if way != "accuracy"}
    figures |= {
        "parts": len(table),
        "held": int(((table["low"] <= table["truth"]) & (table["truth"] <= table["high"])).sum()),
    }
    figures["truth"] = float(table["truth"].min()), float(table["truth"].max())
    figures["too_high"] = int((table["accuracy"] > table["truth"]).sum())
    claim = (
        "The accuracy estimated without labels was wrong by {error:.3f} on average and by {worst:.3f} at most, over "
        "{parts} parts with a true accuracy in {truth}; its 95 % interval held the truth in {held} of them. After a "
        "change of the device it was wrong by {shifted:.3f}, and the accuracy of the test by {no_watch:.3f}."
    )
    n = {"parts": len(table), "answers": int(table["answers"].sum()), "patients": int(table["patients"].sum())}
    return about | {"claim": claim, "figures": figures, "n": n, "interval": "range of the true accuracy over the parts"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("tune", "report"))
    parser.add_argument("--workspace", type=Path, default=Path("workspaces/demo"), help="of a finished movement run")
    parser.add_argument("--hospitals", type=Path, default=Path("workspaces/thresholds"))
    parser.add_argument("--folder", type=Path, default=Path("workspaces/watch-bank"), help="where the banks are kept")
    parser.add_argument("--days", type=int, default=200)
    parser.add_argument("--patients", type=int, default=PATIENTS, help="of each site, a day")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    variant = load_settings(chosen.workspace / "params.yaml").tasks[TASK].variant
    reference = reference_of(chosen.workspace, TASK, variant)
    if reference is None:
        parser.error(f"{chosen.workspace} has no finished run of {TASK}: make demo")
    package = load(chosen.workspace / "models" / TASK / variant)
    bench = Bench(chosen.folder, package, reference, chosen.hospitals)
    {"tune": tune, "report": report}[chosen.step](bench, chosen)


if __name__ == "__main__":
    main()
