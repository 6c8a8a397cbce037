"""People say of an answer whether it is right, and if not, what is right.

A correction of a patient whom nobody tests becomes a label of the next delivery. A correction of a test patient is a
correction of the truth: it has its own action in the journal and its own delivery, and nothing trains on it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from uuid import uuid4

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fetalflow.annotation.adjudication import Marked
from fetalflow.annotation.annotation import Annotation, Frame, Span
from fetalflow.annotation.journal import Event, Journal
from fetalflow.errors import InputError
from fetalflow.evaluation.intervals import bootstrap, known_or_none, percentile_interval
from fetalflow.hospital.arrival.patient_sides import read_sides

CORRECT, TRUTH = "correct", "truth"
ORIGINS = ("test", "predict", "measure", "service")
TESTED, TRAINED, NEW = "test", "train", ""
ANY = "all"


class Correction(BaseModel):
    """One answer, and what a person says of it.

    origin: where the answer comes from; model: name and version that gave it, as `fetal-movement 3`. first_frame,
    last_frame: the frames of the answer. answer: the label or the lengths in words. marks: what is right on these
    frames; of an answer that is right, what the answer said. why: needed where it is wrong.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    origin: Literal["test", "predict", "measure", "service"]
    model: Annotated[str, Field(min_length=1, max_length=200)]
    first_frame: Frame
    last_frame: Frame
    answer: Annotated[str, Field(min_length=1, max_length=500)]
    right: bool
    marks: tuple[Annotation, ...] = ()
    why: Annotated[str, Field(max_length=2000)] = ""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.last_frame < self.first_frame:
            raise ValueError("the last frame lies before the first")
        if not self.right and not (self.marks and self.why.strip()):
            raise ValueError("of a wrong answer, say what is right and why")
        if any(mark.first_frame < self.first_frame or mark.last_frame > self.last_frame for mark in self.marks):
            raise ValueError("the right answer must lie on the frames of the answer")
        return self

    @property
    def about(self) -> tuple[str, str, int, int, str]:
        """What was judged; a later judgement of the same answer takes the place of an earlier one."""
        return self.origin, self.model, self.first_frame, self.last_frame, self.answer


@dataclass(frozen=True)
class Judged:
    """A correction that holds, with its cine and who judged when. number: of its event in the journal."""

    source: str
    account: str
    time: str
    of_truth: bool
    correction: Correction
    number: int = 0

    def is_older(self, marks: Iterable[Marked], written: Mapping[tuple[str, str], int]) -> bool:
        """Whether one of `marks`, which count, was written after it on one of its frames: the last word counts there.

        written: the number of the event that wrote a mark, by account and id.
        """
        first, last = self.correction.first_frame, self.correction.last_frame
        return any(
            mark.first_frame <= last and first <= mark.last_frame and written.get((name, mark.id), 0) > self.number
            for name, mark in marks
        )


def correct(journal: Journal, task: str, source: str, account: str, said: dict[str, Any], side: str) -> Judged:
    """Write a correction. said: the fields of Correction; side: of the cine's patient (`sides_of`). Raises InputError
    where something is missing or does not fit."""
    try:
        correction = Correction(**said)
    except (ValidationError, TypeError) as error:
        raise InputError(f"this correction is not whole: {_first(error)}.") from None
    action = TRUTH if side == TESTED else CORRECT
    value = correction.model_dump(mode="json")
    event = journal.add([Event(account, task, source, uuid4().hex, action, value)])[0]
    return Judged(source, account, event.time, action == TRUTH, correction, event.number)


def _first(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    found = error.errors()[0]
    where = ".".join(str(part) for part in found["loc"])
    said = found["msg"].removeprefix("Value error, ").rstrip(".")
    return f"{where}: {said}" if where else said


def judged(events: Iterable[Event]) -> list[Judged]:
    """The corrections that hold: the last one of each answer, oldest first."""
    found: dict[tuple, Judged] = {}
    for event in events:
        if event.action in (CORRECT, TRUTH):
            try:
                correction = Correction(**event.value)
            except (ValidationError, TypeError) as error:
                raise InputError(f"the correction of event {event.number} cannot be read: {_first(error)}.") from None
            key = event.source, *correction.about
            found.pop(key, None)
            is_truth = event.action == TRUTH
            found[key] = Judged(event.source, event.account, event.time, is_truth, correction, event.number)
    return list(found.values())


def sides_of(workspace: Path, task: str, store: Path) -> dict[str, str]:
    """The side of each patient, TESTED or TRAINED. Who is in none of the tables is NEW.

    The permanent sides of a store of arrivals hold first. Else they are those of the workspace's split: with one fold,
    her part; with several folds every patient is tested and trained on, so that there is no frozen test.
    """
    sides = read_sides(store)
    found = dict(zip(sides["patient"], sides["side"], strict=True))
    path = workspace / "data" / task / "split.parquet"
    if path.is_file():
        split = pd.read_parquet(path, columns=["patient", "fold", "part"])
        if split["fold"].nunique() == 1:
            tested = set(split.loc[split["part"] == "test", "patient"])
            found = {name: TESTED if name in tested else TRAINED for name in split["patient"].unique()} | found
    return found


def accuracy_in_use(
    found: Iterable[Judged],
    patients: dict[str, str],
    draws: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Right answers over judged answers, for each model and origin, and for all origins together (`all`).

    patients: of each source; a cine without one counts as a patient of its own. Columns: model, origin, right, wrong,
    patients, accuracy, and low and high, the interval by patient (None where there is none: `evaluation/intervals.py`).
    People judge what they look at, so this is no estimate for answers that nobody looked at.
    """
    rows = [
        {"model": each.correction.model, "origin": origin, "right": each.correction.right}
        | {"patient": patients.get(each.source) or each.source}
        for each in found
        for origin in (each.correction.origin, ANY)
    ]
    if not rows:
        return []
    table = pd.DataFrame(rows)
    result = []
    for (model, origin), part in table.groupby(["model", "origin"], sort=True):
        by_patient = part.groupby("patient")["right"].agg(["sum", "size"]).to_numpy(float)
        right, total = by_patient.sum(axis=0)
        low, high = _interval(by_patient, draws, confidence, seed)
        counts = {"right": int(right), "wrong": int(total - right), "patients": len(by_patient)}
        result.append(
            {"model": model, "origin": origin} | counts | {"accuracy": right / total, "low": low, "high": high}
        )
    return result


def _interval(by_patient: np.ndarray, draws: int, confidence: float, seed: int) -> tuple[float | None, float | None]:
    def share(weights: np.ndarray) -> dict[str, np.ndarray]:
        right, total = (weights @ by_patient).T
        return {"share": right / total}

    samples = bootstrap(share, len(by_patient), draws, seed)["share"]
    return known_or_none(*percentile_interval(samples, confidence, len(by_patient)), len(by_patient))


def corrected_rows(base: Sequence[dict[str, str]], corrections: Sequence[Judged], frames: int) -> list[dict[str, str]]:
    """The rows of a cine without the frames that people corrected; what is left of a row keeps its annotator.

    base: the rows so far; frames: of the cine. Raises InputError where a row has no whole frames.
    """
    rows = [dict(row) for row in base]
    for each in corrections:
        first, last = each.correction.first_frame, each.correction.last_frame
        rows = [part for row in rows for part in _outside(row, first, last, frames)]
    return rows


def changes(base: Sequence[dict[str, str]], correction: Correction, frames: int) -> bool:
    """Whether a correction says something else than the rows of its cine: another label on one of its frames, or a
    length or an outline."""
    if any(not isinstance(mark, Span) for mark in correction.marks):
        return True
    for frame in range(correction.first_frame, correction.last_frame + 1):
        said = {mark.label for mark in correction.marks if mark.first_frame <= frame <= mark.last_frame}
        if said != {row["label"] for row in base if _outside(row, frame, frame, frames) != [row | _whole(row, frames)]}:
            return True
    return False


def _whole(row: dict[str, str], frames: int) -> dict[str, str]:
    return {"start_frame": row["start_frame"] or "0", "end_frame": row["end_frame"] or str(frames - 1)}


def _outside(row: dict[str, str], first: int, last: int, frames: int) -> list[dict[str, str]]:
    try:
        begin = int(row["start_frame"] or 0)
        end = int(row["end_frame"] or frames - 1)
    except ValueError:
        raise InputError(f"a row of {row['video']} has no whole frames: correct the drop first.") from None
    parts = [(begin, min(end, first - 1)), (max(begin, last + 1), end)]
    return [row | {"start_frame": str(a), "end_frame": str(b)} for a, b in parts if a <= b]
