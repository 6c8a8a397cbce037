"""The stages of biometry one after the other, on a small drop: what each writes, the next one reads."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from variant_entries import entry, put_variants

from fetalflow.artefacts import read_json
from fetalflow.evaluation.predictions import read_predictions
from fetalflow.inference.package import load
from fetalflow.training.answered_masks import reading
from stages import evaluate, explain, extract, measure, phantom, preprocess, report, significance, split, train

ROOT = Path(__file__).parents[2]
CHANGES = {
    "phantom": {"patients": 8, "sequences": {"head": 8, "abdomen": 8, "femur": 8}, "height": 120, "width": 160},
    "extract": {"frames": 2},
    "preprocess": {"size": 64},
    "split": {"folds": 2},
    "train": {"epochs": 1, "batch": 4},
    "evaluate": {"bootstrap": 50, "latency_repeats": 5},
    "explain": {"measured": 4, "worst": 2, "mistakes": 1},
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """One run over all stages but `validate` and `register`, with one rival: the network without a label."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for block, values in CHANGES.items():
        params["biometry"][block] |= values
    params["tasks"] = {"biometry": params["tasks"]["biometry"]}
    main = entry("biometry", "fetalnet_lite", pretrained=False)
    rival = entry("biometry", "mask_only", main["network"], pretrained=False, label=False)
    put_variants(params, "biometry", [main, rival])
    params = {key: value for key, value in params.items() if key not in ("movement", "planes", "profiles")}
    folder = tmp_path_factory.mktemp("biometry")
    (folder / "params.yaml").write_text(yaml.safe_dump(params | {"phantoms": ["biometry"]}))
    (folder / "reviews").mkdir()
    (folder / "reviews" / "biometry.csv").write_text((ROOT / "reviews" / "biometry.csv").read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for stage in (phantom, extract, preprocess, split):
            stage.main("biometry")
        for variant in ("fetalnet_lite", "mask_only"):
            train.main("biometry", variant)
        for stage in (explain, measure, evaluate, significance, report):
            stage.main("biometry")
    return folder


def test_every_answered_sequence_is_measured_and_nothing_else(workspace):
    data = workspace / "data" / "biometry"
    for variant in ("fetalnet_lite", "mask_only"):
        predictions = pd.read_csv(data / "predictions" / f"{variant}.csv", dtype=str)
        measured = pd.read_csv(data / "measured" / f"{variant}.csv", dtype=str)
        pd.testing.assert_frame_equal(measured[list(predictions)], predictions)
        archives = sorted(p.name for p in (data / "answers" / variant).iterdir())
        assert archives == ["0-0.npz", "1-0.npz"]
        first = predictions[predictions["fold"] == "0"]
        with np.load(data / "answers" / variant / "0-0.npz") as archive:
            assert set(archive) == set(first["sequence"])


def test_the_explain_stage_measures_what_the_measure_stage_measures(workspace):
    data = workspace / "data" / "biometry"
    found = explain.measured_again(data, "fetalnet_lite", {"fold": 0, "seed": 0}).table
    wanted = read_predictions(data / "measured" / "fetalnet_lite.csv").table
    pd.testing.assert_frame_equal(found, wanted[wanted["fold"] == "0"].reset_index(drop=True))
    assert found["dice"].notna().all()


def test_the_annotation_measures_what_the_phantom_is(workspace):
    """The floor at 64 px, a femur being three pixels thick."""
    table = pd.read_csv(workspace / "data" / "biometry" / "measured" / "fetalnet_lite.csv")
    for name, within in (("hc", 0.01), ("ac", 0.01), ("fl", 0.06)):
        known = table[table[f"mask_{name}_mm"].notna()]
        assert len(known)
        off = known[f"mask_{name}_mm"] / known[f"true_{name}_mm"] - 1
        assert off.abs().max() < within, name
    assert (table.loc[table["seen"] < 0.9, "mask_hc_mm"].isna()).all()


def test_what_is_kept_is_what_the_package_answers(workspace):
    data = workspace / "data" / "biometry"
    package = load(workspace / "models" / "biometry" / "fetalnet_lite")
    manifest = pd.read_parquet(data / "manifest.parquet").set_index("sequence")
    predictions = pd.read_csv(data / "predictions" / "fetalnet_lite.csv")
    row = predictions[(predictions["fold"] == 0) & (predictions["part"] == "test")].iloc[0]
    frames = np.load(data / manifest.loc[row["sequence"], "path"])
    answer = package.predict(frames)
    assert answer.probabilities["head"] == pytest.approx(row["p_head"], abs=1e-5)
    with reading(data / "answers" / "fetalnet_lite" / "0-0.npz") as find:
        kept = find(row["sequence"])
    assert kept.shape == frames.shape and 0 <= kept.min() <= kept.max() <= 1


def test_evidence_has_masks_lengths_and_labels(workspace):
    metrics = read_json(workspace / "reports" / "biometry" / "metrics.json")
    assert {"dice", "iou", "hausdorff_mm", "measured_well", "accuracy", "hc_refused"} <= set(metrics["fetalnet_lite"])
    assert 0 <= metrics["fetalnet_lite"]["dice"] <= 1
    assert metrics["mask_only"]["accuracy"] is None, "it names nothing"
    page = (workspace / "reports" / "biometry" / "report.html").read_text()
    assert "Measurements" in page and "2.9" in page
    explained = read_json(workspace / "reports" / "biometry" / "explain" / "explain.json")
    assert {"worst_overlap", "gates"} <= {figure["kind"] for figure in explained["figures"]}
