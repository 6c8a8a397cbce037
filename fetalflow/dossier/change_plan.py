"""The predetermined change control plan: what promotions may change. A team may write another one."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fetalflow.errors import InputError
from fetalflow.settings.params import Loader, Promote

FILE = "change_plan.yaml"  # in the package, and in the evidence
# What a version is, and how it is called in a sentence; `weights` are what a training makes.
FACTS = {
    "task": "task",
    "network": "network",
    "labels": "labels",
    "size": "picture size",
    "frames": "number of frames",
    "reading": "way of reading cines",
}
Word = Annotated[str, Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Modification(_Strict):
    """changes: what it may change. impact: ids of the plan's entries."""

    id: Word
    title: Word
    changes: list[Literal["weights", "network", "labels", "size", "frames", "reading", "sites", "devices"]] = Field(
        min_length=1
    )
    what: Word
    how: Word
    protocol: list[Literal["P1", "P2", "P3", "P4"]] = Field(min_length=1)
    impact: list[Word] = Field(min_length=1)


class Impact(_Strict):
    id: Word
    benefit: Word
    risk: Word
    control: Word


class Plan(_Strict):
    """start: the version that it starts from, empty for the first champion. rules: None for those of that version."""

    start: str = ""
    approval: bool = True
    rollback: bool = True
    rules: dict[str, Any] | None = None
    modifications: list[Modification] = Field(min_length=1)
    impact: list[Impact] = Field(min_length=1)
    together: Word

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for name, entries in (("modifications", self.modifications), ("impact", self.impact)):
            ids = [entry.id for entry in entries]
            if twice := sorted({one for one in ids if ids.count(one) > 1}):
                raise ValueError(f"{name} has the id {twice[0]} twice")
        known = {entry.id for entry in self.impact}
        for entry in self.modifications:
            if lost := [one for one in entry.impact if one not in known]:
                raise ValueError(f"modification {entry.id} names the impact {lost[0]}, which the plan does not have")
        if self.rules is not None:
            try:
                Promote.model_validate(self.rules)
            except ValidationError as error:
                raise ValueError(f"rules.{_first(error)}") from None
        return self

    @property
    def may_change(self) -> set[str]:
        return {name for entry in self.modifications for name in entry.changes}


def plan_file(workspace: Path, task: str) -> Path:
    """The team's plan, or that of the package where the team wrote none."""
    own = workspace / "dossier" / f"{task}-{FILE}"
    return own if own.is_file() else Path(__file__).with_name(FILE)


def read_plan(path: Path) -> Plan:
    """Raises InputError, with the file and the key, when the file cannot be read, or a key is unknown, missing or
    wrong."""
    try:
        return Plan.model_validate(yaml.load(path.read_text(encoding="utf-8"), Loader))
    except (OSError, ValueError, yaml.YAMLError) as error:
        why = _first(error) if isinstance(error, ValidationError) else str(error)
        raise InputError(
            f"{path} is no change plan: {why}. Correct it; fetalflow/dossier/{FILE} in the package is an example."
        ) from None


def _first(error: ValidationError) -> str:
    found = error.errors()[0]
    where = ".".join(str(part) for part in found["loc"])
    words = {"extra_forbidden": "this key is not known", "missing": "this key is missing"}
    said = words.get(found["type"], found["msg"].removeprefix("Value error, "))
    return f"{where}: {said}" if where else said
