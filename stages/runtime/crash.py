"""An error that nobody foresaw: one line for the person, and the traceback in a file for those who mend it."""

import errno
import os
import tempfile
import traceback

DEBUG = "FETALFLOW_DEBUG"  # environment variable: 1 prints the traceback as well
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def in_one_line(error: BaseException) -> str:
    """The message for an unexpected error. The traceback is written to a file that only this user can read."""
    if os.environ.get(DEBUG, "0") not in ("", "0"):
        traceback.print_exception(error)
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        place = f" at {error.filename}" if error.filename is not None else ""
        return f"the disk is full{place} ({error.strerror}). Free space, and start the same command again."
    first = str(error).strip().split("\n")[0][:300]
    said = f"{type(error).__name__}: {first}" if first else type(error).__name__
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        said = f"{error.filename}: {error.strerror}"
    try:
        with tempfile.NamedTemporaryFile("w", prefix="fetalflow-error-", suffix=".log", delete=False) as file:
            traceback.print_exception(error, file=file)
    except OSError:  # no folder for temporary files, or a full disk
        return f"{said} ({DEBUG}=1 shows where it happened)"
    return f"{said} (where it happened: {file.name})"
