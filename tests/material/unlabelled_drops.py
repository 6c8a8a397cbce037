"""Stations for drops without labels: cines of movement, stills of planes, heads of biometry in DICOM with a scale."""

import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from cine_files import dicom, save_dicom, speckle, ultrasound_region, write_video
from PIL import Image
from processes import free_port

from fetalflow.annotation.standing import standing
from fetalflow.station.accounts import Accounts
from fetalflow.station.place import Place

ROOT = Path(__file__).parents[2]
COUNTS = {"movement": 3, "planes": 4, "biometry": 2}
SERVER = """
import sys
from pathlib import Path
import uvicorn
from fetalflow.station.app import station
from fetalflow.station.place import Place
workspace, task, port = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
uvicorn.run(station(Place(workspace, task, workspace / "new")), port=port, log_level="warning")
"""


def unlabelled_place(folder: Path, task: str, accounts: dict[str, str]) -> Place:
    """A workspace with the demo's settings and COUNTS[task] files of a drop without labels. accounts: passwords."""
    (folder / "new").mkdir(parents=True)
    shutil.copy(ROOT / "params.yaml", folder / "params.yaml")
    for i in range(COUNTS[task]):
        if task == "movement":
            write_video(folder / "new" / f"cine{i}.avi", speckle(30, seed=i), "ffv1")
        elif task == "planes":
            Image.fromarray(speckle(1, seed=i)[0]).save(folder / "new" / f"still{i}.png")
        else:
            dataset = dicom(speckle(6, seed=i), SequenceOfUltrasoundRegions=[ultrasound_region(0.05, 0, 0, 159, 119)])
            save_dicom(folder / "new" / f"head{i}.dcm", dataset)
    place = Place(folder, task, folder / "new")
    for name, password in accounts.items():
        Accounts(place.folder / "accounts.db").make(name, "annotator", password)
    return place


def sources(place: Place) -> list[str]:
    """SHA-256 of its files, by name."""
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(place.drop.iterdir())]


def marks_of(place: Place, account: str, source: str) -> list:
    """What holds of an account on a cine."""
    return standing(place.journal.events(place.task, source, account))


class OneServer:
    """The station of a place as a process that can be killed and started again at the same address."""

    def __init__(self, place: Place) -> None:
        self._place, self._port = place, free_port()
        self.address = f"http://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        words = [str(self._place.workspace), self._place.task, str(self._port)]
        self._process = subprocess.Popen([sys.executable, "-c", SERVER, *words], cwd=ROOT)
        for _ in range(600):
            try:
                httpx.get(f"{self.address}/log-in")
                return
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError("the station did not start")

    def kill(self) -> None:
        """As `kill -9` does it."""
        self._process.kill()
        self._process.wait()


@contextmanager
def one_server(place: Place) -> Iterator[OneServer]:
    server = OneServer(place)
    try:
        yield server
    finally:
        server.kill()
