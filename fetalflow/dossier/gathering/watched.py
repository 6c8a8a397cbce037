"""What was seen of the model in use: the reports of `watch`, what people corrected, alerts, and stated incidents."""

import shutil
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from fetalflow.annotation.journal import JOURNAL
from fetalflow.artefacts import write_json
from fetalflow.dossier.subject import Subject
from fetalflow.errors import InputError
from fetalflow.quality.drift import EVERY_SITE
from fetalflow.settings.params import Loader, load_settings
from fetalflow.watch.alerted import alerts_of
from fetalflow.watch.look import corrected, log_of, reports_of

FILE, INCIDENTS = "watch.json", "incidents.yaml"
PARAMS = "params.yaml"


class Incident(BaseModel):
    """What the team states about an incident."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    date: date
    happened: Annotated[str, Field(min_length=1)]
    done: Annotated[str, Field(min_length=1)]


def gather(subject: Subject, folder: Path) -> None:
    """Write `watch.json`, and a copy of the team's incidents. `why` in it: why there is no report; empty if there are.

    Raises InputError when the incidents, a report or a correction cannot be read.
    """
    workspace, task, name = subject.workspace, subject.task, f"{subject.model} {subject.version}"
    try:
        reports, why = _reports(subject)
        days = [_day(report, name) for report in reports]
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"a report of `fetalflow watch` about {task} cannot be read ({type(error).__name__}: {error}). Remove the "
            "damaged file from the folder `reports` of the log, and look again: fetalflow watch."
        ) from None
    people = [row | {"this_version": row["model"] == name} for row in corrected(workspace, task)]
    alerts = alerts_of(workspace, task)
    found = {"why": why, "days": days, "corrected": people, "alerts": alerts}
    write_json(folder / FILE, found | {"journal": (workspace / JOURNAL).is_file()})
    stated = incidents_file(workspace, task)
    if stated.is_file():
        read_incidents(stated)
        shutil.copyfile(stated, folder / INCIDENTS)


def incidents_file(workspace: Path, task: str) -> Path:
    """Where a team writes its incidents."""
    return workspace / "dossier" / f"{task}-{INCIDENTS}"


def read_incidents(path: Path) -> list[Incident]:
    """Raises InputError, with the file, the entry and the key, when the file is no list of incidents."""
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), Loader)
        return TypeAdapter(list[Incident]).validate_python([] if found is None else found)
    except ValidationError as error:
        first = error.errors()[0]
        entry, *key = (str(part) for part in first["loc"]) if first["loc"] else ("",)
        where = f"entry {int(entry) + 1}, {'.'.join(key)}" if entry.isdigit() else "the file"
        why = f"{where}: {first['msg']}"
    except (OSError, ValueError, yaml.YAMLError) as error:
        why = str(error)
    raise InputError(
        f"{path} is no list of incidents ({why}). Expected entries such as:\n"
        "- date: 2026-11-30\n  happened: what happened, without a name\n  done: what was done about it"
    )


def _reports(subject: Subject) -> tuple[list[dict[str, Any]], str]:
    params = subject.workspace / PARAMS
    if not params.is_file():
        return [], "There is no workspace here, so there is no log of answers."
    log = log_of(subject.workspace, load_settings(params))
    if log is None:
        return [], "No answers are logged: the setting watch.folder is empty."
    reports = reports_of(log, subject.task)
    if not reports:
        return [], "Answers are logged, but no day was looked at. The command is: fetalflow watch."
    return reports, ""


def _day(report: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A report without its tests. name: model and version of the dossier, as the log calls them."""
    estimated = report.get("estimated", {}).get(EVERY_SITE, {})
    of_all = report["sites"].get(EVERY_SITE, {})
    return {
        "day": report["day"],
        "models": report["models"],
        "this_version": name in report["models"],
        "answers": of_all.get("answers", 0),
        "patients": of_all.get("patients", 0),
        "unfamiliar": of_all.get("unfamiliar"),
        "refused": of_all.get("refused"),
        "estimated": estimated.get("accuracy"),
        "estimated_low": estimated.get("low"),
        "estimated_high": estimated.get("high"),
        "of_test": estimated.get("of_test"),
        "findings": [finding["said"] for finding in report["findings"]],
        "asks": report["asks"],
    }
