"""What the station's order of labelling teaches against a random one, and which suspicions hold.

    python -m benchmarks next_cines FOLDER --seeds 8 --from-seed 20

On the synthetic hospitals of planes and movement. A frozen backbone with ImageNet's weights sees each cine; a logistic
regression learns from the cines that are labelled so far and orders the others, as the station does with the networks
of a workspace (fetalflow/annotation/next_cines.py). Each seed draws which patients are tested, which cines are labelled
first, and the random orders. FOLDER keeps the hospitals, so a second run takes minutes.

Writes benchmarks/results/next_cines.json. docs/annotator/next.md says what follows.
"""

import argparse
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.claims import Claim, write_claims
from benchmarks.studies.next_cines_jobs import Hospital, candidates, full, learn, seen
from fetalflow.annotation import next_cines
from fetalflow.annotation.next_cines import BOUNDARY, DISAGREE, UNFAMILIAR, WIDE, Reason, order_cines
from fetalflow.evaluation.intervals import bootstrap, percentile_interval
from fetalflow.inference.latency import machine

TASKS = ("planes", "movement")
DIMENSIONS = 48  # of what the backbone sees, by PCA of the cines that may be labelled
TESTED, START, BATCH, ROUNDS = 0.4, 30, 15, 8  # share of patients; cines that are labelled at first, and in each round
MOST = 0.75  # of the cines that may be labelled; of more, any order takes nearly the same ones
RANDOM_ORDERS = 3  # of each seed; their mean is what the others are compared with
FOLDS = 5
NOISE = (0.05, 0.1)
DRAWS, CONFIDENCE = 2000, 0.95
KINDS = {
    "queue": "the station's queue",
    BOUNDARY: "cines near a boundary first",
    WIDE: "cines with a wide set first",
    UNFAMILIAR: "unfamiliar cines first",
    DISAGREE: "cines on which networks disagree first",
    "spread": "one cine of each patient after another",
}


def only(kind: str, table: pd.DataFrame) -> pd.DataFrame:
    """The rows with the reasons of one kind alone."""

    def of(reasons: list[Reason]) -> list[Reason]:
        return [reason for reason in reasons if reason.kind == kind]

    return table if kind == "queue" else table.assign(reasons=table["reasons"].map(of))


def curve(hospital: Hospital, x: np.ndarray, pool: np.ndarray, tested: np.ndarray, kind: str, seed: int) -> np.ndarray:
    """bool [rounds + 1, tested sequences]: whether the answer is right, after each round of labels."""
    y, sources = hospital.rows["label"].to_numpy(), hospital.rows["source"].to_numpy()
    rounds = min(ROUNDS, int(MOST * len(pool) - START) // BATCH)
    order = np.random.default_rng(seed).permutation(pool)  # the first cines are the same for every kind
    chosen, rest, right = order[:START], order[START:], []
    if kind.startswith("random"):
        rest = np.random.default_rng([seed, int(kind.removeprefix("random"))]).permutation(rest)
    for each in range(rounds + 1):
        known = np.isin(sources, chosen)
        right.append(learn(x[known], y[known]).predict(x[tested]) == y[tested])
        if each < rounds:
            if not kind.startswith("random"):
                table = only(kind, candidates(hospital, x, chosen, rest, seed))
                rest = order_cines(table, BATCH)["source"].to_numpy()
            chosen, rest = np.append(chosen, rest[:BATCH]), rest[BATCH:]
    return np.array(right)


def simulate(hospital: Hospital, seeds: range, kinds: list[str]) -> pd.DataFrame:
    """One row for each seed, kind, round and tested patient: right, n. The kind `random` is the mean of its orders."""
    patients, found = hospital.rows["patient"].to_numpy(), []
    for seed in seeds:
        names = np.random.default_rng(seed).permutation(np.unique(patients))
        of_test = np.isin(patients, names[: round(TESTED * len(names))])
        pool = np.sort(hospital.rows["source"][~of_test].unique())
        shape = make_pipeline(StandardScaler(), PCA(DIMENSIONS, random_state=0)).fit(hospital.x[~of_test])
        x, tested = shape.transform(hospital.x), np.flatnonzero(of_test)
        curves = {kind: curve(hospital, x, pool, tested, kind, seed).astype(float) for kind in kinds}
        orders = [curve(hospital, x, pool, tested, f"random{i}", seed) for i in range(RANDOM_ORDERS)]
        curves["random"] = np.mean(orders, axis=0)
        for kind, right in curves.items():
            for each, of_round in enumerate(right):
                by = pd.DataFrame({"patient": patients[tested], "right": of_round}).groupby("patient")["right"]
                sums = by.agg(right="sum", n="size").reset_index()
                found.append(sums.assign(seed=seed, kind=kind, round=each))
        print(hospital.task, "seed", seed, {k: round(float(c[1:].mean()), 3) for k, c in curves.items()}, flush=True)
    return pd.concat(found, ignore_index=True)


def ratio(by_patient: np.ndarray) -> tuple[float, float, float]:
    """sum of column 0 / sum of column 1 of float [patients, 2], with its interval over patients."""

    def statistics(weights: np.ndarray) -> dict[str, np.ndarray]:
        sums = weights @ by_patient
        return {"ratio": sums[:, 0] / np.where(sums[:, 1], sums[:, 1], np.nan)}

    samples = bootstrap(statistics, len(by_patient), DRAWS, 0)["ratio"]
    low, high = percentile_interval(samples, CONFIDENCE, len(by_patient))
    total = by_patient.sum(axis=0)
    return float(total[0] / total[1]), float(low), float(high)


def gain(results: pd.DataFrame, kind: str, rounds: Callable[[pd.Series], pd.Series]) -> tuple[float, float, float]:
    """Accuracy of a kind minus that of the random order, with its interval over patients."""
    kept = results[rounds(results["round"])]
    sums = kept.groupby(["kind", "patient"])[["right", "n"]].sum()
    both = sums.loc[kind].join(sums.loc["random"], rsuffix="_random")
    return ratio(np.column_stack([both["right"] - both["right_random"], both["n"]]))


def labels_needed(results: pd.DataFrame, kind: str) -> tuple[int, float | None]:
    """A number of labels half way, and how many a random order has at the same accuracy; None where it never has."""
    sums = results.groupby(["kind", "round"])[["right", "n"]].sum()
    accuracy = (sums["right"] / sums["n"]).unstack("kind")
    labels = START + BATCH * accuracy.index.to_numpy()
    half = len(labels) // 2
    reached = np.maximum.accumulate(accuracy["random"].to_numpy())
    wanted = accuracy[kind].iloc[half]
    return int(labels[half]), float(np.interp(wanted, reached, labels)) if wanted <= reached[-1] else None


def suspects(hospital: Hospital, seeds: range, share: float, alike: bool) -> pd.DataFrame:
    """One row for each patient and seed: hit, suspected, wrong, and contradicted with its hits (all labels that the
    out-of-fold answer contradicts). alike: a wrong label is the one that is likeliest by mistake, else any other."""
    rows = hospital.rows.reset_index(drop=True)
    labels = sorted(rows["label"].unique())
    cines = rows.drop_duplicates("source").set_index("source")
    x = make_pipeline(StandardScaler(), PCA(DIMENSIONS, random_state=0)).fit_transform(hospital.x)
    clean = out_of_fold(x, rows, rows["label"].to_numpy(), labels).groupby(rows["source"]).mean()
    found = []
    for seed in seeds:
        rng = np.random.default_rng([seed, int(1000 * share), alike])
        wrong = rng.choice(cines.index, round(share * len(cines)), replace=False)
        given = cines["label"].copy()
        for source in wrong:
            others = [label for label in labels if label != cines["label"][source]]
            given[source] = clean.loc[source, others].idxmax() if alike else rng.choice(others)
        y = rows["source"].map(given).to_numpy()
        p = out_of_fold(x, rows, y, labels)
        table = p.add_prefix("p_").assign(source=rows["source"], label=y, first_frame=0, last_frame=0)
        suspected = set(next_cines.suspected_labels(table)["source"])
        means = p.groupby(rows["source"]).mean()
        contradicted = set(means.index[means.idxmax(axis=1) != given.loc[means.index]])
        facts = pd.DataFrame({"patient": cines["patient"]})
        facts["wrong"] = facts.index.isin(wrong)
        facts["suspected"], facts["contradicted"] = facts.index.isin(suspected), facts.index.isin(contradicted)
        for name in ("suspected", "contradicted"):
            facts[f"{name}_hit"] = facts[name] & facts["wrong"]
        found.append(facts.groupby("patient").sum().assign(seed=seed))
    return pd.concat(found).groupby(level=0).sum()


def out_of_fold(x: np.ndarray, rows: pd.DataFrame, y: np.ndarray, labels: list[str]) -> pd.DataFrame:
    """float [n, K]: what models answer that did not learn from the patient."""
    found = np.zeros((len(x), len(labels)))
    for fitted, answered in GroupKFold(FOLDS).split(x, groups=rows["patient"]):
        found[answered] = full(learn(x[fitted], y[fitted]), x[answered], labels)
    return pd.DataFrame(found, columns=labels)


def claims_of_order(hospital: Hospital, results: pd.DataFrame, about: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for kind in [kind for kind in KINDS if kind in set(results["kind"])]:
        value, low, high = gain(results, kind, lambda rounds: rounds > 0)
        last, last_low, last_high = gain(results, kind, lambda rounds: rounds == rounds.max())
        labels, random = labels_needed(results, kind)
        figures = {"gain": value, "between": (low, high), "last": last, "last_between": (last_low, last_high)}
        most = int(START + BATCH * results["round"].max())
        figures |= {"first": START + BATCH, "most": most, "labels": labels, "random_labels": random}
        said = (
            "{what}: with {first} to {most} labelled cines of {task} the accuracy is {gain:+.3f} {between} against a "
            "random order, at the end {last:+.3f} {last_between}; the accuracy of {labels} labels needs {random_words} "
            "labels in a random order."
        )
        figures |= {"what": KINDS[kind].capitalize(), "task": hospital.task}
        figures["random_words"] = f"{random:.0f}" if random else f"more than {most}"
        outcome = "better" if low > 0 else "worse" if high < 0 else "no difference"
        found.append(about | {"claim": said, "figures": figures, "outcome": outcome})
    return found


def claims_of_noise(hospital: Hospital, seeds: range, about: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for share in NOISE:
        for alike in (False, True):
            sums = suspects(hospital, seeds, share, alike)
            figures: dict[str, Any] = {"share": share, "task": hospital.task}
            figures["how"] = "the likeliest other label" if alike else "any other label"
            for name, words in (("suspected", ""), ("contradicted", "contradicted_")):
                hit = sums[f"{name}_hit"].to_numpy(float)
                for measure, of in (("precision", name), ("recall", "wrong")):
                    value, low, high = ratio(np.column_stack([hit, sums[of].to_numpy(float)]))
                    figures |= {f"{words}{measure}": value, f"{words}{measure}_between": (low, high)}
            said = (
                "Where {share:.0%} of the labels of {task} are changed to {how}, {recall:.0%} {recall_between} of "
                "these are suspected, and {precision:.0%} {precision_between} of the suspected labels are wrong. Of "
                "all labels that the answer contradicts, {contradicted_precision:.0%} are wrong, and "
                "{contradicted_recall:.0%} of the changed ones are among them."
            )
            found.append(about | {"claim": said, "figures": figures, "outcome": "measured"})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="keeps the hospitals")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--from-seed", type=int, default=20, help="the weights were set on the seeds 0 to 4 and 100")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--print", action="store_true", help="write no result file")
    chosen = parser.parse_args()
    seeds, found, computer = range(chosen.from_seed, chosen.from_seed + chosen.seeds), [], machine()
    for task in chosen.tasks:
        hospital = Hospital(task, *seen(chosen.folder.resolve(), task))
        rows = hospital.rows
        about = {
            "data": f"synthetic hospital of {task}, seed 7: {rows['source'].nunique()} cines",
            "split_unit": "patient",
            "n": {"patients": rows["patient"].nunique(), "sequences": len(rows)},
            "seeds": list(seeds),
            "interval": "95 %, bootstrap over patients, the draws of all seeds together",
            "command": f"python -m benchmarks next_cines FOLDER --seeds {chosen.seeds} --from-seed {chosen.from_seed}",
            "machine": f"{computer['processor']}, {computer['cores']} cores",
            "date": date.today().isoformat(),
        }
        found += claims_of_noise(hospital, seeds, about)
        found += claims_of_order(hospital, simulate(hospital, seeds, chosen.kinds), about)
    for each in found:
        print(f"- {each['outcome']}: {Claim.model_validate(each).sentence}")
    if not chosen.print:
        print(write_claims("next_cines", found))


if __name__ == "__main__":
    main()
