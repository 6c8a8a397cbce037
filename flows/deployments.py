"""The pipeline, the inboxes and promotion as Prefect deployments that a process worker picks up."""

from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL

from fetalflow.errors import InputError
from fetalflow.settings import load_settings
from flows.heartbeats import ENVIRONMENT, watch
from flows.pipeline import GPU, pipeline
from flows.promote import promote
from flows.retrain import retrain, workspace_of
from flows.workspace import CHECKOUT


def deploy(pool: str, cron: str | None = None, poll: str | None = None) -> list[str]:
    """Register the pipeline, and for each task a look into its inbox and the promotion of its challenger, on a work
    pool of the server that PREFECT_API_URL names; return their names, `flow/deployment`.

    cron: when the pipeline runs; poll: when inboxes are looked at; None: only when somebody starts it. Promotion is
    never on a schedule: a person starts it.
    One run of a deployment at a time: a second one waits, since two runs of one workspace would wait for DVC's lock
    anyway. Training stages carry a tag that the server is told to let through one at a time, over all workspaces and
    workers. Runs whose process is gone are told from those that work by their heartbeats (flows/heartbeats.py).

    Raises InputError when no server is named.
    """
    if not PREFECT_API_URL.value():
        raise InputError(
            "a deployment lives on a Prefect server, and PREFECT_API_URL names none: start one with "
            "`prefect server start`, then set PREFECT_API_URL=http://127.0.0.1:4200/api"
        )
    with get_client(sync_client=True) as client:
        client.create_concurrency_limit(tag=GPU, concurrency_limit=1)
    wanted = [(pipeline, "pipeline", "workspace", {"workspace": str(CHECKOUT)}, cron)]
    for task_name in load_settings(CHECKOUT / "params.yaml").tasks:
        parameters = {"workspace": str(workspace_of(task_name)), "task_name": task_name}
        wanted.append((retrain, "retrain", task_name, parameters, poll))
        # An hour for a person's yes: a run that waits holds a place of its worker.
        wanted.append((promote, "promote", task_name, parameters | {"wait_s": 3600}, None))
    watch(sorted({flow.name for flow, *_ in wanted}))
    for flow, module, name, parameters, schedule in wanted:
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
    return [f"{flow.name}/{name}" for flow, _, name, _, _ in wanted]
