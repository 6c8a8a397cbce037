"""Every example of docs/extend.md works: it is added to a copy of the checkout, run, and removed again."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml
from closures import look_up, resolve
from training_sets import LABELS, make_workspace
from variant_entries import entry, put_variants

from fetalflow.artefacts import file_digest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/extend.md"
COPIED = (
    *("fetalflow", "stages", "reviews", "pretrained"),
    *("dvc.yaml", "params.yaml", ".dvcignore", ".dvc/config", ".dvc/plots"),
)
STEP = re.compile(
    r"^\*\*(?P<file>[^*\n]+)\*\*(?:, (?P<how>below|above|in place of) the line `(?P<line>[^\n]+?)`)?[^\n]*:\n\n"
    r"```\w+\n(?P<text>.*?)```$",
    re.MULTILINE | re.DOTALL,
)
QUICK = {"bootstrap": 50, "latency_repeats": 5}


class Checkout:
    """A copy of the code of this checkout, in which DVC has no cache and no Git."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name in COPIED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            ignored = {"ignore": shutil.ignore_patterns("__pycache__")} if copy is shutil.copytree else {}
            copy(ROOT / name, folder / name, **ignored)
        with open(folder / ".dvc/config", "a") as config:
            config.write("    no_scm = true\n")
        self.before = self.files()
        self.changed: dict[str, bytes] = {}  # what the files held before `add` changed them
        self.inputs_before = self.inputs()

    def files(self) -> dict[str, str]:
        """Every file of the copied code, by its path."""
        found = [path for name in COPIED for path in ([self.folder / name, *(self.folder / name).rglob("*")])]
        kept = [path for path in found if path.is_file() and "__pycache__" not in path.parts]
        return {path.relative_to(self.folder).as_posix(): file_digest(path) for path in kept}

    def add(self, title: str) -> None:
        """Follow the steps of the part `title` of the page."""
        part = PAGE.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
        steps = list(STEP.finditer(part))
        assert len(steps) == part.count("```") // 2, f"{title}: the line above a block of code must name its file"
        for step in steps:
            path = self.folder / step["file"].replace("\\", "")
            if step["how"] is None:
                assert not path.exists(), path
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(step["text"])
                continue
            self.changed.setdefault(path.relative_to(self.folder).as_posix(), path.read_bytes())
            lines = path.read_text().splitlines(keepends=True)
            at = next(i for i, line in enumerate(lines) if line.strip().startswith(step["line"].strip()))
            begin, end = {"below": (at + 1, at + 1), "above": (at, at), "in place of": (at, at + 1)}[step["how"]]
            path.write_text("".join([*lines[:begin], step["text"], *lines[end:]]))

    def remove(self) -> None:
        """Undo `add`: take away the new files, and put back the changed ones."""
        for name in set(self.files()) - set(self.before):
            path = self.folder / name
            path.unlink()
            shutil.rmtree(path.parent / "__pycache__", ignore_errors=True)
            if not any(path.parent.iterdir()):
                path.parent.rmdir()
        for name, content in self.changed.items():
            (self.folder / name).write_bytes(content)
        assert self.files() == self.before and self.inputs() == self.inputs_before

    def params(self) -> dict:
        return yaml.safe_load((self.folder / "params.yaml").read_text())

    def write_params(self, params: dict) -> None:
        """Other settings, such as fewer epochs. `remove` takes them back."""
        self.changed.setdefault("params.yaml", (self.folder / "params.yaml").read_bytes())
        (self.folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))

    def inputs(self) -> dict[str, dict]:
        """What DVC compares to tell whether a unit is stale, but for the files that other stages write."""
        params, stages, digests = (
            self.params(),
            yaml.safe_load((self.folder / "dvc.yaml").read_text())["stages"],
            self.files(),
        )
        found = {}
        for stage, body in stages.items():
            items = look_up(params, body["foreach"][2:-1])
            for key in items:
                values = {"key": key, "item": items[key] if isinstance(items, dict) else key}
                deps = {resolve(dep, values) for dep in body["do"]["deps"]}
                code = {f: d for f, d in digests.items() if any(f == dep or f.startswith(f"{dep}/") for dep in deps)}
                settings = {p: look_up(params, p) for p in (resolve(p, values) for p in body["do"]["params"])}
                found[f"{stage}@{key}"] = {"cmd": resolve(body["do"]["cmd"], values), "code": code, "params": settings}
        return found

    def stale(self) -> set[str]:
        """The units that were there before and would run again."""
        now = self.inputs()
        return {unit for unit, what in self.inputs_before.items() if now[unit] != what}

    def new(self) -> set[str]:
        return set(self.inputs()) - set(self.inputs_before)

    def run(self, *command: str) -> str:
        """Raises AssertionError with the output of a command that fails."""
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environment | {"DVC_NO_ANALYTICS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert not done.returncode, done.stdout + done.stderr
        return done.stdout

    def dvc(self, *arguments: str) -> str:
        return self.run(str(Path(sys.executable).with_name("dvc")), *arguments)

    def stages(self, *calls: tuple[str, ...]) -> str:
        """Stages in one process: ("train", "movement", "cnn"). The code is the copy's, as with `python -m`."""
        lines = ["import fetalflow", f"assert fetalflow.__file__.startswith({str(self.folder)!r}), fetalflow.__file__"]
        for stage, *arguments in calls:
            lines += [f"from stages.{stage} import main", f"main(*{arguments!r})"]
        return self.run(sys.executable, "-c", "\n".join(lines))


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    return Checkout(tmp_path / "checkout")


def of(stage: str, *tasks: str) -> set[str]:
    return {f"{stage}@{task}" for task in tasks or ("movement", "planes", "biometry")}


def small_movement(params: dict, rivals: list[dict]) -> dict:
    """Settings of a checkout with two small networks of movement, trained for one epoch."""
    for task in ("planes", "biometry"):
        params[task]["rivals"] = {}
    put_variants(
        params, "movement", [entry("movement", "cnn", base="movement/fetalmovnet.py", norm_each=True), *rivals]
    )
    movement = params["movement"]
    movement["extract"] |= {"labels": list(LABELS), "frames": 4, "stride": 4}
    movement["preprocess"] = {"size": 32}
    movement["train"] |= {"epochs": 1}
    return params | {"movement": movement | {"evaluate": QUICK}}


@pytest.mark.long
def test_add_a_network(checkout, tmp_path):
    make_workspace(tmp_path / "made")
    shutil.copytree(tmp_path / "made/data", checkout.folder / "data")
    manifest = checkout.folder / "data/movement/manifest.parquet"
    pd.read_parquet(manifest).assign(fps=30.0).to_parquet(manifest, index=False)
    (checkout.folder / "data/movement/masks").mkdir()
    verdict = checkout.folder / "reports/movement/quality/verdict.json"
    verdict.parent.mkdir(parents=True)
    verdict.write_text("{}")

    checkout.add("Add a network")
    assert checkout.new() == {"ablate@movement-tiny_cnn"}
    movement = ("export", "measure", "evaluate", "significance", "explain", "report")
    assert checkout.stale() == {f"{stage}@movement" for stage in movement} | of("register")
    rival = checkout.params()["movement"]["rivals"]["movement-tiny_cnn"]
    params = small_movement(checkout.params(), [rival])
    checkout.write_params(params)
    checkout.dvc("repro", "--single-item", "ablate@movement-tiny_cnn")
    checkout.stages(
        ("train", "movement", "cnn"), ("measure", "movement"), ("evaluate", "movement"), ("significance", "movement")
    )
    metrics = checkout.folder / "reports/movement/metrics.json"
    assert list(json.loads(metrics.read_text())) == ["cnn", "tiny_cnn"]
    significance = json.loads((checkout.folder / "reports/movement/significance.json").read_text())
    assert list(significance["comparisons"]) == ["tiny_cnn"]

    checkout.remove()
    params = small_movement(checkout.params(), [])
    checkout.write_params(params)
    checkout.stages(("evaluate", "movement"))
    assert list(json.loads(metrics.read_text())) == ["cnn"]
    assert not (checkout.folder / "metrics/movement/tiny_cnn.json").exists()


@pytest.mark.long
def test_add_a_task(checkout):
    checkout.add("Add a task")
    assert checkout.new() == {f"{unit.split('@')[0]}@sides" for unit in checkout.inputs() if "ablate" not in unit} | {
        "ablate@sides-narrow"
    }
    assert checkout.stale() == of("report") | of("register")
    params = checkout.params()
    for stage, settings in {
        "extract": {"workers": 1},
        "train": {"epochs": 3},
        "evaluate": QUICK,
    }.items():
        params["sides"][stage] |= settings
    params["sides"] |= {"explain": {"measured": 2}, "export": {"engines": ["onnx"], "latency_repeats": 5}}
    checkout.write_params(params)
    checkout.dvc("repro", "extract@sides")
    lock = yaml.safe_load((checkout.folder / "dvc.lock").read_text())
    assert set(lock["stages"]) == {f"{stage}@sides" for stage in ("phantom", "extract")}
    checkout.stages(
        *((stage, "sides") for stage in ("preprocess", "split", "validate")),
        ("train", "sides", "halves"),
        ("train", "sides", "narrow"),
        ("export", "sides", "halves"),
        *((stage, "sides") for stage in ("measure", "evaluate", "significance", "explain", "report")),
    )
    page = (checkout.folder / "reports/sides/report.html").read_text()
    assert "Sides: which half is bright" in page and "narrow" in page
    assert json.loads((checkout.folder / "reports/sides/metrics.json").read_text())["halves"]["accuracy"] > 0.6
    checkout.remove()


def test_add_a_layout(checkout, tmp_path):
    drop = tmp_path / "drop"
    (drop / "images").mkdir(parents=True)
    rng = np.random.default_rng(3)
    lines = ["file\tpatient\tlabel"]
    for number in range(12):
        picture = cv2.GaussianBlur(rng.integers(20, 200, (96, 96)).astype(np.uint8), (5, 5), 1)
        cv2.imwrite(str(drop / f"images/{number}.png"), picture)
        lines.append(f"images/{number}.png\tP{number % 6}\t{('Fetal brain', 'Other')[number // 6]}")
    (drop / "labels.tsv").write_text("\n".join([*lines, "images/gone.png\tP1\tOther"]) + "\n")

    checkout.add("Add a layout")
    assert not checkout.new() and checkout.stale() == of("extract") | of("register")
    params = checkout.params() | {"phantoms": []}
    params["tasks"]["planes"]["drop"] = str(drop)
    params["planes"]["split"] = {"kind": "grouped"}
    params["planes"]["extract"]["workers"] = 1
    checkout.write_params(params)
    checkout.dvc("repro", "split@planes")
    summary = json.loads((checkout.folder / "reports/planes/extract.json").read_text())
    assert (summary["layout"], summary["rows_used"], summary["quarantined"]) == ("labels.tsv", 12, {"missing": 1})
    split = pd.read_parquet(checkout.folder / "data/planes/split.parquet")
    assert set(split["patient"]) == {f"P{number}" for number in range(6)} and set(split["part"]) == {
        "train",
        "validation",
        "test",
    }

    checkout.remove()
    checkout.write_params(params)
    with pytest.raises(AssertionError, match=r"no annotations\.csv"):
        checkout.stages(("extract", "planes"))
