"""An outline is told from a filled mask by its topology, and a filled mask is kept bit by bit."""

import cv2
import numpy as np
import pytest
from PIL import Image

from fetalflow.cine.mask_values import one_class
from fetalflow.cine.masks import PEN_OFF, Reading, mask_of, read_mask
from fetalflow.cine.outlines import COMPLETED, DELIVERED, EMPTY, FILLED, OPEN, Undecided, inset, solid
from fetalflow.cine.recording import Limits
from fetalflow.errors import InputError

HEIGHT, WIDTH = 120, 160
HEAD = ((80, 60), (100, 76), 20)


def blank() -> np.ndarray:
    return np.zeros((HEIGHT, WIDTH), np.uint8)


def head(thick: int = cv2.FILLED, box=HEAD) -> np.ndarray:
    return cv2.ellipse(blank(), box, 1, thick)


def femur(thick: int, bow: int, reach: int = 55) -> np.ndarray:
    x = np.arange(-reach, reach + 1)
    line = np.stack([80 + x, 80 - bow * (1 - (x / reach) ** 2)], axis=1)
    return cv2.polylines(blank(), [line.round().astype(np.int32)], False, 1, thick)


def with_specks(mask: np.ndarray, share: float, value: int) -> np.ndarray:
    return np.where(np.random.default_rng(0).random(mask.shape) < share, value, mask).astype(np.uint8)


def arc(degrees: int, thick: int = 2) -> np.ndarray:
    return cv2.ellipse(blank(), (80, 60), (50, 38), 20, 0, degrees, 1, thick)


def without(mask: np.ndarray, radius: int) -> np.ndarray:
    return cv2.circle(mask, (80, 60), radius, 0, cv2.FILLED)


def dashes(of: int, every: int, thick: int) -> np.ndarray:
    """An ellipse drawn in dashes of `of` degrees, one in `every` degrees."""
    drawn = [cv2.ellipse(blank(), (80, 60), (50, 38), 0, a, a + of, 1, thick) for a in range(0, 360, every)]
    return np.bitwise_or.reduce(drawn)


FILLED_MASKS = {
    **{f"a femur of {thick} px, bowed by {bow}": femur(thick, bow) for thick in (2, 3, 6) for bow in (0, 12, 40)},
    "a femur from border to border": femur(3, 12, reach=80),
    "a femur in two pieces": femur(5, 20) * (np.abs(np.arange(WIDTH) - 80) > 5).astype(np.uint8),
    "specks beside it": with_specks(head(), 0.02, 1),
    "pinholes": with_specks(head(), 0.05, 0),
    "an abdomen without its stomach": without(head(), 14),
    "a wall": without(cv2.circle(blank(), (80, 60), 45, 1, cv2.FILLED), 30),
    "half beyond the border": head(box=((10, 60), (100, 76), 20)),
    "two pieces": head() * (np.abs(np.arange(WIDTH) - 80) > 3).astype(np.uint8),
    "an open arc": arc(200),
    **{
        f"two bones {away} px apart": np.maximum(femur(3, 0), np.roll(femur(3, 4), away, 0)) for away in (8, 14, 16, 20)
    },
    "everything": blank() + 1,
    "a small one": cv2.circle(blank(), (80, 60), 2, 1, cv2.FILLED),
}


@pytest.mark.parametrize("mask", FILLED_MASKS.values(), ids=FILLED_MASKS)
def test_a_filled_mask_is_kept(mask):
    found = solid(mask)
    assert np.array_equal(found.mask, mask) and found.done in (DELIVERED, OPEN)


def test_what_is_only_a_line_is_said():
    assert solid(arc(200)).done == OPEN and solid(femur(6, 12)).done == DELIVERED and solid(blank()).done == EMPTY


OUTLINES = {
    **{f"a pen of {thick} px": head(thick) for thick in (1, 2, 3, 5)},
    "long and narrow": head(1, ((80, 60), (120, 24), 10)),
    "with its axes": cv2.line(cv2.line(head(1), (80, 60), (110, 70), 1), (80, 60), (75, 80), 1),
    "with a speck outside": cv2.circle(head(2), (150, 8), 1, 1, cv2.FILLED),
    "along the border": head(1, ((50, 60), (100, 76), 0)),
    "two of them": head(1, ((40, 60), (60, 50), 0)) | head(1, ((120, 60), (60, 50), 0)),
    "of a bone": cv2.rectangle(blank(), (20, 50), (140, 64), 1, 3),
    "of no ellipse": cv2.rectangle(blank(), (30, 20), (120, 90), 1, 2),
}


@pytest.mark.parametrize("drawn", OUTLINES.values(), ids=OUTLINES)
def test_a_closed_outline_is_filled_to_the_outer_edge_of_its_pen(drawn):
    edges, _ = cv2.findContours(drawn, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    found = solid(drawn)
    assert found.done == FILLED
    assert np.array_equal(found.mask, cv2.drawContours(blank(), edges, -1, 1, cv2.FILLED))


@pytest.mark.parametrize("thick", [1, 3])
@pytest.mark.parametrize("at", [(20, 60), (80, 110), (150, 25), (80, 5)])
def test_an_outline_that_the_border_cuts_is_completed(at, thick):
    box = (at, HEAD[1], 20)
    found, outer = solid(head(thick, box)), solid(head(thick)).mask
    moved = cv2.warpAffine(outer, np.array([[1, 0, at[0] - 80], [0, 1, at[1] - 60]], float), (WIDTH, HEIGHT))
    assert found.done == COMPLETED
    seen = moved[2:-2, 2:-2]  # the drawing is whole in the middle, but moved in from beyond the border only in part
    whole = head(box=(at, (HEAD[1][0] + thick, HEAD[1][1] + thick), 20))
    assert (found.mask != whole).mean() < 0.02 and seen.any()


UNCLEAR = {
    **{f"a gap, with a pen of {thick} px": (arc(353 - 2 * thick, thick), "has a gap") for thick in (1, 2, 4)},
    "dashes": (dashes(8, 12, 2), "has a gap"),
    "dashes of a fine pen": (dashes(6, 12, 1), "has a gap"),
    "dots": (dashes(1, 8, 2), "has a gap"),
    "cut by the border, and a gap": (cv2.circle(head(2, ((10, 60), HEAD[1], 20)), (58, 77), 2, 0, -1), "has a gap"),
    "up to 3 px from the border": (
        head(1, ((10, 60), HEAD[1], 20)) * (np.arange(WIDTH) > 2).astype(np.uint8),
        "has a gap",
    ),
    "one inside another": (head(1) | head(1, ((80, 60), (80, 60), 20)), "inside another"),
    "an outline and a filled piece": (head(2, ((40, 60), (60, 50), 0)) | head(box=((120, 60), (60, 50), 0)), "is not"),
}


@pytest.mark.parametrize(("drawn", "reason"), UNCLEAR.values(), ids=UNCLEAR)
def test_what_is_neither_is_refused(drawn, reason):
    with pytest.raises(Undecided, match=reason):
        solid(drawn)


def radius(mask: np.ndarray) -> float:
    return float(np.sqrt(mask.sum() / np.pi))


@pytest.mark.parametrize("px", [0.5, 1.39, 3.0])
def test_an_edge_is_moved_by_parts_of_a_pixel(px):
    for across in (60, 83.5):
        disc = cv2.circle(blank(), (80 * 16, 60 * 16), int(across * 8), 1, cv2.FILLED, shift=4)
        assert radius(disc) - radius(inset(disc, px)) == pytest.approx(px, abs=0.12)
    bone = inset(femur(9, 12), px)
    assert cv2.connectedComponents(bone)[0] == 2 and not (bone & ~femur(9, 12)).any()
    at_border = inset(head(box=((10, 60), (100, 76), 20)), px)
    assert at_border[60, 0], "the frame's border is no edge of the structure"


def test_of_a_drawn_outline_half_of_the_drawn_pen_is_taken_off(tmp_path):
    inner = []
    for thick in (1, 3, 5):
        cv2.imwrite(str(tmp_path / "a.png"), 255 * head(thick))
        mask = mask_of(tmp_path / "a.png", None, Reading(pen=2.78))
        assert mask.done == FILLED + PEN_OFF
        inner.append(radius(mask.frames[0]))
    assert max(inner) - min(inner) < 0.5, "whatever the pen, its middle is the same"


# Values


def save(folder, mask: np.ndarray):
    """One frame as a picture and as npz."""
    cv2.imwrite(str(folder / "a.png"), mask)
    np.savez_compressed(folder / "a.npz", mask=mask[None])
    return folder / "a.png", folder / "a.npz"


SOFT = cv2.GaussianBlur(255 * head(), (5, 5), 1)
ONE_CLASS = {
    "of 255": 255 * head(),
    "of 1": head(),
    "of 7": 7 * head(),
    "soft edges": SOFT,
    "16 bits": 1000 * head().astype(np.uint16),
    "thin": 255 * femur(3, 20),
    "an outline": 255 * head(2),
    "a soft outline": cv2.ellipse(blank(), HEAD, 255, 2, cv2.LINE_AA),
    "specks": 255 * with_specks(head(), 0.02, 1),
}


@pytest.mark.parametrize("mask", ONE_CLASS.values(), ids=ONE_CLASS)
def test_picture_and_npz_of_one_mask_give_the_same_bits(tmp_path, mask):
    picture, packed = (read_mask(path) for path in save(tmp_path, mask))
    assert np.array_equal(picture, packed) and picture.dtype == np.uint8 and set(np.unique(picture)) == {0, 1}
    assert np.array_equal(picture[0], solid((mask > mask.max() // 2).astype(np.uint8)).mask)


def two(first: int, second: int, box=((40, 60), (50, 40), 0)) -> np.ndarray:
    return np.where(head(box=((120, 60), (50, 60), 0)) > 0, second, first * head(box=box)).astype(np.uint8)


SEVERAL = {
    "1 and 2": two(1, 2),
    "128 and 255": two(128, 255),
    "254 and 255": two(254, 255),
    "a rim of 2 px between them": np.where(cv2.erode(head(), np.ones((5, 5))) > 0, 255, 128 * head()).astype(np.uint8),
    "one in the other": np.where(without(head(), 14) > 0, 1, head() * 2).astype(np.uint8),
    "a rim of another class": np.where(cv2.erode(head(), np.ones((3, 3))) > 0, 2, head()).astype(np.uint8),
    "a small one of another class": np.where(cv2.circle(blank(), (30, 20), 1, 1, -1) > 0, 200, 100 * head()),
    "not sure, as in VOC": np.where(head(3) > 0, 255, head()).astype(np.uint8),
    "thin lines": np.where(head(1) > 0, 1, 2 * femur(1, 5)).astype(np.uint8),
    "20 classes": (np.arange(WIDTH) // 8 * head()).astype(np.uint8),
    "an ultrasound image": cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH)) / 1, (9, 9), 3),
}


@pytest.mark.parametrize("mask", SEVERAL.values(), ids=SEVERAL)
def test_several_classes_are_refused_in_a_picture_and_in_npz(tmp_path, mask):
    for path in save(tmp_path, mask.astype(np.uint8)):
        with pytest.raises(InputError, match=f"^{path}: the mask holds several classes.*mask_class"):
            read_mask(path)


def test_the_table_may_name_the_class(tmp_path):
    mask = two(1, 2)
    for path in save(tmp_path, mask):
        for wanted in ("1", "2", "2.0"):
            found = read_mask(path, None, Reading(wanted))[0]
            assert np.array_equal(found, mask == float(wanted))
        with pytest.raises(InputError, match="mask_class is 3, and the file holds 1, 2"):
            read_mask(path, None, Reading("3"))
        with pytest.raises(InputError, match="mask_class is 'head', and the file holds numbers"):
            read_mask(path, None, Reading("head"))


def test_the_number_of_a_class_is_the_index_of_a_palette(tmp_path):
    picture = Image.fromarray(two(1, 2), "P")
    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    picture.save(tmp_path / "a.png")
    assert np.array_equal(read_mask(tmp_path / "a.png", None, Reading("2"))[0], two(1, 2) == 2)
    with pytest.raises(InputError, match="several colours .#008000, #800000"):
        read_mask(tmp_path / "a.png")


def test_colours_are_classes(tmp_path):
    left, right = (two(1, 2) == value for value in (1, 2))
    picture, path = np.zeros((HEIGHT, WIDTH, 3), np.uint8), tmp_path / "a.png"
    picture[left] = (0, 0, 255)
    cv2.imwrite(str(path), picture)
    assert np.array_equal(read_mask(path)[0], left)
    for other in ((0, 255, 0), (0, 60, 255), (0, 0, 90), (200, 200, 200)):
        picture[right] = other
        cv2.imwrite(str(path), picture)
        with pytest.raises(InputError, match="several (colours|classes)"):
            read_mask(path)
        assert np.array_equal(read_mask(path, None, Reading("#ff0000"))[0], left)
    with pytest.raises(InputError, match="#00ff00, and the file holds #c8c8c8, #ff0000"):
        read_mask(path, None, Reading("#00ff00"))


def test_transparent_is_outside_whatever_its_colour(tmp_path):
    picture = np.full((HEIGHT, WIDTH, 4), 255, np.uint8)
    picture[..., 3] = 255 * head()
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    assert np.array_equal(read_mask(tmp_path / "a.png")[0], head())


@pytest.mark.parametrize("at", [(80, 60), (80, 5), (155, 60), (10, 110)])
def test_an_inverted_mask_is_refused(at):
    for mask in (head(box=(at, HEAD[1], 20)), head(1, (at, HEAD[1], 20))):
        with pytest.raises(InputError, match="may be inverted"):
            one_class(1 - mask[None])


def test_values_below_0_are_refused():
    with pytest.raises(InputError, match="holds -1"):
        one_class(-head()[None].astype(np.int16))


@pytest.mark.parametrize("quality", [75, 90, 95, 100])
@pytest.mark.parametrize("mask", [head(), head(2), femur(6, 12)], ids=["head", "outline", "femur"])
def test_a_mask_stored_as_jpeg_gives_the_bits_of_the_mask(tmp_path, mask, quality):
    cv2.imwrite(str(tmp_path / "a.jpg"), 255 * mask, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert np.array_equal(read_mask(tmp_path / "a.jpg")[0], solid(mask).mask)


def test_frames_of_a_cine_are_outlines_or_none_is(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, mask=np.stack([head(1), blank(), head(2)]))
    assert mask_of(path).done == FILLED and np.array_equal(read_mask(path)[2], solid(head(2)).mask)
    np.savez_compressed(path, mask=np.stack([head(1), head()]))
    with pytest.raises(InputError, match="frame 1 holds a filled mask .* frame 0 a drawn outline"):
        read_mask(path)


def test_a_small_file_that_unpacks_to_gigabytes_is_refused_by_its_header(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, mask=np.zeros((40, 300, 300), np.int64))
    monkeypatch.setattr("fetalflow.cine.masks._npz", lambda path: pytest.fail("it was unpacked"))
    monkeypatch.setattr("fetalflow.cine.masks.LIMITS", Limits(max_bytes=1_000_000))
    with pytest.raises(InputError, match="would unpack to 28800000 bytes"):
        read_mask(path)
    with pytest.raises(InputError, match=r"expected a mask .* of \[1, 300, 300\], found \[40, 300, 300\]"):
        read_mask(path, (1, 300, 300))
