"""The size of every store over a year of nights, with `fetalflow clean` every week.

    python -m benchmarks nights [NIGHTS]

No network is trained: each night writes what a night writes, small (tests/material/nights.py): a new cine with its
sequence, a model, a registered version, objects of DVC's cache, a checkpoint that stays behind. Prints a table in kB:
what is new each night is 20 kB a cine and 20 kB a sequence. 365 nights take about eight minutes.
"""

import argparse
import os
import sys
import tempfile
import time
from contextlib import chdir
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "material"))  # as pytest does

from nights import DAY_S, TASK, Nights  # noqa: E402

from flows.care.clean import STORES, leftovers, sizes  # noqa: E402

WEEK, MONTH = 7, 30


def settings() -> dict:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params |= {"tasks": {TASK: params["tasks"][TASK]}, "phantoms": [], "ablations": params[TASK]["rivals"]}
    return {key: value for key, value in params.items() if key not in ("movement", "biometry", "profiles")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nights", nargs="?", type=int, default=365)
    nights = parser.parse_args().nights
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    with tempfile.TemporaryDirectory() as place, chdir(place):
        simulated, begun = Nights(Path(place), settings()), time.time() - nights * DAY_S
        print("| night | " + " | ".join(STORES) + " |\n|---|" + "---:|" * len(STORES))
        for night in range(1, nights + 1):
            now = begun + night * DAY_S
            simulated.pass_one(now)
            if night % WEEK == 0:
                for leftover in leftovers(Path(place), now):
                    leftover.remove()
                # MLflow noted the hour of the deletion by the clock, not by the simulated one.
                for leftover in leftovers(Path(place), time.time() + 31 * DAY_S) if night % MONTH < WEEK else ():
                    if "trash" in leftover.what:
                        leftover.remove()
            if night % MONTH == 0 or night == nights:
                print(f"| {night} | " + " | ".join(f"{size / 1000:.0f}" for size in sizes(Path(place)).values()) + " |")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
