"""The objects of DVC's cache and of its remotes, by content."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

from fetalflow.registry.traces import Traces, objects_of

CACHE = "DVC's cache"
HEAD = 4096  # bytes of an object that say whether it is a table or a text


@contextmanager
def opened_stores(folder: Path) -> Iterator[dict[str, Any]]:
    """The cache of a workspace and each of its remotes, as DVC's object stores, by a name for people."""
    if not (folder / ".dvc").is_dir():
        yield {}
        return
    from dvc.repo import Repo

    with chdir(folder), Repo() as repo:
        remotes = {f"the remote {name}": repo.cloud.get_remote_odb(name) for name in repo.config["remote"]}
        yield {CACHE: repo.cache.local} | remotes


def find_objects(folder: Path, hers: Traces) -> dict[str, tuple[set[str], str]]:
    """For each place, the ids of the objects that hold a patient, and a remark if the place could not be read."""
    found = {}
    with opened_stores(folder) as places:
        for name, place in places.items():
            try:
                found[name] = (objects_of(lambda place=place: contents(place), hers)[0], "")
            except Exception as error:  # noqa: BLE001 - each kind of remote raises errors of its library
                why = f"{name} could not be read ({type(error).__name__}), so what it has of her remains. Do it again."
                found[name] = (set(), why)
    return found


def remove_objects(folder: Path, ids: dict[str, Iterable[str]]) -> list[str]:
    """Remove objects by id from the places of `opened_stores`; returns a remark for each place where that failed."""
    remarks = []
    with opened_stores(folder) as places:
        for name, of_place in ids.items():
            try:
                for oid in of_place:
                    if places[name].exists(oid):
                        places[name].delete(oid)
            except Exception as error:  # noqa: BLE001 - as above
                remarks.append(f"removing from {name} failed ({type(error).__name__}). Do it again.")
    return remarks


def contents(place: Any) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """The id of each object, and a function that gives its bytes; of pixels and weights, the first ones only."""
    for oid in list(place.all()):
        yield oid, lambda oid=oid: _content(place, oid)


def _content(place: Any, oid: str) -> bytes:
    with place.fs.open(place.oid_to_path(oid), "rb") as file:
        head = file.read(HEAD)
        is_pixels = b"\0" in head and head[:4] != b"PAR1" and head[:2] != b"PK"
        return head if is_pixels else head + file.read()
