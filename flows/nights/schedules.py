"""What a deployment runs and when, checked before anything is sent to the Prefect server."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from fetalflow.errors import InputError
from fetalflow.registry.address import public_uri
from fetalflow.settings.params import Settings, load_settings
from flows.checkout import CHECKOUT
from flows.retrain import accumulated_drop, workspace_of

NO_PLACE = {"localtime", "Factory"}  # on another machine, such as that of Prefect's server, it is another clock
NO_SUMMER = {"EST": "America/New_York", "MST": "America/Denver", "HST": "Pacific/Honolulu"}  # stay in winter time
NOT_IN_A_NAME = set('/%&<>"')  # Prefect does not take these in the name of a deployment


@dataclass(frozen=True)
class Timetable:
    """When to start a flow: five fields of cron, on the clock of an IANA time zone, such as Europe/Berlin.

    A time that a change to summer time skips is moved to one hour earlier, and a time that comes twice in autumn counts
    the first time: each day has one start. Raises InputError if Prefect cannot read either.
    """

    cron: str
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        from prefect.client.schemas.schedules import CronSchedule

        if place := NO_SUMMER.get(self.timezone):
            raise InputError(
                f"{self.timezone!r} is an abbreviation that has no summer time. Give the place of the hospital by its "
                f"IANA name, such as {place}."
            )
        if self.timezone not in (known := available_timezones() - NO_PLACE):
            # No Etc/GMT+2: in the IANA names its sign is the opposite one, so it is two hours behind UTC.
            near = get_close_matches(self.timezone.title(), [name for name in known if "GMT" not in name], 3, 0.5)
            meant = f" Did you mean {' or '.join(near)}?" if near else ""
            raise InputError(
                f"{self.timezone!r} is no time zone. Give an IANA name, such as Europe/Berlin or UTC.{meant}"
            )
        try:
            if len(self.cron.split()) != 5:
                raise ValueError
            CronSchedule(cron=self.cron, timezone=self.timezone)
            self.first()
        except ValueError:
            raise InputError(
                f"{self.cron!r} is no schedule, or one of a day that no year has. Give five fields (minute, hour, day "
                "of the month, month, day of the week), such as '0 2 * * *' for every night at 2:00."
            ) from None

    def __str__(self) -> str:
        return f"{self.cron} {self.timezone}"

    def first(self, after: datetime | None = None) -> datetime:
        """The first start after a moment, by default now."""
        import asyncio

        from prefect.server.schemas.schedules import CronSchedule

        schedule = CronSchedule(cron=self.cron, timezone=self.timezone)
        (start,) = asyncio.run(schedule.get_dates(1, after or datetime.now(UTC)))
        return start.astimezone(ZoneInfo(self.timezone))


@dataclass(frozen=True)
class Planned:
    """A deployment before it is made. trains: on which data, in words."""

    flow: str
    name: str
    parameters: dict[str, Any] = field(repr=False)
    trains: str
    timetable: Timetable | None = None

    @property
    def full_name(self) -> str:
        """As Prefect names it: flow/deployment."""
        return f"{self.flow}/{self.name}"

    def __str__(self) -> str:
        when = "only when a person starts it"
        if self.timetable:
            when = f"at {self.timetable}, the first time on {self.timetable.first():%Y-%m-%d at %H:%M %z}"
        return f"{self.full_name}  {when}\n    {self.trains}"


def plan(
    cron: Timetable | None, poll: Timetable | None, workspace: Path | None = None, synthetic: bool = False
) -> list[Planned]:
    """The deployments: a pipeline, and for each task retraining and promotion; for `workspace` further ones.

    cron: for the pipeline, poll: for retraining. Raises InputError if a schedule would train nothing of the user's:
    `cron` without a workspace that has a drop, unless `synthetic` is set, or `poll` where no workspace has an inbox.
    """
    tasks = list(load_settings(CHECKOUT / "params.yaml").tasks)
    planned = [_pipeline("workspace", CHECKOUT, cron if workspace is None else None)]
    for task in tasks:
        planned += _night(task, task, workspace_of(task), poll if workspace is None else None)
    if workspace is not None:
        settings = load_settings(workspace / "params.yaml")
        nights = [task for task in settings.tasks if inbox_of(settings, task)]
        for task in nights:
            if workspace != workspace_of(task).resolve():
                planned += _night(task, f"{task}-{workspace.name}", workspace, poll)
            else:
                planned = [each for each in planned if each.name != task] + _night(task, task, workspace, poll)
        if not nights:
            planned.append(_pipeline(workspace.name, workspace, cron))
    refuse_names(planned)
    refuse_useless(planned, cron, poll, synthetic)
    return planned


def companions(planned: list[Planned]) -> list[Planned]:
    """For each deployment that looks into an inbox on a schedule, one that answers requests in MLflow every ten
    minutes; and where the workspace logs answers, one that judges every day when it is over (UTC)."""
    said = "answers what people ask for in MLflow, and sends alerts; it trains nothing"
    watched = "compares the answers in use with the training and the days before, and may ask for a retraining"
    nights = [each for each in planned if each.flow == "retrain"]
    answering = [
        Planned("answer_requests", each.name, each.parameters, said, Timetable("*/10 * * * *"))
        for each in nights
        if each.timetable
    ]
    return answering + [
        Planned("watch_answers", each.name, each.parameters, watched, Timetable("30 0 * * *"))
        for each in nights
        if _logs_answers(Path(each.parameters["workspace"]))
    ]


def _logs_answers(folder: Path) -> bool:
    file = folder / "params.yaml"
    return file.is_file() and bool(load_settings(file).watch.folder)


def refuse_names(planned: list[Planned]) -> None:
    """Raises InputError if Prefect would not take a name, or two deployments have the same one: the second would
    replace the first."""
    folders: dict[str, str] = {}
    for each in planned:
        folder = each.parameters["workspace"]
        if NOT_IN_A_NAME & set(each.name):
            raise InputError(
                f"the deployments of {folder} would be named {each.name!r}, and Prefect takes no {' '.join('/%&<>')} "
                "or double quote in a name. Rename the folder."
            )
        if (other := folders.setdefault(each.full_name, folder)) != folder:
            raise InputError(
                f"the workspaces {other} and {folder} would share the deployment {each.full_name}. Rename the folder "
                f"{folder}."
            )


def refuse_useless(planned: list[Planned], cron: Timetable | None, poll: Timetable | None, synthetic: bool) -> None:
    """Raises InputError if `cron` or `poll` has no deployment, or if one trains on the synthetic hospital although
    `synthetic` is not set."""
    if poll and not any(each.timetable for each in planned if each.flow == "retrain"):
        raise InputError(
            "--poll looks into the inbox of a workspace, and there is no workspace with an inbox. Make one first: "
            "`fetalflow retrain --inbox FOLDER --task TASK`; or name another one with --workspace."
        )
    scheduled = [each for each in planned if each.flow == "pipeline" and each.timetable]
    if cron and not scheduled:
        raise InputError(
            "--cron is for a workspace with a drop, and this one has an inbox: use --poll for its schedule."
        )
    if any(_is_synthetic(Path(each.parameters["workspace"])) for each in scheduled) and not synthetic:
        made = "`fetalflow run --drop DIR` makes one"
        usable = [
            f"--workspace {folder}" for folder in sorted((CHECKOUT / "workspaces").glob("*")) if _has_drop(folder)
        ]
        raise InputError(
            f"--cron would train on the synthetic hospital every time ({scheduled[0].parameters['workspace']}), and on "
            f"no data of yours. Name the workspace of your drop: {', '.join(usable) or made}. "
            "For deliveries that come again and again use `fetalflow retrain --inbox FOLDER` and then --poll. To train "
            "on the synthetic hospital nevertheless, add --synthetic."
        )


def inbox_of(settings: Settings, task: str) -> str:
    """The inbox of a task whose workspace takes deliveries, without a password; empty if it takes none."""
    retrain = settings.blocks[task].retrain
    takes = settings.tasks[task].drop == accumulated_drop(task, retrain.store)
    return public_uri(retrain.inbox) if takes and retrain.inbox else ""


def _pipeline(name: str, folder: Path, timetable: Timetable | None) -> Planned:
    settings = load_settings(folder / "params.yaml")
    drops = [f"{task}: {'the synthetic hospital' if task in settings.phantoms else entry.drop}"
             for task, entry in settings.tasks.items()]  # fmt: skip
    trains = f"trains in {folder} on {'; '.join(drops)}"
    return Planned("pipeline", name, {"workspace": str(folder)}, trains, timetable)


def _night(task: str, name: str, folder: Path, timetable: Timetable | None) -> list[Planned]:
    """Retraining and promotion. Without an inbox neither has a schedule."""
    file = folder / "params.yaml"
    settings = load_settings(file) if file.is_file() else None
    inbox = inbox_of(settings, task) if settings and task in settings.tasks else ""
    trains = f"trains {task} in {folder} on the deliveries in {inbox}"
    if not inbox:
        timetable, trains = None, f"has no inbox yet: `fetalflow retrain --task {task} --inbox FOLDER` makes {folder}"
    parameters = {"workspace": str(folder), "task_name": task}
    promotion = f"compares challenger and champion of {task} in {folder}; it trains nothing"
    # Only an hour for the approval, because a waiting run occupies its worker.
    waits = parameters | {"wait_s": 3600}
    return [Planned("retrain", name, parameters, trains, timetable), Planned("promote", name, waits, promotion)]


def _is_synthetic(folder: Path) -> bool:
    settings = load_settings(folder / "params.yaml")
    return any(task in settings.phantoms for task in settings.tasks)


def _has_drop(folder: Path) -> bool:
    try:
        settings = load_settings(folder / "params.yaml")
    except (InputError, OSError):
        return False
    return not any(inbox_of(settings, task) or task in settings.phantoms for task in settings.tasks)
