"""Settings that hold for every test, in this process and in those it starts."""

import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import yaml
from hypothesis import settings
from quick_start.loopback import keep_to_loopback, keep_to_this_machine
from xdist.scheduler import LoadFileScheduling

if TYPE_CHECKING:
    from processes import Server

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # see stages/__init__.py; before anything imports torch
# Tests start hundreds of processes: each would compile all its modules, and pytest all tests, if nothing were kept.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# To look for garbage among the modules took almost half of the time of collecting; see pytest_collection_finish.
gc.disable()
# Several test processes share the cores: a pool of threads in each only waits for the others'.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# So do the servers that tests start with `processes.environ`.
keep_to_loopback()

# What all processes of the tests share, the servers and programs that they start too: see pytest_sessionfinish.
if "TESTS_FOLDER" not in os.environ:
    os.environ["TESTS_FOLDER"] = tempfile.mkdtemp(prefix="fetalflow-tests-")
    os.environ["WATCHED_HOSTS"] = os.environ["TESTS_FOLDER"] + "/hosts.txt"
    os.environ["HOME"] = os.environ["TESTS_FOLDER"] + "/home"
    os.environ["PREFECT_HOME"] = os.environ["TESTS_FOLDER"] + "/prefect"
    os.environ["MPLCONFIGDIR"] = os.environ["TESTS_FOLDER"] + "/matplotlib"
    os.mkdir(os.environ["HOME"])
    # Git asks the home folder who commits.
    os.environ |= {f"GIT_{who}_{what}": "tests" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
keep_to_this_machine()

# Hundreds of tests read params.yaml: the loader and the dumper in C say the same in an eighth of the time.
if hasattr(yaml, "CSafeLoader"):
    yaml.safe_load = partial(yaml.load, Loader=yaml.CSafeLoader)
    yaml.safe_load_all = partial(yaml.load_all, Loader=yaml.CSafeLoader)
    yaml.safe_dump = partial(yaml.dump, Dumper=yaml.CSafeDumper)

# The same examples every time: a red suite means that the change is at fault.
settings.register_profile("steady", derandomize=True)
settings.load_profile("steady")

MEMORY, GB = Path("/dev/shm"), 10**9

# Files that one process runs, since they share what takes long to start: Prefect's server (12 s of processor time) and
# the process that stages are forked from (7 s).
FLOWS = (
    "test_promote_flow",
    "test_retrain",
    "test_pipeline",
    "test_alerts",
    "test_requests_in_mlflow",
    "test_clean",
    "test_watch_flow",
)
FORKED = (
    *("test_faults_tracking", "test_distributed_training", "test_resume", "test_faults", "test_cli"),
    *("test_two_engineers", "test_in_the_image", "test_training", "test_training_speed"),
)
# They export networks: what PyTorch and ONNX need for the first one takes 4 s of processor time.
EXPORTS = (
    *("test_export", "test_export_stage", "test_streaming", "test_movement_rivals", "test_fetalmovnet_m"),
    "test_feeding",
)
DOSSIER = "dossier"  # a folder whose files share a champion of each task
# They share a browser and a station, to which some of them add cines and a network: the first one counts its cines.
STATION = (
    *("test_cines_page", "test_frames", "test_labelling_in_browser", "test_next_page", "test_overlays", "test_player"),
    *("test_quarantine_page", "test_two_annotators"),
)
# The files that take longest, longest first: then the processes of `make test` end at about the same time.
LONGEST = (
    *("test_night", *FLOWS, *FORKED, DOSSIER, *EXPORTS, "test_tracking", "test_rollback"),
    *("test_killing", "test_folds", "test_biometry_stages", "test_report"),
    *("test_arrival", "test_erasure", "test_explain", "test_cluster", *STATION),
    *("test_promotion", "test_actogram", "test_segmenter", "test_warm_start"),
    *("test_doctor", "test_hostile", "test_extend", "test_lineage", "test_ledger", "test_quality", "test_sites"),
)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    """Each of several processes begins with other folders: then it finds most tests compiled by the others."""
    report = yield
    if (given := getattr(collector.config, "workerinput", None)) and isinstance(collector, pytest.Dir):
        begin = len(report.result) * int(given["workerid"][2:]) // given["workercount"]
        report.result = report.result[begin:] + report.result[:begin]
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> tuple[int, Path]:
        name = DOSSIER if DOSSIER in item.path.parts else item.path.stem
        return LONGEST.index(name) if name in LONGEST else len(LONGEST), item.path

    items.sort(key=place)


def pytest_collection_finish() -> None:
    gc.freeze()  # modules are no garbage
    gc.enable()
    gc.set_threshold(10_000, 20, 20)  # nor are those that a test imports


def pytest_configure(config: pytest.Config) -> None:
    """The files of several test processes lie in memory where there is plenty: each write of a database would wait for
    the disk. One process keeps its files on the disk, where they can be looked at afterwards."""
    several = config.getoption("numprocesses", None) and not hasattr(config, "workerinput")
    if several and not config.option.basetemp and _is_roomy(MEMORY):
        for left in MEMORY.glob("fetalflow-tests-[0-9]*-*"):  # by a run that was killed
            if not psutil.pid_exists(int(left.name.split("-")[2])):
                shutil.rmtree(left, ignore_errors=True)
        config.option.basetemp = tempfile.mkdtemp(prefix=f"fetalflow-tests-{os.getpid()}-", dir=MEMORY)
        config.add_cleanup(partial(shutil.rmtree, config.option.basetemp, ignore_errors=True))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """No test, and no process of one, asked for another machine or wrote into the home folder."""
    if hasattr(session.config, "workerinput"):
        return
    folder = Path(os.environ["TESTS_FOLDER"])
    hosts = (folder / "hosts.txt").read_text() if (folder / "hosts.txt").exists() else ""
    written = "\n".join(map(str, (folder / "home").rglob("*")))
    shutil.rmtree(folder)
    if hosts or written:
        print(f"\nOther machines that were asked for:\n{hosts}\nIn the home folder:\n{written}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _is_roomy(place: Path) -> bool:
    if not place.is_dir() or os.statvfs(place).f_flag & os.ST_NOEXEC:  # tests start programs that they write
        return False
    return min(shutil.disk_usage(place).free, psutil.virtual_memory().available) > 12 * GB


class FilesThatShare(LoadFileScheduling):
    """Whole files go to a process, and those of a group above to the same one."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        if DOSSIER in Path(file).parts:
            return DOSSIER
        return next((group[0] for group in (FLOWS, FORKED, EXPORTS, STATION) if Path(file).stem in group), file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> FilesThatShare | None:
    return FilesThatShare(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.fixture(scope="session")
def server_of_prefect(tmp_path_factory) -> Iterator["Server"]:
    from servers import prefect_server

    with prefect_server(tmp_path_factory.mktemp("prefect"), services=False) as server:
        yield server


@pytest.fixture
def prefect_here(server_of_prefect) -> Iterator[None]:
    """Flows of this process run on a real server."""
    from prefect.logging.handlers import APILogWorker
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    access = server_of_prefect.access
    there = {name: access[name.name] for name in (PREFECT_API_URL, PREFECT_API_AUTH_STRING)}
    with temporary_settings(there):
        yield
        APILogWorker.drain_all(timeout=60)
