"""All layouts: every file of this room that defines TABLE is one; TABLE may be empty."""

import pkgutil
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from pathlib import Path, PurePosixPath

from fetalflow.errors import InputError
from fetalflow.hospital.drop.layouts.layout import Layout
from fetalflow.hospital.drop.rows import ANNOTATIONS


@cache
def known_layouts() -> tuple[Layout, ...]:
    """The layouts in the order in which they are tried.

    `annotations.csv` comes first, because somebody wrote it for this very drop. Layouts without a table come last,
    because folders that hold images may be part of any layout.
    """
    names = [module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)], f"{__package__}.")]
    found = [module for module in map(import_module, names) if hasattr(module, "TABLE")]
    return tuple(sorted(found, key=lambda layout: (not layout.TABLE, layout.TABLE != ANNOTATIONS, layout.__name__)))


def known_tables() -> list[str]:
    """The file names by which layouts are known."""
    return [layout.TABLE for layout in known_layouts() if layout.TABLE]


def recognise(drop: Path, names: Iterable[str]) -> tuple[Layout, str]:
    """The layout of the files `names`, and the folder (with its `/`, or empty) in which it lies.

    Raises InputError when there is none; `drop` is for its message.
    """
    paths = [PurePosixPath(name) for name in names]
    shown = [p for p in paths if not any(part.startswith(".") or part == "__MACOSX" for part in p.parts)]
    base = ""
    while shown:
        if found := _here(shown):
            layout, folder = found
            return layout, base + folder
        tops = {p.parts[0] for p in shown}
        if len(tops) > 1 or any(len(p.parts) == 1 for p in shown):
            break
        base += f"{tops.pop()}/"
        shown = [PurePosixPath(*p.parts[1:]) for p in shown]
    tops = sorted({p.parts[0] for p in paths})
    listed = ", ".join(tops[:8]) + (f" and {len(tops) - 8} more" if len(tops) > 8 else "")
    *others, last = (layout.KNOWN_BY for layout in known_layouts())
    raise InputError(
        f"{drop}: there is no {', no '.join(others)} and no {last}. Found there: {listed or 'nothing'}. "
        "See docs/data-engineer/drop.md."
    )


def _here(paths: list[PurePosixPath]) -> tuple[Layout, str] | None:
    """The layout that lies in this folder, or in one below it. One in the folder itself counts first; of two that lie
    below, neither counts, because nobody knows which of them is meant."""
    found = [(layout, folder) for layout in known_layouts() if (folder := layout.recognise(paths)) is not None]
    with_table = [(layout, folder) for layout, folder in found if layout.TABLE]
    here = [(layout, folder) for layout, folder in with_table if not folder]
    below = [(layout, folder) for layout, folder in with_table if folder]
    without_table = [(layout, folder) for layout, folder in found if not layout.TABLE]
    return next(iter([*here, *(below if len(below) == 1 else ()), *without_table]), None)
