"""What the page draws over a cine: the network's answers, where it looks, what it measures, and marks of others."""

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Request, Response

from fetalflow.annotation.standing import standing_by_account
from fetalflow.annotation.studies import annotators, note_seen
from fetalflow.station.access import Here, Signed
from fetalflow.station.accounts import Account
from fetalflow.station.catalogue import Catalogue, Cine
from fetalflow.station.compared import letters
from fetalflow.station.network.answers import answer_of
from fetalflow.station.network.maps import map_of
from fetalflow.station.network.measured import measured_of
from fetalflow.station.place import Place
from fetalflow.station.sight import sees_labels, sight_of

router = APIRouter()
Source = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]


@router.get("/overlays/{task}/{source}/answer")
def answer(request: Request, account: Signed, place: Here, task: str, source: Source) -> dict[str, Any]:
    """The label, its probability, the set and the unfamiliarity of each window (`network.answers.answer_of`)."""
    catalogue, cine = _shown(request, account, place, task, source, "view the network's answer")
    return answer_of(catalogue, cine)


@router.get("/overlays/{task}/{source}/map/{frame}")
def attribution(request: Request, account: Signed, place: Here, task: str, source: Source, frame: int) -> Response:
    """Where the network looks in the window that holds the frame (`network.maps.map_of`)."""
    catalogue, cine = _shown(request, account, place, task, source, "view the network's map")
    return Response(map_of(catalogue, cine, frame), media_type="application/octet-stream")


@router.get("/overlays/{task}/{source}/measured")
def measured(request: Request, account: Signed, place: Here, task: str, source: Source) -> dict[str, Any]:
    """Outlines, ellipses, calipers and lengths (`network.measured.measured_of`)."""
    catalogue, cine = _shown(request, account, place, task, source, "view the network's measurement")
    return measured_of(catalogue, cine)


@router.get("/overlays/{task}/{source}/marks")
def marks(request: Request, account: Signed, place: Here, task: str, source: Source) -> list[dict[str, Any]]:
    """The marks of the other accounts that hold, with `account`, in the words of `annotation.annotation`.

    Who decides between blind annotators gets their letters of the page of decisions, `A` or `B`, and no names.
    """
    cine = Catalogue(place).cine(source, task)
    sight, study = sight_of(place, account, cine)
    if not sight.marks:
        raise HTTPException(403, "The marks of others are hidden here, so that each person labels without them.")
    note_seen(place.journal, task, source, account.name)
    request.app.state.audit.write(account.name, "view marks of others", source, task=task)
    events = place.journal.events(task, source)
    pairs = [(name, mark) for name, mark in standing_by_account(events) if name != account.name]
    shown = {name: name for name, _ in pairs}
    if study.blind:
        known = letters(annotators(events, study), source)
        shown = known | {
            name: f"not submitted {letter}" for name, letter in letters(shown, source).items() if name not in known
        }
    return [mark.model_dump(mode="json") | {"account": shown[name]} for name, mark in pairs]


def _shown(
    request: Request, account: Account, place: Place, task: str, source: str, action: str
) -> tuple[Catalogue, Cine]:
    """The cine, where the account may see the network's answer, with an audit line."""
    catalogue = Catalogue(place)
    cine = catalogue.cine(source, task)
    sight, study = sight_of(place, account, cine)
    if not sight.network:
        raise HTTPException(403, "The network's answer is hidden here, so that it leads nobody who labels this cine.")
    request.app.state.audit.write(account.name, action, source, task=task)
    if not sees_labels(account, sight, study):
        # What the run predicted are windows within the labels of the drop: they would tell where these begin and end.
        cine = replace(cine, predictions=[])
    return catalogue, cine
