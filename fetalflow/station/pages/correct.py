"""Say of an answer of the network whether it is right, and if not, what is right."""

from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, HTTPException, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from fetalflow.annotation.annotation import Annotation, Span
from fetalflow.annotation.checking import Canvas, check_mark
from fetalflow.annotation.corrections import ORIGINS, TESTED, accuracy_in_use, correct, judged
from fetalflow.annotation.standing import standing
from fetalflow.artefacts import read_json
from fetalflow.errors import InputError
from fetalflow.hospital.drop.columns import LENGTHS
from fetalflow.station.access import Here, Signed, render
from fetalflow.station.accounts import Account
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
    cine, has_labels = _cine(request, account, place, source)
    work = Labelled(place, request.app.state.catalogue)
    said = {each.correction.about: each for each in judged(work.events.get(source, []))}
    model = model_of(place, cine.task)
    answers = [_shown(each, said, model, has_labels) for each in cine.predictions]
    known = {(each["origin"], each["model"], each["first"], each["last"]) for each in answers}
    others = [each for about, each in said.items() if about not in known]
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
    cine, _ = _cine(request, account, place, source)
    values = said.model_dump(exclude={"label"}) | {"model": said.model.strip() or model_of(place, cine.task)}
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


def _cine(request: Request, account: Account, place: Place, source: str) -> tuple[Cine, bool]:
    """The cine, and whether the account may see its labels. Raises 403 where a study hides the network from it."""
    cine = request.app.state.catalogue.cine(source)
    if cine.task != place.task:
        raise HTTPException(404, f"This station serves {place.task}; the cine is of {cine.task}.")
    sight, study = sight_of(place, account, cine)
    if not sight.network and account.name in study.accounts:
        raise HTTPException(403, "In this study you label without the network, so its answers are not shown to you.")
    return cine, sees_labels(account, sight, study)


def _shown(answer: dict[str, Any], said: dict[tuple, Any], model: str, has_labels: bool) -> dict[str, Any]:
    first, last = answer.get("first_frame", 0), answer.get("last_frame", 0)
    origin = "test" if answer.get("part", "test") == "test" else "predict"
    lengths = [
        f"{name.removesuffix('_mm').upper()} {value:.1f} mm"
        for name in LENGTHS
        if (value := answer.get(f"found_{name}")) is not None
    ]
    probability = answer.get("probabilities", {}).get(answer["y_pred"])
    judgement = said.get((origin, model, first, last))
    return {
        "first": first,
        "last": last,
        "origin": origin,
        "model": model,
        "answer": " ".join([answer["y_pred"], *lengths]),
        "label": answer["y_pred"],
        "probability": probability,
        "truth": answer["y_true"] if has_labels else "",
        "said": "" if judgement is None else "right" if judgement.correction.right else "wrong",
        "right": "" if judgement is None else ", ".join(sorted({m.label for m in judgement.correction.marks})),
    }


def _right(said: Said, account: Account, place: Place, cine: Cine) -> list[Annotation]:
    """The marks that say what is right."""
    if said.label == MINE:
        drawn = standing(place.journal.events(cine.task, cine.source, account.name))
        found = [m for m in drawn if said.first_frame <= m.first_frame and m.last_frame <= said.last_frame]
        if not found:
            raise InputError(
                f"you have no marks on frames {said.first_frame} to {said.last_frame}. Draw on the page of the cine "
                "what is right, or choose a label."
            )
        return found
    if not said.label:
        return []
    return [Span(id=uuid4().hex, label=said.label, first_frame=said.first_frame, last_frame=said.last_frame)]


def model_of(place: Place, task: str) -> str:
    """Name and version of the model that this workspace registered, or its main variant."""
    path = place.workspace / "reports" / task / "registered.json"
    if path.is_file():
        found = read_json(path)
        return f"{found['name']} {found['version']}"
    return f"{place.settings.tasks[task].variant} (not registered)"
