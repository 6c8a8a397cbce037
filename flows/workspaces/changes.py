"""Changes of settings: nested mappings in the form of `params.yaml` that hold only what is different."""

from collections import ChainMap
from collections.abc import Iterable
from typing import Any

import yaml

from fetalflow.errors import InputError
from fetalflow.settings.earlier import refuse_earlier
from flows.checkout import CHECKOUT

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
        if name == "profiles":
            raise InputError("--set changes settings, and no profile. Set the key that the profile sets.")
        if not isinstance(block, dict) or name == "ablations":  # which refuse_earlier explains
            continue
        if isinstance(value, dict):
            refuse_wrong_form(block, value, f"{name}.")
        elif value is not None or not place.endswith(REMOVABLE):
            raise InputError(
                f"--set {name}={'null' if value is None else value}: {name} is a block of settings. Set one of its "
                f"keys: {', '.join(f'{name}.{inner}' for inner in block) or 'it has none yet'}."
            )


def refuse_unknown_networks(params: dict[str, Any], changes: Iterable[dict[str, Any]]) -> None:
    """Raises InputError if `changes` name a network that no file defines, leave out a rival that is nowhere, or give
    the main network another name without another network: that may be a rival's name, misspelt. params: the checkout's,
    with its profiles. Else a stage would fail after minutes, or a network would be trained under a wrong name."""
    changes, every = list(changes)[::-1], [params, *(params.get("profiles") or {}).values()]
    for task, before in params["tasks"].items():
        networks = sorted(path.stem for path in (CHECKOUT / "fetalflow" / "models" / task).glob("[!_]*.py"))
        main = dict(ChainMap(*((each.get("tasks") or {}).get(task) or {} for each in changes)))
        rivals = dict(ChainMap(*((each.get(task) or {}).get("rivals") or {} for each in changes)))
        there = sorted({name for each in every for name in (each.get(task) or {}).get("rivals") or {}})
        if gone := [name for name, rival in rivals.items() if rival is None and name not in there]:
            raise InputError(f"There is no rival {gone[0]} that could be left out. There are: {', '.join(there)}.")
        variants = [before["variant"], *(name.removeprefix(f"{task}-") for name in (*there, *rivals))]
        if (name := main.get("variant", variants[0])) not in variants and not {"network", "options"} & set(main):
            raise InputError(
                f"tasks.{task}.variant={name} is no rival of {task}: {', '.join(variants)}. Name one of these; or, for "
                f"a new variant, set tasks.{task}.network as well."
            )
        entries = {f"tasks.{task}": main} | {f"{task}.rivals.{name}": rival for name, rival in rivals.items() if rival}
        for place, entry in entries.items():
            if (network := entry.get("network", networks[0])) not in networks:
                raise InputError(f"{place}.network={network}: no such network. {task} has: {', '.join(networks)}.")


def with_changes(params: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`params` with `changes`. If `tasks.TASK.variant` changes, the task gets another main variant: the old one becomes
    the first rival, and the new one is no longer a rival.

    Raises InputError for settings that fetalflow had until 2026-11.
    """
    for task in params["tasks"]:
        refuse_earlier(changes, task)
    merged = overlay(params, changes)
    for task in params["tasks"]:  # a profile may leave out all rivals; dvc.yaml names the block all the same
        merged[task] = {**merged[task], "rivals": merged[task].get("rivals") or {}}
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
    return merged | {"ablations": rivals, "pretrainings": pretrainings(merged)}


def pretrainings(params: dict[str, Any]) -> dict[str, Any]:
    """What DVC needs of the tasks with a `pretrain.folder`: their main variant and that folder, by task."""
    folders = {task: (params.get(task, {}).get("pretrain") or {}).get("folder") for task in params["tasks"]}
    entries = {task: {k: v for k, v in params["tasks"][task].items() if k != "drop"} for task in folders}
    return {task: entries[task] | {"folder": folder} for task, folder in folders.items() if folder}


def leaves(changes: dict[str, Any], place: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every value that is no mapping, and every empty mapping, by its keys from the outside to the inside."""
    found: dict[tuple[str, ...], Any] = {}
    for key, value in changes.items():
        if isinstance(value, dict) and value:
            found |= leaves(value, (*place, str(key)))
        else:
            found[(*place, str(key))] = value
    return found


def nested(values: dict[tuple[str, ...], Any]) -> dict[str, Any]:
    """The mapping of which `values` are the `leaves`."""
    changes: dict[str, Any] = {}
    for path, value in values.items():
        inner = changes
        for key in path[:-1]:
            inner = inner.setdefault(key, {})
        inner[path[-1]] = value
    return changes


def differences(before: dict[str, Any], now: dict[str, Any], place: str = "") -> dict[str, Any]:
    """The changes that make `now` out of `before`. An entry that is gone is None; only a REMOVABLE one can be away."""
    found: dict[str, Any] = {}
    for key in [*now, *(key for key in before if key not in now)]:
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            if inner := differences(old, new, f"{place}{key}."):
                found[key] = inner
        elif key not in now:
            if f".{place}".endswith(REMOVABLE) and isinstance(old, dict):
                found[key] = None
        elif key not in before or old != new:
            found[key] = new
    return found
