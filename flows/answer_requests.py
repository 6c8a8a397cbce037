"""What people ask for in MLflow: a flow that looks there every few minutes, judges, and answers on the version's page.

MLflow's webhooks are not used: they do not say which account acted, and need a receiver. The name of the account is in
the record that the server writes (infra/mlflow/accounts.py); without such a server nobody can approve in MLflow.
"""

import os
from contextlib import chdir
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.runtime import deployment, flow_run
from prefect.states import Cancelled

from fetalflow.artefacts import read_json
from fetalflow.errors import InputError, TrackingFailed
from fetalflow.promotion.approval import PAGE, place
from fetalflow.promotion.version_page import publish, publish_words
from fetalflow.registry.evidence import VERDICT
from fetalflow.registry.ledger.decisions import put_back
from fetalflow.registry.tracking import registry
from fetalflow.registry.version_page import CANDIDATE, Request, answered, records_accounts, requests
from fetalflow.settings.params import TaskSettings, load_settings
from flows.nights.alerts import look_after, on_end
from flows.promote import act_in, promote
from flows.workspaces.lock import Busy, hold

WORKERS = "MLFLOW_TRACKING_USERNAME"  # the account that this flow logs in with
HOLDER = "the flow answer_requests"  # for who waits for the workspace


@flow(name="answer_requests", flow_run_name="{task_name}", on_failure=[on_end], on_completion=[on_end])
def answer_requests(workspace: str = ".", task_name: str = "movement") -> list[str]:
    """Answer every request on the pages of a task's registered model; return one sentence for each.

    Also sends the alerts that only a regular look can find: no look into the inbox for hours, rows in quarantine, an
    alias that was moved by hand. Raises TrackingFailed when the registry is out of reach.
    """
    drop_missed_runs()
    folder = Path(workspace).resolve()
    block = load_settings(folder / "params.yaml").block(task_name)
    look_after(folder, task_name, block, flow_run.id)
    model, said = block.register_.model, []
    with chdir(folder):  # the embedded registry is looked for there
        try:
            with registry() as store:
                wanted = requests(store, model, block.promote.champion)
        except InputError:  # no model of the task yet
            return []
        done = set()
        for request in wanted:
            if request.kind != "candidate" or request.version not in done:  # an approval is judged as well
                try:
                    said.append(answer(request, folder, task_name, block))
                except Busy as busy:
                    said.append(f"{model}, version {request.version}: the next look answers. {busy}")
                get_run_logger().info(said[-1])
            done.add(request.version)
    return said


def answer(request: Request, folder: Path, task_name: str, block: TaskSettings) -> str:
    """Do what is asked, or write on the version's page why not; a sentence for the log.

    Raises Busy if another process uses the workspace; the request stays. Raises what it does not expect, after the
    request was taken off the page: else each look would fail by it.
    """
    model, version = block.register_.model, request.version
    try:
        if request.kind == "by hand":
            said = by_hand(request, folder, task_name, block)
        elif request.kind == "approve":
            approver = person(request, model, block)
            approved = {"approved_by": approver, "version": version, "evidence": request.value}
            said = _in_words(in_turn(folder, task_name, version, **approved))
        else:
            said = _in_words(in_turn(folder, task_name, version, wait_s=0))
    except (TrackingFailed, Busy):
        raise  # the request stays, and the next look answers it
    except InputError as error:
        text = str(error).removeprefix("nothing was moved: ").replace(str(place(task_name, folder) / PAGE), "the page")
        said = text if request.kind == "by hand" else f"Nothing was moved: {text}"
        if version is not None:
            show_refusal(model, version, said, place(task_name, folder), folder)
    except Exception as error:
        said = f"It could not be judged: {type(error).__name__}. The log of this run in Prefect says more."
        if version is not None:
            publish_words(model, version, "refused", said)
            take_off(model, request)
        raise
    if version is not None:
        take_off(model, request)
    return f"{model}, version {version or 'none'}, {request.kind}: {said}"


def in_turn(folder: Path, task_name: str, candidate: str, **how: Any) -> dict:
    """Judge a version by the flow `promote`. Raises Busy, so that no look waits for the end of a long training."""
    with hold(folder, HOLDER, wait_s=0):
        return promote(str(folder), task_name, candidate=candidate, **how)


def by_hand(request: Request, folder: Path, task_name: str, block: TaskSettings) -> str:
    """Put the champion's alias back, judge the version that it was set to, and move it there if that is allowed.

    Raises Busy if another process uses the workspace: the version is then a candidate, which the next look judges."""
    model, alias = block.register_.model, block.promote.champion
    by = f"the account {request.by}" if request.by else "somebody whose account is not recorded"
    put_back(model, alias, f"{by} set it in MLflow; fetalflow judges that version first")
    if request.version is None:
        return f"{alias} was removed by {by}, and was put back."
    try:
        with hold(folder, HOLDER, wait_s=0):
            verdict = in_turn(folder, task_name, request.version, wait_s=0)
            waits = not verdict["promoted"] and not verdict["failed"]
            if waits and block.requests.champion_by_hand == "keep":
                verdict = verdict | {"promoted": act_in(verdict, person(request, model, block), folder)}
    except Busy:
        with registry() as store:
            store.client.set_model_version_tag(model, request.version, CANDIDATE, "by hand")
        raise
    except InputError as error:
        raise InputError(f"{alias} was put back. {error}") from None
    return f"{alias} was set by {by}, and was put back. {_in_words(verdict)}"


def take_off(model: str, request: Request) -> None:
    with registry() as store:
        answered(store, model, request)


def person(request: Request, model: str, block: TaskSettings) -> str:
    """The account that approves. Raises InputError where it is not recorded, is no person's, or may not approve."""
    to_do = "Approve on the command line: fetalflow promote --dry-run shows the command."
    with registry() as store:
        if not records_accounts(store, model, request.version):
            raise InputError(
                "this MLflow does not record which account asks (it has no log-in, or was not started by "
                f"infra/mlflow/serve.py). {to_do}"
            )
    if not request.by:
        raise InputError(f"it is not recorded which account asked. Set the tag again. Or: {to_do}")
    if request.by == os.environ.get(WORKERS):
        raise InputError(f"the account {request.by} is that of the workers, and of no person. Log in as yourself.")
    if block.requests.approvers and request.by not in block.requests.approvers:
        raise InputError(f"the account {request.by} is not among `requests.approvers` of params.yaml.")
    return f"{request.by} (account of MLflow)"


def show_refusal(model: str, version: str, said: str, last: Path, folder: Path) -> None:
    """Write on a version's page why nothing was moved; with its last verdict, if it has one, which stays to be read."""
    with chdir(folder):
        try:
            verdict = read_json(last / VERDICT)
        except (OSError, ValueError):
            verdict = {}
        if verdict.get("model") != model or verdict["challenger"]["version"] != version:
            publish_words(model, version, "refused", said)
        else:
            waits = not verdict["failed"] and verdict["needs_approval"]
            publish(verdict, last, "waits" if waits else "refused", said)


def _in_words(verdict: dict) -> str:
    version = verdict["challenger"]["version"]
    if verdict["promoted"]:
        return f"Version {version} is the champion now."
    return verdict["words"] if verdict["failed"] else f"Version {version} waits for a person."


def drop_missed_runs() -> None:
    """Cancel the other runs of this deployment that are late, because this one does their work: during a long training
    they pile up."""
    if not deployment.id:
        return
    late = FlowRunFilter.model_validate(
        {"deployment_id": {"any_": [deployment.id]}, "state": {"name": {"any_": ["Late"]}}}
    )
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_run_filter=late):
            client.set_flow_run_state(run.id, Cancelled(message="a later look does its work"), force=True)
