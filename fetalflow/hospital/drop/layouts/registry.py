"""All layouts: every file of this room that defines TABLE is one; TABLE may be empty."""

import pkgutil
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path, PurePosixPath

from fetalflow.errors import InputError
from fetalflow.hospital.drop.columns import ANNOTATIONS, FILLED
from fetalflow.hospital.drop.layouts.layout import Files, Found, Layout
from fetalflow.hospital.drop.plain_names import alike

TABLES = (".csv", ".tsv", ".xlsx", ".xls", ".xlsm", ".ods", ".parquet")  # endings of tables
SEE = "See docs/data-engineer/drop.md."


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


def recognise(drop: Path, files: Files) -> tuple[Layout, Found]:
    """The layout of a drop, and what showed it. A folder that holds all cines and tables is opened like the drop
    itself: a README beside it does not matter.

    Raises InputError when no layout fits, or when several fit; `drop` is for its message.
    """
    looked_at = files
    while True:
        if found := _here(drop, looked_at):
            return found
        counted = [*looked_at.cines, *(name for name in looked_at.names if _is_table(name))]
        tops = looked_at.tops(counted)
        if len(tops) != 1 or any(len(looked_at.inner(name)) == 1 for name in counted):
            break
        looked_at = looked_at.below(f"{looked_at.folder}{tops[0]}/")
    if tables := _known_tables_in(files):
        _refuse_tables_below(drop, tables)
    tops = sorted({PurePosixPath(name).parts[0] for name in files.names})
    listed = ", ".join(tops[:8]) + (f" and {len(tops) - 8} more" if len(tops) > 8 else "")
    *others, last = (layout.KNOWN_BY for layout in known_layouts())
    raise InputError(
        f"{drop}: there is no {', no '.join(others)} and no {last}. Found there: {listed or 'nothing'}. "
        f"{_on_unknown_tables(files)}{SEE}"
    )


def _here(drop: Path, files: Files) -> tuple[Layout, Found] | None:
    """The layout that lies in this folder, or in one below it. One in the folder itself counts first. Of two that lie
    below neither counts, because nobody knows which of them is meant, and a tree of folders is no layout of its own
    when a table in it may name labels and patients."""
    with_table = [(each, found) for each in known_layouts() if each.TABLE and (found := each.recognise(files))]
    if here := next((pair for pair in with_table if pair[1].folder == files.folder), None):
        return here
    tables = _known_tables_in(files)
    if len(with_table) == 1 and all(name.startswith(with_table[0][1].folder) for name in tables):
        return with_table[0]
    if tables:
        return None
    for layout in (each for each in known_layouts() if not each.TABLE):
        if found := layout.recognise(files):
            if advice := _on_unknown_tables(files):
                raise InputError(f"{drop} looks like {layout.NAME}, but may be another layout. {advice}{SEE}")
            return layout, found
    return None


def _known_tables_in(files: Files) -> list[str]:
    known = {alike(name) for name in known_tables()}
    return [name for name in files.names if alike(PurePosixPath(name).name) in known]


def _refuse_tables_below(drop: Path, tables: Sequence[str]) -> None:
    if len(tables) == 1:
        raise InputError(
            f"{drop}: the table {tables[0]} lies below folders that hold other cines. Give its folder as the drop, or "
            f"put the table beside all of its files. {SEE}"
        )
    raise InputError(
        f"{drop} holds {len(tables)} tables, each in a folder: {', '.join(tables[:4])}. These are several deliveries, "
        "and the names of patients may mean different women in each. Give one of the folders as the drop, or put them "
        f"all into an inbox for `fetalflow retrain`. {SEE}"
    )


def _is_table(name: str) -> bool:
    return name.lower().endswith(TABLES)


def _on_unknown_tables(files: Files) -> str:
    """What to do about tables that no layout is known by, or "" when there is none."""
    found = [name for name in files.names if _is_table(name)]
    if not found:
        return ""
    return (
        f"The table {found[0]} ({len(found)} in all) is none that a layout is known by, and it may name labels and "
        f"patients. If it does, save it as {ANNOTATIONS} with the columns {', '.join(FILLED)}; if it says nothing "
        "about single files, take it out of the drop. "
    )
