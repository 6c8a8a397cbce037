"""Checks of this machine: each gives ok, warn or fail, what was found, and what to do."""

import os
import re
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import httpx
import psutil
from packaging.requirements import Requirement

from fetalflow.errors import InputError
from fetalflow.registry.address import public_uri, tracking_uri
from fetalflow.registry.tracking import TrackingFailed, registry
from flows.checkout import CHECKOUT

OK, WARN, FAIL = "ok", "warn", "fail"
TIMEOUT_S = 5  # of one request to a server
REMOTE_S = 20  # time limit for a DVC remote
GIB = 2**30
DISK_GIB = (2, 20)  # free: below the first fail, below the second warn
MEMORY_GIB = (2, 4)  # available: likewise; the stages of the demo need less than 2
CUDA = re.compile(r"nvidia-(?!ml-py)|cuda-|triton")
SKEW_S = (5, 60)  # difference to a server's clock: above the first warn, above the second fail


@dataclass(frozen=True)
class Finding:
    """Result of one check: its name, OK, WARN or FAIL, what was found, and what to do."""

    check: str
    state: str
    found: str
    to_do: str = ""


def examine(workspace: Path, pool: str) -> list[Finding]:
    """Run all checks in order. A check that raises an error counts as FAIL; the other checks still run."""
    checks: dict[str, Callable[[], Finding]] = {
        "python": check_python,
        "packages": lambda: check_packages(CHECKOUT / "requirements.lock", CHECKOUT / "requirements-torch.lock"),
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
    except Exception as error:  # noqa: BLE001 - every error is reported, and the other checks still run
        message = _public(str(error).strip().split("\n")[0])[:300]
        return Finding(name, FAIL, f"could not be checked: {type(error).__name__}: {message}", "correct the error")


def check_python() -> Finding:
    found = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    if sys.version_info[:2] in ((3, 11), (3, 12)):
        return Finding("python", OK, found)
    return Finding("python", FAIL, found, "create the environment with Python 3.11 or 3.12: make setup")


def check_packages(*locks: Path) -> Finding:
    """Compare the installed packages with the locks, as far as these are for this Python and system. NVIDIA's libraries
    count only for a torch that requires them, and another build of the same torch version is allowed (README)."""
    names = " and ".join(lock.name for lock in locks)
    if gone := [lock.name for lock in locks if not lock.is_file()]:
        return Finding("packages", WARN, f"{' and '.join(gone)} not found, so the versions cannot be compared", "")
    text = "\n".join(lock.read_text(encoding="utf-8") for lock in locks)
    locked = [Requirement(line) for line in re.findall(r"^[\w.-]+==[^\\\n]+", text, re.M)]
    needed = [
        r for r in locked if (not r.marker or r.marker.evaluate()) and (_torch_uses_cuda() or not CUDA.match(r.name))
    ]
    missing, other = [], []
    for requirement in needed:
        try:
            found = version(requirement.name).split("+")[0]
        except PackageNotFoundError:
            missing.append(requirement.name)
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            other.append(f"{requirement.name} {found} (lock: {str(requirement.specifier)[2:]})")
    to_do = f"pip install --no-deps --require-hashes {' '.join(f'-r {lock.name}' for lock in locks)}"
    if missing:
        return Finding("packages", FAIL, f"missing: {_first(missing)}", to_do)
    if other:
        return Finding("packages", WARN, f"versions differ from the lock: {_first(other)}", to_do)
    return Finding("packages", OK, f"{len(needed)} packages as in {names}")


def _torch_uses_cuda() -> bool:
    try:
        return any(required.startswith("triton") for required in requires("torch") or [])
    except PackageNotFoundError:  # its own line says so
        return True


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
                f"this machine has an NVIDIA driver, but torch {torch.__version__} finds no GPU",
                "install a torch build for the driver's CUDA version; in a container, give it access to the GPU",
            )
        return Finding("gpu", OK, f"none, torch {torch.__version__}: training runs on the CPU")
    name, (free, total) = torch.cuda.get_device_name(), torch.cuda.mem_get_info()
    found = f"{name}, {free / GIB:.0f} of {total / GIB:.0f} GiB free, torch {torch.__version__}"
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        return Finding("gpu", WARN, f"{found}, no bf16", "set train.precision to 16-mixed or 32")
    one = torch.ones(64, 64, dtype=torch.bfloat16, device="cuda")
    if float((one @ one).sum()) != 64**3:
        return Finding("gpu", FAIL, f"{found}: a matrix product in bf16 is wrong", "replace the driver or the card")
    return Finding("gpu", OK, f"{found}, bf16")


def check_disk(workspace: Path) -> Finding:
    free = shutil.disk_usage(workspace).free / GIB
    to_do = "free some space; `dvc gc --workspace` deletes cached results that the workspace does not use"
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
    """Version of DVC, whether the cache is writable, and whether the default remote answers, if there is one."""
    import dvc
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    if workspace.resolve() == CHECKOUT and not os.access(CHECKOUT / ".dvc", os.W_OK):
        return Finding("dvc", OK, f"DVC {dvc.__version__}, the code is read-only: stages run in workspaces")
    try:
        repo = Repo(str(workspace))
    except NotDvcRepoError:
        return Finding(
            "dvc", FAIL, f"{workspace.resolve()} is not a DVC repository", "run this in the checkout or a workspace"
        )
    with repo:
        found = f"DVC {dvc.__version__}"
        cache = Path(repo.cache.local.path)
        nearest = next(folder for folder in (cache, *cache.parents) if folder.exists())
        if not os.access(nearest, os.W_OK):
            return Finding(
                "dvc", FAIL, f"{found}, its cache {cache} is not writable", f"give your user write access to {nearest}"
            )
        if not repo.config.get("remote"):
            return Finding("dvc", OK, f"{found}, cache is writable, no remote")
        if not (name := repo.config["core"].get("remote")):
            return Finding("dvc", WARN, f"{found}, has remotes but no default remote", "dvc remote default NAME")
        executor = ThreadPoolExecutor(1)
        try:
            exists = executor.submit(_remote_exists, repo, name).result(REMOTE_S)
        except TimeoutError:
            return Finding("dvc", FAIL, f"{found}, remote {name} gives no answer in {REMOTE_S} s", "check the network")
        finally:
            executor.shutdown(wait=False, cancel_futures=True)
    if not exists:
        return Finding(
            "dvc", WARN, f"{found}, remote {name} answers, its folder is not there yet", "dvc push creates it"
        )
    return Finding("dvc", OK, f"{found}, cache is writable, remote {name} answers")


def _remote_exists(repo, name: str) -> bool:
    store = repo.cloud.get_remote_odb(name)
    return store.fs.exists(store.path)


def check_mlflow(workspace: Path) -> Finding:
    uri = tracking_uri()
    where, installed = public_uri(uri), version("mlflow")
    found = f"MLflow {installed}, {where}"
    if uri.startswith("http"):
        log_in = (os.environ.get("MLFLOW_TRACKING_USERNAME", ""), os.environ.get("MLFLOW_TRACKING_PASSWORD", ""))
        answer = _get(f"{uri.rstrip('/')}/version", log_in if log_in[0] else None)
        if isinstance(answer, str):
            return Finding(
                "mlflow", FAIL, f"{where} gives no answer ({answer})", "start it, or correct MLFLOW_TRACKING_URI"
            )
        on_server = answer.text.strip() if answer.status_code == 200 else "unknown"
        found = f"MLflow {installed}, server {on_server} at {where}"
    elif uri.startswith("sqlite:///"):
        if not (workspace / uri.removeprefix("sqlite:///")).is_file():
            return Finding("mlflow", OK, f"{found} is not there yet: the first run creates it")
        if workspace.resolve() != Path.cwd():
            return Finding("mlflow", OK, f"{found} is there")
    try:
        with registry():
            pass
    except (TrackingFailed, InputError) as error:
        to_do = "see its log; if it needs a login, set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        return Finding("mlflow", FAIL, str(error), to_do)
    if uri.startswith("http") and on_server.split(".")[0] != installed.split(".")[0]:
        return Finding("mlflow", WARN, found, "run the same major version on both sides")
    return Finding("mlflow", OK, f"{found} answers")


def check_prefect(pool: str) -> Finding:
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound
    from prefect.settings import PREFECT_API_URL

    url, installed = PREFECT_API_URL.value(), version("prefect")
    if not url:
        return Finding(
            "prefect",
            OK,
            f"Prefect {installed}, no server: each run starts a temporary one; schedules are not possible",
        )
    where = public_uri(url)
    answer = _get(f"{url.rstrip('/')}/health")
    if isinstance(answer, str):
        return Finding("prefect", FAIL, f"{where} gives no answer ({answer})", "start it, or correct PREFECT_API_URL")
    with get_client(sync_client=True) as client:
        try:
            on_server = client.api_version()
            found = f"Prefect {installed}, server {on_server} at {where}"
            kind = client.read_work_pool(pool).type
            online = sum(worker.status == "ONLINE" for worker in client.read_workers_for_work_pool(pool))
        except ObjectNotFound:
            return Finding(
                "prefect", WARN, f"{found}, no work pool {pool!r}", f"prefect work-pool create --type process {pool}"
            )
        except httpx.HTTPStatusError as error:
            to_do = "set PREFECT_API_AUTH_STRING" if error.response.status_code == 401 else "see the server's log"
            return Finding("prefect", FAIL, f"{where} answers {error.response.status_code}", to_do)
    if on_server.split(".")[0] != installed.split(".")[0]:
        return Finding("prefect", FAIL, found, "run the same version on both sides")
    if kind != "process":
        return Finding("prefect", FAIL, f"{found}, pool {pool!r} has the type {kind}", "choose a process pool: --pool")
    if not online:
        return Finding(
            "prefect", WARN, f"{found}, pool {pool!r} has no online worker", f"prefect worker start --pool {pool}"
        )
    return Finding("prefect", OK, f"{found}, pool {pool!r} with {online} workers")


def check_clock() -> Finding:
    """Compare this clock with those of the servers: leases, schedules and times in the ledger depend on it."""
    from prefect.settings import PREFECT_API_URL

    urls = {"MLflow": f"{tracking_uri().rstrip('/')}/health", "Prefect": f"{(PREFECT_API_URL.value() or '')}/health"}
    off = {}
    for name, url in urls.items():
        if url.startswith("http") and not isinstance(answer := _get(url), str) and "date" in answer.headers:
            off[name] = abs((datetime.now(UTC) - parsedate_to_datetime(answer.headers["date"])).total_seconds())
    if not off:
        return Finding("clock", OK, f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC, no server to compare it with")
    name = max(off, key=off.get)
    warn, fail = SKEW_S
    state = FAIL if off[name] > fail else WARN if off[name] > warn else OK
    to_do = "set the time: timedatectl set-ntp true, on both machines" if state != OK else ""
    return Finding("clock", state, f"differs by {off[name]:.0f} s from the clock of {name}", to_do)


def check_key() -> Finding:
    from fetalflow.hospital.deidentify.pseudonyms import FILE_VARIABLE, VARIABLE, read_key

    if not (os.environ.get(VARIABLE) or os.environ.get(FILE_VARIABLE)):
        return Finding("key", OK, "no pseudonym key is set; only de-identification needs one")
    try:
        read_key()
    except InputError as error:
        return Finding("key", FAIL, str(error), "see docs/operator/operations.md, Secrets")
    return Finding("key", OK, "the pseudonym key is set and closed to other users")


def _get(url: str, log_in: tuple[str, str] | None = None) -> httpx.Response | str:
    """The response to GET with any status; if there is none, the reason as text."""
    try:
        return httpx.get(url, auth=log_in, timeout=TIMEOUT_S, follow_redirects=True)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return _public(str(error)) or type(error).__name__


def _public(text: str) -> str:
    """A message without the login that a URL in it may contain."""
    return re.sub(r"//[^/@\s]+@", "//", text)
