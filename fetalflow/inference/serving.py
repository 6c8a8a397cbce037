"""The pyfunc interface of a model package, which MLflow calls when the registered model is loaded.

MLflow finds `_load_pyfunc` by the name of this module (`loader_module`), so nothing is pickled and this file does not
import MLflow. Behind MLflow's HTTP server (`mlflow models serve`) a text is the content of a file and never its path.
"""

import base64
import binascii
import importlib
import json
import logging
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from fetalflow.errors import InputError
from fetalflow.inference.engines.choice import AUTO
from fetalflow.inference.examination.examine import examine
from fetalflow.inference.package import Package, Prediction, load

COLUMNS = [
    *("label", "probabilities", "frame_weights", "frame_weights_method", "unfamiliarity", "unfamiliar", "best_frame"),
    *("engine", "label_set", "level"),
]
# For a segmentation model: keys of `Examination.as_dict`.
MEASURED = [
    *("label", "probabilities", "unfamiliarity", "unfamiliar", "structure", "unit", "mm_per_px", "lengths", "age"),
    *("warnings", "frames", "engine", "label_set", "level"),
]
SERVED = "_MLFLOW_IS_IN_SERVING_ENVIRONMENT"  # MLflow sets it to "true" in a process that answers over HTTP
PATHS = "FETALFLOW_SERVE_PATHS"  # 1: such a process takes paths of its machine too
LOG = logging.getLogger(__name__)
FACTS = ("mm_per_px", "weeks", "structure")  # optional input columns for a segmentation model


class ServedModel:
    """`predict` of the registered model."""

    def __init__(self, package: Package) -> None:
        self.package = package

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One row per item: `label`, `probabilities` {label: 0-1}, `frame_weights` [N] and their method,
        `unfamiliarity` (above 1: unlike the training data), `unfamiliar`, `best_frame` {frame, label, probability}
        (None for N > 1), the `engine` that answered, and `label_set`, which holds the true label with the probability
        `level` (both None where the package cannot say, or the input is unlike the training data).

        An item is the path of an image, a DICOM or a cine (the answer is the mean over its windows), or one sequence
        [N, H, W], uint8 0-255 or float 0-1; where N is 1 also an image [H, W] or a sweep [T, H, W]. `model_input` is
        one item, a list of items, a DataFrame or Series with one item per row (in the first column), a dict
        {column: items}, or an array [items, N, H, W].

        Behind MLflow's server a text is no path: it is a file in base64, or an array as JSON, which fits into CSV.
        Then an error has a message for the client and no stack trace.

        A segmentation model returns the columns MEASURED instead (docs/ml-lead/biometry.md): `lengths` {name: value,
        unit, spread ...}, `age`, `warnings`, and `frames` with number, lengths and mask (run lengths) of each. Then an
        item may have any number of frames, and there may be further input columns: mm_per_px (of the recorded frame),
        weeks (gestational age) and structure; their cells are empty where the value is not known.

        Raises InputError when an item is neither a path nor such an array, or cannot be read.
        """
        if not is_served():
            return self._predict(model_input)
        try:
            with TemporaryDirectory(prefix="fetalflow-served-") as folder:
                return self._predict(model_input, Uploaded(Path(folder)))
        except InputError as error:
            raise _refusal(str(error).replace(f"{folder}{os.sep}", ""), "INVALID_PARAMETER_VALUE") from None
        except Exception:
            LOG.exception("a prediction failed")
            raise _refusal("the prediction failed; the log of the server has the reason", "INTERNAL_ERROR") from None

    def _predict(self, model_input: Any, uploaded: "Uploaded | None" = None) -> pd.DataFrame:
        given, facts = _facts(model_input) if self.package.segments else (model_input, [])
        items = [uploaded.item(each) if uploaded else each for each in self._items(given)]
        items = [each if isinstance(each, (str, os.PathLike)) else self._sequence(each) for each in items]
        if self.package.segments:
            facts = facts or [{}] * len(items)
            results = [examine(self.package, item, **each).as_dict() for item, each in zip(items, facts, strict=True)]
            return pd.DataFrame(results, columns=MEASURED)
        return pd.DataFrame([_row(self.package.predict(item)) for item in items], columns=COLUMNS)

    def _items(self, given: Any) -> Iterable[Any]:
        if isinstance(given, dict):
            if len(given) != 1:
                raise InputError(f"expected one column of files or sequences, found {sorted(map(str, given))}.")
            given = next(iter(given.values()))
        if isinstance(given, pd.DataFrame):
            if given.shape[1] == 0:
                raise InputError("expected one column of files or sequences, found a table without columns.")
            given = given.iloc[:, 0]
        if isinstance(given, (str, os.PathLike)):
            return [given]
        if isinstance(given, np.ndarray) and (given.ndim == 0 or given.dtype.kind in "biufc"):
            return list(given) if given.ndim > 3 else [given.item() if given.ndim == 0 else given]
        if isinstance(given, Iterable):
            return list(given)
        raise InputError(f"expected paths of files or sequences [N, H, W], found {type(given).__name__}.")

    def _sequence(self, given: Any) -> np.ndarray:
        n = self.package.frames
        try:
            array = np.asarray(given)
        except ValueError as error:
            raise InputError(
                f"expected a file or an array of grey values whose rows are equally long: {error}"
            ) from None
        if array.dtype.kind not in "iuf" or not array.size:
            found = type(given).__name__ if array.ndim == 0 else f"{array.dtype} {list(array.shape)}"
            raise InputError(f"expected a file, or an array of grey values 0-255 or 0-1; found {found}.")
        any_length = n == 1 or self.package.segments
        if array.ndim not in ((2, 3) if any_length else (3,)) or not (any_length or len(array) == n):
            what = "an image [H, W] or a sweep [T, H, W]" if any_length else f"a sequence [{n}, H, W]"
            raise InputError(f"expected a file, or {what}; found shape {list(array.shape)}.")
        # A sequence from JSON has integers of Python, not uint8.
        if array.dtype.kind in "iu" and array.dtype != np.uint8:
            if array.min() < 0 or array.max() > 255:
                raise InputError(f"integer grey values must lie in 0-255, found {array.min()} to {array.max()}.")
            array = array.astype(np.uint8)
        return array


class Uploaded:
    """Texts of a request as files in a folder, or as arrays."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0

    def item(self, given: Any) -> Any:
        """A text as the path of the file whose bytes it is in base64, or as the array that it is in JSON; anything else
        unchanged. Raises InputError where it is neither, and for a path unless FETALFLOW_SERVE_PATHS is 1."""
        if isinstance(given, os.PathLike) or not isinstance(given, str):
            return given
        self.count += 1
        if os.environ.get(PATHS) == "1" and os.path.isfile(given):
            return given
        if given.lstrip().startswith("["):
            try:
                return json.loads(given)
            except (ValueError, RecursionError) as error:
                raise InputError(f"item {self.count} is no array in JSON ({error}).") from None
        try:
            content = base64.b64decode(given.encode("ascii"), validate=True)
        except (binascii.Error, UnicodeEncodeError):
            content = b""
        if not content:
            raise InputError(
                f"item {self.count} is a text, and must be a file in base64 or an array in JSON. Paths of the server "
                f"are not taken; {PATHS}=1 on the server allows them."
            )
        file = self.folder / f"item-{self.count}"
        file.write_bytes(content)
        return file


def is_served() -> bool:
    """Whether this process answers over HTTP, by MLflow's server or by MLServer, which MLflow can start instead."""
    return os.environ.get(SERVED) == "true" or "mlserver" in sys.modules


def _refusal(words: str, code: str) -> Exception:
    """The exception that MLflow's server sends with its words alone; a ValueError without MLflow."""
    exceptions, codes = (sys.modules.get(f"mlflow.{name}") for name in ("exceptions", "protos.databricks_pb2"))
    if exceptions is None or codes is None:
        return InputError(words)

    class Refusal(exceptions.MlflowException, InputError):
        @property
        def message(self) -> str:
            return words

        @message.setter
        def message(self, value: str) -> None:
            """MLflow would put the whole input before the words: pictures of a patient, in an error and in logs."""

    return Refusal(words, error_code=codes.ErrorCode.Value(code))


def _facts(given: Any) -> tuple[Any, list[dict[str, Any]]]:
    """The items of a table without the columns FACTS, and the values of these columns by item; an empty list where
    there are no such columns."""
    if isinstance(given, dict) and any(name in given for name in FACTS):
        items = {name: column for name, column in given.items() if name not in FACTS}
        if len(items) != 1:
            raise InputError(f"expected one column of files or frames beside {', '.join(FACTS)}; found {len(items)}.")
        column = next(iter(items.values()))
        one = isinstance(column, (str, os.PathLike)) or (isinstance(column, np.ndarray) and column.ndim <= 3)
        items = [column] if one else list(column)
        facts = {name: _of_each(name, given[name], len(items)) for name in FACTS if name in given}
        return items, _rows(pd.DataFrame(facts))
    if isinstance(given, pd.DataFrame) and given.shape[1] > 1:
        others = [name for name in given.columns if name not in FACTS]
        if not others:
            raise InputError(f"expected a column of files or frames beside {', '.join(FACTS)}; found none.")
        if len(others) > 1:
            unknown = ", ".join(map(str, others[1:]))
            raise InputError(f"beside the items there may be {', '.join(FACTS)}; found {unknown}.")
        return given[others[0]], _rows(given.drop(columns=others))
    return given, []


def _of_each(name: str, given: Any, count: int) -> list[Any]:
    """One value per item, by position: the index of a Series of selected rows does not start at 0."""
    values = list(given) if pd.api.types.is_list_like(given) else [given] * count
    if len(values) != count:
        raise InputError(f"{name}: expected one value for all items, or one for each of {count}; found {len(values)}.")
    return values


def _rows(facts: pd.DataFrame) -> list[dict[str, Any]]:
    for name in facts:
        if wrong := [value for value in facts[name] if not pd.api.types.is_scalar(value)]:
            raise InputError(f"{name}: expected one number or word for an item, found {type(wrong[0]).__name__}.")
    return [{k: v for k, v in row.items() if not pd.isna(v) and v != ""} for row in facts.to_dict("records")]


def _row(answer: Prediction) -> dict[str, Any]:
    best = answer.best
    return {
        "label": answer.label,
        "probabilities": answer.probabilities,
        "frame_weights": answer.frame_weights,
        "frame_weights_method": answer.frame_weights_method,
        "unfamiliarity": answer.unfamiliarity,
        "unfamiliar": answer.unfamiliar,
        "best_frame": best and {"frame": best.frame, "label": best.label, "probability": best.probability},
        "engine": answer.engine,
        "label_set": answer.label_set,
        "level": answer.level,
    }


def _load_pyfunc(path: str) -> ServedModel:
    """Called by MLflow with the folder of the model package; uses the fastest installed engine that passed the gate."""
    if not Path(__file__).is_file():
        # MLflow loaded an earlier copy of this code, and removed it (`validate_serving_input` does). What is not yet
        # imported could not be found, so all of it is imported again, from the copy that MLflow has put on the path.
        package = __name__.partition(".")[0]
        for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        return importlib.import_module(__name__)._load_pyfunc(path)
    return ServedModel(load(path, engine=AUTO))
