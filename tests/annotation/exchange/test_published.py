"""Files in the form that the programs publish, built small, and files that are none: each is a sentence."""

import json
import re
from collections.abc import Iterator

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from fetalflow.annotation.annotation import Box, Brush, Caliper, Ellipse, Polygon, Span
from fetalflow.annotation.exchange import coco, cvat, label_studio
from fetalflow.annotation.exchange.folder import read, texts
from fetalflow.annotation.exchange.label_studio_brush import CHANNELS
from fetalflow.annotation.exchange.marked import Facts, MarkedCine
from fetalflow.annotation.shapes import raster
from fetalflow.errors import InputError

SOURCE = "ab" * 32
CINE = Facts(SOURCE, 100, 60, 80, 25.0)
KNOWN = {SOURCE: CINE}


def studio(region: dict, data: dict | None = None) -> MarkedCine:
    """What is read of one region in the form of Label Studio's export."""
    region = {"id": "Xk1", "from_name": "a", "to_name": "b", "origin": "manual"} | region
    export = [
        {
            "id": 7,
            "data": data or {"image": f"/data/upload/1/{SOURCE}-000004.png", "source": SOURCE, "frame": 4},
            "annotations": [{"id": 3, "completed_by": 1, "was_cancelled": False, "result": [region]}],
            "predictions": [],
            "project": 1,
        }
    ]
    return label_studio.read(json.dumps(export), KNOWN)[0]


def test_label_studio_time_line_labels():
    value = {"ranges": [{"start": 1, "end": 25}], "timelinelabels": ["head"]}
    found = studio({"type": "timelinelabels", "value": value}, {"video": f"/data/{SOURCE}.mp4"})
    assert [(m.label, m.first_frame, m.last_frame) for m in found.marks] == [("head", 0, 24)]
    assert found.annotator == "1" and not found.predicted


def test_label_studio_rectangles_on_a_video():
    keys = [
        {"frame": 1, "enabled": True, "rotation": 0, "x": 10, "y": 10, "width": 50, "height": 50, "time": 0.04},
        {"frame": 11, "enabled": False, "rotation": 0, "x": 20, "y": 10, "width": 50, "height": 50, "time": 0.44},
    ]
    value = {"framesCount": 100, "duration": 4, "sequence": keys, "labels": ["head"]}
    found = studio({"type": "videorectangle", "value": value}, {"video": f"/data/{SOURCE}.mp4"})
    assert [(m.first_frame, m.last_frame, m.corner, m.size) for m in found.marks] == [
        (0, 9, (7.5, 5.5), (40, 30)),
        (10, 10, (15.5, 5.5), (40, 30)),
    ]
    assert len({m.track for m in found.marks}) == 1


def test_label_studio_exports_a_box_again_for_each_tag_of_labels_and_a_prediction_by_its_number():
    """As version 1.23 does it: the copies have the type of the tag."""
    key = {"frame": 3, "enabled": True, "rotation": 0, "x": 10, "y": 10, "width": 50, "height": 50, "time": 0.12}
    box = {"id": "b1", "type": "videorectangle", "value": {"sequence": [key], "labels": ["head"]}}
    copied = {"id": "b1", "type": "timelinelabels", "value": {"sequence": [key], "timelinelabels": ["head"]}}

    def read_of(*regions: dict) -> list[Box]:
        by = {"completed_by": 1, "result": list(regions)}
        task = {"data": {"video": f"/{SOURCE}.mp4"}, "annotations": [by], "predictions": [5]}
        return label_studio.read(json.dumps([task]), KNOWN)[0].marks

    (once,) = read_of(box)
    assert read_of(box, copied, copied) == read_of(copied) == (once,) and once.kind == "box"
    other = copied | {"value": copied["value"] | {"timelinelabels": ["arm"]}}
    with pytest.raises(InputError, match="'head'.*'arm'"):
        read_of(box, other)


def test_label_studio_shapes_on_a_frame():
    size = {"original_width": 80, "original_height": 60, "image_rotation": 0}
    ellipse = {"x": 50, "y": 50, "radiusX": 25, "radiusY": 10, "rotation": 30, "ellipselabels": ["head"]}
    found = studio({"type": "ellipselabels", "value": ellipse, **size}).marks[0]
    assert found.first_frame == 4 and np.allclose((*found.centre, *found.axes, found.angle), (39.5, 29.5, 20, 6, 30))
    polygon = {"points": [[0, 0], [100, 0], [50, 100]], "closed": True, "polygonlabels": ["head"]}
    found = studio({"type": "polygonlabels", "value": polygon, **size}).marks[0]
    assert np.allclose(found.corners, [(-0.5, -0.5), (79.5, -0.5), (39.5, 59.5)])


def test_label_studio_brush_in_the_published_layout():
    """Written bit by bit as its converter does it: all transparent but one run of opaque pixels in the second row."""
    values = np.zeros((60, 80, CHANNELS), np.uint8)
    values[1, 10:30] = 255
    bits = f"{values.size:032b}" + f"{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    for count, value in ((90 * CHANNELS, 0), (20 * CHANNELS, 255), (values.size - 110 * CHANNELS, 0)):
        bits += f"111{count - 1:016b}{value:08b}"  # one value repeated, the fourth size
    bits += "0" * (-len(bits) % 8)
    rle = [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]
    value = {"format": "rle", "rle": rle, "brushlabels": ["head"]}
    found = studio({"type": "brushlabels", "value": value, "original_width": 80, "original_height": 60}).marks[0]
    assert (raster(found, found.size) == (values[..., 3] > 0)).all()


TRACKS = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><id>5</id><name>{name}</name><size>100</size><mode>interpolation</mode>
<labels><label><name>head</name><attributes></attributes></label></labels>
<owner><username>ann</username><email></email></owner>
<original_size><width>{width}</width><height>60</height></original_size></task><dumped>2026-01-01</dumped></meta>
<track id="0" label="head" source="manual">{shapes}</track></annotations>"""


def tracks(shapes: str, name: str = SOURCE, width: int = 80) -> MarkedCine:
    return cvat.read(TRACKS.format(shapes=shapes, name=name, width=width), KNOWN)


def test_cvat_tracks():
    found = tracks(
        '<box frame="2" keyframe="1" outside="0" occluded="0" xtl="10.0" ytl="5.0" xbr="30.0" ybr="25.0" z_order="0"/>'
        '<box frame="6" keyframe="1" outside="0" occluded="0" xtl="12.0" ytl="5.0" xbr="32.0" ybr="25.0" z_order="0"/>'
        '<box frame="9" keyframe="1" outside="1" occluded="0" xtl="12.0" ytl="5.0" xbr="32.0" ybr="25.0" z_order="0"/>'
    )
    assert found.annotator == "ann"
    assert [(m.first_frame, m.last_frame, m.corner, m.size) for m in found.marks] == [
        (2, 5, (9.5, 4.5), (20, 20)),
        (6, 8, (11.5, 4.5), (20, 20)),
    ]
    mask = '<mask frame="3" keyframe="1" outside="0" occluded="0" rle="1, 3, 2" left="4" top="5" width="3" height="2"/>'
    found = tracks(mask).marks[0]
    painted = raster(found, found.size)
    assert np.argwhere(painted).tolist() == [[5, 5], [5, 6], [6, 4]]


def test_coco_polygons_and_masks():
    painted = np.zeros((60, 80), np.uint8, order="F")
    painted[5:9, 7:20] = 1
    compressed = coco_mask.encode(painted)
    file = {
        "images": [{"id": 1, "file_name": f"{SOURCE}-000004.png", "height": 60, "width": 80}],
        "categories": [{"id": 9, "name": "head", "supercategory": "fetus"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 9, "segmentation": [[0, 0, 80, 0, 40, 60]], "iscrowd": 0},
            {"id": 2, "image_id": 1, "category_id": 9, "iscrowd": 1}
            | {"segmentation": {"size": [60, 80], "counts": compressed["counts"].decode()}},
            {"id": 3, "image_id": 1, "category_id": 9, "segmentation": [], "bbox": [1, 2, 3, 4]},
        ],
    }
    polygon, mask, box = coco.read(json.dumps(file), KNOWN, "bo")[0].marks
    assert np.allclose(polygon.corners, [(-0.5, -0.5), (79.5, -0.5), (39.5, 59.5)]) and polygon.first_frame == 4
    assert (raster(mask, mask.size) == painted).all() and box.corner == (0.5, 1.5)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a": 1}', "<a/>", "[{}]", '[{"data": 3}]', '[{"data": {}}]'])
def test_what_is_no_export_is_refused_in_a_sentence(text):
    for form in ("label-studio", "cvat", "coco"):
        with pytest.raises(InputError) as refused:
            read(form, text, KNOWN)
        assert len(str(refused.value)) > 20


def spans(start: int, end: int) -> dict:
    return {"type": "timelinelabels", "value": {"ranges": [{"start": start, "end": end}], "timelinelabels": ["a"]}}


def painted(rle: list[int]) -> dict:
    size = {"original_width": 80, "original_height": 60}
    return {"type": "brushlabels", "value": {"rle": rle, "brushlabels": ["a"]}, **size}


@pytest.mark.parametrize(
    ("region", "said"),
    [
        (spans(1, 101), "has 100"),
        (spans(0, 4), "first_frame"),
        ({"type": "timelinelabels", "value": {"timelinelabels": ["a"]}}, "ranges"),
        ({"type": "keypointlabels", "value": {"x": 1, "y": 1, "keypointlabels": ["a"]}}, "no partner"),
        ({"type": "textarea", "value": {"text": ["a"]}}, "not read"),
        ({"type": "choices", "value": {"choices": ["a", "b"]}}, "2 labels"),
        ({"type": "polygonlabels", "value": {"points": [[0, 0], [9, 9], [1, 5]], "polygonlabels": []}}, "0 labels"),
        (painted([1, 2]), "rle"),
        (painted([0] * 9), "rle"),
        ({"type": "polygonlabels", "value": {"points": [[0, 0], [1, 1]], "polygonlabels": ["a"]}}, "at least 3"),
        (
            {"type": "ellipselabels", "value": {"x": 1, "y": 1, "radiusX": 0, "radiusY": 1, "ellipselabels": ["a"]}},
            "axes",
        ),
    ],
)
def test_a_region_that_cannot_be_a_mark_is_named(region, said):
    with pytest.raises(InputError, match=said):
        studio(region)


@pytest.mark.parametrize(
    ("shapes", "facts", "said"),
    [
        ("<cuboid frame='1'/>", {}, "cuboid"),
        ("<box frame='1' xtl='x' ytl='1' xbr='2' ybr='3'/>", {}, "number"),
        ("<box frame='1' xtl='5' ytl='1' xbr='2' ybr='3'/>", {}, "size"),
        ("<box frame='100' xtl='1' ytl='1' xbr='2' ybr='3'/>", {}, "100"),
        ("<mask frame='1' rle='1, 1' left='79' top='0' width='2' height='1'/>", {}, "outside"),
        ("<points frame='1' points='1,2;3,4;5,6'/>", {}, "two points"),
        ("", {"name": "another"}, "state the cine"),
        ("", {"width": 90}, "60 x 90"),
    ],
)
def test_a_track_that_cannot_be_a_mark_is_named(shapes, facts, said):
    with pytest.raises(InputError, match=said):
        tracks(shapes, **facts)


@pytest.mark.parametrize(
    ("data", "span"),
    [
        ({"image": f"/d/{SOURCE}-000004.png", "frame": 4}, (4, 4)),
        ({"image": f"/d/{SOURCE}-000004.png"}, (4, 4)),
        ({"image": f"/d/{SOURCE}-000000.png"}, (0, 0)),
        ({"video": f"/d/{SOURCE}.mp4"}, (0, 99)),
        ({"image": f"/d/{SOURCE}.png"}, "which frame"),
    ],
)
def test_a_choice_is_of_the_frame_or_of_the_whole_video(data, span):
    region = {"type": "choices", "value": {"choices": ["head"]}}
    if isinstance(span, str):
        with pytest.raises(InputError, match=span):
            studio(region, data)
    else:
        (mark,) = studio(region, data).marks
        assert (mark.first_frame, mark.last_frame) == span


def test_a_skipped_task_of_label_studio_brings_nothing():
    skipped = {"completed_by": 1, "was_cancelled": True, "result": [{"id": "a", **spans(1, 2)}]}
    task = {"data": {"video": f"/{SOURCE}.mp4"}, "annotations": [skipped]}
    assert label_studio.read(json.dumps([task]), KNOWN) == []


@pytest.mark.parametrize(("name", "frame"), [("-000012_v2", 12), ("-7", 7), ("", None), ("-x", None)])
def test_the_frame_of_an_image_of_coco_is_stated_or_in_its_name(name, frame):
    image = {"id": 1, "file_name": f"{SOURCE}{name}.png", "height": 60, "width": 80}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}
    text = json.dumps({"images": [image], "categories": [{"id": 1, "name": "head"}], "annotations": [box]})
    if frame is None:
        with pytest.raises(InputError, match="which frame"):
            coco.read(text, KNOWN)
    else:
        assert coco.read(text, KNOWN)[0].marks[0].first_frame == frame


@pytest.mark.parametrize(
    ("meta", "who"),
    [
        ("<assignee><username>ben</username></assignee>", "ben"),
        ("<assignee></assignee>", "ann"),
        ("", "ann"),
    ],
)
def test_the_annotator_of_cvat_is_who_the_task_is_assigned_to(meta, who):
    text = TRACKS.format(shapes="", name=SOURCE, width=80).replace("<owner>", f"{meta}<owner>")
    assert cvat.read(text, KNOWN).annotator == who


def broken(document: object) -> Iterator[object]:
    """The document with each of its values in turn gone, or replaced by a value of another form."""
    places = document.items() if isinstance(document, dict) else enumerate(document)
    for place, value in list(places):
        for other in (None, "", "x", -1, 1e300, [], {}, [None], [[["x"]]], {"a": 1}):
            yield (
                type(document)(document) | {place: other}
                if isinstance(document, dict)
                else [other if at == place else each for at, each in enumerate(document)]
            )
        if isinstance(document, dict):
            yield {name: each for name, each in document.items() if name != place}
        if isinstance(value, (dict, list)):
            for inner in broken(value[:6] if isinstance(value, list) else value):
                copied = document.copy()
                copied[place] = inner
                yield copied


EVERY_KIND = (
    Span(id=f"{0:032x}", label="a", first_frame=2, last_frame=9, note="n", shown="x"),
    Caliper(id=f"{1:032x}", label="a", first_frame=3, last_frame=3, ends=((1, 2), (5, 6))),
    Ellipse(id=f"{2:032x}", label="b", centre=(5, 5), axes=(3, 2), angle=10),
    Polygon(id=f"{3:032x}", label="b", corners=((1, 1), (5, 1), (5, 5))),
    Brush(id=f"{4:032x}", label="b", size=(60, 80), runs=(4, 5, 4791)),
    Box(id=f"{5:032x}", label="a", first_frame=1, last_frame=4, corner=(1, 1), size=(3, 3), track="t"),
)


@pytest.mark.parametrize("form", ["label-studio", "cvat", "coco"])
def test_a_damaged_file_is_read_or_refused_in_a_sentence(form):
    """Whatever value is gone or has another form: no other error leaves the readers."""
    marked = [MarkedCine(CINE, "ann", EVERY_KIND)]
    (text,) = files_of(form, marked).values()
    if form == "cvat":
        whole = [
            text[: at.start(at.lastindex)] + other + text[at.end(at.lastindex) :]
            for at in VALUES.finditer(text)
            for other in ODD
        ]
    else:
        whole = [json.dumps(each) for each in broken(json.loads(text))]
    refused = 0
    for each in whole:
        try:
            read(form, each, KNOWN)
        except InputError as error:
            refused += 1
            assert str(error).endswith((".", "?"))
    assert refused > 20


def files_of(form: str, marked: list[MarkedCine]) -> dict[str, str]:
    """The one file of a format with all these marks."""
    if form == "label-studio":
        return {"tasks": label_studio.write(marked, lambda source, frame: f"/{source}")}
    files, _ = texts(form, marked, ["a", "b"])
    return {name: text for name, text in files.items() if name != "labels.json"}


VALUES = re.compile(r'"([^"]*)"|>([^<\s][^<]*)<')
ODD = ("", "x", "-1", "1e300", "nan", "9" * 30, "1,2")


def test_no_entity_of_xml_is_expanded():
    bomb = '<!DOCTYPE a [<!ENTITY b "bbbb">]><annotations>&b;</annotations>'
    with pytest.raises(InputError):
        cvat.read(bomb, KNOWN)
