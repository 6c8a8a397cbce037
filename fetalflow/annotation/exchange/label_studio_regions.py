"""Marks as the regions of Label Studio, and back: a region is one item of the `result` of an annotation."""

from collections import defaultdict
from itertools import pairwise
from typing import Any

from fetalflow.annotation.annotation import Annotation, Box, Brush, Ellipse, Polygon, Span
from fetalflow.annotation.exchange import label_studio_brush as brush_bits
from fetalflow.annotation.exchange.marked import (
    EXTRA,
    HALF_PX,
    RATE,
    Facts,
    even,
    extra_of,
    known_identifier,
    made,
    reading,
    runs_of,
)
from fetalflow.annotation.shapes import raster
from fetalflow.errors import InputError

OURS = "fetalflow"  # the key in `meta` for what Label Studio has no place for


def regions_of(marks: list[Annotation], cine: Facts, frame: int | None) -> list[dict[str, Any]]:
    """The regions of marks on a cine (frame is None) or on one frame."""
    results, tracks = [], defaultdict(list)
    for mark in marks:
        if isinstance(mark, Box) and frame is None:
            tracks[mark.track or mark.id, mark.label].append(mark)
        else:
            results += _region(mark, cine)
    return results + [_track(boxes, cine) for boxes in tracks.values()]


def _shared(mark: Annotation, kind: str, to: str, value: dict[str, Any], cine: Facts) -> dict[str, Any]:
    region = {"id": mark.id, "from_name": kind, "to_name": to, "type": kind, "value": value}
    if to == "image":
        region |= {"original_width": cine.width, "original_height": cine.height, "image_rotation": 0}
    return region | ({"meta": _meta(mark)} if extra_of(mark) else {})


def _meta(mark: Annotation) -> dict[str, Any]:
    """The note, where people read and change it in Label Studio, and the texts that it has no place for."""
    ours = {name: text for name, text in extra_of(mark).items() if name != "note"}
    return {"text": [mark.note] if mark.note else [], OURS: ours}


def _region(mark: Annotation, cine: Facts) -> list[dict[str, Any]]:
    def percent(point: tuple[float, float]) -> list[float]:
        return [(point[0] + HALF_PX) / cine.width * 100, (point[1] + HALF_PX) / cine.height * 100]

    if isinstance(mark, Span) and cine.frames == 1:
        return [_shared(mark, "choices", "image", {"choices": [mark.label]}, cine)]
    if isinstance(mark, Span):
        value = {
            "ranges": [{"start": mark.first_frame + 1, "end": mark.last_frame + 1}],
            "timelinelabels": [mark.label],
        }
        return [_shared(mark, "timelinelabels", "video", value, cine)]
    if isinstance(mark, Brush):
        value = {"format": "rle", "rle": brush_bits.encode(raster(mark, mark.size)), "brushlabels": [mark.label]}
        return [_shared(mark, "brushlabels", "image", value, cine)]
    if isinstance(mark, Polygon):
        value = {"points": [percent(each) for each in mark.corners], "closed": True, "polygonlabels": [mark.label]}
        return [_shared(mark, "polygonlabels", "image", value, cine)]
    if isinstance(mark, Ellipse):
        x, y = percent(mark.centre)
        radii = {"radiusX": mark.axes[0] / cine.width * 100, "radiusY": mark.axes[1] / cine.height * 100}
        value = {"x": x, "y": y, **radii, "rotation": mark.angle, "ellipselabels": [mark.label]}
        return [_shared(mark, "ellipselabels", "image", value, cine)]
    if isinstance(mark, Box):
        value = _sides(mark, cine.width, cine.height) | {"rectanglelabels": [mark.label]}
        return [_shared(mark, "rectanglelabels", "image", value, cine)]
    ends = []  # calipers: two points and the relation between them
    for place, end in enumerate(mark.ends):
        x, y = percent(end)
        value = {"x": x, "y": y, "width": 0.5, "keypointlabels": [mark.label]}
        ends.append(_shared(mark, "keypointlabels", "image", value, cine) | {"id": f"{mark.id}-{place}"})
    return [*ends, {"type": "relation", "from_id": ends[0]["id"], "to_id": ends[1]["id"], "direction": "bi"}]


def _sides(box: Box, width: int, height: int) -> dict[str, float]:
    """Percent of a picture of width x height px."""
    return {
        "x": (box.corner[0] + HALF_PX) / width * 100,
        "y": (box.corner[1] + HALF_PX) / height * 100,
        "width": box.size[0] / width * 100,
        "height": box.size[1] / height * 100,
        "rotation": box.angle,
    }


def _track(boxes: list[Box], cine: Facts) -> dict[str, Any]:
    """Boxes of one structure as key frames; `enabled` is false where the structure ends at that frame."""
    boxes, sequence = sorted(boxes, key=lambda box: box.first_frame), []
    following = [box.first_frame for box in boxes[1:]] + [None]
    for box, next_one in zip(boxes, following, strict=True):
        lasts = box.last_frame > box.first_frame or next_one == box.last_frame + 1
        sequence.append(_key(box, cine, box.first_frame) | {"enabled": lasts})
        if box.last_frame > box.first_frame and next_one != box.last_frame + 1:
            sequence.append(_key(box, cine, box.last_frame) | {"enabled": False})
    value = {"framesCount": cine.frames, "duration": cine.frames / (cine.fps or RATE), "sequence": sequence}
    region = _shared(boxes[0], "videorectangle", "video", value | {"labels": [boxes[0].label]}, cine)
    meta = _meta(boxes[0])
    ours = {"boxes": [box.id for box in boxes], "track": boxes[0].track} | meta[OURS]
    return region | {"meta": meta | {OURS: ours}}


def _key(box: Box, cine: Facts, frame: int) -> dict[str, Any]:
    """A key frame of a track. Label Studio counts frames from 1."""
    sides = _sides(box, even(cine.width), even(cine.height))
    return sides | {"time": (frame + 1) / (cine.fps or RATE), "frame": frame + 1}


def marks_of(results: list[Any], cine: Facts, frame: int | None, where: str) -> list[Annotation]:
    """The marks of regions. Raises InputError that names the region."""
    ends, marks = {}, []
    relations = [each for each in results if each.get("type") == "relation"]
    for each in _once(results, where):
        place = f"{where}, region {each.get('id', '')}".rstrip()
        with reading(place, "Label Studio's"):
            if each["type"] == "keypointlabels":
                ends[each["id"]] = each
            else:
                marks += _of_region(each, cine, frame, place)
    for relation in relations:
        pair = [ends.pop(relation.get(name), None) for name in ("from_id", "to_id")]
        if all(pair):
            place = f"{where}, region {pair[0]['id']}"
            with reading(place, "Label Studio's"):
                label = _label(pair[0]["value"], "keypointlabels", place)
                points = tuple(_point(each["value"], cine) for each in pair)
            base = _base(pair[0], label, frame or 0, frame or 0, cine)
            base["id"] = known_identifier(str(pair[0]["id"]).removesuffix("-0"), cine.source)
            marks.append(made(place, kind="caliper", ends=points, **base))
    if ends:
        raise InputError(
            f"{where}: the point {next(iter(ends))} has no partner: a length needs two points and a relation."
        )
    return marks


def _once(results: list[Any], where: str) -> list[Any]:
    """The regions without relations, and each track of boxes once: Label Studio may export a track again for each tag
    of labels of its configuration. Raises InputError where these copies have different labels."""
    found, tracks = [], {}
    for each in results:
        value = each.get("value")
        if each.get("type") == "relation":
            continue
        if isinstance(value, dict) and "sequence" in value:
            labels = value.get("labels", value.get(each["type"]))
            if each["id"] in tracks:
                if labels != tracks[each["id"]]:
                    raise InputError(
                        f"{where}, region {each['id']}: it has the labels {tracks[each['id']]} and {labels}. Give it "
                        "one label in Label Studio."
                    )
                continue
            tracks[each["id"]] = labels
            each = each | {"type": "videorectangle", "value": value | {"labels": labels}}
        found.append(each)
    return found


def _base(region: dict[str, Any], label: str, first: int, last: int, cine: Facts) -> dict[str, Any]:
    meta = region.get("meta") or {}
    extra = {name: str(text) for name, text in (meta.get(OURS) or {}).items() if name in EXTRA}
    note = {"note": " ".join(map(str, meta["text"]))} if meta.get("text") else {}
    identity = known_identifier(region["id"], cine.source)
    return {"id": identity, "label": label, "first_frame": first, "last_frame": last} | extra | note


def _label(value: dict[str, Any], name: str, where: str) -> str:
    """The one label of a region. Raises InputError where there are several: a mark has one."""
    labels = value[name]
    if len(labels) != 1:
        raise InputError(
            f"{where}: it has {len(labels)} labels ({', '.join(map(str, labels))}), and a mark has one. Give it one "
            "label in Label Studio."
        )
    return labels[0]


def _point(value: dict[str, Any], cine: Facts) -> tuple[float, float]:
    return value["x"] / 100 * cine.width - HALF_PX, value["y"] / 100 * cine.height - HALF_PX


def _of_region(region: dict[str, Any], cine: Facts, frame: int | None, where: str) -> list[Annotation]:
    kind, value = region["type"], region["value"]
    if kind == "timelinelabels":
        base = [
            _base(region, label, each["start"] - 1, each["end"] - 1, cine)
            for label in value["timelinelabels"]
            for each in value["ranges"]
        ]
        if len(base) > 1:
            base = [each | {"id": known_identifier(f"{each['id']}/{i}", cine.source)} for i, each in enumerate(base)]
        return [made(where, kind="span", **each) for each in base]
    if kind == "videorectangle":
        return _of_track(region, cine, where)
    if kind not in value:
        raise InputError(f"{where}: regions of the type {kind!r} are not read; there are: time line labels, choices, "
                         "rectangles, ellipses, polygons, brush and points.")  # fmt: skip
    base = _base(region, _label(value, kind, where), frame or 0, frame or 0, cine)
    if kind == "choices":  # on a video it is said of the whole cine
        return [made(where, kind="span", **base | {"last_frame": cine.frames - 1 if frame is None else frame})]
    if frame is None and cine.frames > 1:
        raise InputError(f"{where}: regions of the type {kind!r} are read on images only, not on a video.")
    if kind == "brushlabels":
        mask = brush_bits.decode(value["rle"], region["original_height"], region["original_width"], where)
        return [made(where, kind="brush", size=mask.shape, runs=runs_of(mask), **base)]
    if kind == "polygonlabels":
        corners = [_point({"x": x, "y": y}, cine) for x, y in value["points"]]
        return [made(where, kind="polygon", corners=corners, **base)]
    if kind == "ellipselabels":
        axes = value["radiusX"] / 100 * cine.width, value["radiusY"] / 100 * cine.height
        angle = value.get("rotation", 0)
        return [made(where, kind="ellipse", centre=_point(value, cine), axes=axes, angle=angle, **base)]
    if kind == "rectanglelabels":
        return [made(where, kind="box", **_of_sides(value, cine.width, cine.height), **base)]
    raise InputError(f"{where}: regions of the type {kind!r} are not read.")


def _of_sides(value: dict[str, Any], width: int, height: int) -> dict[str, Any]:
    corner = value["x"] / 100 * width - HALF_PX, value["y"] / 100 * height - HALF_PX
    size = value["width"] / 100 * width, value["height"] / 100 * height
    return {"corner": corner, "size": size, "angle": value.get("rotation", 0)}


def _of_track(region: dict[str, Any], cine: Facts, where: str) -> list[Annotation]:
    """One box for each key frame; it lasts to the frame before the next one, or to the frame where the track pauses."""
    keys = sorted(region["value"]["sequence"], key=lambda key: key["frame"])
    ours = (region.get("meta") or {}).get(OURS) or {}
    track = ours.get("track", known_identifier(region["id"], cine.source) if len(keys) > 1 else "")
    boxes: list[dict[str, Any]] = []
    size = even(cine.width), even(cine.height)
    for before, key in pairwise([None, *keys]):
        frame = key["frame"] - 1
        ends = before is not None and before["enabled"] and not key["enabled"] and _same(before, key)
        if ends:  # the same box once more, to say where it ends
            boxes[-1]["last_frame"] = frame
            continue
        if before is not None and before["enabled"]:
            boxes[-1]["last_frame"] = frame - 1
        boxes.append({"first_frame": frame, "last_frame": frame, **_of_sides(key, *size)})
    if keys and keys[-1]["enabled"]:
        boxes[-1]["last_frame"] = cine.frames - 1
    ids = ours.get("boxes", [])
    base = _base(region, _label(region["value"], "labels", where), 0, 0, cine)
    return [
        made(where, kind="box", **base | box | {"track": track, "id": _nth(ids, i, base["id"], len(boxes))})
        for i, box in enumerate(boxes)
    ]


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one.get(name) == other.get(name) for name in ("x", "y", "width", "height", "rotation"))


def _nth(ids: list[str], number: int, track: str, count: int) -> str:
    return ids[number] if number < len(ids) else track if count == 1 else known_identifier(f"{track}/{number}")
