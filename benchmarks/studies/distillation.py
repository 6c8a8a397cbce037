"""What an ensemble of networks is worth, its mirror images, and one network that learned from it.

    python -m benchmarks distillation workspaces/demo OUT --folds 5 --only 0 1

The patients of a finished run are divided into `--folds` parts, and every part is tested by networks that never saw its
patients. For each fold of `--only` and each seed these are compared, by the paired test over patients:

- network: one network, as the train stage makes it without `train.distil`;
- mirror: the same network, the mean of its answers to a sequence and to the mirror image;
- ensemble: the mean of the teachers, each trained without two groups of the training patients;
- ensemble and mirror: the same, each teacher asked with the mirror image as well;
- distilled: one network that learned from these teachers (`fetalflow/training/distilling.py`).

OUT keeps the answers of each fold, so that a run that was ended goes on. The first command line without `--only` tests
all folds. Nothing is chosen on test patients: the number of teachers and their share are given.
"""

import argparse
import shutil
import time
from collections.abc import Callable
from contextlib import chdir
from datetime import date
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from benchmarks.claims import NONE, Claim, write_claims
from fetalflow.artefacts import read_json, write_json
from fetalflow.evaluation.certainty.fitting import fit
from fetalflow.evaluation.certainty.seen import seen
from fetalflow.evaluation.predictions import Predictions, check_predictions
from fetalflow.evaluation.scoring import score
from fetalflow.evaluation.significance import compare_all
from fetalflow.inference.latency import machine
from fetalflow.sequences.split import split
from fetalflow.settings.params import Evaluate, Settings, Significance, Split, load_settings
from fetalflow.training.distilling import answer, answers_of, asks_mirrored, mean_of, targets, teachers
from fetalflow.training.loading import check_sequences
from fetalflow.training.one_run import train_once

BASE = "network"  # what the others are compared with
ENSEMBLE, MIRROR, DISTILLED = "ensemble", "mirror", "distilled"
SYSTEMS = (BASE, MIRROR, ENSEMBLE, f"{ENSEMBLE} and {MIRROR}", DISTILLED)
TIMED = 20  # answers of each system
LEVEL = 0.9  # of the sets


def of_one_training(
    settings: Settings, task: str, network: str, data: Path, rows: pd.DataFrame, fold: int, seed: int
) -> tuple[pd.DataFrame, dict[str, float]]:
    """The answers of all systems to the validation and test patients of a fold, and ms of the processor by system."""
    block, machines = settings.blocks[task], settings.machines
    train = block.train
    options = settings.variant(task, network).options if network in settings.variants(task) else {}
    model = {"task": task, "variant": network, "network": network, "options": options}
    model |= {"labels": list(block.extract.labels), "frames": block.extract.frames, "size": block.preprocess.size}
    asked, labels = rows[rows["part"] != "train"], model["labels"]
    mirrors = asks_mirrored(train, labels)
    plain = train.model_copy(update={"distil": 0})
    alone, _, _ = train_once(model, rows, data, plain, fold, seed, machines)
    taught, networks, answers = [], [], {False: [], True: []}
    for teacher in teachers(model, rows, data, train, fold, seed, machines):
        taught.append(answers_of(teacher, data, labels, mirrors))
        for mirrored, of in answers.items():
            of.append(answer(teacher.network, asked, data, labels, mirrored))
        networks.append(teacher.network)
    learned = targets(rows[rows["part"] == "train"], labels, mean_of(taught), train.distil_share)
    student, _, _ = train_once(model, rows, data, train, fold, seed, machines, taught=learned)
    found = {BASE: answer(alone, asked, data, labels, False), MIRROR: answer(alone, asked, data, labels, True)}
    found |= {ENSEMBLE: mean_of(answers[False]), f"{ENSEMBLE} and {MIRROR}": mean_of(answers[True])}
    found |= {DISTILLED: answer(student, asked, data, labels, False)}
    facts = asked[["sequence", "patient", "site", "part"]].assign(y_true=asked["label"], fold=fold, seed=seed)
    tables = [with_answers(facts.assign(system=name), each) for name, each in found.items()]
    calls = {BASE: [alone], MIRROR: [alone] * 2, ENSEMBLE: networks, f"{ENSEMBLE} and {MIRROR}": networks * 2}
    return pd.concat(tables), milliseconds(calls | {DISTILLED: [student]}, model["frames"], model["size"])


def with_answers(facts: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """`facts` with the probabilities of its sequences, whatever index and order the two have."""
    return facts.merge(answers.add_prefix("p_"), left_on="sequence", right_index=True, validate="one_to_one")


def milliseconds(calls: dict[str, list[nn.Module]], frames: int, size: int) -> dict[str, float]:
    """Median time of the processor for one answer, one sequence at a time, on one thread. The systems take turns."""
    batch = torch.rand(1, frames, size, size, generator=torch.Generator().manual_seed(0))
    times: dict[str, list[float]] = {name: [] for name in calls}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        for _, (name, networks) in product(range(TIMED + 1), calls.items()):
            start = time.thread_time()
            for network in networks:
                network.eval()(batch)
            times[name].append(1000 * (time.thread_time() - start))
    torch.set_num_threads(threads)
    return {name: float(np.median(each[1:])) for name, each in times.items()}  # the first call allocates memory


def answered(
    out: Path, fold: int, seed: int, ask: Callable[[], tuple[pd.DataFrame, dict[str, float]]]
) -> tuple[pd.DataFrame, dict[str, float]]:
    """The answers of one training and its times, from the files of `out` where they are."""
    table, times = (out / f"fold-{fold}-seed-{seed}.{ending}" for ending in ("parquet", "json"))
    if not times.is_file():
        with chdir(out):  # the checkpoints are written there
            found, ms = ask()
        found.to_parquet(table, index=False)
        write_json(times, ms)
        shutil.rmtree(out / "checkpoints", ignore_errors=True)
    return pd.read_parquet(table), read_json(times)


def predictions(table: pd.DataFrame, system: str, part: str) -> Predictions:
    return check_predictions(table[table["system"] == system].drop(columns="system"), system, part)


def claims(table: pd.DataFrame, ms: dict[str, float], about: dict[str, Any]) -> list[dict[str, Any]]:
    """One claim for each system. table: the answers of all folds and seeds. ms: by system. about: the other fields."""
    tests = {name: predictions(table, name, "test") for name in SYSTEMS}
    compared = compare_all(tests[BASE], {name: tests[name] for name in SYSTEMS[1:]}, Significance(), BASE)
    return [claim(name, table, tests[name], compared["comparisons"].get(name), ms, about) for name in SYSTEMS]


def claim(
    name: str,
    table: pd.DataFrame,
    test: Predictions,
    compared: dict[str, Any] | None,
    ms: dict[str, float],
    about: dict[str, Any],
) -> dict[str, Any]:
    settings = Evaluate(level=LEVEL)
    metrics = score(test, settings)["metrics"]
    sets = seen(test, fit(predictions(table, name, "validation"), LEVEL), settings)["labels"]
    figures = {"system": name, "accuracy": metrics["accuracy"], "ece": sets["before"]["ece"]}
    figures |= {"ece_with_temperature": sets["after"]["ece"], "level": sets["level"], "size": sets["all"]["size"]}
    figures |= {"coverage": sets["all"]["coverage"], "ms": ms[name]}
    said = "{system}: the label is right for {accuracy}" + bounds(figures, "accuracy", metrics, "accuracy")
    said += " of the sequences"
    outcome = "measured"
    if compared:
        of_patients = compared["tests"]["paired_patients"]
        figures |= {"gain": -compared["difference"], "p": of_patients["p_holm"]}
        said += ", {gain:+.3f}"
        if of_patients["low"] is not None:
            figures["between"] = (-of_patients["high"], -of_patients["low"])
            said += " {between}"
        said += " against one network, p = {p} (Holm)"
        proven = figures["p"] is not None and figures["p"] < 0.05
        outcome = ("better" if figures["gain"] > 0 else "worse") if proven else "no difference"
    said += "; ECE {ece}, with the temperature {ece_with_temperature}; sets at {level:.0%} hold the true label for "
    said += "{coverage:.1%}" + bounds(figures, "coverage", sets["all"], "coverage") + ", with {size} labels; "
    said += "an answer takes {ms:.1f} ms of one core."
    known = any(isinstance(value, tuple) for value in figures.values())
    return about | {
        "claim": said,
        "figures": figures,
        "n": {"test sequences": len(test.table), "test patients": int(test.table["patient"].nunique())},
        "interval": "95 %, over patients (bootstrap; differences paired)" if known else f"{NONE}too few patients",
        "outcome": outcome,
    }


def bounds(figures: dict[str, Any], name: str, found: dict[str, Any], key: str) -> str:
    """Put the interval of `key` into `figures`, and answer its place in the sentence; empty where there is none."""
    if found.get(f"{key}_low") is None:
        return ""
    figures[f"{name}_bounds"] = (found[f"{key}_low"], found[f"{key}_high"])
    return f" {{{name}_bounds}}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workspace", type=Path, help="a finished run")
    parser.add_argument("out", type=Path, help="a folder for the answers")
    parser.add_argument("--task", default="movement")
    parser.add_argument("--network", default="fetalmovnet_s", help="with the options of that variant, where it is one")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--only", type=int, nargs="+", help="the folds to test; default: all")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--teachers", type=int, default=5)
    parser.add_argument("--share", type=float, default=0.5, help="of the teachers in what is learned")
    parser.add_argument("--epochs", type=int, help="default: those of the run")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--name", default="distillation", help="of the result file")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    settings, data = (
        load_settings(chosen.workspace / "params.yaml"),
        (chosen.workspace / "data" / chosen.task).resolve(),
    )
    block = settings.blocks[chosen.task]
    epochs = chosen.epochs or block.train.epochs
    changes = {"distil": chosen.teachers, "distil_share": chosen.share, "epochs": epochs, "patience": epochs}
    block = block.model_copy(update={"train": block.train.model_copy(update=changes)})
    settings = settings.model_copy(update={"blocks": settings.blocks | {chosen.task: block}})
    manifest = pd.read_parquet(data / "manifest.parquet").drop(columns="part", errors="ignore")
    check_sequences(manifest, data)
    parts = split(manifest, Split(kind="grouped", folds=chosen.folds))
    out = chosen.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    folds = range(chosen.folds) if chosen.only is None else chosen.only
    tables, times = [], []
    for seed, fold in product(range(chosen.seeds), folds):
        rows = manifest.merge(parts.loc[parts["fold"] == fold, ["sequence", "part"]], on="sequence")
        ask = partial(of_one_training, settings, chosen.task, chosen.network, data, rows, fold, seed)
        table, ms = answered(out, fold, seed, ask)
        tables.append(table)
        times.append(ms)
    about = facts(chosen, settings, [*folds], epochs)
    found = claims(pd.concat(tables), {name: float(np.median([ms[name] for ms in times])) for name in SYSTEMS}, about)
    for each in found:
        print(f"{each['outcome']}: {Claim.model_validate(each).sentence}")
    print(write_claims(chosen.name, found))


def facts(chosen: argparse.Namespace, settings: Settings, folds: list[int], epochs: int) -> dict[str, Any]:
    """The fields that all claims have alike."""
    machine_now, phantom = machine(), settings.blocks[chosen.task].phantom
    only = "" if len(folds) == chosen.folds else f" --only {' '.join(map(str, folds))}"
    where = (
        f"synthetic hospital, seed {phantom.seed}, {phantom.patients} patients"
        if chosen.task in settings.phantoms
        else f"the drop {Path(settings.tasks[chosen.task].drop).name}"
    )
    return {
        "data": f"{where}; {chosen.network}, {epochs} epochs, {len(folds)} of {chosen.folds} folds, {chosen.teachers} "
        f"teachers with a share of {chosen.share:g}",
        "split_unit": "patient",
        "seeds": [*range(chosen.seeds)],
        "command": f"python -m benchmarks distillation {chosen.workspace.name} OUT --task {chosen.task} --network "
        f"{chosen.network} --folds {chosen.folds}{only} --seeds {chosen.seeds} --teachers {chosen.teachers} --share "
        f"{chosen.share:g} --epochs {epochs}",
        "machine": f"{machine_now['processor']}, {chosen.threads} thread, torch {machine_now['torch']}",
        "date": date.today().isoformat(),
    }


if __name__ == "__main__":
    main()
