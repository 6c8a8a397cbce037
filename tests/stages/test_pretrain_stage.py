"""The stage pretrain as DVC runs it: from a folder of cines to weights, from which the stage train begins."""

import io
import json
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from cine_files import speckle, write_video
from closures import DVC, PARAMS, needs, resolve
from safetensors.torch import load_file
from training_sets import make_workspace

from fetalflow.models.package_files import CONFIG, WEIGHTS
from fetalflow.registry.candidates import TRAINED
from fetalflow.registry.lineage import PRETRAINED, patients_csv
from fetalflow.registry.model_card import _pretraining
from fetalflow.registry.run_record import BEGINNING, start_tags
from flows.workspaces.changes import overlay
from stages import pretrain, train

TASK, VARIANT = "movement", "fetalmovnet_s"
OPTIONS = {"pretrained": False}


def change(folder: Path, **block: dict) -> None:
    params = overlay(yaml.safe_load((folder / "params.yaml").read_text()), {TASK: block})
    entry = {key: value for key, value in params["tasks"][TASK].items() if key != "drop"}
    given = params[TASK].get("pretrain", {}).get("folder")
    params["pretrainings"] = {TASK: entry | {"folder": given}} if given else {}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


def config(folder: Path) -> dict:
    return json.loads((folder / "models" / TASK / VARIANT / CONFIG).read_text())


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    """A workspace in which both stages ran; one cine of the archive is of a test patient, one is broken."""
    archive = tmp_path_factory.mktemp("archive")
    for i in range(9):
        write_video(archive / f"c{i}.avi", speckle(8, 64, 64, seed=i), "ffv1")
    (archive / "broken.avi").write_bytes(b"no cine" * 100)
    names = {f"c{i}.avi": f"U{i}" for i in range(9)} | {"c8.avi": "test-1", "broken.avi": "U9"}
    pd.DataFrame(names.items(), columns=["video", "patient"]).to_csv(archive / "patients.csv", index=False)
    folder = make_workspace(tmp_path_factory.mktemp("w"), TASK, {VARIANT: OPTIONS}, epochs=1, device="cpu")
    manifest = pd.read_parquet(folder / "data" / TASK / "manifest.parquet")
    made_up = {"source": manifest["sequence"], "video": manifest["sequence"], "phash": ""}
    manifest.assign(**made_up).to_parquet(folder / "data" / TASK / "manifest.parquet", index=False)
    settings = {"folder": str(archive), "epochs": 2, "clips": 1, "licence": "CC BY 4.0"}
    change(folder, pretrain=settings, extract={"workers": 1})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        pretrain.main(TASK, VARIANT)
        train.main(TASK, VARIANT)
    return folder


def test_weights_are_made_and_the_main_network_says_that_it_began_with_them(begun):
    (weights,) = (begun / "pretrained" / TASK / "network").iterdir()
    facts = config(begun)["pretraining"]
    assert facts["weights"] == weights.name and facts["files"] == 8 and facts["patients"] == 8
    assert start_tags(begun / "models" / TASK / VARIANT) == {BEGINNING: weights.name}
    card = _pretraining(facts)
    assert "8 further cines and stills of 8 patients" in card and "CC BY 4.0" in card and weights.name in card
    assert not list((begun / "checkpoints").glob("*")) and not load_file(weights / WEIGHTS).keys() & {"head.1.weight"}


def test_the_archive_is_accounted_for_and_its_patients_are_in_the_lineage(begun):
    reports = begun / "reports" / TASK / "pretrain"
    kinds = pd.read_csv(reports / "quarantine.csv").set_index("video")["kind"].to_dict()
    assert kinds == {"broken.avi": "unreadable", "c8.avi": "held_out"}
    files = pd.read_csv(reports / "files.csv", dtype=str, keep_default_na=False)
    data = begun / "data" / TASK
    tables = (pd.read_parquet(data / f"{name}.parquet") for name in ("manifest", "split"))
    rows = pd.read_csv(io.StringIO(patients_csv(*tables, files)))
    assert set(rows.loc[rows["part"] == PRETRAINED, "patient"]) == {f"U{i}" for i in range(8)} and PRETRAINED in TRAINED


def test_the_same_files_and_settings_are_not_trained_on_again(begun, monkeypatch, capsys):
    monkeypatch.chdir(begun)
    before = {path: path.stat().st_mtime_ns for path in (begun / "pretrained").rglob("*")}
    monkeypatch.setattr(pretrain, "pretrain", None)
    pretrain.main(TASK, VARIANT)
    assert "weights are kept" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (begun / "pretrained").rglob("*")} == before


def test_without_the_setting_nothing_of_it_is_used(begun, monkeypatch):
    with_it = load_file(begun / "models" / TASK / VARIANT / WEIGHTS)
    monkeypatch.chdir(begun)
    change(begun, pretrain={"folder": ""})
    train.main(TASK, VARIANT)
    assert "pretraining" not in config(begun)
    without = load_file(begun / "models" / TASK / VARIANT / WEIGHTS)
    assert not torch.equal(without["backbone.stem.conv.weight"], with_it["backbone.stem.conv.weight"])


@pytest.mark.parametrize("task", PARAMS["tasks"])
def test_dvc_knows_what_a_pretraining_depends_on_and_lists_nothing_in_vain(task):
    entry = {key: value for key, value in PARAMS["tasks"][task].items() if key != "drop"} | {"folder": "/archive"}
    do, values = DVC["pretrain"]["do"], {"key": task, "item": entry}
    listed = {resolve(dep, values) for dep in do["deps"]}
    needed = needs(do, values)
    folders = tuple(f"{each}/" for each in listed)
    assert not {each for each in needed if each not in listed and not each.startswith(folders)}
    code = {each for each in listed if each.startswith(("fetalflow/", "stages/"))}
    assert not {each for each in code if each not in needed and not any(n.startswith(f"{each}/") for n in needed)}
    assert f"pretrained/{task}" in {
        resolve(dep, values | {"item": PARAMS["tasks"][task]}) for dep in DVC["train"]["do"]["deps"]
    }
