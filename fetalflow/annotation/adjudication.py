"""Where annotators of one cine disagree, what a third person decides, and which marks count after it.

The rule for spans is that of the extract stage (`min_agreement`), so that what is adjudicated here is what would go to
quarantine there. In addition, frames that only one of the annotators labelled are a disagreement.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Annotated, Any
from uuid import uuid4

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fetalflow.annotation.annotation import Annotation, Span
from fetalflow.annotation.journal import Event, Journal
from fetalflow.annotation.shapes import dice, lengths, regions, union
from fetalflow.annotation.standing import standing_by_account
from fetalflow.annotation.studies import Study, annotators
from fetalflow.errors import InputError
from fetalflow.hospital.drop import annotators as spans_of_drop

DECIDE = "decide"
DRAWN, NOTHING = "(drawn)", "(nothing)"  # choices besides an account: another answer is drawn; no mark is right here

Marked = tuple[str, Annotation]  # an account and its mark


class Decision(BaseModel):
    """What an adjudicator decides on one case. about: the digest of the marks that were compared, so that a decision
    does not hold for marks that were changed after it. chosen: the account that is right, DRAWN or NOTHING. marks: what
    counts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    case: str
    about: str
    chosen: str
    marks: tuple[Annotation, ...]
    why: Annotated[str, Field(min_length=1, max_length=2000)]


@dataclass(frozen=True)
class Case:
    """A disagreement on one cine. key: `span FIRST-LAST` or `shape LABEL`; marks: what is compared, for each account,
    also of one that marked nothing. reason: one sentence."""

    key: str
    marks: dict[str, tuple[Annotation, ...]]
    reason: str
    label: str = ""  # of shapes
    first: int = 0
    last: int = 0

    @property
    def title(self) -> str:
        """What it is about, for a person."""
        return self.label or f"frames {self.first} to {self.last}"

    @property
    def about(self) -> str:
        """Digest of the marks that are compared."""
        content = {name: sorted(mark.model_dump_json() for mark in marks) for name, marks in self.marks.items()}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]

    def holds(self, mark: Annotation) -> bool:
        """Whether a mark is about what this case is about."""
        if isinstance(mark, Span):
            return not self.label and mark.first_frame <= self.last and mark.last_frame >= self.first
        return mark.label == self.label


@dataclass(frozen=True)
class Counted:
    """What counts on one cine. marks: account and mark; of a decided case the adjudicator's account. open: cases that
    wait for a decision, of which all marks are in `marks`. decided: with the account that decided."""

    annotators: list[str] = field(default_factory=list)
    marks: list[Marked] = field(default_factory=list)
    open: list[Case] = field(default_factory=list)
    decided: list[tuple[Case, str, Decision]] = field(default_factory=list)


def counting(events: Iterable[Event], study: Study, shape: tuple[int, int], least: float) -> Counted:
    """What counts on one cine after all its `events`, oldest first. shape: [H, W] of its frames; least: the share of
    frames on which annotators must agree, 0-1."""
    events = list(events)
    names = annotators(events, study)
    marks = [(name, mark) for name, mark in standing_by_account(events) if name in names]
    decisions = {}
    for event in events:
        if event.action == DECIDE:
            decision = read_decision(event)
            decisions[decision.case, decision.about] = event.account, decision
    counted = Counted(names)
    held: list[Annotation] = []
    for case in cases(names, marks, study, shape, least):
        if found := decisions.get((case.key, case.about)):
            counted.decided.append((case, *found))
            counted.marks.extend((found[0], mark) for mark in found[1].marks)
            held += [mark for of_one in case.marks.values() for mark in of_one]
        else:
            counted.open.append(case)
    counted.marks.extend((name, mark) for name, mark in marks if not any(mark is each for each in held))
    return counted


def cases(
    names: Sequence[str], marks: Sequence[Marked], study: Study, shape: tuple[int, int], least: float
) -> list[Case]:
    """Where the annotators `names` disagree; none where there are fewer than two. Arguments: see `counting`."""
    if len(names) < 2:
        return []
    return [*_of_spans(names, marks, least), *_of_shapes(names, marks, study, shape)]


def span_groups(names: Sequence[str], marks: Sequence[Marked]) -> list[tuple[spans_of_drop.Group, list[Marked]]]:
    """The spans of a cine in groups that overlap, with their marks. Each of `names` has labels in each group; "" where
    it marked nothing."""
    spans = [(name, mark) for name, mark in marks if isinstance(mark, Span)]
    claims = [
        spans_of_drop.Span(row, name, mark.label, mark.first_frame, mark.last_frame)
        for row, (name, mark) in enumerate(spans)
    ]
    found = []
    for group in spans_of_drop.group(claims):
        empty = np.full(len(next(iter(group.labels.values()))), spans_of_drop.NONE, dtype=object)
        labels = {name: group.labels.get(name, empty) for name in names}
        found.append((replace(group, labels=labels), [spans[claim.row] for claim in group.spans]))
    return found


def _of_spans(names: Sequence[str], marks: Sequence[Marked], least: float) -> list[Case]:
    found = []
    for group, of_group in span_groups(names, marks):
        share, last = group.agreement(), max(block.last for block in group.blocks)
        silent = [name for name in names if not any(account == name for account, _ in of_group)]
        if group.contradicts_itself:
            reason = "one annotator gives two labels to the same frame"
        elif silent:
            reason = f"{len(silent)} of {len(names)} annotators marked nothing here"
        elif share < least:
            reason = f"they agree on {share:.0%} of the frames; {least:.0%} is needed"
        else:
            continue
        found.append(Case(f"span {group.first}-{last}", _by(names, of_group), reason, "", group.first, last))
    return found


def _of_shapes(names: Sequence[str], marks: Sequence[Marked], study: Study, shape: tuple[int, int]) -> list[Case]:
    shapes = [(name, mark) for name, mark in marks if not isinstance(mark, Span)]
    found = []
    for label in sorted({mark.label for _, mark in shapes}):
        of_label = _by(names, [(name, mark) for name, mark in shapes if mark.label == label])
        if reason := _differ(label, of_label, study, shape):
            frames = [mark.first_frame for marks in of_label.values() for mark in marks]
            found.append(Case(f"shape {label}", of_label, reason, label, min(frames), max(frames)))
    return found


def _differ(label: str, by_name: dict[str, tuple[Annotation, ...]], study: Study, shape: tuple[int, int]) -> str:
    """Why the shapes of one label are a disagreement, or ""."""
    silent = [name for name, marks in by_name.items() if not marks]
    if silent:
        return f"{len(silent)} of {len(by_name)} annotators marked no {label}"
    for (_, one), (_, other) in combinations(by_name.items(), 2):
        for frame, overlap in overlaps(one, other, shape).items():
            if overlap < study.least_dice:
                return f"the outlines on frame {frame} have Dice {overlap:.3f}; {study.least_dice} is needed"
        for name, (a, b) in paired_lengths(one, other).items():
            percent = 200 * abs(a - b) / (a + b) if a + b else 0.0
            if percent > study.most_percent:
                return f"{name[1]} differs by {percent:.1f} %; at most {study.most_percent:g} % is allowed"
    return ""


def overlaps(one: Iterable[Annotation], other: Iterable[Annotation], shape: tuple[int, int]) -> dict[int, float]:
    """The Dice of the outlines of one label, by frame, where both annotators drew one."""
    drawn = [_by_frame(regions(marks)) for marks in (one, other)]
    return {
        frame: dice(*(union(of_one[frame], shape) for of_one in drawn))
        for frame in sorted(set(drawn[0]) & set(drawn[1]))
    }


def paired_lengths(
    one: Iterable[Annotation], other: Iterable[Annotation]
) -> dict[tuple[str, str], tuple[float, float]]:
    """Each length that both annotators measured, px, by label and name; the mean over the frames where each did, since
    each may have chosen another frame."""
    means = [_means(lengths(marks)) for marks in (one, other)]
    return {name: (means[0][name], means[1][name]) for name in sorted(set(means[0]) & set(means[1]))}


def _means(found: dict[tuple[str, str, int], float]) -> dict[tuple[str, str], float]:
    names = {(label, name) for label, name, _ in found}
    return {key: float(np.mean([value for name, value in found.items() if name[:2] == key])) for key in names}


def _by_frame(marks: Iterable[Any]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for mark in marks:
        found.setdefault(mark.first_frame, []).append(mark)
    return found


def _by(names: Sequence[str], marks: Iterable[Marked]) -> dict[str, tuple[Annotation, ...]]:
    marks = list(marks)
    return {name: tuple(mark for account, mark in marks if account == name) for name in names}


def read_decision(event: Event) -> Decision:
    """Raises InputError if the event's value is no decision."""
    try:
        return Decision(**event.value)
    except (ValidationError, TypeError) as error:
        raise InputError(f"the decision of event {event.number} cannot be read: {error}.") from None


def decide(
    journal: Journal,
    task: str,
    source: str,
    account: str,
    case: Case,
    chosen: str,
    why: str,
    drawn: Iterable[Annotation],
) -> Event:
    """Decide a case: `chosen` is one of its annotators, NOTHING, or DRAWN, which takes those marks of `drawn` that the
    case is about. Raises InputError without a reason, if `account` is one of the annotators, if `chosen` is none of
    these, if nothing was drawn, or if somebody else decided first."""
    if not why.strip():
        raise InputError("a decision needs a reason. Write why this answer is the right one.")
    if account in case.marks:
        raise InputError(f"{account} labelled this cine and cannot decide on it. A third person must.")
    if chosen not in (*case.marks, DRAWN, NOTHING):
        raise InputError(
            f"the choice must be one of the annotators of this cine, {DRAWN} or {NOTHING}, not {chosen!r}."
        )
    marks = case.marks.get(chosen, tuple(mark for mark in drawn if chosen == DRAWN and case.holds(mark)))
    if chosen == DRAWN and not marks:
        raise InputError(
            f"you have drawn nothing on this cine for {case.title}. Draw it first, or choose another answer."
        )
    decision = Decision(case=case.key, about=case.about, chosen=chosen, marks=marks, why=why.strip())

    def still_open(event: Event, _: Sequence[Event]) -> None:
        for each in journal.events(task, source):
            if each.action == DECIDE and all(each.value[key] == event.value[key] for key in ("case", "about")):
                raise InputError(f"{each.account} decided on {case.title} in the meantime. Load the page again.")

    event = Event(account, task, source, uuid4().hex, DECIDE, decision.model_dump(mode="json"))
    return journal.add([event], still_open)[0]
