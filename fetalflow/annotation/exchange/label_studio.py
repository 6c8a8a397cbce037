"""Label Studio's tasks (JSON): annotations and predictions of cines (time line, rectangles) and of frames (shapes).

A cine is a task with `video`; its spans are `timelinelabels`, its boxes `videorectangle`. A frame with calipers,
ellipses, outlines or masks is a task with `image`, because Label Studio draws these on pictures alone. A still whose
span is the whole still is a `choices`. Frames are counted from 1 there.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from xml.sax.saxutils import quoteattr

from fetalflow.annotation.annotation import Annotation, Box, Span
from fetalflow.annotation.exchange.label_studio_regions import marks_of, regions_of
from fetalflow.annotation.exchange.marked import Facts, MarkedCine, check_inside
from fetalflow.errors import InputError


def write(marked: Iterable[MarkedCine], address: Callable[[str, int | None], str]) -> str:
    """The tasks as JSON text. address(source, frame): where Label Studio finds a frame, or the cine if it is None."""
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
                task["annotations"].append({"completed_by": {"email": each.annotator}, "result": result})
    return json.dumps(list(tasks.values()), indent=1)


def configuration(labels: Iterable[str]) -> str:
    """The labelling configuration that shows what `write` writes; one for cines, and one for frames below it."""
    each = "".join(f"<Label value={quoteattr(label)}/>" for label in labels)
    choices = each.replace("<Label ", "<Choice ")
    shapes = ("RectangleLabels", "EllipseLabels", "PolygonLabels", "BrushLabels", "KeyPointLabels")
    drawn = "".join(f'<{shape} name="{shape.lower()}" toName="image">{each}</{shape}>' for shape in shapes)
    return (
        "<!-- For tasks with `video`. -->\n"
        f'<View><Video name="video" value="$video"/><TimelineLabels name="timelinelabels" toName="video">{each}'
        '</TimelineLabels><VideoRectangle name="videorectangle" toName="video"/>'
        f'<Labels name="labels" toName="video">{each}</Labels></View>\n'
        "<!-- For tasks with `image`. -->\n"
        f'<View><Image name="image" value="$image"/><Choices name="choices" toName="image">{choices}</Choices>'
        f"{drawn}</View>\n"
    )


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
        cine = _cine(data if isinstance(data, dict) else {}, cines, where)
        for kind in ("annotations", "predictions"):
            for each in task.get(kind) or []:
                who = _who(each, kind)
                frame = int(data["frame"]) if str(data.get("frame", "")).isdigit() else None
                marks = marks_of(each.get("result") or [], cine, frame, where)
                found[cine.source, who, kind == "predictions"] += marks
    return [
        check_inside(MarkedCine(cines[source], who, tuple(marks), predicted), "the export")
        for (source, who, predicted), marks in found.items()
    ]


def _data(cine: Facts, frame: int | None, address: Callable[[str, int | None], str]) -> dict[str, Any]:
    shared = {"source": cine.source, "frames": cine.frames, "fps": cine.fps}
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


def _who(each: dict[str, Any], kind: str) -> str:
    if kind == "predictions":
        return str(each.get("model_version") or "a network")
    by = each.get("completed_by")
    return str((by.get("email") or by.get("id")) if isinstance(by, dict) else by if by is not None else "label-studio")
