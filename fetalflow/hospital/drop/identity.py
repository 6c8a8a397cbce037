"""Who is who in the rows of a drop, whatever layout they come from: one woman has one name, and two women have two.

A pseudonym holds within its site: P001 at North and P001 at South are two women, unless the column `person` names
them as one. Nearly equal names at one site stop the run until a person says which they are. A patient in a file's name
counts only where the layout states one or the user gives a pattern.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import pandas as pd

from fetalflow.artefacts import named
from fetalflow.cine.no_names import NO_LETTER, NO_PATIENT, NO_PLACE, NOTHING
from fetalflow.errors import InputError, Rejected
from fetalflow.hospital.drop.columns import ASSUMED, LINE_FAULT, PATHS, PERSON, POSITIVE, YES
from fetalflow.hospital.drop.spelling import groups, near, plain_number, same_label, tidy, whole
from fetalflow.settings.params import Extract

NUMBERS = (*POSITIVE, "gestational_age", "seen")
FRAMES = ("start_frame", "end_frame")
SHOWN = 5  # groups of names in a message

Rows = list[dict[str, Any]]


@dataclass
class Settled:
    """rows: with one name for each woman and label; reasons: by index, of rows whose patient is not known; notes:
    sentences for the log."""

    rows: Rows
    reasons: dict[int, Rejected] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def live(self) -> Rows:
        """The rows without a fault; what is in the others may have come from another cell."""
        return [row for row in self.rows if not row["fault"]]

    @property
    def assumed(self) -> set[int]:
        """Indices of the rows whose patient nobody named: each of their files counts as a patient."""
        return {index for index, row in enumerate(self.rows) if row.get(ASSUMED) == YES}


def tidy_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of any layout with plain text in every cell: `spelling.tidy`, 0,21 as 0.21, frame 3.0 as 3, and no name
    where a program wrote that there is none. Paths stay as they are."""
    rows = rows.copy()
    for column in rows.columns.difference([*PATHS, "where", LINE_FAULT]):
        change = plain_number if column in NUMBERS else whole if column in FRAMES else tidy
        rows[column] = rows[column].map({text: change(text) for text in rows[column].unique()})
    for column in rows.columns.intersection([*NUMBERS, *FRAMES, "mask", "mask_class", "part", "fault"]):
        rows[column] = rows[column].mask(rows[column].isin(list(filter(NOTHING.fullmatch, rows[column].unique()))), "")
    for column in rows.columns.intersection(["patient", "site", "device", PERSON]):
        words = NO_PATIENT if column in ("patient", PERSON) else NO_PLACE
        nobody = [name for name in rows[column].unique() if name.casefold() in words or NO_LETTER.fullmatch(name)]
        rows[column] = named(rows[column]).mask(rows[column].isin(nobody), "")
    if LINE_FAULT in rows:
        rows["fault"] = rows[LINE_FAULT].where(rows[LINE_FAULT] != "", rows["fault"])
    return rows.drop(columns=LINE_FAULT, errors="ignore")


def settle(rows: Rows, settings: Extract, by_site: bool = True) -> Settled:
    """Give each woman and each label of a drop one name.

    by_site: whether a pseudonym that women of several sites have gets the name of the site. De-identification needs the
    names as the hospitals wrote them, so that a woman has the same new name in every drop.
    Raises InputError when names of patients are nearly equal and `near_patients` does not say which they are.
    """
    settled = Settled([dict(row) for row in rows])
    _one_label(settled, settings.labels)
    _by_pattern(settled, settings.patient_pattern)
    _one_spelling(settled, "site", near)
    _one_patient(settled, settings.near_patients)
    if by_site:
        _name_by_site(settled)
    return settled


def _one_label(settled: Settled, labels: Iterable[str] | None) -> None:
    stated = {same_label(label): label for label in labels or ()}
    _one_spelling(settled, "label", same_label, stated)


def _one_spelling(settled: Settled, column: str, key: Any, stated: Mapping[Any, str] | None = None) -> None:
    """Spellings with one key become the stated one, or else the most frequent one, which the notes say."""
    counts = Counter(row[column] for row in settled.live if row[column])
    spellings = defaultdict(list)
    for name in sorted(counts, key=lambda name: (-counts[name], name.swapcase())):  # small letters first
        spellings[key(name)].append(name)
    chosen = {name: (stated or {}).get(k, of_key[0]) for k, of_key in spellings.items() for name in of_key}
    if changed := sorted(name for name, other in chosen.items() if name != other):
        pairs = ", ".join(f"{name!r} as {chosen[name]!r}" for name in changed[:SHOWN])
        settled.notes.append(f"Spellings of a {column} that were read as another one: {len(changed)} ({pairs}).")
    for row in settled.live:
        row[column] = chosen.get(row[column], row[column])


def _by_pattern(settled: Settled, pattern: str | None) -> None:
    """Take the patients that the drop does not name out of the names of the files, if the user gave a pattern."""
    if pattern is None:
        return
    form, counts = re.compile(pattern), Counter()
    for index, row in enumerate(settled.rows):
        if row["patient"] and row.get(ASSUMED) != YES:
            continue
        text = row["video"] if "/" in pattern else PurePosixPath(row["video"]).name
        found = form.search(text)
        if found and (patient := tidy("-".join(filter(None, found.groups())) or found[0])):
            row["patient"], row[ASSUMED] = patient, ""
            counts["found"] += 1
        else:
            settled.reasons[index] = Rejected(
                "patient",
                f"{row['where']}: the name {text!r} does not fit patient_pattern {pattern!r}, and nothing else names "
                "its patient. Correct the pattern or the name",
            )
    if counts["found"]:
        settled.notes.append(f"patient_pattern {pattern!r} gave the patient of {counts['found']} rows.")


def _one_patient(settled: Settled, said: str | Mapping[str, str]) -> None:
    """What is said of nearly equal patients is done. Raises InputError where nothing is said."""
    rows = [row for row in settled.live if row["patient"] and row.get(ASSUMED) != YES]
    if isinstance(said, Mapping):
        for row in rows:
            row["patient"] = said.get(row["patient"], row["patient"])
    names = defaultdict(set)  # of the patients by site; a patient without a site may be of any
    for row in rows:
        names["" if row.get(PERSON) else row["site"]].add(row.get(PERSON) or row["patient"])
    anywhere = names.pop("", set())
    found = [group for of_site in (names.values() or [set()]) for group in groups(of_site | anywhere)]
    found = [list(group) for group in dict.fromkeys(map(tuple, found))]
    if said == "same":
        chosen = {name: group[0] for group in found for name in group}
        for row in rows:
            for column in ("patient", PERSON):
                if row.get(column):
                    row[column] = chosen.get(row[column], row[column])
        for group in found:
            settled.notes.append(f"By near_patients, {', '.join(group)} are one patient, {group[0]}.")
    elif said != "different":
        listed = set(said.values()) if isinstance(said, Mapping) else set()
        if open_ := [group for group in found if sum(name not in listed for name in group) > 1]:
            raise InputError(_which(open_, rows))


def _which(found: Sequence[Sequence[str]], rows: Rows) -> str:
    counts, first = Counter(), {}
    for row in rows:
        for name in {row["patient"], row.get(PERSON) or row["patient"]}:
            counts[name] += 1
            first.setdefault(name, row["where"])
    lines = [
        "  " + ", ".join(f"{name!r} (rows: {counts[name]}; first: {first[name]})" for name in group)
        for group in found[:SHOWN]
    ]
    more = [f"  and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    name, *others = found[0]
    mapping = ", ".join(f"{other!r}: {name!r}" for other in others)
    return "\n".join(
        [
            "Some patients are spelled in several ways, or are different patients with nearly equal names:",
            *lines,
            *more,
            "If they are one patient each, --set TASK.extract.near_patients=same; if all are different, =different. To "
            f'decide each one: --set TASK.extract.near_patients="{{{mapping}}}"; a name stays apart as {{{name!r}: '
            f"{name!r}}}. Or correct the drop.",
        ]
    )


def _name_by_site(settled: Settled) -> None:
    """A pseudonym that several women have becomes SITE/PSEUDONYM. Fill `reasons` where it is unknown who is meant."""
    rows = settled.live
    persons, sites = defaultdict(set), defaultdict(set)
    for row in rows:
        if row["patient"]:
            sites[row["patient"]] |= {row["site"]} - {""}
    place = {name: next(iter(of_name)) for name, of_name in sites.items() if len(of_name) == 1}
    for row in rows:
        if row.get(PERSON):
            persons[row["site"] or place.get(row["patient"], ""), row["patient"]].add(row[PERSON])
    keys, women = {}, defaultdict(set)
    for index, row in enumerate(settled.rows):
        if row["fault"]:
            continue
        name, site = row["patient"], row["site"] or place.get(row["patient"], "")
        if len(who := persons.get((site, name), set())) > 1:
            _reject(
                settled, index, f"the column {PERSON} names {len(who)} persons for {name}: {', '.join(sorted(who))}"
            )
        elif who or not name:
            keys[index] = (None, next(iter(who), ""))
        elif not site and len(sites[name]) > 1:
            _reject(settled, index, f"{name} is a patient of {', '.join(sorted(sites[name]))}; fill in the site")
        else:
            keys[index] = (site, name)
        if index in keys and keys[index][1]:
            women[keys[index][1]].add(keys[index])
    taken = {f"{site}/{name}" for name, of_name in women.items() if len(of_name) > 1 for site, _ in of_name}
    for index, (site, name) in keys.items():
        settled.rows[index]["patient"] = f"{site}/{name}" if site and (len(women[name]) > 1 or name in taken) else name
    for name in sorted(name for name, of_name in women.items() if len(of_name) > 1):
        places = ", ".join(sorted(site for site, _ in women[name] if site))
        settled.notes.append(
            f"{name} is a pseudonym at several sites ({places}), each for another patient. If they are one, add a "
            f"column {PERSON} with one name for all of them."
        )


def _reject(settled: Settled, index: int, why: str) -> None:
    settled.reasons.setdefault(index, Rejected("patient", f"{settled.rows[index]['where']}: {why}"))
