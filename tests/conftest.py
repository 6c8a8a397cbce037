"""Settings that hold for every test, in this process and in those it starts."""

import os

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # see stages/__init__.py; before anything imports torch
# Several test processes share the cores: a pool of threads in each only waits for the others'.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples every time: a red suite means that the change is at fault.
settings.register_profile("steady", derandomize=True)
settings.load_profile("steady")

# The files that take longest, longest first: then the processes of `make test` end at about the same time.
LONGEST = ("test_night", "test_faults_tracking", "test_extend", "test_distributed_training", "test_promote_flow")
LONGEST += ("test_retrain", "test_resume", "test_tracking", "test_rollback", "test_pipeline", "test_streaming")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))
