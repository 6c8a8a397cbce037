"""Finds what a workspace keeps and nobody needs any more, by the settings `clean`; and removes it.

Never touched: what `protected` names, versions with an alias or that ever were champion, deliveries, decisions, the
ledger, and DVC's remote, which other engineers use.
"""

import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import chdir, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import yaml

from fetalflow.errors import InputError, TrackingFailed
from fetalflow.hospital.drop.columns import ANNOTATIONS
from fetalflow.registry.address import DATABASE, EMBEDDED, tracking_uri
from fetalflow.registry.moved_store import ARTEFACTS
from fetalflow.registry.old_versions import delete_version, in_trash, old_versions, purge
from fetalflow.registry.traces import listed
from fetalflow.registry.tracking import registry
from fetalflow.settings.params import Clean, Settings, load_settings
from fetalflow.watch.log import PICTURES, first_kept
from fetalflow.watch.look import log_of
from flows.workspaces.data_sets import forget_version, protected
from flows.workspaces.layout import EXPERIMENTS
from flows.workspaces.project import is_project

DAY_S = 86_400
OBJECTS = ".dvc/cache/files/md5"
# In the temporary folder of the system: folders and tracebacks, by names as the module tempfile makes them.
SCRATCH = re.compile(r"fetalflow-(?:(?:[a-z]+|[0-9a-f]{12})-)?[a-z0-9_]{8}|fetalflow-error-[a-z0-9_]{8}\.log")
STORES = {  # the parts of a workspace whose size is shown
    "deliveries and decisions": ("arrivals", "reviews"),
    "decoded cines": ("data/*/frames",),
    "results": ("data/*/[!f]*", "reports", "models", "pretrained", "exports", "metrics", "live"),
    "DVC's cache": (".dvc/cache",),
    "MLflow": (DATABASE, ARTEFACTS),
    "checkpoints and starts": ("checkpoints", "starts"),
    "git": (".git",),
    "experiments": EXPERIMENTS[:1],
}


@dataclass(frozen=True)
class Leftover:
    """Something that is not needed. what: in words; count and size (bytes) of it; remove: does so, and returns what a
    person must know."""

    what: str
    count: int
    size: int
    remove: Callable[[], list[str]]


def leftovers(folder: Path, now: float | None = None) -> Iterator[Leftover]:
    """What can be removed from a workspace, without what is empty. now: s since 1970, for tests.

    Old versions come first: what only they needed in DVC's cache is removed then, too.
    """
    now, settings = time.time() if now is None else now, load_settings(folder / "params.yaml")
    keep = longest(block.clean for block in settings.blocks.values())
    yield from _old_versions(folder, settings)
    for task in settings.tasks:
        yield from _files("decoded cines of no row", _unnamed_frames(folder, task), now, keep.frames_days)
        for kind in ("models", "exports"):
            known = set(settings.variants(task))
            unknown = [path for path in (folder / kind / task).glob("*") if path.name not in known]
            yield from _files(f"{kind} of networks without settings", unknown, now, keep.exports_days)
    yield from _files("checkpoints", (folder / "checkpoints").glob("*"), now, keep.checkpoints_days)
    experiments = [path for place in EXPERIMENTS for path in (folder / place).glob("tmp*")]
    yield from _files("copies for experiments", experiments, now, keep.checkpoints_days)
    yield from _answers(folder, settings, now)
    yield from _cache(folder, now, keep.cache_days)
    yield from _trash(folder, now - keep.trash_days * DAY_S)


def _answers(folder: Path, settings: Settings, now: float) -> Iterator[Leftover]:
    """Days of the log of answers that are older than `watch.days`, where nobody runs `fetalflow watch`."""
    if (log := log_of(folder, settings)) is None:
        return
    first = first_kept(settings.watch.days, datetime.fromtimestamp(now, UTC).date().isoformat())
    if old := log.days_before(first):
        paths = [path for day in old for path in (*log.folder.glob(f"{day}.*"), log.folder / PICTURES / day)]
        size = sum(_size(path) for path in paths if path.exists())
        yield Leftover("days of the log of answers", len(old), size, lambda: log.remove_before(first) and [])


def scratch(now: float, days: int) -> Iterator[Leftover]:
    """What killed commands left in the temporary folder of the system."""
    place = Path(tempfile.gettempdir())
    yield from _files("temporary files", filter(_is_scratch, place.glob("fetalflow-*")), now, days)


def _is_scratch(path: Path) -> bool:
    """Whether a command of this user made it. A folder of a person may have a name like that, too, but the module
    tempfile closes what it makes to all others."""
    with suppress(FileNotFoundError):  # its owner removes it at the same moment
        facts = path.lstat()
        is_closed = facts.st_uid == os.getuid() and not facts.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
        right = stat.S_ISREG if path.suffix else stat.S_ISDIR
        return is_closed and right(facts.st_mode) and bool(SCRATCH.fullmatch(path.name))
    return False


def longest(blocks: Iterable[Clean]) -> Clean:
    """The settings of several tasks as one: what one of them keeps, is kept."""
    blocks = list(blocks) or [Clean()]
    return Clean(**{name: max(getattr(block, name) for block in blocks) for name in Clean.model_fields})


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of each part of a workspace. A file with several hard links counts in each part."""
    found = {name: [path for place in places for path in folder.glob(place)] for name, places in STORES.items()}
    return {name: sum(map(_size, paths)) for name, paths in found.items()}


def _files(what: str, paths: Iterable[Path], now: float, days: int) -> Iterator[Leftover]:
    old = [path for path in sorted(paths) if now - _changed(path) > days * DAY_S]
    if old:
        yield Leftover(what, len(old), sum(map(_size, old)), lambda: _remove(old))


def _remove(paths: list[Path]) -> list[str]:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    left = [path for path in paths if path.exists()]
    return [f"{len(left)} could not be removed, such as {left[0]}"] if left else []


def _changed(path: Path) -> float:
    """The time of the newest change in a file or folder."""
    times = [each.lstat().st_mtime for each in ([path, *path.rglob("*")] if path.is_dir() else [path])]
    return max(times)


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    return sum(file.lstat().st_size for file in files if file.is_symlink() or file.is_file())


def _unnamed_frames(folder: Path, task: str) -> list[Path]:
    """The files of decoded cines that neither the drop nor the last extraction names; none before an extraction."""
    data = folder / "data" / task
    if not (extracted := data / "extracted.parquet").is_file():
        return []
    named = set(pd.read_parquet(extracted, columns=["source"])["source"])
    if (drop := folder / load_settings(folder / "params.yaml").tasks[task].drop / ANNOTATIONS).is_file():
        named |= {Path(video).stem for video in pd.read_csv(drop, dtype=str, usecols=["video"])["video"].dropna()}
    return [path for path in (data / "frames").glob("*") if path.name.partition(".")[0] not in named]


def _cache(folder: Path, now: float, days: int) -> Iterator[Leftover]:
    """Objects that no branch, experiment, data set or file of DVC names, here or in another workspace that uses this
    cache. A folder without a history, such as the checkout, keeps all: nothing says there what a champion needs."""
    if not (folder / OBJECTS).is_dir() or not is_project(folder):
        return
    needed = set().union(*(protected(each) | _in_lock(each, folder) for each in _using(folder)))
    files = [path for path in (folder / OBJECTS).glob("??/*") if path.parent.name + path.name not in needed]
    yield from _files("objects of DVC's cache", files, now, days)
    yield from _files("remembered runs of stages", (folder / ".dvc/cache/runs").glob("??/*"), now, days)


def _using(folder: Path) -> list[Path]:
    """The workspace, and those beside it that use its cache (`fetalflow data checkout`)."""
    cache = str((folder / ".dvc" / "cache").resolve())
    beside = folder.resolve().parent.glob("*/.dvc/config.local")
    return [folder, *(file.parents[1] for file in beside if cache in file.read_text())]


def _in_lock(folder: Path, cache: Path) -> set[str]:
    """What the workspace names now, committed or not. Raises InputError when a file is damaged."""
    found = set()
    for file in [folder / "dvc.lock", *folder.glob("inputs/*.dvc"), *folder.glob("*.dvc")]:
        try:
            named = yaml.safe_load(file.read_text(encoding="utf-8")) or {} if file.is_file() else {}
            stages = [*named.get("stages", {}).values(), named]
            found |= {out["md5"] for stage in stages for out in stage.get("outs", []) if "md5" in out}
        except (yaml.YAMLError, AttributeError, TypeError):
            raise InputError(f"{file} is damaged, so it is not known which data are needed. Restore it.") from None
    for digest in [each for each in found if each.endswith(".dir")]:
        if (listing := cache / OBJECTS / digest[:2] / digest[2:]).is_file():
            found |= {entry["md5"] for entry in listed(listing.read_bytes()) or []}
    return found


def _old_versions(folder: Path, settings: Settings) -> Iterator[Leftover]:
    with chdir(folder):
        try:
            with registry() as store:
                old = [
                    one for model, keep in _kept(folder, settings).items() for one in old_versions(store, model, keep)
                ]
        except (InputError, TrackingFailed):  # there is no registry yet, or it is out of reach: nothing is removed
            return

    def remove() -> list[str]:
        with chdir(folder), registry() as store:
            for one in old:
                delete_version(store, one)
                forget_version(folder, one.model, one.version)
        return []

    if old:
        yield Leftover("registered versions without an alias", len(old), 0, remove)


def _kept(folder: Path, settings: Settings) -> dict[str, int]:
    """How many versions of each model stay. A model of several tasks, or on a server of several workspaces, keeps as
    many as the one that keeps most."""
    found = [(block.register_.model, block.clean.versions) for block in settings.blocks.values()]
    models = {model for model, _ in found}
    for file in folder.resolve().parent.glob("*/params.yaml") if tracking_uri() != EMBEDDED else ():
        with suppress(InputError):
            found += [(b.register_.model, b.clean.versions) for b in load_settings(file).blocks.values()]
    return {model: max(keep for name, keep in found if name == model) for model in sorted(models)}


def _trash(folder: Path, before: float) -> Iterator[Leftover]:
    """What was deleted in MLflow; on a server, only its operator can remove it."""
    if not (database := folder / DATABASE).is_file():
        return
    runs, models = in_trash(database, before)

    def remove() -> list[str]:
        with chdir(folder), registry() as store:
            return purge(store, runs, models)

    if runs or models:
        places = [folder / ARTEFACTS / run for run in runs] + [folder / ARTEFACTS / "models" / m for m, _ in models]
        size = sum(_size(path) for path in places if path.exists())
        yield Leftover("runs and models in MLflow's trash", len(runs) + len(models), size, remove)
