"""From a patient to everything that used their recordings: datasets, runs, versions of models, promotions.

Every run of a pipeline logs a table of its patients before anything else. It holds pseudonyms, as the manifest does,
and lies where the run's other artefacts lie, behind the same access rights. Every promotion that was decided keeps
its verdict and its answers with the challenger's run.
"""

import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from fetalflow.registry import Registry
from fetalflow.run_record import START_RUN

PATIENTS = "data/patients.csv"  # columns: patient, fold, part, sequences
EVIDENCE = "promotion"  # folder of a variant's run; in it one per decision, named by its evidence's digest
UNUSED = "in no part"  # of a sequence that the manifest has and the split leaves out


@dataclass(frozen=True)
class Version:
    """A registered model version that was made of a run, and the aliases that it has now."""

    model: str
    version: str
    variant: str
    aliases: tuple[str, ...]


@dataclass(frozen=True)
class Use:
    """A run that used the patient. `parts`: "train (fold 0)" and so on to number of sequences; none where she is in it
    only through the model that its training began with, which was made of the run `through`."""

    task: str
    dataset: str  # the manifest's digest
    run: str
    status: str
    started: str  # UTC
    parts: dict[str, int]
    variants: dict[str, str]  # variant to its run
    versions: tuple[Version, ...]
    through: str = ""


@dataclass(frozen=True)
class Decision:
    """A promotion in whose test part the patient was."""

    model: str
    version: str  # the challenger
    champion: str | None  # the version it was compared with
    decision: str  # keep or promote
    made: str  # UTC
    evidence: str  # digest
    sequences: int  # hers


@dataclass(frozen=True)
class Lineage:
    """`uses`, oldest first; `decisions` likewise; `asked`: runs whose table was read; `unanswered`: runs without."""

    uses: list[Use]
    asked: int
    unanswered: list[str]
    decisions: list[Decision]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def patients_table(manifest: pd.DataFrame, split: pd.DataFrame) -> str:
    """CSV of patient, fold, part, sequences: every patient of the manifest, in the split or not."""
    placed = manifest[["sequence", "patient"]].merge(split[["sequence", "fold", "part"]], on="sequence", how="left")
    placed["fold"] = placed["fold"].fillna(0).astype(int)
    placed["part"] = placed["part"].fillna(UNUSED)
    counts = placed.groupby(["patient", "fold", "part"]).size().rename("sequences").reset_index()
    return counts.to_csv(index=False)


def trace(store: Registry, pseudonym: str) -> Lineage:
    """Every run that used the patient of `pseudonym`, deleted ones included, and the versions made of it."""
    uses, asked, unanswered, decisions = [], 0, [], []
    aliases = store.models()[0]
    for run in store.pipeline_runs():
        decisions += _decisions(store, run, pseudonym)
        table = store.artefact(run.info.run_id, PATIENTS)
        if table is None:
            unanswered.append(run.info.run_id)
            continue
        asked += 1
        rows = pd.read_csv(io.StringIO(table), dtype={"patient": str}, keep_default_na=False)
        rows = rows[rows["patient"] == pseudonym]
        start = run.data.tags.get(START_RUN, "")  # an older run, so it was looked at already
        through = start if start in {use.run for use in uses} else ""
        if len(rows) or through:
            uses.append(_use(store, run, rows, aliases, through))
    return Lineage(uses, asked, unanswered, sorted(decisions, key=lambda one: one.made))


def _decisions(store: Registry, run: Any, pseudonym: str) -> Iterator[Decision]:
    """The promotions that challengers of a pipeline's run stood for, of those that tested the patient."""
    for variant_run in store.variants(run).values():
        for folder in store.folders(variant_run, EVIDENCE):
            answers = store.artefact(variant_run, f"{folder}/challenger.csv")
            verdict = store.artefact(variant_run, f"{folder}/verdict.json")
            if answers is None or verdict is None:  # cut off while it was written: nothing was moved for it
                continue
            patients = pd.read_csv(io.StringIO(answers), dtype=str, usecols=["patient"], keep_default_na=False)
            if sequences := int((patients["patient"] == pseudonym).sum()):
                said = json.loads(verdict)
                yield Decision(
                    model=said["model"],
                    version=said["challenger"]["version"],
                    champion=said["champion"]["version"] if said["champion"] else None,
                    decision=said["decision"],
                    made=said["made"],
                    evidence=said["evidence_digest"],
                    sequences=sequences,
                )


def _use(store: Registry, run: Any, rows: pd.DataFrame, aliases: dict[str, dict[str, str]], through: str) -> Use:
    variants = store.variants(run)
    versions = []
    for variant, variant_run in variants.items():
        for model, version in store.versions_of(variant_run):
            held = tuple(sorted(a for a, v in aliases.get(model, {}).items() if v == version))
            versions.append(Version(model, version, variant, held))
    return Use(
        task=run.data.tags.get("task", ""),
        dataset=run.data.tags["data_digest"],
        run=run.info.run_id,
        status=run.info.status + (", deleted" if run.info.lifecycle_stage == "deleted" else ""),
        started=pd.Timestamp(run.info.start_time, unit="ms").isoformat(timespec="seconds") + "Z",
        parts={f"{row.part} (fold {row.fold})": int(row.sequences) for row in rows.itertuples()},
        variants=variants,
        versions=tuple(versions),
        through=through,
    )


def sentences(lineage: Lineage) -> Iterator[str]:
    """The lineage for a person, line by line."""
    datasets = sorted({use.dataset for use in lineage.uses})
    versions = [version for use in lineage.uses for version in use.versions]
    if not lineage.uses and not lineage.decisions:
        yield "No dataset, run, model or promotion used a patient of this pseudonym."
    else:
        yield (
            f"{len(datasets)} datasets, {len(lineage.uses)} runs, {len(versions)} model versions and "
            f"{len(lineage.decisions)} promotions used this patient."
        )
    for dataset in datasets:
        yield f"dataset {dataset}"
        for use in (use for use in lineage.uses if use.dataset == dataset):
            parts = ", ".join(f"{count} sequences in {part}" for part, count in use.parts.items()) or "no sequence"
            parts += f"; it began with a model of run {use.through}" if use.through else ""
            yield f"  run {use.run} of {use.task}, {use.started}, {use.status}: {parts}"
            for variant, run in use.variants.items():
                yield f"    variant {variant}, run {run}"
            for made in use.versions:
                held = f", now {', '.join(made.aliases)}" if made.aliases else ""
                yield f"    model {made.model} version {made.version} ({made.variant}){held}"
    for one in lineage.decisions:
        against = f"against champion {one.champion}" if one.champion else "as the first champion"
        yield (
            f"promotion of {one.model} version {one.version} {against}, {one.made[:19]}Z, decided {one.decision}: "
            f"{one.sequences} sequences in the test; evidence {one.evidence}"
        )
    yield f"{lineage.asked} runs were asked."
    if lineage.unanswered:
        yield f"{len(lineage.unanswered)} runs keep no table of patients, so they cannot say: " + ", ".join(
            lineage.unanswered
        )
