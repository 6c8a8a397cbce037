"""What people labelled and corrected in a station on one task: by cine, with its patient and her side."""

from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from fastapi import HTTPException

from fetalflow.annotation.adjudication import DECIDE, Counted, counting
from fetalflow.annotation.agreement import Read
from fetalflow.annotation.corrections import NEW, Judged, judged, sides_of
from fetalflow.annotation.journal import Event
from fetalflow.annotation.patients import find_patients, name_patients
from fetalflow.annotation.rows import Subject
from fetalflow.annotation.standing import MARK, standing_by_account
from fetalflow.annotation.studies import ALL, Study, awaited, studies, study_of
from fetalflow.errors import InputError
from fetalflow.hospital.arrival.patient_sides import read_sides
from fetalflow.hospital.drop.opening import read_rows
from fetalflow.hospital.drop.spelling import near
from fetalflow.settings.params import Extract
from fetalflow.station.catalogue import Catalogue, Cine
from fetalflow.station.place import Place

WHO = ["patient", "site", "device"]
SAME = ("annotator", "label", "start_frame", "end_frame")  # what tells the rows of one cine apart


@dataclass(frozen=True)
class Work:
    """The labels and corrections of one cine that are valid now. path: its file; base: its rows in the drop of the
    workspace; counted: its labels; corrections: the valid ones; outdated: corrections of frames that somebody labelled
    later; emptied: the people of the earlier rows have removed all their marks; side: train or test, of its patient."""

    subject: Subject
    path: Path
    base: list[dict[str, str]]
    counted: Counted
    corrections: list[Judged]
    side: str
    outdated: list[Judged] = field(default_factory=list)
    emptied: bool = False

    @property
    def is_new(self) -> bool:
        """Whether the drop of the workspace has no row of it."""
        return not self.base

    @property
    def relabelled(self) -> bool:
        """Whether the earlier rows are of the people who have labelled the cine anew, or have taken their marks back.
        Rows of corrections do not count."""
        people = {name for name, _ in self.counted.marks}
        said = {
            (each.account, mark.label, str(mark.first_frame), str(mark.last_frame))
            for each in (*self.corrections, *self.outdated)
            for mark in each.correction.marks
        }
        rows = [row for row in self.base if tuple(row[column] for column in SAME) not in said]
        earlier = {name for row in rows for name in row["annotator"].split(";")}
        return self.emptied or (bool(people) and earlier <= people)


class Labelled:
    """The labels and corrections of a station on one task. events: of each cine, oldest first; remarks: why a cine does
    not count, of the last `works`."""

    def __init__(self, place: Place, catalogue: Catalogue, patient_pattern: str | None = None) -> None:
        self.place, self.catalogue, self.task = place, catalogue, place.task
        extract = place.settings.block(self.task).extract
        self.extract: Extract = (
            extract.model_copy(update={"patient_pattern": patient_pattern}) if patient_pattern else extract
        )
        self.store = place.workspace / place.settings.block(self.task).retrain.store / self.task
        self.events: dict[str, list[Event]] = defaultdict(list)
        for event in place.journal.events(self.task):
            self.events[event.source].append(event)
        self.studies = studies(self.events.pop(ALL, []))
        self.remarks: list[str] = []
        self._cines: dict[str, Cine] = {}

    def cine(self, source: str) -> Cine:
        """The cine, without the tables that its page shows. Raises HTTPException 404 if the catalogue does not have it,
        and InputError if it cannot be decoded."""
        if source not in self._cines:
            self._cines[source] = self.catalogue.cine(source, self.task, with_tables=False)
        if "height" not in (cine := self._cines[source]).record:
            raise InputError(f"the cine {source[:12]} cannot be decoded, or its file is gone.")
        return cine

    def study(self, source: str) -> Study:
        """The study that holds for a cine, as `sight.sight_of` finds it."""
        return study_of(self.studies, source, unlabelled=not self.cine(source).labels)

    def counted(self, source: str) -> Counted:
        """What counts on a cine."""
        record, least = self.cine(source).record, self.extract.min_agreement
        shape = record["height"], record["width"]
        return counting(self.events.get(source, []), self.study(source), shape, least)

    def read_by_several(self) -> list[tuple[Read, Counted]]:
        """The cines that two annotators or more submitted, with their marks and what counts. Where a patient is not
        known, her cine counts as a patient."""
        found = []
        for source, events in self.events.items():
            try:
                cine, counted = self.cine(source), self.counted(source)
            except (HTTPException, InputError):
                continue  # its file is not there any more
            if len(counted.annotators) > 1:
                marks = standing_by_account(events)
                by_name = {name: tuple(m for each, m in marks if each == name) for name in counted.annotators}
                shape = cine.record["frames"], cine.record["height"], cine.record["width"]
                patient = self.patients.get(source) or source
                found.append((Read(source, patient, shape, cine.record.get("mm_per_px"), by_name), counted))
        return found

    @cached_property
    def patients(self) -> dict[str, str]:
        """The patient of each cine as this workspace calls her, where she is known; never for a page."""
        return self._patients_of(self.events)

    def _patients_of(self, sources: Iterable[str]) -> dict[str, str]:
        found, new = dict(self._names), {}
        for source in sources:
            with suppress(HTTPException, InputError):
                cine = self.cine(source)
                if base := self._base(cine.path):
                    found.setdefault(source, base[0]["patient"])
                if source not in found and self.in_drop(cine.path):
                    new[cine.path.resolve().relative_to(self.place.drop.resolve()).as_posix()] = source
        with suppress(InputError):  # a wrong table of patients is said where the drop is written
            who = find_patients(self.place.drop, new, self.extract) if new else {}
            found |= {new[video]: self._known(each["patient"], each["site"]) for video, each in who.items()}
        return found

    @cached_property
    def sides(self) -> dict[str, str]:
        """The side of each patient of this workspace."""
        return sides_of(self.place.workspace, self.task, self.store)

    def side(self, source: str) -> str:
        """The side of a cine's patient."""
        return self.sides.get(self._patients_of([source]).get(source, ""), NEW)

    def works(self, only_drop: bool) -> list[Work]:
        """The cines with something that counts; only_drop: only those of the unlabelled drop. Raises InputError where
        the patient of one of these is not known."""
        self.remarks = []
        found = []
        for source, events in self.events.items():
            try:
                cine = self.cine(source)
            except HTTPException:
                where = "Of a drop without labels, give its folder with --drop"
                self.remarks.append(f"{source[:12]}: no file of this workspace has these bytes. {where}")
                continue
            except InputError:
                self.remarks.append(f"{source[:12]}: its file cannot be decoded, or is gone")
                continue
            inside = self.in_drop(cine.path)
            if only_drop and not inside:
                continue
            counted, study = self.counted(source), self.study(source)
            if counted.marks and (missing := awaited(events, study)):
                self.remarks.append(f"{source[:12]} waits for {', '.join(missing)}")
                counted = Counted()
            base = [] if inside else self._base(cine.path)
            record, written = cine.record, _written(events)
            said = [each for each in judged(events) if each.correction.marks]
            outdated = [each for each in said if each.is_older(counted.marks, written)]
            said = [each for each in said if each not in outdated]
            emptied = not counted.marks and _emptied(base, counted, events)
            if not counted.marks and not said and not emptied:
                continue
            if cine.path is None:
                self.remarks.append(f"{source[:12]} lies in a zip, which is not unpacked: unpack the drop")
                continue
            root = self.place.drop.resolve() if inside else cine.path.resolve().parent
            video = cine.path.resolve().relative_to(root).as_posix()
            shape = (record["frames"], record["height"], record["width"])
            subject = Subject(source, video, shape, record.get("mm_per_px"), "")
            found.append(Work(subject, cine.path, base, counted, said, NEW, outdated, emptied))
        return self._with_patients(found)

    def _with_patients(self, works: list[Work]) -> list[Work]:
        new = [work.subject.video for work in works if self.in_drop(work.path)]
        who = name_patients(self.place.drop, new, self.extract) if new else {}
        sides, named, found = self.sides, self._names, []
        for work in works:
            if self.in_drop(work.path):
                of_cine = who[work.subject.video]
                name = self._known(of_cine["patient"], of_cine["site"])
            else:
                of_cine = {column: work.base[0][column] if work.base else "" for column in WHO}
                name = named.get(work.subject.source) or of_cine["patient"]
                of_cine |= self._as_delivered(name)
            if not of_cine["patient"]:
                self.remarks.append(f"{work.subject.source[:12]}: its patient is not known")
                continue
            side = sides.get(name, NEW)
            found.append(replace(work, subject=replace(work.subject, **of_cine), side=side))
        return found

    def _known(self, patient: str, site: str) -> str:
        """The name in this workspace of a patient of an unlabelled drop, also where the spelling differs a little."""
        spelled = self._spelled
        return next((spelled[key] for key in (near(f"{site}/{patient}"), near(patient)) if key in spelled), patient)

    @cached_property
    def _spelled(self) -> dict[str, str]:
        return {near(name): name for name in self.sides}

    def _as_delivered(self, name: str) -> dict[str, str]:
        """Site and pseudonym by which a store knows a patient, so that it knows her again; nothing for others."""
        sides = read_sides(self.store)
        row = sides[sides["patient"] == name]
        if row.empty:
            return {}
        return {"patient": row["pseudonym"].iloc[0]} | ({"site": site} if (site := row["site"].iloc[0]) else {})

    @cached_property
    def _names(self) -> dict[str, str]:
        """The patient of each cine as the workspace calls her."""
        path = self.place.workspace / "data" / self.task / "extracted.parquet"
        if not path.is_file():
            path = path.with_name("manifest.parquet")
        if not path.is_file():
            return {}
        table = pd.read_parquet(path, columns=["source", "patient"])
        return dict(zip(table["source"], table["patient"], strict=True))

    @cached_property
    def drop(self) -> Path:
        """The drop of the workspace."""
        return (self.place.workspace / self.place.settings.tasks[self.task].drop).resolve()

    @cached_property
    def _drop_rows(self) -> dict[str, list[dict[str, Any]]]:
        rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
        if self.drop.exists():
            for row in read_rows(self.drop)[0].rows.drop(columns="where").to_dict("records"):
                rows[row["video"]].append(row)
        return rows

    def _base(self, path: Path | None) -> list[dict[str, str]]:
        if path is None or not path.resolve().is_relative_to(self.drop):
            return []
        return self._drop_rows.get(path.resolve().relative_to(self.drop).as_posix(), [])

    def in_drop(self, path: Path | None) -> bool:
        """Whether a file is one of the unlabelled drop."""
        drop = self.place.drop
        return drop is not None and path is not None and path.resolve().is_relative_to(drop.resolve())


def _written(events: Iterable[Event]) -> dict[tuple[str, str], int]:
    """The number of the event that wrote a mark last, by account and id; of a decision, the marks that it chose."""
    found = {}
    for event in events:
        if event.action == MARK:
            found[event.account, event.value["id"]] = event.number
        elif event.action == DECIDE:
            found |= {(event.account, mark["id"]): event.number for mark in event.value["marks"]}
    return found


def _emptied(base: Iterable[dict[str, str]], counted: Counted, events: Iterable[Event]) -> bool:
    """Whether the people who gave the earlier rows have taken back all their marks since."""
    earlier = {name for row in base for name in row["annotator"].split(";")}
    marked = {event.account for event in events if event.action == MARK}
    return bool(earlier) and earlier <= marked & set(counted.annotators)
