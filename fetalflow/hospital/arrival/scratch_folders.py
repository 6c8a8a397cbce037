"""Folders for one call on a store: inside it, and outside for deliveries that may name patients."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fetalflow.hospital.arrival.received_rows import SCRATCH


@contextmanager
def scratch_of(store: Path) -> Iterator[Path]:
    """An empty folder in the store. The leftovers of a killed call are removed first."""
    folder = store / SCRATCH
    shutil.rmtree(folder, ignore_errors=True)
    for left in [p for part in ("received", "drop", ".") for p in (store / part).glob(".*.csv")]:
        left.unlink()
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def scratch_outside(store: Path) -> Iterator[Path]:
    """An empty folder, closed to other users, for deliveries that may name patients. It is in the temporary folder of
    the system (TMPDIR), because the store is in backups. The leftovers of a killed call are removed first."""
    prefix = f"fetalflow-{hashlib.sha256(str(store.resolve()).encode()).hexdigest()[:12]}-"
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix) as folder:
        yield Path(folder)
