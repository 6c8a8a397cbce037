"""Label Studio's tasks (JSON): annotations and predictions of cines (time line, rectangles) and of frames (shapes).

A cine is a task with `video`; its spans are `timelinelabels`, its boxes `videorectangle`. A frame with calipers,
ellipses, outlines or masks is a task with `image`, because Label Studio draws these on pictures alone. A still whose
span is the whole still is a `choices`. Frames are counted from 1 there. A project of Label Studio has one labelling
configuration, so tasks with `video` and tasks with `image` belong into two projects.

Label Studio refuses an import that names a person whom it does not know, so the annotator is kept in the regions.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from xml.sax.saxutils import quoteattr

from fetalflow.annotation.annotation import Annotation, Box, Span
from fetalflow.annotation.exchange.label_studio_regions import OURS, marks_of, regions_of
from fetalflow.annotation.exchange.marked import RATE, Facts, MarkedCine, check_inside, reading
from fetalflow.errors import InputError


def write(marked: Iterable[MarkedCine], address: Callable[[str, int | None], str]) -> str:
    """The tasks as JSON text. address(source, frame): where Label Studio finds a frame, or the cine if it is None."""
    return json.dumps(tasks_of(marked, address), indent=1)


def tasks_of(
    marked: Iterable[MarkedCine], address: Callable[[str, int | None], str], unmarked: Iterable[Facts] = ()
) -> list[dict[str, Any]]:
    """The tasks. unmarked: cines without marks, of which each becomes a task that waits for its first annotation."""
    tasks: dict[tuple[str, int | None], dict[str, Any]] = {}
    for each in marked:
        shapes = defaultdict(list)
        for mark in each.marks:
            picture = not isinstance(mark, (Span, Box)) or each.cine.frames == 1
            shapes[mark.first_frame if picture else None].append(mark)
        for frame, marks in shapes.items():
            key = (each.cine.source, frame)
            task = tasks.setdefault(
                key, {"data": _data(each.cine, frame, address), "annotations": [], "predictions": []}
            )
            result = regions_of(marks, each.cine, frame)
            if each.predicted:
                task["predictions"].append({"model_version": each.annotator, "result": result})
            else:
                result = [_of_annotator(region, each.annotator) for region in result]
                task["annotations"].append({"result": result, "ground_truth": False})
    for cine in unmarked:
        key = cine.source, None if cine.frames > 1 else 0
        tasks.setdefault(key, {"data": _data(cine, key[1], address), "annotations": [], "predictions": []})
    return list(tasks.values())


def configurations(labels: Iterable[str]) -> dict[str, str]:
    """The labelling configuration for tasks with `video`, and the one for tasks with `image`."""
    each = "".join(f"<Label value={quoteattr(label)}/>" for label in labels)
    choices = each.replace("<Label ", "<Choice ")
    shapes = ("RectangleLabels", "EllipseLabels", "PolygonLabels", "BrushLabels", "KeyPointLabels")
    drawn = "".join(f'<{shape} name="{shape.lower()}" toName="image">{each}</{shape}>' for shape in shapes)
    return {
        # Label Studio counts 24 frames per second where it is given no other rate, and then names other frames.
        "video": '<View><Video name="video" value="$video" frameRate="$fps"/>'
        # The labels of boxes stand before those of spans: a box takes its label from the first tag that has labels.
        f'<VideoRectangle name="videorectangle" toName="video"/><Labels name="labels" toName="video">{each}</Labels>'
        f'<TimelineLabels name="timelinelabels" toName="video">{each}</TimelineLabels></View>\n',
        "image": f'<View><Image name="image" value="$image"/><Choices name="choices" toName="image">{choices}</Choices>'
        f"{drawn}</View>\n",
    }


def read(text: str, cines: Mapping[str, Facts]) -> list[MarkedCine]:
    """Annotations and predictions of an export of Label Studio. cines: the known cines by source.

    A task names its cine by `source` in its data, or by the source in its address. Raises InputError with the task's
    number if the text is no such export, or a task names no known cine.
    """
    try:
        tasks = json.loads(text)
        if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
            raise ValueError
    except ValueError:
        raise InputError(
            "this is no export of Label Studio: a JSON list of tasks was expected (export as JSON)."
        ) from None
    found: dict[tuple[str, str, bool], list[Annotation]] = defaultdict(list)
    for number, task in enumerate(tasks, 1):
        where = f"task {number}"
        data = task.get("data")
        data = data if isinstance(data, dict) else {}
        with reading(where, "Label Studio's"):
            cine = _cine(data, cines, where)
            frame = _frame(data, cine, where)
            for kind in ("annotations", "predictions"):
                for each in task.get(kind) or []:
                    # An export has numbers in the place of predictions; a skipped task holds what was begun.
                    if (kind == "predictions" and isinstance(each, int)) or each.get("was_cancelled"):
                        continue
                    marks = marks_of(each.get("result") or [], cine, frame, where)
                    found[cine.source, _who(each, kind), kind == "predictions"] += marks
    return [
        check_inside(MarkedCine(cines[source], who, tuple(marks), predicted), "the export")
        for (source, who, predicted), marks in found.items()
    ]


def _data(cine: Facts, frame: int | None, address: Callable[[str, int | None], str]) -> dict[str, Any]:
    shared = {"source": cine.source, "frames": cine.frames, "fps": cine.fps or RATE}
    place = address(cine.source, frame)
    return {"video": place} | shared if frame is None else {"image": place, "frame": frame} | shared


def _cine(data: dict[str, Any], cines: Mapping[str, Facts], where: str) -> Facts:
    source = data.get("source")
    if source not in cines:
        places = [str(data.get(name, "")) for name in ("video", "image")]
        source = next((known for known in cines if any(known in place for place in places)), None)
    if source is None:
        raise InputError(
            f"{where} names no cine of this workspace: its data needs `source`, the SHA-256 of the cine's file."
        )
    return cines[source]


def _frame(data: dict[str, Any], cine: Facts, where: str) -> int | None:
    """The frame of a task with `image`: stated as `frame`, or in the picture's name after the source; None for a task
    with `video`."""
    if "image" not in data:
        return None
    named = re.search(rf"{cine.source}-(\d+)\.", str(data["image"]))
    stated = data.get("frame", named and named[1])
    if stated is None and cine.frames > 1:
        raise InputError(
            f"{where} does not say which frame of the cine {cine.source[:12]} its image is: its data needs `frame`, "
            "which is 0 for the first one."
        )
    return int(stated or 0)


def _of_annotator(region: dict[str, Any], name: str) -> dict[str, Any]:
    if region["type"] == "relation":
        return region
    meta = region.get("meta", {"text": []})
    return region | {"meta": meta | {OURS: meta.get(OURS, {}) | {"annotator": name}}}


def _who(each: dict[str, Any], kind: str) -> str:
    """The annotator that the station wrote into the first region that has one, else whom Label Studio names: by e-mail,
    or by a number."""
    if kind == "predictions":
        return str(each.get("model_version") or "a network")
    metas = ((region.get("meta") or {}).get(OURS) or {} for region in each.get("result") or [])
    if name := next((meta["annotator"] for meta in metas if meta.get("annotator")), None):
        return str(name)
    by = each.get("completed_by")
    return str((by.get("email") or by.get("id")) if isinstance(by, dict) else by if by is not None else "label-studio")
