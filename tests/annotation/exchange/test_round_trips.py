"""What goes out to Label Studio, CVAT and COCO comes back as it was, as far as the format can say it."""

import json
from xml.etree.ElementTree import fromstring

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetalflow.annotation.annotation import Box, Brush, Caliper, Ellipse, Polygon, Span
from fetalflow.annotation.exchange import coco, cvat, label_studio, label_studio_brush
from fetalflow.annotation.exchange.marked import Facts, MarkedCine, runs_of
from fetalflow.annotation.shapes import raster

H, W, T = 12, 20, 30
CINE = Facts("c" * 64, T, H, W, 25.0)
STILL = Facts("5" * 64, 1, H, W)
KNOWN = {each.source: each for each in (CINE, STILL)}
TEXT = st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), max_size=12)
place = st.tuples(st.floats(-0.5, W - 0.5), st.floats(-0.5, H - 0.5))
length = st.floats(0.25, 30)
turn = st.floats(0, 359)


def common(frames: int, one_frame: bool) -> dict:
    first = st.integers(0, frames - 1)
    return {"id": st.uuids().map(lambda each: each.hex), "label": st.sampled_from(["head", "Fetal <brain> & 'x'"])} | {
        "shown": TEXT,
        "started_from": TEXT,
        "note": TEXT.map(str.strip),
        "frames": first.map(lambda f: (f, f)) if one_frame else st.tuples(first, first).map(sorted),
    }


def mark(kind, frames: int = T, one_frame: bool = True, **parts):
    def build(values):
        first, last = values.pop("frames")
        return kind(first_frame=first, last_frame=last, **values)

    return st.fixed_dictionaries(common(frames, one_frame) | parts).map(build)


mask = st.binary(min_size=H * W // 8, max_size=H * W // 8).map(
    lambda bits: np.unpackbits(np.frombuffer(bits, np.uint8)).reshape(H, W).astype(bool)
)
span = mark(Span, one_frame=False)
caliper = mark(Caliper, ends=st.tuples(place, place))
ellipse = mark(Ellipse, centre=place, axes=st.tuples(length, length), angle=turn)
polygon = mark(Polygon, corners=st.lists(place, min_size=3, max_size=6).map(tuple))
brush = mark(Brush, size=st.just((H, W)), runs=mask.map(runs_of))
box = mark(Box, one_frame=False, corner=place, size=st.tuples(length, length), angle=turn)
marks = st.lists(st.one_of(span, caliper, ellipse, polygon, brush, box), max_size=5, unique_by=lambda each: each.id)
drawn = st.lists(st.one_of(caliper, ellipse, polygon, brush, box), max_size=5, unique_by=lambda each: each.id)


def address(source: str, frame: int | None) -> str:
    return f"/data/{source}" + ("" if frame is None else f"-{frame:06d}.png")


def same(found: list[MarkedCine], given: MarkedCine) -> None:
    """Equal, but for the last digits of numbers that were percent in between."""
    assert {(each.cine, each.annotator, each.predicted) for each in found} == (
        {(given.cine, given.annotator, given.predicted)} if given.marks else set()
    )
    back = {each.id: each.model_dump() for marked in found for each in marked.marks}
    assert set(back) == {each.id for each in given.marks}
    for each in given.marks:
        wanted = each.model_dump()
        for name, value in back[each.id].items():
            if name in ("ends", "centre", "axes", "corners", "corner", "size", "angle"):
                assert np.allclose(value, wanted[name], atol=1e-6), name
            else:
                assert value == wanted[name], name


@settings(max_examples=60, deadline=None)
@given(marks, st.booleans())
def test_label_studio_loses_nothing(given_marks, predicted):
    marked = MarkedCine(CINE, "ann", tuple(given_marks), predicted)
    same(label_studio.read(label_studio.write([marked], address), KNOWN), marked)


@settings(max_examples=60, deadline=None)
@given(marks)
def test_cvat_loses_nothing(given_marks):
    marked = MarkedCine(CINE, "ann", tuple(given_marks))
    found = cvat.read(cvat.write(marked), KNOWN)
    same([found] if given_marks else [], marked)


@settings(max_examples=60, deadline=None)
@given(drawn, st.lists(span, max_size=2))
def test_coco_loses_nothing_but_spans_and_says_so(shapes, spans):
    marked = MarkedCine(CINE, "ann", tuple(shapes))
    text, said = coco.write([MarkedCine(CINE, "ann", (*shapes, *spans))], address)
    same(coco.read(text, KNOWN), marked)
    assert [each.split()[0] for each in said] == ([str(len(spans))] if spans else [])


@settings(max_examples=40, deadline=None)
@given(mask)
def test_masks_are_the_same_in_every_encoding(painted):
    encoded = label_studio_brush.encode(painted)
    assert (label_studio_brush.decode(encoded, H, W, "x") == painted).all()
    drawn = Brush(id="0" * 32, label="head", size=(H, W), runs=runs_of(painted))
    assert (raster(drawn, drawn.size) == painted).all()


def boxes_of_one_track() -> tuple[Box, ...]:
    """Three key frames without a pause, a pause, and one key frame that lasts."""
    shared = {"label": "head", "size": (4.0, 3.0), "track": "the head"}
    frames = [(0, 3), (4, 8), (9, 9), (14, 20)]
    return tuple(
        Box(id=f"{i:032x}", corner=(1.0 + i, 2.0), first_frame=first, last_frame=last, **shared)
        for i, (first, last) in enumerate(frames)
    )


@pytest.mark.parametrize("last", [20, T - 1])
def test_a_track_keeps_its_key_frames_and_its_pauses(last):
    *others, final = boxes_of_one_track()
    marked = MarkedCine(CINE, "ann", (*others, final.model_copy(update={"last_frame": last})))
    same(label_studio.read(label_studio.write([marked], address), KNOWN), marked)
    same([cvat.read(cvat.write(marked), KNOWN)], marked)


def test_a_still_with_its_plane_is_a_choice():
    marked = MarkedCine(STILL, "ann", (Span(id="1" * 32, label="Fetal brain"),))
    text = label_studio.write([marked], address)
    assert json.loads(text)[0]["annotations"][0]["result"][0]["value"] == {"choices": ["Fetal brain"]}
    same(label_studio.read(text, KNOWN), marked)


@pytest.mark.parametrize("size", [(12, 20), (11, 19), (11, 20)])
def test_a_box_on_a_video_of_an_odd_size_is_percent_of_the_video_that_is_written(size):
    """H.264 has even sides; the video has a row or a column more than the frames."""
    cine = Facts("d" * 64, T, *size, 25.0)
    drawn = Box(id="1" * 32, label="head", last_frame=3, corner=(9.5, 5.5), size=(4.0, 3.0))
    text = label_studio.write([MarkedCine(cine, "ann", (drawn,))], address)
    key = json.loads(text)[0]["annotations"][0]["result"][0]["value"]["sequence"][0]
    assert (key["x"], key["y"]) == (50.0, 50.0), "of 20 x 12 px"
    same(label_studio.read(text, {cine.source: cine}), MarkedCine(cine, "ann", (drawn,)))
    xml = cvat.write(MarkedCine(cine, "ann", (drawn,)))
    for side, number in zip(("height", "width"), size, strict=True):
        xml = xml.replace(f"<{side}>{number}<", f"<{side}>{number + number % 2}<")
    same([cvat.read(xml, {cine.source: cine})], MarkedCine(cine, "ann", (drawn,)))


def test_label_studio_is_told_the_rate_and_the_length_of_every_video():
    """Without a rate it counts 24 frames per second, and a track without times and duration is refused."""
    unknown = Facts("e" * 64, T, H, W)
    of = [MarkedCine(cine, "ann", boxes_of_one_track()) for cine in (CINE, unknown)]
    for task in label_studio.tasks_of(of, address):
        value = task["annotations"][0]["result"][0]["value"]
        assert task["data"]["fps"] == 25.0 and value["duration"] == T / 25.0
        assert [key["time"] for key in value["sequence"]] == [key["frame"] / 25.0 for key in value["sequence"]]
    for kind, text in label_studio.configurations(["head", "<&\"'"]).items():
        view = fromstring(text)  # one root: Label Studio refuses two
        assert (view.find("Video") is not None) == (kind == "video")
        if kind == "video":
            assert view.find("Video").get("frameRate") == "$fps"
            tags = [tag.tag for tag in view]
            assert tags.index("Labels") < tags.index("TimelineLabels"), "else a changed label of a box gets lost there"


def test_what_another_program_changed_wins_over_what_it_cannot_change():
    """Attributes that a program does not know come back as they were, beside what a person changed."""
    ellipse = Ellipse(id="1" * 32, label="head", centre=(9.0, 6.0), axes=(4.0, 3.0), angle=20)
    drawn = Box(id="2" * 32, label="head", corner=(2.0, 3.0), size=(4.0, 3.0))
    file = json.loads(coco.write([MarkedCine(CINE, "ann", (ellipse, drawn))], address)[0])
    rounded = json.loads(json.dumps(file), parse_float=lambda number: round(float(number), 2))
    assert [mark.kind for mark in coco.read(json.dumps(rounded), KNOWN)[0].marks] == ["ellipse", "box"]
    for each in file["annotations"]:
        each["segmentation"][0][0] += 1
    assert [mark.kind for mark in coco.read(json.dumps(file), KNOWN)[0].marks] == ["polygon", "polygon"]
    noted = Span(id="3" * 32, label="head", last_frame=4, note="old", shown="net 1")
    (task,) = label_studio.tasks_of([MarkedCine(CINE, "ann", (noted,))], address)
    task["annotations"][0]["result"][0]["meta"]["text"] = ["new"]
    (mark,) = label_studio.read(json.dumps([task]), KNOWN)[0].marks
    assert (mark.note, mark.shown) == ("new", "net 1")
