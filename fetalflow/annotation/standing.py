"""What holds after the events of the journal: marks that were not removed, and whether an annotator is done."""

from collections.abc import Iterable

from pydantic import TypeAdapter, ValidationError

from fetalflow.annotation.annotation import Annotation
from fetalflow.annotation.journal import Event
from fetalflow.errors import InputError

MARK, REMOVE, SUBMIT, REOPEN = "mark", "remove", "submit", "reopen"
READ = TypeAdapter(Annotation)


def standing(events: Iterable[Event]) -> list[Annotation]:
    """The marks that hold after `events` of one account on one cine, oldest first; the last writing of an id counts.

    A mark that was removed and then written again holds. Events with other actions change no mark. Raises InputError if
    a mark in the journal cannot be read.
    """
    return [mark for _, mark in standing_by_account(events)]


def standing_by_account(events: Iterable[Event]) -> list[tuple[str, Annotation]]:
    """As `standing`, of several accounts: pairs of account and mark. An account changes only the marks that it made."""
    marks: dict[tuple[str, str], Annotation] = {}
    for event in events:
        if event.action == MARK:
            mark = read_mark(event)
            marks[event.account, mark.id] = mark
        elif event.action == REMOVE:
            marks.pop((event.account, event.value.get("mark", "")), None)
    return [(account, mark) for (account, _), mark in marks.items()]


def submitted(events: Iterable[Event]) -> bool:
    """Whether the last word of the account on the cine is `submit`: the work on it is done until a `reopen`."""
    return [REOPEN, *(event.action for event in events if event.action in (SUBMIT, REOPEN))][-1] == SUBMIT


def read_mark(event: Event) -> Annotation:
    """The mark of an event. Raises InputError with the event's number if its value is no mark."""
    try:
        return READ.validate_python(event.value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"the mark of event {event.number or event.id} on the cine {event.source[:12]} cannot be read: "
            f"{where or 'value'}: {first['msg']}."
        ) from None
