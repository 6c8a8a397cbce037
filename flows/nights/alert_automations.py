"""Alerts that only Prefect's server can send: a run lost its process, or none begins, because no worker runs.

The server keeps the addresses in blocks, encrypted with a key of its database. The text has the flow's name and the
run's id: the name of a run has the name of its workspace, which may be that of a hospital.
"""

from datetime import timedelta

from prefect.automations import AutomationCore
from prefect.blocks.notifications import SlackWebhook
from prefect.client.orchestration import get_client
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

from flows.nights.alerts import addresses, checked, scheme

NAME, SLUG = "fetalflow-alerts", "slack-webhook"  # of the blocks, with a number; of their type
LATE_S = 86_400  # while no worker runs, one alert a day
BODY = "Flow {{ flow.name }}, run {{ flow_run.id }}: {{ flow_run.state.name }}. "
ALERTS = {
    "Crashed": ("a run lost its process", BODY + "What is finished is kept, and the next run goes on from there.", 0),
    "Late": ("a run did not begin in time", BODY + "Does the worker run, or is a long training in front?", LATE_S),
}


def automations(flows: list[str], blocks: list[str]) -> list[AutomationCore]:
    """One for each kind of `ALERTS`, for the runs of `flows` (names). blocks: ids of the blocks with the addresses.

    Late runs of the flow `answer_requests` are usual while a training runs, so they send nothing.
    """
    return [
        AutomationCore(
            name=f"fetalflow: alert, {words}",
            description=body,
            trigger=EventTrigger(
                expect={f"prefect.flow-run.{state}"},
                match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
                match_related=ResourceSpecification(
                    {
                        "prefect.resource.role": "flow",
                        "prefect.resource.name": [f for f in flows if state == "Crashed" or f != "answer_requests"],
                    }
                ),
                posture=Posture.Reactive,
                threshold=1,
                within=timedelta(seconds=within),
            ),
            actions=[
                SendNotification(block_document_id=block, subject=f"fetalflow: {words}", body=body) for block in blocks
            ],
        )  # fmt: skip
        for state, (words, body, within) in ALERTS.items()
    ]


def set_alerts(flows: list[str]) -> list[str]:
    """Give the server the addresses of today and the automations; return the schemes. Without an address, those of an
    earlier call are removed. Raises InputError if an address is not understood."""
    to = checked(addresses())
    with get_client(sync_client=True) as client:
        names = [automation.name for automation in automations(flows, [])]
        earlier = [each for name in names for each in client.read_automations_by_name(name)]
        blocks = {block.name: block for block in client.read_block_documents_by_type(SLUG) if _is_ours(block.name)}
        # The block for Slack is the one that takes every address of Apprise.
        saved = {f"{NAME}-{i}": SlackWebhook(url=url) for i, url in enumerate(to, 1)}
        ids = [str(block.save(name, overwrite=True)) for name, block in saved.items()]
        for wanted in automations(flows, ids) if ids else []:
            client.create_automation(wanted)
        for automation in earlier:
            client.delete_automation(automation.id)
        for name in blocks.keys() - saved.keys():
            client.delete_block_document(blocks[name].id)
    return [scheme(address) for address in to]


def _is_ours(name: str | None) -> bool:
    return (name or "").startswith(f"{NAME}-")
