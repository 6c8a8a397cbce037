"""What is blanked and what is kept, and where scenes are cut."""

import cv2
import numpy as np
import pytest
from cine_files import dicom, save_dicom, sector_mask, speckle, ultrasound_region, write_video

from fetalflow.cine.cuts import find_cuts, small
from fetalflow.cine.scikit_video import measure
from fetalflow.cine.store import store_cine, stored_frames
from fetalflow.settings.params import Extract

HEIGHT, WIDTH = 240, 320
INSIDE = cv2.erode(sector_mask(HEIGHT, WIDTH).astype(np.uint8), np.ones((9, 9))) > 0
HULL = cv2.dilate(sector_mask(HEIGHT, WIDTH).astype(np.uint8), np.ones((25, 25))) > 0


def text(place: tuple[int, int], words: str = "DOE JANE") -> np.ndarray:
    """uint8 [H, W], white letters."""
    drawn = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.putText(drawn, words, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, 255, 1)
    return drawn


def masked(tmp_path, frames, codec="libx264", **settings) -> np.ndarray:
    tmp_path.mkdir(exist_ok=True)
    path = write_video(tmp_path / "a.mkv", frames, codec, **({"crf": "18"} if codec == "libx264" else {}))
    return stored_frames(store_cine(path, Extract(**settings), tmp_path), tmp_path)


@pytest.mark.parametrize("speed", [1.5, 0.0], ids=["moving", "still"])
def test_text_outside_the_sector_goes_and_the_sector_stays(tmp_path, speed):
    frames = speckle(30, HEIGHT, WIDTH, speed=speed)
    corner = text((4, 14))
    drawn = np.maximum(frames, corner)
    found = masked(tmp_path, drawn)
    outside = (corner > 0) & ~HULL
    assert outside.sum() > 100 and (found[:, outside] == 0).all()
    assert (found[:, INSIDE] == 0).mean() <= (frames[:, INSIDE] == 0).mean() + 0.01
    kept = masked(tmp_path / "kept", drawn, mask_sector=False, mask_overlays=False)
    assert kept[:, outside].mean() > 50


def test_still_letters_over_moving_tissue_go(tmp_path):
    drawn = text((110, 150), "28 W 3 D")
    found = masked(tmp_path, np.maximum(speckle(30, HEIGHT, WIDTH, speed=3) // 2, drawn))
    assert (found[:, drawn > 128] == 0).mean() > 0.8
    assert (found[:, INSIDE & (cv2.dilate(drawn, np.ones((15, 15))) == 0)] == 0).mean() < 0.02


def test_a_still_cine_loses_nothing_inside_the_sector(tmp_path):
    found = masked(tmp_path, np.maximum(speckle(30, HEIGHT, WIDTH, speed=0), text((110, 150))))
    assert (found[:, INSIDE] == 0).mean() < 0.01


def test_a_shadow_that_halves_the_sector_is_kept_with_both_halves(tmp_path):
    frames = speckle(30, HEIGHT, WIDTH)
    frames[:, :, 150:165] = 0
    found = masked(tmp_path, frames)
    for half in (INSIDE & (np.arange(WIDTH) < 145), INSIDE & (np.arange(WIDTH) > 170)):
        assert (found[:, half] == 0).mean() < 0.02


def test_dark_depth_is_kept(tmp_path):
    frames = speckle(30, HEIGHT, WIDTH).astype(float)
    frames[:, 130:] = np.where(sector_mask(HEIGHT, WIDTH)[130:], 6, 0)
    found = masked(tmp_path, frames.astype(np.uint8), codec="ffv1")
    assert (found[:, 130:][:, INSIDE[130:]] == 0).mean() < 0.05


def test_a_picture_that_fills_the_frame_stays_whole(tmp_path):
    rng = np.random.default_rng(1)
    tissue = cv2.GaussianBlur(rng.gamma(1, 90, (HEIGHT, WIDTH + 40)).astype(np.float32), (5, 5), 1)
    frames = np.stack([tissue[:, t : t + WIDTH] for t in range(30)]).clip(20, 255).astype(np.uint8)
    assert (masked(tmp_path, frames) == 0).mean() < 0.02


def test_coloured_graphics_go_from_still_and_moving_cines(tmp_path):
    for speed in (0.0, 1.5):
        frames = np.repeat(speckle(20, HEIGHT, WIDTH, speed=speed)[..., None], 3, axis=3)
        frames[:, 100:110, 150:160] = (250, 220, 0)
        record = store_cine(save_dicom(tmp_path / f"{speed}.dcm", dicom(frames, "RGB")), Extract(), tmp_path)
        found = stored_frames(record, tmp_path)
        assert (found[:, 100:110, 150:160] == 0).all() and (found[:, 120:130, 150:160] > 0).mean() > 0.9


def vessel(frames: np.ndarray, flow: str) -> tuple[np.ndarray, np.ndarray]:
    """RGB frames in which a vessel is lit in every frame, and where it is, bool [H, W]."""
    rng, coloured = np.random.default_rng(0), np.repeat(frames[..., None], 3, axis=3)
    lumen = cv2.ellipse(np.zeros(frames.shape[1:], np.uint8), (170, 140), (34, 11), 15, 0, 360, 1, cv2.FILLED) > 0
    if flow == "thin":
        lumen = cv2.line(np.zeros(frames.shape[1:], np.uint8), (140, 130), (200, 150), 1, 6) > 0
    for t, frame in enumerate(coloured):
        texture = cv2.GaussianBlur(rng.uniform(0.3, 1.3, lumen.shape), (0, 0), 1.5)
        level = np.ones_like(texture) if flow == "constant" else np.clip(texture + 0.2 * np.sin(t), 0.5, 1)
        frame[lumen] = (level[..., None] * (235, 60, 20))[lumen]
    return coloured, lumen


@pytest.mark.parametrize("flow", ["changing", "constant", "thin"])
@pytest.mark.parametrize("speed", [1.5, 0.0], ids=["moving", "frozen"])
def test_colour_flow_stays_and_coloured_graphics_go(tmp_path, flow, speed):
    frames, lumen = vessel(speckle(20, HEIGHT, WIDTH, speed=speed), flow)
    marks = {name: np.zeros((HEIGHT, WIDTH), np.uint8) for name in ("calipers", "text", "scale bar")}
    for at in ((120, 90), (190, 100)):
        cv2.drawMarker(marks["calipers"], at, 1, cv2.MARKER_CROSS, 11)
    cv2.line(marks["calipers"], (120, 90), (190, 100), 1)
    cv2.putText(marks["text"], "28 W 3 D", (120, 75), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 1, 1)
    for name, colour in (("calipers", (255, 240, 0)), ("text", (0, 255, 255))):
        frames[:, marks[name] > 0] = colour
    marks["scale bar"][60:160, 300:311] = 1
    frames[:, 60:160, 300:311] = np.linspace((255, 0, 0), (0, 0, 255), 100).astype(np.uint8)[:, None]
    record = store_cine(save_dicom(tmp_path / "a.dcm", dicom(frames, "RGB")), Extract(mask_sector=False), tmp_path)
    found = stored_frames(record, tmp_path)
    assert (found[:, lumen] == 0).mean() < 0.01
    for name, drawn in marks.items():
        assert (found[:, drawn > 0] == 0).mean() > 0.99, name


def test_a_dicom_region_bounds_the_picture(tmp_path):
    frames = np.full((4, HEIGHT, WIDTH), 90, np.uint8)
    dataset = dicom(frames, SequenceOfUltrasoundRegions=[ultrasound_region(0.05, 40, 30, 279, 209)])
    record = store_cine(save_dicom(tmp_path / "a.dcm", dataset), Extract(), tmp_path)
    found = stored_frames(record, tmp_path)
    assert (found[:, 30:210, 40:280] == 90).all()
    assert found.sum() == 90 * 4 * 180 * 240


# Scene cuts


def scenes(*lengths: int) -> tuple[np.ndarray, list[int]]:
    frames = np.concatenate([speckle(n, seed=7 * i, speed=1) for i, n in enumerate(lengths, 1)])
    return frames, list(np.cumsum(lengths)[:-1])


def cuts_of(frames: np.ndarray) -> list[int]:
    return find_cuts(np.stack([small(frame) for frame in frames]), Extract().cut_threshold)


@pytest.mark.parametrize("lengths", [(30,), (20, 20), (12, 25, 9, 30)])
def test_cuts_between_scenes_of_one_probe_are_found_and_motion_is_none(lengths):
    frames, expected = scenes(*lengths)
    assert cuts_of(frames) == expected


def test_fast_motion_gain_and_freezing_are_no_cut():
    assert cuts_of(speckle(40, speed=4)) == []
    louder = speckle(40).astype(float)
    louder[20:] *= 0.5
    assert cuts_of(louder.astype(np.uint8)) == []
    assert cuts_of(np.repeat(speckle(2)[:1], 20, axis=0)) == []
    assert cuts_of(speckle(1)) == []


def test_black_frames_before_the_picture_are_a_scene():
    frames = np.concatenate([np.zeros((5, 120, 160), np.uint8), speckle(20)])
    assert cuts_of(frames) == [5]


def test_better_than_scikit_video_on_scenes_of_one_probe():
    """Its three methods with their default thresholds against the known cut, over ten cines."""
    ours = theirs = 0
    for seed in range(10):
        frames = np.concatenate([speckle(12, seed=seed, speed=1), speckle(12, seed=seed + 50, speed=1)])
        ours += cuts_of(frames) == [12]
        for method in ("histogram", "intensity", "edges"):
            theirs = max(theirs, 0) + (list(measure.scenedet(frames, method)) == [0, 12])
    assert ours >= 9 and ours > theirs / 3


# A still: nothing changes, so only shape and texture tell tissue from graphics


def masked_still(tmp_path, picture, name="a.png", **settings) -> np.ndarray:
    tmp_path.mkdir(exist_ok=True)
    cv2.imwrite(str(tmp_path / name), picture)
    return stored_frames(store_cine(tmp_path / name, Extract(**settings), tmp_path), tmp_path)[0]


def screen(picture: np.ndarray) -> np.ndarray:
    """bool [H, W]: draws a grey bar, a panel and text beside the sector; True where they are and the sector is not."""
    before = picture.copy()
    picture[40:160, 4:12] = np.linspace(250, 10, 120).astype(np.uint8)[:, None]
    picture[2:16, 20:150] = 60
    np.maximum(picture, text((250, 14), "MI 1.1"), out=picture)
    return (picture != before) & ~HULL


def test_graphics_beside_the_sector_of_a_still_go_and_tissue_stays(tmp_path):
    picture = speckle(1, HEIGHT, WIDTH)[0]
    tissue = picture.copy()
    drawn = screen(picture)
    found = masked_still(tmp_path, picture)
    assert drawn.sum() > 2000 and (found[drawn] == 0).mean() > 0.97
    assert np.array_equal(found[INSIDE], tissue[INSIDE])
    assert np.array_equal(masked_still(tmp_path / "kept", picture, mask_sector=False, mask_overlays=False), picture)
    lossy = masked_still(tmp_path / "lossy", picture, "a.jpg")
    assert (lossy[INSIDE] == 0).mean() < 0.01


def test_dark_and_severed_tissue_of_a_still_is_kept(tmp_path):
    picture = speckle(1, HEIGHT, WIDTH)[0].astype(float)
    picture[150:] *= 0.04  # grey levels of 1 to 10
    picture[:, 150:165] = 0
    picture[120:128] = 0
    picture = picture.astype(np.uint8)
    screen(picture)
    found = masked_still(tmp_path, picture)
    assert np.array_equal(found[INSIDE], picture[INSIDE])


def test_a_still_that_fills_the_frame_stays_whole(tmp_path):
    tissue = cv2.GaussianBlur(np.random.default_rng(1).gamma(1, 90, (HEIGHT, WIDTH)).astype(np.float32), (5, 5), 1)
    picture = tissue.clip(20, 255).astype(np.uint8)
    assert np.array_equal(masked_still(tmp_path, picture), picture)
    blank = np.zeros((HEIGHT, WIDTH), np.uint8)
    assert not masked_still(tmp_path / "blank", blank).any()


def test_coloured_lines_of_a_still_go_and_coloured_flow_stays(tmp_path):
    picture = np.repeat(speckle(1, HEIGHT, WIDTH)[0][..., None], 3, axis=2)
    picture[100, 120:200] = picture[90:110, 160] = (0, 220, 250)
    picture[140:170, 130:160] = (10, 40, 220)
    found = masked_still(tmp_path, picture)
    assert not found[100, 120:200].any() and (found[142:168, 132:158] > 0).all()
    assert (found[104:130, 130:150] > 0).mean() > 0.95
