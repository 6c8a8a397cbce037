"""The house keeps its order: imports run one way, and DVC knows every file that a stage's result depends on."""

import ast
import re
from functools import cache
from modulefinder import ModuleFinder
from pathlib import Path

import pytest
import yaml

from fetalflow.tasks import TASKS

ROOT = Path(__file__).parents[1]
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
# How and where a stage lives, and that its input is whole; not what it writes.
NOT_THE_RESULT = {"stages/lifeline.py", "stages/intact.py", "fetalflow/cluster.py"}


@cache
def closure(entry: str) -> frozenset[str]:
    """Every file of the repository that `entry` imports, directly or not, as paths from the root."""
    finder = ModuleFinder(path=[str(ROOT)])
    finder.run_script(str(ROOT / entry))
    files = {Path(m.__file__).resolve() for m in finder.modules.values() if m.__file__}
    paths = {str(f.relative_to(ROOT)) for f in files if f.is_relative_to(ROOT)}
    return frozenset(p for p in paths if (ROOT / p).read_text().strip() and not p.endswith("__init__.py"))


def units() -> list[tuple[str, str, dict, dict]]:
    """(stage, unit, its `do`, the values of its foreach) for every unit that `dvc repro` knows."""
    found = []
    for stage, body in DVC.items():
        over = body["foreach"]
        items = PARAMS[re.fullmatch(r"\$\{(\w+)\}", over).group(1)]
        for key in items:
            item = items[key] if isinstance(items, dict) else key
            found.append((stage, f"{stage}@{key}", body["do"], {"key": key, "item": item}))
    return found


def resolve(text: str, values: dict) -> str:
    def look_up(match: re.Match) -> str:
        value = values
        for part in match.group(1).split("."):
            value = value[part]
        return str(value)

    return re.sub(r"\$\{([\w.]+)\}", look_up, text)


def needs(do: dict, values: dict) -> set[str]:
    """The files that one unit's result depends on."""
    words = resolve(do["cmd"], values).split()
    entry = words[2].replace(".", "/") + ".py"
    task, *variant = words[3:]
    needed = closure(entry)
    if entry == "stages/phantom.py":
        needed |= closure(TASKS[task].make_drop.split(":")[0].replace(".", "/") + ".py")
    if "fetalflow/models/building.py" in needed:
        for entry in [PARAMS["tasks"][task], *(a for a in PARAMS["ablations"].values() if a["task"] == task)]:
            if not variant or variant == [entry["variant"]]:
                needed |= closure(f"fetalflow/models/{task}/{entry['network']}.py")
    return needed - NOT_THE_RESULT


@pytest.mark.parametrize(("stage", "unit", "do", "values"), units(), ids=[u[1] for u in units()])
def test_dvc_knows_the_import_closure_of_every_unit(stage, unit, do, values):
    listed = {resolve(dep, values) for dep in do["deps"]}
    folders = tuple(d + "/" for d in listed)
    missing = {n for n in needs(do, values) if n not in listed and not n.startswith(folders)}
    assert not missing, f"{unit}: dvc.yaml misses {sorted(missing)}"


@pytest.mark.parametrize("stage", DVC)
def test_no_stage_lists_what_none_of_its_units_needs(stage):
    of_stage = [(do, values) for name, _, do, values in units() if name == stage]
    needed = set().union(*(needs(do, values) for do, values in of_stage))
    listed = {resolve(dep, values) for do, values in of_stage for dep in do["deps"]}
    code = {d for d in listed if d.startswith(("fetalflow/", "stages/"))}
    spare = {d for d in code if d not in needed and not any(n.startswith(d + "/") for n in needed)}
    assert not spare, f"{stage}: dvc.yaml lists what the stage does not import {sorted(spare)}"


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [("fetalflow", {"flows", "stages", "dvc", "prefect"}), ("stages", {"flows", "dvc", "prefect", "mlflow"})],
)
def test_imports_run_one_way(room, forbidden):
    for path in (ROOT / room).rglob("*.py"):
        wrong = {name for name in imported(path) if name.split(".")[0] in forbidden}
        assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}"


def test_mlflow_is_imported_in_one_file_of_the_library():
    files = (ROOT / "fetalflow").rglob("*.py")
    assert [f.name for f in files if any(n.split(".")[0] == "mlflow" for n in imported(f))] == ["tracking.py"]


def test_flows_reach_stages_only_through_dvc():
    for path in (ROOT / "flows").rglob("*.py"):
        wrong = {n for n in imported(path) if n.startswith("stages.") and n != "stages.lifeline"}
        assert not wrong, f"{path.name} imports {sorted(wrong)}"


def test_no_stage_asks_which_task_it_is():
    for path in (ROOT / "stages").glob("*.py"):
        assert not re.search(r"\btask\s*(==|!=|in\b)", path.read_text()), path.name
