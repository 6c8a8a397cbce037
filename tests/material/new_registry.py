"""The registry of a new embedded store, for tests that fill one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fetalflow.registry.client import Registry
from fetalflow.registry.tracking import registry


@contextmanager
def registry_in(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """The registry of `folder`/mlflow.db, which is empty. MLFLOW_TRACKING_URI stays set until `patch` ends."""
    patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
    (folder / "mlflow.db").touch()  # a store that does not exist is refused
    with registry() as store:
        yield store
