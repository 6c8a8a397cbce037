"""Marks of the station for other labelling programs, and theirs for the station."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fetalflow.annotation.annotation import Annotation, Span
from fetalflow.annotation.checking import CHECKS, Canvas, offered
from fetalflow.annotation.exchange.folder import read, texts_in
from fetalflow.annotation.exchange.marked import Facts, MarkedCine, identifier
from fetalflow.annotation.journal import Event
from fetalflow.annotation.standing import MARK, REOPEN, SUBMIT, read_mark, standing, standing_by_account, submitted
from fetalflow.annotation.studies import ALL
from fetalflow.errors import InputError
from fetalflow.station.accounts import Account
from fetalflow.station.catalogue import Catalogue, Cine
from fetalflow.station.network.answers import answer_of
from fetalflow.station.place import Place

EVERYBODY = ""  # among the names of a file: whoever it names
SAME_PX = 0.02  # other programs round to hundredths of a pixel


@dataclass
class Given:
    """What goes out. marked: cines with marks or answers; unmarked: the others; said: sentences on what is missing."""

    marked: list[MarkedCine] = field(default_factory=list)
    unmarked: list[Facts] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


def facts_of(cine: Cine) -> Facts | None:
    """What a reader must know of a cine; None for a cine that cannot be decoded."""
    if "height" not in cine.record:
        return None
    record = cine.record
    return Facts(cine.source, record["frames"], record["height"], record["width"], record["fps"])


def given(
    place: Place, catalogue: Catalogue, task: str, predictions: bool = False, unmarked: bool = False, ask: bool = False
) -> Given:
    """The valid marks of a task, by cine and account.

    predictions: add the answers of the task's main variant. ask: let the network answer now for cines that the run did
    not predict. unmarked: add the cines that have neither marks nor answers.
    """
    by_source, found = defaultdict(list), Given()
    for event in place.journal.events(task):
        by_source[event.source].append(event)
    by_source.pop(ALL, None)
    table = catalogue.rows()
    listed = table.loc[table["task"] == task, "source"].tolist()
    answered = set(listed if ask else catalogue.answered(task)) if predictions else set()
    unread, unanswered = 0, ""
    for source in listed:
        marks: dict[str, list[Annotation]] = defaultdict(list)
        for account, mark in standing_by_account(by_source.pop(source, [])):
            marks[account].append(mark)
        if not (marks or unmarked or source in answered):  # decoding a cine takes seconds
            continue
        cine = catalogue.cine(source, task)
        if (facts := facts_of(cine)) is None:
            unread += bool(marks) or unmarked
            continue
        found.marked += [MarkedCine(facts, account, tuple(each)) for account, each in sorted(marks.items())]
        answers = _predicted(cine) if predictions else []
        if predictions and not answers and ask:
            try:
                answers = _spans(source, answer_of(catalogue, cine)["windows"])
            except InputError as error:
                unanswered = str(error)
        if answers:
            variant = place.settings.tasks[task].variant
            found.marked.append(MarkedCine(facts, variant, tuple(answers), predicted=True))
        elif unmarked and not marks:
            found.unmarked.append(facts)
    if lost := sum(bool(standing(events)) for events in by_source.values()):
        found.said.append(
            f"{lost} cines with marks are not in the list of this station, and their marks are left out. If they are "
            "of a folder without labels, name it with --drop."
        )
    if unread:
        found.said.append(f"{unread} cines are left out: they cannot be decoded.")
    if unanswered:
        found.said.append(f"The network could not answer every cine. One reason: {unanswered}")
    return found


def people_of(pairs: Iterable[str]) -> dict[str, str]:
    """Accounts by the names of a file, from `THEIRS=ACCOUNT` or, for everybody else, `ACCOUNT`."""
    found: dict[str, str] = {}
    for pair in filter(None, map(str.strip, pairs)):
        theirs, is_pair, account = pair.rpartition("=")
        name, account = (theirs.strip() if is_pair else EVERYBODY), account.strip()
        if not account or (is_pair and not name) or name in found:
            raise InputError(f"{pair!r} does not say whose marks they are: write ACCOUNT once, or NAME=ACCOUNT.")
        found[name] = account
    return found


@dataclass
class Taken:
    """What a file brought: marks that were written, that were here already, and that were changed or removed here since
    they went out; and the cines that were submitted."""

    written: int = 0
    same: int = 0
    older: int = 0
    done: int = 0

    def words(self) -> list[str]:
        """Sentences for a person."""
        count = self.written + self.same + self.older
        said = [f"{count} marks were read: {self.written} are new or changed, {self.same} are here as they are."]
        if self.older:
            said.append(
                f"{self.older} are older than those here: they were changed or removed at the station since the file "
                "was written, and stay as they are here."
            )
        if self.done:
            said.append(f"{self.done} cines were submitted for their annotators.")
        elif self.written:
            said.append("They count when their annotators have submitted the cines at the station.")
        return said


def take_in(
    place: Place,
    catalogue: Catalogue,
    task: str,
    form: str,
    content: bytes,
    open_accounts: Iterable[Account],
    people: Mapping[str, str] | None = None,
    submit: bool = False,
) -> Taken:
    """Read a file of another program, or a zip of such files, and write its annotations into the journal.

    people: accounts by the names that the file has; that of EVERYBODY for all others. submit: these people have
    finished their cines, so that their marks count. Raises InputError if one has no open account, if a label is none of
    the task's, if a mark does not fit its cine, if the file changes a submitted cine and `submit` is False, or for what
    the format refuses; then nothing is written.
    """
    people = people or {}
    table = catalogue.rows()
    contents = texts_in(content, form)
    listed = table.loc[table["task"] == task, "source"]
    sources = [source for source in listed if any(source in text for text in contents)]
    cines = {source: facts for source in sources if (facts := facts_of(catalogue.cine(source, task)))}
    read_cines = [each for text in contents for each in read(form, text, cines) if not each.predicted]
    found: dict[tuple[str, str], list[Annotation]] = defaultdict(list)
    for each in read_cines:
        account = people.get(each.annotator) or people.get(EVERYBODY) or each.annotator
        found[account, each.cine.source] += each.marks
    names = {each.name for each in open_accounts}
    if strange := sorted({account for account, _ in found} - names):
        raise InputError(
            f"the file has marks of {', '.join(strange)}, who have no account here. Say whose they are "
            f"(`{strange[0]}=ACCOUNT`, or one account for all), or make an account with that name."
        )
    labels = offered(catalogue.labels(task))
    if wrong := sorted({mark.label for marks in found.values() for mark in marks} - set(labels)):
        raise InputError(f"the file has the labels {', '.join(wrong)}; {task} has: {', '.join(labels)}.")
    taken, written = Taken(), []
    for (account, source), marks in found.items():
        for mark in marks:
            _check(mark, task, cines[source])
        written += _changes(place, task, source, account, marks, submit, taken)
    place.journal.add(written, _not_submitted)
    return taken


def _not_submitted(event: Event, earlier: Sequence[Event]) -> None:
    """Raises InputError where the person has submitted the cine since the file was compared."""
    if event.action == MARK and submitted(each for each in earlier if each.account == event.account):
        raise InputError(f"{event.account} is submitting the cine {event.source[:12]} just now. Read the file again.")


def _check(mark: Annotation, task: str, cine: Facts) -> None:
    """Raises InputError where the points of a mark lie outside of its cine, or it has no extent."""
    if check := CHECKS.get(mark.kind):
        try:
            check(mark, Canvas(task, (mark.label,), cine.frames, cine.height, cine.width))
        except InputError as error:
            raise InputError(f"the {mark.kind} {mark.label!r} on {cine.source[:12]}: {error}") from None


def _changes(
    place: Place, task: str, source: str, account: str, marks: Sequence[Annotation], submit: bool, taken: Taken
) -> list[Event]:
    """The events that one person's marks on one cine need, and their count in `taken`."""
    events = place.journal.events(task, source)
    others = {event.value.get("id") for event in events if event.action == MARK and event.account != account}
    mine = [event for event in events if event.account == account]
    holding, earlier = standing(mine), [read_mark(event) for event in mine if event.action == MARK]
    ids, new = {mark.id for mark in earlier}, []
    for mark in marks:
        if mark.id in others and mark.id not in ids:  # nobody else can change a mark
            mark = mark.model_copy(update={"id": identifier(account, mark.id)})
        of_id = [each for each in earlier if each.id == mark.id]
        # A program that drops identities gives a mark another one: where the same mark is here, it is that one.
        if any(_alike(each, mark) for each in holding if each.id == mark.id or not of_id):
            taken.same += 1
        elif any(_alike(each, mark) for each in (of_id or earlier)):
            taken.older += 1
        else:
            new.append(mark)
    was_done = submitted(mine)
    if new and was_done and not submit:
        raise InputError(
            f"{account} has submitted the cine {source[:12]}, and the file changes its marks. Say that the people of "
            "the file have finished (`--submit`), or let them open the cine again at the station."
        )
    actions: list[tuple[str, dict]] = [(REOPEN, {})] if new and was_done else []
    actions += [(MARK, mark.model_dump(mode="json")) for mark in new]
    if submit and (new or not was_done):
        actions.append((SUBMIT, {}))
        taken.done += 1
    taken.written += len(new)
    last = mine[-1].number if mine else 0
    return [
        Event(account, task, source, identifier("import", task, source, account, last, place_in_file), action, value)
        for place_in_file, (action, value) in enumerate(actions)
    ]


def _alike(one: Annotation, other: Annotation) -> bool:
    """Whether two marks are the same. Other programs round numbers and may drop notes, so this makes no difference."""
    if one.kind != other.kind or (other.note and one.note != other.note):
        return False
    left, right = (mark.model_dump(exclude={"id", "shown", "started_from", "note", "track"}) for mark in (one, other))
    return all(
        np.shape(value) == np.shape(right[name]) and np.allclose(value, right[name], rtol=0, atol=SAME_PX)
        if name in ("ends", "centre", "axes", "corners", "corner", "size", "angle")
        else value == right[name]
        for name, value in left.items()
    )


def _predicted(cine: Cine) -> list[Span]:
    """The answers of the run as spans."""
    rows = [row for row in cine.predictions if "y_pred" in row and "first_frame" in row]
    return _spans(cine.source, [row | {"label": row["y_pred"]} for row in rows])


def _spans(source: str, windows: Iterable[Mapping]) -> list[Span]:
    """Windows (label, first_frame, last_frame) that touch and have one label are one span."""
    spans: list[Span] = []
    for row in windows:
        before = spans[-1] if spans else None
        frames = {"first_frame": row["first_frame"], "last_frame": row["last_frame"]}
        if before and before.label == row["label"] and row["first_frame"] <= before.last_frame + 1:
            spans[-1] = before.model_copy(update={"last_frame": max(before.last_frame, row["last_frame"])})
        else:
            spans.append(Span(id=identifier(source, "answer", *frames.values()), label=row["label"], **frames))
    return spans
