"""The pipeline on a schedule: a Prefect deployment that a process worker picks up."""

from flows.pipeline import pipeline
from flows.workspace import CHECKOUT


def deploy(pool: str, cron: str | None = None) -> str:
    """Register the pipeline on a work pool of the server that PREFECT_API_URL names; return `flow/deployment`.

    One run at a time: a second one waits, since two runs of one workspace would wait for DVC's lock anyway.
    """
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
