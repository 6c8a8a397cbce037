"""Everything that used the recordings of a patient: datasets, runs, model versions, promotions.

Every run of a pipeline logs a table of its patients before anything else. The table contains pseudonyms, like the
manifest, and is an artefact of the run with the same access rights as the others. Every promotion decision keeps its
verdict and the predictions of both models as artefacts of the challenger's run.
"""

import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

from fetalflow.artefacts import named
from fetalflow.hospital.drop.spelling import near
from fetalflow.registry.client import Registry
from fetalflow.registry.run_record import START, START_RUN

PATIENTS = "data/patients.csv"  # columns: patient, site, fold, part, sequences; older runs have no site
EVIDENCE = "promotion"  # folder of a variant's run, with one folder per decision, named by the digest of the evidence
UNUSED = "in no part"  # part of a sequence that is in the manifest but not in the split
PRETRAINED = "pretraining"  # part of a file without labels that the main network was pretrained on


@dataclass(frozen=True)
class Version:
    """A model version that was registered from a run, and the aliases that it has now."""

    model: str
    version: str
    variant: str
    aliases: tuple[str, ...]


@dataclass(frozen=True)
class Use:
    """A run that used the patient. parts: number of sequences by "train (fold 0)" and so on; empty if the run used her
    only because its training started from a model of the run `through`. sites: of her recordings in this run."""

    task: str
    dataset: str  # the manifest's digest
    run: str
    status: str
    started: str  # UTC
    parts: dict[str, int]
    variants: dict[str, str]  # run id by variant
    versions: tuple[Version, ...]
    through: str = ""
    sites: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decision:
    """A promotion decision with the patient in the test part."""

    model: str
    version: str  # the challenger
    champion: str | None  # the version it was compared with
    decision: str  # keep or promote
    made: str  # UTC
    evidence: str  # digest
    sequences: int  # number of the patient's sequences


@dataclass(frozen=True)
class Lineage:
    """Uses and decisions, oldest first. runs_read: number of runs whose table of patients was read. starts_gone: runs
    whose training started from a model of a run that was purged, so nobody knows whom that model saw. damaged: what
    has not the form of a decision, as RUN/FOLDER."""

    uses: list[Use]
    runs_read: int
    runs_without_table: list[str]
    decisions: list[Decision]
    starts_gone: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        fields = asdict(self)
        fields["asked"], fields["unanswered"] = fields.pop("runs_read"), fields.pop("runs_without_table")
        return fields


def patients_csv(manifest: pd.DataFrame, split: pd.DataFrame, pretrained: pd.DataFrame | None = None) -> str:
    """CSV with the columns patient, site, fold, part, sequences, for all patients of the manifest, in the split or
    not. pretrained: patient and site of each file of the pretraining from which the main network started; files that
    name no patient are left out."""
    who = ["patient", *(["site"] if "site" in manifest else [])]
    placed = manifest[["sequence", *who]].apply(named)
    placed = placed.merge(split[["sequence", "fold", "part"]], on="sequence", how="left")
    placed["fold"] = placed["fold"].fillna(0).astype(int)
    placed["part"] = placed["part"].fillna(UNUSED)
    if pretrained is not None:  # in the first fold, of which the package is
        files = pretrained[who].apply(named).assign(fold=placed["fold"].min(), part=PRETRAINED)
        placed = pd.concat([placed, files[files["patient"] != ""]], ignore_index=True)
    counts = placed.groupby([*who, "fold", "part"]).size().rename("sequences").reset_index()
    return counts.to_csv(index=False)


def trace(store: Registry, pseudonym: str, site: str | None = None) -> Lineage:
    """Every run that used this patient, also deleted runs, with the model versions registered from it.

    pseudonym: her name in the manifest, or the pseudonym in a name SITE/PSEUDONYM. Runs of two sites may mean two
    patients by it: `site` leaves out what is known to be of another site.
    """
    uses, runs_read, runs_without_table, decisions = [], 0, [], []
    aliases, runs = store.models()[0], store.pipeline_runs()
    known, starts_gone, damaged = {run.info.run_id for run in runs}, [], []
    for run in runs:
        decisions += _decisions(store, run, pseudonym, site, damaged)
        if START in run.data.tags and run.data.tags.get(START_RUN) not in known:
            starts_gone.append(run.info.run_id)
        table = store.artefact(run.info.run_id, PATIENTS)
        if table is None:
            runs_without_table.append(run.info.run_id)
            continue
        if (rows := _patients_of(table)) is None:
            runs_without_table.append(run.info.run_id)
            continue
        runs_read += 1
        rows = rows[is_meant(rows, pseudonym, site)]
        start = run.data.tags.get(START_RUN, "")  # an older run, so `uses` has it already if it used the patient
        through = start if start in {use.run for use in uses} else ""
        if len(rows) or through:
            uses.append(_use(store, run, rows, aliases, through))
    decisions.sort(key=lambda one: one.made)
    return Lineage(uses, runs_read, runs_without_table, decisions, starts_gone, damaged)


def _patients_of(table: str) -> pd.DataFrame | None:
    """The table of a run's patients; None if it is damaged."""
    try:
        rows = pd.read_csv(io.StringIO(table), dtype=str, keep_default_na=False)
        return rows.astype({"fold": int, "sequences": int}) if {"patient", "part"} <= set(rows) else None
    except (ValueError, KeyError):
        return None


def is_meant(rows: pd.DataFrame, pseudonym: str, site: str | None) -> pd.Series:
    """Whether each row is about the patient who is searched. rows: patient, and perhaps site."""
    sites = named(rows["site"]) if "site" in rows else pd.Series("", index=rows.index)
    meant = (rows["patient"] == pseudonym) | (rows["patient"] == sites + "/" + pseudonym)
    return meant & (sites.map(near).isin([near(""), near(site)])) if site is not None else meant


def _is_verdict(facts: Any) -> bool:
    """Whether it has what a Decision says."""
    named = ("model", "decision", "made", "evidence_digest")
    return (
        isinstance(facts, dict)
        and all(isinstance(facts.get(name), str) for name in named)
        and "version" in (facts.get("challenger") or {})
        and "version" in (facts.get("champion") or {"version": None})
    )


def _decisions(store: Registry, run: Any, pseudonym: str, site: str | None, damaged: list[str]) -> Iterator[Decision]:
    """The promotion decisions about models of a pipeline's run that had the patient in the test part. Folders that
    cannot be read are added to `damaged`."""
    for variant_run in store.variants(run).values():
        for folder in store.folders(variant_run, EVIDENCE):
            answers = store.artefact(variant_run, f"{folder}/challenger.csv")
            verdict = store.artefact(variant_run, f"{folder}/verdict.json")
            if answers is None or verdict is None:  # writing was interrupted, so no alias was moved
                continue
            try:
                patients = pd.read_csv(io.StringIO(answers), dtype=str, keep_default_na=False)
                sequences, facts = int(is_meant(patients, pseudonym, site).sum()), json.loads(verdict)
            except (ValueError, KeyError):  # whoever may write to the registry may add anything
                damaged.append(f"{variant_run}/{folder}")
                continue
            if sequences and not _is_verdict(facts):
                damaged.append(f"{variant_run}/{folder}")
            elif sequences:
                yield Decision(
                    model=facts["model"],
                    version=facts["challenger"]["version"],
                    champion=facts["champion"]["version"] if facts["champion"] else None,
                    decision=facts["decision"],
                    made=facts["made"],
                    evidence=facts["evidence_digest"],
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
        parts={
            f"{part} (fold {fold})": int(of_part["sequences"].sum())
            for (fold, part), of_part in rows.groupby(["fold", "part"], sort=False)
        },
        sites=tuple(sorted(set(rows["site"]) - {""})) if "site" in rows else (),
        variants=variants,
        versions=tuple(versions),
        through=through,
    )


def sentences(lineage: Lineage) -> Iterator[str]:
    """The lineage as lines of text."""
    datasets = sorted({use.dataset for use in lineage.uses})
    versions = [version for use in lineage.uses for version in use.versions]
    if not lineage.uses and not lineage.decisions:
        yield "No dataset, run, model or promotion used a patient with this pseudonym."
    else:
        yield (
            f"{len(datasets)} datasets, {len(lineage.uses)} runs, {len(versions)} model versions and "
            f"{len(lineage.decisions)} promotions used this patient."
        )
    of_uses = [set(use.sites) for use in lineage.uses if use.sites]
    if of_uses and not set.intersection(*of_uses):
        yield (
            f"These runs have this pseudonym from different sites ({', '.join(sorted(set.union(*of_uses)))}), so it "
            "may mean a different patient in each. --site shows one of them."
        )
    for dataset in datasets:
        yield f"dataset {dataset}"
        for use in (use for use in lineage.uses if use.dataset == dataset):
            parts = ", ".join(f"{count} sequences in {part}" for part, count in use.parts.items()) or "no sequence"
            parts += f"; its training started from a model of run {use.through}" if use.through else ""
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
    yield f"The patients of {lineage.runs_read} runs were searched."
    if without := lineage.runs_without_table:
        yield f"{len(without)} runs have no table of patients, so nothing is known about them: {', '.join(without)}"
    if lineage.damaged:
        yield (
            f"{len(lineage.damaged)} folders have not the form of a promotion's evidence, so they were not searched: "
            f"{', '.join(lineage.damaged)}. fetalflow did not write them, or somebody changed them."
        )
    if gone := lineage.starts_gone:
        yield (
            f"The training of {len(gone)} runs started from a model of a run that is gone: {', '.join(gone)}. "
            "That model may have seen her."
        )
