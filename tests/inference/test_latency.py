"""Latency: the numbers fit each other, the machine is named, and the stages write what the contract says."""

import json
import statistics

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from variant_entries import entry, put_variants

from fetalflow.errors import InputError
from fetalflow.hospital.drop.columns import ASSUMED
from fetalflow.inference.engines.timing import time_variants
from fetalflow.inference.engines.torch_engine import Torch
from fetalflow.inference.latency import machine, measure_latency
from fetalflow.models.building import build
from fetalflow.models.weights import save
from fetalflow.settings.params import Extract, load_settings
from stages import evaluate, significance

LABELS = ["arm", "hand", "leg"]


def save_package(folder, variant="cnn", size=32, frames=4, options=None):
    torch.manual_seed(0)
    extract = Extract(frames=frames).model_dump(mode="json")
    config = {
        "task": "movement",
        "variant": variant,
        "network": variant,
        "labels": LABELS,
        "frames": frames,
        "size": size,
        "options": options or {},
    }
    save(folder, build(variant, frames, size, len(LABELS), **config["options"]), config | {"extract": extract})


def test_latency_and_throughput_belong_together(tmp_path):
    save_package(tmp_path / "cnn")
    times = measure_latency(tmp_path / "cnn", repeats=6, fps=20)
    assert times["repeats"] == 6 and times["frames"] == 4
    assert 0 < times["ms_per_sequence"] <= times["ms_per_sequence_p95"]
    assert times["ms_per_frame"] == pytest.approx(times["ms_per_sequence"] / 4)
    assert (
        times["frames_per_s"]
        == pytest.approx(4 * times["sequences_per_s"])
        == pytest.approx(1000 / times["ms_per_frame"])
    )
    assert times["wait_ms"] == 200  # 4 frames at 20 frames/s
    assert times["answer_ms"] == pytest.approx(200 + times["ms_per_sequence"])
    assert measure_latency(tmp_path / "cnn", repeats=5)["answer_ms"] is None


def test_a_backbone_is_timed_alone_where_there_is_one(tmp_path):
    save_package(tmp_path / "cnn")
    assert measure_latency(tmp_path / "cnn", repeats=5)["backbone_ms"] is None
    save_package(tmp_path / "lite", "lite_attention", size=64, frames=1, options={"pretrained": False})
    times = measure_latency(tmp_path / "lite", repeats=25)
    assert 0 < times["backbone_ms"] < 1.5 * times["ms_per_sequence"]


def test_every_variant_is_timed_once_beside_the_engines(tmp_path):
    """The main variant takes what its engine torch takes: one value for all tables."""
    folders = {name: tmp_path / name for name in ("cnn", "cnn_lstm")}
    for name, folder in folders.items():
        save_package(folder, name)
    batch = np.random.default_rng(0).random((1, 4, 32, 32), np.float32)
    times, latency = time_variants({"torch": Torch(folders["cnn"])}, folders, batch, 6, fps=20)
    assert set(times) == {"torch"} and len(times["torch"]) == 6
    assert list(latency["variants"]) == ["cnn", "cnn_lstm"] and latency["machine"]["threads"] == torch.get_num_threads()
    main, rival = latency["variants"].values()
    assert main["ms_per_sequence"] == statistics.median(times["torch"]) != rival["ms_per_sequence"] > 0
    assert main["wait_ms"] == rival["wait_ms"] == 200 and rival["repeats"] == 6


def test_the_machine_is_named():
    found = machine()
    assert found["processor"] and found["cores"] >= 1 and found["device"] == "cpu"
    assert found["threads"] == torch.get_num_threads()


def test_a_missing_package_is_an_error(tmp_path):
    with pytest.raises(InputError, match="model.safetensors|config.json"):
        measure_latency(tmp_path, repeats=5)


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A workspace after training: predictions and packages of every variant."""
    monkeypatch.chdir(tmp_path)
    quick = {"bootstrap": 200}
    params = {
        "tasks": {},
        "phantoms": [],
        "movement": {"phantom": {"sequences": {}}, "extract": {}, "preprocess": {}, "split": {}, "validate": {}}
        | {"train": {}, "explain": {}, "register": {}, "significance": {}}
        | {"evaluate": quick | {"latency_repeats": 5}},
    }
    put_variants(params, "movement", [entry("movement", "fetalmovnet"), entry("movement", "cnn")])
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=80)
    (tmp_path / "data/movement/predictions").mkdir(parents=True)
    for variant, skill in (("fetalmovnet", 3.0), ("cnn", 0.3)):
        z = rng.normal(size=(80, 3))
        z[np.arange(80), truth] += skill
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        table = pd.DataFrame({"sequence": [f"s{i}" for i in range(80)], "patient": [f"w{i % 24}" for i in range(80)]})
        table = table.assign(site="north", device="A", variant=variant, fold=0, seed=0)
        table["part"] = np.where(np.arange(80) < 10, "validation", "test")
        table["y_true"], table["y_pred"] = np.array(LABELS)[truth], np.array(LABELS)[p.argmax(axis=1)]
        table["unfamiliarity"] = rng.uniform(0, 1.05, 80)
        table = table.assign(**{f"p_{label}": p[:, k] for k, label in enumerate(LABELS)})
        table.to_csv(tmp_path / f"data/movement/predictions/{variant}.csv", index=False)
    return tmp_path


def test_the_stages_write_what_the_contract_says(workspace, capsys):
    evaluate.main("movement")
    significance.main("movement")
    reports = workspace / "reports/movement"
    metrics = json.loads((reports / "metrics.json").read_text())
    assert list(metrics) == ["fetalmovnet", "cnn"]  # the main variant first
    for values in metrics.values():
        none = {name for name, value in values.items() if not isinstance(value, int | float)}
        assert none <= {"top2_accuracy_low", "top2_accuracy_high"}, "all patients may be alike there"
        assert values["accuracy_low"] <= values["accuracy"] <= values["accuracy_high"]
        assert (values["n_sequences"], values["n_patients"]) == (70, 24)  # the validation part is not counted
        assert 1 / 3 <= values["majority_rate"] < 1
        assert 0 < values["false_alarm_rate"] < 0.2
    folder = reports / "evaluation"
    per_variant = {"score.json", "confusion.csv", "roc.csv", "reliability.csv", "per_class.csv", "certainty.json"}
    expected = {f"{v}-{name}" for v in load_settings().variants("movement") for name in per_variant}
    assert {path.name for path in folder.iterdir()} == expected
    assert {path.name for path in (workspace / "metrics/movement").iterdir()} == {"fetalmovnet.json", "cnn.json"}
    assert list(pd.read_csv(folder / "cnn-roc.csv")) == ["class", "fpr", "tpr"]
    confusion = pd.read_csv(folder / "cnn-confusion.csv")
    right = (confusion["actual"] == confusion["predicted"]).mean()
    assert right == pytest.approx(metrics["cnn"]["accuracy"])
    found = json.loads((reports / "significance.json").read_text())
    assert list(found["comparisons"]) == ["cnn"] and found["reference"] == "fetalmovnet"
    assert "fetalmovnet is better" in capsys.readouterr().out


def test_a_second_evaluation_gives_the_same_metrics(workspace):
    names = "metrics.json", "evaluation/cnn-score.json", "evaluation/cnn-certainty.json"
    evaluate.main("movement")
    first = [(workspace / "reports/movement" / name).read_bytes() for name in names]
    evaluate.main("movement")
    assert [(workspace / "reports/movement" / name).read_bytes() for name in names] == first


@pytest.mark.parametrize(
    ("kind", "manifest", "said"),
    [
        ("random", None, "the split is by sequence"),
        ("paper", None, "the split is by sequence"),
        ("grouped", {ASSUMED: [False, True]}, "does not name all patients"),
        ("grouped", {ASSUMED: [False, False]}, ""),
        ("site", {"sequence": ["a"]}, ""),
        ("official", None, ""),
    ],
)
def test_nothing_is_promised_for_patients_who_may_have_been_trained_on(tmp_path, monkeypatch, kind, manifest, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "movement").mkdir(parents=True)
    if manifest:
        pd.DataFrame(manifest).to_parquet(tmp_path / "data" / "movement" / "manifest.parquet")
    reason = evaluate._no_promise("movement", kind)
    assert said in reason and bool(said) == bool(reason)
    (fitted,) = evaluate._certainty(tmp_path / "none.csv", 0.9, reason or "so").values()
    assert fitted.labels is None and not fitted.lengths and fitted.reason == (reason or "so")


def test_without_a_validation_part_nothing_is_promised(tmp_path):
    path = tmp_path / "cnn.csv"
    path.write_text("sequence,patient,part,y_true,p_a,p_b\ns,p,test,a,0.5,0.5\n")
    (fitted,) = evaluate._certainty(path, 0.9, "").values()
    assert fitted.labels is None and "no rows with part 'validation'" in fitted.reason
