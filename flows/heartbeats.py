"""No run stays "Running" once its process is gone: runs send heartbeats, and the server crashes one that has stopped.

Prefect's own example waits 90 s while its default is a heartbeat every 180 s, so it crashes runs that live. Here both
times are set, one from the other: a deployment gives its runs their frequency (`ENVIRONMENT`), whatever the worker's
own environment says, and the automation waits for `MISSED` of them.
"""

from datetime import timedelta

from prefect.automations import AutomationCore
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

HEARTBEAT_S = 30  # Prefect's shortest
MISSED = 4  # a busy machine or server may lose three
SILENCE_S = MISSED * HEARTBEAT_S
START_S = 600  # from "a worker took it" to "it runs": the flow's process imports for a minute on a busy machine
ENVIRONMENT = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S)}

BEAT = "prefect.flow-run.heartbeat"
ENDED = {f"prefect.flow-run.{name}" for name in ("Completed", "Failed", "TimedOut", "Cancelled", "Crashed")}
LEFT = {f"prefect.flow-run.{name}" for name in ("Suspended", "AwaitingRetry")}  # its process ends, the run does not


def automations(flows: list[str]) -> list[AutomationCore]:
    """What the server is told about the runs of `flows` (their names) and nobody else's."""
    ours = ResourceSpecification({"prefect.resource.role": "flow", "prefect.resource.name": flows})

    def crash(name: str, after: set[str], expect: set[str], seconds: int, said: str) -> AutomationCore:
        return AutomationCore(
            name=name,
            description=said,
            trigger=EventTrigger(
                after=after,
                expect=expect,
                match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
                match_related=ours,
                for_each={"prefect.resource.id"},
                posture=Posture.Proactive,
                threshold=1,
                within=timedelta(seconds=seconds),
            ),
            actions=[ChangeFlowRunState(state=StateType.CRASHED, message=said)],
        )

    silent = f"No heartbeat for {SILENCE_S} s: the process of this run is gone. The next run goes on where it ended."
    unstarted = f"Taken by a worker and not running after {START_S} s. The next run does its work."
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
    """Create the automations on the server, or bring those that are there up to date; return their names."""
    with get_client(sync_client=True) as client:
        for wanted in automations(flows):
            there = client.read_automations_by_name(wanted.name)
            if not there:
                client.create_automation(wanted)
                continue
            client.update_automation(there[0].id, wanted)
            for twice in there[1:]:
                client.delete_automation(twice.id)
    return [wanted.name for wanted in automations(flows)]
