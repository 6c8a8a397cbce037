"""Convert `params.yaml` of a workspace that an earlier version of fetalflow made.

Until 2026-11 a variant had three entries: its network in `tasks` or `ablations`, its options in the task's `networks`,
its position in the report in the task's `rivals`.
"""

from collections.abc import Iterable
from typing import Any

from fetalflow.errors import InputError

EARLIER_MODELS = {"movement": "fetalmovnet"}  # names of registered models until 2026-11, where they differ from now


def kept_names(earlier: dict[str, Any], tasks: Iterable[str]) -> dict[str, Any]:
    """The changes by which a workspace with the settings `earlier` keeps the name of its registered model: with another
    name it would lose its champion, its ledger and its warm starts."""
    names = {task: ((earlier.get(task) or {}).get("register") or {}).get("model") for task in tasks}
    return {
        task: {"register": {"model": name}} for task, name in names.items() if name and name == EARLIER_MODELS.get(task)
    }


def renewed(params: dict[str, Any]) -> dict[str, Any]:
    """`params` in the current form; the same object if it already has that form, or if it fits neither form."""
    try:
        return _converted(params)
    except (AttributeError, KeyError, TypeError):  # an entry is missing or is not a mapping: Settings reports it
        return params


def _converted(params: dict[str, Any]) -> dict[str, Any]:
    tasks = params["tasks"]
    if not any("networks" in params[task] for task in tasks):
        return params
    current = params | {"tasks": {}, "ablations": {}, "pretrainings": {}}
    ablations = list((params.get("ablations") or {}).values())
    for task, entry in tasks.items():
        block = dict(params[task])
        options = block.pop("networks", {})
        if "significance" in block:  # no test draws samples any more
            block["significance"] = {k: v for k, v in block["significance"].items() if k != "bootstrap"}
        main = {key: value for key, value in entry.items() if key != "rivals"}
        current["tasks"][task] = {"task": task} | main | {"options": options.get(entry["variant"], {})}
        position = {variant: i for i, variant in enumerate(entry.get("rivals", []))}
        rivals = [each | {"options": options.get(each["variant"], {})} for each in ablations if each["task"] == task]
        rivals.sort(key=lambda rival: position.get(rival["variant"], len(position)))
        current[task] = {"pretrain": {}} | block | {"rivals": {f"{task}-{rival['variant']}": rival for rival in rivals}}
        current["ablations"] |= current[task]["rivals"]
    return current


def refuse_earlier(changes: dict[str, Any], task: str) -> None:
    """Raise InputError if `changes` has a setting of `task` that no longer exists; the message names the one to set."""
    block, entry = changes.get(task) or {}, (changes.get("tasks") or {}).get(task) or {}
    if "pretrainings" in changes:
        raise InputError("`pretrainings` follows from TASK.pretrain.folder. Set that; '' switches pretraining off.")
    if "ablations" in changes:
        raise InputError("`ablations` follows from the rivals. Set TASK.rivals.TASK-VARIANT; null leaves it out.")
    if "networks" in block:
        raise InputError(
            f"`{task}.networks` is no setting any more. Set {task}.rivals.{task}-VARIANT.options, or "
            f"tasks.{task}.options for the main network."
        )
    if "rivals" in entry:
        raise InputError(
            f"`tasks.{task}.rivals` is no setting any more. Set {task}.rivals.{task}-VARIANT; null leaves it out."
        )
    if "bootstrap" in (block.get("significance") or {}):
        raise InputError(
            f"`{task}.significance.bootstrap` is no setting any more: no test draws samples. Leave it out."
        )
