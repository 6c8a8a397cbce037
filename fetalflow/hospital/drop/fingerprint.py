"""A fingerprint of a drop, which shows whether the drop changed while a stage read it."""

import hashlib
import json
import os
import zipfile
from pathlib import Path

from fetalflow.hospital.drop.layouts.registry import known_tables


def fingerprint(drop: Path) -> str:
    """SHA-256, hex, of the names and sizes of all files of a drop, folder or zip, and of the bytes of its tables.

    Times are left out, so a copy of the drop has the same fingerprint. A cine that is replaced by another one of the
    same name and size is not seen; in an accumulated drop the name follows from the bytes. Empty if there is no drop.
    """
    if drop.is_dir():
        tables = set(known_tables())
        facts = []
        for folder, inner, files in os.walk(drop):
            inner.sort()
            for name in sorted(files):
                path = Path(folder, name)
                try:
                    facts.append((path.relative_to(drop).as_posix(), path.stat().st_size, _digest(path, tables)))
                except FileNotFoundError:  # it was removed just now, or is a link to nothing
                    facts.append((path.relative_to(drop).as_posix(), -1, ""))
    elif drop.is_file() and zipfile.is_zipfile(drop):
        with zipfile.ZipFile(drop) as packed:
            facts = sorted((each.filename, each.file_size, each.CRC) for each in packed.infolist())
    elif drop.is_file():
        facts = [(drop.name, drop.stat().st_size, "")]
    else:
        return ""
    return hashlib.sha256(json.dumps(facts).encode("utf-8", "surrogateescape")).hexdigest()


def _digest(path: Path, tables: set[str]) -> str:
    """Of a table; of another file nothing, because reading all cines takes long."""
    if path.name not in tables and path.suffix.lower() not in (".csv", ".xlsx"):
        return ""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def state_of(drop: Path, decisions: Path) -> dict[str, str]:
    """What the stage `extract` reads: the fingerprint of the drop, and SHA-256, hex, of the file of decisions."""
    said = hashlib.sha256(decisions.read_bytes()).hexdigest() if decisions.is_file() else ""
    return {"drop": fingerprint(drop), "decisions": said}
