"""Writes the rows of the log, one after the other, beside the event loop: a slow log delays no answer for long."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace

import numpy as np

from fetalflow.watch.row import Answered

LOG = logging.getLogger("fetalflow.service")
WAIT_S = 1  # that an answer waits for its row: then it is in the log, and a kill loses nothing
MOST_WAITING = 10_000  # rows in memory while the log stands still; more are lost and counted
CLOSE_S = 10  # for the rows that wait when the service ends


class Recorder:
    """record: writes a row, and the frames that were answered where `pictures` is true; None: nothing is recorded.
    pseudonym: of a true identifier; lost: called for each row that could not be written."""

    def __init__(
        self,
        record: Callable[..., None] | None,
        pseudonym: Callable[[str], str],
        lost: Callable[[], None],
        pictures: bool = False,
    ) -> None:
        self.record, self.pseudonym, self.lost, self.pictures, self.problem = record, pseudonym, lost, pictures, ""
        self._thread = ThreadPoolExecutor(1, "log of answers")
        self._waiting: set[Future] = set()

    async def add(self, row: Answered, patient: str = "", picture: np.ndarray | None = None) -> None:
        """Record one row. patient: her true identifier, of which only the pseudonym is written. picture: uint8
        [N, H, W], what was answered. Waits at most WAIT_S; a row that takes longer is written when the log is free
        again. Raises nothing."""
        if self.record is None:
            return
        if len(self._waiting) >= MOST_WAITING:
            self.lost()
            return
        writing = self._thread.submit(self._write, row, patient.strip(), picture)
        self._waiting.add(writing)
        writing.add_done_callback(self._waiting.discard)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(writing)), WAIT_S)

    def close(self) -> None:
        """Write what waits, for CLOSE_S at most. A second call does nothing."""
        wait(list(self._waiting), CLOSE_S)
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _write(self, row: Answered, patient: str, picture: np.ndarray | None) -> None:
        try:
            row = replace(row, patient=self.pseudonym(patient)) if patient else row
            self.record(row, *([] if picture is None else [picture]))
        except Exception as error:  # noqa: BLE001 - a full disk must not withhold an answer; it is counted and logged
            self.lost()
            # Clients see the words, so they name no path.
            why = "" if isinstance(error, TimeoutError) else f": {getattr(error, 'strerror', None) or error}"
            words = f"the log cannot take answers ({type(error).__name__}{why})"
            if words != self.problem:
                LOG.error("%s: %s", words, error)
            self.problem = words
        else:
            self.problem = ""
