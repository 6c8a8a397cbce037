"""A drop measured image by image: HC18's layout, with and without the truth; what cannot be measured says why."""

import shutil

import cv2
import numpy as np
import pandas as pd
import pytest
from bright_biometry import MM, bright_package, shown, true_mm
from typer.testing import CliRunner

from fetalflow.errors import InputError
from fetalflow.evaluation.measurement_scores import score_measurements
from fetalflow.evaluation.predictions import read_predictions
from fetalflow.hospital.drop.layouts.hc18 import read_hc18
from fetalflow.inference.examination.folder import measure_rows, summary
from fetalflow.settings.params import Evaluate
from flows.cli import answers as measure_verb
from flows.cli.app import app

TABLE = "training_set_pixel_size_and_HC.csv"
HEADS, AXES = 6, (92, 72)  # px; twice those whose length `true_mm` states


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """Six bright heads at known scale, masks and table as published; no pen was used."""
    place = tmp_path_factory.mktemp("hc18")
    (place / "training_set").mkdir()
    rows = ["filename,pixel size(mm),head circumference (mm)"]
    for i in range(HEADS):
        picture = shown("head", 1, axes=AXES, degrees=15 * i)[0]
        cv2.imwrite(str(place / "training_set" / f"00{i}_HC.png"), picture)
        drawn = cv2.dilate((picture > 127).astype(np.uint8) * 255, np.ones((3, 3), np.uint8))  # as if by a pen
        cv2.imwrite(str(place / "training_set" / f"00{i}_HC_Annotation.png"), drawn)
        rows.append(f"00{i}_HC.png,{MM / 2},{true_mm('head'):.2f}")
    (place / TABLE).write_text("\n".join(rows) + "\n")
    return place


@pytest.fixture
def package(monkeypatch):
    found = bright_package(frames=1, labels=("head",))
    monkeypatch.setattr(measure_verb, "package_folder", lambda *_: "nowhere")
    monkeypatch.setattr("fetalflow.inference.package.load", lambda *_, **__: found)
    return found


def call(*words: object):
    return CliRunner().invoke(app, ["measure", *map(str, words)])


def test_every_image_has_a_row_and_the_errors_are_those_of_the_table(heads, package, tmp_path):
    done = call(heads, "--csv", tmp_path / "out.csv")
    assert done.exit_code == 0, done.exception
    table = pd.read_csv(tmp_path / "out.csv", dtype={"patient": str})
    assert [*table["filename"]] == [f"00{i}_HC.png" for i in range(HEADS)] and [*table["patient"]][:2] == ["000", "001"]
    np.testing.assert_allclose(table["true_hc_mm"], true_mm("head"), atol=0.01)
    np.testing.assert_allclose(table["found_hc_mm"], true_mm("head"), rtol=0.015)  # a grey of one half is outside
    assert (table["found_bpd_mm"] < table["found_ofd_mm"]).all() and table["true_bpd_mm"].isna().all()
    assert table["dice"].between(0.96, 1).all()
    figures = score_measurements(read_predictions(tmp_path / "out.csv"), Evaluate())["metrics"]
    error = table["found_hc_mm"] - table["true_hc_mm"]
    assert figures["hc_mae_mm"] == pytest.approx(error.abs().mean())
    lines = done.stdout.splitlines()
    assert lines[0] == "6 files, 6 with a length, 6 patients"
    assert (
        lines[1].startswith(f"HC: MAE {error.abs().mean():.2f} [") and f"mean error {error.mean():+.2f} [" in lines[1]
    )
    assert f"SD {error.std():.2f}" in lines[1] and lines[2].startswith(f"Dice {table['dice'].mean():.4f} [")


def rows_of(heads, **cells) -> pd.DataFrame:
    rows = read_hc18(heads).head(1)
    return rows.assign(**cells)


@pytest.mark.parametrize(
    ("cells", "empty", "says"),
    [
        ({"fault": "the outline is of another image"}, ["true_hc_mm"], "the outline is of another image"),
        ({"hc_mm": "", "mask": ""}, ["true_hc_mm", "dice"], ""),
        ({"mask": "training_set/none.png"}, ["dice"], "no Dice: .*no such file"),
        ({"video": "training_set/none.png"}, ["dice", "found_hc_mm"], "is not a file"),
        ({"mm_per_px": "7"}, ["found_hc_mm"], "impossible for ultrasound"),
        ({"mm_per_px": ""}, ["found_hc_mm"], "no pixel spacing is known"),
    ],
)
def test_what_is_not_known_is_empty_and_the_row_says_why(heads, package, cells, empty, says):
    ((row, _),) = measure_rows(package, rows_of(heads, **cells), heads)
    known = {"true_hc_mm", "found_hc_mm", "dice"} - set(empty)
    assert all(np.isnan(row[name]) for name in empty) and all(np.isfinite(row[name]) for name in known)
    assert pd.Series([row["warnings"]]).str.contains(says, regex=True).all(), row["warnings"]


@pytest.mark.parametrize("name", ["../000_HC.png", "../../000_HC.png"])
def test_a_file_outside_of_the_drop_is_not_read(heads, package, tmp_path, name):
    shutil.copytree(heads, tmp_path / "drop")
    table = (tmp_path / "drop" / TABLE).read_text().replace("000_HC.png", name)
    (tmp_path / "drop" / TABLE).write_text(table)
    done = call(tmp_path / "drop")
    assert isinstance(done.exception, InputError) and "000_HC.png" in str(done.exception), done.exception


def test_without_the_truth_there_is_no_error(heads, package):
    rows = read_hc18(heads).assign(hc_mm="", mask="")
    table = pd.DataFrame([row for row, _ in measure_rows(package, rows, heads)])
    assert summary(table) == [
        "6 files, 6 with a length, 6 patients",
        "no error: the drop states no true length, or not every patient",
    ]


def test_nothing_measured_is_said_in_words(heads, package):
    table = pd.DataFrame([row for row, _ in measure_rows(package, read_hc18(heads), heads)])
    table["found_hc_mm"] = np.nan
    assert "HC: none of 6 files has a length" in summary(table)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["DROP", "DROP"], "give one such drop alone"),
        (["DROP", "--mm-per-px", "0.2"], "--mm-per-px is for the files of one fetus"),
        (["DROP", "--json"], "--json is for the files of one fetus"),
        (["DROP/training_set/000_HC.png", "--csv", "a.csv"], "--csv is for a drop"),
        (["DROP/training_set"], "training_set"),  # images without a table
    ],
)
def test_a_wrong_call_is_a_message(heads, package, words, says):
    done = call(*(word.replace("DROP", str(heads)) for word in words))
    assert isinstance(done.exception, InputError) and says in str(done.exception), done.exception
