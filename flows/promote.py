"""Promotion as a Prefect flow: the rules as a table in the UI, and a form for a person's approval."""

from contextlib import chdir
from pathlib import Path

from prefect import flow, get_run_logger, pause_flow_run, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.exceptions import FlowPauseTimeout
from prefect.input import RunInput

from fetalflow.promotion.approval import PAGE, check_approval, check_named, place
from fetalflow.settings.params import load_settings
from flows.nights.alerts import on_end
from flows.workspaces.lock import hold

POLL_S = 5  # how often a waiting run looks for the answer
HOLDER = "the flow promote"  # for who waits for the workspace; no lock is held while the run waits for a person


class Approval(RunInput):
    """The form in the UI. Without approval in time, the champion stays. It shows version and evidence of the verdict
    that the run waits with; if they are changed, nothing is approved."""

    approve: bool = False
    name: str = ""
    version: str = ""
    evidence: str = ""


def judge_in(task_name: str, workspace: Path, candidate: str = "") -> dict:
    """The verdict on the challenger, or on the version `candidate`. The workspace becomes the current folder, because
    the embedded MLflow store is looked for there."""
    from fetalflow.promotion.verdict import judge  # imports torch: 2 s that a look without a request does not need

    with hold(workspace, HOLDER), chdir(workspace):
        return judge(task_name, load_settings(), version=candidate or None)


def act_in(verdict: dict, approved_by: str | None, workspace: Path) -> bool:
    """Promote the challenger if the verdict allows it, and say whether; its run gets the evidence in both cases."""
    from fetalflow.promotion.verdict import act

    with hold(workspace, HOLDER), chdir(workspace):
        return act(verdict, load_settings(), approved_by)


def show(verdict: dict, page: Path) -> None:
    """Show the verdict as Prefect artefacts."""
    columns = ("rule", "outcome", "words", "champion", "challenger", "difference", "low", "high", "bound", "p_holm")
    rows = [{name: rule[name] for name in columns} for rule in verdict["rules"]]
    name = verdict["task"]
    create_table_artifact(key=f"{name}-promotion", table=rows, description=verdict["words"])
    lines = [f"**{verdict['words']}**", f"Page: `{page}`", f"Evidence: `{verdict['evidence_digest']}`"]
    create_markdown_artifact(key=f"{name}-promotion-verdict", markdown="\n\n".join(lines))


@flow(name="promote", on_failure=[on_end], on_crashed=[on_end], on_completion=[on_end])
def promote(
    workspace: str = ".",
    task_name: str = "movement",
    dry_run: bool = False,
    approved_by: str | None = None,
    version: str = "",
    evidence: str = "",
    wait_s: int = 86_400,
    candidate: str = "",
) -> dict:
    """Check the challenger of a workspace, wait for approval if the rules need it, move the alias; return the verdict.

    The verdict is shown on the page of its version in MLflow, too, but not on a dry run. candidate: a version that is
    judged in place of the challenger.

    approved_by: a person who has already read the page and approved the `version` with this `evidence`; all three are
    needed. Without them, the run waits up to `wait_s` seconds for the form in the UI; with 0 it ends at once.
    """
    folder, logger = Path(workspace).resolve(), get_run_logger()
    if approved_by and not dry_run:
        check_named(version, evidence)  # before minutes of work
    verdict = task(judge_in, name="judge", cache_policy=None)(task_name, folder, candidate)
    page = place(task_name, folder) / PAGE
    show(verdict, page)
    logger.info(verdict["words"])
    if dry_run:
        return verdict | {"promoted": False}
    if approved_by:
        check_approval(verdict, version, evidence, page)
    elif not verdict["failed"] and verdict["needs_approval"]:
        act_in(verdict, None, folder)  # moves nothing, and shows in MLflow that a person must decide
        if not wait_s:
            return verdict | {"promoted": False}
        judged = {"version": verdict["challenger"]["version"], "evidence": verdict["evidence_digest"]}
        words = f"{verdict['words']} Version {judged['version']}, evidence {judged['evidence']}. Read {page} first."
        try:
            form = Approval.with_initial_data(description=words, **judged)
            answer = pause_flow_run(wait_for_input=form, timeout=wait_s, poll_interval=POLL_S)
        except FlowPauseTimeout:
            logger.info("No answer in %d s: the champion stays", wait_s)
            return verdict | {"promoted": False}
        if not answer.approve:
            logger.info("Declined by %s: the champion stays", answer.name or "a person in Prefect's UI")
            return verdict | {"promoted": False}
        check_approval(verdict, answer.version, answer.evidence, page)
        approved_by = answer.name or "a person in Prefect's UI"
    promoted = task(act_in, name="promote", cache_policy=None)(verdict, approved_by, folder)
    return verdict | {"promoted": promoted}
