"""Extraction and preprocessing on a Dask cluster of two worker processes end in the same bytes as on one machine."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml
from cine_files import dicom, save_dicom, speckle, write_video
from distributed import Client

from fetalflow.artefacts import file_digest
from fetalflow.errors import InputError
from fetalflow.sequences.extraction import extract_drop
from fetalflow.sequences.preprocessing import preprocess
from fetalflow.settings.params import Extract, load_settings
from stages import extract
from stages import preprocess as preprocess_stage
from stages.runtime.cluster import SCHEDULER, machine_facts, spread_over

ROOT = Path(__file__).parents[2]
SETTINGS = Extract(frames=8, stride=8, workers=1, quarantine_share=0.5)
QUIET = {"DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "error", "OMP_NUM_THREADS": "1"}


def make_drop(folder: Path) -> Path:
    """Ten cines of three kinds, a truncated one, one that stands there twice, and a row without a label."""
    folder.mkdir()
    names = [f"{i}.avi" for i in range(8)] + ["8.dcm", "9.mp4"]
    for i, name in enumerate(names):
        frames = speckle(20 + i, seed=i)
        if name.endswith(".dcm"):
            save_dicom(folder / name, dicom(frames))
        else:
            write_video(folder / name, frames, "libx264" if name.endswith(".mp4") else "mjpeg")
    torn = (folder / "7.avi").read_bytes()
    (folder / "7.avi").write_bytes(torn[: len(torn) * 2 // 3])
    shutil.copy(folder / "0.avi", folder / "copy.avi")
    rows = [
        {"video": name, "patient": f"p{i % 4}", "site": "a", "device": "d", "annotator": "x", "label": "leg"}
        for i, name in enumerate([*names, "copy.avi"])
    ]
    rows[2]["label"], rows[-1]["patient"] = "", "p0"
    pd.DataFrame(rows).assign(start_frame="", end_frame="").to_csv(folder / "annotations.csv", index=False)
    return folder


def make_workspace(folder: Path, drop: Path, **machines: str) -> Path:
    (folder / "reviews").mkdir(parents=True)
    (folder / "reviews" / "movement.csv").write_text((ROOT / "reviews" / "movement.csv").read_text())
    entry = {"task": "movement", "drop": str(drop), "variant": "cnn", "network": "cnn", "base": "cnn"}
    block = {name: {} for name in ("split", "validate", "train", "register")}
    block |= {
        "phantom": {"sequences": {"leg": 4}},
        "extract": SETTINGS.model_dump(mode="json"),
        "preprocess": {"size": 48},
    }
    params = {"tasks": {"movement": entry}, "phantoms": [], "movement": block, "machines": machines}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return folder


def written(folder: Path) -> dict[str, str]:
    """Every file that the two stages wrote, hidden ones too: SHA-256 by path. JSON of the same drop is the same."""
    files = (file for room in ("data", "reports") for file in (folder / room).rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file_digest(file) for file in sorted(files)}


def run_stages() -> None:
    extract.main("movement")
    preprocess_stage.main("movement")


@pytest.fixture(scope="module")
def drop(tmp_path_factory) -> Path:
    return make_drop(tmp_path_factory.mktemp("hospital") / "drop")


@pytest.fixture(scope="module")
def alone(tmp_path_factory, drop) -> dict[str, str]:
    """What one machine writes."""
    folder = make_workspace(tmp_path_factory.mktemp("alone"), drop)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_stages()
    return written(folder)


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    """A scheduler and two workers, each a process that stands in another folder than the workspace."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    known = elsewhere / "scheduler.json"
    environment = os.environ | QUIET | {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    words = {
        "scheduler": ["--host", "127.0.0.1", "--port", "0", "--no-dashboard"],
        "worker": ["--nworkers", "2", "--nthreads", "1", "--no-dashboard", "--memory-limit", "0"],
    }
    with open(elsewhere / "log", "w") as log:
        started = [
            subprocess.Popen(
                [sys.executable, "-m", "dask", kind, "--scheduler-file", str(known), *more],
                cwd=elsewhere, env=environment, stdout=log, stderr=log,
            )
            for kind, more in words.items()
        ]  # fmt: skip
    try:
        with Client(scheduler_file=str(known), timeout=60) as client:
            client.wait_for_workers(2, timeout=60)
            yield client.scheduler.address
    finally:
        family = [child for p in started for child in psutil.Process(p.pid).children(recursive=True)]
        for process in [*reversed(started), *family]:
            process.kill()
        for process in started:
            process.wait()


def test_a_cluster_writes_the_same_bytes(tmp_path, drop, alone, address, monkeypatch):
    monkeypatch.chdir(make_workspace(tmp_path / "w", drop, scheduler=address))
    run_stages()
    found = written(Path.cwd())
    assert found == alone
    assert sum(name.endswith(".npy") for name in found if "frames" in name) == 8
    quarantine = pd.read_csv("data/movement/quarantine.csv")
    assert sorted(quarantine["kind"]) == ["copy", "row", "truncated"]


def test_a_worker_killed_on_the_way_changes_nothing(tmp_path, drop, alone, address, monkeypatch):
    """Once outright while it decodes, once while it writes sequences: another one does its work again."""
    monkeypatch.chdir(make_workspace(tmp_path / "w", drop))
    monkeypatch.setenv(SCHEDULER, address)
    killed = []

    def kill_one(*_: object) -> None:
        if not killed:
            killed.append(pids()[0])
            os.kill(killed[0], signal.SIGKILL)

    def pids() -> list[int]:
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=30)
            # A worker that was killed just now may still be in the list.
            return sorted(client.run(os.getpid, on_error="ignore").values())

    monkeypatch.setattr(extract, "_progress", kill_one)
    extract.main("movement")
    first, killed[:] = killed[0], []
    fit = "fetalflow.sequences.preprocessing.delayed"
    monkeypatch.setattr(fit, lambda call: lambda *a: (kill_one(), (call, a, {}))[1])
    preprocess_stage.main("movement")
    assert written(Path.cwd()) == alone
    assert first != killed[0] and not {first, *killed} & set(pids())


def test_an_input_error_comes_back_from_a_worker(tmp_path, drop, address, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = extract_drop(drop, SETTINGS, tmp_path / "frames")
    next((tmp_path / "frames").glob("*.npy")).unlink()
    with spread_over(address), pytest.raises(InputError, match="missing or damaged(.|\n)*Run extract again"):
        preprocess(found.sequences, tmp_path / "frames", tmp_path / "sequences", 48)
    assert not (tmp_path / "sequences").exists()


def test_no_scheduler_is_said_within_seconds(tmp_path, monkeypatch):
    monkeypatch.setattr("stages.runtime.cluster.PATIENCE_S", 1)
    started = time.monotonic()
    for address in ("tcp://127.0.0.1:9", "nonsense://x"):
        with pytest.raises(InputError, match=f"no Dask scheduler answers at {address}"), spread_over(address):
            pass
    assert time.monotonic() - started < 10


def test_workers_that_cannot_see_the_drop_or_have_other_code_are_refused(tmp_path, address, monkeypatch):
    monkeypatch.chdir(tmp_path)
    away = tmp_path / "nowhere"
    facts = machine_facts("probe", [str(away)])
    assert facts[str(away)] == "not there"
    with Client(address, set_as_default=False) as client:
        there = client.run(machine_facts, "probe", [str(away)])
        assert list(there.values()) == [facts, facts]
    monkeypatch.setattr("stages.runtime.cluster.version", lambda name: "0")  # here, not on the workers
    message = r"differ from this machine:\n  tcp://.*: av is [\d.]+, here 0"
    with pytest.raises(InputError, match=message), spread_over(address, away):
        pass


def test_the_settings_name_no_cluster_by_default():
    assert load_settings(ROOT / "params.yaml").machines.scheduler == ""
