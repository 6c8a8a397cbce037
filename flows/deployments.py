"""Prefect deployments of pipeline, retraining and promotion, for a process worker."""

from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL

from fetalflow.errors import InputError
from fetalflow.settings.params import load_settings
from flows.checkout import CHECKOUT
from flows.heartbeats import ENVIRONMENT, watch
from flows.pipeline import GPU, pipeline
from flows.promote import promote
from flows.retrain import retrain, workspace_of


def deploy(pool: str, cron: str | None = None, poll: str | None = None) -> list[str]:
    """Deploy the pipeline, and for each task retraining and promotion, on a work pool of the server in PREFECT_API_URL;
    return the names of the deployments, `flow/deployment`.

    cron, poll: schedules of the pipeline and of retraining; None: only when somebody starts it. Promotion has no
    schedule: a person starts it. Each deployment has one run at a time; a second one waits, because two runs of one
    workspace would wait for DVC's lock anyway. Training stages have a tag with a concurrency limit of 1 on the server,
    over all workspaces and workers. Heartbeats show which runs have lost their process (flows/heartbeats.py).

    Raises InputError if PREFECT_API_URL is not set.
    """
    if not PREFECT_API_URL.value():
        raise InputError(
            "a deployment needs a Prefect server, and PREFECT_API_URL is not set: start one with "
            "`prefect server start`, then set PREFECT_API_URL=http://127.0.0.1:4200/api"
        )
    with get_client(sync_client=True) as client:
        client.create_concurrency_limit(tag=GPU, concurrency_limit=1)
    deployments = [(pipeline, "pipeline", "workspace", {"workspace": str(CHECKOUT)}, cron)]
    for task_name in load_settings(CHECKOUT / "params.yaml").tasks:
        parameters = {"workspace": str(workspace_of(task_name)), "task_name": task_name}
        deployments.append((retrain, "retrain", task_name, parameters, poll))
        # Only an hour for the approval, because a waiting run occupies its worker.
        deployments.append((promote, "promote", task_name, parameters | {"wait_s": 3600}, None))
    watch(sorted({flow.name for flow, *_ in deployments}))
    for flow, module, name, parameters, schedule in deployments:
        source = flow.from_source(source=str(CHECKOUT), entrypoint=f"flows/{module}.py:{flow.name}")
        source.deploy(
            name=name,
            work_pool_name=pool,
            parameters=parameters,
            job_variables={"env": ENVIRONMENT},
            cron=schedule,
            concurrency_limit=1,
            build=False,
            push=False,
            print_next_steps=False,
            ignore_warnings=True,
        )
    return [f"{flow.name}/{name}" for flow, _, name, _, _ in deployments]
