"""Tell a person what needs one: a night that failed, a refused delivery, drift, quarantine, silence, an alias moved by
hand.

An alert is a sentence of `TEXTS` with numbers, the name of a task and the id of a Prefect run. It can hold no other
text, so no name of a patient, a file, a delivery, a workspace or a hospital can be in it. Where alerts go is a secret:
FETALFLOW_ALERTS has addresses of Apprise, or FETALFLOW_ALERTS_FILE names a file with one address a line.
"""

import hashlib
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import chdir, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pandas as pd
from filelock import FileLock
from prefect.settings import PREFECT_API_URL

from fetalflow.artefacts import read_json, write_json
from fetalflow.errors import InputError
from fetalflow.hospital.arrival.journal import listing
from fetalflow.registry.ledger.record import alias_problems
from fetalflow.settings.params import TaskSettings
from fetalflow.settings.tasks import TASKS
from fetalflow.watch.alerted import keep_alert
from flows.workspaces.lock import FOLDER

VARIABLE, VARIABLE_FILE = "FETALFLOW_ALERTS", "FETALFLOW_ALERTS_FILE"
STATE = "alerts.json"  # beside the locks of a workspace: what was said already
KEPT = ", kept"  # ends the key of what was written to the record already
TEXTS = {
    "failed": "A flow failed. What is finished is kept, and the next run goes on from there. Read its log in Prefect.",
    "crashed": "A flow lost its process. The next run goes on from there. Read its log in Prefect.",
    "refused delivery": "Refused deliveries at this look into the inbox: {count}. `fetalflow arrivals` says why.",
    "drifted": "New deliveries that differ from the training data: {count}. See this run's artefacts in Prefect.",
    "quarantine": "{percent} % of the rows are in quarantine, more than {limit} %. See `fetalflow quarantine list`.",
    "silent": "The last look into the inbox was {hours} hours ago. Does the worker run? See `fetalflow doctor`.",
    "moved by hand": "An alias was moved by hand, or the ledger is damaged ({count}). See `fetalflow ledger verify`.",
    # Of the flow watch_answers: docs/ml-lead/watch.md.
    "answers changed": "Figures of the answers in use that changed at a site: {count}. See `fetalflow watch`.",
    "accuracy fell": "The accuracy in use is estimated as {percent} %, in the test it was {before} %.",
    "shadow differs": "Models in shadow that often answer otherwise than the champion: {count}.",
    "retraining asked": "The answers in use changed for days, so a retraining is asked for. See `fetalflow watch`.",
    "test": "This is a test. Alerts of fetalflow arrive here.",
}

log = logging.getLogger(__name__)
logging.getLogger("apprise").setLevel(logging.CRITICAL)  # its messages may repeat a password


@dataclass(frozen=True)
class Alert:
    """kind: of TEXTS. figures: the numbers in its text. run: id of a Prefect run. Raises ValueError for anything else,
    such as text in place of a number."""

    kind: str
    task: str = ""
    figures: Mapping[str, int | float] = field(default_factory=dict)
    run: str = ""

    def __post_init__(self) -> None:
        if any(isinstance(value, bool) or not isinstance(value, int | float) for value in self.figures.values()):
            raise ValueError("an alert has numbers only")
        self.body  # noqa: B018 - raises where the kind or a number is missing, or the run is no id

    @property
    def title(self) -> str:
        of = f" ({self.task})" if self.task in TASKS else ""
        return f"fetalflow: {self.kind}{of}"

    @property
    def text(self) -> str:
        try:
            return TEXTS[self.kind].format(**{name: f"{value:.3g}" for name, value in self.figures.items()})
        except KeyError as error:
            raise ValueError(f"an alert of the kind {self.kind!r} has no {error}") from None

    @property
    def body(self) -> str:
        return f"{self.text} Run {UUID(self.run)}." if self.run else self.text


def addresses() -> list[str]:
    """Where alerts go; empty: nowhere. Raises InputError if the file cannot be read."""
    found = os.environ.get(VARIABLE, "").split()
    if name := os.environ.get(VARIABLE_FILE):
        try:
            lines = Path(name).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
            raise InputError(f"{VARIABLE_FILE} names {name}, which cannot be read: {reason}.") from None
        found += [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return found


def checked(to: list[str]) -> list[str]:
    """The same addresses. Raises InputError if Apprise does not understand one; nothing is sent."""
    import apprise  # takes 0.2 s

    for i, address in enumerate(to, 1):
        if not apprise.Apprise().add(address):
            raise InputError(
                f"address {i} of the alerts, {scheme(address)}, is not understood. Write it as Apprise does, such as "
                "mailtos://user:password@example.org or slack://TOKEN_A/TOKEN_B/TOKEN_C "
                "(https://github.com/caronc/apprise)."
            )
    return to


def scheme(address: str) -> str:
    """What may be shown of an address: the rest has passwords."""
    return f"{address.partition('://')[0]}://" if "://" in address else "an address without a scheme"


def send(alert: Alert, to: Iterable[str]) -> list[str]:
    """Send an alert to each address; return the addresses that failed. Nothing is raised."""
    failed = []
    for address in to:
        try:
            import apprise  # takes 0.2 s

            sender = apprise.Apprise()
            if sender.add(address) and sender.notify(title=alert.title, body=alert.body):
                continue
            reason = "it was refused or not understood"
        except Exception as error:  # noqa: BLE001 - an alert never stops a night
            reason = type(error).__name__
        log.warning("the alert %r was not sent to the %s address: %s", alert.kind, scheme(address), reason)
        failed.append(address)
    return failed


def tell(workspace: Path, alert: Alert, state: object = "") -> bool:
    """Send an alert once until `state` changes or `settle` ends it; return whether it was sent now. Never raises.

    One that could not be sent to anybody is tried again with the next call. Both are kept: `fetalflow.watch.alerted`.
    """
    try:
        to, is_workspace = _reachable(alert), (workspace / "params.yaml").is_file()
        if not to and not is_workspace:
            return False
        with _said(workspace) as said:
            key, now = _key(alert), hashlib.sha256(repr(state).encode()).hexdigest()[:16]
            if said.get(key) == now:
                return False
            sent = len(send(alert, to)) < len(to)
            kept = f"{now} sent" if sent else now
            if is_workspace and said.get(f"{key}{KEPT}") != kept:  # one line, however often it is tried
                _keep(workspace, alert, sent)
                said[f"{key}{KEPT}"] = kept
            if sent:
                said[key] = now
        return sent
    except Exception as error:  # noqa: BLE001 - an alert never stops a night
        log.warning("the alert %r was not sent: %s", alert.kind, type(error).__name__)
        return False


def settle(workspace: Path, kind: str, task: str) -> None:
    """What `kind` says of a task is over: when it comes again, it is said again. Never raises."""
    with suppress(Exception):
        if (workspace / FOLDER / STATE).is_file():
            with _said(workspace) as said:
                for after in ("", KEPT):
                    said.pop(f"{task}: {kind}{after}", None)


def on_end(flow: Any, flow_run: Any, state: Any) -> None:
    """A hook of Prefect for the end of a run. Where a lasting server is, its automation tells of a crash, because a
    killed process cannot (flows/nights/alert_automations.py)."""
    with suppress(Exception):
        if flow_run.parent_task_run_id and not state.is_completed():
            return  # the flow that called this one tells
        parameters = flow_run.parameters
        folder, task = Path(parameters.get("workspace") or ".").resolve(), parameters.get("task_name") or ""
        if state.is_completed():
            if state.name == "Completed":  # a run that found the workspace in use says nothing about the last failure
                settle(folder, "failed", task)
            return
        if state.is_crashed() and PREFECT_API_URL.value():
            return
        kind = "crashed" if state.is_crashed() else "failed"
        tell(folder, Alert(kind, task, run=str(flow_run.id)), (kind, _error_of(state)))


def look_after(workspace: Path, task: str, block: TaskSettings, run: str = "") -> None:
    """Send the alerts about quarantine, silence and aliases, and end those that are over. Never raises."""
    for look in (_quarantine, _silence, _aliases):
        try:
            look(workspace, task, block, run)
        except Exception as error:  # noqa: BLE001 - a damaged table or a lost server is reported by the night itself
            log.warning("no alert was considered (%s): %s", look.__name__.strip("_"), type(error).__name__)


def _quarantine(workspace: Path, task: str, block: TaskSettings, run: str) -> None:
    table, record = workspace / "data" / task / "quarantine.csv", workspace / "reports" / task / "extract.json"
    if not (table.is_file() and record.is_file()):
        return
    rows = read_json(record)["rows"]
    share = len(pd.read_csv(table, dtype=str, usecols=["kind"])) / max(rows, 1)
    limit = block.alerts.quarantine
    if share <= limit:
        settle(workspace, "quarantine", task)
    else:  # again only where it became worse by half of the limit
        figures = {"percent": 100 * share, "limit": 100 * limit}
        tell(workspace, Alert("quarantine", task, figures, run), int(2 * share / limit))


def _silence(workspace: Path, task: str, block: TaskSettings, run: str) -> None:
    looked = listing(workspace / block.retrain.store / task)["looked"] if block.retrain.inbox else None
    if looked is None:
        return
    hours = (time.time() - datetime.fromisoformat(looked).timestamp()) / 3600
    if hours <= block.alerts.silent_hours:
        settle(workspace, "silent", task)
    else:
        tell(workspace, Alert("silent", task, {"hours": hours}, run), looked)


def _aliases(workspace: Path, task: str, block: TaskSettings, run: str) -> None:
    with chdir(workspace):
        try:
            found = [alias_problems(block.register_.model, a) for a in (block.promote.champion, block.register_.alias)]
        except InputError:  # no model of the task yet
            return
    problems = sorted({*found[0], *found[1]})
    if not problems:
        settle(workspace, "moved by hand", task)
    else:
        tell(workspace, Alert("moved by hand", task, {"count": len(problems)}, run), problems)


@contextmanager
def _said(workspace: Path) -> Iterator[dict[str, str]]:
    """What was said already, by task and kind; written when the block ends. Two processes take turns."""
    file = workspace / FOLDER / STATE
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_suffix(".lock"), timeout=60):
        try:
            said = dict(read_json(file))
        except (OSError, ValueError, TypeError):  # there is none, or it is damaged
            said = {}
        before = dict(said)
        yield said
        if said != before:
            write_json(file, said)


def _reachable(alert: Alert) -> list[str]:
    """`addresses`; none where the file that names them cannot be read."""
    try:
        return addresses()
    except InputError as error:
        log.warning("the alert %r was not sent: %s", alert.kind, type(error).__name__)
        return []


def _keep(workspace: Path, alert: Alert, sent: bool) -> None:
    """A record that cannot be written stops no alert."""
    try:
        keep_alert(workspace, alert.kind, alert.task if alert.task in TASKS else "", alert.text, alert.run, sent)
    except OSError as error:
        log.warning("the alert %r was not written down: %s", alert.kind, type(error).__name__)


def _key(alert: Alert) -> str:
    kind = "failed" if alert.kind == "crashed" else alert.kind
    return f"{alert.task}: {kind}"


def _error_of(state: Any) -> str:
    try:
        error = state.result(raise_on_failure=False)
        return f"{type(error).__name__} {getattr(error, 'stage', '')}"
    except Exception:  # noqa: BLE001 - it was not kept
        return ""
