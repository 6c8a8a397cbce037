"""Atomic writing: every file or folder is written under a temporary name and then renamed, so it is never partial.
And `named`, which reads names from a table."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a verb that answers needs no table, and to import pandas takes longer than the answer
    import pandas as pd

NO_NAMES = ("nan", "none", "null", "<na>")  # what programs write into a table where a text is missing


@contextmanager
def atomic_file(path: Path | str, mode: int = 0o644) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; it replaces `path` if the block ends without an error. mode: of
    the finished file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # OpenCV, NumPy and pandas choose the file format by the suffix, so the temporary name keeps it.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)
    os.close(handle)
    try:
        yield Path(name)
        os.chmod(name, mode)
        with open(name, "rb") as written:  # otherwise a power cut could leave an empty file under the final name
            os.fsync(written.fileno())
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """Yield an empty temporary folder next to `path`; it replaces `path` if the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
    try:
        yield temporary
        os.chmod(temporary, 0o755)
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_new(path: Path | str, content: bytes, mode: int = 0o600) -> None:
    """Write a file that must not exist yet, such as a key. Nobody ever finds a part of it, or finds it with another
    mode. Raises OSError, FileExistsError among them; then nothing is left behind."""
    path = Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)  # readable for its owner only
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, mode)
        try:
            os.link(name, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            if path.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
            os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, sort_keys=False) + "\n")


def read_json(path: Path | str) -> Any:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def write_table(path: Path | str, table: "pd.DataFrame") -> None:
    """Write Parquet or CSV, by the suffix. Floats keep all digits, so that reading gives the same table."""
    with atomic_file(path) as temporary:
        if temporary.suffix == ".parquet":
            table.to_parquet(temporary, index=False)
        else:
            table.to_csv(temporary, index=False)


def read_columns(path: Path | str, columns: Iterable[str], repeated: Iterable[str] = ()) -> "pd.DataFrame":
    """The columns of a Parquet file that are named and that it has; the others are not read.

    repeated: columns that become categories, because a text that occurs often is in memory once then. The columns are
    read one after another, which needs half as much memory as all at once.
    """
    import pandas as pd
    import pyarrow.parquet

    names, once = set(columns), set(repeated)
    there = [name for name in pyarrow.parquet.read_schema(path).names if name in names]
    read = {c: pd.read_parquet(path, columns=[c], read_dictionary=[c] if c in once else [])[c] for c in there}
    return pd.DataFrame(read)


def named(column: "pd.Series") -> "pd.Series":
    """The names in a column, such as sites, as text without surrounding spaces. Empty where there is no name: a missing
    value, a blank, or one of NO_NAMES in any case of letters. An empty name is no group."""
    text = column.astype(object).where(column.notna(), "").astype(str).str.strip()
    return text.mask(text.str.lower().isin(NO_NAMES), "")


def file_digest(path: Path | str) -> str:
    """SHA-256 of a file's bytes, hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
