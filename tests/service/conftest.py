"""One service on loopback, whose registry is a dict; its models have random weights."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import torch
from cine_files import speckle, write_video

from fetalflow.errors import InputError, TrackingFailed
from fetalflow.models.building import build
from fetalflow.models.weights import save
from fetalflow.settings.params import Extract
from fetalflow.watch.row import Answered

TOKEN = "a-token-for-tests-0123456789"
LABELS = ("arm", "head", "heart")
FRAMES, SIZE = 4, 32
MODEL = "tiny"


@dataclass
class Aliases:
    """The registry: alias to version. broken: the words of the failure while it is out of reach."""

    folders: dict[str, Path]
    now: dict[str, str] = field(default_factory=dict)
    broken: str = ""

    def version_of_alias(self, model: str, alias: str) -> str | None:
        if self.broken:
            raise TrackingFailed(self.broken)
        return f"models:/{model}/{self.now[alias]}" if alias in self.now else None

    def fetch_package(self, uri: str) -> tuple[str, Path]:
        if (folder := self.folders[uri.rpartition("/")[2]]).is_dir():
            return uri, folder
        raise InputError(f"{uri} has no files.")


@dataclass
class Running:
    """A service that answers. rows: what it recorded."""

    client: httpx.Client
    desk: object
    aliases: Aliases
    rows: list[Answered]
    loop: asyncio.AbstractEventLoop
    address: str

    def look_again(self) -> None:
        """The aliases are looked up at once."""
        asyncio.run_coroutine_threadsafe(self.desk.look_again(), self.loop).result(120)

    def predict(self, *cines: Path, **form: str) -> httpx.Response:
        files = [("files", (path.name, path.read_bytes())) for path in cines]
        return self.client.post("/v1/predict", files=files, data=form)


@pytest.fixture(scope="session")
def packages(tmp_path_factory) -> dict[str, Path]:
    """Two versions of one model, by number; version 3 has damaged weights."""
    made = {}
    extract = Extract(frames=FRAMES, stride=FRAMES, labels=LABELS, workers=1).model_dump(mode="json")
    config = {"task": "movement", "variant": "cnn", "network": "cnn", "labels": LABELS, "frames": FRAMES}
    config |= {"size": SIZE, "options": {}, "extract": extract}
    for number in ("1", "2", "3"):
        torch.manual_seed(int(number))
        made[number] = tmp_path_factory.mktemp("version") / "package"
        save(made[number], build("cnn", FRAMES, SIZE, len(LABELS)), config)
    weights = made["3"] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\1\2\3\4")
    return made


@pytest.fixture(scope="session")
def cine(tmp_path_factory) -> Path:
    return write_video(tmp_path_factory.mktemp("cines") / "MUSTERFRAU Erika.avi", speckle(2 * FRAMES))


@pytest.fixture(scope="session")
def running(packages) -> Iterator[Running]:
    import uvicorn

    from fetalflow.service import following
    from fetalflow.service.app import service
    from fetalflow.service.connections import Server
    from fetalflow.service.desk import Desk
    from fetalflow.service.following import Followed
    from fetalflow.service.limits import Limits
    from fetalflow.service.tokens import Tokens

    aliases, rows = Aliases(packages, {"champion": "1"}), []
    limits = Limits(max_bytes=300_000, max_frames=50, seconds=60, workers=1, queue=3, streams=1)
    followed = {"movement": Followed("movement", MODEL, "champion", "challenger")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(following, "version_of_alias", aliases.version_of_alias)
        patch.setattr(following, "fetch_package", aliases.fetch_package)
        desk = Desk(limits, followed, record=rows.append, pseudonym=lambda name: name and "P-" + name[::-1])
        desk.start()
        app = service(desk, Tokens([TOKEN]), poll_s=10_000)
        taken = socket.create_server(("127.0.0.1", 0))
        server = Server(uvicorn.Config(app, log_level="warning"))
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_until_complete, args=[server.serve(sockets=[taken])], daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        head = {"Authorization": f"Bearer {TOKEN}"}
        with httpx.Client(base_url=address, headers=head, timeout=120, trust_env=False) as client:
            yield Running(client, desk, aliases, rows, loop, address)
        server.should_exit = True
        thread.join(20)


@pytest.fixture
def steady(running) -> Iterator[Running]:
    """The same service; version 1 is champion again afterwards, without a challenger."""
    end = time.monotonic() + 30
    while running.desk.open_streams and time.monotonic() < end:  # that of an earlier test ends after its client
        time.sleep(0.02)
    running.rows.clear()
    yield running
    running.aliases.now, running.aliases.broken = {"champion": "1"}, ""
    running.look_again()
