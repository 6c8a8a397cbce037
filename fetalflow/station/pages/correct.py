"""Say of an answer of the network whether it is right, and if not, what is right."""

from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, HTTPException, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from fetalflow.annotation.annotation import Annotation, Span
from fetalflow.annotation.checking import Canvas, check_mark
from fetalflow.annotation.corrections import ORIGINS, TESTED, accuracy_in_use, correct, judged
from fetalflow.annotation.standing import standing, submitted
from fetalflow.annotation.studies import Sight, note_seen
from fetalflow.errors import InputError
from fetalflow.station.access import Here, Signed, render
from fetalflow.station.accounts import Account
from fetalflow.station.answered import answers_of, registered_model
from fetalflow.station.catalogue import Cine
from fetalflow.station.labelled import Labelled
from fetalflow.station.place import Place
from fetalflow.station.sight import sees_labels, sight_of

router = APIRouter()
Source = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]
MINE = "(my marks)"  # what is right is what the account drew on these frames


class Said(BaseModel):
    """One judgement. label: what is right, a label or MINE; of a right answer it may be left out."""

    model_config = ConfigDict(extra="forbid")

    origin: str = "test"
    model: str = ""
    first_frame: Annotated[int, Field(ge=0)]
    last_frame: Annotated[int, Field(ge=0)]
    answer: str
    right: bool
    label: Annotated[str, Field(max_length=200)] = ""
    why: Annotated[str, Field(max_length=2000)] = ""


@router.get("/correct/{source}")
def correct_page(request: Request, account: Signed, place: Here, source: Source) -> Response:
    """The answers of the main network on a cine, what was said of them, and the form."""
    cine, sight, has_labels = _cine(request, account, place, source)
    work = Labelled(place, request.app.state.catalogue)
    said = {each.correction.about: each for each in judged(work.events.get(source, []))}
    mine = {about: each for about, each in said.items() if sight.marks or each.account == account.name}
    if any(each.account != account.name for each in mine.values()):
        note_seen(place.journal, cine.task, source, account.name)
    found = answers_of(place, cine)
    answers = [each.shown(mine, said, has_labels) for each in found]
    others = [each for about, each in mine.items() if about not in {answer.about for answer in found}]
    model = registered_model(place, cine.task)
    request.app.state.audit.write(account.name, "view answers", source, task=cine.task)
    facts = {"source": source, "task": cine.task, "model": model, "answers": answers}
    labels = request.app.state.catalogue.labels(cine.task)
    return render(
        request,
        "correct.html.j2",
        cine=cine,
        facts=facts,
        others=others,
        labels=labels,
        origins=ORIGINS,
        mine=MINE,
        tested=work.side(source) == TESTED,
        has_labels=has_labels,
    )


@router.post("/correct/{source}")
def judge(request: Request, account: Signed, place: Here, source: Source, said: Said) -> dict[str, Any]:
    """Write one judgement. Answers with `of_truth`: whether the patient is tested, so that nothing trains on it."""
    cine, _, _ = _cine(request, account, place, source)
    values = said.model_dump(exclude={"label"}) | {"model": said.model.strip() or registered_model(place, cine.task)}
    frames, height, width = request.app.state.catalogue.frames(source, cine.task).shape
    labels = request.app.state.catalogue.labels(cine.task)
    if said.last_frame >= frames:
        raise InputError(f"the answer ends with frame {said.last_frame}; the cine has the frames 0 to {frames - 1}.")
    marks = _right(said, account, place, cine)
    for mark in marks:
        check_mark(mark, Canvas(cine.task, labels, frames, height, width))
    values["marks"] = [mark.model_dump(mode="json") for mark in marks]
    work = Labelled(place, request.app.state.catalogue)
    written = correct(place.journal, cine.task, source, account.name, values, work.side(source))
    action = "correct the truth" if written.of_truth else "correct an answer"
    request.app.state.audit.write(account.name, action, source, task=cine.task, right=said.right)
    return {"of_truth": written.of_truth, "time": written.time}


@router.get("/in-use")
def in_use(request: Request, account: Signed, place: Here) -> Response:
    """How often the answers that people judged were right."""
    work = Labelled(place, request.app.state.catalogue)
    found = judged(event for events in work.events.values() for event in events)
    evaluate = place.settings.block(place.task).evaluate
    rows = accuracy_in_use(found, work.patients, evaluate.bootstrap, evaluate.confidence, evaluate.seed)
    request.app.state.audit.write(account.name, "view accuracy in use", place.task)
    return render(request, "in_use.html.j2", task=place.task, rows=rows)


def _cine(request: Request, account: Account, place: Place, source: str) -> tuple[Cine, Sight, bool]:
    """The cine, what the account may see of it, and whether that includes its labels. Raises 403 where the account is
    to label the cine without the network, and has not yet."""
    cine = request.app.state.catalogue.cine(source)
    if cine.task != place.task:
        raise HTTPException(404, f"This station serves {place.task}; the cine is of {cine.task}.")
    sight, study = sight_of(place, account, cine)
    if not sight.network and account.name in study.accounts:
        raise HTTPException(403, "In this study you label without the network, so its answers are not shown to you.")
    is_blind = not sight.network and sight.label and not account.may("adjudicator")
    if is_blind and not submitted(place.journal.events(cine.task, source, account.name)):
        raise HTTPException(403, "Label this cine and submit it first. Then the network's answers are shown here.")
    return cine, sight, sees_labels(account, sight, study)


def _right(said: Said, account: Account, place: Place, cine: Cine) -> list[Annotation]:
    """The marks that say what is right."""
    if said.label == MINE:
        drawn = standing(place.journal.events(cine.task, cine.source, account.name))
        found = [part for mark in drawn if (part := _inside(mark, said.first_frame, said.last_frame))]
        if not found:
            raise InputError(
                f"you have no marks on frames {said.first_frame} to {said.last_frame}. Draw on the page of the cine "
                "what is right, or choose a label."
            )
        return found
    if not said.label:
        return []
    return [Span(id=uuid4().hex, label=said.label, first_frame=said.first_frame, last_frame=said.last_frame)]


def _inside(mark: Annotation, first: int, last: int) -> Annotation | None:
    """The part of a mark that lies on the frames of an answer; a span may begin before it and end after it."""
    begin, end = max(mark.first_frame, first), min(mark.last_frame, last)
    return mark.model_copy(update={"first_frame": begin, "last_frame": end}) if begin <= end else None
