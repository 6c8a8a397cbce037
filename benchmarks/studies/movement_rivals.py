"""Which networks see movement, each with the same tuning, where only movement names the label.

    python -m benchmarks movement_rivals FOLDER --folds 5 --seeds 3

Makes the drop of the profile `moving` in FOLDER. The patients are divided into one part more than `--folds`. The first
part tunes: for every rival each learning rate of RATES trains with the other parts, and the rate with the most right
answers to the patients of the first part is chosen. Each of the other parts is then tested by networks that saw none of
its patients, one for each seed. All rivals have the same epochs and the same other settings of params.yaml.

Every training has a file in FOLDER/rivals, and one that has its file is not trained again; so the command can be
stopped at any time. FOLDER/rivals/curves.csv has the curves of all tests. `--networks` and `--stage` do a part of the
work. Each test training also answers by the rules of `kept_epoch`, so that these can be compared on all rivals.
"""

import argparse
import tempfile
import time
from contextlib import chdir
from dataclasses import dataclass, field
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file

from benchmarks.claims import Claim, write_claims
from benchmarks.studies.kept_epoch import EveryEpoch, averaged, rules
from benchmarks.studies.sites import manifest_of
from fetalflow.artefacts import read_json, write_json, write_table
from fetalflow.evaluation.holm import holm, p_text
from fetalflow.evaluation.intervals import bootstrap, percentile_interval
from fetalflow.evaluation.metrics import confusion_by_patient, summary_metrics
from fetalflow.evaluation.paired import difference
from fetalflow.inference.latency import machine
from fetalflow.models.building import build
from fetalflow.sequences.split import split
from fetalflow.settings.params import Machines, Split, TaskSettings, load_settings
from fetalflow.training import fitting
from fetalflow.training.answers import answer_rows
from fetalflow.training.one_run import train_once
from flows.workspaces.workspace import prepare

SHORT = {"norm_each": True, "batch_norm_momentum": 0.1, "dropout": 0.0}  # of the demo: for short trainings
PICTURES = {"motion": "none", "time": "mean"}
# In this order, so that a run that is stopped has compared the most important ones.
RIVALS: dict[str, tuple[str, dict[str, Any]]] = {
    "fetalmovnet_m": ("fetalmovnet_m", {}),
    "fetalmovnet_s": ("fetalmovnet_s", {}),
    "fetalmovnet": ("fetalmovnet", SHORT),
    "pictures": ("fetalmovnet_s", PICTURES),
    "cnn_lstm": ("cnn_lstm", SHORT),
    "single_frame": ("single_frame", SHORT),
}
# These cannot see movement and take the learning rate of the network that they are made of.
BLIND = {"pictures": "fetalmovnet_s", "single_frame": "fetalmovnet"}
OURS = "fetalmovnet_m"
RATES = (0.0003, 0.001, 0.003)
ALPHA = 0.05
DRAWS = 2000
KEPT = "last"  # the rule whose answers are compared


@dataclass(frozen=True)
class Bench:
    """The data of all trainings and what they share."""

    folder: Path
    data: Path
    block: TaskSettings
    manifest: pd.DataFrame
    parts: pd.DataFrame
    labels: list[str]
    epochs: int
    tuning_epochs: int
    machines: Machines = field(default_factory=Machines)

    def rows(self, fold: int) -> pd.DataFrame:
        return self.manifest.merge(self.parts.loc[self.parts["fold"] == fold, ["sequence", "part"]], on="sequence")


def file_of(bench: Bench, name: str, rate: float, fold: int, seed: int, epochs: int) -> Path:
    """The number of folds is in the name, because it says which patients are in a fold."""
    folds = int(bench.parts["fold"].max())
    return bench.folder / name / f"rate{rate:g}-epochs{epochs}-fold{fold}of{folds}-seed{seed}.json"


def trained(bench: Bench, name: str, rate: float, fold: int, seed: int, epochs: int) -> dict[str, Any]:
    """One training: curves, seconds of the processor, and by rule the answers to the patients that it never saw. It is
    read from its file where there is one."""
    file = file_of(bench, name, rate, fold, seed, epochs)
    if file.is_file():
        return read_json(file)
    rows, (network, options) = bench.rows(fold), RIVALS[name]
    asked = rows[rows["part"] != "train"] if fold == 0 else rows[rows["part"] == "test"]
    model = {"task": "movement", "variant": name, "network": network, "labels": bench.labels, "options": options}
    model |= {"frames": bench.block.extract.frames, "size": bench.block.preprocess.size}
    changes = {"epochs": epochs, "patience": epochs, "learning_rate": rate}
    settings, start = bench.block.train.model_copy(update=changes), time.process_time()
    with tempfile.TemporaryDirectory() as place, chdir(place), patch.object(fitting, "Epochs", EveryEpoch):
        _, fitted, _ = train_once(model, rows, bench.data, settings, fold, seed, bench.machines)
        seconds = time.process_time() - start
        saved = {epoch: load_file(f"epoch-{epoch}.safetensors") for epoch in range(1, len(fitted.curves) + 1)}
    lowest = int(fitted.curves.set_index("epoch")["val_loss"].idxmin())
    wanted = {rule: shares for rule, shares in rules(len(saved), lowest).items() if fold or rule == KEPT}
    answers = {}
    for rule, shares in wanted.items():
        net = build(network, model["frames"], model["size"], len(bench.labels), **options)
        net.load_state_dict(averaged((saved[epoch] for epoch in sorted(shares)), map(shares.get, sorted(shares))))
        found = answer_rows(net, asked, bench.data, bench.labels).probabilities.argmax(axis=1)
        answers[rule] = [bench.labels[each] for each in found]
    truth = asked["label"].tolist()
    result = {"name": name, "rate": rate, "epochs": epochs, "fold": fold, "seed": seed, "cpu_s": round(seconds, 1)}
    result |= {"sequence": asked["sequence"].tolist(), "patient": asked["patient"].tolist(), "truth": truth}
    result |= {"answers": answers, "curves": fitted.curves.drop(columns="seconds").to_dict("list")}
    write_json(file, result)
    print(f"{file.stem}, {name}: {np.mean(np.array(answers[KEPT]) == truth):.3f}, {seconds:.0f} s", flush=True)
    return result


def right(result: dict[str, Any], rule: str = KEPT) -> float:
    return float(np.mean(np.array(result["answers"][rule]) == result["truth"]))


def tuned(bench: Bench, name: str, read: bool = False) -> dict[float, dict[str, Any]]:
    """The trainings that tune a rival, by learning rate, the best one first. read: only those that have a file."""
    name = BLIND.get(name, name)
    rates = [rate for rate in RATES if not read or file_of(bench, name, rate, 0, 0, bench.tuning_epochs).is_file()]
    found = {rate: trained(bench, name, rate, 0, 0, bench.tuning_epochs) for rate in rates}
    return dict(sorted(found.items(), key=lambda item: -right(item[1])))


def by_patient(results: list[dict[str, Any]], labels: list[str], rule: str = KEPT) -> np.ndarray:
    """Confusion int64 [patients, C, C], all folds and seeds added up."""
    table = pd.concat(
        pd.DataFrame({"patient": r["patient"], "truth": r["truth"], "answer": r["answers"][rule]}) for r in results
    )
    codes = pd.Index(labels)
    patient = np.unique(table["patient"], return_inverse=True)[1]
    truth, answer = codes.get_indexer(table["truth"]), codes.get_indexer(table["answer"])
    return confusion_by_patient(truth, answer, patient, len(labels))


def accuracy(counts: np.ndarray) -> np.ndarray:
    return summary_metrics(counts)["accuracy"]


def interval(counts: np.ndarray) -> tuple[float, float]:
    """95 % for the accuracy, by the bootstrap over patients."""
    draws = bootstrap(lambda w: {"accuracy": accuracy(np.tensordot(w, counts, 1))}, len(counts), DRAWS, 0)
    low, high = percentile_interval(draws["accuracy"], 0.95, len(counts))
    return float(low), float(high)


def tuning_claims(bench: Bench, trials: dict[str, dict[float, dict[str, Any]]]) -> list[dict[str, Any]]:
    """One claim for each rival that was tuned: its best trial."""
    found = []
    for name, results in trials.items():
        if name in BLIND or not results:
            continue
        best = next(iter(results.values()))
        counts = by_patient([best], bench.labels)
        figures = {"network": name, "accuracy": float(accuracy(counts.sum(axis=0))), "bounds": interval(counts)}
        figures |= {"trials": len(results), "epochs": bench.tuning_epochs, "rate": best["rate"]}
        figures |= {"chance": 1 / len(bench.labels), "training_accuracy": best["curves"]["train_accuracy"][-1]}
        said = (
            "{network} gives the right label to {accuracy} {bounds} of the sequences of the patients who choose its "
            "learning rate, with the best of {trials} trials of {epochs} epochs; chance is {chance}."
        )
        found.append(claim(bench, [best], said, figures, "measured"))
    return found


def claims(bench: Bench, tested: dict[str, list[dict[str, Any]]], rates: dict[str, float]) -> list[dict[str, Any]]:
    """One claim for each rival, against OURS, and one for each rule of the kept epoch."""
    counts = {name: by_patient(results, bench.labels) for name, results in tested.items()}
    others = [name for name in tested if name != OURS]
    tests = {name: difference(counts[name], counts[OURS], accuracy) for name in others} if OURS in tested else {}
    p = dict(zip(tests, holm([test.p_unequal() for test in tests.values()]), strict=True))
    found = []
    for name, results in tested.items():
        figures: dict[str, Any] = {"network": name, "accuracy": float(accuracy(counts[name].sum(axis=0)))}
        figures |= {"bounds": interval(counts[name]), "rate": rates[name]}
        figures |= {"processor_seconds": float(np.mean([r["cpu_s"] for r in results]))}
        ends = [r["curves"]["train_accuracy"][-1] for r in results]
        figures |= {"training_accuracy": float(np.mean(ends)), "epochs": bench.epochs}
        said, outcome = "{network} gives the right label to {accuracy} {bounds} of the sequences", "measured"
        if name in tests:
            figures |= {"ours": OURS, "gain": tests[name].difference, "between": tests[name].interval(0.95)}
            figures |= {"p": p_text(p[name])}
            said += "; {ours} answers {gain:+.3f} {between} more of them rightly, {p} (Holm)"
            larger = "worse" if tests[name].difference > 0 else "better"
            outcome = larger if p[name] < ALPHA else "no difference"
        found.append(claim(bench, results, said + ".", figures, outcome))
    return found + kept_claims(bench, tested)


def kept_claims(bench: Bench, tested: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """What each rule of `kept_epoch` gives on all rivals that see movement, against the lowest validation loss."""
    results = [each for name, found in tested.items() if name not in BLIND for each in found]
    if not results:
        return []
    counts = {rule: by_patient(results, bench.labels, rule) for rule in results[0]["answers"]}
    found = []
    for rule in [rule for rule in counts if rule != "lowest"]:
        test = difference(counts["lowest"], counts[rule], accuracy)
        figures = {"rule": rule, "accuracy": test.second, "lowest": test.first, "gain": test.difference}
        figures |= {"between": test.interval(0.95), "p": p_text(test.p_unequal()), "trainings": len(results)}
        said = (
            "The weights of the rule '{rule}' give the right label to {accuracy} of the sequences, those of the epoch "
            "with the lowest validation loss to {lowest}: {gain:+.3f} {between}, {p}, over {trainings} trainings."
        )
        outcome = "no difference" if test.p_unequal() >= ALPHA else "better" if test.difference > 0 else "worse"
        found.append(claim(bench, results, said, figures, outcome))
    return found


def claim(
    bench: Bench, results: list[dict[str, Any]], said: str, figures: dict[str, Any], outcome: str
) -> dict[str, Any]:
    folds, seeds = sorted({r["fold"] for r in results}), sorted({r["seed"] for r in results})
    patients = {patient for r in results for patient in r["patient"]}
    sequences = {sequence for r in results for sequence in r["sequence"]}
    about = machine()
    return {
        "claim": said,
        "figures": figures,
        "data": f"synthetic hospital, profile moving, seed {bench.block.phantom.seed}",
        "split_unit": "patient",
        "n": {"test sequences": len(sequences), "test patients": len(patients), "folds": len(folds)},
        "seeds": seeds,
        "interval": "95 %, bootstrap over patients; differences by the jackknife over patients",
        "command": f"python -m benchmarks movement_rivals FOLDER --folds {int(bench.parts['fold'].max())} "
        f"--seeds {len(seeds)} --epochs {bench.epochs} --tuning-epochs {bench.tuning_epochs}",
        "machine": f"{about['processor']}, {about['cores']} cores",
        "date": date.today().isoformat(),
        "outcome": outcome,
    }


def curves(results: list[dict[str, Any]]) -> pd.DataFrame:
    """One row for each epoch of each training."""
    keys = ("name", "rate", "epochs", "fold", "seed")
    return pd.concat(pd.DataFrame(r["curves"]).assign(**{key: r[key] for key in keys}) for r in results)


def table(found: list[dict[str, Any]]) -> str:
    lines = ["| outcome | claim |", "|---|---|"]
    return "\n".join(lines + [f"| {each['outcome']} | {Claim.model_validate(each).sentence} |" for each in found])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--folds", type=int, default=5, help="parts of the patients that are tested")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--tuning-epochs", type=int, help="epochs of the trainings that tune; default: --epochs")
    parser.add_argument("--networks", nargs="+", choices=RIVALS, default=list(RIVALS))
    parser.add_argument(
        "--stage", choices=("tuning", "all", "read"), default="all", help="read: train nothing, and write what is there"
    )
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    block = load_settings(prepare(chosen.folder, profiles=["moving"]) / "params.yaml").blocks["movement"]
    manifest, data = manifest_of(chosen.folder, block)
    manifest = manifest.drop(columns="part", errors="ignore")
    parts = split(manifest, Split(kind="grouped", folds=chosen.folds + 1))
    folder = (chosen.folder / "rivals").absolute()
    bench = Bench(
        folder,
        data.absolute(),
        block,
        manifest,
        parts,
        sorted(set(manifest["label"])),
        chosen.epochs,
        chosen.tuning_epochs or chosen.epochs,
    )
    trials = {name: tuned(bench, name, chosen.stage == "read") for name in chosen.networks}
    rates = {name: next(iter(found)) for name, found in trials.items() if found}
    print(", ".join(f"{name}: learning rate {rate:g}" for name, rate in rates.items()), flush=True)
    runs = list(product(range(chosen.seeds), range(1, chosen.folds + 1)))
    if chosen.stage != "all":  # only what all networks have
        wanted = {run: [file_of(bench, n, rates[n], *run[::-1], chosen.epochs) for n in rates] for run in runs}
        runs = [run for run, files in wanted.items() if all(file.is_file() for file in files)]
    tested: dict[str, list[dict[str, Any]]] = {name: [] for name in rates} if runs else {}
    for (seed, fold), name in product(runs, rates):
        tested[name].append(trained(bench, name, rates[name], fold, seed, chosen.epochs))
    results = [
        *(r for found in trials.values() for r in found.values()),
        *(r for each in tested.values() for r in each),
    ]
    write_table(folder / "curves.csv", curves(results))
    found = [*tuning_claims(bench, trials), *claims(bench, tested, rates)]
    print(table(found))
    print(write_claims("movement_rivals", found))


if __name__ == "__main__":
    main()
