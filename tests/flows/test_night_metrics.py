"""Figures of the nights for Prometheus, and the board in infra/grafana that shows them."""

import json
import re
import urllib.request

import pytest
from closures import ROOT
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from fetalflow.annotation.corrections import correct
from fetalflow.annotation.journal import Journal as Annotations
from fetalflow.artefacts import write_json
from fetalflow.errors import TrackingFailed
from fetalflow.hospital.arrival.journal import Journal, write_look
from fetalflow.settings.params import load_settings
from flows.cli.app import app
from flows.nights import metrics as night_metrics
from flows.nights.metrics import Night
from flows.retrain import prepare_workspace

NAME = "Mueller-Clinic"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A workspace after a few looks, whose every name is NAME."""
    folder = prepare_workspace(tmp_path_factory.mktemp("at") / NAME, "planes", f"/in/{NAME}", None, [])
    store = folder / "arrivals" / "planes"
    store.mkdir(parents=True)
    journal = Journal(store)
    line = {"time": 1.0, "name": NAME, "drop": "", "rows": 3, "cines": 2, "said": NAME, "fingerprint": ""}
    for number, state in enumerate(("seen", "taken", "refused", "taken")):
        journal.add(line | {"state": state, "fingerprint": str(number)})
    write_look(store, 1.8e9, [{"name": NAME, "said": NAME, "state": "waiting"}])
    (folder / "data" / "planes").mkdir(parents=True)
    rows = "".join(f"{NAME},{kind},{NAME}\n" for kind in ("label", "label", "missing", NAME))
    (folder / "data" / "planes" / "quarantine.csv").write_text("video,kind,reason\n" + rows)
    (folder / "reports" / "planes").mkdir(parents=True)
    write_json(folder / "reports" / "planes" / "registered.json", {})
    return folder


def samples(text: str) -> dict[str, float]:
    """Each value by its name and its labels but the task."""
    return {
        " ".join([s.name.removeprefix("fetalflow_"), *(v for k, v in sorted(s.labels.items()) if k != "task")]): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def test_the_figures_of_a_night_and_no_name(folder, monkeypatch):
    monkeypatch.setattr(night_metrics, "alias_versions", lambda model, champion, challenger: (None, "7"))
    done = CliRunner().invoke(app, ["metrics", "--workspace", str(folder)])
    assert done.exit_code == 0 and NAME not in done.stdout and str(folder) not in done.stdout
    found = samples(done.stdout)
    assert found["last_look_timestamp_seconds"] == 1.8e9 and found["deliveries_waiting"] == 1
    assert [found[f"deliveries {state}"] for state in ("taken", "again", "refused")] == [2, 0, 1]
    assert [found[f"quarantine_rows {kind}"] for kind in ("label", "missing", "other", "short")] == [2, 1, 1, 0]
    assert found["model_version challenger"] == 7 and "model_version champion" not in found
    assert found["registry_up"] == 1 and 0 < found["disk_free_bytes"] < found["disk_bytes"]
    registered = (folder / "reports" / "planes" / "registered.json").stat().st_mtime
    assert found["last_training_timestamp_seconds"] == pytest.approx(registered)


def test_the_answers_of_the_champion_that_people_judged(folder, monkeypatch):
    monkeypatch.setattr(night_metrics, "alias_versions", lambda model, champion, challenger: ("3", "7"))
    found = samples(CliRunner().invoke(app, ["metrics", "--workspace", str(folder)]).stdout)
    assert [found[f"champion_answers {judged}"] for judged in ("right", "wrong")] == [0, 0]
    annotations = Annotations(folder / "annotations" / "journal.db")
    model = load_settings(folder / "params.yaml").block("planes").register_.model
    mark = {"kind": "span", "id": "0" * 32, "label": NAME}
    said = {"origin": "service", "first_frame": 0, "last_frame": 0, "answer": NAME, "marks": [mark], "why": NAME}
    for number, (version, right) in enumerate([(3, True), (3, True), (3, False), (7, False)]):
        correct(
            annotations, "planes", f"{number:064x}", NAME, said | {"model": f"{model} {version}", "right": right}, ""
        )
    text = CliRunner().invoke(app, ["metrics", "--workspace", str(folder)]).stdout
    assert [samples(text)[f"champion_answers {judged}"] for judged in ("right", "wrong")] == [2, 1] and NAME not in text


def test_a_registry_that_does_not_answer_is_a_figure_and_an_empty_place_is_none(folder, tmp_path, monkeypatch):
    def broken(*given):
        raise TrackingFailed(f"no {NAME}")

    monkeypatch.setattr(night_metrics, "alias_versions", broken)
    (out := tmp_path / "night.prom").write_text("old")
    done = CliRunner().invoke(app, ["metrics", "--workspace", str(folder), "--out", str(out)])
    assert done.exit_code == 0 and done.stdout == "" and samples(out.read_text())["registry_up"] == 0
    monkeypatch.undo()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    text = CliRunner().invoke(app, ["metrics", "--workspace", str(folder)]).stdout
    assert samples(text)["registry_up"] == 1 and "model_version" not in str(samples(text)), "no model yet"
    monkeypatch.setattr(night_metrics, "workspace_of", lambda task: tmp_path / "none" / task)
    registry = CollectorRegistry()
    registry.register(Night())
    server, _ = start_http_server(0, "127.0.0.1", registry)
    with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=10) as answer:
        assert set(samples(answer.read().decode())) == {"disk_free_bytes", "disk_bytes"}
    server.shutdown()


def test_every_figure_of_the_board_is_one_of_the_night_and_every_figure_is_shown():
    board = json.loads((ROOT / "infra" / "grafana" / "nights.json").read_text())
    shown = {name for panel in board["panels"] for target in panel["targets"]
             for name in re.findall(r"fetalflow_\w+", target["expr"])}  # fmt: skip
    assert shown == {gauge.name for gauge in night_metrics._gauges().values()}
    labels = {gauge.name: set(gauge._labelnames) for gauge in night_metrics._gauges().values()}
    for panel in board["panels"]:
        for target in panel["targets"]:
            (name,) = re.findall(r"fetalflow_\w+", target["expr"])
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= labels[name], panel["title"]
    places = [tuple(panel["gridPos"].values()) for panel in board["panels"]]
    assert len(set(places)) == len(places) and len({panel["id"] for panel in board["panels"]}) == len(places)
