"""The inbox of the hospitals: a folder or a zip per drop, on a disk or under a URL that fsspec can open (S3).

S3 is reached with the usual variables: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_DEFAULT_REGION.
"""

import hashlib
import json
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from fetalflow.errors import InputError
from fetalflow.hospital.drop.inside import leaves

Facts = tuple[int, str]  # size in bytes, and a stamp that changes when the file is written again
LONGEST = 255  # bytes of a file name on common file systems
MOVING = "something in it was renamed or removed while it was listed; the next look tries again"
LISTINGS = 3  # of an object store in which a key disappears during the listing
# s3fs tries five times, so a store that accepts connections but never answers is given up after a minute.
S3_LIMITS = {"config_kwargs": {"connect_timeout": 5, "read_timeout": 10, "retries": {"max_attempts": 0}}}


class NotFetched(OSError):
    """A listed delivery could not be fetched; the next look into the inbox tries again. The message names no file."""


@dataclass(frozen=True)
class Listed:
    """files: facts of each file by its path; a file beside the folders is its only file. fault: why it must not be
    read, or "". waits: why it cannot be read now, or "". touched: when something in it was last written or renamed, in
    ns; 0 where that is not known."""

    files: dict[str, Facts]
    fault: str = ""
    waits: str = ""
    touched: int = 0


@dataclass(frozen=True)
class Delivery(Listed):
    """One folder or zip of the inbox in its present state."""

    name: str = field(kw_only=True)
    marked: bool = field(kw_only=True)  # the marker file is in the folder, or `NAME.zip.MARKER` beside the zip
    zipped: bool = field(default=False, kw_only=True)

    @cached_property
    def fingerprint(self) -> str:
        """Changes when a file comes, goes, grows or is written again. Not the digest of its content."""
        return hashlib.sha256(json.dumps(sorted(self.files.items())).encode()).hexdigest()[:16]


def is_url(inbox: str) -> bool:
    return "://" in inbox


def deliveries(inbox: str, marker: str, only: str | None = None) -> list[Delivery]:
    """Every folder and zip of the inbox, sorted by name. With `only`, nothing but the one of that name is listed.
    Hidden ones are left out, because they are copies in progress.

    Raises InputError when there is no such inbox or it gives no answer.
    """
    folders, beside = _list_url(inbox, only) if is_url(inbox) else _list_folder(inbox, only)
    found = []
    for name, listed in folders.items():
        files = {path: facts for path, facts in listed.files.items() if path != marker}
        found.append(Delivery(**vars(listed) | {"files": files}, name=name, marked=marker in listed.files))
    for name, listed in beside.items():
        if name.lower().endswith(".zip"):
            found.append(Delivery(**vars(listed), name=name, marked=f"{name}.{marker}" in beside, zipped=True))
    return sorted(found, key=lambda delivery: delivery.name)


def is_unchanged(inbox: str, delivery: Delivery, marker: str) -> bool:
    """Whether a delivery is still there as it was listed. On a disk, a file that was renamed and got its name back is a
    change as well, because it was missing in between.

    Only this delivery is listed: listing a thousand sites for each of them takes hours on an object store.
    """
    now = {each.name: each for each in deliveries(inbox, marker, delivery.name)}.get(delivery.name)
    if now is None or now.waits:
        return False
    return (now.fingerprint, now.touched) == (delivery.fingerprint, delivery.touched)


@contextmanager
def opened(inbox: str, delivery: Delivery, scratch: Path) -> Iterator[Path]:
    """The delivery as a local folder or zip. From a URL it is fetched into `scratch` and removed when the block ends.

    Raises NotFetched when it cannot be fetched as it was listed.
    """
    if not is_url(inbox):
        yield Path(inbox) / delivery.name
        return
    files, root = file_system(inbox)
    with TemporaryDirectory(dir=scratch) as folder:
        place = Path(folder) / delivery.name
        for path, (size, _) in delivery.files.items():
            inner = "" if delivery.zipped else f"/{path}"
            _fetch(files, f"{root}/{delivery.name}{inner}", Path(f"{place}{inner}"), size)
        yield place


def _fetch(files: Any, key: str, local: Path, size: int) -> None:
    try:
        local.parent.mkdir(parents=True, exist_ok=True)
        files.get_file(key, str(local))
    except Exception as error:  # each kind of store raises errors of different classes
        why = getattr(error, "strerror", None) or type(error).__name__
        raise NotFetched(f"it could not be fetched ({why}); the next look tries again") from error
    if local.stat().st_size != size:
        raise NotFetched("the size of a fetched file differs from the listed size; the next look tries again")


def _list_folder(inbox: str, only: str | None) -> tuple[dict[str, Listed], dict[str, Listed]]:
    """(every folder, every file beside them) by name. The sender may rename and remove what is being listed."""
    if not Path(inbox).is_dir():
        raise InputError(f"the inbox {inbox} is not a folder. Make it, or give another one: --inbox FOLDER.")
    folders, beside = {}, {}
    for entry in os.scandir(inbox):
        if entry.name.startswith(".") or only not in (None, entry.name):
            continue
        try:
            if entry.is_symlink() or entry.is_dir():
                folders[entry.name] = _files_in(Path(entry.path))
            elif entry.is_file():
                facts = entry.stat()
                files = {entry.name: (facts.st_size, str(facts.st_mtime_ns))}
                beside[entry.name] = Listed(files, touched=facts.st_ctime_ns)
        except (FileNotFoundError, NotADirectoryError):
            continue  # it is gone: under its new name, the next look finds it
        except OSError as error:
            folders[entry.name] = Listed({}, waits=_cannot_be_listed(error))
    return folders, beside


def _files_in(folder: Path) -> Listed:
    """Raises FileNotFoundError or NotADirectoryError when the folder is gone."""
    if folder.is_symlink():
        return Listed({}, "it is a link; replace it with a copy of the folder that it points to")
    touched, waits = os.stat(folder).st_ctime_ns, ""
    files, waiting = {}, [folder]
    while waiting:
        inner = waiting.pop()
        try:
            for entry in os.scandir(inner):
                facts = entry.stat(follow_symlinks=False)
                touched = max(touched, facts.st_ctime_ns)
                if stat.S_ISDIR(facts.st_mode):
                    waiting.append(Path(entry.path))
                elif stat.S_ISREG(facts.st_mode):
                    path = Path(entry.path).relative_to(folder).as_posix()
                    files[path] = (facts.st_size, str(facts.st_mtime_ns))
                else:
                    kind = "a link" if stat.S_ISLNK(facts.st_mode) else "neither a file nor a folder"
                    return Listed({}, f"something in it is {kind}; replace it with a copy of the file")
        except (FileNotFoundError, NotADirectoryError):
            os.stat(folder)
            waits = MOVING
        except OSError as error:
            waits = _cannot_be_listed(error)
    return Listed(files, waits=waits, touched=touched)


def _cannot_be_listed(error: OSError) -> str:
    return f"it could not be listed ({error.strerror or type(error).__name__}); the next look tries again"


def _list_url(inbox: str, only: str | None) -> tuple[dict[str, Listed], dict[str, Listed]]:
    """(every folder, every file beside them) by name."""
    store, root = file_system(inbox)
    try:
        listed = _find(store, f"{root}/{only}" if only else root)
    except Exception as error:  # each kind of store raises errors of different classes
        # Not the error's message: it may quote a key, and hospitals name folders after patients.
        why = f"{type(error).__name__}: {error.strerror}" if getattr(error, "strerror", None) else type(error).__name__
        raise InputError(
            f"the inbox {without_password(inbox)} gives no answer ({why}). Check that it exists and may be read, the "
            "network, and for S3 the variables AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY."
        ) from None
    folders: dict[str, dict[str, Facts]] = {}
    beside: dict[str, Listed] = {}
    for key, facts in listed.items():
        name, _, path = key.removeprefix(root).removeprefix("/").partition("/")
        if key.endswith("/") or (name.startswith(".") and name not in (".", "..")):
            continue  # an empty folder in the listing, or a hidden file
        stamps = (facts.get(stamp) for stamp in ("ETag", "LastModified", "mtime", "created"))
        size_and_stamp = int(facts["size"]), str(next((stamp for stamp in stamps if stamp), ""))
        if path:
            folders.setdefault(name or "//", {})[path] = size_and_stamp
        else:
            beside[name] = Listed({name: size_and_stamp})
    return {name: Listed(files, _fault(name, files)) for name, files in folders.items()}, beside


def without_password(inbox: str) -> str:
    """An inbox as a message may name it."""
    parts = urlsplit(inbox)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))


def _find(store: Any, place: str) -> dict[str, dict[str, Any]]:
    """Facts of every key. Raises FileNotFoundError when the place is not there, or keys disappear in each listing."""
    for _ in range(LISTINGS - 1):
        with suppress(FileNotFoundError):  # a key was removed while it was listed, or there is no such place
            store.invalidate_cache()
            return store.find(place, detail=True)
    store.invalidate_cache()
    return store.find(place, detail=True)


def _fault(name: str, paths: Collection[str]) -> str:
    """Why the keys cannot become files of a folder, or "": an object store takes any text as a key."""
    names = {part for path in paths for part in f"{name}/{path}".split("/")}
    if any(leaves(key) for key in (name, *paths)) or names & {"", "."}:  # which no file on a disk is called
        return "a key in it leaves the folder by .. or //"
    if any(len(each.encode()) > LONGEST for each in names):
        return f"a name in it is longer than {LONGEST} bytes"
    if any(str(parent) in paths for path in paths for parent in PurePosixPath(path).parents):
        return "a file in it has the name of a folder beside it"
    return ""


def file_system(inbox: str) -> tuple[Any, str]:
    """The store behind a URL, and the place in it. Raises InputError where no installed package opens it."""
    import fsspec  # only for an inbox behind a URL

    kind = inbox.partition("://")[0]
    try:
        store, root = fsspec.core.url_to_fs(inbox, **(S3_LIMITS if kind in ("s3", "s3a") else {}))
    except (ImportError, ValueError) as error:
        raise InputError(
            f"the inbox is a {kind}:// URL, and no package that reads these is installed ({error}). For S3: "
            "pip install s3fs."
        ) from None
    return store, root.rstrip("/")
