"""Settings that hold for every test, in this process and in those it starts."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # see stages/__init__.py; before anything imports torch
