"""What an exported folder says of itself. To read it takes neither exporter nor runtime, so who answers needs none."""

from pathlib import Path
from typing import Any

from fetalflow.artefacts import file_digest, read_json
from fetalflow.errors import InputError

MODEL = "model.onnx"
DATA = "model.onnx.data"
RECORD = "export.json"
FRAMES = "frames"


def read_record(folder: Path | str, package: str | None = None) -> dict[str, Any]:
    """export.json of `folder`, whose files are those that were written. package: the SHA-256 of the weights that it
    must have been exported from; None: any.

    Raises InputError when a file is missing or another one, or it was exported from another package.
    """
    folder = Path(folder)
    if not (folder / RECORD).is_file():
        raise InputError(f"{folder} holds no {RECORD}: nothing was exported there. Run the export stage.")
    record = read_json(folder / RECORD)
    for name, digest in record["files"].items():
        if not (folder / name).is_file():
            raise InputError(f"{folder} holds no {name}, which {RECORD} speaks of. Run the export stage again.")
        if (found := file_digest(folder / name)) != digest:
            raise InputError(
                f"{folder / name} is not the file that was exported: SHA-256 {found}, {RECORD} records {digest}. "
                "Run the export stage again."
            )
    if package is not None and record["package"] != package:
        raise InputError(
            f"{folder} was exported from another package: weights {record['package'][:12]}, this package has "
            f"{package[:12]}. Run the export stage again."
        )
    return record
