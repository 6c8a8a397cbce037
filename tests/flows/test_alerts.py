"""Alerts: who is told what, once, and that no alert can name anybody or stop a night. They arrive on loopback."""

import json
import time
import uuid
from contextlib import chdir
from pathlib import Path

import pytest
import yaml
from alert_receiver import alert_receiver
from canary import CANARY, NAME
from finished_run import TASK, small_params
from typer.testing import CliRunner

from fetalflow.errors import InputError
from fetalflow.hospital.arrival.journal import write_look
from fetalflow.settings.params import load_settings
from fetalflow.watch.alerted import FILE, alerts_of
from flows.cli.app import app
from flows.nights import alerts
from flows.nights.alerts import TEXTS, Alert, addresses, look_after, settle, tell

RUN = str(uuid.UUID(int=7))


@pytest.fixture
def arrived(monkeypatch):
    """What was sent, as (title, text). It goes to the only address."""
    with alert_receiver() as (address, found):
        monkeypatch.setenv("FETALFLOW_ALERTS", address)
        monkeypatch.delenv("FETALFLOW_ALERTS_FILE", raising=False)
        yield found


@pytest.fixture
def workspace(tmp_path) -> Path:
    """A workspace whose name, delivery and quarantine name a hospital and a patient."""
    folder = tmp_path / f"{CANARY} clinic"
    folder.mkdir()
    params = small_params(("fetalmovnet",), 4)
    params[TASK] |= {"retrain": {"inbox": f"/drops/{CANARY}"}, "alerts": {"quarantine": 0.2, "silent_hours": 10}}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return folder


def quarantine(workspace: Path, bad: int, rows: int) -> None:
    table, record = workspace / "data" / TASK / "quarantine.csv", workspace / "reports" / TASK / "extract.json"
    for file in (table, record):
        file.parent.mkdir(parents=True, exist_ok=True)
    table.write_text("video,patient,kind,reason\n" + f"{NAME}.mp4,{NAME},truncated,{CANARY}\n" * bad)
    record.write_text(json.dumps({"rows": rows}))


def looked(workspace: Path, hours_ago: float) -> None:
    store = workspace / "arrivals" / TASK
    store.mkdir(parents=True, exist_ok=True)
    write_look(store, time.time() - 3600 * hours_ago, [{"name": NAME, "state": "waiting", "said": CANARY}])


def look(workspace: Path) -> None:
    look_after(workspace, TASK, load_settings(workspace / "params.yaml").blocks[TASK], RUN)


FIGURES = {"count": 3, "percent": 12.5, "limit": 10, "hours": 40, "before": 90}


@pytest.mark.parametrize("kind", TEXTS)
def test_an_alert_is_a_sentence_with_numbers_and_a_run(kind):
    alert = Alert(kind, TASK, FIGURES, RUN)
    assert alert.title == f"fetalflow: {kind} ({TASK})" and alert.body.endswith(f"Run {RUN}.")
    assert "{" not in alert.body and TASK not in alert.body


@pytest.mark.parametrize(
    "given",
    [
        {"kind": NAME},
        {"figures": FIGURES | {"count": NAME}},
        {"figures": {}},
        {"run": NAME},
        {"run": f"{RUN} {NAME}"},
        {"kind": "drifted", "figures": {"count": [NAME]}},
    ],
)
def test_nothing_else_can_be_in_an_alert(given):
    with pytest.raises(ValueError):
        Alert(**{"kind": "quarantine", "task": TASK, "figures": FIGURES, "run": RUN} | given)
    assert NAME not in Alert("test", NAME).title


def test_the_same_alert_is_sent_once_until_it_changes_or_comes_again(workspace, arrived):
    alert = Alert("quarantine", TASK, FIGURES)
    assert [tell(workspace, alert, state) for state in (1, 1, 2, 2)] == [True, False, True, False]
    assert tell(workspace, Alert("silent", TASK, FIGURES), 2), "another kind"
    settle(workspace, "quarantine", TASK)
    assert tell(workspace, alert, 2) and len(arrived) == 4


def test_an_alert_that_cannot_be_sent_stops_nothing_and_is_tried_again(workspace, arrived, monkeypatch, caplog):
    good, alert = addresses()[0], Alert("silent", TASK, FIGURES)
    for bad in ("json://user:secret-word@127.0.0.1:9/", "nix://secret-word", "nix secret-word"):
        monkeypatch.setenv("FETALFLOW_ALERTS", bad)
        assert not tell(workspace, alert)
    monkeypatch.setenv("FETALFLOW_ALERTS_FILE", f"{workspace}/nix")
    assert not tell(workspace, alert)
    monkeypatch.delenv("FETALFLOW_ALERTS_FILE")
    (workspace / ".locks" / "alerts.json").write_text("[cut")
    assert "json:// address" in caplog.text and "secret-word" not in caplog.text
    monkeypatch.setenv("FETALFLOW_ALERTS", f"nix://x {good}")
    assert tell(workspace, alert) and len(arrived) == 1, "one of two addresses is enough"
    monkeypatch.delenv("FETALFLOW_ALERTS")
    assert not tell(workspace, Alert("test"))


def test_every_alert_is_written_down_once_and_again_when_it_leaves(workspace, arrived, monkeypatch):
    alert, to = Alert("quarantine", TASK, FIGURES, RUN), addresses()[0]
    monkeypatch.delenv("FETALFLOW_ALERTS")
    for _ in range(3):
        assert not tell(workspace, alert, 1)
    monkeypatch.setenv("FETALFLOW_ALERTS", to)
    assert tell(workspace, alert, 1) and not tell(workspace, alert, 1)
    tell(workspace, Alert("silent", NAME, FIGURES))
    (workspace / FILE).open("a").write('{"time": "cut')
    kept = alerts_of(workspace, TASK)
    assert [(each["kind"], each["task"], each["sent"]) for each in kept] == [
        ("quarantine", TASK, False),
        ("quarantine", TASK, True),
        ("silent", "", True),
    ]
    assert kept[0]["said"] == alert.text and kept[0]["run"] == RUN
    assert NAME not in (workspace / FILE).read_text() and len(alerts_of(workspace, "planes")) == 1
    settle(workspace, "quarantine", TASK)
    assert tell(workspace, alert, 1) and len(alerts_of(workspace, TASK)) == 4, "it came again"
    (workspace / FILE).unlink()
    (workspace / FILE).mkdir()
    assert tell(workspace, alert, 2) and not tell(workspace, alert, 2), "a record that fails stops no alert"


def test_no_record_is_made_where_there_is_no_workspace(tmp_path, monkeypatch):
    monkeypatch.delenv("FETALFLOW_ALERTS", raising=False)
    assert not tell(tmp_path / "none", Alert("silent", TASK, FIGURES)) and not list(tmp_path.iterdir())
    assert alerts_of(tmp_path, TASK) is None


def test_a_look_tells_of_quarantine_and_silence_without_a_name(workspace, arrived, monkeypatch):
    problems = []
    monkeypatch.setattr(alerts, "alias_problems", lambda model, alias: problems)
    quarantine(workspace, 2, 10)
    looked(workspace, 9)
    look(workspace)
    assert arrived == [], "at its limits all is well"
    quarantine(workspace, 3, 10)
    looked(workspace, 11)
    problems.append(f"{CANARY} is at version 3")
    look(workspace)
    look(workspace)
    assert sorted(title for title, _ in arrived) == [
        f"fetalflow: {kind} (movement)" for kind in ("moved by hand", "quarantine", "silent")
    ]
    assert "30 % of the rows are in quarantine, more than 20 %" in str(arrived) and "11 hours ago" in str(arrived)
    quarantine(workspace, 9, 10)
    look(workspace)
    assert len(arrived) == 4, "it became much worse"
    quarantine(workspace, 0, 10)
    look(workspace)
    quarantine(workspace, 9, 10)
    look(workspace)
    assert len(arrived) == 5 and CANARY not in str(arrived)


@pytest.mark.parametrize("damage", ["data/movement/quarantine.csv", "reports/movement/extract.json"])
def test_what_cannot_be_read_does_not_stop_the_other_alerts(workspace, arrived, damage, monkeypatch):
    monkeypatch.setattr(alerts, "alias_problems", lambda model, alias: 1 / 0)
    quarantine(workspace, 9, 10)
    (workspace / damage).write_bytes(b"\xff\xfe\x00[")
    looked(workspace, 11)
    look(workspace)
    assert [title for title, _ in arrived] == ["fetalflow: silent (movement)"]


def test_a_flow_that_fails_tells_once_until_it_succeeds(workspace, arrived, prefect_here):
    from prefect import flow

    faults = [RuntimeError(NAME), RuntimeError(CANARY), None, RuntimeError(NAME), ValueError(NAME)]

    def body(workspace: str, task_name: str):
        if (fault := faults.pop(0)) is not None:
            raise fault

    night = flow(name=f"night of {CANARY}", on_failure=[alerts.on_end], on_completion=[alerts.on_end])(body)
    counts = []
    for _ in range(5):
        night(str(workspace), TASK, return_state=True)
        counts.append(len(arrived))
    assert counts == [1, 1, 1, 2, 3]
    assert {title for title, _ in arrived} == {"fetalflow: failed (movement)"} and CANARY not in str(arrived)


def test_the_server_tells_of_runs_that_lost_their_process_or_never_began(arrived, prefect_here, monkeypatch):
    from prefect.client.orchestration import get_client

    from flows.nights.alert_automations import SLUG, set_alerts

    def kept():
        with get_client(sync_client=True) as client:
            found = [one for one in client.read_automations() if one.name.startswith("fetalflow: alert")]
            blocks = [b for b in client.read_block_documents_by_type(SLUG) if b.name.startswith("fetalflow-alerts")]
        return sorted(found, key=lambda one: one.name), blocks

    flows = ["answer_requests", "retrain"]
    monkeypatch.setenv("FETALFLOW_ALERTS", f"{addresses()[0]} slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ")
    assert set_alerts(flows) == set_alerts(flows) == ["json://", "slack://"]
    (late, crashed), blocks = kept()
    assert {str(b.id) for b in blocks} == {str(action.block_document_id) for action in late.actions} and len(
        blocks
    ) == 2
    assert crashed.trigger.match_related["prefect.resource.name"] == flows
    assert late.trigger.match_related["prefect.resource.name"] == ["retrain"], "it waits behind every training"
    assert late.trigger.within.total_seconds() == 86_400
    for action in (*crashed.actions, *late.actions):
        shown = action.subject + action.body
        assert "flow_run.id" in shown and "flow_run.name" not in shown and "state.message" not in shown
    monkeypatch.setenv("FETALFLOW_ALERTS", "nix://x")
    with pytest.raises(InputError, match=r"address 1 of the alerts, nix://, is not understood"):
        set_alerts(flows)
    monkeypatch.delenv("FETALFLOW_ALERTS")
    assert set_alerts(flows) == [] and kept() == ([], [])


def test_the_command_sends_a_test_and_says_what_did_not_leave(arrived, tmp_path, monkeypatch):
    listed = tmp_path / "alerts.txt"
    listed.write_text("# the night shift\njson://me:secret-word@127.0.0.1:9/\n")
    done = CliRunner().invoke(app, ["alert", "--test"])
    assert done.exit_code == 0 and arrived == [("fetalflow: test", TEXTS["test"])] and "sent    json://" in done.output
    monkeypatch.setenv("FETALFLOW_ALERTS_FILE", str(listed))
    done = CliRunner().invoke(app, ["alert", "--test"])
    assert done.exit_code == 1 and "FAILED  json://" in done.output and "secret-word" not in done.output
    monkeypatch.delenv("FETALFLOW_ALERTS")
    monkeypatch.delenv("FETALFLOW_ALERTS_FILE")
    with chdir(tmp_path), pytest.raises(InputError, match="nobody gets alerts"):
        CliRunner().invoke(app, ["alert"], catch_exceptions=False)
