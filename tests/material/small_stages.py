"""A workspace whose stages have the names of the pipeline's and small bodies: it tests the flow, not the training."""

import shutil
from pathlib import Path

from processes import ROOT

from flows.workspaces.layout import DVC_CONFIG

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


def small_pipeline(order: list[str], *first: str, python: str = "python") -> str:
    """dvc.yaml of small stages, each after the one before it. first: what the first one needs; python: what runs
    them."""
    text = "stages:\n"
    for before, name in zip([None, *order], order, strict=False):
        deps = ", ".join(["stage.py", *([f"{before}.done"] if before else first)])
        text += f"  {name}:\n    foreach: [movement]\n    do:\n      cmd: {python} stage.py {name}\n"
        text += f"      deps: [{deps}]\n      outs: [{name}.done]\n"
    return text


def make_small_workspace(folder: Path, python: str = "python") -> Path:
    folder.mkdir()
    (folder / "stage.py").write_text(STAGE)
    shutil.copy(ROOT / "params.yaml", folder)
    (folder / "dvc.yaml").write_text(small_pipeline(ORDER, python=python))
    return use_dvc(folder)


def use_dvc(folder: Path) -> Path:
    """What `dvc init --no-scm` does, without a second of imports."""
    (folder / ".dvc" / "tmp").mkdir(parents=True)
    (folder / ".dvc" / "config").write_text(DVC_CONFIG + "    no_scm = true\n")
    return folder


def ran(workspace: Path) -> list[str]:
    file = workspace / "ran.txt"
    return file.read_text().split() if file.exists() else []
