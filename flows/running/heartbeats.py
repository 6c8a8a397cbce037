"""Runs send heartbeats; when they stop, Prefect's server sets the run to CRASHED, so it does not stay "Running".

Prefect's example waits 90 s, but its default is one heartbeat every 180 s, so it sets healthy runs to CRASHED. Here
both times are set together: a deployment gives its runs the frequency (`ENVIRONMENT`, which overrides the environment
of the worker), and the automation waits for `MISSED` heartbeats.
"""

from datetime import timedelta

from prefect.automations import AutomationCore
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

from stages.runtime.crash import DEBUG

HEARTBEAT_S = 30  # the shortest that Prefect allows
MISSED = 4  # a busy machine or server may lose up to three
SILENCE_S = MISSED * HEARTBEAT_S
START_S = 600  # from PENDING to RUNNING; on a busy machine, the imports of the flow take a minute
ENVIRONMENT = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S), DEBUG: "1"}  # a worker's log has the traceback

BEAT = "prefect.flow-run.heartbeat"
ENDED = {f"prefect.flow-run.{name}" for name in ("Completed", "Failed", "TimedOut", "Cancelled", "Crashed")}
LEFT = {f"prefect.flow-run.{name}" for name in ("Suspended", "AwaitingRetry")}  # the process ends, but not the run


def automations(flows: list[str]) -> list[AutomationCore]:
    """The automations for the runs of `flows` (names), and for no other runs."""
    of_these_flows = ResourceSpecification({"prefect.resource.role": "flow", "prefect.resource.name": flows})

    def crash(name: str, after: set[str], expect: set[str], seconds: int, message: str) -> AutomationCore:
        return AutomationCore(
            name=name,
            description=message,
            trigger=EventTrigger(
                after=after,
                expect=expect,
                match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
                match_related=of_these_flows,
                for_each={"prefect.resource.id"},
                posture=Posture.Proactive,
                threshold=1,
                within=timedelta(seconds=seconds),
            ),
            actions=[ChangeFlowRunState(state=StateType.CRASHED, message=message)],
        )

    silent = f"No heartbeat for {SILENCE_S} s: the process of this run has ended. The next run continues its work."
    unstarted = f"Still pending {START_S} s after a worker took it. The next run does its work."
    return [
        crash("fetalflow: runs whose heartbeat stopped", {BEAT}, {BEAT} | ENDED | LEFT, SILENCE_S, silent),
        crash(
            "fetalflow: runs that never began",
            {"prefect.flow-run.Pending"},
            {BEAT, "prefect.flow-run.Running", "prefect.flow-run.AwaitingConcurrencySlot"} | ENDED | LEFT,
            START_S,
            unstarted,
        ),
    ]


def watch(flows: list[str]) -> list[str]:
    """Create or update the automations on the server; return their names."""
    with get_client(sync_client=True) as client:
        for wanted in automations(flows):
            existing = client.read_automations_by_name(wanted.name)
            if not existing:
                client.create_automation(wanted)
                continue
            client.update_automation(existing[0].id, wanted)
            for duplicate in existing[1:]:
                client.delete_automation(duplicate.id)
    return [wanted.name for wanted in automations(flows)]
