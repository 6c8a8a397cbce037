"""A report, a letter or a form that a scanner or a PACS sends as an image is no ultrasound: it may name a person."""

import cv2
import numpy as np
import pytest
from canary import NAME
from cine_files import dicom, save_dicom, speckle, ultrasound_region

from fetalflow.cine.recording import Limits
from fetalflow.errors import Rejected
from fetalflow.hospital.deidentify.pixels import survey

HEIGHT, WIDTH = 240, 320


def page(paper: int, ink: int, border: int = 0, scale: float = 0.45, step: int = 18) -> np.ndarray:
    """uint8 [H, W]: lines of text; border: px of black around the paper."""
    made = np.zeros((HEIGHT, WIDTH), np.uint8)
    made[border : HEIGHT - border, border : WIDTH - border] = paper
    for bottom in range(border + step, HEIGHT - border, step):
        cv2.putText(made, f"{NAME} HC 250.1", (border + 4, bottom), cv2.FONT_HERSHEY_SIMPLEX, scale, ink, 1)
    return made


def scanned() -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 8, (HEIGHT, WIDTH))
    return np.clip(page(225, 20) + noise, 0, 255).astype(np.uint8)


def form() -> np.ndarray:
    made = page(255, 0)
    made[::18] = 128
    return made


PAGES = {
    "a report of a scanner": lambda: page(0, 255),
    "a letter": lambda: page(255, 0),
    "a scanned letter": scanned,
    "dense text": lambda: page(230, 10, scale=0.35, step=11),
    "large letters": lambda: page(255, 0, scale=1.2, step=40),
    "a form": form,
    "a dark screen": lambda: page(15, 200),
    "a panel on black": lambda: page(70, 220, border=30),
}


@pytest.mark.parametrize("states_region", [False, True], ids=["no region", "the whole screen as region"])
@pytest.mark.parametrize("kind", PAGES)
def test_a_page_of_text_is_no_ultrasound(tmp_path, kind, states_region):
    for frames in (1, 4):
        made = dicom(np.repeat(PAGES[kind]()[None], frames, 0))
        if states_region:
            made.SequenceOfUltrasoundRegions = [ultrasound_region(0.05, 0, 0, WIDTH - 1, HEIGHT - 1)]
        with pytest.raises(Rejected, match="no ultrasound region"):
            survey(save_dicom(tmp_path / "page.dcm", made), Limits(), 0.35)


@pytest.mark.parametrize("states_region", [False, True], ids=["no region", "a region"])
def test_a_picture_of_tissue_is_none(tmp_path, states_region):
    for seed in range(4):
        still = speckle(1, HEIGHT, WIDTH, seed=seed)
        for frames in (still, np.repeat(still, 4, 0), speckle(4, HEIGHT, WIDTH, seed=seed)):
            made = dicom(frames)
            if states_region:
                made.SequenceOfUltrasoundRegions = [ultrasound_region(0.05, 0, 0, WIDTH - 1, HEIGHT - 1)]
            found = survey(save_dicom(tmp_path / "tissue.dcm", made), Limits(), 0.35)
            assert found.masks[0][1].any()


def test_a_page_between_two_recordings_is_blank(tmp_path):
    frames = np.concatenate([speckle(6, HEIGHT, WIDTH), np.repeat(page(255, 0)[None], 6, 0)])
    found = survey(save_dicom(tmp_path / "both.dcm", dicom(frames)), Limits(), 0.35)
    assert [end for end, _ in found.masks] == [6, 12]
    assert found.masks[0][1].any() and not found.masks[1][1].any()
