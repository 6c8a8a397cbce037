"""Prefect deployments of all flows, for a process worker."""

import shlex
from pathlib import Path

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.exceptions import ObjectNotFound
from prefect.schedules import Cron
from prefect.settings import PREFECT_API_URL

from fetalflow.errors import InputError
from flows.answer_requests import answer_requests
from flows.checkout import CHECKOUT
from flows.nights.schedules import Planned
from flows.pipeline import GPU, pipeline
from flows.promote import promote
from flows.retrain import retrain, workspace_of  # noqa: F401 - workspace_of: a door
from flows.running.heartbeats import ENVIRONMENT, watch
from flows.watch_answers import watch_answers

ENQUEUE = ConcurrencyLimitStrategy.ENQUEUE
CANCEL = ConcurrencyLimitStrategy.CANCEL_NEW
AT_ONCE = {
    "retrain": CANCEL,
    "answer_requests": CANCEL,
    "watch_answers": CANCEL,
}  # what a second run of a deployment does, by its flow
FLOWS = {
    "pipeline": pipeline,
    "retrain": retrain,
    "promote": promote,
    "answer_requests": answer_requests,
    "watch_answers": watch_answers,
}


def deploy(pool: str, planned: list[Planned]) -> dict[str, list[str]]:
    """Make the deployments of `flows.nights.schedules.plan` on a work pool of the server in PREFECT_API_URL.

    A deployment without a timetable keeps the schedules that it had. Returns the active ones for each of these, by its
    name `flow/deployment`.

    Promotion has no schedule: a person starts it. Each deployment has one run at a time. A second one waits; of retrain
    it is cancelled, because looks into an inbox would pile up during a long training. Training stages have a tag with a
    concurrency limit of 1 on the server, over all workspaces and workers. Heartbeats show which runs have lost their
    process (flows/running/heartbeats.py).

    Raises InputError if PREFECT_API_URL is not set, the server has no process pool of this name, or a deployment of
    another workspace has one of the names; nothing is deployed then.
    """
    if not PREFECT_API_URL.value():
        raise InputError(
            "a deployment needs a Prefect server, and PREFECT_API_URL is not set: start one with "
            "`prefect server start`, then set PREFECT_API_URL=http://127.0.0.1:4200/api"
        )
    with get_client(sync_client=True) as client:
        require_pool(client, pool)
        for each in planned:
            refuse_takeover(client, each)
        client.create_concurrency_limit(tag=GPU, concurrency_limit=1)
        # Prefect would delete the schedules of a deployment that is made again without any.
        earlier = {each.full_name: schedules(client, each.full_name) for each in planned}
    watch(sorted({each.flow for each in planned}))
    for each in planned:
        flow, timetable = FLOWS[each.flow], each.timetable
        source = flow.from_source(source=str(CHECKOUT), entrypoint=f"flows/{each.flow}.py:{flow.name}")
        source.deploy(
            name=each.name,
            work_pool_name=pool,
            parameters=each.parameters,
            job_variables={"env": ENVIRONMENT},
            schedules=[Cron(timetable.cron, timezone=timetable.timezone)] if timetable else earlier[each.full_name],
            concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=AT_ONCE.get(each.flow, ENQUEUE)),
            build=False,
            push=False,
            print_next_steps=False,
            ignore_warnings=True,
        )
    return {
        each.full_name: [in_words(schedule) for schedule in earlier[each.full_name] if schedule.active]
        for each in planned
        if not each.timetable
    }


def refuse_takeover(client: SyncPrefectClient, planned: Planned) -> None:
    """Raises InputError if the deployment is on the server for another workspace that is still there. Workspaces in
    different folders may have the same last name, and the earlier one would silently be trained no more."""
    try:
        earlier = client.read_deployment_by_name(planned.full_name).parameters.get("workspace")
    except ObjectNotFound:
        return
    folder = planned.parameters["workspace"]
    if earlier and Path(earlier).resolve() != Path(folder).resolve() and (Path(earlier) / "params.yaml").is_file():
        raise InputError(
            f"nothing was deployed: {planned.full_name} belongs to the workspace {earlier} on this server, and "
            f"it would be replaced by the one in {folder}. Rename one of the folders; or, if the "
            f"earlier one is no longer to be trained: prefect deployment delete {shlex.quote(planned.full_name)}"
        )


def schedules(client: SyncPrefectClient, name: str) -> list[DeploymentScheduleCreate]:
    """The schedules that a deployment `flow/deployment` has on the server; none if it is not there."""
    try:
        found = client.read_deployment_by_name(name).schedules
    except ObjectNotFound:
        return []
    return [DeploymentScheduleCreate(schedule=each.schedule, active=each.active) for each in found]


def in_words(each: DeploymentScheduleCreate) -> str:
    """A schedule by cron as it is given to `deploy`; of another kind, its fields."""
    cron = getattr(each.schedule, "cron", None)
    return f"{cron} {each.schedule.timezone or 'UTC'}" if cron else each.schedule.model_dump_json()


def require_pool(client: SyncPrefectClient, pool: str) -> None:
    """Raises InputError if the server has no work pool of this name, one of another type, or refuses the log-in."""
    make = f"prefect work-pool create --type process {pool}"
    try:
        kind = client.read_work_pool(pool).type
    except ObjectNotFound:
        there = ", ".join(sorted(found.name for found in client.read_work_pools())) or "none"
        raise InputError(f"the Prefect server has no work pool {pool!r}; it has: {there}. Make it: {make}") from None
    except httpx.HTTPStatusError as error:
        raise InputError(
            f"the Prefect server answered {error.response.status_code} when it was asked for the work pool {pool!r}. "
            "Check PREFECT_API_AUTH_STRING (user:password)."
        ) from None
    if kind != "process":
        raise InputError(
            f"the work pool {pool!r} has the type {kind}, and fetalflow's deployments need the type process. Make one "
            "under another name, and give it with --pool: prefect work-pool create --type process NAME"
        )
