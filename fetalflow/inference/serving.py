"""The pyfunc interface of a model package, which MLflow calls when the registered model is loaded.

MLflow finds `_load_pyfunc` by the name of this module (`loader_module`), so nothing is pickled and this file does not
import MLflow.
"""

import os
from collections.abc import Iterable
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

        A segmentation model returns the columns MEASURED instead (docs/ml-lead/biometry.md): `lengths` {name: value,
        unit, spread ...}, `age`, `warnings`, and `frames` with number, lengths and mask (run lengths) of each. Then an
        item may have any number of frames, and there may be further input columns: mm_per_px (of the recorded frame),
        weeks (gestational age) and structure; their cells are empty where the value is not known.

        Raises InputError when an item is neither a path nor such an array, or cannot be read.
        """
        if self.package.segments:
            given, facts = _facts(model_input)
            items = list(self._items(given))
            facts = facts or [{}] * len(items)
            results = [examine(self.package, item, **each).as_dict() for item, each in zip(items, facts, strict=True)]
            return pd.DataFrame(results, columns=MEASURED)
        answers = [self.package.predict(item) for item in self._items(model_input)]
        return pd.DataFrame([_row(answer) for answer in answers], columns=COLUMNS)

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
        if isinstance(given, np.ndarray) and given.dtype != object and given.dtype.kind not in "US":
            return [self._sequence(given)] if given.ndim <= 3 else [self._sequence(each) for each in given]
        if isinstance(given, Iterable):
            return [each if isinstance(each, (str, os.PathLike)) else self._sequence(each) for each in given]
        raise InputError(f"expected paths of files or sequences [N, H, W], found {type(given).__name__}.")

    def _sequence(self, given: Any) -> np.ndarray:
        array, n = np.asarray(given), self.package.frames
        any_length = n == 1 or self.package.segments
        if array.ndim not in ((2, 3) if any_length else (3,)) or not (any_length or len(array) == n):
            what = "an image [H, W] or a sweep [T, H, W]" if any_length else f"a sequence [{n}, H, W]"
            raise InputError(f"expected a file's path, or {what}; found shape {list(array.shape)}.")
        # A sequence from JSON has integers of Python, not uint8.
        if array.dtype.kind in "iu" and array.dtype != np.uint8:
            if array.min() < 0 or array.max() > 255:
                raise InputError(f"integer grey values must lie in 0-255, found {array.min()} to {array.max()}.")
            array = array.astype(np.uint8)
        return array


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
        if unknown := [str(name) for name in given.columns[1:] if name not in FACTS]:
            raise InputError(f"beside the items there may be {', '.join(FACTS)}; found {', '.join(unknown)}.")
        return given.iloc[:, 0], _rows(given.iloc[:, 1:])
    return given, []


def _of_each(name: str, given: Any, count: int) -> list[Any]:
    """One value per item, by position: the index of a Series of selected rows does not start at 0."""
    values = list(given) if pd.api.types.is_list_like(given) else [given] * count
    if len(values) != count:
        raise InputError(f"{name}: expected one value for all items, or one for each of {count}; found {len(values)}.")
    return values


def _rows(facts: pd.DataFrame) -> list[dict[str, Any]]:
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
    return ServedModel(load(path, engine=AUTO))
