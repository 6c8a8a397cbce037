"""Workspaces: folders for runs that are not the checkout. They share the code with it, but not data and results.

A profile, another drop or a changed setting never edits a tracked file. It gets a workspace, whose `params.yaml` is a
copy with the changes and only the tasks that are run there. Its `fetalflow/`, `stages/` and `flows/` are links, so that
DVC sees changes of the code.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from fetalflow.artefacts import write_text
from fetalflow.errors import InputError
from fetalflow.settings.earlier import kept_names, refuse_earlier, renewed
from fetalflow.settings.params import Settings, checked, load_settings
from flows.checkout import CHECKOUT
from flows.plots_page import use_page

LINKED = ("fetalflow", "stages", "flows")
COPIED = (".dvcignore", ".dvc/plots/by_class.json")
ORIGIN = "origin.yaml"  # for each task of a workspace: its profiles, and its changes to the checkout's settings
ALL = "all tasks"
REMOVABLE = (".rivals.", ".options.", ".sequences.")  # null removes an entry of these blocks


def overlay(base: dict[str, Any], changes: dict[str, Any], keep_none: bool = False) -> dict[str, Any]:
    """`base` with `changes`. Mappings are merged key by key; any other value replaces the old one.

    None in the place of a mapping removes it: `--set movement.rivals.movement-cnn=null` leaves that rival out. With
    `keep_none` it stays as None, so that the result is again a set of changes.
    """
    merged = dict(base)
    for key, value in changes.items():
        if not isinstance(merged.get(key), dict):
            merged[key] = value
        elif value is None and not keep_none:
            del merged[key]
        elif value is None:
            merged[key] = None
        else:
            merged[key] = overlay(merged[key], value, keep_none)
    return merged


def parse_changes(assignments: Iterable[str]) -> dict[str, Any]:
    """Texts such as `movement.train.epochs=5` as one nested mapping, so that their order does not matter.

    Raises InputError if a text has not this form.
    """
    changes: dict[str, Any] = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        *parents, last = path.strip().split(".")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise InputError(f"--set {assignment}: {text} is no value in YAML, such as 5, [head, arm], null") from None
        if not equals or not all((*parents, last)):
            raise InputError(f"--set {assignment}: expected KEY.KEY=VALUE, such as movement.train.epochs=5")
        inner = changes
        for key in parents:
            if not isinstance(inner.get(key), dict):
                inner[key] = {}
            inner = inner[key]
        inner[last] = value
    return changes


def refuse_wrong_form(params: dict[str, Any], changes: dict[str, Any], place: str = "") -> None:
    """Raises InputError if `changes` has a single value in the place of a block, or removes a block that is needed."""
    for key, value in changes.items():
        block, name = params.get(key), f"{place}{key}"
        if not isinstance(block, dict) or name == "ablations":  # which refuse_earlier explains
            continue
        if isinstance(value, dict):
            refuse_wrong_form(block, value, f"{name}.")
        elif value is not None or not place.endswith(REMOVABLE):
            raise InputError(
                f"--set {name}={'null' if value is None else value}: {name} is a block of settings. Set one of its "
                f"keys: {', '.join(f'{name}.{inner}' for inner in block) or 'it has none yet'}."
            )


def drop_changes(drop: Path, task: str) -> dict[str, Any]:
    """The settings for a hospital's drop, in any layout, instead of the drop of the synthetic hospital.

    Raises InputError if the folder has none of the layouts.
    """
    from fetalflow.hospital.drop.opening import layout_of  # it imports pandas, which takes longer than this file

    layout_of(drop)
    return {"phantoms": [], "tasks": {task: {"drop": str(drop.resolve())}}, task: {"extract": {"labels": None}}}


def profile_changes(profile: str) -> dict[str, Any]:
    """The settings of a profile in the checkout's params.yaml. Raises InputError if there is no such profile."""
    profiles = _of_checkout().get("profiles", {})
    if profile not in profiles:
        raise InputError(f"no profile is called {profile!r} in params.yaml; there are: {', '.join(profiles)}")
    return profiles[profile]


def with_changes(params: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`params` with `changes`. If `tasks.TASK.variant` changes, the task gets another main variant: the old one becomes
    the first rival, and the new one is no longer a rival.

    Raises InputError for settings that fetalflow had until 2026-11.
    """
    for task in params["tasks"]:
        refuse_earlier(changes, task)
    merged = overlay(params, changes)
    for task, before in params["tasks"].items():
        entry = merged["tasks"][task]
        if entry["variant"] == before["variant"]:
            continue
        rivals = dict(merged[task].get("rivals", {}))
        new = rivals.pop(f"{task}-{entry['variant']}", before)
        merged["tasks"][task] = overlay(new | {"drop": entry["drop"]}, changes["tasks"][task])
        was = {key: value for key, value in before.items() if key != "drop"}
        merged[task] = merged[task] | {"rivals": {f"{task}-{before['variant']}": was} | rivals}
    rivals = {name: rival for task in merged["tasks"] for name, rival in merged[task].get("rivals", {}).items()}
    return merged | {"ablations": rivals}


def settings_of(task: str, profiles: Iterable[str] = (), changes: Iterable[dict[str, Any]] = ()) -> Settings:
    """The settings of the checkout with profiles and changes, without making a workspace.

    Raises InputError if a profile is unknown or a setting is wrong.
    """
    params = _of_checkout()
    for change in (changes := list(changes)):
        refuse_wrong_form(params, change)
        _refuse_other_tasks(change, task, params["tasks"])
    for change in [*map(profile_changes, profiles), *changes]:
        params = with_changes(params, change)
    return checked(params, "params.yaml")


def prepare(
    folder: Path, task: str | None = None, profiles: Iterable[str] = (), changes: Iterable[dict[str, Any]] = ()
) -> Path:
    """Make the workspace `folder` for a task, or update it, and return it. Without a task, for all tasks.

    Profiles and changes last: `origin.yaml` keeps them, and the next call for the same task begins with them. The other
    tasks of the workspace keep their settings. Raises InputError if a profile is unknown or a setting is wrong.
    """
    profiles, changes, made = list(profiles), list(changes), _read(folder / ORIGIN)
    params = _of_checkout()
    for change in changes:
        refuse_wrong_form(params, change)
        _refuse_other_tasks(change, task, params["tasks"])
    earlier = renewed(_read(folder / "params.yaml"))
    if task in earlier.get("tasks", {}) and task not in made and not profiles and not changes:
        _lay_out(folder)  # made by a version that kept no record: its settings are all in params.yaml
        update_workspace(folder)
        return folder
    before = made.get(task or ALL, {})
    profiles = [*before.get("profiles", []), *(name for name in profiles if name not in before.get("profiles", []))]
    merged = before.get("changes", {})
    for change in changes:
        merged = overlay(merged, change, keep_none=True)
    merged = overlay(kept_names(earlier, [task] if task else params["tasks"]), merged, keep_none=True)
    for change in [*map(profile_changes, profiles), merged]:
        params = with_changes(params, change)
    checked(params, folder / "params.yaml")
    if task:
        params = _with_other_tasks(_of_one_task(params, task), earlier, task)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "params.yaml", _as_yaml(params))
    _lay_out(folder)
    write_text(folder / ORIGIN, _as_yaml(made | {task or ALL: {"profiles": profiles, "changes": merged}}))
    return folder


def _read(file: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(file.read_text()) if file.is_file() else {}
    except (yaml.YAMLError, UnicodeDecodeError):
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{file} has not the form that fetalflow gave it. Correct it, or choose another --name.")
    return found


def _refuse_other_tasks(change: dict[str, Any], task: str | None, tasks: Iterable[str]) -> None:
    changed = {*change, *(change.get("tasks") or {})}
    if task and (others := [name for name in tasks if name in changed and name != task]):
        raise InputError(f"A run of {task} has no settings of {', '.join(others)}. Use --task, or leave them out.")


def _of_one_task(params: dict[str, Any], task: str) -> dict[str, Any]:
    """The settings without the blocks of other tasks, so that DVC knows only stages that are run here."""
    kept = {key: value for key, value in params.items() if key == task or key not in params["tasks"]}
    return kept | {
        "tasks": {task: params["tasks"][task]},
        "phantoms": [name for name in params["phantoms"] if name == task],
        "ablations": params[task].get("rivals", {}),
    }


def _with_other_tasks(params: dict[str, Any], earlier: dict[str, Any], task: str) -> dict[str, Any]:
    """`params`, which are of one task, and the tasks that were run in this workspace before."""
    others = [name for name in earlier.get("tasks", {}) if name != task]
    rivals = {name: rival for other in others for name, rival in earlier[other].get("rivals", {}).items()}
    return {
        "tasks": {name: earlier["tasks"][name] for name in others} | params["tasks"],
        "phantoms": [name for name in earlier.get("phantoms", []) if name in others] + params["phantoms"],
        **{name: earlier[name] for name in others},
        **{key: value for key, value in params.items() if key not in ("tasks", "phantoms", "ablations")},
        "ablations": rivals | params["ablations"],
    }


def update_workspace(folder: Path) -> bool:
    """Give a workspace of an earlier fetalflow the current settings and `dvc.yaml`. Returns whether it was one.

    A worker that was updated finds such workspaces, so every flow begins with this. Drops, arrivals and decisions stay;
    the stages run again, because their code moved. Raises InputError if a setting is wrong, or
    if `folder` is the checkout and its settings are those of an earlier fetalflow.
    """
    if not (folder / "params.yaml").is_file():
        return False
    if folder.resolve() == CHECKOUT:
        _of_checkout()
        return False
    params = yaml.safe_load((folder / "params.yaml").read_text())
    current = renewed(params)
    if current is params:
        return False
    _lay_out(folder)
    # Last, because the next call recognises the workspace by it if this one is killed.
    write_text(folder / "params.yaml", _as_yaml(current | {"profiles": _of_checkout().get("profiles", {})}))
    return True


def _of_checkout() -> dict[str, Any]:
    params = yaml.safe_load((CHECKOUT / "params.yaml").read_text())
    if renewed(params) is not params:
        raise InputError(
            f"{CHECKOUT / 'params.yaml'} has the form of an earlier fetalflow. Take the file of this version from git, "
            "and make your changes in it again: a network's options are now in its entry in `tasks` or `TASK.rivals`."
        )
    return params


def _lay_out(folder: Path) -> None:
    """Add what a workspace has from the checkout: links to the code, `dvc.yaml`, the configuration of DVC."""
    for name in LINKED:
        link = folder / name
        if link.is_symlink() and link.resolve() != CHECKOUT / name:
            link.unlink()  # the workspace was moved
        if not link.is_symlink():
            link.symlink_to(os.path.relpath(CHECKOUT / name, folder), target_is_directory=True)
    settings = load_settings(folder / "params.yaml")
    for name in COPIED:
        write_text(folder / name, (CHECKOUT / name).read_text())
    write_text(folder / "dvc.yaml", _pipeline_of(settings.tasks))
    if not (folder / ".dvc" / "config").is_file():  # an existing one may have a remote that somebody added
        config = (CHECKOUT / ".dvc" / "config").read_text()
        without_git = "" if "no_scm" in config else "    no_scm = true\n"  # the image of the worker has no git
        write_text(folder / ".dvc" / "config", config + without_git)
    use_page(folder)
    for task in settings.tasks:
        if not (reviews := folder / "reviews" / f"{task}.csv").exists():
            from fetalflow.hospital.drop.review import write_decisions

            write_decisions(reviews, [])  # DVC needs every input to exist


def _pipeline_of(tasks: Iterable[str]) -> str:
    """The checkout's `dvc.yaml` without the metrics and plots of other tasks: DVC knows no loop for these two."""
    lines = (CHECKOUT / "dvc.yaml").read_text().splitlines(keepends=True)
    others = [f"reports/{task}/" for task in _of_checkout()["tasks"] if task not in tasks]
    return "".join(line for line in lines if not any(part in line for part in others))


def _as_yaml(params: dict[str, Any]) -> str:
    # Without the anchors (&id001) that PyYAML writes for a mapping that is used twice.
    return yaml.dump(params, Dumper=_WithoutAliases, sort_keys=False)


class _WithoutAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True
