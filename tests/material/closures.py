"""What DVC is told of every unit, and the files that a unit's result depends on."""

import re
from functools import cache
from modulefinder import ModuleFinder
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
LAYOUTS = ROOT / "fetalflow/hospital/drop/layouts"  # which are imported by their names alone
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
# How and where a stage runs, what is raised, settings of other stages and the reading of earlier settings. They can
# stop a stage, and change nothing of what it writes.
NOT_THE_RESULT = (
    "stages/runtime/",
    "fetalflow/errors.py",
    "fetalflow/settings/operations.py",
    "fetalflow/settings/earlier.py",
    "fetalflow/settings/node.py",
    "fetalflow/settings/watch.py",
)


@cache
def closure(entry: str) -> frozenset[str]:
    """Every file of the repository that `entry` imports, directly or not, as paths from the root."""
    finder = ModuleFinder(path=[str(ROOT)])
    finder.run_script(str(ROOT / entry))
    files = {Path(m.__file__).resolve() for m in finder.modules.values() if m.__file__}
    paths = {str(f.relative_to(ROOT)) for f in files if f.is_relative_to(ROOT)}
    return frozenset(p for p in paths if (ROOT / p).read_text().strip() and not p.endswith("__init__.py"))


def look_up(values: dict, path: str):
    """The value at a dotted path."""
    for part in path.split("."):
        values = values[part]
    return values


def units() -> list[tuple[str, str, dict, dict]]:
    """(stage, unit, its `do`, the values of its foreach) for every unit that `dvc repro` knows."""
    found = []
    for stage, body in DVC.items():
        items = look_up(PARAMS, body["foreach"][2:-1])
        for key in items:
            item = items[key] if isinstance(items, dict) else key
            found.append((stage, f"{stage}@{key}", body["do"], {"key": key, "item": item}))
    return found


def resolve(text: str, values: dict) -> str:
    """A text of dvc.yaml with its ${...} filled in."""
    return re.sub(r"\$\{([\w.]+)\}", lambda m: str(look_up(values, m[1])), text)


def variants(task: str) -> list[dict]:
    """The entries of params.yaml for every network that a task trains."""
    return [PARAMS["tasks"][task], *PARAMS[task]["rivals"].values()]


def needs(do: dict, values: dict) -> set[str]:
    """The files that one unit's result depends on."""
    words = resolve(do["cmd"], values).split()
    entry = words[2].replace(".", "/") + ".py"
    task, *variant = words[3:]
    needed = set(closure(entry))
    if entry == "stages/phantom.py":
        needed |= closure(f"fetalflow/hospital/phantom/{task}/hospital.py")
    if "fetalflow/hospital/drop/layouts/registry.py" in needed:
        needed |= set().union(*(closure(f"{path.relative_to(ROOT)}") for path in LAYOUTS.glob("[!_]*.py")))
    if "fetalflow/models/building.py" in needed:
        for entry in variants(task):
            if not variant or variant == [entry["variant"]]:
                needed |= closure(f"fetalflow/models/{task}/{entry['network']}.py")
    return {n for n in needed if not n.startswith(NOT_THE_RESULT)}
