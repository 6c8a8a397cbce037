"""What people were alerted to: one line for each alert in `alerts.jsonl` of the workspace. Nothing removes a line.

A line has the time (UTC), the kind, the task, the sentence, the run, and whether the alert was sent to anybody. The
sentence is one of a fixed list with numbers, so no patient, file or hospital is in it.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FILE = "alerts.jsonl"
KEYS = {"time", "kind", "task", "said", "run", "sent"}


def keep_alert(workspace: Path, kind: str, task: str, said: str, run: str, sent: bool) -> None:
    """Append a line. The caller lets one process write at a time. Raises OSError when the file cannot be written."""
    line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "kind": kind, "task": task, "said": said}
    path = workspace / FILE
    cut = path.is_file() and not path.read_bytes().endswith(b"\n")  # by a crash: the next line begins a new one
    with path.open("a", encoding="utf-8") as file:
        file.write(("\n" if cut else "") + json.dumps(line | {"run": run, "sent": sent}) + "\n")


def alerts_of(workspace: Path, task: str) -> list[dict[str, Any]] | None:
    """The alerts about a task, and about no task, oldest first; None if there is no such file. A line that a crash cut
    off is left out. Raises OSError when the file cannot be read."""
    path = workspace / FILE
    if not path.is_file():
        return None
    found = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and line.keys() >= KEYS and line["task"] in (task, ""):
            found.append(line)
    return found
