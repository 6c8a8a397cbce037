"""Where a run happens: the checkout itself, or a folder of its own that shares the code and nothing else.

A profile, another drop or a changed setting never edits a tracked file: it gets a workspace whose `params.yaml` is
the checkout's with the changes laid over it, and whose `fetalflow/` and `stages/` are links, so that DVC there sees
every change of the code here.
"""

import os
from pathlib import Path
from typing import Any

import yaml

import stages
from fetalflow.artefacts import write_text
from fetalflow.errors import InputError
from fetalflow.layouts import layout_of
from fetalflow.review import write_decisions
from fetalflow.settings import load_settings

CHECKOUT = Path(stages.__file__).resolve().parents[1]
LINKED = ("fetalflow", "stages", "flows")
COPIED = ("dvc.yaml", ".dvcignore", ".dvc/plots/by_class.json")


def overlay(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it, mapping by mapping; a list or a number replaces the old one.

    None in the place of a mapping takes it out: `--set ablations.movement-cnn=null` leaves that ablation undone.
    """
    merged = dict(base)
    for key, value in changes.items():
        if not isinstance(merged.get(key), dict):
            merged[key] = value
        elif value is None:
            del merged[key]
        else:
            merged[key] = overlay(merged[key], value)
    return merged


def parse_change(assignment: str) -> dict[str, Any]:
    """`movement.train.epochs=5` as a nested mapping. Raises InputError when it has no `=`."""
    path, equals, value = assignment.partition("=")
    if not equals or not path:
        raise InputError(f"--set {assignment}: expected KEY.KEY=VALUE, such as movement.train.epochs=5")
    nested: Any = yaml.safe_load(value)
    for key in reversed(path.strip().split(".")):
        nested = {key: nested}
    return nested


def drop_changes(drop: Path, task: str) -> dict[str, Any]:
    """The settings that put a hospital's drop, in any layout, in the place of the synthetic hospital's.

    Raises InputError when there is no drop in one of the layouts.
    """
    layout_of(drop)
    return {"phantoms": [], "tasks": {task: {"drop": str(drop.resolve())}}, task: {"extract": {"labels": None}}}


def profile_changes(profile: str) -> dict[str, Any]:
    """The settings of a profile of the checkout's params.yaml. Raises InputError when there is none of that name."""
    profiles = yaml.safe_load((CHECKOUT / "params.yaml").read_text()).get("profiles", {})
    if profile not in profiles:
        raise InputError(f"no profile is called {profile!r} in params.yaml; there are: {', '.join(profiles)}")
    return profiles[profile]


def prepare(folder: Path, profile: str | None, changes: list[dict[str, Any]]) -> Path:
    """Make or refresh the workspace `folder` and return it.

    Raises InputError when the profile is unknown or the settings do not fit their contract.
    """
    params = yaml.safe_load((CHECKOUT / "params.yaml").read_text())
    for change in [*([] if profile is None else [profile_changes(profile)]), *changes]:
        params = overlay(params, change)
    trained = [(a["task"], a["variant"]) for a in (params.get("ablations") or {}).values()]
    for name, entry in params["tasks"].items():  # an ablation that was taken out is nobody's rival, one that came is
        listed = [rival for rival in entry.get("rivals", []) if (name, rival) in trained]
        entry["rivals"] = listed + [variant for task, variant in trained if task == name and variant not in listed]

    folder.mkdir(parents=True, exist_ok=True)
    for name in LINKED:
        link = folder / name
        if not link.is_symlink():
            link.symlink_to(os.path.relpath(CHECKOUT / name, folder), target_is_directory=True)
    for name in COPIED:
        write_text(folder / name, (CHECKOUT / name).read_text())
    config = (CHECKOUT / ".dvc" / "config").read_text()
    without_git = "" if "no_scm" in config else "    no_scm = true\n"  # the worker's image has no git either
    write_text(folder / ".dvc" / "config", config + without_git)
    write_text(folder / "params.yaml", yaml.safe_dump(params, sort_keys=False))
    for task in load_settings(folder / "params.yaml").tasks:
        if not (reviews := folder / "reviews" / f"{task}.csv").exists():
            write_decisions(reviews, [])  # DVC wants every input to be there
    return folder
