"""Hazards: what can go wrong with an answer, what prevents it, and the tests that show that it does."""

from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from fetalflow.errors import InputError
from fetalflow.settings.params import Loader

FILE = "risks.yaml"
KNOWN = Path(__file__).with_name(FILE)  # the hazards that fetalflow knows


class Control(BaseModel):
    """A control, and the tests that show it: `tests/ROOM/FILE.py::TEST`, or, for a control of a team, what shows it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    text: str = Field(min_length=1)
    tests: tuple[str, ...] = Field(min_length=1)


class Risk(BaseModel):
    """A hazard. tasks: those that it concerns, empty for all. left: what the controls do not prevent."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str
    hazard: str
    cause: str
    harm: str
    tasks: tuple[str, ...] = ()
    controls: tuple[Control, ...] = Field(min_length=1)
    left: str


def read_risks(path: Path) -> list[Risk]:
    """Raises InputError, with the place in the file, when it does not have the form of `risks.yaml` beside the code."""
    try:
        return TypeAdapter(list[Risk]).validate_python(yaml.load(path.read_text(encoding="utf-8"), Loader) or [])
    except (OSError, ValueError, yaml.YAMLError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        where = f" at {'/'.join(map(str, first['loc']))}: {first['msg']}" if first else f": {error}"
        raise InputError(f"{path} is no list of hazards{where}. Its form is that of {KNOWN}.") from None
