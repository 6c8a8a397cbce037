"""The model in use, looked at once a day: what changed, an alert, and where the rule says so a retraining."""

from contextlib import chdir
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL

from fetalflow.errors import InputError, TrackingFailed
from fetalflow.quality.drift import EVERY_SITE
from fetalflow.registry.watched import figures_of, log_days
from fetalflow.settings.params import TaskSettings, load_settings
from fetalflow.watch.look import log_of, look, page_of
from flows.nights.alerts import Alert, on_end, settle, tell

KINDS = {"changed": "answers changed", "accuracy": "accuracy fell", "shadow": "shadow differs"}  # of a finding: alert


@flow(
    name="watch_answers", flow_run_name="{task_name}", on_failure=[on_end], on_crashed=[on_end], on_completion=[on_end]
)
def watch_answers(workspace: str = ".", task_name: str = "movement", today: str = "") -> list[str]:
    """Judge the days before `today` (default: now, UTC) that nobody looked at yet; return the findings of the last one.

    Sends alerts, logs metrics to MLflow, and asks for a retraining where `watch.ask_days` of `watch.of_days` days had a
    finding. A registry that is out of reach stops nothing: the reports and the page are there. Raises InputError where
    the workspace logs no answers.
    """
    folder = Path(workspace).resolve()
    settings = load_settings(folder / "params.yaml")
    reports = look(folder, task_name, settings, today)
    page = page_of(log_of(folder, settings), task_name)
    if not reports:
        get_run_logger().info("No new day with answers. Page: %s", page)
        return []
    log_to_mlflow(folder, task_name, settings.block(task_name), reports)
    last = reports[-1]
    said = [finding["said"] for finding in last["findings"]]
    lines = [f"# {task_name}, {last['day']}", "", *(f"- {each}" for each in said or ["Nothing changed."])]
    if last["asks"]:
        lines += ["", f"**A retraining is asked for.** {last['asks']}"]
    create_markdown_artifact(key=f"{task_name}-answers", markdown="\n".join([*lines, "", f"Page: `{page}`"]))
    for each in said:
        get_run_logger().warning(each)
    alert(folder, task_name, last)
    if last["asks"]:
        get_run_logger().warning(ask(folder, task_name, last))
    else:
        settle(folder, "retraining asked", task_name)
    return said


def log_to_mlflow(folder: Path, task: str, block: TaskSettings, reports: list[dict[str, Any]]) -> None:
    with chdir(folder):  # the embedded store is looked for there
        try:
            log_days(
                f"{block.register_.experiment}-in-use", task, {r["day"]: figures_of(r, EVERY_SITE) for r in reports}
            )
        except (InputError, TrackingFailed) as error:
            get_run_logger().warning("The metrics were not logged to MLflow: %s", error)


def alert(folder: Path, task: str, report: dict[str, Any]) -> None:
    """One alert for each kind of finding, sent again when other sites or figures are found; those that are over end."""
    for kind, name in KINDS.items():
        of_kind = sorted(
            finding["said"].partition(" differs")[0] for finding in report["findings"] if finding["kind"] == kind
        )
        if not of_kind:
            settle(folder, name, task)
            continue
        figures = {"count": len(of_kind)}
        if kind == "accuracy":
            lowest = min(report["estimated"].values(), key=lambda one: one["accuracy"] - one["of_test"])
            figures = {"percent": 100 * lowest["accuracy"], "before": 100 * lowest["of_test"]}
            of_kind = sorted(finding["site"] for finding in report["findings"] if finding["kind"] == kind)
        tell(folder, Alert(name, task, figures, flow_run.id or ""), of_kind)


def ask(folder: Path, task: str, report: dict[str, Any]) -> str:
    """Start the deployment of `retrain` for this workspace, with the reason; say in words what was done.

    A day asks once, however often it is judged. Without a server or a deployment, the words say what a person can do.
    """
    reason = f"The answers in use changed ({report['day']}): {report['asks']}"
    tell(folder, Alert("retraining asked", task, {}, flow_run.id or ""), report["asks"][:10])
    to_do = f"Do it by hand: fetalflow retrain --task {task}"
    if not PREFECT_API_URL.value():
        return f"A retraining is asked for. {reason} There is no Prefect server that starts it. {to_do}"
    with get_client(sync_client=True) as client:
        wanted = {"workspace": str(folder), "task_name": task}
        for each in client.read_deployments(limit=200):
            if each.name and each.parameters == wanted and each.entrypoint and "flows/retrain.py" in each.entrypoint:
                run = client.create_flow_run_from_deployment(
                    each.id,
                    parameters=wanted | {"reason": reason},
                    tags=["asked by watch_answers"],
                    idempotency_key=f"watch-{folder}-{task}-{report['day']}",
                )
                return f"A retraining was started as the run {run.id}. {reason}"
    return f"A retraining is asked for. {reason} No deployment of retrain has this workspace. {to_do}"
