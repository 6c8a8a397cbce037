"""HC18 in its published layout: every row is used or says why not, and outlines become masks."""

import re
import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from fetalflow.biometry.measuring import measure_frame
from fetalflow.biometry.outline import Spacing
from fetalflow.cine.mask_store import stored_mask
from fetalflow.cine.masks import filled, read_mask
from fetalflow.errors import InputError
from fetalflow.hospital.arrival.intake import arrive
from fetalflow.hospital.drop.layouts.hc18 import NAME as HC18
from fetalflow.hospital.drop.layouts.hc18 import TABLE
from fetalflow.hospital.drop.opening import layout_of
from fetalflow.sequences.extraction import extract_drop
from fetalflow.settings.params import Extract, Retrain, Split

HEIGHT, WIDTH = 108, 160
HALF_AXES = 46.0, 34.0  # px
HEADER = "filename,pixel size(mm),head circumference (mm)"
SETTINGS = Extract(labels=("head", "abdomen", "femur"), frames=1, workers=1)


def circumference(a: float, b: float) -> float:
    """Of an ellipse by its integral, as nobody else here computes it."""
    t = np.linspace(0, 2 * np.pi, 100_000)
    return float(np.trapezoid(np.hypot(a * np.sin(t), b * np.cos(t)), t))


def outline(solid: bool = False, at: tuple[float, float] = (80, 54), size: tuple[int, int] = (WIDTH, HEIGHT)):
    """uint8 [H, W], 255 on an ellipse one pixel wide, or in it."""
    drawn = np.zeros(size[::-1], np.uint8)
    box = (at, (2 * HALF_AXES[0], 2 * HALF_AXES[1]), 12.0)
    cv2.ellipse(drawn, box, 255, cv2.FILLED if solid else 1)
    return drawn


class Set:
    """A small HC18: images of noise, outlines, and a table."""

    def __init__(self, folder: Path):
        self.folder, self.rows = folder, []
        (folder / "training_set").mkdir(parents=True)

    def add(self, name: str, pixel: str = "0.2", length: str = "", drawn: np.ndarray | None = None) -> None:
        rng = np.random.default_rng(len(self.rows))
        picture = cv2.GaussianBlur(rng.integers(0, 255, (HEIGHT, WIDTH)).astype(np.uint8), (5, 5), 1)
        cv2.imwrite(str(self.folder / "training_set" / name), picture)
        self.annotate(name, outline() if drawn is None else drawn)
        self.rows.append(f"{name},{pixel},{length or round(0.2 * circumference(*HALF_AXES), 2)}")

    def annotate(self, name: str, drawn: np.ndarray) -> None:
        cv2.imwrite(str(self.annotation(name)), drawn)

    def annotation(self, name: str) -> Path:
        return self.folder / "training_set" / name.replace(".png", "_Annotation.png")

    def extract(self, header: str = HEADER):
        (self.folder / TABLE).write_text("\n".join((header, *self.rows)) + "\n")
        return extract_drop(self.folder, SETTINGS, self.folder.parent / "frames")


@pytest.fixture
def heads(tmp_path):
    made = Set(tmp_path / "hc18")
    for name in ("001_HC.png", "010_HC.png", "010_2HC.png"):
        made.add(name)
    return made


def test_rows_patients_and_truth(heads):
    found = heads.extract()
    table = found.sequences.set_index("video")
    first = table.loc["training_set/001_HC.png"]
    assert found.quarantine.empty and found.summary["layout"] == HC18 and layout_of(heads.folder) == HC18
    assert list(table.patient) == ["001", "010", "010"] and set(table.label) == {"head"}
    assert set(table.annotators) == {"HC18"} and (table.mm_per_px == 0.2).all()
    assert first["mask"] == "training_set/001_HC_Annotation.png"
    assert float(first.hc_mm) == pytest.approx(0.2 * circumference(*HALF_AXES), abs=0.01)
    assert found.summary["cine_files"] == 3 and found.summary["cines_without_a_row"] == []


def test_it_may_lie_in_a_folder_of_the_drop_and_in_a_zip(heads):
    heads.extract()
    drop = heads.folder.parent / "drop"
    drop.mkdir()
    heads.folder.rename(drop / "hc18")
    (drop / "README.txt").write_text("from the challenge")
    table = extract_drop(drop, SETTINGS, drop.parent / "frames").sequences
    assert len(table) == 3 and read_mask(drop / table["mask"][0]).shape == (1, HEIGHT, WIDTH)
    with zipfile.ZipFile(drop.parent / "hc18.zip", "w") as made:
        for file in (drop / "hc18").rglob("*.*"):
            made.write(file, file.relative_to(drop / "hc18"))
    found = extract_drop(drop.parent / "hc18.zip", SETTINGS, drop.parent / "frames")
    assert found.quarantine.empty and list(found.sequences.mask_source) == list(table.mask_source)


def test_half_of_the_pen_is_taken_off_masks_and_outlines(heads):
    heads.add("020_HC.png", drawn=outline(solid=True))
    found = heads.extract()
    table = found.sequences.set_index("video")
    assert set(table.mask_pen_px) == {"2.78"}
    assert found.summary["masks"] == {
        "as delivered; half of the pen taken off": 1,
        "outline filled; half of the pen taken off": 3,
    }
    areas = {}
    for name in ("001_HC.png", "020_HC.png"):
        mask = stored_mask(table.mask_source[f"training_set/{name}"], heads.folder.parent / "frames")[0]
        areas[name] = mask.sum() / np.pi
    assert areas["001_HC.png"] == pytest.approx(HALF_AXES[0] * HALF_AXES[1], rel=0.01)
    assert areas["020_HC.png"] == pytest.approx((HALF_AXES[0] - 0.9) * (HALF_AXES[1] - 0.9), rel=0.02)


FAULTS = {
    "no pixel size": ({"pixel": ""}, r"pixel size\(mm\) must be a number above 0; found ''"),
    "a pixel size of 0": ({"pixel": "0"}, "above 0; found '0'"),
    "no circumference": ({"length": "unknown"}, r"head circumference \(mm\) must be a number"),
    "another image's pixel size": ({"pixel": "0.3"}, "with a pixel size of 0.3 mm, the table says"),
    "an outline of another size": ({"drawn": outline(size=(150, 100))}, "150x100 pixels, its image 160x108"),
    "an empty outline": ({"drawn": np.zeros((HEIGHT, WIDTH), np.uint8)}, "the outline is empty"),
    "a name without a number": ({"name": "x_HC.png"}, "number of the head"),
}


@pytest.mark.parametrize(("changes", "reason"), FAULTS.values(), ids=FAULTS)
def test_a_bad_row_goes_to_quarantine_with_its_reason(heads, changes, reason):
    heads.add(**{"name": "020_HC.png"} | changes)
    found = heads.extract()
    assert len(found.sequences) == 3 and list(found.quarantine.kind) == ["row"]
    assert "line 5" in found.quarantine.reason[0]
    assert re.search(reason, found.quarantine.reason[0])


def test_numbers_with_a_decimal_comma_are_read(heads):
    heads.rows = [re.sub(r"(?<=\d)\.(?=\d)", ",", row.replace(",", ";")) for row in heads.rows]
    assert ";0,2;" in heads.rows[0] and heads.extract(HEADER.replace(",", ";")).quarantine.empty


def test_missing_and_damaged_files_go_to_quarantine(heads):
    for name in ("020_HC.png", "021_HC.png", "022_HC.png"):
        heads.add(name)
    heads.annotation("020_HC.png").unlink()
    heads.annotation("021_HC.png").write_bytes(b"no picture")
    (heads.folder / "training_set" / "022_HC.png").unlink()
    found = heads.extract().quarantine.set_index("video")
    assert "_Annotation.png is missing" in found.reason["training_set/020_HC.png"]
    assert "cannot be read" in found.reason["training_set/021_HC.png"]
    assert found.kind["training_set/022_HC.png"] == "missing" and len(found) == 3


def test_a_bad_row_stays_bad_in_an_accumulated_drop(tmp_path):
    heads = Set(tmp_path / "inbox" / "heads")
    heads.add("001_HC.png")
    heads.add("010_HC.png", pixel="2.0")
    quarantine = heads.extract().quarantine
    shutil.rmtree(tmp_path / "inbox" / "frames")
    arrive(str(tmp_path / "inbox"), tmp_path / "store", Retrain(settle=0), Split())
    found = extract_drop(tmp_path / "store" / "drop", SETTINGS, tmp_path / "frames")
    assert list(found.quarantine.patient) == ["010"] and list(found.sequences.patient) == ["001"]
    assert found.quarantine.reason[0].partition(": ")[2] == quarantine.reason[0].partition(": ")[2]


def test_a_row_that_stands_there_twice_is_not_believed(heads):
    heads.rows.append("001_HC.png,0.25,60")
    found = heads.extract()
    assert len(found.sequences) == 2 and found.quarantine.reason.str.contains("2 times").sum() == 2


def test_a_table_without_its_columns_or_without_rows_stops(heads):
    with pytest.raises(InputError, match=r"missing: pixel size\(mm\)"):
        heads.extract(HEADER.replace("pixel size(mm)", "pixel"))
    heads.rows.clear()
    with pytest.raises(InputError, match="holds no row"):
        heads.extract()


def test_outline_and_filled_mask_give_one_mask_that_measures_what_was_drawn(tmp_path):
    masks = []
    for solid in (False, True):
        cv2.imwrite(str(tmp_path / "a.png"), outline(solid))
        masks.append(read_mask(tmp_path / "a.png")[0])
        found = measure_frame(masks[-1], "head", Spacing(0.2, 0.2))
        assert found.lengths["hc"] == pytest.approx(0.2 * circumference(*HALF_AXES), rel=0.02)
    assert masks[0].dtype == np.uint8 and set(np.unique(masks[0])) == {0, 1}
    assert (masks[0] != masks[1]).mean() < 0.003
    colour = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    colour[..., 0], colour[..., 3] = outline(), 255  # a blue line on an opaque picture
    cv2.imwrite(str(tmp_path / "b.png"), colour)
    assert np.array_equal(read_mask(tmp_path / "b.png")[0], masks[0])


@pytest.mark.parametrize("at", [(20, 54), (80, 90), (145, 20)])
def test_an_outline_that_the_border_cuts_open_is_filled_to_the_border(at):
    found, whole = filled(outline(at=at)), filled(outline(solid=True, at=at))
    assert 0.3 * np.pi * HALF_AXES[0] * HALF_AXES[1] < whole.sum() < 0.95 * np.pi * HALF_AXES[0] * HALF_AXES[1]
    assert (found != whole).sum() < 0.05 * whole.sum()


def test_masks_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_mask(tmp_path / "none.png")
    for name in ("a.png", "a.npz"):
        (tmp_path / name).write_bytes(b"no picture")
        with pytest.raises(InputError, match=f"{name} is no"):
            read_mask(tmp_path / name)
    np.savez(tmp_path / "flat.npz", mask=np.ones((4, 5)))
    with pytest.raises(InputError, match=r"found \[4, 5\]"):
        read_mask(tmp_path / "flat.npz")
    np.savez_compressed(tmp_path / "good.npz", mask=np.full((2, 4, 5), 255, np.uint8))
    assert np.array_equal(read_mask(tmp_path / "good.npz"), np.ones((2, 4, 5), np.uint8))
