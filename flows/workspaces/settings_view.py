"""Every setting of a workspace with its value, where it comes from, and who changed it when; and setting it back."""

from pathlib import Path
from typing import Any

from fetalflow.artefacts import write_text
from fetalflow.errors import InputError
from fetalflow.settings.params import load_settings
from flows.checkout import CHECKOUT
from flows.workspaces.changes import leaves, nested
from flows.workspaces.settings_record import (
    ORIGIN,
    SHARED,
    as_yaml,
    owner,
    read_history,
    read_yaml,
    record_changes_by_hand,
    shared_changes,
    shown,
    without,
)
from flows.workspaces.workspace import prepare

PROFILE = "profiles."  # --unset profiles.NAME takes a profile back
FIXED = ("phantoms", "tasks.{task}.drop")  # what makes a workspace one of its drop or inbox


def settings_in_words(folder: Path, task: str) -> list[dict[str, Any]]:
    """One row for each setting of a task: key, value, source (default, profile NAME, set, by hand, or an earlier
    version), and who, when and how, of the last change that the record has. Secrets in URLs are masked."""
    settings, made = load_settings(folder / "params.yaml"), read_yaml(folder / ORIGIN)
    entry, profiles = made.get(owner(made, task), {}), settings.profiles
    values = {
        "tasks": {task: settings.tasks[task].model_dump(mode="json")},
        task: settings.blocks[task].model_dump(mode="json", by_alias=True),
    } | {name: getattr(settings, name).model_dump(mode="json") for name in SHARED}
    changed = leaves(entry.get("changes", {})) | leaves(shared_changes(made))
    by_hand = {path for each in made.values() for path in each.get("by_hand", [])}
    base = leaves(entry.get("base", {}))
    of_profiles = [(name, leaves(profiles.get(name, {}))) for name in entry.get("profiles", [])]
    last = {line["key"]: line for line in read_history(folder) if line.get("task") == task}

    def source(path: tuple[str, ...]) -> str:
        if set(_above(path)) & set(changed):
            return "by hand" if ".".join(path) in by_hand else "set"
        if named := [name for name, of in of_profiles if set(_above(path)) & set(of)]:
            return f"profile {named[-1]}"
        return "an earlier version" if set(_above(path)) & set(base) else "default"

    rows = []
    for path, value in leaves(values).items():
        line = next((last[key] for each in _above(path) if (key := ".".join(each)) in last), {})
        facts = {name: line.get(name, "") for name in ("who", "time", "how")}
        rows.append({"key": ".".join(path), "value": shown(value), "source": source(path)} | facts)
    return rows


def _above(path: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The path, then the blocks that contain it."""
    return [path[:length] for length in range(len(path), 0, -1)]


def matching(rows: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    """The rows of a key or of a block, such as `movement.train`. Raises InputError if there is none."""
    found = [row for row in rows if f"{row['key']}.".startswith(f"{key}.")]
    if not found:
        last = key.rpartition(".")[2]
        like = [row["key"] for row in rows if last in row["key"].split(".")] or sorted(
            {row["key"].split(".")[0] for row in rows}
        )
        raise InputError(f"there is no setting {key!r} in this workspace. There is: {', '.join(like[:20])}.")
    return found


def take_back(folder: Path, task: str, keys: list[str], how: str) -> None:
    """Give settings the value that they have without a change: of the profiles, or of the checkout's `params.yaml`.

    Raises InputError if one of the keys was not changed, or belongs to what the workspace is for.
    """
    record_changes_by_hand(folder)
    checkout = read_yaml(CHECKOUT / "params.yaml")
    made, usual = read_yaml(folder / ORIGIN), leaves(checkout)
    name = owner(made, task)
    entry = made.get(name, {})
    changed = leaves(shared_changes(made)) | leaves(entry.get("changes", {}))
    profiles = list(entry.get("profiles", []))
    base = leaves(entry.get("base", {}))
    for key in keys:
        if key.startswith(PROFILE) and key.removeprefix(PROFILE) in profiles:
            profiles.remove(key.removeprefix(PROFILE))
            continue
        if key in [each.format(task=task) for each in FIXED]:
            raise InputError(f"{key} says what the workspace is for, so it stays. Make another workspace with --name.")
        mine = {path for path in {**changed, **base} if f"{'.'.join(path)}.".startswith(f"{key}.")}
        if not mine:
            known = [".".join(path) for path in changed] + [f"{PROFILE}{each}" for each in profiles]
            raise InputError(f"{key} was not changed here. Changed are: {', '.join(known) or 'none'}.")
        changed = {path: value for path, value in changed.items() if path not in mine}
        base = {path: value for path, value in base.items() if path not in mine} | {
            path: usual[path] for path in mine if path in base and path in usual
        }
    before = (folder / ORIGIN).read_bytes() if (folder / ORIGIN).is_file() else b""
    by_hand = [key for key in entry.get("by_hand", []) if tuple(key.split(".")) in changed]
    kept = {"changes": nested(changed), "profiles": profiles, "by_hand": by_hand, "base": nested(base)}
    kept = {key: value for key, value in kept.items() if value or key in ("changes", "profiles")}
    gone = [tuple(key.split(".")) for key in keys if key.split(".")[0] in SHARED]
    others = {
        other: each | {"changes": without(each["changes"], gone)} if gone and "changes" in each else each
        for other, each in made.items()
        if other != name
    }
    write_text(folder / ORIGIN, as_yaml(others | {name: kept}))
    try:
        of_profiles = [checkout.get("profiles", {}).get(key.removeprefix(PROFILE)) or {} for key in keys]
        named = [*keys, *(".".join(path) for each in of_profiles for path in leaves(each))]
        prepare(folder, task, named=named, how=how)
    except InputError:
        (folder / ORIGIN).write_bytes(before)
        raise
