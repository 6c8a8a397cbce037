"""Studies: a lead says who labels which cines, and what they see meanwhile."""

import re
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import ValidationError

from fetalflow.annotation.studies import ALL, Study, studies, write_study
from fetalflow.errors import InputError
from fetalflow.station.access import Here, Lead, render

router = APIRouter()
DIGITS = re.compile(r"\b[0-9a-f]{12,64}\b")


@router.get("/studies")
def studies_page(request: Request, account: Lead, place: Here) -> Response:
    """The studies that hold, and the form of a new one."""
    request.app.state.audit.write(account.name, "view studies", place.task)
    found = studies(place.journal.events(place.task, ALL))
    table = request.app.state.catalogue.rows()
    table = table[table["task"] == place.task]
    unlabelled = table.loc[~table["labels"].map(bool), "source"]
    accounts = request.app.state.accounts.list()
    values = {"studies": found[::-1], "accounts": accounts, "cines": len(table), "unlabelled": len(unlabelled)}
    return render(request, "studies.html.j2", task=place.task, **values)


@router.post("/studies")
def make_study(
    request: Request,
    account: Lead,
    place: Here,
    name: Annotated[str, Form()],
    which: Annotated[str, Form()],
    accounts: Annotated[list[str] | None, Form()] = None,
    sources: Annotated[str, Form(max_length=1_000_000)] = "",
    blind: Annotated[str, Form()] = "",
    network: Annotated[str, Form()] = "",
    least_dice: Annotated[float, Form()] = 0.9,
    most_percent: Annotated[float, Form()] = 5.0,
    why: Annotated[str, Form()] = "",
) -> Response:
    """Begin a study or change the one of this name. which: `all`, `unlabelled` (as of now), or `these`, whose SHA-256,
    or 12 and more of their digits, are in `sources`."""
    known = {each.name for each in request.app.state.accounts.list()}
    if odd := sorted(set(accounts or []) - known):
        raise InputError(f"no open account is called {', '.join(odd)}.")
    table = request.app.state.catalogue.rows()
    table = table[table["task"] == place.task]
    chosen: list[str] = []
    if which == "unlabelled":
        chosen = table.loc[~table["labels"].map(bool), "source"].tolist()
    elif which == "these":
        chosen = _chosen(sources, table["source"].tolist())
    elif which != "all":
        raise InputError(f"a study is of `all`, `unlabelled` or `these` cines, not {which!r}.")
    if which != "all" and not chosen:
        raise InputError("the study has no cine. Give their digits, one a line, or choose all cines.")
    said = {
        "name": name.strip(),
        "accounts": tuple(accounts or ()),
        "sources": tuple(sorted(chosen)),
        "why": why.strip(),
    }
    said |= {"blind": bool(blind), "network": bool(network), "least_dice": least_dice, "most_percent": most_percent}
    try:
        study = Study(**said)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"the study is not whole: {'.'.join(map(str, first['loc']))}: {first['msg']}.") from None
    write_study(place.journal, place.task, account.name, study)
    request.app.state.audit.write(account.name, "write study", study.name, task=place.task, accounts=study.accounts)
    return RedirectResponse("/studies", 303)


def _chosen(text: str, known: list[str]) -> list[str]:
    """The cines that a text names. Raises InputError where digits fit none, or several."""
    found = []
    for digits in DIGITS.findall(text):
        fitting = [source for source in known if source.startswith(digits)]
        if len(fitting) != 1:
            raise InputError(f"the digits {digits[:12]} fit {len(fitting)} cines of this task, not one.")
        found += fitting
    return list(dict.fromkeys(found))
