"""The model package of a network that segments: saved, loaded, asked, served, and on the command line."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from bright_biometry import LABELS, bright_package, shown
from typer.testing import CliRunner
from untrained_biometry import save_untrained

from fetalflow.artefacts import write_json, write_table
from fetalflow.cine.letterbox import in_picture
from fetalflow.inference.examination.examine import examine
from fetalflow.inference.examination.run_length import of_run_lengths
from fetalflow.inference.package import Package, load
from fetalflow.inference.serving import MEASURED, ServedModel, _load_pyfunc
from fetalflow.models.building import build
from fetalflow.models.familiarity import fit_familiarity
from fetalflow.models.weights import save
from fetalflow.registry.model_card import model_card
from fetalflow.settings.params import load_settings
from flows.cli import answers as measure_verb
from flows.cli.app import app

ROOT = Path(__file__).parents[2]
N, SIZE = 3, 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The package of an untrained light network, with what it remembers of a training that it had not."""
    folder = tmp_path_factory.mktemp("model") / "fetalnet_lite"
    save_untrained(folder, N, SIZE)
    return folder


def test_a_saved_network_of_masks_examines_and_predicts(folder):
    package = load(folder)
    frames = shown("head", 5)
    found = examine(package, frames, 0.5)
    assert found.masks.shape == (5, 240, 320) and found.answers.shape == (5, SIZE, SIZE)
    with torch.inference_mode():
        first = package.network(torch.from_numpy(fitted(frames[:N]))[None].float() / 255)
        last = package.network(torch.from_numpy(fitted(frames[-N:]))[None].float() / 255)
    wanted = torch.cat([first.mask[0], last.mask[0, 1:]]).sigmoid().numpy()  # frame 2 is answered in the first clip
    np.testing.assert_allclose(found.answers, in_picture(wanted, 240, 320), atol=1e-3)
    p = np.average([first.label.softmax(1)[0], last.label.softmax(1)[0]], axis=0, weights=[3, 2])
    assert list(found.probabilities.values()) == pytest.approx(p, abs=1e-5)
    assert found.unfamiliarity > 0 and found.unfamiliar == (found.unfamiliarity > 1)

    label = package.predict(frames)
    assert list(label.probabilities.values()) == pytest.approx(first.label.softmax(1)[0].tolist(), abs=1e-5)
    assert label.frame_weights == [1 / N] * N and "every frame alike" in label.frame_weights_method


def fitted(frames: np.ndarray) -> np.ndarray:
    from fetalflow.cine.letterbox import fit

    return fit(frames, SIZE)


def strange_package() -> Package:
    """A package to which everything is unlike its training data."""
    package = bright_package()
    features = np.random.default_rng(0).normal(0, 1, (60, 3)) + [0, 0, 30]
    strange = fit_familiarity("head", features[:40], np.zeros(40), features[40:], 0.05)
    return Package(package.network, package.config, strange)


def test_the_command_shows_a_length_of_what_is_unlike_the_training_data_only_on_request(tmp_path, monkeypatch):
    monkeypatch.setattr("fetalflow.inference.package.load", lambda folder, engine, once: strange_package())
    monkeypatch.setattr(measure_verb, "package_folder", lambda *_: tmp_path)
    files = [str(tmp_path / f"{name}.png") for name in ("head", "abdomen", "femur")]
    for file in files:
        axes = (104, 14 if "femur" in file else 90)
        cv2.imwrite(file, shown(Path(file).stem, axes=axes)[0])
    for switch, lengths in (([], 0), (["--show-unfamiliar"], 5)):
        words = ["measure", *files, "--mm-per-px", "0.5", *switch]
        told = CliRunner().invoke(app, words, catch_exceptions=False).stdout
        assert len(re.findall(r"^  (HC|BPD|OFD|AC|FL) ", told, re.M)) == lengths
        assert "EFW  needs" in told and "weeks" not in told and told.count("unlike the training data") >= 6


def test_what_is_unlike_anything_seen_is_said():
    found = examine(strange_package(), shown("head"), 0.5)
    assert found.unfamiliar and any(text.startswith("unlike the training data") for text in found.warnings)


def test_a_package_without_masks_measures_nothing(folder, tmp_path):
    config = load(folder).config | {"network": "cnn", "variant": "cnn", "options": {}}
    save(tmp_path / "cnn", build("cnn", N, SIZE, len(LABELS)), {k: v for k, v in config.items() if k != "familiarity"})
    words = CliRunner().invoke(app, ["measure", "a.png", "--model", str(tmp_path / "cnn")])
    assert "cnn gives a label and draws no mask" in str(words.exception)


@pytest.fixture
def model():
    return ServedModel(bright_package())


def test_the_served_model_answers_lengths_masks_and_warnings(model):
    (row,) = model.predict(shown("head", 6)).to_dict("records")
    assert list(row) == MEASURED and row["label"] == row["structure"] == "head" and row["unit"] == "px"
    assert row["lengths"].keys() == {"hc", "bpd", "ofd"} and len(row["frames"]) == 6
    assert (of_run_lengths(row["frames"][5]["mask"]) == examine(model.package, shown("head", 6)).masks[5]).all()
    json.dumps(row)


def test_scale_age_and_structure_stand_beside_the_items(model, tmp_path):
    path = str(tmp_path / "a.png")
    cv2.imwrite(path, shown("head")[0])
    table = pd.DataFrame({"file": [path, path, path], "mm_per_px": [0.5, np.nan, 0.6], "weeks": [20, 20, None]})
    answers = model.predict(table.assign(structure=["", "abdomen", None]))
    assert list(answers["unit"]) == ["mm", "px", "mm"] and list(answers["structure"]) == ["head", "abdomen", "head"]
    hc = [row["hc"]["value"] if "hc" in row else None for row in answers["lengths"]]
    assert hc[2] == pytest.approx(1.2 * hc[0]) and hc[1] is None
    assert answers["lengths"][0]["hc"]["z"] is not None and answers["lengths"][2]["hc"]["z"] is None
    alone = model.predict({"file": path, "mm_per_px": 0.5, "weeks": 20})
    listed = model.predict({"frames": [shown("head", 2), shown("head")[0]], "mm_per_px": [0.5, 0.6]})
    assert alone["lengths"][0] == answers["lengths"][0] and len(listed) == 2
    assert listed["mm_per_px"].tolist() == [0.5, 0.6]
    # As columns of a table whose rows were chosen come: numbered otherwise, or as text.
    columns = {"file": pd.Series([path, path], [7, 9]), "mm_per_px": pd.Series(["0.5", "0.6"], [7, 9])}
    assert model.predict(columns)["mm_per_px"].tolist() == [0.5, 0.6]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (pd.DataFrame({"file": ["a.png"], "scale": [1]}), "found scale"),
        ({"file": ["a.png"], "other": ["b.png"], "weeks": [20]}, "one column of files or frames"),
        ({"file": ["a.png", "b.png"], "weeks": [20]}, "weeks: expected one value for all items, or one for each of 2"),
        ({"file": pd.Series(["a.png"]), "weeks": pd.Series([20, 21])}, "or one for each of 1; found 2"),
        ({"file": "a.png", "mm_per_px": "0,2"}, "mm_per_px must be a number above 0"),
        (np.zeros((2, 2, 2, 8, 8), np.uint8), "an image"),
    ],
)
def test_a_table_that_is_none_is_refused(model, given, words):
    with pytest.raises(ValueError, match=words):
        model.predict(given)


def test_mlflow_is_told_what_is_answered(folder):
    import mlflow

    from fetalflow.registry.logged_model import _signature, network_packages

    signature = _signature(mlflow, load(folder).segments)
    assert signature.outputs.input_names() == MEASURED
    assert network_packages(folder) == {"torch", "efficientnet-lite-pytorch"}
    # MLflow's own check of the answer against what was told.
    (row,) = _load_pyfunc(str(folder)).predict(shown("head", 2)).to_dict("records")
    told = {column.name: column for column in signature.outputs.inputs}
    for name, value in row.items():
        if value is None:
            assert not told[name].required
    assert {"used", "mask", "lengths", "warnings"} <= told["frames"].type.dtype.to_dict()["properties"].keys()


def test_measure_prints_a_table_and_writes_the_picture(tmp_path, monkeypatch):
    monkeypatch.setattr("fetalflow.inference.package.load", lambda folder, engine, once: bright_package())
    monkeypatch.setattr(measure_verb, "package_folder", lambda model, task, workspace, engine: tmp_path)
    for name, axes in {"head": (120, 90), "abdomen": (104, 98), "femur": (68, 12)}.items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), shown(name, axes=axes)[0])
    files = [str(tmp_path / f"{name}.png") for name in ("head", "abdomen", "femur")]

    def said(*words: str) -> str:
        told = CliRunner().invoke(app, ["measure", *words], catch_exceptions=False)
        assert told.exit_code == 0
        return told.stdout

    one = said(files[0], "--mm-per-px", "0.9", "--weeks", "30", "--overlay", str(tmp_path / "o.png"))
    assert "head.png: head (1.00), 1 frame, 0.9000 mm per pixel" in one and "Hadlock 1984, HC" in one
    hc = examine(bright_package(), tmp_path / "head.png", 0.9, 30).lengths["hc"]
    assert f"HC            {hc.value:.1f} mm" in one and f"(z {hc.z:+.1f})" in one
    assert cv2.imread(str(tmp_path / "o.png")).std() > 20
    three = said(*files, "--mm-per-px", "0.9", "--weeks", "32")
    assert "Together, at the stated age of 32 weeks" in three and "Hadlock 1985, HC + AC + FL" in three
    assert "INTERGROWTH-21st 2017, HC + AC: percentile" in three
    assert "!   no pixel spacing is known: lengths are in pixels" in said(files[0])
    whole = json.loads(said(*files[:2], "--json"))
    assert [each["label"] for each in whole["examinations"]] == ["head", "abdomen"] and whole["fetus"]["lengths"] == {}


def test_the_card_says_masks_lengths_and_refusals(folder, tmp_path):
    """Of a run's files: what the evaluation says of masks and lengths, beside the labels."""
    settings = load_settings(ROOT / "params.yaml")
    variant = settings.tasks["biometry"].variant
    reports, data = tmp_path / "reports" / "biometry", tmp_path / "data" / "biometry"
    (tmp_path / "models" / "biometry").mkdir(parents=True)
    (tmp_path / "models" / "biometry" / variant).symlink_to(folder)
    metrics = {"n_sequences": 3, "n_patients": 3, "dice": 0.9612, "dice_low": 0.95, "dice_high": 0.97}
    metrics |= {"hc_mae_mm": 2.5, "hc_n": 9, "hc_refused": 1, "fl_mae_mm": None, "fl_n": 0, "fl_refused": 2}
    write_json(reports / "metrics.json", {variant: metrics})
    score = {"slices": {}, "familiarity": None}
    write_json(reports / "evaluation" / f"{variant}-score.json", score)
    rows = pd.DataFrame({"sequence": ["a"], "patient": ["P"], "site": [""], "device": [""], "source": ["s"]})
    write_table(data / "manifest.parquet", rows)
    write_table(data / "split.parquet", rows[["sequence", "patient"]].assign(fold=0, part="test"))
    card = model_card("biometry", settings, tmp_path)
    assert "| Dice of the masks | 0.9612 | 0.9500 to 0.9700 |" in card and "| Accuracy |" not in card
    assert "| HC: mean absolute error, mm | 2.5000 |" in card and "FL: mean" not in card
    assert "HC 1 of 10, FL 2 of 2" in card and "the mask of the structure in every frame" in card
    assert '"mm_per_px": [0.21]' in card and "a wrong scale gives wrong lengths" in card
