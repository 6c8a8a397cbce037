"""Erases a patient from everything that a checkout keeps of her, and certifies what was removed and what remains."""

import os
import re
import secrets
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import chdir, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from fetalflow.annotation.journal import JOURNAL, Journal
from fetalflow.artefacts import write_json, write_text
from fetalflow.errors import InputError
from fetalflow.hospital.arrival.find_patient import NotThere
from fetalflow.hospital.arrival.intake import keep_out
from fetalflow.hospital.arrival.permanent_names import ANY
from fetalflow.hospital.arrival.received_rows import read_rows
from fetalflow.hospital.arrival.store_key import read_store_key
from fetalflow.hospital.deidentify.pseudonyms import Key
from fetalflow.hospital.drop.spelling import near, tidy
from fetalflow.registry.address import DATABASE
from fetalflow.registry.erasure import (
    InRuns,
    erase_from_runs,
    require_evidence_key,
    uses_of,
    versions_in_words,
)
from fetalflow.registry.ledger.repair import repair
from fetalflow.registry.old_versions import purge
from fetalflow.registry.traces import KEPT, REMOVED, Traces, cines_of
from fetalflow.registry.tracking import registry
from fetalflow.settings.params import load_settings
from fetalflow.watch.look import log_of
from flows.care.cached_objects import find_objects, remove_objects
from flows.care.nodes import erase_from_nodes, nodes_elsewhere
from flows.care.stores import Found, Pairs, Store, find_in, stores
from flows.care.withdrawal import STATION, withdraw_everywhere
from flows.checkout import CHECKOUT
from flows.workspaces.data_sets import states
from flows.workspaces.layout import EXPERIMENTS
from flows.workspaces.lock import hold
from flows.workspaces.project import is_project, record, share_inputs

SEARCHED = ("data", "reports", "reviews", "live", "arrivals")  # folders of a workspace
# Of a store: the rows and cines that `withdraw` removes, and the lists that keep her out.
BY_WITHDRAWAL = ("received", "drop", "withdrawn.csv", "patients.csv", "journal.jsonl", "last_look.json", "key.json")
# Removed as a whole: it is made or fetched again. The last two are copies of the workspace for experiments.
WHOLE = (
    "starts",
    "checkpoints",
    "pretrained/*/network",
    "data/*/unlabelled",
    *STATION,
    *(f"{place}/tmp*" for place in EXPERIMENTS),
)
PSEUDONYM = re.compile(r"P[0-9a-f]{16}")  # as `Key.pseudonym` makes it
FOLDER = "erasures"  # of workspaces/: for the certificates
REMAINS = (
    "her pseudonym, in withdrawn.csv, patients.csv and journal.jsonl of the stores: no later delivery brings her back",
    "metrics and curves of the runs that used her: numbers over many patients",
    "the history of the workspaces in git: digests of files that had her, and settings; no data",
    "the hospital's inbox, and drops that --drop names: fetalflow only reads them, so the hospital removes her there",
    "the drop of the synthetic hospital, where a workspace has one: its patients are no persons",
    "a folder of cines without labels that `pretrain.folder` names: fetalflow only reads it, so the hospital removes "
    "her there; her pseudonym in withdrawn.csv keeps her out of later pretrainings",
    "a node that keeps its data outside of the workspaces: `fetalflow node --forget` with --folder removes her there",
    "the audit lines of the review station: digests of her cines, and who looked at them when",
    "Prefect's logs and tables: `fetalflow clean` removes old ones",
    "backups, clones of a workspace on other machines, and workspaces outside of workspaces/: the operator's duty",
)


@dataclass
class Certificate:
    """What was removed, with counts, and what remains. workspaces: by folder, what was done there."""

    patient: str
    by: str
    why: str
    time: str
    instead: str
    plan: bool
    workspaces: dict[str, dict[str, Any]] = field(default_factory=dict)
    mlflow: list[dict[str, Any]] = field(default_factory=list)
    weights: list[str] = field(default_factory=list)
    data_sets: list[str] = field(default_factory=list)
    remains: list[str] = field(default_factory=list)

    def sentences(self) -> Iterator[str]:
        would = "would be " if self.plan else ""
        yield f"Patient {self.patient}: " + ("plan of an erasure; nothing was changed." if self.plan else "erased.")
        if not self.plan:
            yield f"On {self.time} by {self.by}: {self.why}."
        for folder, of in self.workspaces.items():
            rest = {key: count for key, count in of.items() if count and not isinstance(count, list)}
            counts = ", ".join(f"{count} {key}" for key, count in rest.items())
            yield f"{folder}: {counts or 'nothing'} {would}removed or rewritten."
            yield from (f"{folder}: {line}" for line in of["remarks"])
        for of in self.mlflow:
            yield (
                f"MLflow of {of['store']}: of {of['runs']} runs, {of['rewritten']} artefacts {would}rewritten without "
                f"her and {of['removed']} {would}removed; {of['trash']} deleted runs {would}purged."
            )
            yield from (f"MLflow of {of['store']}: {line}" for line in of["remarks"])
        yield from (f"Remains: weights: {line}." for line in self.weights)
        if not self.weights:
            yield "Remains: no weights; no registered version used her."
        yield from (f"Remains: {line}." for line in self.remains)
        for name in self.data_sets:
            yield f"The data set {name} had her: its data cannot be had as a whole any more."


def erase(
    patient: str, site: str | None, key: Key | None, by: str, why: str, plan: bool, workspace: Path | None = None
) -> tuple[Certificate, list[str]]:
    """Erase a patient; with `plan`, only say what would be done. Returns the certificate, and what `withdraw` said.

    patient: her pseudonym; with a key, the hospital's identifier, too. workspace: one outside of workspaces/. A second
    call finishes the work of one that was killed. Raises InputError if she is nowhere, if several patients have this
    name, or if the ledger could not record that evidence changed.
    """
    folders = workspaces(workspace)
    chosen = [store for each in folders for store in stores(each)]
    found = _found(chosen, patient, site, key)
    places = [*folders, CHECKOUT]  # of nodes, one of which may serve several tasks
    known = {patient, *(pseudonym for each in found for _, pseudonym in each.pairs)}
    in_node = any(erase_from_nodes(places, known, (), site, key, plan=True).values())
    hers, pairs = _hers(found, patient, site, folders, in_node, key)
    name = found[0].name if found else _nameless(patient, key) if in_node else patient
    now = datetime.now(UTC).isoformat(timespec="seconds")
    certificate = Certificate(name, by, why, now, hers.instead, plan, remains=list(REMAINS))
    if not found and not (chosen and pairs):
        certificate.remains.append("no store has her name to keep her out: if a later delivery brings her, do it again")
    registries = [folder for folder in folders if (folder / DATABASE).is_file()]
    if os.environ.get("MLFLOW_TRACKING_URI"):  # one for all workspaces
        registries = sorted(folders, key=lambda folder: not (folder / "ledger.json").is_file())[:1]
    for folder in registries if not plan else []:
        with chdir(folder), registry() as store:
            require_evidence_key(store, _champions(folders))
    said = []
    if not plan:
        said = list(withdraw_everywhere(found, chosen, patient, by, why, key)) if found else []
        for store in chosen:
            with hold(store.workspace, "fetalflow erase"):
                _keep_out(store.path, certificate, pairs)
    for folder in registries:
        _erase_from_registry(folder, hers, certificate)
    for folder in folders:
        with nullcontext() if plan else hold(folder, "fetalflow erase"):
            _erase_from_workspace(folder, hers, certificate)
    if made := [str(each) for each in workspaces(workspace) if each not in folders]:
        certificate.remains.append(f"{', '.join(made)}: made during the erasure and not looked at; do it again")
    certificate.remains += nodes_elsewhere(places)
    for folder, removed in erase_from_nodes(places, hers.names, hers.sites, site, key, plan).items():
        of_folder = certificate.workspaces.setdefault(str(folder), {"remarks": []})
        of_folder |= {"objects of the node": removed.objects, "results of the node": removed.results}
    return certificate, said


def workspaces(more: Path | None = None) -> list[Path]:
    """Every workspace in `workspaces/`, and `more`. Raises InputError if `more` is none."""
    found = [file.parent.resolve() for file in sorted((CHECKOUT / "workspaces").glob("*/params.yaml"))]
    if more is not None:
        load_settings(more / "params.yaml")
        found = list(dict.fromkeys([*found, more.resolve()]))
    return found


def write_certificate(certificate: Certificate) -> Path:
    """Write it as JSON and as text into workspaces/erasures; returns the path of the text."""
    stamp = certificate.time[:19].replace(":", "").replace("-", "")
    place = CHECKOUT / "workspaces" / FOLDER / f"{certificate.instead}-{stamp}"
    write_json(place.with_suffix(".json"), certificate.__dict__)
    write_text(place.with_suffix(".txt"), "\n".join(certificate.sentences()) + "\n")
    return place.with_suffix(".txt")


def _found(chosen: list[Store], patient: str, site: str | None, key: Key | None) -> list[Found]:
    try:
        return find_in(chosen, patient, site, key)
    except NotThere:
        return []  # a workspace without deliveries may have her


def _hers(
    found: list[Found], patient: str, site: str | None, folders: list[Path], in_node: bool, key: Key | None
) -> tuple[Traces, Pairs]:
    """Her names, sites and cines, from the stores, the tables of the workspaces, and those in their caches; and the
    sites and pseudonyms that no store may take any more, if `withdraw` did not write them down because no store has
    her. in_node: whether a node has her."""
    pairs = {pair for each in found for pair in each.pairs}
    names = {patient, *(each.name for each in found), *(pseudonym for _, pseudonym in pairs)}
    names |= {_nameless(patient, key)} if not found else set()
    everywhere = any(place == ANY for place, _ in pairs)
    sites = set() if everywhere else {near(place) for place, _ in pairs if place} | ({near(site)} if site else set())
    hers = Traces(frozenset(names), frozenset(sites), instead=f"erased-{secrets.token_hex(4)}")
    written = {site} if site else set()
    tables = [table for folder in folders for table in _tables(folder)]
    if not sites and not everywhere:
        with_sites = [table for table in tables if {"site", "patient"} <= set(table)]
        seen = {near(place): place for table in with_sites for place in table.loc[hers.by_name(table), "site"] if place}
        if len(seen) > 1:
            raise InputError(
                f"several patients are called {patient}: at the sites {', '.join(sorted(seen.values()))}. Say of which "
                "site she is: --site SITE."
            )
        hers, written = replace(hers, sites=frozenset(seen)), {*seen.values()}
    if not found and not in_node and not any(hers.by_name(table).any() for table in tables):
        raise NotThere(
            f"nothing of this patient is in the workspaces {', '.join(map(str, folders)) or '(there are none)'}. Give "
            "the pseudonym as the manifest has it, or --workspace for one outside of workspaces/."
        )
    keep_away = {(place, each) for place in written for each in hers.names} if not found else set()
    return hers.with_sources(cines_of(tables, hers)), keep_away


def _tables(folder: Path) -> Iterator[pd.DataFrame]:
    """Every table of a workspace that may name a cine of hers."""
    for file in folder.glob("*/*/received/*.csv"):
        yield read_rows(file)
    for file in [*folder.glob("data/*/*.parquet"), *(folder / ".dvc" / "cache" / "files" / "md5").glob("??/*")]:
        with open(file, "rb") as opened:
            if opened.read(4) != b"PAR1":
                continue
        columns = set(pq.read_schema(file).names) & {"patient", "site", "source", "video", "mask"}
        if "patient" in columns:
            yield pd.read_parquet(file, columns=sorted(columns)).astype(str)


def _erase_from_workspace(folder: Path, hers: Traces, certificate: Certificate) -> None:
    """The tables of the workspace come last, because a call after a kill finds her cines in them."""
    plan, done, objects = certificate.plan, Counter(), find_objects(folder, hers)
    remarks = [remark for _, remark in objects.values() if remark]
    had = _states_with(folder, set().union(*(ids for ids, _ in objects.values())))
    for place, (ids, _) in objects.items():
        done[f"objects of {place}"] += len(ids)
    if not plan:
        remarks += remove_objects(folder, {place: ids for place, (ids, _) in objects.items()})
    has_her = any(hers.rid(path, name, shown=False, dry=True) != KEPT for path, name in _files(folder))
    places = [place for each in WHOLE for place in folder.glob(each) if any(place.iterdir())] if has_her else []
    for place in places:
        done[f"folders {place.relative_to(folder)}"] += 1
        if not plan:
            shutil.rmtree(place)
    journal = folder / JOURNAL
    if journal.is_file() and not plan:
        done["annotations"] += Journal(journal).erase(hers.sources)
    if answers := _erase_answers(folder, hers, plan):
        done["answers in use"] += answers
    for path, name in _files(folder) if has_her else ():
        what = hers.rid(path, name, shown=True, dry=plan)
        done["files" if what == REMOVED else "tables"] += what != KEPT
    if has_her and not plan and is_project(folder):
        share_inputs(folder)
        record(folder, "A patient was erased")
    certificate.data_sets += [f"{state} of {folder}" for state in had]
    certificate.workspaces[str(folder)] = dict(done) | {"remarks": remarks}


def _erase_answers(folder: Path, hers: Traces, plan: bool) -> int:
    """From the log of the model in use: by her names, by the pseudonyms that the log gives them, and by her files."""
    file = folder / "params.yaml"
    log = log_of(folder, load_settings(file)) if file.is_file() else None
    if log is None or not log.days():
        return 0
    known = replace(hers, names=hers.names | {log.pseudonym(name) for name in hers.names})
    return log.remove(lambda table: known.rows(table) | table["input"].isin(hers.sources), dry=plan)


def _files(folder: Path) -> Iterator[tuple[Path, str]]:
    kept_out = {path for store in folder.glob("*/*") for name in BY_WITHDRAWAL if (path := store / name).exists()}
    found = [path for top in SEARCHED for path in sorted((folder / top).rglob("*")) if path.is_file()]
    for path in sorted(found, key=lambda path: path.suffix == ".parquet"):
        if not kept_out & {path, *path.parents}:
            yield path, path.relative_to(folder).as_posix()


def _states_with(folder: Path, ids: set[str]) -> list[str]:
    if not is_project(folder):
        return []
    return [state.name for state in states(folder) if ids & {md5 for both in state.digests.values() for md5 in both}]


def _keep_out(store: Path, certificate: Certificate, pairs: Iterable[tuple[str, str]] = ()) -> None:
    """A model that saw her is known by the name `instead` from now on, and stays refused. pairs: sites and pseudonyms
    by which a later delivery must not bring her back; the list of a store with a key gets pseudonyms alone."""
    store.mkdir(parents=True, exist_ok=True)
    name = certificate.instead
    keep_out(store, name, certificate.by, certificate.why, [("", name)])
    if hers := sorted(pair for pair in pairs if not read_store_key(store) or PSEUDONYM.fullmatch(pair[1])):
        keep_out(store, "/".join(hers[0]), certificate.by, certificate.why, hers)


def _nameless(patient: str, key: Key | None) -> str:
    """The pseudonym of a patient: neither a certificate nor the list of a store with a key has the hospital's
    identifier."""
    return patient if key is None or PSEUDONYM.fullmatch(patient) else key.pseudonym("patient", tidy(patient))


def _champions(folders: list[Path]) -> tuple[str, ...]:
    blocks = [block for folder in folders for block in load_settings(folder / "params.yaml").blocks.values()]
    return tuple(sorted({block.promote.champion for block in blocks}))


def _erase_from_registry(folder: Path, hers: Traces, certificate: Certificate) -> None:
    plan, remarks = certificate.plan, []
    with chdir(folder), registry() as store:
        uses = uses_of(store, hers)
        if not plan:
            blocks = load_settings().blocks
            for task in {use.task for use in uses} & set(blocks):
                _keep_out(Path(blocks[task].retrain.store) / task, certificate)
        found: InRuns = erase_from_runs(store, hers, uses, plan)
        if found.evidence and not plan and store.lines():
            reason = f"a patient was erased, certificate {certificate.instead}"
            remarks += repair(reason, certificate.by, evidence=True)
        if not plan:
            remarks += purge(store, found.trash)
    certificate.weights += [line for line in versions_in_words(found.uses) if line not in certificate.weights]
    if found.runs or found.rewritten or found.removed or found.trash:
        counts = {name: len(getattr(found, name)) for name in ("runs", "rewritten", "removed", "trash")}
        certificate.mlflow.append({"store": str(folder)} | counts | {"remarks": remarks, "run_ids": found.runs})
