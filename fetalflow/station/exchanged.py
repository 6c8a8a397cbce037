"""Marks of the station for other labelling programs, and theirs for the station."""

from collections import defaultdict
from collections.abc import Iterable

from fetalflow.annotation.annotation import Annotation, Span
from fetalflow.annotation.exchange.folder import read
from fetalflow.annotation.exchange.marked import Facts, MarkedCine, events, identifier
from fetalflow.annotation.standing import standing_by_account
from fetalflow.errors import InputError
from fetalflow.station.accounts import Account
from fetalflow.station.catalogue import Catalogue, Cine
from fetalflow.station.place import Place


def facts_of(cine: Cine) -> Facts | None:
    """What a reader must know of a cine; None for a cine that cannot be decoded."""
    if "height" not in cine.record:
        return None
    record = cine.record
    return Facts(cine.source, record["frames"], record["height"], record["width"], record["fps"])


def marked_cines(place: Place, catalogue: Catalogue, task: str, with_predictions: bool) -> list[MarkedCine]:
    """The marks that hold in a task, by cine and account, and the answers of its main variant as predictions."""
    by_source = defaultdict(list)
    for event in place.journal.events(task):
        by_source[event.source].append(event)
    table, found = catalogue.rows(), []
    for source in table.loc[table["task"] == task, "source"]:
        marks: dict[str, list[Annotation]] = defaultdict(list)
        for account, mark in standing_by_account(by_source[source]):
            marks[account].append(mark)
        if not marks and not with_predictions:
            continue
        cine = catalogue.cine(source, task)
        if (facts := facts_of(cine)) is None:
            continue
        found += [MarkedCine(facts, account, tuple(each)) for account, each in sorted(marks.items())]
        if with_predictions and (answers := _predicted(cine)):
            variant = place.settings.tasks[task].variant
            found.append(MarkedCine(facts, variant, tuple(answers), predicted=True))
    return found


def take_in(
    place: Place, catalogue: Catalogue, task: str, form: str, text: str, open_accounts: Iterable[Account]
) -> int:
    """Read a file of another program and write its annotations into the journal; returns how many marks there are.

    The marks are those of the accounts that the file names. Raises InputError if one of these is no open account, if a
    label is none of the task's, or for what the format refuses; then nothing is written.
    """
    table = catalogue.rows()
    sources = [source for source in table.loc[table["task"] == task, "source"] if source in text]
    cines = {source: facts for source in sources if (facts := facts_of(catalogue.cine(source, task)))}
    found = [each for each in read(form, text, cines) if not each.predicted]
    names = {each.name for each in open_accounts}
    if strange := sorted({each.annotator for each in found} - names):
        raise InputError(
            f"the file has marks of {', '.join(strange)}, who have no account here. Make an account with that name, or "
            "correct the name in the file."
        )
    labels = (*catalogue.labels(task), "other")
    if wrong := sorted({mark.label for each in found for mark in each.marks} - set(labels)):
        raise InputError(f"the file has the labels {', '.join(wrong)}; {task} has: {', '.join(labels)}.")
    return len(place.journal.add(events(found, task)))


def _predicted(cine: Cine) -> list[Span]:
    """The answers as spans; sequences that touch and have one label are one span."""
    spans: list[Span] = []
    for row in cine.predictions:
        if "y_pred" not in row or "first_frame" not in row:
            continue
        before = spans[-1] if spans else None
        if before and before.label == row["y_pred"] and row["first_frame"] <= before.last_frame + 1:
            spans[-1] = before.model_copy(update={"last_frame": max(before.last_frame, row["last_frame"])})
        else:
            identity = identifier(cine.source, row["sequence"], row["first_frame"])
            frames = {"first_frame": row["first_frame"], "last_frame": row["last_frame"]}
            spans.append(Span(id=identity, label=row["y_pred"], **frames))
    return spans
