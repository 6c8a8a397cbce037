"""`fetalflow measure FOLDER`: a table of every image of a drop such as HC18, with the errors where truth is known."""

import sys
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING

from fetalflow.errors import InputError

if TYPE_CHECKING:  # it imports torch, which would make --help slow
    from fetalflow.inference.package import Package


def is_folder(files: list[Path]) -> bool:
    """Whether the command is for one drop, a folder or a zip, and not for the files of one fetus. Raises InputError for
    a folder beside further paths."""
    drops = [file for file in files if file.is_dir() or file.suffix.lower() == ".zip"]
    if drops and len(files) > 1:
        raise InputError(f"{drops[0]} is a folder or a zip: give one such drop alone, or the files of one fetus.")
    return bool(drops)


def refuse_options(given: dict[str, object]) -> None:
    """Raises InputError for an option that does not work with a folder. given: by option."""
    if names := [name for name, value in given.items() if value not in (None, False)]:
        raise InputError(
            f"{names[0]} is for the files of one fetus; each image of a folder has its own values in the folder's "
            "table. Leave it out."
        )


def measure_folder(package: "Package", drop: Path, table: Path | None, show_unfamiliar: bool) -> None:
    """Write the table to `table` (None: to standard output, and the summary to standard error)."""
    import pandas as pd
    from rich.progress import track

    from fetalflow.artefacts import write_table
    from fetalflow.hospital.drop.inside import leaves
    from fetalflow.hospital.drop.opening import open_drop
    from fetalflow.inference.examination.folder import measure_rows, summary

    with open_drop(drop, Path(gettempdir())) as opened:
        outside = opened.rows["video"].map(leaves) | opened.rows.get("mask", opened.rows["video"]).map(leaves)
        if outside.any():
            first = opened.rows[outside].iloc[0]
            raise InputError(
                f"{drop}: {first['where']} names a file outside of the drop, {first['video']}, or its mask. Correct it."
            )
        total = opened.rows["video"].nunique()
        found = measure_rows(package, opened.rows, opened.root, show_unfamiliar)
        shown = track(found, "Measuring", total, disable=not sys.stderr.isatty(), transient=True)
        rows = pd.DataFrame([row for row, _ in shown])
    if rows.empty:
        raise InputError(f"{drop}: its table names no image, so nothing was measured.")
    if table is None:
        rows.to_csv(sys.stdout, index=False)
    else:
        write_table(table, rows)
    print("\n".join([*summary(rows), "For research, not a medical device."]), file=sys.stdout if table else sys.stderr)
