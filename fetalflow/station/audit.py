"""One line for each view and each change: who, when, what. The lines are added and never changed."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock


class Audit:
    """Lines of JSON in one file a day below `folder`: time (ISO, UTC), account, action, subject, and more."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, account: str, action: str, subject: str = "", **more: Any) -> None:
        """Add one line; it is on the disk when this returns."""
        now = datetime.now(UTC)
        line = {
            "time": now.isoformat(timespec="milliseconds"),
            "account": account,
            "action": action,
            "subject": subject,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock"), open(self.folder / f"{now:%Y-%m-%d}.jsonl", "a") as file:
            file.write(json.dumps(line | more) + "\n")
