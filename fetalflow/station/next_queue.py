"""What to look at next on the station's task: cines to label, by the networks' answers, and labels to check."""

import time
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd
from fastapi import HTTPException

from fetalflow.annotation import next_cines
from fetalflow.annotation.corrections import CORRECT, TRUTH
from fetalflow.annotation.next_cines import Reason
from fetalflow.annotation.patients import name_patients
from fetalflow.annotation.standing import REOPEN, SUBMIT
from fetalflow.annotation.studies import ALL, studies, study_of
from fetalflow.errors import InputError
from fetalflow.station import predicted
from fetalflow.station.catalogue import Catalogue
from fetalflow.station.listed import TABLES
from fetalflow.station.network.answers import answer_of
from fetalflow.station.network.asking import model_of
from fetalflow.station.place import Place

VOTED = 100  # cines that the other networks answer, too: those that teach most by the main network
LABEL, CHECK = "label", "check"
COLUMNS = ["source", "patient", "kind", "reasons", "p", "done"]
FOLDS = "fetalflow run --profile folds"


@dataclass
class Collected:
    """The answers of the networks. They are collected anew when the main network has other weights. votes: by source
    and variant."""

    weights: str = ""
    answers: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    votes: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    unreadable: set[str] = field(default_factory=set)  # nobody can label these
    voted: list[str] | None = None  # the cines that the other networks answer


class NextQueue:
    """The queue of one station. Cines to label are answered in steps (`ask`), because each takes seconds."""

    def __init__(self, place: Place, catalogue: Catalogue) -> None:
        self.place, self.catalogue, self.task = place, catalogue, place.task
        self._collected, self._lock = Collected(), Lock()
        self._checked: tuple[int, pd.DataFrame, list[str]] = (-1, pd.DataFrame(), [])
        self._named: tuple[int, dict[str, str]] = (-1, {})
        self._ordered: tuple[tuple, pd.DataFrame] | None = None

    def ask(self, seconds: float) -> dict[str, Any]:
        """Let networks answer for about `seconds`. For JSON: `asked`, the number of answers collected now; `left`, how
        many are missing; `answered`, how many cines the main network has answered. While another request lets networks
        answer, this one collects nothing."""
        count = 0
        if self._lock.acquire(blocking=False):
            try:
                count = self._ask(time.monotonic() + seconds)
            finally:
                self._lock.release()
        return {"asked": count, "left": len(self._missing()), "answered": len(self._collected.answers)}

    def ordered(self) -> tuple[pd.DataFrame, list[str]]:
        """source, patient, kind (LABEL or CHECK), reasons, worth, value, in the order in which to look at them; and
        notes: sentences on what the order could not take into account. No column may be shown as it is."""
        checks, notes = self._checks()
        judged, done = self._looked()
        collected = self._collected
        stamp = (self.catalogue.number(), collected.weights, len(collected.answers), len(collected.refused))
        stamp += (sum(map(len, list(collected.votes.values()))), frozenset(judged), frozenset(done))
        if self._ordered is None or self._ordered[0] != stamp:
            to_label = self._to_label()
            to_label["done"] = to_label["source"].isin(done)
            checks = checks.assign(done=checks["source"].isin(judged))
            table = pd.concat([to_label, checks], ignore_index=True)
            kinds = dict(zip(table["source"], table["kind"], strict=True))
            found = next_cines.order_cines(table)
            self._ordered = stamp, found.assign(kind=found["source"].map(kinds))
        return self._ordered[1], [*self._notes(), *notes]

    def _waiting(self) -> list[str]:
        """The cines without a label."""
        table = self.catalogue.rows()
        table = table[(table["task"] == self.task) & ~table["labels"].map(bool).astype(bool)]
        return table["source"].tolist()

    def _missing(self) -> list[tuple[str, str]]:
        """Variant and source of the answers that are still missing; "" is the main variant."""
        collected = self._collected
        if not collected.weights:
            return []
        waiting = self._waiting()
        main = [("", each) for each in waiting if each not in collected.answers and each not in collected.refused]
        if main:
            return main
        if collected.voted is None or not set(collected.voted) <= set(waiting):
            collected.voted = next_cines.order_cines(self._to_label(), VOTED)["source"].head(VOTED).tolist()
        answered = [each for each in collected.voted if collected.answers.get(each)]
        return [
            (variant, each)
            for variant in self._others()
            for each in answered
            if variant not in collected.votes.get(each, {})
        ]

    def _others(self) -> list[str]:
        """The other variants that were trained."""
        folder = self.place.workspace / "models" / self.task
        return [name for name in self.place.settings.variants(self.task)[1:] if (folder / name).is_dir()]

    def _ask(self, until: float) -> int:
        """Collect answers until the time `until`; return their number."""
        try:
            weights = model_of(self.place, self.task).weights
        except InputError:
            weights = ""
        if weights != self._collected.weights:
            self._collected = Collected(weights)
        missing = self._missing()
        for count, (variant, source) in enumerate(missing):
            try:
                self._ask_one(variant, source)
            except HTTPException as problem:
                if problem.status_code == 503:  # the network is busy with other pages
                    return count
                self._refuse(variant, source, str(problem.detail))
            except InputError as error:
                self._refuse(variant, source, str(error))
            if time.monotonic() > until:
                return count + 1
        return len(missing)

    def _ask_one(self, variant: str, source: str) -> None:
        try:
            self.catalogue.frames(source, self.task)
        except InputError:
            self._collected.unreadable.add(source)
            raise
        cine = self.catalogue.cine(source, self.task, with_tables=False)
        windows = answer_of(self.catalogue, cine, variant)["windows"]
        if variant:
            self._collected.votes.setdefault(source, {})[variant] = [each["label"] for each in windows]
        else:
            self._collected.answers[source] = windows

    def _refuse(self, variant: str, source: str, why: str) -> None:
        if variant:
            self._collected.votes.setdefault(source, {})[variant] = []
        else:
            self._collected.refused[source] = why

    def _to_label(self) -> pd.DataFrame:
        collected, patients = self._collected, self._patients()
        rows = []
        for source in self._waiting():
            if source in collected.unreadable:
                continue
            windows = collected.answers.get(source) or []
            p = np.mean([list(each["probabilities"].values()) for each in windows], axis=0) if windows else None
            votes = {name: labels for name, labels in dict(collected.votes.get(source, {})).items() if labels}
            reasons = next_cines.reasons_to_label(windows, votes)
            rows.append((source, patients.get(source, ""), LABEL, reasons, p, False))
        return pd.DataFrame(rows, columns=COLUMNS)

    def _patients(self) -> dict[str, str]:
        number = self.catalogue.number()
        if self._named[0] != number:
            self._named = number, self._find_patients()
        return self._named[1]

    def _find_patients(self) -> dict[str, str]:
        """The patient of each cine that waits, where it is known. Never for a page."""
        table = self.catalogue.rows()
        found = {
            source: patient
            for source, patient in table.loc[table["task"] == self.task, ["source", "patient"]].to_numpy()
            if patient
        }
        if self.place.drop is None:
            return found
        root, videos = self.place.drop.resolve(), {}
        for source in self._waiting():
            path = self.catalogue.path(source, self.task) if source not in found else None
            if path is not None and path.resolve().is_relative_to(root):
                videos[source] = path.resolve().relative_to(root).as_posix()
        return found | _named(self.place, videos)

    def _looked(self) -> tuple[set[str], set[str]]:
        """The cines of which somebody said whether an answer is right, and those that need no further label: everybody
        of their study has submitted them, or anybody where no study names people."""
        events = self.place.journal.events(self.task)
        last = {(each.source, each.account): each.action for each in events if each.action in (SUBMIT, REOPEN)}
        submitted: dict[str, set[str]] = {}
        for (source, account), action in last.items():
            if action == SUBMIT:
                submitted.setdefault(source, set()).add(account)
        found = studies([each for each in events if each.source == ALL])
        done = {source for source, names in submitted.items() if set(study_of(found, source).accounts) <= names}
        return {each.source for each in events if each.action in (CORRECT, TRUTH)}, done

    def _checks(self) -> tuple[pd.DataFrame, list[str]]:
        """The cines whose label may be wrong, as rows of COLUMNS without `done`, and notes."""
        number = self.catalogue.number()
        if self._checked[0] != number:
            self._checked = number, *_checked(self.place, self.catalogue)
        return self._checked[1:]

    def _notes(self) -> list[str]:
        collected, found = self._collected, []
        waiting = self._waiting()
        if waiting and not collected.weights:
            try:
                model_of(self.place, self.task)
            except InputError as error:
                found.append(f"{error} Until then the order goes from patient to patient.".replace(".. ", ". "))
        refused = sorted({why for source, why in dict(collected.refused).items() if source in waiting})
        if refused:
            count = sum(source in collected.refused for source in waiting)
            found.append(f"The network could not answer {count} of the cines without a label. One reason: {refused[0]}")
        if waiting and collected.weights and not self._others():
            found.append("Only one network was trained, so the order does not know where networks disagree.")
        return found


def _named(place: Place, videos: dict[str, str]) -> dict[str, str]:
    """The patients of cines of the unlabelled drop; none where the drop does not name them all."""
    try:
        who = name_patients(place.drop, videos.values(), place.settings.block(place.task).extract)
    except InputError:
        return {}
    return {source: who[video]["patient"] for source, video in videos.items()}


def _checked(place: Place, catalogue: Catalogue) -> tuple[pd.DataFrame, list[str]]:
    data, task = place.workspace / "data" / place.task, place.task
    empty = pd.DataFrame(columns=COLUMNS[:-1])
    file = next((data / name for name in TABLES[:2] if (data / name).is_file()), None)
    if file is None:
        return empty, []
    sequences = pd.read_parquet(file, columns=["sequence", "source", "first_frame", "last_frame"])
    answered = {name: predicted.answers(data, name, sequences) for name in place.settings.variants(task)}
    unseen = {name: next_cines.out_of_fold(table) for name, table in answered.items() if "y_true" in table}
    main = unseen.get(place.settings.variants(task)[0], pd.DataFrame())
    if main.empty:
        return empty, []
    suspects = next_cines.suspected_labels(main)
    suspect_of = {(row["source"], row["label"]): row for row in suspects.to_dict("records")}
    votes: dict[tuple[str, str], dict[str, str]] = {}
    for name, table in unseen.items():
        for case, label in next_cines.votes(table).items():
            votes.setdefault(case, {})[name] = label
    patients = dict(catalogue.rows().loc[lambda t: t["task"] == task, ["source", "patient"]].to_numpy())
    rows = {}
    for (source, label), voted in votes.items():
        reasons: list[Reason] = next_cines.reasons_to_check(label, suspect_of.get((source, label)), voted)
        if reasons and (source not in rows or reasons[0].chance > rows[source][3][0].chance):
            rows[source] = (source, patients.get(source, ""), CHECK, reasons, None)
    checked, known = main["source"].nunique(), sequences["source"].nunique()
    notes = []
    if checked < known:
        notes.append(
            f"The labels of {checked} of {known} cines were compared with the answers of networks that did not learn "
            f"from them: the run has one split. With several folds all labels are compared: {FOLDS}."
        )
    return pd.DataFrame(list(rows.values()), columns=COLUMNS[:-1]), notes
