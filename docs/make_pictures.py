"""Make the pictures of README.md from a run of the demo.

python docs/make_pictures.py workspaces/demo

`report.png` is the top of the movement report, as Chromium shows it; `head.png` is a head of the synthetic hospital as
`fetalflow measure --overlay` draws it, so `--task biometry` must have run too. `watch.png` is the page of a model in
use after ten days of made-up answers (`tests/material/answer_rows.py`); from the eighth on, S1 has another device.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

PICTURES = Path(__file__).with_name("pictures")
WIDTH, HEIGHT = 1100, 930  # px of the browser's window


def report(workspace: Path) -> None:
    """The first screen of the movement report."""
    _screen(workspace / "reports" / "movement" / "report.html", "report.png", HEIGHT)


def _screen(page: Path, name: str, height: int) -> None:
    """The first screen of a page. Chromium must be installed."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        sys.exit(f"No Chromium was found: install it to make {name}.")
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        flags = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={WIDTH},{height}"]
        words = [browser, *flags, f"--screenshot={shot}", page.resolve().as_uri()]
        subprocess.run(words, check=True, stderr=subprocess.DEVNULL)
        cv2.imwrite(str(PICTURES / name), cv2.imread(str(shot)), [cv2.IMWRITE_PNG_COMPRESSION, 9])


def watch(workspace: Path) -> None:
    """The page of a model in use. It needs no workspace."""
    sys.path.insert(0, str(PICTURES.parents[1] / "tests" / "material"))
    from answer_rows import WEIGHTS, answers

    from fetalflow.settings.watch import Watch
    from fetalflow.watch.estimated import Held
    from fetalflow.watch.judged import asks, judge_day
    from fetalflow.watch.log import AnswerLog
    from fetalflow.watch.page import render
    from fetalflow.watch.reference import Reference

    random, settings = np.random.default_rng(9), Watch(min_answers=10)
    patient, site = np.repeat([f"T{i}" for i in range(20)], 3), np.repeat(["S0", "S1"], 30)
    rows = pd.DataFrame({"patient": patient, "site": site, "mean_intensity": random.normal(60, 5, 60), "fps": 30.0})
    rows["label"] = random.choice(["arm", "head", "heart"], 60)
    confidence = random.uniform(0.9, 0.999, 60)
    reference = Reference(rows, WEIGHTS, Held(confidence, random.random(60) < confidence, patient))
    days, reports, bad = [f"2026-11-{day:02d}" for day in range(16, 26)], [], {}
    with tempfile.TemporaryDirectory() as folder:
        log = AnswerLog(folder)
        for number, day in enumerate(days):
            for row in answers(day, number, changed=number >= 7, model="fetal-movement"):
                log.add(row)
            found = judge_day(log.read(), day, settings, reference, {each for each in bad if bad[each]})
            bad[day] = bool(found["findings"])
            reports.append(found | {"asks": asks(bad, day, settings)})
        page = Path(folder) / "watch.html"
        page.write_text(render("movement", reports, [], settings))
        _screen(page, "watch.png", 1500)


def head(workspace: Path) -> None:
    """The first head of the biometry test patients that the drop has as a cine, measured by the main network."""
    data = workspace / "data" / "biometry"
    parts = pd.read_parquet(data / "split.parquet", columns=["sequence", "part"])
    manifest = pd.read_parquet(data / "manifest.parquet").drop(columns="part", errors="ignore").merge(parts)
    row = manifest[(manifest["part"] == "test") & (manifest["label"] == "head")].sort_values("video").iloc[0]
    verb = [str(Path(sys.executable).with_name("fetalflow")), "measure", str(data / "drop" / row["video"])]
    verb += ["--mm-per-px", str(row["annotations_mm_per_px"])]
    package = next((workspace / "models" / "biometry").glob("fetalnet_lite"))
    subprocess.run([*verb, "--model", str(package), "--overlay", str(PICTURES / "head.png")], check=True)


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    for make in (report, head, watch):
        make(Path(sys.argv[1]))
