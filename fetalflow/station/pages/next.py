"""What to look at next: a list in the order of what teaches most, with the reason on each cine."""

from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any, Literal

import pandas as pd
from fastapi import APIRouter, Path, Query, Request, Response

from fetalflow.annotation.studies import ALL, Study, studies, study_of
from fetalflow.station.access import Here, Signed, render
from fetalflow.station.accounts import Account
from fetalflow.station.next_queue import CHECK, LABEL, NextQueue
from fetalflow.station.place import Place

router = APIRouter()
SHOWN = 100  # rows of the page; what was done leaves the list
SECONDS = 3.0  # that one request lets the networks answer
HIDDEN = "The study that this cine belongs to hides the reason, so that it leads nobody who labels."
BARE = "Nothing is known of it yet."


@router.get("/next")
def next_page(
    request: Request, account: Signed, place: Here, only: Annotated[Literal["", "label", "check"], Query()] = ""
) -> Response:
    """The list, or only the cines to label or the labels to check."""
    rows, notes = _queue(request, place).ordered()
    shown: list[dict[str, Any]] = []
    for row, listed, study in islice(_waiting(request, account, place, only), SHOWN):
        facts = {"source": row["source"], "name": listed["name"], "patient": listed["patient"], "kind": row["kind"]}
        reasons = [request.app.state.catalogue.sentence(text) for text in _words(account, row, study)]
        shown.append(facts | {"reasons": reasons})
    request.app.state.audit.write(account.name, "view what to look at next", place.task)
    notes = [request.app.state.catalogue.sentence(note) for note in notes]
    total = int((rows["kind"] == only).sum()) if only else len(rows)
    asks = {"task": place.task, "only": only}
    return render(request, "next.html.j2", rows=shown, notes=notes, only=only, asks=asks, check=CHECK, total=total)


@router.get("/next/after/{source}")
def after(
    request: Request, account: Signed, place: Here, source: Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]
) -> dict[str, str | None]:
    """The cine to label that comes after one in the order; the first one after the last, and null if none waits."""
    waiting = [row["source"] for row, _, _ in _waiting(request, account, place, LABEL)]
    at = waiting.index(source) + 1 if source in waiting else 0
    return {"source": next((each for each in (*waiting[at:], *waiting[:at]) if each != source), None)}


@router.post("/next/ask")
def ask(request: Request, account: Signed, place: Here) -> dict[str, Any]:
    """Let the networks answer some of the cines to label. `left` is 0 when there is nothing more to answer."""
    return _queue(request, place).ask(SECONDS)


def _waiting(
    request: Request, account: Account, place: Place, only: str
) -> Iterator[tuple[dict[str, Any], pd.Series, Study]]:
    """What waits for the account, in its order: the row of the queue, that of the catalogue, and the study."""
    rows, _ = _queue(request, place).ordered()
    rows = rows[rows["kind"] == only] if only else rows
    found = studies(place.journal.events(place.task, ALL))
    mine = place.journal.done(place.task, account.name)
    names = request.app.state.catalogue.rows().set_index(["task", "source"])
    for row in rows.to_dict("records"):
        is_listed = (place.task, row["source"]) in names.index
        if is_listed and row["source"] not in mine and _is_for(account, row, found):
            study = study_of(found, row["source"], unlabelled=row["kind"] == LABEL)
            yield row, names.loc[(place.task, row["source"])], study


def _queue(request: Request, place: Place) -> NextQueue:
    state = request.app.state
    if not hasattr(state, "next_queue"):
        state.next_queue = NextQueue(place, state.catalogue)
    return state.next_queue


def _is_for(account: Account, row: dict[str, Any], found: list[Study]) -> bool:
    """A cine to label is for the people of its study. A label to check is not for those who label that cine blind."""
    study = study_of(found, row["source"], unlabelled=row["kind"] == LABEL)
    if row["kind"] == LABEL:
        return not study.accounts or account.name in study.accounts
    return not (study.blind and account.name in study.accounts)


def _words(account: Account, row: dict[str, Any], study: Study) -> list[str]:
    """Why to look at it, in words that tell the account no more than the rules of the cine allow."""
    if study.network:
        return [reason.words for reason in row["reasons"]] or [BARE]
    if account.name in study.accounts:
        return [HIDDEN]
    return [reason.plain for reason in row["reasons"]] or [BARE]
