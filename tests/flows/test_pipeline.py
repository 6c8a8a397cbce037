"""The Prefect flow over real `dvc` stages: order, nothing done twice, retries where they help, and a real server."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from fetalflow.settings.params import load_settings
from flows.dvc_stages import stage_names

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

# Stages with the pipeline's names and small bodies, so that the flow is tested and not the training.
STAGE = """
import os, sys
from pathlib import Path
from fetalflow.artefacts import write_json, write_text
from fetalflow.errors import InputError
from stages.runtime.lifeline import run

def main(name):
    with open("ran.txt", "a") as file:
        file.write(name + "\\n")
    fault = Path(f"{name}.fault")
    if fault.exists():
        kind = fault.read_text()
        if kind == "once":
            fault.unlink()
        if kind == "input":
            raise InputError("row 3 of annotations.csv: expected a label, found nothing")
        raise RuntimeError("out of memory")
    if name == "evaluate":
        figures = {"accuracy": 0.5, "accuracy_low": 0.4, "accuracy_high": 0.6}
        write_json("reports/movement/metrics.json", {"fetalmovnet": figures})
        confusion = "actual,predicted\\nhead,head\\nhead,body\\n"
        write_text("reports/movement/evaluation/fetalmovnet-confusion.csv", confusion)
    write_text(f"{name}.done", name)

run(main)
"""
ORDER = ["phantom", "train", "evaluate"]


@pytest.fixture
def workspace(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "stage.py").write_text(STAGE)
    shutil.copy(ROOT / "params.yaml", folder)
    text = "stages:\n"
    for before, name in zip([None, *ORDER], ORDER, strict=False):
        dep = f", {before}.done" if before else ""
        text += f"  {name}:\n    foreach: [movement]\n    do:\n      cmd: python stage.py {name}\n"
        text += f"      deps: [stage.py{dep}]\n      outs: [{name}.done]\n"
    (folder / "dvc.yaml").write_text(text)
    subprocess.run([BIN / "dvc", "init", "--no-scm", "-q"], cwd=folder, check=True)
    return folder


def ran(workspace: Path) -> list[str]:
    file = workspace / "ran.txt"
    return file.read_text().split() if file.exists() else []


@pytest.fixture(scope="module")
def prefect_without_server():
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        os.environ["PYTHONPATH"] = str(ROOT)
        yield


def test_runs_every_stage_in_order_and_then_nothing(workspace, prefect_without_server):
    from flows.pipeline import pipeline

    assert sorted(pipeline(str(workspace))) == sorted(f"{name}@movement" for name in ORDER)
    assert ran(workspace) == ORDER
    assert pipeline(str(workspace)) == []
    assert ran(workspace) == ORDER


def test_a_crash_in_training_is_tried_again_and_bad_input_is_not(workspace, prefect_without_server):
    from flows.dvc_stages import StageFailed
    from flows.pipeline import pipeline

    (workspace / "train.fault").write_text("once")
    pipeline(str(workspace))
    assert ran(workspace) == ["phantom", "train", "train", "evaluate"]

    (workspace / "stage.py").write_text(STAGE + "\n")
    (workspace / "train.fault").write_text("input")
    with pytest.raises(StageFailed, match="row 3 of annotations.csv: expected a label"):
        pipeline(str(workspace))
    assert ran(workspace)[4:] == ["phantom", "train"], "the mended input is what can help, not a second try"
    (workspace / "train.fault").unlink()
    pipeline(str(workspace))
    assert ran(workspace)[6:] == ["train", "evaluate"], "what was done stays done"


def test_a_night_without_tracking_server_leaves_registering_to_the_next_run(workspace, prefect_without_server):
    """The last stage is the real one's way out: no input at fault, so it is tried again, and then said."""
    from flows.dvc_stages import StageFailed
    from flows.pipeline import pipeline

    said = "sys.exit('MLflow is out of reach. Only registering is left.') if Path('down').exists() else None"
    body = f"import sys\nfrom pathlib import Path\nopen('ran.txt', 'a').write('register\\n')\n{said}\n"
    (workspace / "register.py").write_text(body + "Path('registered.json').write_text('{}')\n")
    with open(workspace / "dvc.yaml", "a") as file:
        file.write("  register:\n    foreach: [movement]\n    do:\n      cmd: python register.py\n")
        file.write("      deps: [register.py, train.done, evaluate.done]\n      outs: [registered.json]\n")
    (workspace / "down").touch()
    with pytest.raises(StageFailed, match="Only registering is left"):
        pipeline(str(workspace))
    assert ran(workspace) == [*ORDER, "register", "register"]
    (workspace / "down").unlink()
    assert pipeline(str(workspace)) == ["register@movement"]
    assert ran(workspace) == [*ORDER, "register", "register", "register"], "nothing was trained again"


def test_each_stage_belongs_to_one_task():
    """`make demo TASK=planes` runs planes' stages and no other's."""
    of_task = {task: stage_names(ROOT, task) for task in load_settings(ROOT / "params.yaml").tasks}
    assert sorted(name for names in of_task.values() for name in names) == sorted(stage_names(ROOT))
    assert "train@planes" in of_task["planes"] and "ablate@planes-no_attention" in of_task["planes"]
    assert not set(of_task["planes"]) & set(of_task["movement"])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(url: str, body: dict | None = None) -> object:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_a_worker_of_a_real_server_runs_the_deployment(workspace, tmp_path):
    """Server, work pool and worker as processes on loopback; artefacts and a readable run name reach the server."""
    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    environment = os.environ | {
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_API_URL": api,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PYTHONPATH": str(ROOT),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }
    log = open(tmp_path / "server.log", "w")  # noqa: SIM115 - the children keep it
    quiet = {"env": environment, "stdout": log, "stderr": log, "cwd": ROOT}
    processes = [
        subprocess.Popen([BIN / "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)], **quiet)
    ]
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                ask(f"{api}/health")
                break
            except OSError:
                assert time.monotonic() < deadline, (tmp_path / "server.log").read_text()[-2000:]
                time.sleep(0.5)
        subprocess.run([BIN / "prefect", "work-pool", "create", "--type", "process", "gpu"], check=True, **quiet)
        subprocess.run([BIN / "fetalflow", "deploy", "--pool", "gpu"], check=True, **quiet)
        deployment = ask(f"{api}/deployments/name/pipeline/workspace")
        created = ask(
            f"{api}/deployments/{deployment['id']}/create_flow_run", {"parameters": {"workspace": str(workspace)}}
        )
        worker = [BIN / "prefect", "worker", "start", "--pool", "gpu", "--run-once"]
        processes.append(subprocess.Popen(worker, **quiet))
        while (run := ask(f"{api}/flow_runs/{created['id']}"))["state_type"] not in ("COMPLETED", "FAILED", "CRASHED"):
            assert time.monotonic() < deadline, (tmp_path / "server.log").read_text()[-3000:]
            time.sleep(0.5)
        assert run["state_type"] == "COMPLETED", run["state"]
        assert run["name"].startswith("small all tasks 20")
        assert ran(workspace) == ORDER
        limits = ask(f"{api}/concurrency_limits/filter", {})
        assert [(limit["tag"], limit["concurrency_limit"]) for limit in limits] == [("gpu", 1)]
        artefacts = {a["key"] for a in ask(f"{api}/artifacts/filter", {})}
        assert {"movement-metrics", "movement-confusion"} <= artefacts
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(timeout=30)
