"""The log of all answers: one Parquet file a day, and for what is newer one file of lines.

A line is written at once, under a lock, so several processes can write and a kill loses nothing. `settle` turns whole
days into Parquet. It may be killed at any moment: a row has an id, and a row that is there twice is read once.
"""

import json
import os
import secrets
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock

from fetalflow.artefacts import atomic_file, write_new, write_table
from fetalflow.errors import InputError
from fetalflow.hospital.deidentify.pseudonyms import FILE_VARIABLE, VARIABLE, Key, read_key
from fetalflow.watch.row import COLUMNS, Answered

if TYPE_CHECKING:  # a verb that answers needs no table
    import pandas as pd

NESTED = ("figures", "probabilities", "label_set", "lengths")  # JSON in their column
NUMBERS = ("level", "unfamiliarity", "latency_ms")
TEXTS = tuple(name for name in COLUMNS if name not in (*NUMBERS, "unfamiliar"))
PICTURES = "pictures"


class AnswerLog:
    """The log in one folder. keep_pictures: also keep the frames that `add` gets."""

    def __init__(self, folder: Path | str, keep_pictures: bool = False) -> None:
        self.folder = Path(folder)
        self.keep_pictures = keep_pictures

    def add(self, row: Answered, picture: np.ndarray | None = None) -> None:
        """Write one answer. picture: the frames that were answered, uint8 [T, H, W]; kept only with `keep_pictures`.

        Processes and threads may call it at the same time. A kill of the process loses nothing that was added; a power
        cut may lose the last seconds. Raises OSError where the folder cannot be written, and ValueError for a time
        without a zone or a figure that is NaN or infinite.
        """
        line = (json.dumps(row.as_dict(), allow_nan=False) + "\n").encode()
        file = self.folder / f"{row.day}.jsonl"
        with self._lock:
            handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                size = os.fstat(handle).st_size
                torn = size and os.pread(handle, 1, size - 1) != b"\n"  # a power cut left half a line
                _write_all(handle, b"\n" * bool(torn) + line)
            finally:
                os.close(handle)
        if self.keep_pictures and picture is not None:
            place = self.folder / PICTURES / row.day / f"{row.id}.npz"
            with atomic_file(place, 0o600) as temporary:
                np.savez_compressed(temporary, frames=picture)

    def pseudonym(self, patient: str) -> str:
        """The pseudonym of a true identifier: the one of the deliveries where the hospital's key is set, else one of a
        random key that only this log has. Empty for an empty identifier."""
        return self._key.pseudonym("patient", patient) if patient else ""

    def days(self) -> list[str]:
        """The days that have answers, oldest first."""
        names = {path.stem for suffix in ("jsonl", "parquet") for path in self.folder.glob(f"[!.]*.{suffix}")}
        return sorted(name for name in names if _is_day(name))

    def read(self, first: str = "", last: str = "9999-12-31") -> "pd.DataFrame":
        """All answers of the days from `first` to `last`, such as 2026-11-30, in order of time: the columns of
        `Answered`. `figures`, `probabilities`, `label_set` and `lengths` are JSON. Half a line of a power cut is left
        out.

        Raises InputError where a Parquet file is damaged.
        """
        import pandas as pd

        parts = [self._of_day(day) for day in self.days() if first <= day <= last]
        return pd.concat(parts, ignore_index=True) if parts else _table([])

    def answers_to(self, digest: str) -> "pd.DataFrame":
        """All answers to the input with this SHA-256, as `read` gives them."""
        import pandas as pd

        parts = [part for day in self.days() if len(part := self._of_day(day, digest))]
        return pd.concat(parts, ignore_index=True) if parts else _table([])

    def settle(self, today: str = "") -> list[str]:
        """Turn the lines of the days before `today` into Parquet; return these days. today: default: of now, in UTC."""
        today = today or datetime.now(UTC).date().isoformat()
        done = []
        for lines in sorted(self.folder.glob("[!.]*.jsonl")):
            if _is_day(lines.stem) and lines.stem < today:
                with self._lock:  # nobody adds a line between the reading and the removal
                    write_table(lines.with_suffix(".parquet"), self._of_day(lines.stem))
                    lines.with_suffix(".parquet").chmod(0o600)
                    lines.unlink(missing_ok=True)
                done.append(lines.stem)
        return done

    def remove_before(self, day: str) -> list[str]:
        """Remove all answers and pictures of the days before `day`; return these days."""
        import shutil

        old = self.days_before(day)
        for each in old:
            with self._lock:
                for suffix in ("jsonl", "parquet"):
                    (self.folder / f"{each}.{suffix}").unlink(missing_ok=True)
            shutil.rmtree(self.folder / PICTURES / each, ignore_errors=True)
        return old

    def days_before(self, day: str) -> list[str]:
        """The days before `day` that have answers or pictures, oldest first."""
        pictures = {path.name for path in (self.folder / PICTURES).glob("*") if _is_day(path.name)}
        return [each for each in sorted({*self.days(), *pictures}) if each < day]

    def keep(self, days: int, today: str = "") -> list[str]:
        """Remove what is older than `days` days; return the days that were removed."""
        return self.remove_before(first_kept(days, today))

    def forget(self, patients: Iterable[str]) -> int:
        """Remove all answers and pictures of patients, by their pseudonyms; return how many answers were removed."""
        gone = set(patients) - {""}
        return self.remove(lambda table: table["patient"].isin(gone))

    def remove(self, chosen: "Callable[[pd.DataFrame], pd.Series]", dry: bool = False) -> int:
        """Remove the rows that `chosen` says, and their pictures; return how many. dry: only count them."""
        removed = 0
        for day in self.days():
            with self._lock:
                table = self._of_day(day)
                theirs = chosen(table).astype(bool)
                removed += int(theirs.sum())
                if dry or not theirs.any():
                    continue
                write_table(self.folder / f"{day}.parquet", table[~theirs])
                (self.folder / f"{day}.parquet").chmod(0o600)
                (self.folder / f"{day}.jsonl").unlink(missing_ok=True)
            for each in table.loc[theirs, "id"]:
                (self.folder / PICTURES / day / f"{each}.npz").unlink(missing_ok=True)
        return removed

    def _of_day(self, day: str, digest: str = "") -> "pd.DataFrame":
        """The answers of a day; with `digest`, to that input."""
        import pandas as pd

        # The lines first: if they become Parquet in between, they are read twice and not missed.
        rows = [row for row in _lines(self.folder / f"{day}.jsonl") if not digest or row.get("input") == digest]
        parts = [_table(rows)]
        if (file := self.folder / f"{day}.parquet").is_file():
            try:
                parts.insert(0, pd.read_parquet(file, filters=[("input", "==", digest)] if digest else None))
            except (OSError, ValueError) as error:
                raise InputError(
                    f"{file} is damaged ({type(error).__name__}). Expected a day of the log of answers. Restore it "
                    "from a backup, or move it away: then its day counts as a day without answers."
                ) from error
        table = pd.concat(parts, ignore_index=True) if len(parts[-1]) else parts[0]
        table = table.drop_duplicates("id").sort_values(["time", "id"], ignore_index=True)
        return table

    @cached_property
    def _lock(self) -> FileLock:
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / ".lock", timeout=60)

    @cached_property
    def _key(self) -> Key:
        if os.environ.get(VARIABLE, "").strip() or os.environ.get(FILE_VARIABLE):
            return read_key()
        file = self.folder / ".key"
        with self._lock:
            if not file.is_file():
                write_new(file, secrets.token_hex(32).encode("ascii"))
            return Key(bytes.fromhex(file.read_text().strip()))


def first_kept(days: int, today: str = "") -> str:
    """The first day that is not older than `days` days. today: default: of now, in UTC."""
    until = date.fromisoformat(today) if today else datetime.now(UTC).date()
    return (until - timedelta(days=days)).isoformat()


def _write_all(handle: int, content: bytes) -> None:
    while content:  # a full disk raises; a signal may end a write early
        content = content[os.write(handle, content) :]


def _lines(file: Path) -> list[dict]:
    try:
        found = file.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    rows = []
    for line in filter(None, found):
        try:
            row = json.loads(line)
        except ValueError:  # half a line
            continue
        if isinstance(row, dict) and row.get("id"):
            rows.append(row)
    return rows


def _table(rows: list[dict]) -> "pd.DataFrame":
    """Rows with the columns of `Answered`; every column has its type, also where it is empty."""
    import pandas as pd

    plain = [{name: json.dumps(row.get(name)) if name in NESTED else row.get(name) for name in COLUMNS} for row in rows]
    table = pd.DataFrame(plain, columns=list(COLUMNS))
    kinds = dict.fromkeys(TEXTS, "string") | dict.fromkeys(NUMBERS, "float64") | {"unfamiliar": "boolean"}
    return table.astype(kinds)


def _is_day(name: str) -> bool:
    try:
        return date.fromisoformat(name).isoformat() == name
    except ValueError:
        return False
