"""How smoothly the station plays a cine of 800x600 px in Chromium.

    python -m benchmarks playing

A station on loopback serves one cine of speckle; Chromium without a window plays it several times: as it is, and with a
gamma of 1.5. A frame is dropped if the browser was too busy to draw it in time. Server and browser share the machine,
and `cores` is the processor time of both for each second of playing: it says more than the rate where other work runs.
"""

import argparse
import datetime
import importlib
import os
import platform
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import cv2
import numpy as np
import psutil
import uvicorn

from benchmarks.claims import write_claims
from fetalflow.artefacts import file_digest
from fetalflow.station.app import station
from fetalflow.station.place import Place

ROOT = Path(__file__).parents[2]
ACCOUNT, PASSWORD = "player", "a password for playing"
HEIGHT, WIDTH, FPS = 600, 800, 30
WAIT_S = 120


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="keep the figures in benchmarks/results/playing.json")
    given = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder), given.frames) as page:
        for gamma in (1.0, 1.5):
            page.evaluate("(gamma) => player.tone(1, gamma)", gamma)
            found[gamma] = [played(page, given.frames) for _ in range(given.repeats)]
    for gamma, runs in found.items():
        for run in runs:
            print(f"gamma {gamma}: {run['rate']:.1f} frames/s, {run['dropped']} dropped, {run['cores']:.2f} cores")
    if given.write:
        print(write_claims("playing", [claim(gamma, runs, given.frames) for gamma, runs in found.items()]))


def speckle(frames: int) -> Iterator[np.ndarray]:
    """`frames` pictures, uint8 [HEIGHT, WIDTH], of speckle that slides through a sector."""
    random = np.random.default_rng(0)
    tissue = cv2.GaussianBlur(random.gamma(1.0, 90.0, (HEIGHT, WIDTH + 2 * frames)).astype(np.float32), (7, 7), 1.5)
    sector = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.ellipse(sector, (WIDTH // 2, -50), (HEIGHT, HEIGHT), 0, 55, 125, 255, -1)
    for t in range(frames):
        yield np.clip(tissue[:, 2 * t : 2 * t + WIDTH], 0, 255).astype(np.uint8) & sector


@contextmanager
def opened(folder: Path, frames: int) -> Iterator:
    """A page of Chromium with the cine, which a station in this process serves."""
    drop = folder / "drop"
    drop.mkdir()
    shutil.copy(ROOT / "params.yaml", folder)
    with av.open(str(drop / "cine.avi"), "w") as container:
        stream = container.add_stream("mjpeg", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        for picture in speckle(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "gray")))
        container.mux(stream.encode())
    app = station(Place(folder, "movement", drop))
    app.state.accounts.make(ACCOUNT, "annotator", PASSWORD)
    taken = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{taken.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]}, daemon=True)
    thread.start()
    driver = importlib.import_module("playwright.sync_api")  # a tool of the tests, not of fetalflow
    with driver.sync_playwright() as kit:
        browser = kit.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1500, "height": 950})
        page.goto(f"{address}/log-in")
        page.fill("[name=name]", ACCOUNT)
        page.fill("[name=password]", PASSWORD)
        page.click("button.main")
        page.goto(f"{address}/cine/{file_digest(drop / 'cine.avi')}", timeout=1000 * WAIT_S)
        until(page, "player.lossless")
        yield page
        browser.close()
    server.should_exit = True
    thread.join()


def played(page, frames: int) -> dict[str, float]:
    """Frames per second that were drawn, and how many were dropped, from the first frame to the last."""
    before = processor_seconds()
    page.evaluate("player.seek(0).then(player.play)")
    until(page, f"!player.playing && player.frame === {frames - 1}")
    found = page.evaluate("player.statistics")
    cores = (processor_seconds() - before) / found["seconds"]
    return {"rate": found["drawn"] / found["seconds"], "dropped": found["dropped"], "cores": cores}


def processor_seconds() -> float:
    """Of this process with the server, and of the browser below it."""
    here = psutil.Process()
    times = [each.cpu_times() for each in (here, *here.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def until(page, condition: str) -> None:
    end = time.monotonic() + WAIT_S
    while not page.evaluate(condition):
        if time.monotonic() > end:
            raise SystemExit(f"Chromium did not come so far in {WAIT_S} s: {condition}")
        time.sleep(0.2)


def claim(gamma: float, runs: list[dict[str, float]], frames: int) -> dict:
    """For benchmarks/results."""
    rates, dropped, cores = ([run[name] for run in runs] for name in ("rate", "dropped", "cores"))
    return {
        "claim": f"Chromium draws {{rate:.1f}} of {FPS} frames per second of a cine of {WIDTH}x{HEIGHT} px (gamma "
        f"{gamma}), "
        "drops {dropped} of {frames} frames, and takes {cores:.2f} cores with the server; the load of the machine was "
        "{load}.",
        "figures": {"rate": float(np.median(rates)), "dropped": int(np.median(dropped)), "frames": frames}
        | {"rate_low": min(rates), "rate_high": max(rates), "cores": float(np.median(cores))}
        | {"load": round(os.getloadavg()[0], 1)},
        "data": f"speckle in a sector, MJPEG, {FPS} frames per second, played by the station's page",
        "split_unit": "none: nothing is trained",
        "n": {"plays": len(runs), "frames": frames},
        "seeds": [],
        "interval": f"lowest and highest of {len(runs)} plays; the other figures are medians",
        "command": "python -m benchmarks playing --write",
        "machine": f"AMD EPYC, {os.cpu_count()} cores for server and browser, niceness {os.nice(0)}, "
        f"{platform.system()}",
        "date": datetime.date.today().isoformat(),
        "outcome": "measured",
    }


if __name__ == "__main__":
    main()
