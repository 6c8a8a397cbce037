"""Marks for other labelling programs, and theirs: Label Studio, CVAT, COCO."""

import io
import zipfile
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Request, Response, UploadFile

from fetalflow.annotation.exchange.folder import FORMATS, texts
from fetalflow.annotation.studies import ALL, note_seen, studies
from fetalflow.errors import InputError
from fetalflow.station.access import Here, Lead, render
from fetalflow.station.exchanged import given, people_of, take_in
from fetalflow.station.place import Place

router = APIRouter()


@router.get("/exchange")
def exchange_page(request: Request, account: Lead, place: Here) -> Response:
    """Both forms."""
    request.app.state.audit.write(account.name, "view exchange")
    return _page(request, place)


@router.get("/exchange/{task}/{form}")
def give(request: Request, account: Lead, place: Here, task: str, form: str, predictions: bool = False) -> Response:
    """The files of a format as one zip, without pictures. `fetalflow station give` writes them with pictures.

    Whoever takes the marks of others out has seen them. Raises HTTPException 403 where a study of the account hides
    them, or the network's answers.
    """
    place.settings.block(task)
    for study in studies(place.journal.events(task, ALL)):
        if account.name in study.accounts and (study.blind or (predictions and not study.network)):
            raise HTTPException(
                403, f"You label in the study {study.name!r}, which hides this from you. Another lead can take it out."
            )
    catalogue = request.app.state.catalogue
    found = given(place, catalogue, task, predictions)
    for each in found.marked:
        if not each.predicted and each.annotator != account.name:
            note_seen(place.journal, task, each.cine.source, account.name)
    files, said = texts(form, found.marked, catalogue.labels(task))
    said = [*found.said, *said]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        if said:
            archive.writestr("left-out.txt", "\n".join(said) + "\n")
    request.app.state.audit.write(account.name, "give marks", f"{task} as {form}", predictions=predictions)
    headers = {"Content-Disposition": f'attachment; filename="{task}-{form}.zip"'}
    return Response(packed.getvalue(), media_type="application/zip", headers=headers)


@router.post("/exchange")
def take(
    request: Request,
    account: Lead,
    place: Here,
    task: Annotated[str, Form()],
    form: Annotated[str, Form()],
    file: UploadFile,
    people: Annotated[str, Form()] = "",
    submit: Annotated[bool, Form()] = False,
) -> Response:
    """Read a file, and say how many marks it holds, or what is wrong with it. people, submit: see `exchanged`."""
    state = request.app.state
    chosen = {"task": task, "form": form, "people": people, "submit": submit}
    try:
        place.settings.block(task)
        content, names = file.file.read(), people_of(people.split(","))
        taken = take_in(place, state.catalogue, task, form, content, state.accounts.list(), names, submit)
    except InputError as error:
        return _page(request, place, 422, problem=state.catalogue.sentence(str(error)), chosen=chosen)
    state.audit.write(account.name, "take marks", f"{task} as {form}", marks=taken.written, submitted=taken.done)
    return _page(request, place, said=" ".join(taken.words()), chosen=chosen)


def _page(
    request: Request, place: Place, status: int = 200, said: str = "", problem: str = "", chosen: Mapping[str, Any] = {}
) -> Response:
    """The page, with what was chosen in the form before."""
    chosen = {"task": place.task, "form": "", "people": "", "submit": False} | dict(chosen)
    page = {"tasks": list(place.settings.tasks), "formats": FORMATS, "chosen": chosen}
    return render(request, "exchange.html.j2", status, said=said, problem=problem, **page)
