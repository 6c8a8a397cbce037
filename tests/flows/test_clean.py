"""Nights pass, `fetalflow clean` runs: every store is flat but for the data, and what a champion needs stays."""

import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from nights import DAY_S, MODEL, TASK, Nights
from processes import ROOT
from typer.testing import CliRunner

from fetalflow.registry.ledger.record import record_move, verify
from fetalflow.registry.tracking import registry
from fetalflow.settings.params import Clean, load_settings
from fetalflow.watch.log import AnswerLog
from fetalflow.watch.row import Answered
from flows.care import clean, erasure
from flows.care.clean import leftovers, longest, scratch, sizes
from flows.cli.app import app
from flows.nights.deployments import FLOWS
from flows.nights.prefect_history import OURS, delete_runs, old_runs
from flows.workspaces.data_sets import name_state, protected, states

VERSIONS, NIGHTS = 2, 8


def settings() -> dict:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params |= {"tasks": {TASK: params["tasks"][TASK]}, "phantoms": [], "ablations": params[TASK]["rivals"]}
    params[TASK]["clean"] = {"versions": VERSIONS, "trash_days": 1, "cache_days": 1, "checkpoints_days": 1}
    params.pop("profiles")
    return {key: value for key, value in params.items() if key not in ("movement", "biometry")}


def cleaned(folder: Path, now: float) -> dict[str, int]:
    for leftover in leftovers(folder, now):
        assert leftover.remove() == []
    return sizes(folder)


@pytest.fixture(scope="module")
def nights(tmp_path_factory):
    """The size of every store after each night's clean-up. Version 2 was champion, version 4 is; a person named one."""
    folder = tmp_path_factory.mktemp("workspaces") / "hospital"
    folder.mkdir()
    begun = time.time() - (NIGHTS + 60) * DAY_S
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        simulated, found = Nights(folder, settings()), []
        for night in range(NIGHTS):
            simulated.pass_one(begun + night * DAY_S)
            if night in (1, 3):
                record_move(MODEL, "champion", str(night + 1), None, "better")
            if night == 2:
                name_state(folder, "before-the-new-scanner")
            # What MLflow deleted in this second counts as deleted before, once the trash is read a month later.
            found.append(cleaned(folder, time.time() + 40 * DAY_S))
        yield folder, found


def test_every_store_is_flat_but_for_the_data(nights):
    folder, found = nights
    cine, model = 20_000, 20_000
    for earlier, later in zip(found[5:], found[6:], strict=False):
        assert later["decoded cines"] - earlier["decoded cines"] == cine
        # A sequence of the new cine, and a listing that is longer by one line.
        assert later["DVC's cache"] - earlier["DVC's cache"] < cine + 2_000
        assert later["MLflow"] - earlier["MLflow"] < model, "of a night, rows remain: the ledger's lines"
        assert later["checkpoints and starts"] == earlier["checkpoints and starts"] == 0
        assert later["git"] - earlier["git"] < 3_000
    frames = {path.stem for path in (folder / "data" / TASK / "frames").iterdir()}
    assert len(frames) == NIGHTS and not any(name.startswith("old") for name in frames)


def test_what_a_champion_or_a_person_needs_stays(nights):
    folder, _ = nights
    with registry() as store:
        kept = {str(each.version) for each in store.versions(MODEL)}
        assert kept == {"2", "4", *(str(NIGHTS - n) for n in range(VERSIONS))}
        for version in kept:
            assert store.version_files(MODEL, version), "its files are there"
    assert {state.name for state in states(folder)} == {f"{MODEL}-v{v}" for v in kept} | {"before-the-new-scanner"}
    objects = {path.parent.name + path.name for path in (folder / clean.OBJECTS).glob("??/*")}
    assert protected(folder) == objects
    found = verify()
    assert not found.wrong
    assert list(leftovers(folder)) == [], "a second call has nothing to do"


def test_what_is_young_stays_and_a_plan_removes_nothing(nights, monkeypatch, tmp_path):
    folder, _ = nights
    monkeypatch.setattr(erasure, "CHECKOUT", folder.parents[1])
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    (folder / clean.OBJECTS / "ff").mkdir(exist_ok=True)
    left = [
        folder / "checkpoints" / "young" / "last.ckpt",
        folder / clean.OBJECTS / "ff" / "a",
        Path(tempfile.mkdtemp(prefix="fetalflow-", dir=tmp_path)) / "x",
    ]
    mine = tmp_path / "fetalflow-notebook" / "x"  # a person's folder has a name like that, too
    mine.parent.mkdir(mode=0o755)
    mine.write_text("x")
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    assert list(leftovers(folder)) == []
    for path in [*left, mine]:
        os.utime(path, (0, 0))
        os.utime(path.parent, (0, 0))
    done = CliRunner().invoke(app, ["clean", "--plan", "--workspace", str(folder)])
    assert done.exit_code == 0, done.output
    for what in ("1 checkpoints", "1 objects of DVC's cache", "1 temporary files", "DVC's cache: "):
        assert what in done.output
    assert all(path.exists() for path in left)
    done = CliRunner().invoke(app, ["clean", "--workspace", str(folder)])
    assert done.exit_code == 0 and not any(path.exists() for path in left) and mine.exists(), done.output
    done = CliRunner().invoke(app, ["clean", "--workspace", str(folder)])
    assert "There is nothing to remove." in done.output


def test_what_one_task_keeps_is_kept(tmp_path, monkeypatch):
    assert longest([Clean(versions=2, cache_days=90), Clean(versions=5)]) == Clean(versions=5, cache_days=90)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert list(scratch(time.time(), 7)) == []
    for name, versions in (("many", 20), ("few", 1)):
        params = settings()
        params[TASK]["clean"] = {"versions": versions}
        (tmp_path / name).mkdir()
        (tmp_path / name / "params.yaml").write_text(yaml.safe_dump(params))
    few = tmp_path / "few"
    (kept,) = clean._kept(few, load_settings(few / "params.yaml")).values()
    assert kept == 1, "each workspace has its embedded registry"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    (kept,) = clean._kept(few, load_settings(few / "params.yaml")).values()
    assert kept == 20, "they share a registry"


def test_old_flow_runs_of_fetalflow_go_and_no_others(prefect_here):
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import ArtifactCreate
    from prefect.states import Completed, Running

    def make(name: str, state) -> str:
        with get_client(sync_client=True) as client:
            return str(client.create_flow_run(flow(lambda: None, name=name), state=state).id)

    assert set(OURS) == set(FLOWS), "each flow that is deployed leaves runs"
    ours = [make(name, Completed()) for name in OURS]
    others = [make("somebody-elses", Completed()), make("promote", Running())]
    assert not set(ours) & set(old_runs(2)), "they are of today"
    found = set(old_runs(2, time.time() + 3 * DAY_S))
    assert set(ours) <= found and not found & set(others)
    with get_client(sync_client=True) as client:
        for run in (ours[0], others[1]):
            client.create_artifact(ArtifactCreate(key="movement-metrics", data="[]", flow_run_id=run))
        delete_runs(ours)
        left = {str(each.flow_run_id) for each in client.read_artifacts()}
    assert others[1] in left and ours[0] not in left, "Prefect keeps the tables of a run that is deleted"
    assert not set(ours) & set(old_runs(2, time.time() + 3 * DAY_S))


def test_answers_that_are_older_than_the_log_keeps_them_go_without_a_look(tmp_path):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings() | {"watch": {"folder": "answers", "days": 30}}))
    log, now = AnswerLog(tmp_path / "answers", keep_pictures=True), 1_796_050_000  # 2026-11-30
    for day in ("2026-10-01", "2026-11-29"):
        log.add(Answered(TASK, "predict", time=f"{day}T10:00:00+00:00"), np.zeros((1, 4, 4), np.uint8))
    log.settle("2026-11-01")
    (old,) = [each for each in leftovers(tmp_path, now) if "answers" in each.what]
    assert old.count == 1 and old.size > 0 and log.days() == ["2026-10-01", "2026-11-29"], "a plan removes nothing"
    assert old.remove() == [] and log.days() == ["2026-11-29"] and len(list(log.folder.rglob("*.npz"))) == 1
    assert not [each for each in leftovers(tmp_path, now) if "answers" in each.what]
