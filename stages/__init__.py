"""One short file per DVC stage: `python -m stages.STAGE TASK`."""

import gc
import os
import signal
import sys
from pathlib import Path

# OpenMP reads this when torch is loaded: waiting threads sleep instead of spinning. Measured on two cores: two
# trainings at once took 8 s per epoch instead of 16 to 24; one alone took the same time or up to 20 % more. Results do
# not change.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# What libraries keep for themselves, such as matplotlib's list of fonts; nothing is written into the home folder.
OF_LIBRARIES = Path(__file__).resolve().parents[1] / "workspaces" / ".home"
os.environ.setdefault("MPLCONFIGDIR", str(OF_LIBRARIES / "matplotlib"))

# `python -m stages.STAGE` imports for seconds: Ctrl-C ends it then without a traceback; after that lifeline.py does. To
# look for garbage among a million new objects of modules took up to a quarter of that time; lifeline.py begins with it.
if sys.argv[:1] == ["-m"]:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.disable()
