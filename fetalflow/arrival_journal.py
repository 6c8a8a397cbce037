"""What came when: one line of JSON for everything that happened to a delivery, only ever added to."""

import json
import os
from pathlib import Path
from typing import Any

FILE = "journal.jsonl"


def read_journal(store: Path) -> list[dict[str, Any]]:
    """Every line of a store's journal, oldest first. A last line that a kill cut short is left out."""
    path = store / FILE
    lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
    return [json.loads(line) for line in lines]


def write_line(store: Path, line: dict[str, Any]) -> None:
    """Add a line; it is on the disk when this returns. Only one process may write at a time."""
    with open(store / FILE, "ab+") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(0)
        whole = file.read(end).rfind(b"\n") + 1
        file.truncate(whole)  # a line that a kill cut short says nothing
        file.write(json.dumps(line).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
