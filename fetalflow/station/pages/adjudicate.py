"""A third person decides where two annotators of a cine disagree: their answers side by side, without their names."""

from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Path, Request, Response
from fastapi.responses import RedirectResponse

from fetalflow.annotation.adjudication import DRAWN, NOTHING, Case, decide
from fetalflow.annotation.standing import standing
from fetalflow.annotation.studies import may_see, note_seen
from fetalflow.station.access import Adjudicator, Here, render
from fetalflow.station.accounts import Account
from fetalflow.station.compared import bars, in_words, letters, picture, strip
from fetalflow.station.labelled import Labelled
from fetalflow.station.place import Place

router = APIRouter()
Source = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]


@router.get("/adjudicate/{source}")
def adjudicate_page(request: Request, account: Adjudicator, place: Here, source: Source) -> Response:
    """The open cases of a cine, and the decisions on it. The account then has seen the marks of the annotators."""
    work = _work(request, account, place, source)
    cine, counted = work.cine(source), work.counted(source)
    if counted.open or counted.decided:
        note_seen(place.journal, place.task, source, account.name)
    mm = cine.record.get("mm_per_px")
    cases = []
    for case in counted.open:
        of = letters(case.marks, source)
        sides = [
            {"letter": of[name], "words": in_words(case.marks[name], mm), "bars": bars(case, case.marks[name])}
            for name in sorted(case.marks, key=of.get)
        ]
        mine = [m for m in standing(place.journal.events(place.task, source, account.name)) if case.holds(m)]
        cases.append({"case": case, "sides": sides, "mine": in_words(tuple(mine), mm) if mine else []})
    decided = [
        {"case": case, "who": who, "why": decision.why, "words": in_words(decision.marks, mm)}
        for case, who, decision in counted.decided
    ]
    request.app.state.audit.write(account.name, "view adjudication", source, task=place.task, cases=len(cases))
    values = {"cine": cine, "cases": cases, "decided": decided, "drawn": DRAWN, "nothing": NOTHING}
    return render(request, "adjudicate.html.j2", **values, following=_next(work, account, source))


@router.get("/adjudicate/{source}/picture")
def adjudicate_picture(
    request: Request, account: Adjudicator, place: Here, source: Source, case: str, side: str = ""
) -> Response:
    """PNG: the frames of a case with the marks of one side; without a side, the frames alone."""
    work = _work(request, account, place, source)
    found = _case(work, source, case)
    frames = work.catalogue.frames(source, place.task)
    if not side:
        return Response(strip(frames, found), media_type="image/png")
    named = {letter: name for name, letter in letters(found.marks, source).items()}
    if side not in named:
        raise HTTPException(404, "This case has no such side.")
    return Response(picture(frames, found, found.marks[named[side]]), media_type="image/png")


@router.post("/adjudicate/{source}")
def decide_case(
    request: Request,
    account: Adjudicator,
    place: Here,
    source: Source,
    case: Annotated[str, Form()],
    about: Annotated[str, Form()],
    choice: Annotated[str, Form()],
    why: Annotated[str, Form(max_length=2000)] = "",
) -> Response:
    """Decide one case. choice: a letter, or one of DRAWN and NOTHING."""
    work = _work(request, account, place, source)
    found = _case(work, source, case)
    if found.about != about:
        raise HTTPException(409, "An annotator changed these marks in the meantime. Load the page and look again.")
    named = {letter: name for name, letter in letters(found.marks, source).items()}
    drawn = standing(place.journal.events(place.task, source, account.name))
    decide(place.journal, place.task, source, account.name, found, named.get(choice, choice), why, drawn)
    request.app.state.audit.write(account.name, "decide", source, task=place.task, case=case)
    return RedirectResponse(f"/adjudicate/{source}", 303)


def _work(request: Request, account: Account, place: Place, source: str) -> Labelled:
    """The work of the station. Raises 403 where the account labels this cine."""
    work = Labelled(place, request.app.state.catalogue)
    if not may_see(account.name, True, work.study(source), work.events.get(source, [])).adjudicate:
        raise HTTPException(403, f"{account.name} labels this cine and cannot decide on it. A third person must.")
    return work


def _case(work: Labelled, source: str, key: str) -> Case:
    found = next((case for case in work.counted(source).open if case.key == key), None)
    if found is None:
        raise HTTPException(404, "This disagreement is not open any more. Load the page again.")
    return found


def _next(work: Labelled, account: Account, source: str) -> str:
    """Another cine with an open case that the account may decide, or ""."""
    for read, counted in work.read_by_several():
        may = may_see(account.name, True, work.study(read.source), work.events[read.source]).adjudicate
        if counted.open and may and read.source != source:
            return read.source
    return ""
