"""Decide on rows in quarantine: what `fetalflow quarantine` does, for a lead in a browser. The decisions go through the
same desk into the same file."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from fetalflow.errors import InputError
from fetalflow.hospital.drop.review import RELEASE, Decision
from fetalflow.hospital.quarantine_desk import Desk
from fetalflow.station import quarantined
from fetalflow.station.access import Here, Lead, render
from fetalflow.station.catalogue import Catalogue
from fetalflow.station.place import Place
from fetalflow.station.quarantined import FILTERS, words

router = APIRouter()
Row = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
Decided = Literal["release", "reject"]


class Plan(BaseModel):
    """Rows and what is to be decided on them. label: the correct one, where the kind of a row needs it."""

    model_config = ConfigDict(extra="forbid")

    decision: Decided
    rows: Annotated[list[Row], Field(min_length=1, max_length=100_000)]
    label: Annotated[str, Field(max_length=200)] = ""


class Verdict(Plan):
    """The same, with the reason. Who decides is the account."""

    # The record is a CSV file of text; in JSON a browser could send any control character.
    why: Annotated[str, Field(max_length=2000, pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$")] = ""


@router.get("/quarantine")
def quarantine_page(request: Request, account: Lead, place: Here, task: str = "") -> Response:
    """The page of one task; without `task`, of the station's."""
    task = task or place.task
    place.settings.block(task)  # an unknown task is refused
    catalogue: Catalogue = request.app.state.catalogue
    request.app.state.audit.write(account.name, "view quarantine", task)
    has_paths = not catalogue.names.hidden
    return render(
        request,
        "quarantine.html.j2",
        task=task,
        tasks=[name for name in place.settings.tasks if _table(place, name).is_file() or name == task],
        labels=catalogue.labels(task),
        has_paths=has_paths,
    )


@router.get("/quarantine/{task}/rows")
def rows(request: Request, account: Lead, place: Here, task: str, video: str = "") -> dict[str, Any]:
    """The kinds with their counts and what to do, and the rows that have the values of FILTERS in the query."""
    desk = _desk(place, task)
    catalogue: Catalogue = request.app.state.catalogue
    wanted = {name: value for name in FILTERS if (value := request.query_params.get(name))}
    found = quarantined.shown_rows(catalogue, desk, task, wanted, video, _accounts(request))
    return {"kinds": desk.counts(), "rows": found}


@router.get("/quarantine/{task}/rows/{row}")
def row_details(request: Request, account: Lead, place: Here, task: str, row: str) -> dict[str, Any]:
    """Everything that is known of one row."""
    desk, catalogue = _desk(place, task), request.app.state.catalogue
    found = quarantined.details(catalogue, desk, task, row, _accounts(request))
    request.app.state.audit.write(account.name, "view row in quarantine", found["row"]["source"], task=task, row=row)
    return found


@router.post("/quarantine/{task}/plan")
def plan(request: Request, account: Lead, place: Here, task: str, wanted: Plan) -> dict[str, Any]:
    """Which rows would get the decision, and why the others cannot, by their names; and what somebody decided on them
    since the last run, perhaps after the page was loaded. Nothing is decided."""
    names, desk = list(dict.fromkeys(wanted.rows)), _desk(place, task)
    refused, pending = desk.refusals(wanted.decision, names, wanted.label), desk.pending()
    shown, accounts = request.app.state.catalogue.names, _accounts(request)
    decided = {name: pending[name] for name in names if name in pending and name not in refused}
    return {
        "rows": [name for name in names if name not in refused],
        "decided": {
            name: f"{each.decision} by {quarantined.who_decided(each.who, accounts, shown)}"
            for name, each in decided.items()
        },
        "refused": {name: words(why.replace(name, "this row"), shown) for name, why in refused.items()},
    }


@router.post("/quarantine/{task}/decide")
def decide(request: Request, account: Lead, place: Here, task: str, verdict: Verdict) -> dict[str, Any]:
    """Write the decisions, all or none. Raises InputError with a sentence if one of them cannot be."""
    if not verdict.why.strip():
        raise InputError("a decision needs a reason: write why.")
    with place.hold(f"the station: {verdict.decision} of {account.name}"):
        desk = _desk(place, task)
        if verdict.decision == RELEASE:
            decided = _worded(request, lambda: desk.release(verdict.rows, account.name, verdict.why, verdict.label))
        else:
            decided = _worded(request, lambda: desk.reject(verdict.rows, account.name, verdict.why))
    names = [decision.row for decision in decided]
    request.app.state.audit.write(account.name, f"{verdict.decision} rows in quarantine", task, rows=names)
    return {"rows": names}


def _accounts(request: Request) -> set[str]:
    return {account.name for account in request.app.state.accounts.list()}


def _worded(request: Request, decide: Callable[[], list[Decision]]) -> list[Decision]:
    try:
        return decide()
    except InputError as error:
        raise InputError(words(str(error), request.app.state.catalogue.names)) from None


def _table(place: Place, task: str) -> Path:
    return place.workspace / "data" / task / "quarantine.csv"


def _desk(place: Place, task: str) -> Desk:
    place.settings.block(task)  # an unknown task is refused
    if not _table(place, task).is_file():
        raise InputError(f"nothing of {task} was extracted in this workspace yet: run the pipeline first.")
    return Desk(place.workspace, task)
