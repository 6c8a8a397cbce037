"""What a workspace remembers of its settings: which were changed, by whom and when.

Three files stand beside its `params.yaml`. `origin.yaml` has for each task its profiles and its changes to the
checkout's settings. `.params-written.yaml` is `params.yaml` as fetalflow wrote it last, so that a change by hand is
seen. `settings.jsonl` has one line for each value that changed; lines are only added.
"""

import json
import re
import sys
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from fetalflow.artefacts import write_text
from fetalflow.errors import InputError
from fetalflow.settings.params import checked
from flows.workspaces.changes import differences, leaves, nested, overlay
from flows.workspaces.people import this_person

ORIGIN = "origin.yaml"
WRITTEN = ".params-written.yaml"
HISTORY = "settings.jsonl"
RECORDS = ("params.yaml", ORIGIN, WRITTEN, HISTORY)  # what a refused command must leave as it was
ALL = "all tasks"  # in the place of a task: a workspace that was made for all of them
SHARED = ("machines", "node", "watch")  # blocks that are of the whole workspace
SHOWN = 5  # values that changed although no command names them, on the terminal
BY_HAND = "by hand in params.yaml"
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
SECRET = re.compile(r"(?<=://)[^/\s]*@|(?<=[?&])([^=&\s]+)=[^&\s]*")  # in a URL: a password, a signature


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a file; empty if there is no file. Raises InputError if it holds something else."""
    try:
        found = yaml.load(file.read_text(encoding="utf-8"), Loader) if file.is_file() else {}
    except (yaml.YAMLError, UnicodeDecodeError):
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{file} has not the form that fetalflow gave it. Correct it, or choose another --name.")
    return found


def as_yaml(params: dict[str, Any]) -> str:
    # Without the anchors (&id001) that PyYAML writes for a mapping that is used twice.
    return yaml.dump(params, Dumper=_WithoutAliases, sort_keys=False)


class _WithoutAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def write_params(folder: Path, params: dict[str, Any]) -> None:
    """Write the workspace's `params.yaml`. A change of it that is not written by this function is one by hand.

    A file with the same values stays, whatever its form is: DVC and git look at the time and the bytes of a file.
    """
    for name in ("params.yaml", WRITTEN):
        if read_yaml(folder / name) != params:
            write_text(folder / name, as_yaml(params))


def part_of(params: dict[str, Any], task: str) -> dict[str, Any]:
    """The settings of a task in `params`, without `train.start`, which `retrain` chooses for every training."""
    block = dict(params[task])
    block["train"] = {key: value for key, value in block["train"].items() if key != "start"}
    phantoms = [name for name in params.get("phantoms", []) if name == task]
    return {"tasks": {task: params["tasks"][task]}, "phantoms": phantoms, task: block} | shared_of(params)


def shared_of(params: dict[str, Any]) -> dict[str, Any]:
    """The blocks of settings, or of changes, that are of the whole workspace."""
    return {name: params[name] for name in SHARED if params.get(name)}


def shared_changes(made: dict[str, Any]) -> dict[str, Any]:
    """The changes of the blocks SHARED in the record of any task."""
    found: dict[str, Any] = {}
    for entry in made.values():
        found = overlay(found, shared_of(entry.get("changes", {})), keep_none=True)
    return found


def without(changes: dict[str, Any], gone: Collection[tuple[str, ...]]) -> dict[str, Any]:
    """Changes without the values at the paths `gone`, or below them."""
    return nested({path: v for path, v in leaves(changes).items() if not any(path[: len(g)] == g for g in gone)})


def owner(made: dict[str, Any], task: str) -> str:
    """The key of `origin.yaml` under which the changes of a task are."""
    return ALL if ALL in made and task not in made else task


def record_changes_by_hand(folder: Path) -> list[str]:
    """Put every change that somebody made by hand in `params.yaml` (or by `dvc exp apply`) into the record, where it
    lasts. Returns a sentence for each, which is printed to standard error as well.

    A workspace without `.params-written.yaml` is of an earlier version: nothing shows what was changed there. Raises
    InputError if a change is wrong.
    """
    params, written = read_yaml(folder / "params.yaml"), read_yaml(folder / WRITTEN)
    if not written or params == written:
        return []
    checked(params, folder / "params.yaml")
    made, said = read_yaml(folder / ORIGIN), []
    for task in [name for name in params.get("tasks") or {} if name in (written.get("tasks") or {})]:
        before, now = part_of(written, task), part_of(params, task)
        found, gone = differences(before, now), leaves(before).keys() - leaves(now).keys()
        if not found and not gone:
            continue
        key = owner(made, task)
        entry = made.get(key, {})
        entry |= {name: without(entry[name], gone) for name in ("changes", "base") if gone and entry.get(name)}
        paths = [".".join(path) for path in leaves(found)]
        by_hand = sorted({*entry.get("by_hand", []), *paths})
        changes = overlay(entry.get("changes", {}), found, keep_none=True)
        made[key] = entry | {"changes": changes, "by_hand": by_hand}
        lines = changed_lines(before, now, task, BY_HAND)
        add_history(folder, lines)
        for line in lines:
            said.append(
                f"{line['key']} was changed by hand in {folder / 'params.yaml'}, from {line['before']} to "
                f"{line['after']}. The workspace keeps it; `fetalflow settings --unset {line['key']}` takes it back."
            )
    write_text(folder / ORIGIN, as_yaml(made))
    write_text(folder / WRITTEN, as_yaml(params))
    for line in said:
        print(line, file=sys.stderr, flush=True)
    return said


def only_by_hand(entry: dict[str, Any]) -> dict[str, Any]:
    """What of a task's record lasts in a run whose `--set` is for that run alone."""
    kept = {
        path: v for path, v in leaves(entry.get("changes", {})).items() if ".".join(path) in entry.get("by_hand", [])
    }
    return {"changes": nested(kept), "by_hand": entry["by_hand"]} if kept else {}


def changed_lines(before: dict[str, Any], now: dict[str, Any], task: str, how: str) -> list[dict[str, Any]]:
    """Lines for the record: one for each value of `part_of` that is different."""
    old, new = leaves(before), leaves(now)
    return [
        _line(task, how, ".".join(path), old.get(path), new.get(path))
        for path in [*new, *(path for path in old if path not in new)]
        if old.get(path) != new.get(path) and {} not in (old.get(path), new.get(path))
    ]


def changes_in_words(
    earlier: dict[str, Any],
    now: dict[str, Any],
    tasks: list[str],
    entry: dict[str, Any],
    added: list[str],
    named: Collection[tuple[str, ...]],
    how: str,
) -> list[dict[str, Any]]:
    """The lines for the record when `params.yaml` goes from `earlier` to `now`. added: profiles that are new; named:
    settings that the command names. Others that changed are printed, because a person may not expect them.
    """
    lines, unexpected = [], []
    for task in tasks:
        if task not in (earlier.get("tasks") or {}):
            new = {"profiles": entry["profiles"]} | {".".join(k): v for k, v in leaves(entry["changes"]).items()}
            lines += [_line(task, how, key, None, value) for key, value in new.items() if value not in ([], {})]
            continue
        for line in changed_lines(part_of(earlier, task), part_of(now, task), task, how):
            path = tuple(line["key"].split("."))
            if added:
                line["how"] = f"{how}, profile {' '.join(added)}"
            elif not any(path[: len(each)] == each for each in named):
                line["how"] = f"{how}: nothing sets it any more, or the checkout's params.yaml has another value"
                unexpected.append(f"{line['key']} is {line['after']} now, it was {line['before']} before.")
            lines.append(line)
    more = [f"So are {len(unexpected) - SHOWN} more: fetalflow settings --history."] if len(unexpected) > SHOWN else []
    for sentence in [*unexpected[:SHOWN], *more]:
        print(sentence, file=sys.stderr)
    return lines


def add_history(folder: Path, lines: list[dict[str, Any]]) -> None:
    if lines:
        with open(folder / HISTORY, "a", encoding="utf-8") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))


def _line(task: str, how: str, key: str, before: Any, after: Any) -> dict[str, Any]:
    stamp = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "who": this_person(), "how": how}
    return stamp | {"task": task, "key": key, "before": shown(before), "after": shown(after)}


def read_history(folder: Path) -> list[dict[str, Any]]:
    """The lines of the record, oldest first. What a kill left of a line is left out."""
    file, found = folder / HISTORY, []
    for text in file.read_text(encoding="utf-8").splitlines() if file.is_file() else []:
        try:
            found.append(json.loads(text))
        except ValueError:
            continue
    return found


def shown(value: Any) -> Any:
    """A value without the secrets that a URL may hold: user and password, and the values of a query."""
    if isinstance(value, str):
        return SECRET.sub(lambda match: f"{match[1]}=***" if match[1] else "***@", value)
    if isinstance(value, dict):
        return {key: shown(each) for key, each in value.items()}
    return [shown(each) for each in value] if isinstance(value, (list, tuple)) else value
