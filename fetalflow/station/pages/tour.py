"""The tour: the first ten cines of somebody who has never labelled here, with one sentence at a time."""

from fastapi import APIRouter, Request, Response

from fetalflow.station.access import Here, Signed, render
from fetalflow.station.pages.labelling import waiting_for

router = APIRouter()
CINES = 10


@router.get("/tour")
def tour(request: Request, account: Signed, place: Here) -> Response:
    """What the tour is, how far the account is, and the way in."""
    request.app.state.audit.write(account.name, "view tour")
    done = len(place.journal.done(place.task, account.name))
    left = len(waiting_for(place, account, place.task))
    goal = min(CINES, done + left)
    return render(request, "tour.html.j2", done=min(done, goal), goal=goal, task=place.task)
