"""Erases a patient from MLflow: the artefacts of the runs that used her, and the evidence of promotions.

A run stays with its metrics, because versions, promotions and other runs need it. Its tables lose her rows; its table
of patients says under another name that it used a patient who was erased. Weights stay as they are.
"""

import io
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pandas as pd

from fetalflow.registry.candidates import SPLIT
from fetalflow.registry.client import Registry
from fetalflow.registry.ledger.anchor import require_key
from fetalflow.registry.ledger.reading import intact_chain
from fetalflow.registry.lineage import EVIDENCE, PATIENTS, Use, trace
from fetalflow.registry.run_record import START_RUN
from fetalflow.registry.traces import KEPT, REMOVED, REWRITTEN, Traces


@dataclass
class InRuns:
    """runs: those that used her. rewritten, removed: artefacts, as RUN/PATH. evidence: whether some are of a promotion.
    trash: runs that used her and are deleted in MLflow, and that nothing needs. uses: by `fetalflow lineage`."""

    runs: list[str] = field(default_factory=list)
    rewritten: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    evidence: bool = False
    trash: list[str] = field(default_factory=list)
    uses: list[Use] = field(default_factory=list)


def erase_from_runs(store: Registry, hers: Traces, uses: list[Use], dry: bool) -> InRuns:
    """Rid the artefacts of all runs of her, or with `dry` only say what would be done. A second call finishes the
    work of one that was killed: the table of patients, by which a run is found, comes last. uses: by `uses_of`."""
    found, runs = InRuns(uses=uses), store.pipeline_runs()
    needed = {run.data.tags.get(START_RUN) for run in runs}
    for run in runs:
        of_run = [run.info.run_id, *store.variants(run).values()]
        used_her = _used(store, run.info.run_id, hers)  # None: nothing says whom it used
        if used_her:
            found.runs.append(run.info.run_id)
        for each in reversed(of_run):
            paths = list(store.artefact_paths(each, EVIDENCE if used_her is False else ""))
            for path in sorted(paths, key=(SPLIT, PATIENTS).__contains__):
                _rid(store, each, path, hers, bool(used_her), dry, found)
        has_version = any(store.versions_of(each) for each in of_run)
        if used_her and run.info.lifecycle_stage == "deleted" and not has_version and run.info.run_id not in needed:
            found.trash += of_run
    return found


def require_evidence_key(store: Registry, aliases: tuple[str, ...]) -> None:
    """Raises InputError before anything is erased if the ledger could not record changed evidence: it is damaged, or
    its lines must be signed and there is no key."""
    if store.lines():
        intact_chain(store)
        for alias in aliases:
            require_key(alias)


def versions_in_words(uses: list[Use]) -> Iterator[str]:
    """A sentence for each registered version whose weights were trained, validated or tested with her."""
    for use in uses:
        trained = any(part.startswith(("train", "validation")) for part in use.parts)
        for each in use.versions:
            how = "was trained on her" if trained else "was started from a model that saw her" if use.through else ""
            held = f", now {', '.join(each.aliases)}" if each.aliases else ""
            yield f"{each.model} version {each.version} {how or 'was tested on her, not trained'}{held}"


def uses_of(store: Registry, hers: Traces) -> list[Use]:
    """The runs that used her, with the versions that they registered, as `fetalflow lineage` finds them."""
    by_run = {use.run: use for name in sorted(hers.names) for use in trace(store, name).uses}
    return [use for use in by_run.values() if use.through or not hers.sites or _used(store, use.run, hers)]


def _used(store: Registry, run: str, hers: Traces) -> bool | None:
    """Whether a run used her, by its table of patients or else by its split; None if it has neither."""
    if (table := store.artefact(run, PATIENTS)) is not None:
        return bool(hers.by_name(pd.read_csv(io.StringIO(table), dtype=str, keep_default_na=False)).any())
    if SPLIT not in store.artefact_paths(run, "data"):
        return None
    with tempfile.TemporaryDirectory() as scratch:
        return bool(hers.rows(pd.read_parquet(store.client.download_artifacts(run, SPLIT, scratch))).any())


def _rid(store: Registry, run: str, path: str, hers: Traces, shown: bool, dry: bool, found: InRuns) -> None:
    """Rid one artefact of her: in its place in an embedded store, or else a copy of it that is then sent back."""
    with tempfile.TemporaryDirectory() as scratch:
        place, name = store.local_artefacts(run), PurePosixPath(path)
        file = place / path if place else Path(store.client.download_artifacts(run, path, scratch))
        done = hers.rid(file, path, shown, dry)
        if done == KEPT:
            return
        found.evidence |= name.parts[0] == EVIDENCE
        (found.rewritten if done == REWRITTEN else found.removed).append(f"{run}/{path}")
        if dry or place:
            return
        if done == REMOVED:
            store.remove_artefact(run, path)
        else:
            _replace(store, run, file, name)


def _replace(store: Registry, run: str, file: Path, name: PurePosixPath) -> None:
    folder = None if name.parent == PurePosixPath(".") else name.parent.as_posix()
    store.client.log_artifact(run, str(file), folder)
