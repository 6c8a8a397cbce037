"""The pictures of a cine for the player: blocks of JPEG while it plays, one PNG for a frame at rest."""

from typing import Annotated, Literal

import numpy as np
from fastapi import APIRouter, HTTPException, Path, Request, Response

from fetalflow.station.access import Here, Signed
from fetalflow.station.accounts import Account
from fetalflow.station.catalogue import Catalogue
from fetalflow.station.frames import BLOCK, frames_of, jpeg, packed, picture, png
from fetalflow.station.looked import note_look
from fetalflow.station.place import Place

router = APIRouter()
Source = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]
View = Literal["masked", "recorded", "difference"]
# The address holds the digest of the frames, so an answer never gets old. It stays in this browser for an hour: long
# enough for playing again and again, and short enough for a workplace that several people share.
KEPT = {"Cache-Control": "private, max-age=3600, immutable"}


@router.get("/frames/{source}/{digest}/{view}/block/{number}")
def block(
    request: Request, account: Signed, place: Here, source: Source, digest: str, view: View, number: int
) -> Response:
    """BLOCK frames from frame number * BLOCK on as JPEG (`station.frames.packed`)."""
    frames, blanked = _frames(request, account, place, source, digest, view)
    first = number * BLOCK
    if not 0 <= first < len(frames):
        raise HTTPException(404, f"The cine has {len(frames)} frames.")
    pictures = [jpeg(picture(frame, blanked)) for frame in frames[first : first + BLOCK]]
    return Response(packed(pictures), media_type="application/octet-stream", headers=KEPT)


@router.get("/frames/{source}/{digest}/{view}/{number}.png")
def still(
    request: Request, account: Signed, place: Here, source: Source, digest: str, view: View, number: int
) -> Response:
    """One frame with its true pixels."""
    frames, blanked = _frames(request, account, place, source, digest, view)
    if not 0 <= number < len(frames):
        raise HTTPException(404, f"The cine has {len(frames)} frames.")
    return Response(png(picture(frames[number], blanked)), media_type="image/png", headers=KEPT)


def _frames(
    request: Request, account: Account, place: Place, source: str, digest: str, view: str
) -> tuple[np.ndarray, np.ndarray | None]:
    catalogue = Catalogue(place)
    cines = (catalogue.cine(source, task, with_tables=False) for task in catalogue.tasks_of(source))
    # Tasks may read one file with different settings: the digest says which of their frames are meant.
    cine = next((each for each in cines if each.record.get("digest") == digest), None)
    if cine is None:
        raise HTTPException(404, "The frames of this cine were made again. Load the page again.")
    frames = frames_of(catalogue, source, cine.task, view)
    note_look(request, account, f"view frames, {view}", source)
    return frames
