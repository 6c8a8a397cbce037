"""The names of runs tell them apart, and a registered model keeps its name in a workspace that has it."""

from pathlib import Path

import pytest
import yaml
from finished_run import TASK, small_params

from fetalflow.artefacts import write_text
from fetalflow.registry.run_origin import ALL, ORIGIN, read_origin
from fetalflow.registry.run_record import scores
from fetalflow.settings.params import load_settings
from fetalflow.settings.tasks import get_task
from flows.running.mlflow_pages import pages
from flows.workspaces import workspace as workspaces
from flows.workspaces.workspace import overlay, prepare


def origin_of(folder: Path, recorded: dict, **changes):
    params = overlay(small_params(("fetalmovnet",), 4), changes)
    write_text(folder / "params.yaml", yaml.safe_dump(params))
    if recorded:
        write_text(folder / ORIGIN, yaml.safe_dump(recorded))
    return read_origin(TASK, load_settings(folder / "params.yaml"), folder)


def test_the_file_is_the_one_of_the_workspaces():
    assert (ORIGIN, ALL) == (workspaces.ORIGIN, workspaces.ALL)


@pytest.mark.parametrize(
    ("drop", "profiles", "changes", "words"),
    [
        ("", [], {}, "demo"),
        ("", ["paper"], {"movement": {"train": {"epochs": 5}}}, "demo · paper · train.epochs=5"),
        ("/data/hospital-2026-11", [], {"movement": {"extract": {"labels": None}}}, "hospital-2026-11"),
        ("arrivals/movement/drop", [], {"movement": {"retrain": {"inbox": "s3://u:p@h"}}}, "here"),
        (
            "",
            [],
            {"movement": {"train": dict.fromkeys("abcde", 1)}},
            "demo · train.a=1 · train.b=1 · train.c=1 · 2 more changes",
        ),
    ],
)
def test_a_run_is_called_by_its_drop_its_profiles_and_its_changes(drop, profiles, changes, words, tmp_path):
    tasks = {"tasks": {TASK: {"drop": drop}}, "phantoms": []} if drop else {}
    made = {TASK: {"profiles": profiles, "changes": overlay(changes, tasks)}}
    origin = origin_of(tmp_path / "here", made, **tasks)
    assert origin.words == words
    assert origin.tags["workspace"] == "here" and "/data" not in str(origin.tags) and "s3" not in str(origin.tags)
    assert origin.tags.get("profile", "") == " ".join(profiles)


def test_a_checkout_has_no_record(tmp_path):
    assert origin_of(tmp_path, {}).words == "demo"


def test_names_of_classes_and_sites_make_valid_metrics():
    row = {"f1": 0.5, "precision": 0.5, "recall": 0.5}
    site = {"accuracy": 0.5, "mean_class_f1": 0.5, "false_alarm_rate": 0.0}
    score = {"per_class": [{"label": "a/b"} | row], "slices": {"site": [{"site": ".."} | site, {"site": " "} | site]}}
    assert {"test/f1/a_b", "site/_/accuracy"} <= set(scores({}, score))


def test_a_network_is_the_papers_or_this_projects():
    task = get_task("movement")
    assert "Section III-C" in task.source_of("fetalmovnet")
    assert task.source_of("fetalmovnet_s") == "a network of this project, from no paper"


def test_a_workspace_keeps_the_name_of_its_registered_model(tmp_path):
    folder = prepare(tmp_path / "site", "movement", [], [])
    params = yaml.safe_load((folder / "params.yaml").read_text())
    assert params["movement"]["register"]["model"] == "fetal-movement"
    params["movement"]["register"]["model"] = "fetalmovnet"  # as a version until 2026-11 made it
    write_text(folder / "params.yaml", yaml.safe_dump(params))
    (folder / ORIGIN).unlink()
    prepare(folder, "movement", [], [{"movement": {"train": {"epochs": 5}}}])
    settings = load_settings(folder / "params.yaml")
    assert settings.blocks["movement"].register_.model == "fetalmovnet"
    assert read_origin("movement", settings, folder).words == "demo · train.epochs=5"


def test_the_printed_pages_are_those_of_the_training(tmp_path):
    registered = {"tracking_uri": "http://host:5000/", "name": "fetal-movement", "version": "3", "experiment_id": "1"}
    lines = pages(tmp_path, registered | {"variants": {"cnn": "ab12"}}, "cnn").splitlines()
    mode = "?workflowType=machine_learning"
    assert [line.split()[-1] for line in lines] == [
        f"http://host:5000/#/models/fetal-movement/versions/3{mode}",
        f"http://host:5000/#/experiments/1/runs/ab12/model-metrics{mode}",
        f"http://host:5000/#/experiments/1/runs{mode}",
    ]
    first, *others = pages(
        tmp_path, registered | {"tracking_uri": "sqlite:////x/mlflow.db", "variants": {"cnn": "a"}}, "cnn"
    ).splitlines()
    assert "mlflow ui --backend-store-uri sqlite:////x/mlflow.db" in first
    assert all(line.split()[-1].startswith("http://127.0.0.1:5000/#/") for line in others)
