"""CVAT's XML for videos, version 1.1: one `track` for each mark, with the frames on which it is to be seen.

Spans are tracks of a box around the whole frame, because the format knows no other way to name frames. A mark on one
frame is a track of one frame. Lengths are polylines of two points. Turned boxes have `rotation`, about their middle.
"""

import json
from collections.abc import Iterable, Mapping
from itertools import pairwise
from math import cos, radians, sin
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np
from defusedxml.ElementTree import ParseError, fromstring

from fetalflow.annotation.annotation import Annotation, Box, Brush, Ellipse, Polygon, Span
from fetalflow.annotation.exchange.marked import (
    EXTRA,
    HALF_PX,
    Facts,
    MarkedCine,
    check_inside,
    even,
    extra_of,
    known_identifier,
    made,
    reading,
    runs_of,
)
from fetalflow.annotation.shapes import raster
from fetalflow.errors import InputError

VERSION = "1.1"
SHAPES = ("box", "ellipse", "polygon", "polyline", "points", "mask")
IDENTITY, TRACK = "fetalflow_id", "fetalflow_track"  # attributes


def write(marked: MarkedCine) -> str:
    """The XML text of one annotator's marks on one cine."""
    cine = marked.cine
    root = Element("annotations")
    SubElement(root, "version").text = VERSION
    task = SubElement(SubElement(root, "meta"), "task")
    for name, value in {"name": cine.source, "size": cine.frames, "mode": "interpolation"}.items():
        SubElement(task, name).text = str(value)
    labels = SubElement(task, "labels")
    for label in sorted({mark.label for mark in marked.marks}):
        SubElement(SubElement(labels, "label"), "name").text = label
    SubElement(SubElement(task, "owner"), "username").text = marked.annotator
    size = SubElement(task, "original_size")
    SubElement(size, "width").text, SubElement(size, "height").text = str(cine.width), str(cine.height)
    for number, marks in enumerate(_tracks(marked.marks)):
        track = SubElement(root, "track", id=str(number), label=marks[0].label)
        track.set("source", "auto" if marked.predicted else "manual")
        for mark, following in pairwise([*marks, None]):
            _write_shape(track, mark, cine, "0")
            if mark.last_frame + 1 < cine.frames and (following is None or following.first_frame > mark.last_frame + 1):
                _write_shape(track, mark, cine, "1")
    indent(root)
    return tostring(root, encoding="unicode", xml_declaration=False) + "\n"


def labels(names: Iterable[str]) -> str:
    """The labels of a task as JSON, for the field `Raw` where CVAT makes a task. With their attributes a mark keeps its
    identity; CVAT drops attributes that a label does not have."""
    texts = [
        {"name": name, "mutable": True, "input_type": "text", "default_value": "", "values": [""]}
        for name in (IDENTITY, TRACK, *EXTRA)
    ]
    return json.dumps([{"name": name, "attributes": texts} for name in names], indent=1)


def read(text: str, cines: Mapping[str, Facts], source: str | None = None) -> MarkedCine:
    """The marks of an export "CVAT for video 1.1". source: the cine; by default the task's name holds it. The annotator
    is who the task or the job is assigned to, else its owner.

    Raises InputError if the text is no such export, its cine is unknown, or a shape cannot be a mark.
    """
    try:
        root = fromstring(text)
    except (ParseError, ValueError):
        raise InputError("this is no XML of CVAT: export as `CVAT for video 1.1`.") from None
    if root.tag != "annotations" or root.find("image") is not None:
        raise InputError("this XML holds no tracks of a video: export as `CVAT for video 1.1`, not `for images`.")
    name = root.findtext("meta/task/name") or root.findtext("meta/job/name") or ""
    source = source or next((known for known in cines if known in name), None)
    if source not in cines:
        raise InputError("the name of CVAT's task holds the SHA-256 of no cine of this workspace: state the cine.")
    cine = cines[source]
    _check_size(root, cine)
    places = ("task/assignee/username", "job/assignee/username", "job/assignee", "task/owner/username")
    named = (root.findtext(f"meta/{place}", "").strip() for place in places)
    annotator = next((name for name in named if name), "cvat")
    found: list[Annotation] = []
    for track in root.findall("track"):
        with reading(f"track {track.get('id', '')} of CVAT".replace("  ", " "), "CVAT's"):
            found += _read_track(track, cine)
    predicted = bool(found) and all(track.get("source") == "auto" for track in root.findall("track"))
    return check_inside(MarkedCine(cine, annotator, tuple(found), predicted), "the export of CVAT")


def _tracks(marks: Iterable[Annotation]) -> list[list[Annotation]]:
    """One list for each mark, but boxes of one track together, by frame."""
    tracks: dict[tuple[str, str], list[Annotation]] = {}
    for mark in marks:
        together = isinstance(mark, Box) and mark.track
        tracks.setdefault((mark.track if together else mark.id, mark.label), []).append(mark)
    return [sorted(each, key=lambda mark: mark.first_frame) for each in tracks.values()]


def _write_shape(track: Element, mark: Annotation, cine: Facts, outside: str) -> None:
    """`outside` is 1 for the frame after the last one."""
    name, facts = _shape(mark, cine)
    frame = mark.first_frame if outside == "0" else mark.last_frame + 1
    shape = SubElement(track, name, frame=str(frame), outside=outside, occluded="0", keyframe="1", **facts, z_order="0")
    attributes = {IDENTITY: mark.id, **extra_of(mark)} | (
        {TRACK: mark.track} if isinstance(mark, Box) and mark.track else {}
    )
    for key, value in attributes.items():
        SubElement(shape, "attribute", name=key).text = value


def _shape(mark: Annotation, cine: Facts) -> tuple[str, dict[str, str]]:
    if isinstance(mark, Span):
        return "box", {"xtl": "0", "ytl": "0", "xbr": str(cine.width), "ybr": str(cine.height)}
    if isinstance(mark, Box):
        width, height = mark.size
        # CVAT turns a box about its middle, a mark about its corner.
        x, y = (each + moved for each, moved in zip(mark.corner, _middle(mark.size, mark.angle), strict=True))
        sides = {"xtl": x - width / 2, "ytl": y - height / 2, "xbr": x + width / 2, "ybr": y + height / 2}
        turned = {"rotation": repr(mark.angle % 360)} if mark.angle else {}
        return "box", {key: repr(value + HALF_PX) for key, value in sides.items()} | turned
    if isinstance(mark, Ellipse):
        facts = {"cx": mark.centre[0] + HALF_PX, "cy": mark.centre[1] + HALF_PX, "rx": mark.axes[0], "ry": mark.axes[1]}
        return "ellipse", {key: repr(value) for key, value in facts.items()} | {"rotation": repr(mark.angle)}
    if isinstance(mark, Brush):
        return "mask", _mask(mark)
    points = mark.corners if isinstance(mark, Polygon) else mark.ends
    text = ";".join(f"{x + HALF_PX!r},{y + HALF_PX!r}" for x, y in points)
    return "polygon" if isinstance(mark, Polygon) else "polyline", {"points": text}


def _middle(size: tuple[float, float], angle: float) -> tuple[float, float]:
    """From the corner of a turned box to its middle."""
    x, y, turn = size[0] / 2, size[1] / 2, radians(angle)
    return x * cos(turn) - y * sin(turn), x * sin(turn) + y * cos(turn)


def _mask(mark: Brush) -> dict[str, str]:
    """The runs inside of the smallest box around what is painted, row by row, beginning with a run of 0."""
    mask = raster(mark, mark.size)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = (int(each[0]) if each.size else 0 for each in (rows, columns))
    inside = mask[
        top : top + (int(np.ptp(rows)) if rows.size else 0) + 1,
        left : left + (int(np.ptp(columns)) if rows.size else 0) + 1,
    ]
    facts = {"left": left, "top": top, "width": inside.shape[1], "height": inside.shape[0]}
    return {"rle": ", ".join(map(str, runs_of(inside)))} | {key: str(value) for key, value in facts.items()}


def _check_size(root: Element, cine: Facts) -> None:
    stated = [
        root.findtext(f"meta/{kind}/original_size/{side}") for kind in ("task", "job") for side in ("height", "width")
    ]
    stated = [int(each) for each in stated if each and each.isdigit()]
    sizes = (cine.height, cine.width), (even(cine.height), even(cine.width))
    if len(stated) > 1 and tuple(stated[:2]) not in sizes:
        raise InputError(
            f"The frames are {stated[0]} x {stated[1]} px, those of the cine {cine.source[:12]} are {cine.height} "
            f"x {cine.width}. Upload the frames of the station to CVAT, not the original file."
        )


def _read_track(track: Element, cine: Facts) -> list[Annotation]:
    """A mark for each key frame that is to be seen; it lasts to the frame before the next key frame."""
    shapes = sorted((each for each in track if each.tag in SHAPES), key=lambda each: int(each.get("frame", "0")))
    shapes = [each for each in shapes if each.get("keyframe", "1") == "1"]
    unknown = next((each.tag for each in track if each.tag not in SHAPES), None)
    where = f"track {track.get('id', '')} of CVAT".replace("  ", " ")
    if unknown:
        raise InputError(f"{where}: shapes of the type {unknown!r} are not read; there are: {', '.join(SHAPES)}.")
    marks, name = [], track.get("id", "")
    for shape, following in pairwise([*shapes, None]):
        if shape.get("outside") == "1":
            continue
        first = int(shape.get("frame"))
        last = cine.frames - 1 if following is None else int(following.get("frame")) - 1
        with reading(f"{where}, frame {first}", "a number of CVAT's"):
            marks.append(_read_shape(shape, track, first, last, cine, f"{where}, frame {first}"))
    keep = len(marks) > 1
    return [
        mark.model_copy(update={"track": mark.track or known_identifier(f"track {name}", cine.source)})
        if keep and isinstance(mark, Box)
        else mark
        for mark in marks
    ]


def _read_shape(shape: Element, track: Element, first: int, last: int, cine: Facts, where: str) -> Annotation:
    attributes = {each.get("name"): each.text or "" for each in shape.findall("attribute")}
    base: dict[str, Any] = {name: text for name, text in attributes.items() if name in EXTRA}
    identity = attributes.get(IDENTITY) or f"{track.get('id')}/{first}"
    base |= {"id": known_identifier(identity, cine.source), "label": track.get("label", "")}
    base |= {"first_frame": first, "last_frame": last}

    def value(name: str) -> float:
        return float(shape.get(name))

    if shape.tag == "box":
        sides = value("xtl"), value("ytl"), value("xbr"), value("ybr")
        if sides == (0, 0, cine.width, cine.height) and not shape.get("rotation"):
            return made(where, kind="span", **base)
        size, angle = (sides[2] - sides[0], sides[3] - sides[1]), float(shape.get("rotation", 0))
        moved = _middle(size, angle)
        corner = ((sides[0] + sides[2]) / 2 - moved[0] - HALF_PX, (sides[1] + sides[3]) / 2 - moved[1] - HALF_PX)
        return made(where, kind="box", corner=corner, size=size, angle=angle, track=attributes.get(TRACK, ""), **base)
    if last != first and shape.tag != "box":
        base["last_frame"] = first  # outlines and lengths are of the frame on which they were drawn
    if shape.tag == "ellipse":
        centre = value("cx") - HALF_PX, value("cy") - HALF_PX
        axes, angle = (value("rx"), value("ry")), float(shape.get("rotation", 0))
        return made(where, kind="ellipse", centre=centre, axes=axes, angle=angle, **base)
    if shape.tag == "mask":
        left, top, width, height = (int(shape.get(name)) for name in ("left", "top", "width", "height"))
        runs = np.array([int(run) for run in shape.get("rle").split(",")])
        if runs.sum() != width * height or top + height > cine.height or left + width > cine.width:
            raise InputError(f"{where}: the mask does not fill its box, or lies outside of the frame.")
        mask = np.zeros((cine.height, cine.width), bool)
        mask[top : top + height, left : left + width] = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(
            height, width
        )
        return made(where, kind="brush", size=mask.shape, runs=runs_of(mask), **base)
    points = [tuple(float(each) - HALF_PX for each in pair.split(",")) for pair in shape.get("points").split(";")]
    if shape.tag == "polygon":
        return made(where, kind="polygon", corners=points, **base)
    if len(points) != 2:
        raise InputError(f"{where}: a length has two points, not {len(points)}.")
    return made(where, kind="caliper", ends=points, **base)
