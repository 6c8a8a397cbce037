"""Two drops of one folder name are two workspaces; a registry that changed is seen; old pipelines are replaced."""

import json
import sqlite3
from pathlib import Path

import pytest
import yaml

from flows.workspaces.names import workspace_for
from flows.workspaces.registered import forget_other_stores
from flows.workspaces.workspace import prepare, update_workspace

SERVER = "http://127.0.0.1:5000"


def used_for(folder: Path, drop: str, phantoms: list[str] | None = None) -> Path:
    folder.mkdir()
    params = {"phantoms": phantoms or [], "tasks": {"planes": {"drop": drop}}}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return folder


@pytest.mark.parametrize(
    ("before", "drop", "is_shared"),
    [
        (None, "/a/hospital", True),
        (("/a/hospital", []), "/a/hospital", True),
        (("/a/hospital", []), "/b/hospital", False),
        (("/a/hospital", []), None, False),
        (("data/planes/drop", ["planes"]), None, True),
        (("data/planes/drop", ["planes"]), "/a/hospital", False),
        (("arrivals/planes/drop", []), "/a/hospital", False),
        (("arrivals/planes/drop", []), None, False),
    ],
)
def test_a_workspace_has_the_data_of_one_place(tmp_path, capsys, before, drop, is_shared):
    usual = tmp_path / "hospital"
    if before:
        used_for(usual, *before)
    found = workspace_for(tmp_path, ["hospital"], Path(drop) if drop else None)
    assert (found == usual) is is_shared
    if not is_shared:
        assert found.name.startswith("hospital-") and str(found) in capsys.readouterr().err
        used_for(found, drop or "data/planes/drop", [] if drop else ["planes"])
        (usual / "params.yaml").unlink()  # somebody removes the first one: the second keeps its name
        assert workspace_for(tmp_path, ["hospital"], Path(drop) if drop else None) == found


def test_a_drop_with_a_hidden_name_gets_a_folder_that_is_seen(tmp_path):
    assert workspace_for(tmp_path, [".home"], Path("/a/.home")) == tmp_path / "home"


@pytest.mark.parametrize(
    ("recorded", "today", "is_kept"),
    [
        ("sqlite:///mlflow.db", None, True),
        ("sqlite:////where/it/was/mlflow.db", None, True),  # of an earlier fetalflow, and moved
        ("sqlite:///mlflow.db", SERVER, False),
        (SERVER, SERVER, True),
        (SERVER, f"{SERVER}/", True),
        (SERVER, "http://ann:secret@127.0.0.1:5000", True),
        (SERVER, "http://127.0.0.1:6000", False),
        (SERVER, None, False),
        (None, None, False),  # an experiment of DVC
    ],
)
def test_results_are_registered_where_the_registry_is_today(tmp_path, monkeypatch, recorded, today, is_kept):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if today:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", today)
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        store.execute("CREATE TABLE runs (run_uuid, lifecycle_stage)")
        store.execute("INSERT INTO runs VALUES ('r1', 'active')")
    file = tmp_path / "reports" / "planes" / "registered.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"tracking_uri": recorded, "run_id": "r1"} if recorded else {"experiment": "x"}))
    assert forget_other_stores(tmp_path) == ([] if is_kept else ["planes"])
    assert file.exists() is is_kept
    if is_kept and recorded != SERVER:
        (tmp_path / "mlflow.db").unlink()  # as in a clone
        assert forget_other_stores(tmp_path) == ["planes"]


def test_an_old_pipeline_and_missing_settings_are_replaced_and_it_is_said(tmp_path):
    folder = prepare(tmp_path / "ws", "planes")
    assert update_workspace(folder) == ""
    pipeline, settings = (folder / "dvc.yaml").read_text(), yaml.safe_load((folder / "params.yaml").read_text())
    (folder / "dvc.yaml").write_text(pipeline.replace("explain:", "explained:"))
    said = update_workspace(folder)
    assert "dvc.yaml was of another version of the code" in said and (folder / "dvc.yaml").read_text() == pipeline
    explain = settings["planes"].pop("explain")
    (folder / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    assert "got the settings planes.explain" in update_workspace(folder)
    assert yaml.safe_load((folder / "params.yaml").read_text())["planes"]["explain"] == explain
    assert update_workspace(folder) == ""
