"""Takes the places of a hospital out of what a run logged: paths outside of the workspace, addresses, scanners."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from fetalflow.artefacts import read_json, write_json, write_text

PARAMS, TEXTS = "params.yaml", (".yaml", ".lock", ".json")
OUTSIDE = re.compile(r"[/~]|\.\.|[A-Za-z]:[/\\]|\w+://")  # begins a path outside of the workspace, or an address
PLAIN = re.compile(r"[\w./:@~-]+", re.ASCII)  # is written in YAML and JSON as it is
HIDDEN = "not-shown"
OF_A_HOSPITAL = "node"  # block of the settings: names and addresses of scanners and archives
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def hide_places(run: Path) -> list[str]:
    """Put HIDDEN in place of every path outside of the workspace, and every address, that the settings of a run name,
    in all of its files; leave the block `node` out of the settings. Returns these places, the longest first."""
    if not (run / PARAMS).is_file():
        return []
    settings = yaml.load((run / PARAMS).read_text(encoding="utf-8"), Loader) or {}
    places = sorted({text for text in _texts(settings) if OUTSIDE.match(text)}, key=lambda text: (-len(text), text))
    if settings.get(OF_A_HOSPITAL):
        write_text(run / PARAMS, _dumped({**settings, OF_A_HOSPITAL: {}}))
    for path in sorted(run.rglob("*")):
        if places and path.suffix in TEXTS and path.is_file():
            _hide(path, places)
    return places


def without_places(value: Any, places: Sequence[str]) -> Any:
    """A value of JSON or YAML with HIDDEN for each place in its texts."""
    if isinstance(value, dict):
        return {key: without_places(each, places) for key, each in value.items()}
    if isinstance(value, list):
        return [without_places(each, places) for each in value]
    return _replaced(value, places) if isinstance(value, str) else value


def _hide(path: Path, places: Sequence[str]) -> None:
    if all(map(PLAIN.fullmatch, places)):  # so that comments and the order of keys stay
        text = path.read_text(encoding="utf-8")
        if (hidden := _replaced(text, places)) != text:
            write_text(path, hidden)
    elif path.suffix == ".json":
        write_json(path, without_places(read_json(path), places))
    else:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader)
        write_text(path, _dumped(without_places(content, places)))


def _replaced(text: str, places: Sequence[str]) -> str:
    for place in places:
        text = re.sub(rf"(?<![\w./-]){re.escape(place)}(?![\w-])", HIDDEN, text)
    return text


def _dumped(content: Any) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _texts(value: Any) -> Iterator[str]:
    """Every text in a value of YAML."""
    if isinstance(value, str):
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(each)
