"""Marks for other labelling programs, and theirs: Label Studio, CVAT, COCO."""

import io
import zipfile
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response, UploadFile

from fetalflow.annotation.exchange.folder import FORMATS, texts
from fetalflow.errors import InputError
from fetalflow.station.access import Here, Lead, render
from fetalflow.station.exchanged import marked_cines, take_in

router = APIRouter()


@router.get("/exchange")
def exchange_page(request: Request, account: Lead, place: Here) -> Response:
    """Both forms."""
    request.app.state.audit.write(account.name, "view exchange")
    return render(request, "exchange.html.j2", tasks=list(place.settings.tasks), formats=FORMATS, said="", problem="")


@router.get("/exchange/{task}/{form}")
def give(request: Request, account: Lead, place: Here, task: str, form: str, predictions: bool = False) -> Response:
    """The files of a format as one zip, without pictures. `fetalflow station give` writes them with pictures."""
    place.settings.block(task)
    catalogue = request.app.state.catalogue
    files, said = texts(form, marked_cines(place, catalogue, task, predictions), catalogue.labels(task))
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
) -> Response:
    """Read a file, and say how many marks it holds, or what is wrong with it."""
    place.settings.block(task)
    said, problem, status = "", "", 200
    try:
        text = file.file.read().decode()
        state = request.app.state
        count = take_in(place, state.catalogue, task, form, text, state.accounts.list())
        said = f"{count} marks were read. Marks that were here before are not doubled."
        request.app.state.audit.write(account.name, "take marks", f"{task} as {form}", marks=count)
    except UnicodeDecodeError:
        problem, status = "The file is no text in UTF-8. Give the exported JSON or XML file itself, not a zip.", 422
    except InputError as error:
        problem, status = str(error), 422
    page = {"tasks": list(place.settings.tasks), "formats": FORMATS, "said": said, "problem": problem}
    return render(request, "exchange.html.j2", status, **page)
