"""The journal of a store: an append-only file with one line of JSON for each event of a delivery."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fetalflow.artefacts import read_json, write_json

FILE = "journal.jsonl"
LOOK = "last_look.json"  # the deliveries of the last look into the inbox


def read_journal(store: Path) -> list[dict[str, Any]]:
    """Every line of a store's journal, oldest first. A last line that a kill cut short is left out."""
    path = store / FILE
    lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
    return [json.loads(line) for line in lines]


def write_line(store: Path, line: dict[str, Any]) -> None:
    """Add a line; it is on the disk when this returns. Only one process may write at a time."""
    with open(store / FILE, "ab+") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(0)
        whole = file.read(end).rfind(b"\n") + 1
        file.truncate(whole)  # remove a last line that a kill cut short
        file.write(json.dumps(line).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def write_look(store: Path, time: float, arrivals: list[dict[str, Any]]) -> None:
    """Keep the result for every delivery that was in the inbox at `time`."""
    write_json(store / LOOK, {"time": time, "arrivals": arrivals})


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
