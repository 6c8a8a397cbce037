"""What to label next, and the page of stills: one key a picture."""

from collections.abc import Iterator
from typing import Annotated, Any

import pandas as pd
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from fetalflow.annotation.checking import kinds_of, offered
from fetalflow.annotation.standing import standing
from fetalflow.annotation.studies import ALL, studies, study_of
from fetalflow.errors import InputError
from fetalflow.station.access import Here, Signed, render
from fetalflow.station.accounts import Account
from fetalflow.station.catalogue import Catalogue
from fetalflow.station.looked import note_look
from fetalflow.station.pages.marks import still_id
from fetalflow.station.place import Place

router = APIRouter()
After = Annotated[str, Query(pattern=r"^([0-9a-f]{64})?$")]
AT_ONCE = 20  # stills that the page of stills gets at once: some may have to be decoded first


@router.get("/labelling")
def begin(account: Signed, place: Here) -> Response:
    """Lead to the stills of the station's task, or to its first cine that the account has not submitted."""
    for source, frames in _readable(place, account, place.task):
        if frames == 1 and kinds_of(place.task) == ("span",):
            return RedirectResponse(f"/labelling/{place.task}", 303)
        return RedirectResponse(f"/cine/{source}", 303)
    return RedirectResponse("/cines", 303)


@router.get("/labelling/{task}")
def stills_page(request: Request, account: Signed, place: Here, task: str) -> Response:
    """Stills one after another, each labelled by one key."""
    labels = offered(Catalogue(place).labels(task))
    request.app.state.audit.write(account.name, "view stills to label", task)
    return render(request, "stills.html.j2", facts={"task": task, "labels": labels})


@router.get("/labelling/{task}/next")
def next_cine(account: Signed, place: Here, task: str, after: After = "") -> dict[str, str | None]:
    """The next cine that the account has not submitted; null if there is none."""
    return {"source": next((source for source, _ in _readable(place, account, task, after)), None)}


@router.get("/labelling/{task}/stills")
def next_stills(request: Request, account: Signed, place: Here, task: str, after: After = "") -> dict[str, Any]:
    """The account, and the next stills that it has not submitted, at most AT_ONCE: source, digest of the frame, name,
    id, and its mark, if there is one; `left`: how many cines and stills wait; `cine`: one with several frames."""
    catalogue, stills, cines = Catalogue(place), [], []
    for source, frames in _readable(place, account, task, after):
        if frames > 1:
            cines.append(source)
        else:
            found = catalogue.cine(source, task)
            marks = standing(place.journal.events(task, source, account.name))
            note_look(request, account, "view still", source)
            facts = {"source": source, "digest": found.record["digest"], "name": found.name}
            facts |= {"id": still_id(account, task, source)}
            stills.append(facts | {"mark": marks[0].model_dump(mode="json") if marks else None})
        if len(stills) == AT_ONCE or len(cines) == 2 * AT_ONCE:
            break
    left = len(waiting_for(place, account, task, after))
    return {"account": account.name, "stills": stills, "left": left, "cine": cines[0] if cines else None}


def _readable(place: Place, account: Account, task: str, after: str = "") -> Iterator[tuple[str, int]]:
    """What waits and can be decoded: source and number of frames. Nobody can label what cannot be decoded."""
    catalogue = Catalogue(place)
    for source in waiting_for(place, account, task, after)["source"]:
        try:
            yield source, catalogue.frames(source, task).shape[0]
        except InputError:
            continue


def waiting_for(place: Place, account: Account, task: str, after: str = "") -> pd.DataFrame:
    """The rows of the catalogue that the account is to label and has not submitted, in the order of the list from
    `after` on, which is left out. First come those that are like it: without labels, or with labels from the drop."""
    table = Catalogue(place).rows()
    table = table[table["task"] == task].reset_index(drop=True)
    found = studies(place.journal.events(task, ALL))
    unlabelled = table["state"].map(lambda states: "unlabelled" in states).astype(bool)
    done = place.journal.done(task, account.name)
    named = [
        not (accounts := study_of(found, source, unlabelled=is_bare).accounts) or account.name in accounts
        for source, is_bare in zip(table["source"], unlabelled, strict=True)
    ]
    at = table.index[table["source"] == after]
    position = int(at[0]) if len(at) else -1
    alike = unlabelled == (unlabelled[position] if position >= 0 else True)
    turn = (table.index.to_series() - position - 1) % max(1, len(table))
    order = pd.DataFrame({"other": ~alike, "turn": turn}).sort_values(["other", "turn"]).index
    keep = pd.Series(named, index=table.index, dtype=bool) & ~table["source"].isin(done) & (table["source"] != after)
    return table.loc[[row for row in order if keep[row]]]
