"""The rows that a version was made from: its split in the registry, and the manifest if the workspace still has it."""

import tempfile

import pandas as pd

from fetalflow.dossier.subject import Subject
from fetalflow.registry.candidates import SPLIT
from fetalflow.registry.provenance import data_digest

NO_MANIFEST = "The workspace has no manifest of this task."
DAMAGED = "The manifest of the workspace cannot be read."
OTHER_DATA = "The workspace now holds other data than those that this version was made from."


def split_of(subject: Subject) -> pd.DataFrame | None:
    """`split.parquet` of the version's run; None if the run has none."""
    if SPLIT not in subject.store.artefact_paths(subject.run, SPLIT.rpartition("/")[0]):
        return None
    with tempfile.TemporaryDirectory() as scratch:
        return pd.read_parquet(subject.store.client.download_artifacts(subject.run, SPLIT, scratch))


def manifest_of(subject: Subject) -> tuple[pd.DataFrame | None, str]:
    """(manifest, ""), or (None, the reason why there is none of these data)."""
    path = subject.workspace / "data" / subject.task / "manifest.parquet"
    if not path.is_file():
        return None, NO_MANIFEST
    try:
        manifest = pd.read_parquet(path)
        digest = data_digest(manifest)
    except (OSError, ValueError, KeyError):
        return None, DAMAGED
    same = digest == subject.store.client.get_run(subject.run).data.tags.get("data_digest")
    return (manifest, "") if same else (None, OTHER_DATA)


def sources_of(manifest: pd.DataFrame) -> int:
    """The number of cines or images of a manifest."""
    return int(manifest["source"].nunique())


def cines_of(sequences: pd.Series) -> int:
    """The number of cines or images of sequences, whose names begin with the digest of their cine."""
    return int(sequences.str.rpartition("-")[0].nunique())
