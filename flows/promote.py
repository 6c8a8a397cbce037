"""The challenger against the champion as a Prefect flow: the rules as a table in the UI, and a person's yes or no."""

from contextlib import chdir
from pathlib import Path

from prefect import flow, get_run_logger, pause_flow_run, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.exceptions import FlowPauseTimeout
from prefect.input import RunInput

from fetalflow.promotion.verdict import PAGE, act, judge, place
from fetalflow.settings import load_settings


class Approval(RunInput):
    """What the UI asks for. A no, or no answer in time, leaves the champion where it is."""

    approve: bool = False
    name: str = ""


def judged(task_name: str, workspace: Path) -> dict:
    """The verdict. The embedded MLflow store is that of the current folder, so the workspace becomes it."""
    with chdir(workspace):
        return judge(task_name, load_settings())


def moved(verdict: dict, approved_by: str | None, workspace: Path) -> bool:
    """Whether the challenger became champion; the evidence goes to its run either way."""
    with chdir(workspace):
        return act(verdict, load_settings(), approved_by)


def show(verdict: dict, page: Path) -> None:
    """The verdict as Prefect artefacts."""
    columns = ("rule", "outcome", "words", "champion", "challenger", "difference", "low", "high", "bound", "p_holm")
    rows = [{name: rule[name] for name in columns} for rule in verdict["rules"]]
    name = verdict["task"]
    create_table_artifact(key=f"{name}-promotion", table=rows, description=verdict["words"])
    lines = [f"**{verdict['words']}**", f"Page: `{page}`", f"Evidence: `{verdict['evidence_digest']}`"]
    create_markdown_artifact(key=f"{name}-promotion-verdict", markdown="\n\n".join(lines))


@flow(name="promote")
def promote(
    workspace: str = ".",
    task_name: str = "movement",
    dry_run: bool = False,
    approved_by: str | None = None,
    wait_s: int = 86_400,
) -> dict:
    """Judge the challenger of a workspace, ask a person where the rules say so, move the alias; return the verdict.

    `approved_by` is a yes given beforehand. Without it the run pauses up to `wait_s` seconds for the form in the UI.
    """
    folder, logger = Path(workspace).resolve(), get_run_logger()
    verdict = task(judged, name="judge", cache_policy=None)(task_name, folder)
    show(verdict, place(task_name, folder) / PAGE)
    logger.info(verdict["words"])
    if dry_run:
        return verdict | {"promoted": False}
    if not verdict["failed"] and verdict["needs_approval"] and not approved_by:
        try:
            answer = pause_flow_run(wait_for_input=Approval, timeout=wait_s, poll_interval=5)
        except FlowPauseTimeout:
            logger.info("Nobody answered in %d s: the champion stays", wait_s)
            return verdict | {"promoted": False}
        if not answer.approve:
            logger.info("Declined by %s: the champion stays", answer.name or "a person in Prefect's UI")
            return verdict | {"promoted": False}
        approved_by = answer.name or "a person in Prefect's UI"
    promoted = task(moved, name="promote", cache_policy=None)(verdict, approved_by, folder)
    return verdict | {"promoted": promoted}
