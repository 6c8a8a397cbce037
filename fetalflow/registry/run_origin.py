"""What tells the runs of a task apart: its data, its profiles and its changed settings."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fetalflow.registry.run_record import flatten
from fetalflow.settings.params import Settings

ORIGIN = "origin.yaml"  # flows/workspaces/workspace.py writes it: for each task its profiles and its changes
ALL = "all tasks"  # the key of a workspace that was made for all tasks
SHOWN = 3  # changes in the name of a run; its tags have all of them


@dataclass(frozen=True)
class Origin:
    """drop: name of the drop's folder; "demo" for the synthetic hospital; the workspace's name for accumulated drops.
    profiles: in the order in which they were applied. changes: settings that were changed, as KEY.KEY to value."""

    workspace: str
    drop: str
    profiles: tuple[str, ...] = ()
    changes: tuple[tuple[str, Any], ...] = ()

    @property
    def words(self) -> str:
        """For the name of a run: `demo`, or `hospital-2026-11 · paper · train.epochs=5`."""
        changes = [f"{key}={value}" for key, value in self.changes]
        more = [f"{len(changes) - SHOWN} more changes"] if len(changes) > SHOWN else []
        return " · ".join([self.drop, *self.profiles, *changes[:SHOWN], *more])

    @property
    def tags(self) -> dict[str, str]:
        """The tags of a run; without a profile or a change, these tags are left out."""
        tags = {
            "workspace": self.workspace,
            "drop": self.drop,
            "profile": " ".join(self.profiles),
            "changes": " ".join(f"{key}={value}" for key, value in self.changes)[:5000],
        }
        return {key: value for key, value in tags.items() if value}


def read_origin(task: str, settings: Settings, workspace: Path) -> Origin:
    """The origin of the runs of `task`. A folder without `origin.yaml`, such as the checkout, has no known changes."""
    file = workspace / ORIGIN
    recorded = (yaml.safe_load(file.read_text(encoding="utf-8")) or {}) if file.is_file() else {}
    made = recorded.get(task) or recorded.get(ALL) or {}
    drop, name = Path(settings.tasks[task].drop), workspace.resolve().name
    if task in settings.phantoms:
        origin = "demo"
    else:
        origin = drop.name if drop.is_absolute() and workspace.resolve() not in drop.parents else name
    changes = flatten(made.get("changes") or {})
    # The drop has a name of its own here; where it lies, and the address of the inbox, are nobody's business.
    hidden = ("phantoms", f"tasks.{task}.drop", f"{task}.retrain.inbox", f"{task}.pretrain.folder", f"{task}.register.")
    shown = {
        key.removeprefix("tasks.").removeprefix(f"{task}."): value
        for key, value in changes.items()
        if not key.startswith(hidden) and (key, value) != (f"{task}.extract.labels", None)
    }
    return Origin(name, origin, tuple(made.get("profiles") or ()), tuple(sorted(shown.items())))
