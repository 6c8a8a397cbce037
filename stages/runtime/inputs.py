"""Before a stage runs: check that its input files are unchanged since earlier stages wrote them, by MD5 in dvc.lock.

DVC checks out a damaged cache object without an error, and does not hash a file again if its size and time did not
change (docs/architecture.md, traps that were measured). So a flipped bit in a table, a split or a prediction could
reach a training or a metric without being noticed.
"""

import hashlib
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import yaml

from fetalflow.errors import InputError

Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
STILL_S = 0.1  # a text that did not change for so long is whole
STAGE = "DVC_STAGE"  # environment variable of `dvc repro` and `dvc exp run`: stage name, such as train@movement


def check_inputs(folder: Path = Path()) -> None:
    """Raise InputError naming every input file of this stage that changed since another stage wrote it.

    Nothing is checked if the stage was started by hand. Files that DVC does not cache (decoded frames) are not checked.
    """
    stage, lock = os.environ.get(STAGE, "").rpartition(":")[2], folder / "dvc.lock"
    if not stage or not lock.is_file():
        return
    deps = [_path(dep) for dep in _resolved(folder, stage).get("deps", [])]
    wrong = []
    for writer, entry in (yaml.load(_whole(lock), Loader) or {}).get("stages", {}).items():
        outs = [
            out for out in entry.get("outs", []) if "md5" in out and any(_overlaps(dep, out["path"]) for dep in deps)
        ]
        body = _resolved(folder, writer)
        # dvc.lock keeps entries of stages that are no longer in dvc.yaml; another stage writes their files now.
        if writer == stage or not outs or not body:
            continue
        uncached = {_path(out) for out in body.get("outs", []) if _is_uncached(out)}
        for out in outs:
            place = folder / out["path"]
            if out["path"] in uncached or not place.exists() or (found := _md5(place)) == out["md5"]:
                continue
            where = f".dvc/cache/files/md5/{out['md5'][:2]}/{out['md5'][2:]}"
            wrong.append(f"  {out['path']}: {writer} wrote MD5 {out['md5']}, found {found} (in the cache: {where})")
    if wrong:
        raise InputError(
            "input files of this stage changed since earlier stages wrote them:\n"
            + "\n".join(wrong)
            + "\nA disk may be failing, or somebody edited a file. Remove these files and their objects in the cache, "
            "and run the pipeline again: it repeats the stages that write them."
        )


def _resolved(folder: Path, stage: str) -> dict[str, Any]:
    """The stage of dvc.yaml with its templates filled in; empty if dvc.yaml has no such stage."""
    name, _, unit = stage.partition("@")
    body = _yaml(folder / "dvc.yaml")["stages"].get(name, {})
    if "do" not in body:
        return body
    params = _yaml(folder / "params.yaml") if (folder / "params.yaml").is_file() else {}
    items = params.get(body["foreach"][2:-1], {}) if isinstance(body["foreach"], str) else body["foreach"]
    if unit not in items:
        return {}
    values = {"key": unit, "item": items.get(unit, unit) if isinstance(items, dict) else unit}

    def look_up(match: re.Match) -> str:
        value: Any = values
        for part in match[1].split("."):
            value = value.get(part, "") if isinstance(value, dict) else ""
        return str(value)

    return json.loads(re.sub(r"\$\{([\w.]+)\}", look_up, json.dumps(body["do"])))


def _path(entry: str | dict[str, Any]) -> str:
    """The path of a dep or an out, which is `path` or `{path: options}`."""
    return (entry if isinstance(entry, str) else next(iter(entry))).rstrip("/")


def _is_uncached(entry: str | dict[str, Any]) -> bool:
    return isinstance(entry, dict) and not (next(iter(entry.values())) or {}).get("cache", True)


def _overlaps(dep: str, out: str) -> bool:
    """Whether a dep is this out, a folder that contains it, or a path inside it."""
    return dep == out or out.startswith(f"{dep}/") or dep.startswith(f"{out}/")


def _yaml(path: Path) -> Any:
    return yaml.load(path.read_text(encoding="utf-8"), Loader)


def _whole(lock: Path) -> str:
    """The text of dvc.lock. DVC writes it piece by piece, and a stage beside this one may end just now."""
    before, text = None, lock.read_text(encoding="utf-8")
    while text != before:
        time.sleep(STILL_S)
        before, text = text, lock.read_text(encoding="utf-8")
    return text


def _md5(place: Path) -> str:
    """MD5 as in dvc.lock: of a file its bytes; of a folder the sorted list of its files with their MD5, plus `.dir`."""
    if place.is_file():
        with open(place, "rb") as file:
            return hashlib.file_digest(file, "md5").hexdigest()
    files = (path for path in place.rglob("*") if path.is_file())
    entries = [{"md5": _md5(path), "relpath": path.relative_to(place).as_posix()} for path in files]
    listed = json.dumps(sorted(entries, key=lambda entry: entry["relpath"]), sort_keys=True)
    return hashlib.md5(listed.encode()).hexdigest() + ".dir"
