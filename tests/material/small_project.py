"""A workspace of planes with its history in git, whose only stage takes no time. Its accuracy is the number of epochs
in per cent."""

import os
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from ready_processes import run

from flows.workspaces import layout
from flows.workspaces.project import record_run, share_inputs
from flows.workspaces.workspace import prepare

TASK = "planes"
PIPELINE = """
stages:
  train:
    foreach: ${tasks}
    do:
      cmd: >-
        python -c "import yaml, fetalflow.artefacts as f;
        n = yaml.safe_load(open('params.yaml'))['planes']['train']['epochs'];
        f.write_json('metrics/${key}/net.json', dict(accuracy=n / 100));
        f.write_text('reports/${key}/curves/net.csv', 'epoch,loss' + chr(10) + '1,.5' + chr(10) + str(n) + ',.25');
        f.write_text('data/${key}/manifest.parquet', str(n))"
      params: ["${key}.train.epochs"]
      deps: [fetalflow/artefacts.py, "reviews/${key}.csv"]
      outs:
        - data/${key}/manifest.parquet
        - reports/${key}/curves
        - metrics/${key}: {cache: false}
metrics: [metrics]
plots:
  - loss: {x: epoch, y: {reports/planes/curves/net.csv: loss}}
"""


def make_project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its stage has run, and the run is in git."""
    monkeypatch.setattr(layout, "pipeline_of", lambda tasks: PIPELINE)
    prepare(folder, TASK)
    dvc(folder, "repro", "--quiet")
    share_inputs(folder)
    record_run(folder, f"{TASK}: 1 of 1 stages ran")
    return folder


def set_epochs(folder: Path, epochs: int) -> None:
    file = folder / "params.yaml"
    before = file.read_text()
    after = before.replace("    epochs: 10\n", f"    epochs: {epochs}\n", 1)
    assert after != before
    file.write_text(after)


def dvc(folder: Path, *words: str, may_fail: bool = False) -> CompletedProcess:
    """`dvc WORDS` in a folder. Its stages find this Python by the name python."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = run("dvc", *words, cwd=folder, PATH=path)
    assert may_fail or done.returncode == 0, f"dvc {' '.join(words)}: {done.stdout}{done.stderr}"
    return done
