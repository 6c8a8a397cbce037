"""The folder that hospitals deliver into: a folder per drop, on a disk or under a URL that fsspec knows (S3)."""

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from fetalflow.errors import InputError


@dataclass(frozen=True)
class Delivery:
    """One folder of the inbox as it lies there now. files: path in it to size in bytes and a stamp that changes when
    the file is written again. fault: why it may never be read; empty if it may."""

    name: str
    files: dict[str, tuple[int, str]]
    marked: bool  # it holds the marker file
    fault: str = ""

    @property
    def fingerprint(self) -> str:
        """Changes when a file comes, goes, grows or is written again. Not the digest of its content."""
        return hashlib.sha256(json.dumps(sorted(self.files.items())).encode()).hexdigest()[:16]


def is_url(inbox: str) -> bool:
    return "://" in inbox


def deliveries(inbox: str, marker: str) -> list[Delivery]:
    """Every folder of the inbox by name; hidden ones are somebody's copying and are left alone.

    Raises InputError when there is no such inbox.
    """
    if is_url(inbox):
        found = _of_url(inbox)
    else:
        folder = Path(inbox)
        if not folder.is_dir():
            raise InputError(f"the inbox {inbox} is not a folder. Make it, or set `retrain.inbox` in params.yaml.")
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        shown = [e for e in entries if not e.name.startswith(".") and (e.is_symlink() or e.is_dir())]
        found = {entry.name: _of_folder(Path(entry.path)) for entry in shown}
    return [
        Delivery(name, {path: facts for path, facts in files.items() if path != marker}, marker in files, fault)
        for name, (files, fault) in sorted(found.items())
    ]


@contextmanager
def opened(inbox: str, delivery: Delivery, scratch: Path) -> Iterator[Path]:
    """The delivery as a local folder; one behind a URL is fetched into `scratch` and gone when the block ends."""
    if not is_url(inbox):
        yield Path(inbox) / delivery.name
        return
    files, root = _file_system(inbox)
    with TemporaryDirectory(dir=scratch) as folder:
        for path, (size, _) in delivery.files.items():
            local = Path(folder) / delivery.name / path
            local.parent.mkdir(parents=True, exist_ok=True)
            files.get_file(f"{root}/{delivery.name}/{path}", str(local))
            if local.stat().st_size != size:
                raise OSError(f"a file of the delivery {delivery.name} came with another size than it was listed with")
        yield Path(folder) / delivery.name


def _of_folder(folder: Path) -> tuple[dict[str, tuple[int, str]], str]:
    if folder.is_symlink():
        return {}, "it is a link, not a folder"
    files, waiting = {}, [folder]
    while waiting:
        for entry in os.scandir(waiting.pop()):
            facts = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(facts.st_mode):
                waiting.append(Path(entry.path))
            elif stat.S_ISREG(facts.st_mode):
                path = Path(entry.path).relative_to(folder).as_posix()
                files[path] = (facts.st_size, str(facts.st_mtime_ns))
            else:
                kind = "a link" if stat.S_ISLNK(facts.st_mode) else "neither a file nor a folder"
                return {}, f"something in it is {kind}; copy the file itself in its place"
    return files, ""


def _of_url(inbox: str) -> dict[str, tuple[dict[str, tuple[int, str]], str]]:
    store, root = _file_system(inbox)
    store.invalidate_cache()
    found: dict[str, tuple[dict[str, tuple[int, str]], str]] = {}
    for key, facts in store.find(root, detail=True).items():
        name, _, path = key.removeprefix(root).lstrip("/").partition("/")
        if not path or name.startswith("."):
            continue
        files, fault = found.get(name, ({}, ""))
        if ".." in PurePosixPath(f"{name}/{path}").parts or path.startswith("/"):
            fault = "a key in it leaves the folder by .. or //"
        stamps = (facts.get(key) for key in ("ETag", "LastModified", "mtime", "created"))
        files[path] = (int(facts["size"]), str(next((stamp for stamp in stamps if stamp), "")))
        found[name] = (files, fault)
    return found


def _file_system(inbox: str) -> tuple[Any, str]:
    import fsspec  # only for an inbox behind a URL

    try:
        store, root = fsspec.core.url_to_fs(inbox)
    except (ImportError, ValueError) as error:
        kind = inbox.partition("://")[0]
        raise InputError(
            f"the inbox is a {kind}:// URL, and what reads those is not installed ({error}). For S3: pip install s3fs."
        ) from None
    return store, root.rstrip("/")
