"""The doctor: each check says what is wrong and what to do, and none hides another."""

import json
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import httpx
import prefect.client.orchestration
import psutil
import pytest
import torch
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import doctor
from flows.doctor import FAIL, OK, WARN

ROOT = Path(__file__).parents[2]
GIB = 2**30


@pytest.fixture
def server():
    """Answers every GET with `status` and a clock that is `late`. Yields its URL and what may be changed."""
    facts = SimpleNamespace(status=200, late=timedelta(0), text="3.1.0")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response_only(facts.status)
            self.send_header("Date", format_datetime(datetime.now(UTC) - facts.late, usegmt=True))
            self.end_headers()
            self.wfile.write(facts.text.encode())

        def log_message(self, *words):
            del words

    http = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    facts.url = f"http://127.0.0.1:{http.server_port}"
    yield facts
    http.shutdown()
    http.server_close()


def closed_port() -> str:
    return "http://operator:word@127.0.0.1:9"  # the discard port: nothing listens


def test_this_checkout_is_looked_at_whole():
    words = [Path(sys.executable).with_name("fetalflow"), "doctor", "--json"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_API", "MLFLOW_", "FETALFLOW_"))}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
    found = {finding["check"]: finding for finding in json.loads(done.stdout)}
    assert list(found) == ["python", "packages", "gpu", "disk", "memory", "dvc", "mlflow", "prefect", "clock", "key"]
    assert done.returncode == int(any(f["state"] == FAIL for f in found.values()))
    assert found["python"]["state"] == OK and found["dvc"]["state"] == OK
    assert all(f["to_do"] for f in found.values() if f["state"] != OK)


def test_a_check_that_breaks_is_a_failure_and_the_others_still_run(tmp_path, monkeypatch):
    def broken():
        raise RuntimeError("no route to https://user:word@host/x")

    monkeypatch.setattr(doctor, "check_gpu", broken)
    monkeypatch.setattr(doctor, "check_prefect", lambda pool: doctor.Finding("prefect", OK, pool))
    found = {f.check: f for f in doctor.examine(tmp_path, "gpu")}
    assert found["gpu"].state == FAIL and "RuntimeError: no route to https://host/x" in found["gpu"].found
    assert len(found) == 10 and found["dvc"].state == FAIL and "not a DVC repository" in found["dvc"].found


def test_packages_against_the_lock(tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text(f"psutil=={psutil.__version__}\n")
    assert doctor.check_packages(lock).state == OK
    lock.write_text("psutil==0.0.1\n")
    assert doctor.check_packages(lock).state == WARN and "lock: 0.0.1" in doctor.check_packages(lock).found
    lock.write_text("psutil==0.0.1\nno-such-package-here==1.0\n")
    missing = doctor.check_packages(lock)
    assert missing.state == FAIL and "no-such-package-here" in missing.found and "pip install" in missing.to_do
    lock.write_text("no-such-package-here==1.0 ; python_full_version < '3.4' \\\n    --hash=sha256:00\n")
    assert doctor.check_packages(lock).state == OK


@pytest.mark.parametrize(
    ("required", "state"), [(["triton==1; os_name == 'posix'"], FAIL), (["sympy"], OK), (None, OK)]
)
def test_the_libraries_of_cuda_are_missing_only_where_torch_requires_them(tmp_path, monkeypatch, required, state):
    (lock := tmp_path / "requirements-torch.lock").write_text("nvidia-no-such-library==1.0\n")
    monkeypatch.setattr(doctor, "requires", lambda name: required)
    assert doctor.check_packages(lock).state == state


def test_code_that_is_read_only_is_no_fault(monkeypatch):
    """In the image of the worker."""
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: not str(path).endswith(".dvc"))
    found = doctor.check_dvc(doctor.CHECKOUT)
    assert found.state == OK and "read-only" in found.found


def test_python_outside_the_supported(monkeypatch):
    monkeypatch.setattr(doctor, "sys", SimpleNamespace(version_info=VersionInfo((3, 13, 0))))
    assert doctor.check_python().state == FAIL
    monkeypatch.setattr(doctor, "sys", SimpleNamespace(version_info=VersionInfo((3, 12, 4))))
    assert doctor.check_python() == doctor.Finding("python", OK, "3.12.4")


class VersionInfo(tuple):
    major, minor, micro = (property(lambda self, i=i: self[i]) for i in range(3))


@pytest.mark.parametrize(("free", "state"), [(1, FAIL), (10, WARN), (100, OK)])
def test_disk_and_memory(free, state, tmp_path, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=free * GIB))
    assert doctor.check_disk(tmp_path).state == state
    available = {1: 1, 10: 3, 100: 30}[free] * GIB
    monkeypatch.setattr(doctor.psutil, "virtual_memory", lambda: SimpleNamespace(available=available, total=32 * GIB))
    found = doctor.check_memory()
    assert found.state == state and bool(found.to_do) == (state != OK)


def test_a_driver_that_torch_does_not_reach(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    assert doctor.check_gpu().state == OK
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    assert doctor.check_gpu().state == FAIL and "torch" in doctor.check_gpu().to_do


def test_a_card_without_bf16(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Example 1000")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (6 * GIB, 8 * GIB))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    found = doctor.check_gpu()
    assert found.state == WARN and "6 of 8 GiB" in found.found and "16-mixed" in found.to_do


def dvc(folder: Path, *words: str) -> None:
    program = Path(sys.executable).with_name("dvc")
    subprocess.run([program, *words], cwd=folder, check=True, capture_output=True, timeout=60)


def test_dvc_and_its_remote(tmp_path):
    dvc(tmp_path, "init", "--no-scm")
    assert doctor.check_dvc(tmp_path).state == OK and "no remote" in doctor.check_dvc(tmp_path).found
    dvc(tmp_path, "remote", "add", "hospital", str(tmp_path / "remote"))
    assert doctor.check_dvc(tmp_path).state == WARN and "default" in doctor.check_dvc(tmp_path).to_do
    dvc(tmp_path, "remote", "default", "hospital")
    assert doctor.check_dvc(tmp_path).state == WARN and "not there yet" in doctor.check_dvc(tmp_path).found
    (tmp_path / "remote" / "files" / "md5").mkdir(parents=True)
    assert doctor.check_dvc(tmp_path).state == OK and "hospital answers" in doctor.check_dvc(tmp_path).found


def test_a_dvc_remote_that_does_not_answer(tmp_path, monkeypatch):
    dvc(tmp_path, "init", "--no-scm")
    dvc(tmp_path, "remote", "add", "--default", "hospital", str(tmp_path / "remote"))
    release = threading.Event()
    monkeypatch.setattr(doctor, "REMOTE_S", 0.1)
    monkeypatch.setattr(doctor, "_remote_exists", lambda repo, name: release.wait(20))
    found = doctor.check_dvc(tmp_path)
    release.set()
    assert found.state == FAIL and "no answer" in found.found


def test_mlflow(tmp_path, monkeypatch, server):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert doctor.check_mlflow(tmp_path).state == OK and "first run" in doctor.check_mlflow(tmp_path).found
    monkeypatch.setenv("MLFLOW_TRACKING_URI", closed_port())
    found = doctor.check_mlflow(tmp_path)
    assert found.state == FAIL and "MLFLOW_TRACKING_URI" in found.to_do and "word" not in found.found
    server.status = 401
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    found = doctor.check_mlflow(tmp_path)
    assert found.state == FAIL and "MLFLOW_TRACKING_USERNAME" in found.to_do


class Client:
    """What the doctor asks of Prefect's client."""

    def __init__(self, kind="process", workers=("ONLINE",), fault=None):
        self.kind, self.workers, self.fault = kind, workers, fault

    def __enter__(self):
        return self

    def __exit__(self, *error):
        del error

    def api_version(self):
        return "3.8.8"

    def read_work_pool(self, name):
        if self.fault:
            raise self.fault
        return SimpleNamespace(name=name, type=self.kind)

    def read_workers_for_work_pool(self, name):
        del name
        return [SimpleNamespace(status=status) for status in self.workers]


def http_error(status):
    request = httpx.Request("GET", "http://server")
    return httpx.HTTPStatusError("no", request=request, response=httpx.Response(status, request=request))


@pytest.mark.parametrize(
    ("client", "state", "said"),
    [
        (Client(), OK, "with 1 workers"),
        (Client(workers=("OFFLINE",)), WARN, "prefect worker start --pool gpu"),
        (Client(kind="docker"), FAIL, "process pool"),
        (Client(fault=ObjectNotFound(http_error(404))), WARN, "prefect work-pool create --type process gpu"),
        (Client(fault=http_error(401)), FAIL, "PREFECT_API_AUTH_STRING"),
    ],
)
def test_prefect(client, state, said, server, monkeypatch):
    monkeypatch.setattr(prefect.client.orchestration, "get_client", lambda sync_client: client)
    with temporary_settings({PREFECT_API_URL: f"{server.url}/api"}):
        found = doctor.check_prefect("gpu")
    assert found.state == state and said in f"{found.found} {found.to_do}"


def test_prefect_without_a_server_and_with_one_that_is_down():
    with temporary_settings({PREFECT_API_URL: None}):
        assert doctor.check_prefect("gpu").state == OK
    with temporary_settings({PREFECT_API_URL: f"{closed_port()}/api"}):
        assert doctor.check_prefect("gpu").state == FAIL


@pytest.mark.parametrize(("late", "state"), [(0, OK), (20, WARN), (-300, FAIL)])
def test_the_clock_against_the_servers(late, state, server, monkeypatch):
    server.late = timedelta(seconds=late)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    with temporary_settings({PREFECT_API_URL: None}):
        found = doctor.check_clock()
    assert found.state == state and "MLflow" in found.found and bool(found.to_do) == (state != OK)


def test_the_key_of_pseudonyms(tmp_path, monkeypatch):
    monkeypatch.delenv("FETALFLOW_PSEUDONYM_KEY", raising=False)
    monkeypatch.delenv("FETALFLOW_PSEUDONYM_KEY_FILE", raising=False)
    assert doctor.check_key().state == OK
    key = tmp_path / "key"
    key.write_text(bytes(range(32)).hex())
    monkeypatch.setenv("FETALFLOW_PSEUDONYM_KEY_FILE", str(key))
    key.chmod(0o644)
    found = doctor.check_key()
    assert found.state == FAIL and "chmod 600" in found.found and key.read_text() not in found.found
    key.chmod(0o600)
    assert doctor.check_key().state == OK and "closed" in doctor.check_key().found
