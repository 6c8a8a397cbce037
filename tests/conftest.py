"""Settings that hold for every test, in this process and in those it starts."""

import os

from hypothesis import settings

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # see stages/__init__.py; before anything imports torch
# Two test processes share two cores: a pool of threads in each only waits for the other's.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples every time: a red suite means that the change is at fault.
settings.register_profile("steady", derandomize=True)
settings.load_profile("steady")
