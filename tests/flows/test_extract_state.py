"""A drop that changes while it is read is read again: within the stage, and by the next run if the stage had ended."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from cine_files import speckle, write_video
from small_stages import use_dvc

import stages.extract
from fetalflow.artefacts import read_json
from fetalflow.errors import InputError
from fetalflow.hospital.drop.fingerprint import fingerprint
from fetalflow.hospital.drop.review import write_decisions
from flows.running.dvc_stages import pending
from flows.running.extract_state import forget_changed_extracts
from flows.workspaces.changes import overlay

ROOT = Path(__file__).parents[2]
HEADER = "video,patient,site,device,annotator,start_frame,end_frame,label\n"
# `extract` as DVC sees it. The delivery arrives when the stage has read the drop and DVC has not yet noted its state.
LATE = """
from pathlib import Path
from fetalflow.artefacts import write_json
from fetalflow.hospital.drop.fingerprint import state_of
drop, late = Path("drop"), Path("late")
write_json("reports/movement/extract.json", {"read": state_of(drop, Path("reviews/movement.csv"))})
if late.exists():
    target = drop / "annotations.csv" if late.read_text() == "delivery" else Path("reviews/movement.csv")
    with open(target, "a") as file:
        file.write("one more row\\n")
    late.unlink()
"""
PIPELINE = """
stages:
  extract:
    foreach: [movement]
    do:
      cmd: python extract.py
      deps: [drop, reviews/movement.csv]
      outs: [reports/movement/extract.json, {frames: {cache: false, persist: true}}]
"""


def settings(folder: Path, **extract) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    ours = {"tasks": {"movement": {"drop": "drop"}}, "movement": {"extract": {"workers": 1} | extract}}
    (folder / "params.yaml").write_text(yaml.safe_dump(overlay(params, ours)))
    (folder / "drop").mkdir()
    write_decisions(folder / "reviews" / "movement.csv", [])


def test_what_changed_when_extract_had_read_it_is_read_by_the_next_run(tmp_path, monkeypatch):
    settings(tmp_path)
    (tmp_path / "drop" / "annotations.csv").write_text(HEADER)
    (tmp_path / "extract.py").write_text(LATE)
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "frames").mkdir()
    use_dvc(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    bin_folder = Path(sys.executable).parent
    monkeypatch.setenv("PATH", str(bin_folder), prepend=":")
    for what, found in (("delivery", forget_changed_extracts), ("decision", pending)):
        (tmp_path / "late").write_text(what)
        subprocess.run([bin_folder / "dvc", "repro", "--quiet", "extract@movement"], cwd=tmp_path, check=True)
        assert found(tmp_path) == ["extract@movement"], "DVC alone says that it is up to date"
    (tmp_path / "dvc.lock").unlink()
    assert forget_changed_extracts(tmp_path) == []


def test_extract_reads_a_drop_again_that_changes_meanwhile(tmp_path, monkeypatch, capsys):
    settings(tmp_path, labels=["head"], frames=2, stride=2, quarantine_share=1)
    drop, calls = tmp_path / "drop", []
    write_video(drop / "0.avi", speckle(6))
    (drop / "annotations.csv").write_text(HEADER + "0.avi,P0,north,U7,A,,,head\n")
    monkeypatch.chdir(tmp_path)
    real = stages.extract.extract_drop

    def while_somebody_delivers(*arguments):
        calls.append(1)
        found = real(*arguments)
        if len(calls) <= changes:
            with open(drop / "annotations.csv", "a") as file:
                file.write(f"0.avi,P0,north,U7,B{len(calls)},,,head\n")
        return found

    monkeypatch.setattr(stages.extract, "extract_drop", while_somebody_delivers)
    changes = 1
    stages.extract.main("movement")
    assert len(calls) == 2 and "changed while it was read" in capsys.readouterr().out
    report = read_json("reports/movement/extract.json")
    assert report["rows"] == 2 and report["read"]["drop"] == fingerprint(drop)
    calls.clear()
    changes = 9
    with pytest.raises(InputError, match="changed during each of 3 readings"):
        stages.extract.main("movement")


def test_a_copy_of_a_drop_has_its_fingerprint_and_a_changed_one_another(tmp_path):
    drop = tmp_path / "drop"
    (drop / "videos").mkdir(parents=True)
    (drop / "annotations.csv").write_text(HEADER)
    (drop / "videos" / "ä b.avi").write_bytes(b"cine")
    before = fingerprint(drop)
    shutil.copytree(drop, tmp_path / "copy", copy_function=shutil.copyfile)
    assert fingerprint(tmp_path / "copy") == before and fingerprint(tmp_path / "none") == ""
    seen = {before}
    for change in (
        lambda: (drop / "annotations.csv").write_text(HEADER.replace("site", "Site")),
        lambda: (drop / "videos" / "new.avi").write_bytes(b""),
        lambda: (drop / "videos" / "new.avi").rename(drop / "new.avi"),
        lambda: (drop / "new.avi").unlink(),
        lambda: (drop / "gone.avi").symlink_to("nowhere"),
    ):
        change()
        seen.add(fingerprint(drop))
    assert len(seen) == 5, "when the new file was removed, the drop was as it was before"
    for content in (b"one", b"two"):
        with zipfile.ZipFile(tmp_path / "drop.zip", "w") as packed:
            packed.writestr("a.avi", content)
        seen.add(fingerprint(tmp_path / "drop.zip"))
    assert len(seen) == 7
