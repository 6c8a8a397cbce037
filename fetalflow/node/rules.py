"""Which rule takes an object, and what its header says that a rule or a delivery needs."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pydicom import Dataset

from fetalflow.hospital.deidentify.free_text import is_harmless, words_of
from fetalflow.hospital.deidentify.header import persons
from fetalflow.settings.node import Node, Rule

DESCRIPTIONS = (
    "StudyDescription",
    "SeriesDescription",
    "ProtocolName",
    "PerformedProcedureStepDescription",
    "ViewName",
)
CODES = ("ViewCodeSequence", "AnatomicRegionSequence", "ProcedureCodeSequence")


@dataclass(frozen=True)
class Place:
    """Where an object goes: the rule, the label that it gives ("": people label it), and the site."""

    rule: Rule
    label: str
    site: str


def place(header: Dataset, sender: str, node: Node) -> Place | None:
    """The first rule that takes an object of `sender`, an AE title; None if none does."""
    peer = node.peers.get(sender)
    site = (peer.site if peer else "") or text(header, "InstitutionName")
    described = descriptions(header)
    modality = text(header, "Modality")
    for rule in node.rules:
        holds = (
            rule.peer in ("", sender)
            and rule.modality in ("", modality)
            and rule.site in ("", site)
            and (not rule.description or any(re.search(rule.description, each) for each in described))
        )
        if holds:
            return Place(rule, _label(rule, described), site)
    return None


def _label(rule: Rule, described: Iterable[str]) -> str:
    """The only label whose pattern is found; none where two are found, because one of them is wrong."""
    described = tuple(described)
    found = [label for label, pattern in rule.labels.items() if any(re.search(pattern, each) for each in described)]
    return found[0] if len(found) == 1 else ""


def descriptions(header: Dataset) -> tuple[str, ...]:
    """What the header says in words of the study, series, protocol and view."""
    meanings = (text(item, "CodeMeaning") for name in CODES for item in header.get(name) or [])
    return tuple(filter(None, (*(text(header, name) for name in DESCRIPTIONS), *meanings)))


def text(header: Dataset, name: str) -> str:
    """The value of an element as text without blanks around it; "" where there is none."""
    return str(header.get(name) or "").strip()


def plain(words: str, header: Dataset) -> str:
    """A site or device, if a de-identified delivery may state it, else ""."""
    return words if words and is_harmless(words, words_of(*persons(header))) else ""
