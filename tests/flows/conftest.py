"""What several files of flows need."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from ready_dvc import programs_at_hand


@pytest.fixture(scope="session")
def programs(tmp_path_factory) -> Iterator[Path]:
    with programs_at_hand(tmp_path_factory.mktemp("programs")) as folder:
        yield folder


@pytest.fixture
def python_at_hand(programs, monkeypatch) -> str:
    """What runs the stages of a small workspace; `dvc` is at hand as well."""
    monkeypatch.setattr("flows.running.dvc_stages.DVC", programs / "dvc")
    return str(programs / "python")
