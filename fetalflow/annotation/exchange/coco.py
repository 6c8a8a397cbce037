"""COCO's JSON: outlines, masks and lengths on frames. A frame is an image of COCO.

An ellipse is written as a polygon, and exactly as `ellipse` in its `attributes`; a length is two keypoints. COCO has no
frames from A to B, so spans are left out, and `write` says how many.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from fetalflow.annotation.annotation import Annotation, Box, Brush, Caliper, Ellipse, Span
from fetalflow.annotation.exchange.marked import (
    EXTRA,
    HALF_PX,
    MALFORMED,
    Facts,
    MarkedCine,
    check_inside,
    extra_of,
    known_identifier,
    made,
    reading,
    runs_of,
)
from fetalflow.annotation.shapes import outline, raster
from fetalflow.errors import InputError

CORNERS = 72  # of an ellipse
SAME_PX = 0.05  # programs round corners; one that was moved by more was moved by a person
ENDS = ["first end", "second end"]


def write(marked: Iterable[MarkedCine], address: Callable[[str, int | None], str]) -> tuple[str, list[str]]:
    """The JSON text, and a sentence for each kind of mark that COCO cannot say. address(source, frame): the name of a
    file."""
    images: dict[tuple[str, int], dict[str, Any]] = {}
    categories: dict[str, int] = {}
    annotations, spans = [], 0
    for each in marked:
        for mark in each.marks:
            if isinstance(mark, Span):
                spans += 1
                continue
            frame, cine = mark.first_frame, each.cine
            image = images.setdefault(
                (cine.source, frame),
                {"id": len(images) + 1, "file_name": address(cine.source, frame), "source": cine.source, "frame": frame}
                | {"width": cine.width, "height": cine.height},
            )
            category = categories.setdefault(mark.label, len(categories) + 1)
            shared = {"id": len(annotations) + 1, "image_id": image["id"], "category_id": category, "iscrowd": 0}
            attributes = {"id": mark.id, "annotator": each.annotator, "predicted": each.predicted, **extra_of(mark)}
            annotations.append(shared | _shape(mark, cine, attributes))
    named = [
        {"id": number, "name": label, "supercategory": "", "keypoints": ENDS, "skeleton": [[1, 2]]}
        for label, number in categories.items()
    ]
    found = {"info": {"description": "fetalflow"}, "licenses": [], "images": list(images.values())}
    said = (
        [f"{spans} spans are left out: COCO has no place for them. Use Label Studio's or CVAT's format."]
        if spans
        else []
    )
    return json.dumps(found | {"annotations": annotations, "categories": named}, indent=1), said


def read(text: str, cines: Mapping[str, Facts], annotator: str = "coco") -> list[MarkedCine]:
    """The marks of a COCO file. An image names its cine by `source` and `frame`, or by a name `SOURCE-FRAME.png`.

    annotator: whose the marks are where the file does not say. Raises InputError that names the annotation.
    """
    try:
        found = json.loads(text)
        images = {each["id"]: _image(each, cines) for each in found["images"]}
        labels = {each["id"]: str(each["name"]) for each in found["categories"]}
        annotations = [dict(each) for each in found["annotations"]]
    except InputError:
        raise
    except MALFORMED:
        raise InputError("this is no file of COCO: images, annotations and categories were expected.") from None
    marks: dict[tuple[str, str, bool], list[Annotation]] = defaultdict(list)
    for each in annotations:
        where = f"annotation {each.get('id', '?')} of COCO"
        with reading(where, "COCO's"):
            cine, frame = images[each["image_id"]]
            label = labels[each["category_id"]]
            attributes = each.get("attributes") or {}
            who = str(attributes.get("annotator") or annotator), bool(attributes.get("predicted"))
            marks[cine.source, *who].append(_mark(each, attributes, cine, frame, label, where))
    return [
        check_inside(MarkedCine(cines[source], who, tuple(each), predicted), "the file of COCO")
        for (source, who, predicted), each in marks.items()
    ]


def _shape(mark: Annotation, cine: Facts, attributes: dict[str, Any]) -> dict[str, Any]:
    """segmentation, bbox, area, keypoints and attributes of one annotation."""
    if isinstance(mark, Caliper):
        points = np.array(mark.ends) + HALF_PX
        keys = [value for x, y in points.tolist() for value in (x, y, 2)]
        return {
            "segmentation": [],
            "keypoints": keys,
            "num_keypoints": 2,
            "attributes": attributes,
            **_around(points, 0.0),
        }
    if isinstance(mark, Brush):
        mask = np.asfortranarray(raster(mark, mark.size), np.uint8)
        encoded = coco_mask.encode(mask)
        box = [float(each) for each in coco_mask.toBbox(encoded)]
        segmentation = {"size": list(mask.shape), "counts": encoded["counts"].decode()}
        return {"segmentation": segmentation, "bbox": box, "area": float(mask.sum()), "attributes": attributes}
    if isinstance(mark, Ellipse):
        attributes = attributes | {"ellipse": {"centre": mark.centre, "axes": mark.axes, "angle": mark.angle}}
    if isinstance(mark, Box):
        box = {
            "corner": mark.corner,
            "size": mark.size,
            "angle": mark.angle,
            "track": mark.track,
            "last": mark.last_frame,
        }
        attributes = attributes | {"box": box}
    corners = outline(mark, CORNERS) + HALF_PX
    x, y = corners.T
    area = abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2
    return {"segmentation": [corners.ravel().tolist()], "attributes": attributes, **_around(corners, area)}


def _around(points: np.ndarray, area: float) -> dict[str, Any]:
    low, high = points.min(0), points.max(0)
    return {"bbox": [*low.tolist(), *(high - low).tolist()], "area": area}


def _image(image: dict[str, Any], cines: Mapping[str, Facts]) -> tuple[Facts, int]:
    name, source = str(image.get("file_name", "")), image.get("source")
    source = source if source in cines else next((known for known in cines if known in name), None)
    if source is None:
        raise InputError(f"the image {name!r} of COCO names no cine of this workspace: it needs `source` and `frame`.")
    cine = cines[source]
    named = re.search(rf"{source}-(\d+)(?!\d)", name)
    at = image.get("frame", named and named[1])
    if at is None and cine.frames > 1:
        raise InputError(
            f"the image {name!r} of COCO does not say which frame of its cine it is: it needs `frame`, which is 0 for "
            "the first one, or a name such as SOURCE-000012.png."
        )
    frame = int(at or 0)
    stated = image.get("height"), image.get("width")
    if stated != (cine.height, cine.width):
        raise InputError(
            f"the image {name!r} of COCO is {stated[0]} x {stated[1]} px, but the frames of its cine are {cine.height} "
            f"x {cine.width}. Export at the size of the frames."
        )
    return cine, frame


def _mark(
    each: dict[str, Any], attributes: dict[str, Any], cine: Facts, frame: int, label: str, where: str
) -> Annotation:
    base = {name: str(attributes[name]) for name in EXTRA if attributes.get(name)}
    identity = known_identifier(attributes.get("id") or each["id"], cine.source, frame)
    base |= {"id": identity, "label": label, "first_frame": frame, "last_frame": frame}
    if "ellipse" in attributes:
        ellipse = made(where, kind="ellipse", **attributes["ellipse"], **base)
        if _is_drawn_so(each, ellipse):
            return ellipse
    if "box" in attributes:
        box = dict(attributes["box"])
        box = made(where, kind="box", **base | {"last_frame": box.pop("last")} | box)
        if _is_drawn_so(each, box):
            return box
    if each.get("num_keypoints") == 2 and not each.get("segmentation"):
        x, y = each["keypoints"][0::3], each["keypoints"][1::3]
        ends = [(a - HALF_PX, b - HALF_PX) for a, b in zip(x, y, strict=True)]
        return made(where, kind="caliper", ends=ends, **base)
    segmentation = each.get("segmentation")
    if isinstance(segmentation, dict):
        return made(
            where, kind="brush", size=(cine.height, cine.width), runs=runs_of(_mask(segmentation, cine, where)), **base
        )
    if segmentation and len(segmentation) > 1:  # several parts are one mask
        parts = [np.asarray(part, float).ravel().tolist() for part in segmentation]
        encoded = coco_mask.merge(coco_mask.frPyObjects(parts, cine.height, cine.width))
        mask = coco_mask.decode(encoded).astype(bool)
        return made(where, kind="brush", size=mask.shape, runs=runs_of(mask), **base)
    if segmentation:
        corners = np.reshape(segmentation[0], (-1, 2)) - HALF_PX
        return made(where, kind="polygon", corners=corners.tolist(), **base)
    x, y, width, height = each["bbox"]
    return made(where, kind="box", corner=(x - HALF_PX, y - HALF_PX), size=(width, height), **base)


def _is_drawn_so(each: dict[str, Any], mark: Annotation) -> bool:
    """Whether the polygon is still that of the mark in `attributes`. Another program may have changed it, and keeps
    attributes that it does not know."""
    drawn = each.get("segmentation")
    wanted = (outline(mark, CORNERS) + HALF_PX).ravel()
    if not isinstance(drawn, list) or len(drawn) != 1 or len(drawn[0]) != len(wanted):
        return False
    return bool(np.abs(np.asarray(drawn[0], float) - wanted).max() <= SAME_PX)


def _mask(encoded: dict[str, Any], cine: Facts, where: str) -> np.ndarray:
    """bool [H, W] from run lengths, as numbers or as COCO's text."""
    if list(encoded["size"]) != [cine.height, cine.width]:
        raise InputError(f"{where}: its mask is {encoded['size']} px, the frame is {[cine.height, cine.width]}.")
    if isinstance(encoded["counts"], list):
        if sum(encoded["counts"]) != cine.height * cine.width:
            raise InputError(f"{where}: its run lengths do not fill the frame.")
        encoded = coco_mask.frPyObjects(encoded, cine.height, cine.width)
    return coco_mask.decode(encoded).astype(bool)
