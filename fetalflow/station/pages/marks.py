"""What one annotator marked on one cine: the page reads it and sends its changes. Nobody gets another one's marks."""

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from fetalflow.annotation.checking import Canvas, check_event, kinds_of, offered
from fetalflow.annotation.journal import Event
from fetalflow.annotation.standing import standing, submitted
from fetalflow.errors import InputError
from fetalflow.station.access import Here, Signed
from fetalflow.station.accounts import Account
from fetalflow.station.catalogue import Catalogue
from fetalflow.station.place import Place
from fetalflow.station.sight import sight_of

router = APIRouter()
Source = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]


class Change(BaseModel):
    """One event of the page: the journal's id, action and value."""

    model_config = ConfigDict(extra="forbid")

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    action: Annotated[str, Field(max_length=20)]
    value: dict[str, Any] = {}


class Changes(BaseModel):
    """Events in the order in which they happened."""

    model_config = ConfigDict(extra="forbid")

    events: Annotated[list[Change], Field(min_length=1, max_length=500)]


@router.get("/marks/who")
def who(request: Request, account: Signed) -> dict[str, str]:
    """The account of the session and its CSRF token: a page that outlived a session goes on with the next one."""
    return {"account": account.name, "csrf": request.state.session.csrf}


@router.get("/marks/{task}/{source}")
def read_marks(
    request: Request, account: Signed, place: Here, task: str, source: Source, after: int = -1
) -> dict[str, Any]:
    """The account, its marks that hold, and the number of its last event. With `after` equal to that number: no marks.

    A page asks again every few seconds for what another tab wrote; such a look is no new view and writes no audit line.
    """
    canvas = canvas_of(place, task, source)
    events = place.journal.events(task, source, account.name)
    number = events[-1].number if events else 0
    if after == number:
        return {"number": number, "account": account.name}
    if after < 0:
        request.app.state.audit.write(account.name, "view own marks", source, task=task)
    return {
        "number": number,
        "account": account.name,
        "marks": [mark.model_dump(mode="json") for mark in standing(events)],
        "submitted": submitted(events),
        "labels": list(offered(canvas.labels)),
        "kinds": list(kinds_of(task)),
        "counts": sight_of(place, account, Catalogue(place).cine(source, task))[0].label,
        "still": still_id(account, task, source),
    }


@router.post("/marks/{task}/{source}")
def change_marks(
    request: Request, account: Signed, place: Here, task: str, source: Source, changes: Changes
) -> dict[str, int]:
    """Write the events, all or none, and return the number of the last one. Each event stands once, if sent twice, too.

    Raises InputError with a sentence if one of them may not be written.
    """
    canvas = canvas_of(place, task, source)
    events = [Event(account.name, task, source, each.id, each.action, each.value) for each in changes.events]
    written = place.journal.add(events, lambda event, earlier: check_event(event, earlier, canvas))
    actions = [event.action for event in written]
    request.app.state.audit.write(account.name, "change marks", source, task=task, actions=actions)
    return {"number": max(event.number for event in written)}


def still_id(account: Account, task: str, source: str) -> str:
    """The id of the one mark that an account has on a still: two tabs write the same mark, and the last one counts."""
    return hashlib.sha256(f"still {account.name} {task} {source}".encode()).hexdigest()[:32]


def canvas_of(place: Place, task: str, source: str) -> Canvas:
    """What can be marked on a cine. Raises 404 if the task has no such cine, InputError without labels."""
    catalogue = Catalogue(place)
    frames, height, width = catalogue.frames(source, task).shape
    labels = catalogue.labels(task)
    if not labels:
        raise InputError(
            f"neither the settings nor a drop state labels for {task}; state them in the workspace: "
            f"`fetalflow settings --set {task}.extract.labels=[first,second]`."
        )
    return Canvas(task, labels, frames, height, width)
