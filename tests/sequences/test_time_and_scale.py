"""Time stamps, scales and pixels that are not square, from the files of a drop to the sequences that networks read."""

from fractions import Fraction

import av
import cv2
import numpy as np
import pandas as pd
import pytest
from cine_files import dicom, save_dicom, speckle, ultrasound_region

from fetalflow.cine.masked import open_masked
from fetalflow.cine.windows import recorded_windows
from fetalflow.inference.examination.tiling import clips
from fetalflow.sequences.extraction import extract_drop
from fetalflow.sequences.preprocessing import preprocess
from fetalflow.sequences.remarks import grouped
from fetalflow.settings.params import Extract

FRAMES = speckle(40, 96, 128)
TIMES = [i / 50 for i in range(20)] + [0.4 + i / 12.5 for i in range(10)] + [6 + i / 25 for i in range(10)]
PLAIN = Extract(frames=5, stride=5, workers=1, mask_overlays=False, mask_sector=False)


def video(path, times=None, aspect=None):
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264" if aspect else "ffv1", rate=25, options={"crf": "1"} if aspect else {})
        stream.height, stream.width, stream.pix_fmt = *FRAMES.shape[1:], "yuv420p" if aspect else "gray"
        stream.codec_context.time_base = Fraction(1, 1000)
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for index, frame in enumerate(FRAMES):
            picture = av.VideoFrame.from_ndarray(frame, "gray")
            picture.pts, picture.time_base = (
                round(1000 * (index / 25 if times is None else times[index])),
                Fraction(1, 1000),
            )
            file.mux(stream.encode(picture))
        file.mux(stream.encode())


def square(path, top, left, side):
    mask = np.zeros((40, *FRAMES.shape[1:]), np.uint8)
    mask[:, top : top + side, left : left + side] = 1
    np.savez_compressed(path, mask=mask)


def box(centimetres, x0, x1):
    return ultrasound_region(centimetres, x0, 0, x1, 95)


@pytest.fixture(scope="module")
def drop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drop")
    video(folder / "varying.mkv", TIMES)
    video(folder / "wide.mp4", aspect=Fraction(3, 2))
    two = {"SequenceOfUltrasoundRegions": [box(0.02, 0, 63), box(0.03, 64, 127)]}
    one = {"SequenceOfUltrasoundRegions": [box(0.02, 0, 127)]}
    for index, (name, elements) in enumerate({"left": two, "right": two, "both": two, "one": one}.items()):
        frames = np.roll(FRAMES, index + 1, axis=0)
        save_dicom(folder / f"{name}.dcm", dicom(frames, FrameTime="40", **elements))
        square(folder / f"{name}.npz", 30, {"left": 10, "right": 80}.get(name, 50), 30)
    square(folder / "wide.npz", 30, 40, 30)
    rows = [
        {"video": "varying.mkv"},
        {"video": "wide.mp4", "mm_per_px": "0.3", "mask": "wide.npz"},
        *({"video": f"{name}.dcm", "mask": f"{name}.npz"} for name in ("left", "right", "both")),
        {"video": "one.dcm", "mask": "one.npz", "mm_per_px": "0.25"},
    ]
    table = pd.DataFrame(rows).fillna("").assign(patient=[f"P{i}" for i in range(6)], annotator="a", label="head")
    table.to_csv(folder / "annotations.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def extracted(drop, tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    return extract_drop(drop, PLAIN.model_copy(update={"fps": 25}), store), store


def test_windows_follow_time_and_never_cross_a_pause(extracted, tmp_path):
    found, store = extracted
    assert found.quarantine.empty
    of_video = found.sequences[found.sequences["video"] == "varying.mkv"]
    times = np.array(TIMES)
    for row in of_video.itertuples():
        taken = np.array(row.taken.split(), dtype=int)
        assert (
            row.fps == pytest.approx(25)
            and len(taken) == 5
            and (taken[0], taken[-1]) == (row.first_frame, row.last_frame)
        )
        wanted = times[taken[0]] + np.arange(5) / 25
        assert np.abs(times[taken] - wanted).max() <= 0.0401  # half of the slowest frame
        assert not taken[0] < 30 <= taken[-1]
    assert list(of_video["first_frame"])[:2] == [0, 10] and len(of_video) == 7
    manifest = preprocess(found.sequences, store, tmp_path / "sequences", 128, workers=1)
    second = manifest[(manifest["video"] == "varying.mkv") & (manifest["first_frame"] == 10)].iloc[0]
    written = np.load(tmp_path / second["path"])
    assert np.array_equal(written[:, 16:112], FRAMES[[int(frame) for frame in second["taken"].split()]])
    others = found.sequences[found.sequences["video"] != "varying.mkv"]
    assert [len(row.split()) for row in others["taken"]] == [0] * len(others)


def test_without_resampling_a_sequence_has_the_rate_of_its_frames(drop, tmp_path):
    found = extract_drop(drop, PLAIN, tmp_path / "store").sequences
    rates = found[found["video"] == "varying.mkv"].set_index("first_frame")["fps"]
    assert rates[0] == pytest.approx(50, rel=0.02) and rates[25] == pytest.approx(12.5, rel=0.02)
    assert rates[30] == pytest.approx(25, rel=0.02) and "taken" not in found


def test_a_file_alone_is_cut_like_a_drop(drop, extracted):
    settings = PLAIN.model_copy(update={"fps": 25})
    spans = [span for span, _ in recorded_windows(drop / "varying.mkv", settings)]
    of_video = extracted[0].sequences.query("video == 'varying.mkv'")
    assert spans == list(zip(of_video["first_frame"], of_video["last_frame"], strict=True))
    with open_masked(drop / "varying.mkv", settings) as cine:
        every = clips(len(cine.frames), cine.cuts, 5, cine.step, cine.clock)
    times = np.array(TIMES)
    for clip in every:
        assert np.abs(times[clip.frames] - times[clip.frames[0]] - np.arange(len(clip.frames)) / 25).max() <= 0.0401


def test_the_scale_is_the_row_s_then_the_file_s_or_that_of_the_region_around_the_structure(extracted):
    scales = extracted[0].sequences.groupby("video")["mm_per_px"].first()
    assert scales["left.dcm"] == pytest.approx(0.2) and scales["right.dcm"] == pytest.approx(0.3)
    assert np.isnan(extracted[0].sequences.query("video == 'both.dcm'")["mm_per_px"]).all()
    assert scales["one.dcm"] == pytest.approx(0.25) and scales["wide.mp4"] == pytest.approx(0.3)
    remarks = extracted[0].summary["remarks"]
    assert any("0.25 mm per pixel, the file 0.2" in text for text in remarks["one.dcm"])
    assert {row["text"]: row["cines"] for row in grouped(remarks)}[remarks["left.dcm"][0]] == 3


def test_pixels_that_are_not_square_become_square_with_their_mask(extracted, tmp_path):
    found, store = extracted
    row = found.sequences.query("video == 'wide.mp4'").iloc[0]
    assert (row["height"], row["width"]) == (96, 192) and any(
        "square" in t for t in found.summary["remarks"]["wide.mp4"]
    )
    manifest = preprocess(found.sequences, store, tmp_path / "sequences", 192, workers=1)
    row = manifest.query("video == 'wide.mp4'").iloc[0]
    mask, frame = np.load(tmp_path / row["mask_path"])[0], np.load(tmp_path / row["path"])[0]
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    assert (len(rows), len(columns)) == (30, 45) and (rows[0] - 48, columns[0]) == (30, 60)
    assert np.abs(frame[48:144].astype(int) - cv2.resize(FRAMES[0], (192, 96))).mean() <= 2
