"""Disks that flip bits or are full, machines that are rebooted: nothing half is read, the next run ends as ever."""

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from ready_processes import Process, run, stage
from small_stages import use_dvc
from training_sets import make_workspace

from fetalflow.artefacts import file_digest
from fetalflow.errors import InputError
from stages.runtime.inputs import check_inputs
from stages.runtime.lifeline import OWNER

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
WRITER = """
from pathlib import Path
Path("split.csv").write_text("patient,part\\nP1,train\\nP2,test\\n")
Path("sequences").mkdir()
Path("sequences/a.txt").write_text("a" * 100)
Path("sequences/b.txt").write_text("b" * 100)
"""
READER = """
from pathlib import Path
from fetalflow.artefacts import write_text
from stages.runtime.lifeline import run

def main():
    write_text("model.txt", Path("split.csv").read_text() + Path("settings.txt").read_text())

run(main)
"""
STAGES = """
stages:
  split:
    cmd: python writer.py
    deps: [writer.py]
    outs: [split.csv, sequences]
  train:
    foreach: [movement]
    do:
      cmd: python reader.py
      deps: [reader.py, settings.txt, split.csv, sequences]
      outs: [model.txt]
"""


def environment(**more: str) -> dict[str, str]:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PYTHONPATH": str(ROOT), "PATH": path, "DVC_NO_ANALYTICS": "1"} | more


def dvc(folder: Path, *words: str) -> subprocess.CompletedProcess:
    return run("dvc", *words, cwd=folder, **environment())


@pytest.fixture
def trained(tmp_path) -> Path:
    for name, text in {"writer.py": WRITER, "reader.py": READER, "dvc.yaml": STAGES, "settings.txt": "1"}.items():
        (tmp_path / name).write_text(text)
    done = dvc(use_dvc(tmp_path), "repro")
    assert done.returncode == 0, done.stdout + done.stderr
    return tmp_path


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    mode = path.stat().st_mode
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(mode)


@pytest.mark.parametrize("out", ["split.csv", "sequences/b.txt"])
def test_a_flipped_bit_in_the_cache_is_refused_before_training(trained, out):
    digest = _md5(trained / out)
    flip_a_bit(cached := trained / ".dvc" / "cache" / "files" / "md5" / digest[:2] / digest[2:])
    (trained / out).unlink()
    assert dvc(trained, "checkout", "--force").returncode == 0, "DVC says nothing: why the stage looks for itself"
    assert _md5(trained / out) != digest
    (trained / "settings.txt").write_text("2")
    refused = dvc(trained, "repro")
    assert refused.returncode != 0
    name = out.partition("/")[0]
    assert f"{name}: split wrote MD5" in refused.stdout + refused.stderr
    assert not (trained / "model.txt").exists(), "nothing was trained on it"

    (trained / out).unlink()
    cached.chmod(0o644)
    cached.unlink()
    done = dvc(trained, "repro")
    assert done.returncode == 0, done.stdout + done.stderr
    assert _md5(trained / out) == digest and (trained / "model.txt").read_text().endswith("test\n2")


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_a_reboot_leaves_locks_and_pids_that_stop_nobody(trained):
    """Everything was killed at once; the locks are still there and their pids belong to somebody else now."""
    from flows.running.dvc_stages import pending, reproduce

    stranger = subprocess.Popen(["sleep", "600"])
    try:
        said = {"pid": stranger.pid, "cmd": f"{BIN}/dvc repro"}
        held = {"write": {str(trained / "model.txt"): said}, "read": {str(trained / "split.csv"): [said]}}
        (trained / ".dvc" / "tmp" / "rwlock").write_text(json.dumps(held))
        assert "is busy" in dvc(trained, "repro", "--force").stderr, "plain DVC waits for a person"
        (trained / ".dvc" / "tmp" / "lock").write_text("")
        (trained / ".locks").mkdir(exist_ok=True)
        (trained / ".locks" / "reader.lock").write_text("")
        (trained / ".tmpabc.txt").write_text("half a mod")  # what atomic_file leaves when it is killed
        (trained / "settings.txt").write_text("3")
        assert pending(trained) == ["train@movement"]
        reproduce("train@movement", trained, print)
        assert (trained / "model.txt").read_text().endswith("test\n3")
        (trained / ".dvc" / "tmp" / "rwlock").write_text(json.dumps(held)[:20])  # torn
        assert pending(trained) == []
        # An owner that died is not alive because its pid is: the start time tells them apart.
        tag = f"{stranger.pid}:{psutil.Process(stranger.pid).create_time() - 3600}"
        gone = subprocess.run(
            [sys.executable, "reader.py"], cwd=trained, env=environment(**{OWNER: tag}), capture_output=True, text=True
        )
        assert gone.returncode == 1 and "has ended" in gone.stderr
    finally:
        stranger.kill()
        stranger.wait()


MOST = 150_000  # bytes of a file: a checkpoint is larger


def _small_files() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MOST, MOST))


def ended(process: Process) -> None:
    said = process.communicate(timeout=120)
    assert process.returncode == 0, said


def test_a_full_disk_leaves_nothing_half_and_the_next_run_ends_in_the_same_bytes(tmp_path):
    """RLIMIT_FSIZE fails the write in the middle, as a full disk does, also of libraries that write in C++."""
    written = ("models/movement/cnn/model.safetensors", "data/movement/predictions/cnn.csv")
    unit = ("train", "movement", "cnn")
    whole, full = make_workspace(tmp_path / "whole", epochs=2), make_workspace(tmp_path / "full", epochs=2)
    ended(stage(whole, *unit))
    stopped = stage(full, *unit, before=_small_files)
    said = stopped.communicate(timeout=120)
    assert stopped.returncode != 0, said
    assert not any((full / file).exists() for file in written)
    assert not list((full / "checkpoints").rglob("last.ckpt")), "a checkpoint is whole or not there"
    ended(stage(full, *unit))
    for file in written:
        assert file_digest(full / file) == file_digest(whole / file), file


def test_a_full_disk_is_said_plainly_and_not_tried_again(tmp_path):
    (tmp_path / "writer.py").write_text(
        "from fetalflow.artefacts import write_text\nfrom stages.runtime.lifeline import run\n"
        "def main():\n    write_text('table.csv', 'x' * 1_000_000)\nrun(main)\n"
    )
    (tmp_path / "table.csv").write_text("the one before")
    command = [sys.executable, "writer.py"]
    stopped = subprocess.run(
        command, cwd=tmp_path, env=environment(), preexec_fn=_small_files, capture_output=True, text=True
    )
    assert stopped.returncode == 1 and " stopped: the disk is full" in stopped.stderr, stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert (tmp_path / "table.csv").read_text() == "the one before"
    assert sorted(p.name for p in tmp_path.iterdir()) == [".locks", "table.csv", "writer.py"]


def test_a_killed_writer_leaves_its_target_as_it_was(tmp_path):
    code = "import time\nfrom fetalflow.artefacts import atomic_file, atomic_folder\nfrom pathlib import Path\n"
    code += "with atomic_folder('models') as folder, atomic_file('table.csv') as file:\n"
    code += "    (folder / 'half').write_text('x')\n    file.write_text('x')\n"
    code += "    Path('began').touch()\n    time.sleep(60)\n"
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "whole").write_text("before")
    (tmp_path / "table.csv").write_text("before")
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment())
    end = time.monotonic() + 60
    while not (tmp_path / "began").exists():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert [p.name for p in (tmp_path / "models").iterdir()] == ["whole"]
    assert (tmp_path / "table.csv").read_text() == "before"


def test_a_stage_that_dvc_yaml_no_longer_has_is_not_the_writer_of_a_file(tmp_path, monkeypatch):
    """DVC keeps the old entry in dvc.lock for ever when a stage is renamed."""
    (tmp_path / "dvc.yaml").write_text("stages:\n  new: {cmd: a, outs: [data]}\n  next: {cmd: b, deps: [data]}\n")
    (tmp_path / "data").write_text("what the new stage wrote")
    old = {"outs": [{"path": "data", "md5": "0" * 32}]}
    new = {"outs": [{"path": "data", "md5": hashlib.md5(b"what the new stage wrote").hexdigest()}]}
    lock = tmp_path / "dvc.lock"
    monkeypatch.setenv("DVC_STAGE", "next")
    lock.write_text(yaml.safe_dump({"stages": {"old": old, "new": new}}))
    check_inputs(tmp_path)
    lock.write_text(yaml.safe_dump({"stages": {"old": new, "new": old}}))
    with pytest.raises(InputError, match="new wrote MD5 0000"):
        check_inputs(tmp_path)
