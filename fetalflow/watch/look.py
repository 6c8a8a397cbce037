"""Looks at the days of a log that nobody looked at yet, and keeps what is to be said of each."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from fetalflow.annotation.corrections import accuracy_in_use, judged
from fetalflow.annotation.journal import JOURNAL, Journal
from fetalflow.artefacts import read_json, write_json, write_text
from fetalflow.errors import InputError
from fetalflow.settings.params import Settings
from fetalflow.watch.judged import asks, judge_day
from fetalflow.watch.log import AnswerLog
from fetalflow.watch.page import render
from fetalflow.watch.reference import reference_of

REPORTS, PAGE = "reports", "watch.html"
FURTHER = 4  # so many times `watch.before` days back, days without a finding are looked for
MOST_DAYS = 60  # that one look judges; a log that is older was never watched


def log_of(workspace: Path, settings: Settings) -> AnswerLog | None:
    """The log that the settings of a workspace name; None where nothing is logged."""
    if not settings.watch.folder:
        return None
    return AnswerLog(workspace / settings.watch.folder, settings.watch.keep_pictures)


def look(workspace: Path, task: str, settings: Settings, today: str = "") -> list[dict[str, Any]]:
    """Judge every day before `today` that has answers of the task and no report yet, at most the last MOST_DAYS;
    write the reports and the page; return the new reports, oldest first.

    A report is that of `judge_day`, with `asks`: why a retraining is asked for, or empty. Days that are older than
    `watch.days` are removed from the log; their reports, which name no patient, stay. today: default: of now, in UTC.

    Raises InputError where nothing is logged, a day of the log is damaged, or `today` is no day or lies in the future.
    """
    log, watch = log_of(workspace, settings), settings.watch
    if log is None:
        raise InputError(
            "no answers are logged: the setting `watch.folder` is empty. Set it, such as `--set watch.folder=answers`, "
            "and start the services again; a relative folder lies in the workspace."
        )
    today = _checked(today)
    log.keep(watch.days, today)
    log.settle(today)
    folder = log.folder / REPORTS / task
    known = {path.stem for path in folder.glob("[!.]*.json")}
    new = [day for day in log.days() if day < today and day not in known][-MOST_DAYS:]
    reference = reference_of(workspace, task, settings.tasks[task].variant) if new else None
    found = []
    for day in new:
        first = date.fromisoformat(day) - timedelta(days=watch.window - 1 + FURTHER * watch.before)
        answers = log.read(first.isoformat(), day)
        answers = answers[answers["task"] == task].reset_index(drop=True)
        if not (answers["time"].str.slice(0, 10) == day).any():
            continue
        bad = {each["day"]: bool(each["findings"]) for each in reports_of(log, task)}
        report = {"task": task} | judge_day(answers, day, watch, reference, {each for each in bad if bad[each]})
        report["asks"] = asks(bad | {day: bool(report["findings"])}, day, watch)
        write_json(folder / f"{day}.json", report)
        found.append(report)
    write_text(page_of(log, task), render(task, reports_of(log, task), corrected(workspace, task), watch))
    return found


def _checked(today: str) -> str:
    """In the future, days that are not over would count as judged, and all answers as older than `watch.days`."""
    now = datetime.now(UTC).date()
    try:
        day = date.fromisoformat(today) if today else now
    except ValueError:
        raise InputError(f"{today} is no day. Write it as year-month-day, such as 2026-11-30.") from None
    if day > now:
        raise InputError(f"{day} lies in the future (in UTC it is {now} now), so nothing was judged and removed.")
    return day.isoformat()


def reports_of(log: AnswerLog, task: str) -> list[dict[str, Any]]:
    """The reports of all days that were looked at, oldest first."""
    return [read_json(path) for path in sorted((log.folder / REPORTS / task).glob("[!.]*.json"))]


def page_of(log: AnswerLog, task: str) -> Path:
    return log.folder / REPORTS / task / PAGE


def corrected(workspace: Path, task: str) -> list[dict[str, Any]]:
    """The accuracy of the answers that people judged in the review station (`annotation.corrections`)."""
    path = workspace / JOURNAL
    found = judged(Journal(path).events(task)) if path.is_file() else []
    return accuracy_in_use(found, _patients(workspace, task, {each.source for each in found}) if found else {})


def _patients(workspace: Path, task: str, sources: Iterable[str]) -> dict[str, str]:
    from fetalflow.artefacts import read_columns

    table = workspace / "data" / task / "manifest.parquet"
    if not table.is_file():
        return {}
    rows = read_columns(table, ["source", "patient"])
    if "source" not in rows:  # a manifest of an earlier version
        return {}
    rows = rows.drop_duplicates("source").set_index("source")["patient"]
    return rows[rows.index.isin(set(sources))].to_dict()
