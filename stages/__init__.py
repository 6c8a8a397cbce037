"""One short file per DVC stage: `python -m stages.STAGE TASK`."""

import os

# Read by OpenMP when torch is loaded. Threads that wait asleep instead of spinning: two trainings on two cores took
# 8 s an epoch instead of 16 to 24, one alone the same or up to a fifth more (measured). Results do not change.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
