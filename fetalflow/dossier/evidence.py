"""The files that a dossier is written from. Every figure names the file that it was read from, and its SHA-256."""

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from fetalflow.artefacts import file_digest, read_json
from fetalflow.errors import InputError
from fetalflow.settings.params import Loader

FOLDER = "evidence"  # in a dossier
NOT_ON_RECORD = "not on record"


@dataclass(frozen=True)
class Figure:
    """A value from a file of the evidence.

    value: None if the file does not hold it. where: its place in the file, such as `fetalmovnet_s/accuracy`, or how it
    was counted. sha256: of the file, empty if there is no such file. digits: decimals that are shown. low, high: the
    ends of its interval, None without one.
    """

    value: float | int | str | bool | None
    file: str
    where: str
    sha256: str
    unit: str = ""
    digits: int = 3
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.value is None:
            return NOT_ON_RECORD
        text = self._number(self.value)
        if self.low is not None and self.high is not None:
            text += f" [{self._number(self.low)}, {self._number(self.high)}]"
        return f"{text} {self.unit}".rstrip()

    def _number(self, value: float | int | str | bool) -> str:
        if isinstance(value, bool):
            return "yes" if value else "no"
        return f"{value:,.{self.digits}f}" if isinstance(value, float) else f"{value:,}" if _is_count(value) else value

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "value": self.value,
            "unit": self.unit,
            "low": self.low,
            "high": self.high,
            "file": self.file,
            "where": self.where,
            "sha256": self.sha256,
        }


class Evidence:
    """The folder `evidence` of a dossier. It is read only; each file is read once.

    Every method raises InputError, with the name of the file, when a file cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.json = cache(self._json)
        self.yaml = cache(self._yaml)
        self.table = cache(self._table)
        self.sha256 = cache(self._sha256)

    def has(self, name: str) -> bool:
        return (self.folder / name).is_file()

    def names(self, pattern: str = "**/*") -> list[str]:
        """The files that fit a pattern, by name, such as `run/explain/mistake-*.png`."""
        found = (path for path in self.folder.glob(pattern) if path.is_file())
        return sorted(path.relative_to(self.folder).as_posix() for path in found)

    def figure(self, name: str, *keys: str | int, unit: str = "", digits: int = 3) -> Figure:
        """The value at `keys` in a JSON file, with the interval that its neighbours `KEY_low` and `KEY_high` state. If
        the file or the key does not exist, or holds null or NaN, the figure has the value None."""
        where = "/".join(map(str, keys))
        inside, last = self.json(name) if self.has(name) else None, keys[-1]
        for key in keys[:-1]:
            inside = _inside(inside, key)
        value, low, high = (_finite(_inside(inside, key)) for key in (last, f"{last}_low", f"{last}_high"))
        return Figure(value, name, where, self.sha256(name), unit, digits, low, high)

    def counted(self, value: float | int | str | None, name: str, how: str, unit: str = "", digits: int = 3) -> Figure:
        """A value that a chapter computed from a file. how: what was counted, such as `rows with part = test`."""
        return Figure(_finite(value), name, how, self.sha256(name), unit, digits)

    def _sha256(self, name: str) -> str:
        return file_digest(self.folder / name) if self.has(name) else ""

    def _json(self, name: str) -> Any:
        return self._read(name, read_json)

    def _yaml(self, name: str) -> Any:
        return self._read(name, lambda path: yaml.load(path.read_text(encoding="utf-8"), Loader))

    def _table(self, name: str) -> pd.DataFrame:
        return self._read(name, pd.read_csv)

    def _read(self, name: str, reader: Any) -> Any:
        try:
            return reader(self.folder / name)
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise InputError(f"{FOLDER}/{name} cannot be read ({type(error).__name__}: {error}).") from None


def _inside(value: Any, key: str | int) -> Any:
    try:
        return value[key]
    except (KeyError, IndexError, TypeError):
        return None


def _finite(value: Any) -> Any:
    if hasattr(value, "item"):  # a number of NumPy
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_count(value: Any) -> bool:
    return isinstance(value, int)
