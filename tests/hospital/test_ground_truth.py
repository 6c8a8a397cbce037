"""What several rows know of the same frames counts for all of them; what they contradict each other in, for none."""

import numpy as np
import pandas as pd
import pytest
from cine_files import dicom, save_dicom, speckle, write_video

from fetalflow.artefacts import file_digest
from fetalflow.hospital.drop.review import HEADER, RELEASE, Decision, row_id
from fetalflow.sequences.extraction import extract_drop
from fetalflow.settings.params import Extract

T, HEIGHT, WIDTH = 6, 48, 64
SETTINGS = Extract(frames=3, stride=3, workers=1)


@pytest.fixture
def drop(tmp_path):
    folder = tmp_path / "drop"
    folder.mkdir()
    write_video(folder / "a.avi", speckle(T, HEIGHT, WIDTH))
    for name, half in {"left": np.s_[:, :, :20], "again": np.s_[:, :, :20], "right": np.s_[:, :, 20:]}.items():
        mask = np.zeros((T, HEIGHT, WIDTH), np.uint8)
        mask[half] = 1
        np.savez_compressed(folder / f"{name}.npz", mask=mask)
    return folder


def row(annotator="A", **further):
    own = {"video": "a.avi", "patient": "P1", "site": "s", "device": "d", "annotator": annotator}
    return own | {"start_frame": "", "end_frame": "", "label": "head", "mask": "", "hc_mm": ""} | further


def extract(drop, *rows, decisions=None):
    pd.DataFrame(rows).fillna("").to_csv(drop / "annotations.csv", index=False)
    return extract_drop(drop, SETTINGS, drop.parent / "frames", decisions=decisions)


@pytest.mark.parametrize("turn", [1, -1])
def test_what_one_row_knows_counts_whichever_comes_first(drop, turn):
    rows = [row(), row(mask="left.npz"), row("B", hc_mm="180.5", seen="0.8"), row("C", gestational_age="20.0")]
    found = extract(drop, *rows[::turn])
    assert found.quarantine.empty and set(found.sequences.annotators) == {"A;B;C"}
    assert set(found.sequences.mask_source) == {file_digest(drop / "left.npz")}
    told = found.sequences[["mask", "hc_mm", "seen", "gestational_age"]].drop_duplicates().values.tolist()
    assert told == [["left.npz", "180.5", "0.8", "20.0"]]


def test_the_same_outline_in_two_files_and_the_same_number_written_twice_are_no_disagreement(drop):
    found = extract(drop, row(mask="left.npz", hc_mm="180.5"), row("B", mask="again.npz", hc_mm="180.50"))
    assert found.quarantine.empty and len(found.sequences) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"mask": "left.npz"}, {"mask": "right.npz"}),
        ({"hc_mm": "180.5"}, {"hc_mm": "190"}),
        ({"gestational_age": "20"}, {"gestational_age": "21"}),
        ({"seen": "1"}, {"seen": "0.5"}),
        ({"mm_per_px": "0.2"}, {"mm_per_px": "2.0"}),
    ],
)
def test_two_values_for_the_same_frames_go_to_quarantine(drop, one, other):
    write_video(drop / "b.avi", speckle(T, HEIGHT, WIDTH, seed=1))
    found = extract(drop, row(**one), row("B", **other), row(video="b.avi", patient="P2", **one))
    assert list(found.quarantine.kind) == ["disagreement"] * 2 and set(found.sequences.video) == {"b.avi"}
    ((column, value),) = one.items()
    told = f"line 2 of annotations.csv and line 3 of annotations.csv give two values of {column} for the same frames: "
    assert set(found.quarantine.reason) == {f"{told}{value} and {other[column]}"}


def test_the_scale_of_a_row_goes_before_that_of_its_file(drop):
    stated = dicom(speckle(T, HEIGHT, WIDTH, seed=2), FrameTime="40", PixelSpacing=["0.5", "0.5"])
    save_dicom(drop / "c.dcm", stated)
    assert set(extract(drop, row(video="c.dcm")).sequences.mm_per_px) == {0.5}
    found = extract(drop, row(video="c.dcm", mm_per_px="0.2"), row("B", video="c.dcm"))
    assert found.quarantine.empty and set(found.sequences.mm_per_px) == {0.2}
    found = extract(drop, row(video="c.dcm", mm_per_px="0.2"), row("B", video="c.dcm", mm_per_px="2.0"))
    assert found.sequences.empty and set(found.quarantine.kind) == {"disagreement"}


@pytest.mark.parametrize(
    ("other", "kinds"),
    [
        ({"mask": "again.npz", "hc_mm": "180.50"}, ["copy"]),
        ({"mask": "right.npz", "hc_mm": "180.5"}, ["copy", "copy"]),
        ({"mask": "left.npz", "hc_mm": "190"}, ["copy", "copy"]),
    ],
)
def test_copies_of_a_file_are_one_only_with_the_same_outline_and_lengths(drop, other, kinds):
    (drop / "b.avi").write_bytes((drop / "a.avi").read_bytes())
    found = extract(drop, row(mask="left.npz", hc_mm="180.5"), row(video="b.avi", **other))
    assert list(found.quarantine.kind) == kinds and len(found.sequences) == 2 * (len(kinds) == 1)


@pytest.mark.parametrize(("chosen", "mask", "length"), [("A", "left.npz", "180.5"), ("B", "right.npz", "180.5")])
def test_what_a_released_row_knows_counts_before_the_others(drop, chosen, mask, length):
    rows = [row(mask="left.npz", hc_mm="180.5"), row("B", mask="right.npz")]
    assert len(extract(drop, *rows).quarantine) == 2
    facts = dict.fromkeys(HEADER, "") | {"decision": RELEASE, "kind": "disagreement", "as_label": "head"}
    decision = Decision(**facts | {"source": file_digest(drop / "a.avi")})
    found = extract(drop, *rows, decisions={row_id(row(chosen)): decision})
    assert found.quarantine.empty and set(found.sequences["mask"]) == {mask} and set(found.sequences.hc_mm) == {length}
    assert set(found.sequences.mask_source) == {file_digest(drop / mask)}
