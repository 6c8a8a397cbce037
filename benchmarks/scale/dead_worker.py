"""How long a run that died stays "Running", and how long it holds what it held.

    python -m benchmarks dead_worker [memory|filesystem]

A real Prefect server and worker. The word says where the server keeps its leases
(PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE; the compose file says filesystem). Two rounds of the same pipeline, whose
training sleeps: the worker and all it started are killed; the same, and the server is killed and started again. Takes
about eight minutes.
"""

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil

from flows.running.heartbeats import SILENCE_S

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "material"))  # as pytest does

import servers  # noqa: E402

STAGE = """
import time
from pathlib import Path
from stages.runtime.lifeline import run

def main():
    Path("began").touch()
    time.sleep(float(Path("seconds").read_text()))
    Path("train.done").write_text("done")

run(main)
"""


def workspace(folder: Path) -> Path:
    folder.mkdir()
    (folder / "stage.py").write_text(STAGE)
    (folder / "seconds").write_text("600")
    shutil.copy(ROOT / "params.yaml", folder)
    (folder / "dvc.yaml").write_text(
        "stages:\n  train:\n    foreach: [movement]\n    do:\n      cmd: python stage.py\n      deps: [stage.py]\n"
        "      outs: [train.done]\n"
    )
    subprocess.run([servers.BIN / "dvc", "init", "--no-scm", "-q"], cwd=folder, check=True)
    return folder


def kill_with_all(process: psutil.Process) -> None:
    for one in [process, *process.children(recursive=True)]:
        one.send_signal(signal.SIGKILL)


class Api:
    def __init__(self, server: servers.Server) -> None:
        log_in = tuple(server.access["PREFECT_API_AUTH_STRING"].split(":"))
        self.client = httpx.Client(base_url=server.url, auth=log_in, timeout=30)

    def post(self, path: str, body: dict) -> object:
        return self.client.post(path, json=body).raise_for_status().json()

    def state(self, run: str) -> str:
        return self.client.get(f"/flow_runs/{run}").raise_for_status().json()["state_type"]

    def slots(self) -> dict[str, int]:
        return {limit["name"]: limit["active_slots"] for limit in self.post("/v2/concurrency_limits/filter", {})}

    def begin(self, folder: Path) -> str:
        deployment = self.client.get("/deployments/name/pipeline/workspace").raise_for_status().json()["id"]
        body = {"parameters": {"workspace": str(folder)}}
        return self.post(f"/deployments/{deployment}/create_flow_run", body)["id"]


def seconds_until(what: Callable[[], bool], most: float, poll: float = 0.5) -> float:
    start = time.monotonic()
    while not what():
        if time.monotonic() - start > most:
            return float("inf")
        time.sleep(poll)
    return time.monotonic() - start


def round_(name: str, folder: Path, home: Path, work: Path, leases: str, restart: bool) -> None:
    port = servers.free_port()
    storage = {"PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": f"prefect.server.concurrency.lease_storage.{leases}"}
    plain = servers.environ
    servers.environ = lambda *more: plain(*more, storage)
    with servers.prefect_server(home, port=port) as server:
        access = servers.environ(server.access, {"PYTHONPATH": str(ROOT)})
        with servers.worker(work, server.access, {"PYTHONPATH": str(ROOT)}, pool="gpu") as first:
            deploy = [servers.BIN / "fetalflow", "deploy", "--pool", "gpu"]
            subprocess.run(deploy, env=access, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
            api = Api(server)
            run = api.begin(folder)
            took = seconds_until((folder / "began").exists, 180)
            print(f"{name}: training began {took:.0f} s after the run was asked for; slots {api.slots()}", flush=True)
            kill_with_all(psutil.Process(first.process.pid))
        killed = time.monotonic()
        if restart:
            server.kill()
            with servers.prefect_server(home, port=port) as again:
                after_death(name, Api(again), again, run, killed, folder, work)
        else:
            after_death(name, api, server, run, killed, folder, work)


def after_death(name: str, api: Api, server: servers.Server, run: str, killed: float, folder: Path, work: Path) -> None:
    seen: dict[str, float] = {}
    freed: dict[str, float] = {}

    def settled() -> bool:
        now, slots = time.monotonic() - killed, api.slots()
        if api.state(run) == "CRASHED":
            seen.setdefault("crashed", now)
        for limit, taken in slots.items():
            if not taken:
                freed.setdefault(limit, now)
        return "crashed" in seen and len(freed) == len(slots)

    seconds_until(settled, 480, 1)
    print(f"{name}: crashed {seen.get('crashed', float('inf')):.0f} s after the kill (at most {SILENCE_S} + 15 stated)")
    print(f"{name}: free again after s: { {k: round(v) for k, v in freed.items()} }, now: {api.slots()}", flush=True)
    (folder / "seconds").write_text("1")
    (folder / "began").unlink()
    second = api.begin(folder)
    with servers.worker(work, server.access, {"PYTHONPATH": str(ROOT)}, pool="gpu"):
        took = seconds_until(lambda: api.state(second) in ("COMPLETED", "FAILED", "CRASHED"), 240)
        print(f"{name}: the next run is {api.state(second)} after {took:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("leases", nargs="?", choices=("memory", "filesystem"), default="memory")
    leases = parser.parse_args().leases
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        round_(f"{leases}, worker killed", workspace(place / "a"), place / "home", place / "w", leases, False)
        round_(f"{leases}, all killed", workspace(place / "b"), place / "home2", place / "w2", leases, True)


if __name__ == "__main__":
    main()
