"""Finished flow runs in Prefect: with their logs and tables they are what grows there."""

import time
from datetime import UTC, datetime

from flows.running.surroundings import require_prefect_server

AT_ONCE = 200  # runs in one request
OURS = ("pipeline", "retrain", "promote", "answer_requests", "watch_answers")  # FLOWS of flows/nights/deployments.py
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def old_runs(days: int, now: float | None = None) -> list[str]:
    """The ids of the flow runs that ended more than `days` days ago, of the flows of fetalflow; none without a lasting
    server (PREFECT_API_URL). Raises InputError if that does not answer."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowFilter, FlowRunFilter
    from prefect.settings import PREFECT_API_URL

    if not PREFECT_API_URL.value():
        return []
    require_prefect_server()
    before = datetime.fromtimestamp((time.time() if now is None else now) - days * 86_400, UTC)
    flows = FlowFilter.model_validate({"name": {"any_": list(OURS)}})
    runs = FlowRunFilter.model_validate({"end_time": {"before_": before}, "state": {"type": {"any_": list(ENDED)}}})
    found: list[str] = []
    with get_client(sync_client=True) as client:
        while True:
            page = client.read_flow_runs(flow_filter=flows, flow_run_filter=runs, limit=AT_ONCE, offset=len(found))
            found += [str(run.id) for run in page]
            if len(page) < AT_ONCE:
                return found


def delete_runs(runs: list[str]) -> None:
    """Delete flow runs with their artefacts, which Prefect would keep for ever; Prefect then deletes their logs."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter

    with get_client(sync_client=True) as client:
        for start in range(0, len(runs), AT_ONCE):
            of_runs = ArtifactFilter.model_validate({"flow_run_id": {"any_": runs[start : start + AT_ONCE]}})
            while page := client.read_artifacts(artifact_filter=of_runs, limit=AT_ONCE):
                for each in page:
                    client.delete_artifact(each.id)
        for run in runs:
            client.delete_flow_run(run)
