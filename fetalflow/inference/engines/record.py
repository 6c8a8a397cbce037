"""The record of an exported folder. To read it needs neither the exporter nor a runtime."""

from pathlib import Path
from typing import Any

from fetalflow.artefacts import file_digest, read_json
from fetalflow.errors import InputError

MODEL = "model.onnx"
DATA = "model.onnx.data"
RECORD = "export.json"
FRAMES = "frames"
KEPT = "kept"
KEEP, KEEP_INT8, ANSWER = "stream-keep", "stream-keep-int8", "stream-answer"  # folders of the two parts for streaming


def read_record(folder: Path | str, package: str | None = None) -> dict[str, Any]:
    """export.json of `folder`, after a check that the files are those that were exported. package: SHA-256 of the
    weights of the package that it must have been exported from; None: any.

    Raises InputError when a file is missing or has changed, or it was exported from another package.
    """
    folder = Path(folder)
    if not (folder / RECORD).is_file():
        raise InputError(f"{folder} holds no {RECORD}: nothing was exported there. Run the export stage.")
    record = read_json(folder / RECORD)
    for name, digest in record["files"].items():
        if not (folder / name).is_file():
            raise InputError(f"{folder} holds no {name}, which {RECORD} lists. Run the export stage again.")
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
