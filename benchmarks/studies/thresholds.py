"""Sets thresholds anew on synthetic patients of one seed, and reports them on those of another.

    python -m benchmarks thresholds

A network of each task is trained on the hospital of seed 100. The values of every threshold are compared on that of
seed 101; the best one there and the one before are reported on that of seed 102, so nothing was set on what is
reported. The cost of a value is the mean over groups (such as whole and cut-off views) of the mean in each group. The
hospitals and networks are made once and kept in --data. It writes benchmarks/results/thresholds.json;
docs/ml-lead/thresholds.md says what follows.
"""

import argparse
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from benchmarks.claims import NONE, write_claims
from benchmarks.studies.threshold_cine_jobs import blanking, on_real_cines, scene_cuts
from benchmarks.studies.threshold_jobs import MAIN, Answered, answered, hospital, sequences
from benchmarks.studies.threshold_value_jobs import (
    Compared,
    Made,
    cut_off_views,
    first_layer,
    prior_of_the_temperature,
    sweeps,
    unlike_training,
)
from fetalflow.evaluation.intervals import bootstrap, known_or_none, percentile_interval
from fetalflow.inference.latency import machine
from fetalflow.models.answering import feature_layer
from fetalflow.models.weights import read

TRAINS, SETS, REPORTS = 100, 101, 102  # seeds
FEMURS = 103, 104  # cut-off femurs are rare, and one more hospital of each kind has nothing else
DRAWS = 2000
STUDIES: dict[str, tuple[Callable[[Made], Iterator[Compared]], ...]] = {
    "biometry": (cut_off_views, unlike_training, first_layer),
    "movement": (first_layer, prior_of_the_temperature, scene_cuts, blanking),
}


def made(folder: Path, task: str) -> Made:
    places = [hospital(folder, task, seed, seed == TRAINS) for seed in (TRAINS, SETS, REPORTS)]
    network, config = read(places[0] / "models" / task / MAIN[task])
    layers = [feature_layer(network)]
    layers += [name for name, module in network.named_modules() if isinstance(module, nn.Linear)][-1:]
    femurs = [hospital(folder, task, seed, False, "femurs") for seed in FEMURS] if task == "biometry" else []
    found: list[Answered] = []
    for place in (*places, *femurs):
        rows = sequences(place, task)
        if place == places[0]:
            parts = pd.read_parquet(place / "data" / task / "split.parquet")[["sequence", "part"]]
            rows = rows.drop(columns="part", errors="ignore").merge(parts, on="sequence")
        rows = rows.assign(truth=pd.Index(config["labels"]).get_indexer(rows["label"]))
        found.append(answered(network, rows, layers))
    return Made(
        places[0] / "models" / task / MAIN[task],
        network,
        *found[:3],
        tuple(found[3:]),
        tuple(places[1:]),
        (SETS, REPORTS),
    )


def groups_of(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return dict(iter(table.groupby("group", sort=False)))


def cost(table: pd.DataFrame) -> float:
    return float(np.mean([of_group["cost"].mean() for of_group in groups_of(table).values()]))


def bounds(table: pd.DataFrame) -> list[float] | None:
    """95 % interval of `cost`, by bootstrap over patients."""
    codes, names = pd.factorize(table["patient"])
    sums = [
        np.stack([np.bincount(codes[rows], weights, len(names)) for weights in (table["cost"].to_numpy()[rows], None)])
        for rows in (np.flatnonzero(table["group"] == group) for group in table["group"].unique())
    ]

    def drawn(weights: np.ndarray) -> dict[str, np.ndarray]:
        totals = [weights @ of_group.T for of_group in sums]
        with np.errstate(invalid="ignore"):
            return {"cost": np.mean([each[:, 0] / each[:, 1] for each in totals], axis=0)}

    samples = bootstrap(drawn, len(names), DRAWS, 0)["cost"]
    limits = known_or_none(*map(float, percentile_interval(samples, 0.95, len(names))), len(names))
    return None if limits[0] is None else list(limits)


def claims(compared: Compared) -> Iterator[dict[str, Any]]:
    """What the setting hospital says, and what the reporting one says of it; then the value before by group."""
    by_value = {value: cost(table) for value, table in compared.setting.items()}
    best = min(by_value, key=lambda value: (round(by_value[value], 6), value != compared.before))
    tables = {value: compared.reporting[value] for value in (compared.before, best)}
    n = {"patients": int(tables[best]["patient"].nunique()), "counted": len(tables[best])}
    figures = {"threshold": compared.name, "before": compared.before, "best": best}
    figures |= {f"on {SETS}, {value}": round(each, 5) for value, each in by_value.items()}
    figures |= {"cost": cost(tables[compared.before])}
    if best == compared.before:
        limits = bounds(tables[best])
        said = (
            f"on hospital {SETS} no value costs less than {{before}}, the value before; on hospital {REPORTS} it costs "
        )
        said += "{cost}"
        outcome = "measured"
    else:
        change = tables[best].assign(cost=tables[best]["cost"] - tables[compared.before]["cost"])
        limits, figures = bounds(change), figures | {"change": cost(change)}
        said = f"on hospital {SETS} {{best}} costs less than {{before}}, the value before; on hospital {REPORTS} it "
        said += "changes the cost of {cost} by {change}"
        shown = limits is not None and (limits[1] < 0 or limits[0] > 0)
        outcome = ("better" if cost(change) < 0 else "worse") if shown else "no difference"
    yield {
        "claim": f"{{threshold}}: {said}{_said(limits)} ({compared.counted}).",
        "figures": figures | ({"bounds": limits} if limits else {}),
        "interval": _how(limits),
        "n": n,
        "outcome": outcome,
    }
    if "biometry.section" in compared.name:  # many groups; the sum says enough
        return
    for group, table in groups_of(tables[compared.before]).items():
        limits = bounds(table)
        yield {
            "claim": f"{{threshold}} at {{before}}, {{group}}: {{cost}}{_said(limits)} ({compared.counted}).",
            "figures": {"threshold": compared.name, "before": compared.before, "group": group, "cost": cost(table)}
            | ({"bounds": limits} if limits else {}),
            "interval": _how(limits),
            "n": {"patients": int(table["patient"].nunique()), "counted": len(table)},
            "outcome": "measured",
        }


def by_group(claim: dict[str, Any]) -> tuple[str, float] | None:
    """Group and cost of a claim about one group."""
    figures = claim["figures"]
    return (figures["group"], figures["cost"]) if "group" in figures else None


def _said(limits: list[float] | None) -> str:
    return " {bounds}" if limits else ""


def _how(limits: list[float] | None) -> str:
    return "95 %, bootstrap over patients" if limits else f"{NONE}all patients are alike, or too few"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("workspaces/thresholds"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--results", type=Path, help="folder of the result file; the default is benchmarks/results")
    parser.add_argument("--real", type=Path, help="only count what two best values find in the cines of this folder")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    about = machine()
    facts = {
        "split_unit": f"hospital: trained on seed {TRAINS}, set on {SETS}, reported on {REPORTS}",
        "command": "python -m benchmarks thresholds",
        "machine": f"{about['processor']}, {about['cores']} cores, torch {about['torch']}",
        "date": datetime.now(UTC).date().isoformat(),
    }
    where = [chosen.results] if chosen.results else []
    if chosen.real:
        facts |= {
            "command": "python -m benchmarks thresholds --real FOLDER",
            "split_unit": "nothing was set on them here",
        }
        facts |= {"data": f"real cines, {chosen.real.name}", "seeds": []}
        return print(f"wrote {write_claims('thresholds_real', map(facts.__or__, on_real_cines(chosen.real)), *where)}")
    found: list[dict[str, Any]] = []

    def note(compared: Compared, about_it: dict[str, Any]) -> None:
        for value, table in compared.setting.items():
            print(f"{compared.name} {value}: {cost(table):.4f}, {cost(compared.reporting[value]):.4f}", flush=True)
        known = {by_group(each) for each in found}  # constants of one file have the same errors by group
        new = (each for each in claims(compared) if by_group(each) is None or by_group(each) not in known)
        found.extend(each | facts | about_it for each in new)

    draws = {"split_unit": f"seed of the draws: set on {SETS}, reported on {REPORTS}"}
    for compared in sweeps((SETS, REPORTS)):
        note(compared, {"data": "simulated lengths", "seeds": []} | draws)
    for task, studies in STUDIES.items():
        whole = made(chosen.data.resolve(), task)
        for study in studies:
            for compared in study(whole):
                note(compared, {"data": f"synthetic hospital, {task}", "seeds": [0]})
    print(f"wrote {write_claims('thresholds', found, *where)}")


if __name__ == "__main__":
    main()
