"""Rebuilds the values of DICOM elements as numbers or as words of a list, so that no text can hide in them."""

from collections.abc import Callable, Collection
from typing import Any

from pydicom import Dataset
from pydicom.valuerep import DSfloat

LARGEST = 10_000  # rate, time in ms, spacing in mm or position in px: a larger number may identify a person


def copy(source: Dataset, target: Dataset, names: tuple[str, ...], clean: Callable[[Any], Any]) -> None:
    """Copy elements by name, each value through `clean`. An element that `clean` refuses is left out."""
    for name in names:
        value = source.get(name)
        if value is None or value == "":
            continue
        values = list(value) if not isinstance(value, str) and hasattr(value, "__iter__") else None
        try:
            setattr(target, name, clean(value) if values is None else [clean(v) for v in values])
        except (TypeError, ValueError, OverflowError):
            continue


def bounded(value: Any, largest: int = LARGEST) -> float:
    """A number of at most `largest`, without its sign. Raises ValueError for another one, TypeError or ValueError for
    anything else."""
    number = float(value)
    if not abs(number) <= largest:
        raise ValueError("out of bounds")
    return number


def decimal(value: Any) -> DSfloat:
    """A bounded number as a decimal string of 16 characters at most. Raises what `bounded` raises."""
    return DSfloat(bounded(value), auto_format=True)


def one_of(words: Collection[str]) -> Callable[[Any], str]:
    """A function that returns a word of the list and raises ValueError for anything else."""

    def clean(value: Any) -> str:
        if str(value) not in words:
            raise ValueError("not in the list")
        return str(value)

    return clean
