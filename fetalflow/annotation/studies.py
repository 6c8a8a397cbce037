"""Studies: which people label which cines, whether they see one another's marks, and whether the network's answer.

A study is an event of the journal, so its changes are kept. Without a study the rules of `UNLABELLED` hold for a cine
that has no labels yet, and those of `KNOWN` for a cine that the drop labels.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fetalflow.annotation.journal import Event, Journal
from fetalflow.annotation.standing import REOPEN, SUBMIT, standing
from fetalflow.errors import InputError

STUDY, SAW = "study", "saw"
ALL = ""  # the source of events that are of no single cine
Source = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(min_length=1, max_length=64)]


class Study(BaseModel):
    """sources: SHA-256 of its cines; empty: all cines that no newer study names. accounts: who labels each of them.

    blind: nobody of them sees another one's marks, ever. network: they see the network's answer while they label.
    least_dice, most_percent: two outlines with a smaller Dice, or two lengths that differ by more, are a disagreement.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    accounts: Annotated[tuple[Name, ...], Field(min_length=1, max_length=50)]
    sources: tuple[Source, ...] = ()
    blind: bool = True
    network: bool = False
    least_dice: Annotated[float, Field(ge=0, le=1)] = 0.9
    most_percent: Annotated[float, Field(gt=0, le=100)] = 5.0
    why: Annotated[str, Field(max_length=2000)] = ""


UNLABELLED = Study.model_construct(
    name="", accounts=(), sources=(), blind=True, network=False, least_dice=0.9, most_percent=5.0, why=""
)
KNOWN = UNLABELLED.model_copy(update={"network": True})


@dataclass(frozen=True)
class Sight:
    """What an account may do on one cine. marks: see the marks of others; network: see the network's answer; label:
    label it, so that its marks count as those of an annotator; adjudicate: decide where annotators disagree."""

    marks: bool
    network: bool
    label: bool
    adjudicate: bool


def write_study(journal: Journal, task: str, account: str, study: Study) -> Event:
    """Begin a study, or change the one of the same name. Raises InputError where an account is named twice."""
    if len(set(study.accounts)) < len(study.accounts):
        raise InputError(f"the study {study.name!r} names an account twice: {', '.join(study.accounts)}.")
    return journal.add([Event(account, task, ALL, uuid4().hex, STUDY, study.model_dump(mode="json"))])[0]


def studies(events: Iterable[Event]) -> list[Study]:
    """The studies that hold, newest last; the last writing of a name counts. Raises InputError for a damaged one."""
    found: dict[str, Study] = {}
    for event in events:
        if event.action == STUDY:
            try:
                study = Study(**event.value)
            except (ValidationError, TypeError) as error:
                raise InputError(f"the study of event {event.number} cannot be read: {error}.") from None
            found.pop(study.name, None)
            found[study.name] = study
    return list(found.values())


def study_of(found: Iterable[Study], source: str, unlabelled: bool = True) -> Study:
    """The study that holds for a cine: the newest that names it, else the newest for all, else the usual rules."""
    named = [study for study in found if source in study.sources]
    of_all = [study for study in found if not study.sources]
    return [UNLABELLED if unlabelled else KNOWN, *of_all, *named][-1]


def may_see(account: str, is_adjudicator: bool, study: Study, events: Iterable[Event]) -> Sight:
    """What an account may see and do on one cine. events: all of that cine, oldest first.

    Who labels a cine of a blind study sees nobody else's marks, before and after. Who has seen the marks of others
    cannot label it blindly any more, and who labels it, or has begun to, cannot adjudicate it.
    """
    events = list(events)
    mine = [event for event in events if event.account == account]
    saw = any(event.action == SAW for event in mine)
    assigned, begun = account in study.accounts, bool(standing(mine))
    third = is_adjudicator and not assigned and account not in annotators(events, study) and (saw or not begun)
    return Sight(
        marks=not study.blind or third,
        network=study.network,
        label=assigned or (not study.accounts and not (study.blind and saw)),
        adjudicate=third,
    )


def note_seen(journal: Journal, task: str, source: str, account: str) -> None:
    """Keep that an account has seen the marks of others on a cine, once."""
    name = hashlib.sha256(f"{SAW} {task} {source} {account}".encode()).hexdigest()[:32]
    journal.add([Event(account, task, source, name, SAW, {})])


def annotators(events: Iterable[Event], study: Study) -> list[str]:
    """The accounts whose marks on one cine count, sorted: their work is submitted, they belong to the study if it names
    people, and in a blind study they had not seen the marks of others before."""
    done: dict[str, bool] = {}
    saw: set[str] = set()
    for event in events:
        if event.action == SAW:
            saw.add(event.account)
        elif event.action == SUBMIT:
            done[event.account] = event.account not in saw or not study.blind
        elif event.action == REOPEN:
            done[event.account] = False
    return sorted(name for name, counts in done.items() if counts and (not study.accounts or name in study.accounts))


def awaited(events: Iterable[Event], study: Study) -> list[str]:
    """The accounts of the study that have not submitted their work on this cine."""
    done = annotators(events, study)
    return [name for name in study.accounts if name not in done]
