"""The first page after the log-in."""

from fastapi import APIRouter, Response
from fastapi.responses import RedirectResponse

from fetalflow.station.access import Signed

router = APIRouter()


@router.get("/")
def home(account: Signed) -> Response:
    """Lead to the list of cines."""
    return RedirectResponse("/cines", 303)
