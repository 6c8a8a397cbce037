"""Versions whose files cannot be loaded: which ones, why, and when each may be tried again."""

import time
from collections.abc import Callable, Mapping

from fetalflow.errors import InputError
from fetalflow.service.served import Served

RETRY_S = 60  # until a version that could not be loaded is tried again, since its files may have been restored


class Unloadable:
    """Remembers each version that could not be loaded for RETRY_S seconds."""

    def __init__(self) -> None:
        self._failed: dict[Served, tuple[float, str]] = {}  # when it was tried, and why it failed

    def left_out(self, wanted: dict[str, Served], before: Mapping[str, Served]) -> tuple[dict[str, Served], list[str]]:
        """`wanted`, where each version that cannot be loaded is replaced by that of its task in `before`, or left out
        if there is none; and a sentence about each such version."""
        possible, problems, now = dict(wanted), [], time.monotonic()
        self._failed = {each: found for each, found in self._failed.items() if now - found[0] < RETRY_S}
        for task, each in wanted.items():
            if each in self._failed and each != before.get(task):
                problems.append(f"{task}: {each.uri} cannot be loaded, so it does not answer: {self._failed[each][1]}")
                if task in before:
                    possible[task] = before[task]
                else:
                    del possible[task]
        return possible, problems

    def find(self, new: dict[str, Served], error: InputError, load: Callable[[dict[str, Served]], None]) -> bool:
        """Load each version alone, because together they failed with `error`; whether one of them is at fault.

        load: raises InputError if a version cannot be loaded.
        """
        found = {}
        for task, each in new.items():
            try:
                if len(new) == 1:
                    raise error
                load({task: each})
            except InputError as wrong:
                found[each] = (time.monotonic(), str(wrong))
        self._failed |= found
        return bool(found)
