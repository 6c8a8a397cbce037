"""Answers of a checklist, each found in the evidence by a rule, so that none says `done` without evidence."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fetalflow.dossier.chapter import Chapter, Heading, Text, Words, parts, texts_of
from fetalflow.dossier.evidence import Evidence, Figure
from fetalflow.dossier.gathering.registered import VERSION
from fetalflow.dossier.statements import FILE as STATEMENTS
from fetalflow.dossier.statements import MISSING, QUESTIONS, stated
from fetalflow.errors import InputError
from fetalflow.settings.params import Loader

ANSWERED, TO_STATE, NOT_DONE = "answered", "to be stated by the maker", "not done"
STATES = (ANSWERED, TO_STATE, NOT_DONE)  # from the best to the worst
KINDS = ("figure", "count", "file", "files", "chapter", "statement", "any_of", "not_done")
VARIANT = "{variant}"  # in a rule, stands for the variant of the version


class Rule(BaseModel):
    """Where an answer, or a part of it, is. It has one of KINDS.

    figure: file and keys of a value; count: the same of a list or mapping, whose entries are counted; file: one that
    must be there; files: a pattern that must fit some; chapter: name and heading, under which a figure has a value;
    statement: a key of statements.QUESTIONS; any_of: rules of which the first that holds counts, or else the first;
    not_done: why there is no answer. words: what the value or file is. equals: what the value must be. tasks: those
    that the rule is for, empty for all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    figure: tuple[str | int, ...] = Field(default=(), min_length=2)
    count: tuple[str | int, ...] = Field(default=(), min_length=2)
    file: str = ""
    files: str = ""
    chapter: tuple[str, ...] = Field(default=(), min_length=2, max_length=2)
    statement: str = ""
    any_of: tuple["Rule", ...] = ()
    not_done: str = ""
    words: str = ""
    equals: str | None = None
    tasks: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_kind(self) -> "Rule":
        kinds = [kind for kind in KINDS if getattr(self, kind)]
        if len(kinds) != 1:
            raise ValueError(f"a rule has one of {', '.join(KINDS)}, found {', '.join(kinds) or 'none'}")
        if kinds[0] in ("figure", "count", "file", "files") and not self.words:
            raise ValueError("words must say what the value or the file is")
        if self.statement and self.statement not in QUESTIONS:
            raise ValueError(f"{self.statement!r} is no statement. Known: {', '.join(QUESTIONS)}")
        return self


class Item(BaseModel):
    """id: the number in the published list. topic: what is asked, in our words. answer: rules which must all hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str
    section: str
    topic: str
    answer: tuple[Rule, ...] = Field(min_length=1)


class Checklist(BaseModel):
    """source: the publication."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    title: str
    source: str
    items: tuple[Item, ...] = Field(min_length=1)


@dataclass(frozen=True)
class Answer:
    """state: one of STATES. text: the references, with figures."""

    state: str
    text: Text


def read_checklist(path: Path) -> Checklist:
    """Raises InputError, with the place in the file, when a checklist does not have the expected form."""
    try:
        return Checklist.model_validate(yaml.load(path.read_text(encoding="utf-8"), Loader))
    except (OSError, ValueError, yaml.YAMLError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        where = f" at {'/'.join(map(str, first['loc']))}: {first['msg']}" if first else f": {error}"
        raise InputError(f"{path} is no checklist{where}. The form is that of Checklist in {__name__}.") from None


def answer(item: Item, evidence: Evidence) -> Answer:
    """All rules of the item for the task of the version. The worst rule decides about the state."""
    version = evidence.json(VERSION) if evidence.has(VERSION) else {}
    rules = [rule for rule in item.answer if not rule.tasks or version.get("task") in rule.tasks]
    found = [_answered(rule, evidence, version.get("variant", "")) for rule in rules]
    state = max((each.state for each in found), key=STATES.index)
    return Answer(state, _sentence(each.text for each in found))


def _sentence(texts: Iterable[Text]) -> Text:
    """The texts with semicolons between them and one full stop at the end."""
    pieces: list[str | Figure] = []
    for text in texts:
        pieces += ["; "] * bool(pieces) + list(parts(text))
    if isinstance(pieces[-1], str):
        pieces[-1] = pieces[-1].rstrip(".")
    return (*pieces, ".")


def _answered(rule: Rule, evidence: Evidence, variant: str) -> Answer:
    if rule.figure:
        return _value(rule, evidence.figure(*_named(rule.figure, variant)))
    if rule.count:
        return _value(rule, _count(evidence, *_named(rule.count, variant)))
    if rule.file:
        (name,) = _named([rule.file], variant)
        return _value(rule, evidence.counted(name if evidence.has(name) else None, name, "the whole file"))
    if rule.files:
        (pattern,) = _named([rule.files], variant)
        names = evidence.names(pattern)
        return _value(rule, evidence.counted(len(names) or None, (names or [pattern])[0], f"files that fit {pattern}"))
    if rule.chapter:
        return _section(evidence, *rule.chapter)
    if rule.statement:
        return _statement(evidence, rule.statement)
    if rule.any_of:
        found = [_answered(each, evidence, variant) for each in rule.any_of]
        return min(found, key=lambda each: STATES.index(each.state))
    return Answer(NOT_DONE, rule.not_done)


def _named(keys: Iterable[str | int], variant: str) -> list[Any]:
    return [key.replace(VARIANT, variant) if isinstance(key, str) else key for key in keys]


def _value(rule: Rule, figure: Figure) -> Answer:
    if isinstance(figure.value, list | dict):  # no value, but several
        figure = replace(figure, value=None)
    holds = figure.value is not None and rule.equals in (None, figure.value)
    return Answer(ANSWERED if holds else NOT_DONE, (f"{rule.words}: ", figure))


def _count(evidence: Evidence, name: str, *keys: str | int) -> Figure:
    """The number of entries of a list or a mapping, None if there is none."""
    value = evidence.figure(name, *keys).value
    number = len(value) if isinstance(value, list | dict) else 0
    return evidence.counted(number or None, name, f"entries of {'/'.join(map(str, keys))}")


def _section(evidence: Evidence, name: str, heading: str) -> Answer:
    """A chapter answers where a figure has a value under the heading."""
    chapter = _chapter(evidence, name)
    if chapter is None:
        return Answer(NOT_DONE, f"there is no chapter {name}")
    where = f"chapter “{chapter.title}”, “{heading}”"
    return Answer(ANSWERED, where) if has_data(chapter, heading) else Answer(NOT_DONE, f"{where}: not on record")


@lru_cache(maxsize=8)
def _chapter(evidence: Evidence, name: str) -> Chapter | None:
    """Chapters are found by the names of their modules, because one of them asks for answers."""
    module = f"{__package__}.chapters.{name}"
    return import_module(module).chapter(evidence) if find_spec(module) else None


def has_data(chapter: Chapter, heading: str) -> bool:
    """Whether a figure between a heading and the next one has a value. A warning, or a figure that says why something
    is not on record, is no data."""
    inside = False
    for block in chapter.blocks:
        if isinstance(block, Heading):
            inside = block.text == heading
        elif inside and not (isinstance(block, Words) and block.kind != "text"):
            figures = [part for text in texts_of(block) for part in parts(text) if isinstance(part, Figure)]
            if any(figure.value is not None and not _is_reason(figure) for figure in figures):
                return True
    return False


def _is_reason(figure: Figure) -> bool:
    """Gatherers call the reason for a gap `why`, or `why_no_rows` and the like."""
    return figure.where.rpartition("/")[2].startswith("why")


def _statement(evidence: Evidence, key: str) -> Answer:
    title = QUESTIONS[key][0]
    if is_missing(evidence, key):
        return Answer(TO_STATE, f"statement that is missing: {title}")
    return Answer(ANSWERED, ("statement of the maker: ", evidence.counted(title, STATEMENTS, key)))


def is_missing(evidence: Evidence, key: str) -> bool:
    """Whether the maker has not stated the text of a key."""
    return MISSING in str(stated(evidence, key).parts)
