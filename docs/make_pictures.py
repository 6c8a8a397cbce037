"""Make the pictures of README.md from a run of the demo.

python docs/make_pictures.py workspaces/demo

`report.png` is the top of the movement report, as Chromium shows it; `head.png` is a head of the synthetic hospital as
`fetalflow measure --overlay` draws it, so `--task biometry` must have run too.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import pandas as pd

PICTURES = Path(__file__).with_name("pictures")
WIDTH, HEIGHT = 1100, 930  # px of the browser's window


def report(workspace: Path) -> None:
    """The first screen of the movement report. Chromium must be installed."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        sys.exit("No Chromium was found: install it to make report.png.")
    page = (workspace / "reports" / "movement" / "report.html").resolve().as_uri()
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        flags = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={WIDTH},{HEIGHT}"]
        subprocess.run([browser, *flags, f"--screenshot={shot}", page], check=True, stderr=subprocess.DEVNULL)
        cv2.imwrite(str(PICTURES / "report.png"), cv2.imread(str(shot)), [cv2.IMWRITE_PNG_COMPRESSION, 9])


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
    for make in (report, head):
        make(Path(sys.argv[1]))
