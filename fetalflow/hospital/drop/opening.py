"""A drop in any layout, as a folder or as a zip, opened and read into one table of rows (docs/data-engineer/drop.md).

`layouts/` beside this file has one file for each layout. Everything may lie in one folder inside the drop.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from fetalflow.errors import InputError
from fetalflow.hospital.drop.archive import is_zip, unpack, unpacked, zip_names
from fetalflow.hospital.drop.layouts.layout import Drop
from fetalflow.hospital.drop.layouts.registry import known_tables, recognise
from fetalflow.hospital.drop.rows import is_cine


def layout_of(drop: Path) -> str:
    """The layout of a drop, without reading its table or unpacking it. Raises InputError when it has none."""
    return recognise(drop, _names(drop))[0].NAME


@contextmanager
def open_drop(drop: Path, scratch: Path) -> Iterator[Drop]:
    """Read a drop in any layout. A zip is unpacked into a folder in `scratch` that is gone when the block ends.

    Raises InputError when there is no drop, its table breaks its contract, or the zip is damaged.
    """
    names = _names(drop)
    layout, base = recognise(drop, names)
    cines = [name for name in names if is_cine(name)]
    with unpacked(drop, scratch) if is_zip(drop) else nullcontext(drop) as folder:
        opened = layout.read(folder, base, cines)
        check = getattr(layout, "check_files", None)
        yield replace(opened, rows=check(folder, opened.rows)) if check else opened


def read_rows(drop: Path) -> tuple[Drop, list[str]]:
    """A drop in any layout by its table alone, and the paths of all its files. Of a zip only the table is unpacked.

    Raises InputError when there is no drop, its table breaks its contract, or the zip is damaged.
    """
    names = _names(drop)
    layout, base = recognise(drop, names)
    cines = [name for name in names if is_cine(name)]
    if not (is_zip(drop) and layout.TABLE):
        return layout.read(drop, base, cines), names
    with TemporaryDirectory(prefix="fetalflow-") as scratch:
        unpack(drop, [base + layout.TABLE], Path(scratch))
        return layout.read(Path(scratch), base, cines), names


def _names(drop: Path) -> list[str]:
    """Paths in a drop, sorted, of all its files."""
    if is_zip(drop):
        return zip_names(drop)
    if not drop.is_dir():
        found = "it is a file" if drop.is_file() else "there is no such folder"
        raise InputError(
            f"the drop {drop} is not a folder and not a zip: {found}. Expected one with "
            f"{', or with '.join(known_tables())}, or with a folder per class (docs/data-engineer/drop.md). Give "
            "the right path: fetalflow run --drop PATH."
        )
    inside = sorted(drop.rglob("*"))
    if links := [path.relative_to(drop).as_posix() for path in inside if path.is_symlink()]:
        raise InputError(
            f"{drop}: {links[0]} is a link ({len(links)} in all), and what it leads to may lie outside of the drop. "
            "Copy the files themselves in its place."
        )
    return [path.relative_to(drop).as_posix() for path in inside if path.is_file()]
