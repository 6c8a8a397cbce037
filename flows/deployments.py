"""The pipeline on a schedule: a Prefect deployment that a process worker picks up."""

from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL

from fetalflow.errors import InputError
from flows.pipeline import GPU, pipeline
from flows.workspace import CHECKOUT


def deploy(pool: str, cron: str | None = None) -> str:
    """Register the pipeline on a work pool of the server that PREFECT_API_URL names; return `flow/deployment`.

    One run at a time: a second one waits, since two runs of one workspace would wait for DVC's lock anyway. Training
    stages carry a tag that the server is told to let through one at a time, over all workspaces and workers.

    Raises InputError when no server is named.
    """
    if not PREFECT_API_URL.value():
        raise InputError(
            "a deployment lives on a Prefect server, and PREFECT_API_URL names none: start one with "
            "`prefect server start`, then set PREFECT_API_URL=http://127.0.0.1:4200/api"
        )
    with get_client(sync_client=True) as client:
        client.create_concurrency_limit(tag=GPU, concurrency_limit=1)
    source = pipeline.from_source(source=str(CHECKOUT), entrypoint="flows/pipeline.py:pipeline")
    source.deploy(
        name="workspace",
        work_pool_name=pool,
        parameters={"workspace": str(CHECKOUT)},
        cron=cron,
        concurrency_limit=1,
        build=False,
        push=False,
        print_next_steps=False,
        ignore_warnings=True,
    )
    return f"{pipeline.name}/workspace"
