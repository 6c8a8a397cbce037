"""Retraining as a flow over real `dvc` stages with small bodies: what comes in is judged, used once, and registered."""

import json
import logging
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pandas as pd
import pytest
import yaml
from cine_files import speckle, write_video
from small_stages import small_pipeline, use_dvc

from fetalflow.errors import InputError
from fetalflow.hospital.arrival.intake import arrive
from fetalflow.hospital.arrival.journal import read_journal
from fetalflow.settings.params import load_settings
from flows.running.dvc_stages import stage_names
from flows.workspaces.changes import overlay
from flows.workspaces.lock import hold

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
HEADER = "video,patient,site,device,annotator,start_frame,end_frame,label,shine\n"

# Stages with the pipeline's names; a cine's one sequence shines as the column `shine` says.
STAGE = """
import random
from pathlib import Path
from fetalflow.artefacts import write_json, write_text, write_table
from fetalflow.settings.params import load_settings
from stages.runtime.lifeline import run

def main(name):
    with open("ran.txt", "a") as file:
        file.write(name + "\\n")
    if (fault := Path(f"{name}.fault")).exists():
        fault.unlink()
        raise RuntimeError("killed")
    drop = Path(load_settings().tasks["movement"].drop)
    if name == "preprocess":
        import numpy as np, pandas as pd
        rows = pd.read_csv(drop / "annotations.csv", dtype=str, keep_default_na=False)
        rows["sequence"], rows["path"], rows["mean_intensity"] = rows["video"], "one.npy", rows["shine"].astype(float)
        Path("data/movement").mkdir(parents=True, exist_ok=True)
        np.save("data/movement/one.npy", np.random.default_rng(0).integers(40, 90, (10, 32, 32), dtype=np.uint8))
        write_table("data/movement/manifest.parquet", rows)
    if name == "register":
        import pandas as pd
        write_json("challenger.json", {"rows": len(pd.read_parquet("data/movement/manifest.parquet"))})
    write_text(f"{name}.done", str(random.random()))

run(main)
"""
ORDER = ["extract", "preprocess", "train", "register"]


@pytest.fixture
def workspace(tmp_path, python_at_hand) -> Path:
    folder, inbox = tmp_path / "night", tmp_path / "inbox"
    folder.mkdir()
    inbox.mkdir()
    (folder / "stage.py").write_text(STAGE)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    ours = {
        "tasks": {"movement": {"drop": "arrivals/movement/drop"}},
        "movement": {"retrain": {"inbox": str(inbox)}, "drift": {"permutations": 499}},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(overlay(params, ours)))
    (folder / "dvc.yaml").write_text(small_pipeline(ORDER, "arrivals/movement/drop", python=python_at_hand))
    return use_dvc(folder)


def deliver(workspace: Path, name: str, patients: range, shine: float = 60, site: str = "north") -> None:
    folder = workspace.parent / "inbox" / name
    folder.mkdir()
    random = np.random.default_rng(patients.start)
    text = HEADER
    for patient in patients:
        (folder / f"{patient}.avi").write_bytes(f"cine of {patient}".encode())
        label = ("head", "arm")[patient % 2]
        text += f"{patient}.avi,P{patient},{site},U7,A,,,{label},{random.normal(shine, 5):.2f}\n"
    (folder / "annotations.csv").write_text(text)
    (folder / "COMPLETE").touch()


def ran(workspace: Path) -> list[str]:
    file = workspace / "ran.txt"
    done = file.read_text().split() if file.exists() else []
    file.unlink(missing_ok=True)
    return done


@pytest.fixture
def flows_here(prefect_here, monkeypatch):
    monkeypatch.delenv("FETALFLOW_PSEUDONYM_KEY", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def artefact(key: str) -> str:
    return str(max(artefacts(key), key=lambda a: a.created).data)


def artefacts(key: str) -> list:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

    with get_client(sync_client=True) as client:
        return client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])))


def test_a_drop_in_the_inbox_becomes_a_challenger_once(workspace, flows_here):
    from flows.retrain import retrain

    assert retrain(str(workspace), "movement") == [] and ran(workspace) == []

    deliver(workspace, "monday", range(20))
    retrain(str(workspace), "movement")
    assert ran(workspace) == ORDER
    assert json.loads((workspace / "challenger.json").read_text()) == {"rows": 20}
    assert "monday" in artefact("movement-arrivals") and "first drops" in artefact("movement-drift")
    sides = pd.read_csv(workspace / "arrivals" / "movement" / "patients.csv")
    assert retrain(str(workspace), "movement") == [] and ran(workspace) == []

    deliver(workspace, "tuesday", range(20, 34), shine=110)
    retrain(str(workspace), "movement")
    assert ran(workspace) == ORDER
    assert json.loads((workspace / "challenger.json").read_text()) == {"rows": 34}
    assert "The drop differs from the training data. north: intensity." in artefact("movement-drift")
    now = pd.read_csv(workspace / "arrivals" / "movement" / "patients.csv")
    pd.testing.assert_frame_equal(now.iloc[:20], sides)
    assert 8 <= (now["side"] == "test").sum() <= 12


def test_a_look_stores_what_is_new_alone_and_ends_at_once_while_the_workspace_is_in_use(workspace, flows_here):
    from flows.retrain import retrain

    deliver(workspace, "slow", range(2))
    (workspace.parent / "inbox" / "slow" / "COMPLETE").unlink()
    before = len(artefacts("movement-arrivals"))
    for _ in range(2):
        assert retrain(str(workspace), "movement") == []
    assert len(artefacts("movement-arrivals")) == before + 1, "a drop that waits is stored once"
    held, done = Event(), Event()

    def train() -> None:
        with hold(workspace, "a long training"):
            held.set()
            done.wait(60)

    thread = Thread(target=train)
    thread.start()
    held.wait(60)
    journal = (workspace / "arrivals" / "movement" / "journal.jsonl").read_bytes()
    (workspace.parent / "inbox" / "slow" / "COMPLETE").touch()
    try:
        state = retrain(str(workspace), "movement", return_state=True)
    finally:
        done.set()
        thread.join()
    assert state.is_completed() and state.name == "Busy" and "a long training of " in state.message
    assert (workspace / "arrivals" / "movement" / "journal.jsonl").read_bytes() == journal


def test_a_night_that_failed_is_finished_by_the_next(workspace, flows_here):
    from flows.retrain import retrain
    from flows.running.dvc_stages import StageFailed

    deliver(workspace, "monday", range(12))
    (workspace / "preprocess.fault").touch()
    with pytest.raises(StageFailed):
        retrain(str(workspace), "movement")
    assert ran(workspace) == ["extract", "preprocess"]
    retrain(str(workspace), "movement")
    assert ran(workspace) == ["preprocess", "train", "register"]
    assert [line["state"] for line in read_journal(workspace / "arrivals" / "movement")] == ["taken"]
    assert json.loads((workspace / "challenger.json").read_text()) == {"rows": 12}


def test_a_workspace_without_an_inbox_is_said_to_be(workspace, flows_here):
    from flows.retrain import retrain

    params = yaml.safe_load((workspace / "params.yaml").read_text())
    for change in ({"movement": {"retrain": {"inbox": ""}}}, {"tasks": {"movement": {"drop": "elsewhere"}}}):
        (workspace / "params.yaml").write_text(yaml.safe_dump(overlay(params, change)))
        with pytest.raises(InputError, match="fetalflow retrain --inbox"):
            retrain(str(workspace), "movement")


def test_deidentification_that_is_asked_for_needs_a_key(workspace, monkeypatch):
    from flows.retrain import deidentifier

    monkeypatch.delenv("FETALFLOW_PSEUDONYM_KEY", raising=False)
    monkeypatch.delenv("FETALFLOW_PSEUDONYM_KEY_FILE", raising=False)
    block = load_settings(workspace / "params.yaml").blocks["movement"]
    assert deidentifier(workspace, block) is None
    asked = block.model_copy(update={"retrain": block.retrain.model_copy(update={"deidentify": True})})
    with pytest.raises(InputError, match="secret key"):
        deidentifier(workspace, asked)


def test_with_a_key_no_name_comes_in_and_the_same_drop_is_the_same(workspace, tmp_path, monkeypatch):
    from flows.retrain import deidentifier

    monkeypatch.setenv("FETALFLOW_PSEUDONYM_KEY", bytes(range(7, 39)).hex())
    inbox = tmp_path / "named"
    (inbox / "Jane Roe").mkdir(parents=True)
    write_video(inbox / "Jane Roe" / "Roe.avi", speckle(12))
    row = "Roe.avi,Jane Roe,north,U7,Dr Roe,,,head,Roe\n"
    (inbox / "Jane Roe" / "annotations.csv").write_text(HEADER + row)
    (inbox / "Jane Roe" / "COMPLETE").touch()
    (inbox / "Roe").mkdir()
    (inbox / "Roe" / "annotations.csv").write_text("video,patient,Roe\nRoe.avi,Roe,Roe\n")
    (inbox / "Roe" / "COMPLETE").touch()
    block = load_settings(workspace / "params.yaml").blocks["movement"]
    block = block.model_copy(update={"extract": block.extract.model_copy(update={"workers": 1})})
    ids = set()
    for store in (tmp_path / "a", tmp_path / "b"):
        found = arrive(str(inbox), store, block.retrain, block.split, deidentifier(store, block))
        assert sorted(arrival.state for arrival in found) == ["refused", "taken"]
        assert not any("Roe" in str(arrival) for arrival in found)
        kept = [path for path in store.rglob("*") if path.is_file()]
        assert any(path.name == "annotations.csv" for path in kept)
        for path in kept:
            assert "Roe" not in str(path.relative_to(store)) and b"Roe" not in path.read_bytes(), path
        ids.add(next(arrival.drop for arrival in found if arrival.drop))
    assert len(ids) == 1
    before = (tmp_path / "a" / "journal.jsonl").read_bytes()
    monkeypatch.delenv("FETALFLOW_PSEUDONYM_KEY")
    with pytest.raises(InputError, match="no key is configured"):
        arrive(str(inbox), tmp_path / "a", block.retrain, block.split, deidentifier(tmp_path / "a", block))
    assert (tmp_path / "a" / "journal.jsonl").read_bytes() == before


def test_what_training_starts_from_is_written_where_dvc_looks(workspace, monkeypatch):
    from fetalflow.registry.warm_start import Start
    from flows import retrain

    asked = []

    def choose(task_name: str, block, store: Path, warm: bool | None) -> Start:
        asked.append((task_name, Path.cwd(), store, warm))
        return starts[-1]

    monkeypatch.setattr(retrain, "get_run_logger", lambda: logging.getLogger("test"))
    monkeypatch.setattr(retrain, "choose_start", choose)
    block, params = load_settings(workspace / "params.yaml").blocks["movement"], workspace / "params.yaml"
    starts = [Start("starts/movement/abc", "warm")]
    retrain.settle_start(workspace, "movement", block, workspace / "store", True)
    assert asked == [("movement", workspace, workspace / "store", True)]
    assert load_settings(params).blocks["movement"].train.start == "starts/movement/abc"
    stamp = params.stat().st_mtime_ns
    retrain.settle_start(workspace, "movement", block, workspace / "store", None)
    assert params.stat().st_mtime_ns == stamp, "nothing new is not written again"
    starts.append(Start("", "cold"))
    retrain.settle_start(workspace, "movement", block, workspace / "store", False)
    assert load_settings(params).blocks["movement"].train.start == ""


def test_the_workspace_of_an_inbox_keeps_everybodys_side(tmp_path):
    from flows.retrain import prepare_workspace

    settings = load_settings(
        prepare_workspace(tmp_path / "w", "movement", "s3://bucket/in", None, [{"movement": {"train": {"epochs": 3}}}])
        / "params.yaml"
    )
    block = settings.blocks["movement"]
    assert (block.split.kind, block.retrain.inbox, block.train.epochs) == ("official", "s3://bucket/in", 3)
    assert settings.phantoms == () and settings.tasks["movement"].drop == "arrivals/movement/drop"
    stages = subprocess.run(
        [BIN / "dvc", "stage", "list", "--name-only"], cwd=tmp_path / "w", capture_output=True, text=True, check=True
    )
    assert "extract@movement" in stages.stdout and "phantom@movement" not in stages.stdout

    # MLflow keeps a copy of dvc.yaml with each run; its stages are not ours.
    logged = tmp_path / "w" / "mlartifacts" / "run" / "artifacts" / "dvc.yaml"
    logged.parent.mkdir(parents=True)
    logged.write_text((tmp_path / "w" / "dvc.yaml").read_text())
    names = stage_names(tmp_path / "w")
    assert len(names) == len(set(names)) and "extract@movement" in names


def test_inboxes_are_looked_at_on_a_schedule(flows_here, tmp_path, monkeypatch):
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate

    from flows.nights import schedules
    from flows.nights.deployments import deploy
    from flows.nights.schedules import Timetable, plan
    from flows.retrain import prepare_workspace

    monkeypatch.setattr(schedules, "workspace_of", lambda task: tmp_path / task)
    prepare_workspace(tmp_path / "planes", "planes", "inbox", None, [])
    with get_client(sync_client=True) as client:
        with pytest.raises(InputError, match="no work pool 'nosuchpool'.*prefect work-pool create"):
            deploy("nosuchpool", plan(None, None))
        client.create_work_pool(WorkPoolCreate(name="other", type="docker"))
        with pytest.raises(InputError, match="type docker"):
            deploy("other", plan(None, None))
        client.create_work_pool(WorkPoolCreate(name="gpu", type="process"))
        planned = plan(None, Timetable("*/15 * * * *", "Europe/Berlin"))
        assert not any(deploy("gpu", planned).values())
        names = [each.full_name for each in planned]
        tasks = load_settings(ROOT / "params.yaml").tasks
        assert {"pipeline/workspace", *(f"retrain/{name}" for name in tasks)} <= set(names)
        found = client.read_deployment_by_name("retrain/planes")
        assert found.parameters["task_name"] == "planes" and found.work_pool_name == "gpu"
        assert [s.schedule.cron for s in found.schedules] == ["*/15 * * * *"]
        assert found.concurrency_options.collision_strategy.value == "CANCEL_NEW", "looks do not wait for one another"
        assert [s.schedule.timezone for s in found.schedules] == ["Europe/Berlin"]
        assert client.read_deployment_by_name("retrain/movement").schedules == [], "it has no inbox"
        assert client.read_deployment_by_name("pipeline/workspace").schedules == []
        limits = client.read_concurrency_limits(limit=9, offset=0)
        assert [(limit.tag, limit.concurrency_limit) for limit in limits] == [("gpu", 1)]

        promote = client.read_deployment_by_name("promote/planes")
        assert promote.schedules == [] and promote.parameters["task_name"] == "planes"
        assert promote.parameters["workspace"] == found.parameters["workspace"]
        # Another workspace of the same name would take its place, unless the earlier one is gone.
        taken = replace(planned[0], parameters={"workspace": str(tmp_path / "planes")})
        with pytest.raises(
            InputError, match="nothing was deployed: pipeline/workspace belongs to .* deployment delete"
        ):
            deploy("gpu", [taken])
        assert client.read_deployment_by_name("pipeline/workspace").parameters == planned[0].parameters
        monkeypatch.setattr(schedules, "workspace_of", lambda task: tmp_path / "moved" / task)
        (tmp_path / "moved").mkdir()
        shutil.move(tmp_path / "planes", tmp_path / "moved")
        # A run that died is crashed after a silence that lasts longer than the runs' own heartbeats are apart.
        kept = deploy("gpu", plan(None, None))
        assert kept["retrain/planes"] == ["*/15 * * * * Europe/Berlin"] and not kept["retrain/movement"]
        assert [s.schedule.cron for s in client.read_deployment_by_name("retrain/planes").schedules] == ["*/15 * * * *"]
        never, stopped = sorted(client.read_automations(), key=lambda automation: automation.name)
        assert stopped.trigger.posture.value == "Proactive" and stopped.trigger.after == {"prefect.flow-run.heartbeat"}
        for name in names:
            beat = int(client.read_deployment_by_name(name).job_variables["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"])
            assert 3 * beat <= stopped.trigger.within.total_seconds() <= 300
        assert {"prefect.flow-run.Completed", "prefect.flow-run.TimedOut"} < stopped.trigger.expect
        assert "prefect.flow-run.Running" in never.trigger.expect and never.trigger.within.total_seconds() <= 600
        flows = {name.partition("/")[0] for name in names}
        for automation in (stopped, never):
            assert automation.enabled and automation.actions[0].state.value == "CRASHED"
            assert set(automation.trigger.match_related["prefect.resource.name"]) == flows, "nobody else's runs"
