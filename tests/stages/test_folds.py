"""Cross-validation: from split to report with two folds and two seeds, of two networks over frames."""

import json

import pandas as pd
import pytest
import yaml
from finished_run import EXTRACT, FRAMES, LABELS, TASK, VERDICT, manifest, small_params, working_in

import stages.evaluate
import stages.explain
import stages.report
import stages.significance
import stages.split
import stages.train
from fetalflow.artefacts import write_json, write_table
from fetalflow.hospital.drop.quarantine import quarantine_table
from fetalflow.inference.package import load

VARIANTS = ("backbone_frames", "cnn_gru")
RUNS = [(fold, seed) for fold in (0, 1) for seed in (0, 3)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run whose train stage trained each network four times."""
    workspace = tmp_path_factory.mktemp("folds")
    params = small_params(VARIANTS, FRAMES)
    params[TASK]["split"] = {"folds": 2, "validation": 0.2}
    params[TASK]["train"] |= {"batch": 8, "epochs": 1, "seeds": [0, 3], "augment": False}
    params[TASK]["explain"]["mistakes"] = 0
    (workspace / "params.yaml").write_text(yaml.safe_dump(params))
    data, reports = workspace / "data" / TASK, workspace / "reports" / TASK
    write_table(data / "manifest.parquet", manifest(data, FRAMES))
    write_table(data / "quarantine.csv", quarantine_table([]))
    write_json(reports / "quality" / "verdict.json", VERDICT)
    write_json(reports / "extract.json", EXTRACT)
    with working_in(workspace):
        stages.split.main(TASK)
        for variant in VARIANTS:
            stages.train.main(TASK, variant)
        for stage in (stages.evaluate, stages.significance, stages.explain, stages.report):
            stage.main(TASK)
    return workspace


def test_every_sequence_is_tested_once_by_each_seed(run):
    rows = pd.read_parquet(run / "data" / TASK / "manifest.parquet")
    for variant in VARIANTS:
        answers = pd.read_csv(run / "data" / TASK / "predictions" / f"{variant}.csv")
        tested = answers[answers["part"] == "test"]
        assert set(zip(tested["fold"], tested["seed"], strict=True)) == set(RUNS)
        assert sorted(tested["sequence"]) == sorted([*rows["sequence"]] * 2)
        assert (tested.groupby("patient")["fold"].nunique() == 1).all()
        by_run = tested.groupby(["fold", "seed"])[[f"p_{label}" for label in LABELS]].sum()
        assert by_run.drop_duplicates().shape == by_run.shape  # four trainings, not one four times


def test_every_later_stage_counts_all_runs(run):
    reports = run / "reports" / TASK
    metrics = json.loads((reports / "metrics.json").read_text())
    for variant in VARIANTS:
        assert (metrics[variant]["n_rows"], metrics[variant]["n_sequences"]) == (72, 36)
        assert metrics[variant]["accuracy_seed_sd"] >= 0
        score = json.loads((reports / "evaluation" / f"{variant}-score.json").read_text())
        assert len(score["runs"]) == len(RUNS)
        curves = pd.read_csv(reports / "curves" / f"{variant}.csv")
        assert set(zip(curves["fold"], curves["seed"], strict=True)) == set(RUNS)
    (comparison,) = json.loads((reports / "significance.json").read_text())["comparisons"].values()
    assert comparison["n_sequences"] == 36 and comparison["n_patients"] == 18
    page = (reports / "report.html").read_text()
    assert "2 folds; shown is the first" in page and "By fold and seed" in page
    assert (reports / "figures" / "backbone_frames-curves.png").is_file()


def test_the_package_is_the_first_run_and_is_explained_on_its_own_test_patients(run):
    package = load(run / "models" / TASK / "backbone_frames")
    assert (package.config["training"]["fold"], package.config["training"]["seed"]) == (0, 0)
    split = pd.read_parquet(run / "data" / TASK / "split.parquet")
    first = set(split.loc[(split["fold"] == 0) & (split["part"] == "test"), "sequence"])
    figures = json.loads((run / "reports" / TASK / "explain" / "explain.json").read_text())["figures"]
    assert {"overview", "sequence", "attention", "filters"} <= {figure["kind"] for figure in figures}
    assert {figure["sequence"] for figure in figures} - {""} <= first
