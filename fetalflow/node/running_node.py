"""A running node, which all of its threads share: its settings, folder, key and database, and what it works on."""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from fetalflow.hospital.deidentify.pseudonyms import Key
from fetalflow.node.receipts import Receipts
from fetalflow.node.vault import Vault
from fetalflow.settings.params import Settings

SPOOL, DATABASE, LOCK, HOST = "spool", "node.db", ".lock", ".host"


@dataclass
class Node:
    """A running node: its settings, its folder, its key and its database."""

    settings: Settings
    folder: Path
    key: Key | None
    receipts: Receipts
    clock: Callable[[], float] = time.time
    passed_over: set[str] = field(default_factory=set)  # objects of the DICOMweb PACS that are not requested again
    not_given: set[str] = field(default_factory=set)  # objects that the DICOMweb PACS lists and does not give
    not_examined: set[str] = field(default_factory=set)  # deliveries of which the examination failed
    waiting: dict[Path, str] = field(default_factory=dict)  # results that wait, and why
    looked: float = float("-inf")  # the time of the last request to the DICOMweb PACS
    busy: Counter = field(default_factory=Counter)  # objects of a study that are being worked on
    _lock: Lock = field(default_factory=Lock)

    @property
    def vault(self) -> Vault:
        return Vault(self.key)

    @property
    def spool(self) -> Path:
        return self.folder / SPOOL

    def name(self, uid: str) -> str:
        """A UID as the pipeline knows it."""
        return self.key.uid(uid) if self.key else uid

    @contextmanager
    def idle(self) -> Iterator[bool]:
        """Whether no object is being worked on; until the block ends, no work on another one begins."""
        with self._lock:
            yield not any(self.busy.values())

    @contextmanager
    def working_on(self, study: str) -> Iterator[None]:
        with self._lock:
            self.busy[study] += 1
        try:
            yield
        finally:
            with self._lock:
                self.busy[study] -= 1
                if not self.busy[study]:
                    del self.busy[study]


def in_short(study: str) -> str:
    """A study for the log, which may not hold its true UID."""
    return hashlib.sha256(study.encode()).hexdigest()[:12]
