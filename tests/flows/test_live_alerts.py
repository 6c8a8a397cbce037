"""Alerts on a real server of Prefect with its services: of a run that fails, one that is killed, one that never begins.
They arrive at a webhook on loopback."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alert_receiver import alert_receiver
from canary import CANARY
from processes import QUICK_START, START_S, environ, wait_for
from servers import prefect_server

from flows.nights.alert_automations import set_alerts
from flows.running import heartbeats

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

QUICK = {"PREFECT_EVENTS_PROACTIVE_GRANULARITY": "PT1S", "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "1"}
SILENCE_S = 45  # in use: 120. A heartbeat comes every 30 s, so a run that lives is not taken for a dead one
RUN = f"""
import sys, time
from prefect import flow
from flows.nights.alerts import on_end

@flow(name="night", flow_run_name="{CANARY}", on_failure=[on_end])
def night(workspace: str, task_name: str, fails: bool):
    if fails:
        raise RuntimeError("{CANARY}")
    print("begun", flush=True)
    time.sleep(600)

night(sys.argv[1], "movement", sys.argv[2] == "fails")
"""


@contextmanager
def started(variables: dict[str, str], *words: str) -> Iterator[subprocess.Popen]:
    words = [sys.executable, "-c", RUN, *words]
    with subprocess.Popen(words, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        yield process
        process.kill()


def test_the_server_and_the_flow_tell_of_what_failed_crashed_or_never_began(tmp_path, monkeypatch):
    from prefect import flow
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
    from prefect.states import Scheduled

    monkeypatch.setattr(heartbeats, "SILENCE_S", SILENCE_S)
    with alert_receiver() as (address, arrived), prefect_server(tmp_path / "prefect", settings=QUICK) as server:
        monkeypatch.setenv("FETALFLOW_ALERTS", address)
        variables = environ(server.access, {"FETALFLOW_ALERTS": address}, heartbeats.ENVIRONMENT)
        variables |= {"PYTHONPATH": f"{QUICK_START}{os.pathsep}{Path(__file__).parents[2]}"}
        log_in = server.access["PREFECT_API_AUTH_STRING"]
        with temporary_settings({PREFECT_API_URL: server.url, PREFECT_API_AUTH_STRING: log_in}):
            set_alerts(["night", "late"])
            heartbeats.watch(["night"])
            with get_client(sync_client=True) as client, started(variables, str(tmp_path), "is killed") as killed:
                at = datetime.now(UTC) - timedelta(hours=1)
                late = flow(name="late")(lambda: None)
                client.create_flow_run(late, name=CANARY, state=Scheduled(scheduled_time=at))
                with started(variables, str(tmp_path), "fails") as failed:
                    failed.communicate(timeout=120)
                assert any("begun" in line for line in killed.stdout)
        titles = {"fetalflow: a run lost its process", "fetalflow: a run did not begin in time"}
        titles.add("fetalflow: failed (movement)")
        said = lambda: f"{arrived}\n{server.log.read_text()[-3000:]}"  # noqa: E731
        wait_for(lambda: titles <= {title for title, _ in arrived}, START_S, said)
    assert len(arrived) == 3 and CANARY not in str(arrived), arrived
    assert "Crashed. What is finished is kept" in str(arrived) and "Late. Does the worker run" in str(arrived)
