"""How well the annotators agree, what waits for a third person, and the way of the labels into the next training."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response

from fetalflow.annotation.adjudication import Counted
from fetalflow.annotation.agreement import dices, differences, kappas
from fetalflow.annotation.studies import may_see
from fetalflow.errors import InputError
from fetalflow.hospital.arrival.inbox import is_url
from fetalflow.station.access import Adjudicator, Here, Lead, render
from fetalflow.station.accounts import Account
from fetalflow.station.delivery import deliver, words, write_in_place
from fetalflow.station.labelled import Labelled
from fetalflow.station.place import Place

router = APIRouter()


@router.get("/agreement")
def agreement_page(request: Request, account: Adjudicator, place: Here) -> Response:
    """The figures of this moment."""
    request.app.state.audit.write(account.name, "view agreement", place.task)
    return _page(request, account, place)


@router.post("/agreement/write")
def write_drop(request: Request, account: Lead, place: Here, where: Annotated[str, Form()]) -> Response:
    """Write what counts as a drop: `place` into the unlabelled drop, `deliver` for the next `fetalflow retrain`."""
    if where not in ("place", "deliver"):
        raise InputError(f"the drop is written with `place` or `deliver`, not {where!r}.")
    work = Labelled(place, request.app.state.catalogue)
    try:
        if where == "place":
            written = [write_in_place(work, account.name)]
        else:
            written = deliver(work, f"station-{datetime.now(UTC):%Y-%m-%d-%H%M%S}", account.name, _inbox(place))
    except InputError as error:  # its message names files and folders, for the terminal
        hidden = work.catalogue.names.hidden  # then the page hides every path itself
        raise InputError(str(error) if hidden else _without_folders(str(error), place)) from None
    said = words(written)
    request.app.state.audit.write(
        account.name, "write drop", place.task, where=where, rows=sum(w.rows for w in written)
    )
    return _page(request, account, place, said=said)


def _page(request: Request, account: Account, place: Place, said: list[str] | None = None) -> Response:
    work = Labelled(place, request.app.state.catalogue)
    found = work.read_by_several()
    reads = [read for read, _ in found]
    evaluate = place.settings.block(place.task).evaluate
    waiting = [
        {"source": read.source, "name": work.cine(read.source).name} | _waiting(work, account, read.source, counted)
        for read, counted in found
        if counted.open
    ]
    return render(
        request,
        "agreement.html.j2",
        task=place.task,
        kappas=kappas(reads, evaluate),
        dices=dices(reads, evaluate),
        differences=differences(reads, evaluate),
        cines=len(reads),
        unknown=sum(read.patient == read.source for read in reads),
        waiting=waiting,
        decided=sum(len(counted.decided) for _, counted in found),
        said=said or [],
        can_write={"place": place.drop is not None, "deliver": work.store.is_dir() or _inbox(place) is not None},
    )


def _waiting(work: Labelled, account: Account, source: str, counted: Counted) -> dict[str, Any]:
    """Whether the account may decide on a cine, and why its annotators disagree. Who labels the cine could guess the
    other answer from the reasons, so she does not get them."""
    may = may_see(account.name, True, work.study(source), work.events[source]).adjudicate
    return {"may": may, "reasons": [f"{case.title}: {case.reason}" for case in counted.open] if may else []}


def _without_folders(text: str, place: Place) -> str:
    for folder, shown in ((place.drop, "the drop"), (place.workspace, "the workspace")):
        text = text.replace(str(folder), shown) if folder else text
    return text


def _inbox(place: Place) -> Path | None:
    """The inbox of the task, if it is a folder of this machine."""
    inbox = place.settings.block(place.task).retrain.inbox
    return place.workspace / inbox if inbox and not is_url(inbox) else None
