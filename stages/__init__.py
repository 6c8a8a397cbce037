"""One short file per DVC stage: `python -m stages.STAGE TASK`."""

import os

# OpenMP reads this when torch is loaded: waiting threads sleep instead of spinning. Measured on two cores: two
# trainings at once took 8 s per epoch instead of 16 to 24; one alone took the same time or up to 20 % more. Results do
# not change.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
