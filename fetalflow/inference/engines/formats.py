"""Makes every format of a package that this machine can make, and opens the engines; failures are refused with their
reason."""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fetalflow.inference.engines.engine import ENGINES, FOLDERS, RUNTIMES, Engine, is_installed, open_engine
from fetalflow.inference.engines.int8 import quantise
from fetalflow.inference.engines.onnx_file import export_onnx

MADE_OF = {"int8": "onnx"}  # a folder and the folder from whose model it is made


def make(package: Path, folder: Path, names: Sequence[str], calibration: Iterable[np.ndarray]) -> dict[str, str]:
    """Write the files that the engines `names` read to subfolders of `folder` (`engine.FOLDERS`). Returns, by
    subfolder, the reason why it could not be made. calibration: sequences of training patients, uint8 [N, H, W]."""
    reasons: dict[str, str] = {}
    wanted = {FOLDERS[name] for name in names}
    if not wanted:
        return reasons
    ways: dict[str, Callable[[], Any]] = {
        "onnx": partial(export_onnx, package, folder / "onnx"),
        "int8": partial(quantise, folder / "onnx", folder / "int8", calibration),
    }
    for name, way in ways.items():
        if name in wanted | {MADE_OF.get(each) for each in wanted}:
            reasons[name] = reasons.get(MADE_OF.get(name, ""), "") or tried(way)[1]
    return {name: reason for name, reason in reasons.items() if reason}


def opened(
    package: Path, folder: Path, names: Sequence[str], unmade: Mapping[str, str], first: np.ndarray
) -> tuple[dict[str, Engine], dict[str, str]]:
    """torch and those engines of `names` that work, and the reasons why others do not. Engines that are not installed
    are in neither.

    unmade: the result of `make`. first: a sequence, float32 [1, N, H, W] in 0-1, that every engine must answer.
    """
    engines: dict[str, Engine] = {"torch": open_engine("torch", package, folder)}
    refused: dict[str, str] = {}
    for name in (each for each in ENGINES if each in names):
        if not is_installed(name):
            print(f"{name} is left out: {RUNTIMES[name]} is not installed", flush=True)
        elif FOLDERS[name] in unmade:
            refused[name] = f"it could not be made: {unmade[FOLDERS[name]]}"
        else:
            engine, reason = tried(partial(_answering, name, package, folder, first))
            if reason:
                refused[name] = f"it does not answer: {reason}"
            else:
                engines[name] = engine
    return engines, refused


def together(judged: list[dict[str, Any]], refused: Mapping[str, str]) -> list[dict[str, Any]]:
    """`judged`, from `parity.judge`, with a row without figures for each engine that gave no answer."""
    rows = {row["engine"]: row for row in judged}
    for name, reason in refused.items():
        rows[name] = {"engine": name, "passed": False, "reasons": [reason], "default": False}
    return [rows[name] for name in ENGINES if name in rows]


def keep_passed(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Remove the subfolders of `folder` that no engine that passed reads."""
    kept = {FOLDERS[row["engine"]] for row in rows if row["passed"] and row["engine"] in FOLDERS}
    for name in set(FOLDERS.values()) - kept:
        shutil.rmtree(folder / name, ignore_errors=True)


def _answering(name: str, package: Path, folder: Path, first: np.ndarray) -> Engine:
    engine = open_engine(name, package, folder)
    engine.answer(first)
    return engine


def tried(way: Callable[[], Any]) -> tuple[Any, str]:
    """The result of a call, or None and the reason of the failure. Exporter and runtimes raise exceptions of any class
    for operations that they do not support; OSError, such as a full disk, is raised."""
    try:
        return way(), ""
    except OSError:
        raise
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:  # the innermost exception of the exporter has the reason
            cause = cause.__cause__
        return None, f"{type(cause).__name__}: {(str(cause).strip() or 'no reason given').splitlines()[0][:300]}"
