"""What `fetalflow serve` costs beside the bare engine, and whether it loses answers under load.

    python -m benchmarks serving --seconds 300 --write

Version 1 is a package with its exports, version 2 the same network answered by torch, so an answer shows which one gave
it. First, in turns, processes answer the same cines without HTTP (the bare engine), and clients ask the service. Then
version 2 becomes champion and a worker is killed while they ask. Clients, service and workers share the machine;
`processor time` is that of service and workers for one answer, and says more than rates where other work runs.
"""

import argparse
import asyncio
import datetime
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from benchmarks.claims import write_claims
from benchmarks.speed.serving_jobs import MODEL, TASK, bare, cines_in, expected_answers, log_versions

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-of-the-benchmark-0123456789"
SERVE = "import typer; from flows.cli.serve import serve; app = typer.Typer(); app.command()(serve); app()"
START_S = 180
WARM_S = 3  # the first answers of a process take longer; those of the bare engine are left out too
NEAR = 1e-4  # by which a probability may differ from the library's
ALLOWED = 0.25  # overhead


@dataclass
class Asked:
    """What the clients got. ms: times from the request to the answer. lost: neither answered nor refused with 503.

    processor_s: of service and workers; server_s: of the service without its workers. memory: MB of both at the
    beginning and at the end."""

    seconds: float
    ms: list[float] = field(default_factory=list)
    versions: dict[str, int] = field(default_factory=dict)
    wrong: int = 0
    lost: int = 0
    full: int = 0
    processor_s: float = 0
    server_s: float = 0
    memory: tuple[float, float] = (0, 0)

    @property
    def rate(self) -> float:
        return len(self.ms) / self.seconds

    def percentile(self, share: float) -> float:
        return sorted(self.ms)[min(len(self.ms) - 1, int(share * len(self.ms)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workspace", type=Path, default=ROOT / "workspaces" / "demo")
    parser.add_argument("--variant", default="fetalmovnet_s")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=30, help="of each of the parts; 300 in full")
    parser.add_argument("--turns", type=int, default=2, help="of bare engine and service")
    parser.add_argument("--logged", action="store_true", help="with a log of answers (`watch.folder`)")
    parser.add_argument("--write", action="store_true", help="keep the figures in benchmarks/results/serving.json")
    given = parser.parse_args()
    package = (given.workspace / "models" / TASK / given.variant).resolve()
    exports = (given.workspace / "exports" / TASK / given.variant).resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cines = cines_in(folder / "cines")
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        log_versions(folder, ROOT / "params.yaml", package, exports, given.logged)
        expected = expected_answers(folder, cines)
        bares, served = [], []
        with serving(folder, given.clients) as (url, process):
            ask(url, process, cines, expected, given.clients, WARM_S)
            for _ in range(given.turns):
                bares.append(bare(folder, cines, given.seconds / given.turns))
                served.append(ask(url, process, cines, expected, given.clients, given.seconds / given.turns))
            disturbed = ask(
                url, process, cines, expected, given.clients, given.seconds, lambda: disturb(folder, process)
            )
            later = ask(url, process, cines, expected, given.clients, given.seconds / 4)
    print_found(bares, served, disturbed, later)
    if given.write:
        print(write_claims("serving", claims(bares, served, disturbed, later, given)))


@contextmanager
def serving(folder: Path, clients: int) -> Iterator[tuple[str, psutil.Process]]:
    """The service as its verb starts it, in a workspace with a registry."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["--workspace", folder, "--task", TASK, "--port", port, "--queue", clients, "--poll", "1"]
    environment = os.environ | {"FETALFLOW_SERVE_TOKENS": TOKEN, "PYTHONPATH": str(ROOT)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    with open(folder / "serve.log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, *map(str, words)], env=environment, cwd=folder, stdout=log, stderr=log
        )
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + START_S
        while True:
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit((folder / "serve.log").read_text())
            try:
                if httpx.get(f"{url}/ready", trust_env=False).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.3)
        yield url, psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def disturb(folder: Path, process: psutil.Process) -> None:
    """Make version 2 champion, and kill a worker. It takes a moment until the service sees the one or the other."""
    from mlflow import MlflowClient

    with chdir(folder):
        MlflowClient("sqlite:///mlflow.db").set_registered_model_alias(MODEL, "champion", "2")
    workers = [child for child in process.children(recursive=True) if child.memory_info().rss > 50e6]
    youngest = max(workers, key=lambda child: child.create_time())
    youngest.kill()


def ask(
    url: str,
    process: psutil.Process,
    cines: list[Path],
    expected: dict[str, list[dict[str, float]]],
    clients: int,
    seconds: float,
    halfway: Callable[[], None] | None = None,
) -> Asked:
    """Let the clients ask for some seconds; each asks again as soon as it has its answer."""
    bodies = [_body(cine) for cine in cines]
    found = Asked(seconds)
    before, memory, own = _processor_s(process), _memory(process), sum(process.cpu_times()[:2])

    async def client(number: int, http: httpx.AsyncClient, end: float) -> None:
        at = number
        while time.perf_counter() < end:
            at = (at + 1) % len(bodies)
            await _one(http, bodies[at], expected, at, found)

    async def all_clients() -> None:
        begun = time.perf_counter()
        head = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "multipart/form-data; boundary=b"}
        limits = httpx.Limits(max_connections=clients)
        async with httpx.AsyncClient(base_url=url, headers=head, timeout=120, limits=limits, trust_env=False) as http:
            running = [asyncio.create_task(client(i, http, begun + seconds)) for i in range(clients)]
            if halfway:
                await asyncio.sleep(seconds / 3)
                await asyncio.to_thread(halfway)
            await asyncio.gather(*running)
        found.seconds = time.perf_counter() - begun

    asyncio.run(all_clients())
    found.server_s = sum(process.cpu_times()[:2]) - own
    found.processor_s, found.memory = _processor_s(process) - before, (memory, _memory(process))
    return found


async def _one(http: httpx.AsyncClient, body: bytes, expected: dict, at: int, found: Asked) -> None:
    begun = time.perf_counter()
    try:
        answer = await http.post("/v1/predict", content=body)
    except httpx.HTTPError:
        found.lost += 1
        return
    if answer.status_code == 503:
        found.full += 1
        await asyncio.sleep(float(answer.headers["retry-after"]))
        return
    if answer.status_code != 200:
        found.lost += 1
        return
    found.ms.append(1000 * (time.perf_counter() - begun))
    told = answer.json()
    version = told["models"][0]["version"]
    found.versions[version] = found.versions.get(version, 0) + 1
    wanted, got = expected[version][at], told["result"]["answers"][0]["probabilities"]
    found.wrong += any(abs(got[label] - p) > NEAR for label, p in wanted.items())


def _body(cine: Path) -> bytes:
    head = f'--b\r\nContent-Disposition: form-data; name="files"; filename="{cine.name}"\r\n\r\n'
    return head.encode() + cine.read_bytes() + b"\r\n--b--\r\n"


def _processor_s(process: psutil.Process) -> float:
    """Of the service and all its processes that live; one that was killed is missing."""
    return sum(sum(each.cpu_times()[:2]) for each in [process, *process.children(recursive=True)])


def _memory(process: psutil.Process) -> float:
    """MB; memory that processes share counts once."""
    found = 0
    for each in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):  # a worker of the earlier version has just ended
            found += each.memory_full_info().pss
    return found / 1e6


def summary(bares: list[dict[str, float]], served: list[Asked]) -> dict[str, float]:
    """Medians over the turns, and the overhead."""
    engine = statistics.median(each["rate"] for each in bares)
    rate = statistics.median(each.rate for each in served)
    engine_ms = 1000 * sum(each["processor_s"] for each in bares) / sum(each["answers"] for each in bares)
    served_ms = 1000 * sum(each.processor_s for each in served) / sum(len(each.ms) for each in served)
    server_ms = 1000 * sum(each.server_s for each in served) / sum(len(each.ms) for each in served)
    ms = sorted(value for each in served for value in each.ms)
    percentiles = {f"p{p}_ms": ms[min(len(ms) - 1, int(p / 100 * len(ms)))] for p in (50, 95, 99)}
    overhead = {"overhead": 1 - rate / engine, "processor_overhead": served_ms / engine_ms - 1}
    return (
        {"rate": rate, "engine_rate": engine, "engine_ms": engine_ms, "served_ms": served_ms, "server_ms": server_ms}
        | percentiles
        | overhead
    )


def print_found(bares: list[dict[str, float]], served: list[Asked], disturbed: Asked, later: Asked) -> None:
    for name, value in summary(bares, served).items():
        print(f"{name:20}{value:10.3f}")
    for name, each in (("steady", served[-1]), ("disturbed", disturbed), ("later", later)):
        memory = f"memory {each.memory[0]:.0f} to {each.memory[1]:.0f} MB"
        print(
            f"{name:10} {len(each.ms)} answers, versions {each.versions}, {each.wrong} wrong, {each.lost} lost", end=""
        )
        print(f", {each.full} times full, p99 {each.percentile(0.99):.0f} ms, {memory}")


def claims(
    bares: list[dict[str, float]], served: list[Asked], disturbed: Asked, later: Asked, given: argparse.Namespace
) -> list[dict]:
    found = summary(bares, served)
    everything = [*served, disturbed, later]
    rest = {
        "data": "12 short cines of speckle, the movement model of the demo",
        "split_unit": "none: nothing is trained",
        "seeds": [],
        "interval": "none: one run on one machine; medians over the turns",
        "command": f"python -m benchmarks serving --seconds {given.seconds:g} --write",
        "machine": f"AMD EPYC, {len(os.sched_getaffinity(0))} cores for clients, service and workers, with other work "
        f"(load {os.getloadavg()[0]:.0f}), {platform.system()}",
        "date": datetime.date.today().isoformat(),
    }
    return [
        {
            "claim": "{clients} clients of `fetalflow serve` get {rate:.1f} answers per second, half of them within "
            "{p50_ms:.0f} ms, 95 % within {p95_ms:.0f} ms and 99 % within {p99_ms:.0f} ms. The same number of "
            "processes without HTTP gives {engine_rate:.1f} per second. One answer costs "
            "{processor_overhead:.0%} more processor time than the bare engine.",
            "figures": found | {"clients": given.clients},
            "n": {"requests": sum(len(each.ms) for each in served), "turns": given.turns},
            "outcome": "measured" if found["processor_overhead"] <= ALLOWED else "worse",
        }
        | rest,
        {
            "claim": "While another version becomes champion and a worker is killed, {wrong} of {answers} answers are "
            "wrong and {lost} are lost. Service and workers take {from_mb:.0f} MB before and {to_mb:.0f} MB after "
            "{steady_answers} answers of version 1, which ONNX Runtime or OpenVINO gives, and {later_from_mb:.0f} MB "
            "before and {later_to_mb:.0f} MB after {later_answers} answers of version 2, which torch gives.",
            "figures": {
                "wrong": sum(each.wrong for each in everything),
                "lost": sum(each.lost for each in everything),
                "full": sum(each.full for each in everything),
                "answers": sum(len(each.ms) for each in everything),
                "of_version_1": disturbed.versions.get("1", 0),
                "of_version_2": disturbed.versions.get("2", 0),
                "from_mb": served[0].memory[0],
                "to_mb": served[-1].memory[1],
                "steady_answers": sum(len(each.ms) for each in served),
                "later_from_mb": later.memory[0],
                "later_to_mb": later.memory[1],
                "later_answers": len(later.ms),
            },
            "n": {"requests": sum(len(each.ms) for each in everything), "swaps": 1, "killed": 1},
            "outcome": "measured",
        }
        | rest,
    ]
