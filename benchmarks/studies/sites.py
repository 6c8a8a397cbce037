"""How much accuracy a network loses at a site that it never saw, and which measures win it back.

    python -m benchmarks sites --seeds 3

Leave-one-site-out on the synthetic hospital at the demo's scale, one training for each row, site and seed, with the
settings of params.yaml. Every row's predictions are kept in DATA/sites/NETWORK (docs/ml-lead/evaluation.md;
`fetalflow compare` reads them), and a row whose predictions are there is not trained again. The table is printed as
Markdown. docs/ml-lead/sites.md says what follows.
"""

import argparse
import shutil
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from fetalflow.artefacts import atomic_folder, file_digest, read_json, write_json, write_table, write_text
from fetalflow.errors import InputError
from fetalflow.evaluation.holm import holm
from fetalflow.evaluation.intervals import LEAST_PATIENTS, in_words
from fetalflow.evaluation.paired import mean, sums
from fetalflow.evaluation.predictions import read_predictions
from fetalflow.evaluation.scoring import score
from fetalflow.evaluation.significance import paired_patients
from fetalflow.hospital.phantom.movement.hospital import make_drop
from fetalflow.inference.latency import machine
from fetalflow.models.building import build, known_options
from fetalflow.models.parts.harmonise import standardise
from fetalflow.sequences.extraction import extract_drop
from fetalflow.sequences.preprocessing import preprocess
from fetalflow.sequences.split import PARTS, split
from fetalflow.settings.params import Evaluate, Significance, Split, TaskSettings, Train, load_settings
from fetalflow.training.answers import answer_dataset
from fetalflow.training.batch_norm import has_batch_norm, refresh_batch_norm
from fetalflow.training.checkpoints import training_digest
from fetalflow.training.fitting import fit_network
from fetalflow.training.loading import SequenceDataset, check_sequences, training_loader

ROOT = Path(__file__).parents[2]
OFF = {"device_augment": False, "drift_augment": 0.0, "align": 0.0}
BATCH = 32  # sequences that are answered, or that batch norm is refreshed with, at once
REFERENCE = "none"


@dataclass(frozen=True)
class Row:
    """What is done about new sites. train: changes to the settings of training."""

    said: str
    split: Split = Split(kind="site")
    train: dict[str, Any] = field(default_factory=dict)
    harmonise: bool = False
    refresh: bool = False  # of batch norm, on the tested site's own sequences, without their labels

    @property
    def training(self) -> str:
        """Rows that differ in nothing but the refresh share their trainings."""
        return str(asdict(replace(self, said="", refresh=False)))


def rows(align: float, drift: float) -> dict[str, Row]:
    return {
        "within": Row("within sites (5 folds by patient)", Split(folds=5)),
        REFERENCE: Row("new site, no measure"),
        "harmonise": Row("harmonised", harmonise=True),
        "devices": Row("other devices' look", train={"device_augment": True}),
        "drift": Row(f"probe drift of {drift:g}", train={"drift_augment": drift}),
        "refresh": Row("batch norm refreshed at the site (transductive)", refresh=True),
        "coral": Row(f"CORAL, weight {align:g}", train={"align": align}),
    }


def combined(names: list[str], parts: list[Row]) -> Row:
    train = {key: value for part in parts for key, value in part.train.items()}
    tells = {"harmonise": any(p.harmonise for p in parts), "refresh": any(p.refresh for p in parts)}
    return Row(" + ".join(names), train=train, **tells)


def manifest_of(folder: Path, settings: TaskSettings) -> tuple[pd.DataFrame, Path]:
    """The manifest of the workspace `folder` and the folder of its data; the drop is made where there is none."""
    data = folder / "data" / "movement"
    if not (data / "manifest.parquet").is_file():
        print(f"making the synthetic hospital's drop in {data}", flush=True)
        with atomic_folder(data / "drop") as drop:
            make_drop(settings.phantom, drop)
        found = extract_drop(data / "drop", settings.extract, data / "frames")
        size = settings.preprocess.size
        made = preprocess(found.sequences, data / "frames", data / "sequences", size, settings.extract.workers)
        write_table(data / "manifest.parquet", made)
    manifest = pd.read_parquet(data / "manifest.parquet")
    check_sequences(manifest, data)
    return manifest, data


class Bench:
    """One network on one manifest: trains rows, keeps what they answer."""

    def __init__(self, chosen: argparse.Namespace, settings: TaskSettings, options: dict[str, Any]):
        self.manifest, self.data = manifest_of(chosen.data, settings)
        self.folder = chosen.data / "sites" / chosen.network
        self.network, self.seeds = chosen.network, range(chosen.seeds)
        self.options = options
        self.train = settings.train.model_dump() | OFF | ({"epochs": chosen.epochs} if chosen.epochs else {})
        self.labels = list(settings.extract.labels or sorted(set(self.manifest["label"])))
        self.shape = np.load(self.data / self.manifest["path"].iloc[0], mmap_mode="r").shape

    def settings(self, row: Row) -> Train:
        return Train.model_validate(self.train | row.train)

    def facts(self, row: Row) -> dict[str, Any]:
        """All that decides what `row` answers but the code."""
        facts = {"network": self.network, "options": self.options, "train": self.settings(row).model_dump(mode="json")}
        facts |= {"split": row.split.model_dump(), "harmonise": row.harmonise, "refresh": row.refresh}
        return facts | {"seeds": len(self.seeds), "manifest": file_digest(self.data / "manifest.parquet")}

    def is_kept(self, name: str, row: Row) -> bool:
        kept = self.folder / f"{name}.json"
        return kept.is_file() and read_json(kept) == self.facts(row)

    def build(self, row: Row) -> nn.Module:
        takes = "harmonise" in known_options(self.network)
        options = self.options | ({"harmonise": "standardise" if row.harmonise else "none"} if takes else {})
        network = build(self.network, *self.shape[:2], len(self.labels), **options)
        if row.harmonise and not takes:
            network.register_forward_pre_hook(lambda _, inputs: (standardise(inputs[0]),))
        return network

    def answer(self, wanted: dict[str, Row]) -> None:
        """Train once for all of `wanted`, which share their trainings, and write the answers of each."""
        plain_first = sorted(wanted.items(), key=lambda pair: pair[1].refresh)
        row, answers, runs = plain_first[0][1], {name: [] for name in wanted}, []
        parts, train = split(self.manifest, row.split), self.settings(row)
        for fold, seed in product(sorted(set(parts["fold"])), self.seeds):
            named = parts.loc[parts["fold"] == fold, ["sequence", "part"]]
            of_fold = self.manifest.drop(columns="part", errors="ignore").merge(named, on="sequence")
            by_part = {part: of_fold[of_fold["part"] == part] for part in PARTS}
            sets = {
                part: SequenceDataset(some, self.data, self.labels, sites=part == "train" and train.align > 0)
                for part, some in by_part.items()
            }
            torch.manual_seed(seed)
            network = self.build(row)
            run = self.folder / "checkpoints" / training_digest(self.facts(row) | {"seed": seed}, of_fold)
            runs.append(run)
            fitted = fit_network(
                network, sets["train"], sets["validation"], train, seed, run, len(self.labels), lambda _: None
            )
            network.to(fitted.device)
            for name, each in plain_first:
                if each.refresh:
                    refresh_batch_norm(network, training_loader(sets["test"], BATCH, seed))
                table = self.predictions(network, by_part["test"], sets["test"])
                answers[name].append(table.assign(variant=name, fold=fold, seed=seed))
                right = (table["y_true"] == table["y_pred"]).mean()
                print(f"{name}, fold {fold}, seed {seed}: accuracy {right:.3f} of {len(table)} sequences", flush=True)
        for name, each in wanted.items():
            write_table(self.folder / f"{name}.csv", pd.concat(answers[name]))
            write_json(self.folder / f"{name}.json", self.facts(each))
        for run in runs:
            shutil.rmtree(run)

    def predictions(self, network: nn.Module, tested: pd.DataFrame, sequences: SequenceDataset) -> pd.DataFrame:
        p, _ = answer_dataset(network, sequences, BATCH)
        table = tested[["sequence", "patient", "site", "device"]].assign(part="test", y_true=tested["label"])
        table["y_pred"] = np.array(self.labels)[p.argmax(1)]
        return table.assign(**{f"p_{label}": p[:, i] for i, label in enumerate(self.labels)})

    def ensure(self, wanted: dict[str, Row]) -> None:
        """Train those of `wanted` whose answers are not kept."""
        missing = {name: row for name, row in wanted.items() if not self.is_kept(name, row)}
        for training in dict.fromkeys(row.training for row in missing.values()):
            self.answer({name: row for name, row in missing.items() if row.training == training})

    def against_reference(self, name: str) -> dict[str, float]:
        """Difference in accuracy to no measure, over sequences and seeds, with whole patients as units."""
        first, second = (read_predictions(self.folder / f"{n}.csv").table for n in (name, REFERENCE))
        keys = ["sequence", "seed"]
        both = first.merge(second, on=[*keys, "patient", "y_true"], suffixes=("", "_none"), validate="one_to_one")
        patient = np.unique(both["patient"], return_inverse=True)[1]
        right = [sums(both["y_true"] == both[column], patient) for column in ("y_pred", "y_pred_none")]
        return paired_patients(*right, mean, Significance())

    def table(self, wanted: dict[str, Row]) -> str:
        """Markdown; p is corrected by Holm over the rows."""
        shown = {name: row for name, row in wanted.items() if self.is_kept(name, row)}
        others = [name for name in shown if name != REFERENCE]
        found = {n: self.against_reference(n) for n in others} if REFERENCE in shown else {}
        p = dict(zip(found, holm([each["p"] for each in found.values()]), strict=True))
        sites = sorted(set(self.manifest["site"]))
        lines = ["| | accuracy | mean class F1 | against no measure | p | " + " | ".join(sites) + " |"]
        lines.append("|" + "---|" * (5 + len(sites)))
        for name, row in shown.items():
            report = score(read_predictions(self.folder / f"{name}.csv"), Evaluate())
            cells = [row.said, *(interval(report["metrics"], key) for key in ("accuracy", "mean_class_f1"))]
            cells += [f"{interval(found[name], 'difference')}", f"{p[name]:.3g}"] if name in found else ["", ""]
            at = {each["site"]: f"{each['accuracy']:.3f}" for each in report["slices"]["site"]}
            lines.append("| " + " | ".join(cells + [at.get(site, "") for site in sites]) + " |")
        return "\n".join(lines)


def interval(figures: dict[str, float], name: str) -> str:
    form, ends = ("+.3f", ("low", "high")) if name == "difference" else (".3f", (f"{name}_low", f"{name}_high"))
    low, high = (figures[end] for end in ends)
    return f"{figures[name]:{form}} {in_words(low, high, LEAST_PATIENTS, form)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="fetalmovnet_s")
    parser.add_argument("--data", type=Path, default=ROOT / "workspaces" / "sites", help="a workspace; . is the demo's")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, help="instead of params.yaml's")
    parser.add_argument("--align", type=float, default=0.3, help="weight of CORAL")
    parser.add_argument(
        "--drift", type=float, default=0.1, help="reach of the probe's drift, share of the frame's side"
    )
    parser.add_argument("--only", nargs="+", metavar="ROW", help="train these; the table shows whatever is kept")
    parser.add_argument("--combine", nargs="+", metavar="ROW", help="measures of the last row; else those that helped")
    chosen = parser.parse_args()
    wanted = rows(chosen.align, chosen.drift)
    if wrong := sorted({*(chosen.only or [])} - {*wanted, "combination"}):
        raise InputError(f"no row is called {', '.join(wrong)}; rows: {', '.join([*wanted, 'combination'])}.")
    settings = load_settings(ROOT / "params.yaml")
    known = settings.variants("movement")
    options = settings.variant("movement", chosen.network).options if chosen.network in known else {}
    bench = Bench(chosen, settings.blocks["movement"], options)
    print(", ".join(f"{key} {value}" for key, value in machine().items()), flush=True)
    if not has_batch_norm(bench.build(wanted["refresh"])):
        print(f"{chosen.network} has no batch norm: the row refresh is left out.")
        del wanted["refresh"]
    measures = [name for name in wanted if name not in ("within", REFERENCE)]
    if chosen.combine and (len(chosen.combine) < 2 or set(chosen.combine) - set(measures)):
        raise InputError(f"--combine takes two or more of {', '.join(measures)}, found {', '.join(chosen.combine)}.")
    bench.ensure({name: row for name, row in wanted.items() if not chosen.only or name in chosen.only})

    known = [name for name in (REFERENCE, *measures) if bench.is_kept(name, wanted[name])]
    helped = chosen.combine or []
    if not helped and len(known) == 1 + len(measures):
        helped = [name for name in measures if bench.against_reference(name)["difference"] > 0]
    if len(helped) > 1:
        wanted["combination"] = combined(helped, [wanted[name] for name in helped])
        if not chosen.only or "combination" in chosen.only:
            bench.ensure({"combination": wanted["combination"]})
    table = bench.table(wanted)
    write_text(bench.folder / "table.md", table + "\n")
    print(table)


if __name__ == "__main__":
    main()
