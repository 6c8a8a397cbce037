"""What a row of the log costs beside the answer of a worker of `fetalflow serve`, in processor time.

    python -m benchmarks log_cost --write

One process answers the same cines in turns: the bare engine, a worker without a log, and a worker that also makes the
row with figures of the picture and writes it. `busy log` leaves out NIQE, as a service does for seven of eight answers
while others wait. `all figures` computes what the gate of the pipeline needs too, as the log did before 2026-11-30.
HTTP is left out; `serving --logged` has it.
"""

import argparse
import datetime
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

from benchmarks.claims import write_claims
from benchmarks.speed.serving_jobs import TASK, cines_in
from fetalflow.cine.image_quality import figures
from fetalflow.inference.latency import machine
from fetalflow.service.answering import Models, use_one_thread
from fetalflow.service.following import of_folder
from fetalflow.service.limits import Limits
from fetalflow.service.served import PREDICT, Job
from fetalflow.watch.log import AnswerLog
from fetalflow.watch.row import Answered

ROOT = Path(__file__).parents[2]
VARIANT = "fetalmovnet_s"


def ways_of(folder: Path) -> dict[str, Callable[[Path], object]]:
    """Ways to answer a cine. folder: with the package and its exports, as in a workspace."""
    models = Models({TASK: of_folder(TASK, folder / "models" / TASK / VARIANT)}, Limits(workers=1))
    log = AnswerLog(folder / "answers")

    def logged(cine: Path, niqe: bool = True) -> None:
        for row in models.answer(Job(PREDICT, TASK, (cine,), figures=True, niqe=niqe)).rows:
            log.add(Answered(origin="service", **{name: row[name] for name in row if name not in ("file", "header")}))

    def all_figures(cine: Path) -> None:
        with patch("fetalflow.cine.image_quality.figures_in_use", lambda frames, niqe: _numbers(figures(frames))):
            logged(cine)

    return {
        "bare": models.packages[TASK].predict,
        "no log": lambda cine: models.answer(Job(PREDICT, TASK, (cine,))),
        "log": logged,
        "busy log": lambda cine: logged(cine, niqe=False),
        "all figures": all_figures,
    }


def _numbers(found: dict) -> dict[str, float]:
    return {name: value for name, value in found.items() if name != "phash"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workspace", type=Path, default=ROOT / "workspaces" / "demo")
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--write", action="store_true", help="keep the figures in benchmarks/results/log_cost.json")
    given = parser.parse_args()
    use_one_thread()
    with tempfile.TemporaryDirectory(prefix="fetalflow-") as name:
        folder = Path(name)
        for part in ("models", "exports", "reports"):
            shutil.copytree(given.workspace / part, folder / part)
        cines, ways = cines_in(folder / "cines"), ways_of(folder)
        found: dict[str, list[float]] = {way: [] for way in ways}
        for turn in range(-1, given.turns):  # the first turn is left out: first answers take longer
            for way, answer in ways.items():
                begun = time.process_time()
                for cine in cines:
                    answer(cine)
                if turn >= 0:
                    found[way].append(1000 * (time.process_time() - begun) / len(cines))
    ms = {way: statistics.median(turns) for way, turns in found.items()}
    for way, value in ms.items():
        print(f"{way:12}{value:8.2f} ms  {value / ms['bare'] - 1:+.1%}  {[round(each, 1) for each in found[way]]}")
    if given.write:
        print(write_claims("log_cost", [claim(ms, given.turns, len(cines))]))


def claim(ms: dict[str, float], turns: int, cines: int) -> dict:
    about = machine()
    figures_of = {f"{way.replace(' ', '_')}_ms": value for way, value in ms.items()}
    shares = {"overhead": "log", "overhead_busy": "busy log", "overhead_before": "all figures"}
    figures_of |= {name: ms[way] / ms["bare"] - 1 for name, way in shares.items()}
    return {
        "claim": "An answer of a worker costs {bare_ms:.1f} ms of processor time by the bare engine, {no_log_ms:.1f} "
        "ms without a log, {log_ms:.1f} ms with its row ({overhead:.0%} more than the engine), and {busy_log_ms:.1f} "
        "ms with a row without NIQE ({overhead_busy:.0%}), which a busy service writes seven of eight times. With all "
        "figures of the pipeline's gate, as before, {all_figures_ms:.1f} ms ({overhead_before:.0%}).",
        "figures": figures_of,
        "data": "12 short cines of speckle, the movement model of the demo",
        "split_unit": "none: nothing is trained",
        "n": {"cines": cines, "turns": turns},
        "seeds": [],
        "interval": "none: medians over the turns, on a machine with other work",
        "command": "python -m benchmarks log_cost --write",
        "machine": f"{about['processor']}, one thread, {platform.system()}",
        "date": datetime.date.today().isoformat(),
        "outcome": "better" if figures_of["overhead"] < figures_of["overhead_before"] else "no difference",
    }
