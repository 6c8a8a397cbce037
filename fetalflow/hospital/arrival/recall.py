"""A person recalls a delivery, or takes that back."""

import time
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock

from fetalflow.errors import InputError
from fetalflow.hospital.arrival.accumulated_drop import accumulate
from fetalflow.hospital.arrival.intake import Arrival
from fetalflow.hospital.arrival.journal import Journal
from fetalflow.hospital.arrival.recall_record import FILE, RECALL, RESTORE, add_lines, drop_of, left_out
from fetalflow.hospital.arrival.scratch_folders import scratch_of
from fetalflow.settings.params import Split


class AlreadySo(InputError):
    """The rows of a delivery are left out already, or count already."""


def recall(store: Path, delivery: str, by: str, why: str, split: Split, restore: bool = False) -> str:
    """Leave the rows of a delivery out from now on, or with `restore` let them count again; returns its drop.

    delivery: its name in `fetalflow arrivals`, or its drop. Raises NotTaken when no such delivery was taken,
    AlreadySo when its rows are left out (or count) already.
    """
    with FileLock(store / ".lock"), scratch_of(store):
        drop = drop_of(store, delivery)
        left = left_out(store)
        if drop not in left if restore else left.get(drop) == set():
            raise AlreadySo(
                f"the rows of the delivery {drop} {'count' if restore else 'are left out'} already. {store / FILE} has "
                "the decisions."
            )
        add_lines(store, RESTORE if restore else RECALL, [drop], by, why)
        accumulate(store, split)
        line = Arrival(delivery, "restored" if restore else "recalled", drop, said=f"by {by}: {why}")
        Journal(store).add({"time": time.time(), "fingerprint": "", "files": 0} | asdict(line))
    return drop
