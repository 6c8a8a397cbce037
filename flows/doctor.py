"""Is this machine ready? Every check says ok, warn or fail, what it found, and what to do."""

import os
import re
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import httpx
import psutil

from fetalflow.errors import InputError
from fetalflow.tracking import TrackingFailed, public_uri, registry, tracking_uri
from flows.workspace import CHECKOUT

OK, WARN, FAIL = "ok", "warn", "fail"
TIMEOUT_S = 5  # of one question to a server
REMOTE_S = 20  # of a look into a DVC remote
GIB = 2**30
DISK_GIB = (2, 20)  # less than the first: fail; than the second: warn
MEMORY_GIB = (2, 4)  # available; the demo's stages stay under 2
SKEW_S = (5, 60)  # of this clock against a server's: more than the first: warn, than the second: fail


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, OK, WARN or FAIL, what was found, and what to do about it."""

    check: str
    state: str
    found: str
    to_do: str = ""


def examine(workspace: Path, pool: str) -> list[Finding]:
    """Every check, in the order of the report. A check that breaks is a FAIL of its own and stops no other."""
    checks: dict[str, Callable[[], Finding]] = {
        "python": check_python,
        "packages": lambda: check_packages(CHECKOUT / "requirements.lock"),
        "gpu": check_gpu,
        "disk": lambda: check_disk(workspace),
        "memory": check_memory,
        "dvc": lambda: check_dvc(workspace),
        "mlflow": lambda: check_mlflow(workspace),
        "prefect": lambda: check_prefect(pool),
        "clock": check_clock,
        "key": check_key,
    }
    return [_guarded(name, check) for name, check in checks.items()]


def _guarded(name: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is reported, and the other checks still run
        said = _public(str(error).strip().split("\n")[0])[:300]
        return Finding(name, FAIL, f"could not be checked: {type(error).__name__}: {said}", "mend what it names")


def check_python() -> Finding:
    found = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    if sys.version_info[:2] in ((3, 11), (3, 12)):
        return Finding("python", OK, found)
    return Finding("python", FAIL, found, "make the environment with Python 3.11 or 3.12: make setup")


def check_packages(lock: Path) -> Finding:
    """Installed packages against the lock. A torch of another build is meant to be possible (README)."""
    if not lock.is_file():
        return Finding("packages", WARN, f"{lock.name} is not there, nothing to compare with", "")
    wanted = dict(re.findall(r"^([\w.-]+)==([^\s;+]+)", lock.read_text(), re.M))
    missing, other = [], []
    for name, number in wanted.items():
        try:
            found = version(name).split("+")[0]
        except PackageNotFoundError:
            missing.append(name)
            continue
        if found != number:
            other.append(f"{name} {found} (lock: {number})")
    if missing:
        return Finding("packages", FAIL, f"missing: {_first(missing)}", f"pip install -r {lock.name}")
    if other:
        return Finding("packages", WARN, f"other than the lock: {_first(other)}", f"pip install -r {lock.name}")
    return Finding("packages", OK, f"{len(wanted)} packages as in {lock.name}")


def _first(names: list[str], few: int = 5) -> str:
    more = f" and {len(names) - few} more" if len(names) > few else ""
    return ", ".join(names[:few]) + more


def check_gpu() -> Finding:
    import torch

    if not torch.cuda.is_available():
        if shutil.which("nvidia-smi"):
            return Finding(
                "gpu",
                FAIL,
                f"this machine has an NVIDIA driver, but torch {torch.__version__} does not reach a GPU",
                "install a torch built for the driver's CUDA; in a container, give it the device",
            )
        return Finding("gpu", OK, f"none, torch {torch.__version__}: training runs on the processor")
    name, (free, total) = torch.cuda.get_device_name(), torch.cuda.mem_get_info()
    found = f"{name}, {free / GIB:.0f} of {total / GIB:.0f} GiB free, torch {torch.__version__}"
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        return Finding("gpu", WARN, f"{found}, no bf16", "set train.precision to 16-mixed or 32")
    one = torch.ones(64, 64, dtype=torch.bfloat16, device="cuda")
    if float((one @ one).sum()) != 64**3:
        return Finding("gpu", FAIL, f"{found}: a product of ones is wrong in bf16", "change driver or card")
    return Finding("gpu", OK, f"{found}, bf16")


def check_disk(workspace: Path) -> Finding:
    free = shutil.disk_usage(workspace).free / GIB
    to_do = "free some; `dvc gc --workspace` removes cached results that no workspace file names"
    return _bounded("disk", free, DISK_GIB, f"{free:.0f} GiB free", to_do)


def check_memory() -> Finding:
    memory = psutil.virtual_memory()
    free = memory.available / GIB
    found = f"{free:.1f} of {memory.total / GIB:.1f} GiB available"
    return _bounded("memory", free, MEMORY_GIB, found, "end other programs, or lower train.batch and extract.workers")


def _bounded(check: str, value: float, bounds: tuple[float, float], found: str, to_do: str) -> Finding:
    fail, warn = bounds
    state = FAIL if value < fail else WARN if value < warn else OK
    return Finding(check, state, found, to_do if state != OK else "")


def check_dvc(workspace: Path) -> Finding:
    """Its version, whether the cache can be written, and whether the default remote, if there is one, answers."""
    import dvc
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    try:
        repo = Repo(str(workspace))
    except NotDvcRepoError:
        return Finding(
            "dvc", FAIL, f"{workspace.resolve()} is no DVC repository", "run this in a checkout or workspace"
        )
    with repo:
        found = f"DVC {dvc.__version__}"
        cache = Path(repo.cache.local.path)
        nearest = next(folder for folder in (cache, *cache.parents) if folder.exists())
        if not os.access(nearest, os.W_OK):
            return Finding("dvc", FAIL, f"{found}, its cache {cache} cannot be written", f"give yourself {nearest}")
        if not repo.config.get("remote"):
            return Finding("dvc", OK, f"{found}, cache can be written, no remote")
        if not (name := repo.config["core"].get("remote")):
            return Finding("dvc", WARN, f"{found}, remotes but no default one", "dvc remote default NAME")
        executor = ThreadPoolExecutor(1)
        try:
            is_there = executor.submit(_remote_is_there, repo, name).result(REMOTE_S)
        except TimeoutError:
            return Finding("dvc", FAIL, f"{found}, remote {name} gives no answer in {REMOTE_S} s", "check the network")
        finally:
            executor.shutdown(wait=False, cancel_futures=True)
    if not is_there:
        return Finding("dvc", WARN, f"{found}, remote {name} answers, its folder is not there yet", "dvc push makes it")
    return Finding("dvc", OK, f"{found}, cache can be written, remote {name} answers")


def _remote_is_there(repo, name: str) -> bool:
    store = repo.cloud.get_remote_odb(name)
    return store.fs.exists(store.path)


def check_mlflow(workspace: Path) -> Finding:
    uri = tracking_uri()
    where, ours = public_uri(uri), version("mlflow")
    found = f"MLflow {ours}, {where}"
    if uri.startswith("http"):
        log_in = (os.environ.get("MLFLOW_TRACKING_USERNAME", ""), os.environ.get("MLFLOW_TRACKING_PASSWORD", ""))
        answer = _ask(f"{uri.rstrip('/')}/version", log_in if log_in[0] else None)
        if isinstance(answer, str):
            return Finding(
                "mlflow", FAIL, f"{where} gives no answer ({answer})", "start it, or mend MLFLOW_TRACKING_URI"
            )
        theirs = answer.text.strip() if answer.status_code == 200 else "unknown"
        found = f"MLflow {ours}, server {theirs} at {where}"
    elif uri.startswith("sqlite:///"):
        if not (workspace / uri.removeprefix("sqlite:///")).is_file():
            return Finding("mlflow", OK, f"{found} is not there yet: the first run makes it")
        if workspace.resolve() != Path.cwd():
            return Finding("mlflow", OK, f"{found} is there")
    try:
        with registry():
            pass
    except (TrackingFailed, InputError) as error:
        to_do = "see its log; with a log-in: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        return Finding("mlflow", FAIL, str(error), to_do)
    if uri.startswith("http") and theirs.split(".")[0] != ours.split(".")[0]:
        return Finding("mlflow", WARN, found, "run the same major version on both sides")
    return Finding("mlflow", OK, f"{found} answers")


def check_prefect(pool: str) -> Finding:
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound
    from prefect.settings import PREFECT_API_URL

    url, ours = PREFECT_API_URL.value(), version("prefect")
    if not url:
        return Finding("prefect", OK, f"Prefect {ours}, no server: each run starts one of its own; no schedules")
    where = public_uri(url)
    answer = _ask(f"{url.rstrip('/')}/health")
    if isinstance(answer, str):
        return Finding("prefect", FAIL, f"{where} gives no answer ({answer})", "start it, or mend PREFECT_API_URL")
    with get_client(sync_client=True) as client:
        try:
            theirs = client.api_version()
            found = f"Prefect {ours}, server {theirs} at {where}"
            kind = client.read_work_pool(pool).type
            online = sum(worker.status == "ONLINE" for worker in client.read_workers_for_work_pool(pool))
        except ObjectNotFound:
            return Finding(
                "prefect", WARN, f"{found}, no work pool {pool!r}", f"prefect work-pool create --type process {pool}"
            )
        except httpx.HTTPStatusError as error:
            to_do = "set PREFECT_API_AUTH_STRING" if error.response.status_code == 401 else "see the server's log"
            return Finding("prefect", FAIL, f"{where} answers {error.response.status_code}", to_do)
    if theirs.split(".")[0] != ours.split(".")[0]:
        return Finding("prefect", FAIL, found, "run the same version on both sides")
    if kind != "process":
        return Finding("prefect", FAIL, f"{found}, pool {pool!r} is of the type {kind}", "name a process pool: --pool")
    if not online:
        return Finding("prefect", WARN, f"{found}, pool {pool!r} without worker", f"prefect worker start --pool {pool}")
    return Finding("prefect", OK, f"{found}, pool {pool!r} with {online} workers")


def check_clock() -> Finding:
    """This clock against that of the servers: leases, schedules and the ledger's times go by it."""
    from prefect.settings import PREFECT_API_URL

    asked = {"MLflow": f"{tracking_uri().rstrip('/')}/health", "Prefect": f"{(PREFECT_API_URL.value() or '')}/health"}
    off = {}
    for name, url in asked.items():
        if url.startswith("http") and not isinstance(answer := _ask(url), str) and "date" in answer.headers:
            off[name] = abs((datetime.now(UTC) - parsedate_to_datetime(answer.headers["date"])).total_seconds())
    if not off:
        return Finding("clock", OK, f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC, no server to compare with")
    name = max(off, key=off.get)
    warn, fail = SKEW_S
    state = FAIL if off[name] > fail else WARN if off[name] > warn else OK
    to_do = "set the time: timedatectl set-ntp true, on both machines" if state != OK else ""
    return Finding("clock", state, f"{off[name]:.0f} s from that of {name}", to_do)


def check_key() -> Finding:
    from fetalflow.deidentify.pseudonyms import FILE_VARIABLE, VARIABLE, read_key

    if not (os.environ.get(VARIABLE) or os.environ.get(FILE_VARIABLE)):
        return Finding("key", OK, "no key of pseudonyms is set; only de-identification needs one")
    try:
        read_key()
    except InputError as error:
        return Finding("key", FAIL, str(error), "see docs/operator.md, Secrets")
    return Finding("key", OK, "the key of pseudonyms is set and closed to others")


def _ask(url: str, log_in: tuple[str, str] | None = None) -> httpx.Response | str:
    """The answer to GET, whatever its status; in words, why there is none."""
    try:
        return httpx.get(url, auth=log_in, timeout=TIMEOUT_S, follow_redirects=True)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return _public(str(error)) or type(error).__name__


def _public(text: str) -> str:
    """A message without the log-in that a URL in it may carry."""
    return re.sub(r"//[^/@\s]+@", "//", text)
