"""The journal of a store: an append-only file with one line of JSON for each event of a delivery."""

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fetalflow.artefacts import read_json, write_json

FILE = "journal.jsonl"
LOOK = "last_look.json"  # the deliveries of the last look into the inbox
SETTLED = ("taken", "again", "refused")  # states that stay until the delivery changes


def read_journal(store: Path) -> list[dict[str, Any]]:
    """Every line of a store's journal, oldest first. A last line that a kill cut short is left out."""
    path = store / FILE
    lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
    return [json.loads(line) for line in lines]


class Journal:
    """The journal of a store, read once; afterwards it answers from memory. Only one process may write at a time.

    last: the last line of each delivery by its name. drops: the names of all drops that came.
    """

    def __init__(self, store: Path) -> None:
        self._path = store / FILE
        self._size = 0  # bytes of whole lines; what a kill left behind them is removed before a line is added
        self._settled: dict[tuple[str, str], dict[str, Any]] = {}
        self.last: dict[str, dict[str, Any]] = {}
        self.drops: set[str] = set()
        if self._path.is_file():
            *lines, cut = self._path.read_bytes().split(b"\n")
            self._size = self._path.stat().st_size - len(cut)
            for line in lines:
                self._keep(json.loads(line))

    def settled(self, name: str, fingerprint: str) -> dict[str, Any] | None:
        """The last line that settled a delivery in this state, or None."""
        return self._settled.get((name, fingerprint))

    def add(self, line: dict[str, Any]) -> None:
        """Add a line; it is on the disk when this returns."""
        text = json.dumps(line).encode() + b"\n"
        with open(self._path, "ab") as file:
            file.truncate(self._size)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        self._size += len(text)
        self._keep(line)

    def _keep(self, line: dict[str, Any]) -> None:
        self.last[line["name"]] = line
        if line["drop"]:
            self.drops.add(line["drop"])
        if line["state"] in SETTLED:
            self._settled[line["name"], line["fingerprint"]] = line


def write_look(store: Path, time: float, arrivals: list[dict[str, Any]]) -> None:
    """Keep what a look into the inbox at `time` found: each delivery but those that were taken before."""
    write_json(store / LOOK, {"time": time, "arrivals": arrivals})


def look_before(store: Path) -> set[tuple[str, str, str]]:
    """What the last look found of each delivery but those that were taken before, as `in_short`."""
    look = read_json(store / LOOK) if (store / LOOK).is_file() else {"arrivals": []}
    return {in_short(each["name"], each["state"], each["said"]) for each in look["arrivals"]}


def in_short(name: str, state: str, said: str) -> tuple[str, str, str]:
    """Name, state and reason of a delivery, without numbers in the reason: the seconds until a drop settles pass."""
    return name, state, re.sub(r"\d+", "", said)


def listing(store: Path) -> dict[str, Any]:
    """A dict for JSON: `happened`, the lines of the journal without those of the state `seen`, oldest first, with the
    drift verdict of the drop; `looked`, the time of the last look into the inbox; `waiting`, the deliveries that could
    not be taken then, with the reason."""
    happened = []
    for line in read_journal(store):
        if line["state"] != "seen":
            drift = store / "drift" / f"{line['drop']}.json"
            verdict = read_json(drift)["verdict"] if line["drop"] and drift.is_file() else ""
            kept = {key: line[key] for key in ("name", "state", "drop", "rows", "cines", "said")}
            happened.append({"time": _utc(line["time"])} | kept | {"drift": verdict})
    look = read_json(store / LOOK) if (store / LOOK).is_file() else {"time": None, "arrivals": []}
    waiting = [{"name": a["name"], "said": a["said"]} for a in look["arrivals"] if a["state"] == "waiting"]
    return {"happened": happened, "looked": look["time"] and _utc(look["time"]), "waiting": waiting}


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
