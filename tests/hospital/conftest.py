"""Fixtures of the hospital's tests."""

from pathlib import Path

import pytest
from inbox_folder import two_deliveries


@pytest.fixture
def inbox(tmp_path) -> Path:
    return two_deliveries(tmp_path / "inbox")
