"""How long stages take: from the last run of a workspace, or for the demo from a run that was measured."""

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from fetalflow.artefacts import write_text
from flows.checkout import CHECKOUT
from flows.running.side_by_side import BESIDE

FILE = ".dvc/tmp/fetalflow-durations.json"  # in the workspace; git and DVC ignore the folder
ENOUGH_S = 5  # finished stages tell how fast this machine is, once they should have taken so long together

DEMO = Path(__file__).with_name("demo_seconds.json")  # FILE of a workspace after `make demo` of all tasks on 2 cores


def read_durations(file: Path) -> dict[str, float]:
    """Seconds of each stage; empty if there is no such file, or if a person broke it."""
    try:
        found = json.loads(file.read_text())
        return {str(name): float(seconds) for name, seconds in found.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def write_duration(workspace: Path, stage: str, seconds: float) -> None:
    """Keep how long a stage took."""
    write_text(workspace / FILE, json.dumps(read_durations(workspace / FILE) | {stage: round(seconds, 1)}, indent=2))


def of_the_demo(workspace: Path) -> dict[str, float]:
    """Seconds of each stage in the demo, if the workspace runs a task with the demo's settings; other tasks have none:
    other data or more epochs take another time."""
    params, demo = (yaml.safe_load((folder / "params.yaml").read_text()) for folder in (workspace, CHECKOUT))
    kept = {task for task in params["tasks"] if _of(params, task) == _of(demo, task)}
    found = read_durations(DEMO).items()
    return {stage: seconds for stage, seconds in found if stage.partition("@")[2].partition("-")[0] in kept}


def _of(params: dict, task: str) -> tuple:
    return params.get(task), (params.get("tasks") or {}).get(task)


class Estimate:
    """How long the stages of a run still take. before: seconds of earlier runs of the workspace; demo: of the demo;
    beside: how many stages run at the same time, if they are of BESIDE."""

    def __init__(self, before: Mapping[str, float], demo: Mapping[str, float], beside: int = 1) -> None:
        self.before, self.demo = dict(before), demo  # a copy, because the file changes while the stages run
        self.beside = beside
        self.began: dict[str, float] = {}  # on the clock of time.monotonic
        self.took: dict[str, float] = {}

    def begin(self, stage: str) -> None:
        self.began[stage] = time.monotonic()

    def done(self, stage: str, seconds: float) -> None:
        self.took[stage] = seconds

    def left(self, stages: Iterable[str]) -> float | None:
        """Seconds of these stages together; None if there is no basis for one of them."""
        known = [stage for stage in self.took if stage in self.demo]
        expected = sum(self.demo[stage] for stage in known)
        pace = sum(self.took[stage] for stage in known) / expected if expected >= ENOUGH_S else 1.0
        total = 0.0
        for stage in stages:
            if stage in self.before:
                seconds = self.before[stage]
            elif stage in self.demo:
                seconds = self.demo[stage] * pace
            else:
                return None
            if stage in self.began:
                seconds = max(seconds - (time.monotonic() - self.began[stage]), 0)
            total += seconds / self.beside if stage.startswith(BESIDE) else seconds
        return total


def in_words(seconds: float | None) -> str:
    """`about 4 min left`; empty without an estimate."""
    if seconds is None:
        return ""
    if seconds < 45:
        return "less than a minute left"
    if seconds < 90 * 60:
        return f"about {max(1, round(seconds / 60))} min left"
    return f"about {seconds / 3600:.1f} h left"
