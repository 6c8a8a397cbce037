"""Every format of a package that can be made here, judged; what cannot be made is refused with the reason."""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fetalflow.export.engine import ENGINES, FOLDERS, RUNTIMES, Engine, is_installed, open_engine
from fetalflow.export.int8 import quantise
from fetalflow.export.onnx_file import export_onnx

MADE_OF = {"int8": "onnx"}  # the folder that a folder's model is made of


def make(package: Path, folder: Path, asked: Sequence[str], calibration: Iterable[np.ndarray]) -> dict[str, str]:
    """Write to `folder` what the engines `asked` read, in a folder each (`engine.FOLDERS`); return, by folder, why one
    could not be made. calibration: sequences of training patients, uint8 [N, H, W]."""
    reasons: dict[str, str] = {}
    wanted = {FOLDERS[name] for name in asked}
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
    package: Path, folder: Path, asked: Sequence[str], unmade: Mapping[str, str], first: np.ndarray
) -> tuple[dict[str, Engine], dict[str, str]]:
    """The engines `asked` that answer, after torch, and why others do not; those that are not installed are neither.

    unmade: as `make` says it. first: a sequence, float32 [1, N, H, W] in 0-1, that each has to answer.
    """
    engines: dict[str, Engine] = {"torch": open_engine("torch", package, folder)}
    refused: dict[str, str] = {}
    for name in (each for each in ENGINES if each in asked):
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
    """`judged`, as `parity.judge` gives it, with a row for each engine that could not be asked; it has no figures."""
    rows = {row["engine"]: row for row in judged}
    for name, reason in refused.items():
        rows[name] = {"engine": name, "passed": False, "reasons": [reason], "default": False}
    return [rows[name] for name in ENGINES if name in rows]


def keep_passed(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Remove from `folder` what no engine that passed reads."""
    kept = {FOLDERS[row["engine"]] for row in rows if row["passed"] and row["engine"] in FOLDERS}
    for name in set(FOLDERS.values()) - kept:
        shutil.rmtree(folder / name, ignore_errors=True)


def _answering(name: str, package: Path, folder: Path, first: np.ndarray) -> Engine:
    engine = open_engine(name, package, folder)
    engine.answer(first)
    return engine


def tried(way: Callable[[], Any]) -> tuple[Any, str]:
    """What a call gives, and why it gives nothing. Exporter and runtimes fail in ways of their own for what they do not
    know; a full disk is none of these."""
    try:
        return way(), ""
    except OSError:
        raise
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:  # the exporter says last what was the matter
            cause = cause.__cause__
        return None, f"{type(cause).__name__}: {(str(cause).strip() or 'no reason given').splitlines()[0][:300]}"
