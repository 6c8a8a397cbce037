"""The list of cines: one page, its rows as JSON, and a small still of each cine."""

from typing import Annotated, Any

import cv2
import numpy as np
import pandas as pd
from fastapi import APIRouter, Path, Request, Response

from fetalflow.annotation.studies import ALL, studies, study_of
from fetalflow.errors import InputError
from fetalflow.hospital.arrival.journal import listing
from fetalflow.station.access import Here, Signed, render
from fetalflow.station.catalogue import STATES
from fetalflow.station.frames import png
from fetalflow.station.looked import note_look
from fetalflow.station.place import Place

router = APIRouter()
Source = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]
# States that tell what a blind study hides. A mistake is an answer that differs from the label, so it tells of both.
OF_LABELS, OF_NETWORK = {"disagreement", "mistake"}, {"mistake", "unfamiliar"}
STILL_PX = 96  # longest side of a small still
WORDS = {  # what a state is called on the page, and what it means
    "unlabelled": ("Not labelled", "a cine of a drop without labels"),
    "arrived": ("Arrived", "delivered, and not yet read by a run"),
    "quarantine": ("Quarantine", "a row of it is not used, and a person has to decide"),
    "disagreement": ("Annotators differ", "its annotators gave different labels or spans"),
    "mistake": ("Wrong answer", "the network gave a tested sequence of it a wrong label"),
    "unfamiliar": ("Unfamiliar", "the network finds a sequence of it unlike the training data"),
    "training": ("Training", "sequences of it are used to train or to choose the network"),
    "test": ("Test", "sequences of it are used to test the network only"),
}


@router.get("/cines")
def cines_page(request: Request, account: Signed) -> Response:
    """The page. Its filters are in the URL and are applied in the browser."""
    request.app.state.audit.write(account.name, "view list of cines")
    return render(request, "cines.html.j2", states={state: WORDS[state] for state in STATES})


@router.get("/cines/list")
def cines_list(request: Request, account: Signed, place: Here) -> dict[str, Any]:
    """Every cine: `columns`, and one list for each row in their order. fps and mm_per_px are null if not known. note:
    sentences on what nobody can look at yet, or ""."""
    catalogue = request.app.state.catalogue
    table, note = catalogue.rows(), " ".join(filter(None, [_in_the_inbox(place), *catalogue.problems()]))
    if table.empty:
        return {"columns": list(table.columns), "rows": [], "note": note}
    table = _blinded(table, place, account.name)
    shown = table.assign(
        labels=table["labels"].map(list),
        annotators=table["annotators"].map(list),
        state=table["state"].map(lambda states: [state for state in STATES if state in states]),
        fps=table["fps"].astype(object).where(table["fps"].notna(), None),
        mm_per_px=table["mm_per_px"].astype(object).where(table["mm_per_px"].notna(), None),
    )
    return {"columns": list(shown.columns), "rows": shown.to_numpy(dtype=object).tolist(), "note": note}


def _in_the_inbox(place: Place) -> str:
    """How many deliveries the last look into the inbox could not take. They may still be written, or hold names, so
    nothing of them is opened here."""
    stores = [place.workspace / block.retrain.store / task for task, block in place.settings.blocks.items()]
    looks = [look for look in map(listing, stores) if look["waiting"]]
    count = sum(len(look["waiting"]) for look in looks)
    if not count:
        return ""
    waits = "1 delivery waits" if count == 1 else f"{count} deliveries wait"
    return (
        f"{waits} in the inbox (last look: {max(look['looked'] for look in looks)}). The cines are listed when "
        "`fetalflow retrain` has taken them; `fetalflow arrivals` says why they wait."
    )


def _blinded(table: pd.DataFrame, place: Place, account: str) -> pd.DataFrame:
    """The list without what a study keeps from this account: labels of others, or the network's answers."""
    rows = table.copy()
    for task in table["task"].unique():
        found = studies(place.journal.events(task, ALL))
        if not any(account in study.accounts for study in found):
            continue
        for index in rows.index[rows["task"] == task]:
            study = study_of(found, rows.at[index, "source"])
            if account not in study.accounts:
                continue
            if study.blind:
                rows.at[index, "labels"], rows.at[index, "annotators"] = (), ()
                rows.at[index, "state"] = rows.at[index, "state"] - OF_LABELS
            if not study.network:
                rows.at[index, "state"] = rows.at[index, "state"] - OF_NETWORK
    return rows


@router.get("/cines/{task}/{source}/still")
def still(request: Request, account: Signed, task: str, source: Source) -> Response:
    """The middle frame as a small PNG; a crossed-out field where the cine cannot be shown. 503 while another cine is
    decoded: ask again later."""
    catalogue = request.app.state.catalogue
    if not catalogue.is_stored(source, task) and catalogue.is_decoding:
        return Response(status_code=503, headers={"Retry-After": "2"})
    try:
        frames = catalogue.frames(source, task)
    except InputError:
        return Response(png(_crossed()), media_type="image/png")
    note_look(request, account, "view still", source)
    return Response(png(_small(frames[len(frames) // 2])), media_type="image/png")


def _small(frame: np.ndarray) -> np.ndarray:
    """uint8 [H, W], at most STILL_PX high and wide, and at least one pixel."""
    scale = min(1.0, STILL_PX / max(frame.shape))
    height, width = (max(1, round(side * scale)) for side in frame.shape)
    return cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)


def _crossed() -> np.ndarray:
    """A crossed-out field, for a cine that cannot be shown; its page says why."""
    height, width = STILL_PX * 3 // 4, STILL_PX
    field = np.zeros((height, width), np.uint8)
    for ends in (((0, 0), (width - 1, height - 1)), ((0, height - 1), (width - 1, 0))):
        cv2.line(field, *ends, 110, 1)
    return field
