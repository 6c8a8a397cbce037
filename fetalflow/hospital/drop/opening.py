"""A drop in any layout, as a folder or as a zip, opened and read into one table of rows (docs/data-engineer/drop.md).

`layouts/` beside this file has one file for each layout. Everything may lie in one folder inside the drop. Every file
of the drop is named by a row, is the table, or is listed in `not_used` with the reason.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from fetalflow.errors import InputError
from fetalflow.hospital.drop import archive
from fetalflow.hospital.drop.archive import is_zip
from fetalflow.hospital.drop.columns import named_files, path_columns
from fetalflow.hospital.drop.contents import DAMAGED, Contents, list_contents
from fetalflow.hospital.drop.identity import tidy_rows
from fetalflow.hospital.drop.inside import leaves
from fetalflow.hospital.drop.layouts.layout import Drop, Files, Found, Layout
from fetalflow.hospital.drop.layouts.registry import TABLES, known_tables, recognise
from fetalflow.hospital.drop.plain_names import Names, is_added
from fetalflow.hospital.drop.rows import is_cine
from fetalflow.hospital.drop.table import warning_of_encoding

TEXTS = (".doc", ".docx", ".htm", ".html", ".ipynb", ".json", ".md", ".pdf", ".py", ".rtf", ".txt", ".xml", ".yaml")
ARCHIVES = (".rar", ".7z", ".tar", ".gz", ".tgz", ".bz2", ".xz")


def layout_of(drop: Path) -> str:
    """The layout of a drop, without reading its table or unpacking it. Raises InputError when it has none."""
    return _recognised(drop)[2].NAME


@contextmanager
def open_drop(drop: Path, scratch: Path, check_files: bool = True) -> Iterator[Drop]:
    """Read a drop in any layout. `video` and `mask` of its rows are paths from `root`, where the files can be read.
    What lies in a zip is unpacked, as far as rows name it, into a folder in `scratch` that is gone when the block ends.
    check_files: whether the layout may open the files to find their faults, which takes longer.

    Raises InputError when there is no drop, its table breaks its contract, or a zip is damaged.
    """
    contents, files, layout, found = _recognised(drop)
    with TemporaryDirectory(dir=scratch, prefix=".unpacked-") as name:
        opened = _read(contents, files, layout, found, Path(name) / "tables")
        named = sorted(named_files(opened.rows) & set(contents.files) - set(contents.left_out))
        root, places, damaged = contents.laid_out(named, Path(name) / "files", archive.SPARE)
        rows, opened = _with_paths(opened.rows, places), replace(opened, near=opened.near | damaged)
        check = getattr(layout, "check_files", None) if check_files else None
        yield replace(opened, root=root, rows=check(root, rows) if check else rows)


def read_rows(drop: Path) -> tuple[Drop, list[str]]:
    """A drop in any layout by its table alone, and the plain paths of all its files. Only tables are unpacked.

    Raises InputError when there is no drop, its table breaks its contract, or a zip is damaged.
    """
    contents, files, layout, found = _recognised(drop)
    with TemporaryDirectory(prefix="fetalflow-") as name:
        return _read(contents, files, layout, found, Path(name)), list(contents.files)


def _recognised(drop: Path) -> tuple[Contents, Files, Layout, Found]:
    if not drop.is_dir() and not is_zip(drop):
        what = "it is a file" if drop.is_file() else "there is no such folder"
        raise InputError(
            f"the drop {drop} is not a folder and not a zip: {what}. Expected one with "
            f"{', or with '.join(known_tables())}, or with a folder per class (docs/data-engineer/drop.md). Give "
            "the right path: fetalflow run --drop PATH."
        )
    contents = list_contents(drop)
    shown = tuple(name for name in contents.files if not is_added(name) and name not in contents.left_out)
    dicoms = contents.dicoms(name for name in shown if not (is_cine(name) or _is_text(name)))
    cines = tuple(name for name in shown if is_cine(name) or name in dicoms)
    files = Files("", shown, cines, drop=drop)
    return contents, files, *recognise(drop, files)


def _is_text(name: str) -> bool:
    """Whether a name says that a file is no DICOM, so that it need not be opened: DICOM is often `IM_0001`, or a number
    such as `1.2.840.1`."""
    return name.lower().endswith((*TABLES, *ARCHIVES, *TEXTS, ".zip"))


def _read(contents: Contents, files: Files, layout: Layout, found: Found, scratch: Path) -> Drop:
    """What the layout reads, with its files matched with those of the drop. scratch: a folder for tables of a zip."""
    root, places, damaged = contents.laid_out(found.tables, scratch)
    for name, why in damaged.items():
        raise InputError(f"{contents.drop}: the table {name} cannot be read; {why}.")
    try:
        opened = layout.read(replace(files.below(found.folder), place=lambda name: root / places[name]))
    except InputError as error:
        raise InputError(str(error).replace(f"{scratch}/", f"{contents.drop}/")) from None
    encodings = [warning_of_encoding(root / path) for path in places.values() if path.lower().endswith(".csv")]
    zips = [f"{name}: {why}." for name, why in contents.left_out.items() if why == DAMAGED]
    warnings = (*opened.warnings, *filter(None, encodings), *zips)
    opened = replace(opened, rows=tidy_rows(opened.rows), cines=files.cines, warnings=warnings)
    return _with_unused(_matched(opened, contents), contents, layout, found)


def _with_paths(rows: pd.DataFrame, changed: Mapping[str, str]) -> pd.DataFrame:
    """The rows with the paths in `changed` in the place of others."""
    return rows.assign(**{c: rows[c].map(lambda path: changed.get(path, path)) for c in path_columns(rows)})


def _matched(opened: Drop, contents: Contents) -> Drop:
    """Every path of the rows as the drop spells it; `near` has the other ones."""
    kept = [name for name in contents.files if name not in contents.left_out]
    names = Names(kept, contents.spellings)
    matched = {path: names.find(path) for path in sorted(named_files(opened.rows)) if not leaves(path)}
    rows = _with_paths(opened.rows, {path: file for path, file in matched.items() if file is not None})
    zips = [name for name, why in contents.left_out.items() if why == DAMAGED]
    lost = f"it may be in {', '.join(zips)}, which is damaged: download or copy that again" if zips else ""
    missing = [path for path, file in matched.items() if file is None]
    near = {path: contents.left_out.get(path) or lost or names.near(path) for path in missing}
    return replace(opened, rows=rows, near=near)


def _with_unused(opened: Drop, contents: Contents, layout: Layout, found: Found) -> Drop:
    """`opened` with a reason for every file that no row names and that is no table."""
    used, why = named_files(opened.rows) | set(found.tables), {}
    for name in contents.files:
        if name in used:
            continue
        if name in contents.left_out:
            why[name] = contents.left_out[name]
        elif is_added(name):
            why[name] = "it is hidden, or a file that a system adds"
        elif name in opened.not_used:
            why[name] = opened.not_used[name]
        elif name in opened.cines:
            why[name] = f"no row of {layout.TABLE or layout.NAME} names it"
        elif name.lower().endswith(ARCHIVES):
            why[name] = "it is an archive of a kind that is not opened: unpack it"
        elif name.lower().endswith(TABLES):
            why[name] = f"it is a table that the layout {layout.NAME} does not read"
        else:
            why[name] = "it is no cine and no known table, by its name and, if its ending is unknown, by its content"
    return replace(opened, not_used=why, recognised=f"It was recognised by {found.how}.")
