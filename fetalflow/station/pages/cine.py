"""The page of one cine: its player, its time line and the tools beside it."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from fetalflow.cine.resampling import clock_of, frame_step
from fetalflow.cine.windows import windows
from fetalflow.errors import InputError
from fetalflow.settings.params import Extract
from fetalflow.station.access import Here, Signed, render
from fetalflow.station.catalogue import Catalogue, Cine
from fetalflow.station.frames import BLOCK, may_show_recorded, sector_outline
from fetalflow.station.network.asking import model_of
from fetalflow.station.place import Place
from fetalflow.station.scale import mm_per_px
from fetalflow.station.sight import sees_labels, sight_of

router = APIRouter()


@router.get("/cine/{source}")
def cine_page(
    request: Request,
    account: Signed,
    place: Here,
    source: Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")],
    task: str | None = None,
) -> Response:
    """The player, or the sentence that says why there is none. task: of the cine, where several tasks have it."""
    catalogue = Catalogue(place)
    cine = catalogue.cine(source, task)
    sight, study = sight_of(place, account, cine)
    has_labels = sees_labels(account, sight, study)
    facts: dict[str, Any] = {"name": cine.name, "about": _about(cine, has_labels)}
    try:
        catalogue.frames(source, cine.task)
        facts |= _facts(catalogue, cine, place.settings.block(cine.task).extract, has_labels)
        refused = ""
    except InputError as error:
        refused = str(error)
    facts |= _about_network(place, cine)
    facts |= {"account": account.name, "may_see": {"network": sight.network, "marks": sight.marks}}
    facts["rows"] = cine.rows if has_labels else []
    facts["quarantined"] = cine.quarantined if has_labels else []
    request.app.state.audit.write(account.name, "view cine", source, task=cine.task)
    return render(request, "cine.html.j2", facts=facts, refused=refused)


def _about(cine: Cine, has_labels: bool) -> str:
    """Who and where, in a line."""
    parts = [cine.task, cine.patient and f"patient {cine.patient}", cine.site, cine.device]
    if has_labels and cine.labels:
        parts.append(f"labels: {', '.join(cine.labels)}")
    return " · ".join(filter(None, parts))


def _about_network(place: Place, cine: Cine) -> dict[str, Any]:
    """Its labels, and whether it draws outlines: what its files say without loading it."""
    try:
        return {"network_labels": model_of(place, cine.task).config["labels"], "measures": cine.task == "biometry"}
    except InputError:  # the sentence comes when somebody asks for the answer
        return {"network_labels": [], "measures": False}


def _facts(catalogue: Catalogue, cine: Cine, extract: Extract, has_labels: bool) -> dict[str, Any]:
    """What the player needs to know. The windows of sequences tell where the labels of the drop begin and end, so who
    must not see these labels gets the windows of the whole cine."""
    record = cine.record
    labelled = {(row["first_frame"], row["last_frame"]) for row in cine.rows} if has_labels else set()
    step = frame_step(record["fps"], extract.fps, extract.every)
    clock = clock_of(record.get("times"), record["fps"], extract.fps)
    return {
        "source": cine.source,
        "task": cine.task,
        "digest": record["digest"],
        "block": BLOCK,
        "labels": list(catalogue.labels(cine.task)),
        "windows": sorted(labelled)
        or windows(0, record["frames"] - 1, record["cuts"], extract.frames, extract.stride, step, clock),
        "recorded": may_show_recorded(catalogue) and cine.path is not None,
        **{name: record[name] for name in ("frames", "width", "height", "fps", "cuts", "blanked")},
        "times": record.get("times"),  # a record of an earlier version has no times and no regions
        "regions": record.get("regions", []),
        "mm_per_px": mm_per_px(catalogue.place, cine),
        "sector": sector_outline(catalogue, cine),
        "remarks": record.get("remarks", []) if not catalogue.names.hidden else [],
    }
