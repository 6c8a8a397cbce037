"""The quarantine of a workspace as a person meets it: what stands there, what to do about it, and deciding on it."""

import hashlib
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from fetalflow.archive import is_zip
from fetalflow.artefacts import read_json
from fetalflow.errors import InputError
from fetalflow.quarantine import REJECTED, count_kinds
from fetalflow.review import (
    LABELLED,
    REJECT,
    RELEASABLE,
    RELEASE,
    ROW,
    Decision,
    history,
    read_decisions,
    row_id,
    write_decisions,
)
from fetalflow.settings import load_settings

TO_DO = {  # kind -> what to do; docs/drop.md has the same table
    "missing": "deliver the file, or mend the path",
    "outside": "use a path inside the drop",
    "copy": "remove the copy, or mend the row; or reject the rows of the copy that is wrong",
    "empty": "export the file again",
    "unreadable": "export the file again in one of the formats of docs/drop.md",
    "truncated": "copy or export the file again",
    "broken": "copy or export the file again",
    "lying": "export the file again",
    "size": "split the cine where its frame size changes",
    "huge": "cut the file, or raise the limit",
    "modality": "remove the file: it is no ultrasound",
    "row": "mend the row",
    "label": "mend the row, add the label to `extract: labels`, or release it with the label that counts",
    "span": "mend the row, or release it: it then counts up to the cine's last frame",
    "patient": "mend the rows; or reject those that name the wrong patient",
    "disagreement": "adjudicate: look at the cine, then release one row with the label that counts, or reject the "
    "wrong ones",
    "mask": "mend or replace the mask's file, or empty the row's `mask`",
    "short": "label a longer span, or remove the row",
    "rate": "export with a frame rate, or unset `fps`",
    REJECTED: "nothing: a person decided that it stays out",
}


class Desk:
    """The quarantine of one task in one workspace. Raises InputError when extraction has not run there yet."""

    def __init__(self, workspace: Path, task: str) -> None:
        self.settings = load_settings(workspace / "params.yaml")
        if task not in self.settings.tasks:
            raise InputError(f"no task is called {task!r} in params.yaml; there are: {', '.join(self.settings.tasks)}.")
        self.task = task
        self.path = workspace / "data" / task / "quarantine.csv"
        self.store = workspace / "data" / task / "frames"
        self.reviews = workspace / "reviews" / f"{task}.csv"
        self.lock = FileLock(workspace / ".locks" / f"reviews-{task}.lock", timeout=60)
        self.drop = workspace / self.settings.tasks[task].drop
        if not self.path.is_file():
            raise InputError(f"{self.path} is not there: extraction writes it. Run the pipeline of {task} first.")
        self.table = pd.read_csv(self.path, dtype=str, keep_default_na=False)
        self.table["row"] = [row_id(row) for row in self.table.to_dict("records")]

    def counts(self) -> list[dict[str, Any]]:
        """Per kind, most frequent first: kind, rows, waiting (rows with a decision that the next run will follow),
        releasable, to_do."""
        pending = self.table["row"].isin(self.pending())
        return [
            {
                "kind": kind,
                "rows": count,
                "waiting": int((pending & (self.table["kind"] == kind)).sum()),
                "releasable": kind in RELEASABLE,
                "to_do": TO_DO.get(kind, "see docs/drop.md"),
            }
            for kind, count in count_kinds(self.table).items()
        ]

    def rows(self, kind: str | None = None) -> list[dict[str, str]]:
        """The rows, of one kind or of all, with `row`, their name. Raises InputError on a kind that is not there."""
        if kind is not None and kind not in set(self.table["kind"]):
            found = ", ".join(count_kinds(self.table)) or "nothing"
            raise InputError(f"no row of the kind {kind!r} is in {self.path}; there is: {found}.")
        return self.table[self.table["kind"] == kind if kind else slice(None)].to_dict("records")

    def pending(self) -> dict[str, Decision]:
        """Decisions newer than the table: those that the next run will follow."""
        written = datetime.fromtimestamp(self.path.stat().st_mtime, UTC).isoformat(timespec="milliseconds")
        return {name: d for name, d in read_decisions(self.reviews).items() if d.time >= written}

    def show(self, name: str) -> dict[str, Any]:
        """One row: row (its columns), facts (of its cine), same_cine (the other rows), decisions (oldest first)."""
        row = self._row(name)
        same = [r for r in self.table.to_dict("records") if r["video"] == row["video"] and r["row"] != row["row"]]
        return {
            "row": row,
            "to_do": TO_DO.get(row["kind"], "see docs/drop.md"),
            "release": RELEASABLE.get(row["kind"], "not possible for this kind"),
            "facts": self._facts(row),
            "same_cine": same,
            "decisions": [d.__dict__ for d in history(self.reviews) if d.row == row["row"]],
        }

    def release(self, names: list[str], who: str, why: str, label: str = "") -> list[Decision]:
        """Decide that rows are used after all. Raises InputError where that cannot be, and then decides nothing."""
        return self._decide(RELEASE, names, who, why, label)

    def reject(self, names: list[str], who: str, why: str) -> list[Decision]:
        """Decide that rows stay out for ever."""
        return self._decide(REJECT, names, who, why, "")

    def _decide(self, decision: str, names: list[str], who: str, why: str, label: str) -> list[Decision]:
        if not who.strip() or not why.strip():
            raise InputError("a decision needs a person and a reason: --by NAME --why TEXT.")
        with self.lock:
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            rows = [self._row(name) for name in dict.fromkeys(names)]
            kinds = [self._kind(row) for row in rows]
            if decision == RELEASE:
                for row, kind in zip(rows, kinds, strict=True):
                    self._check_releasable(row, kind, label)
            new = [
                Decision(
                    time=now,
                    who=who.strip(),
                    decision=decision,
                    row=row["row"],
                    **{column: row[column] for column in ROW},
                    kind=kind,
                    as_label=label,
                    source=self._source(row) if decision == RELEASE else "",
                    why=why.strip(),
                )
                for row, kind in zip(rows, kinds, strict=True)
            ]
            write_decisions(self.reviews, new)
        return new

    def _kind(self, row: dict[str, str]) -> str:
        """Why a row is in quarantine; of one that was rejected, why it was before."""
        decided = read_decisions(self.reviews).get(row["row"])
        return decided.kind if row["kind"] == REJECTED and decided else row["kind"]

    def _check_releasable(self, row: dict[str, str], kind: str, label: str) -> None:
        name = row["row"]
        if kind == REJECTED:
            raise InputError(f"{name} cannot be released: another row of its frames was. Reject that one first.")
        if kind not in RELEASABLE:
            raise InputError(
                f"{name} cannot be released: its kind is {kind!r}, and only these can be: {', '.join(RELEASABLE)}. "
                f"What to do: {TO_DO.get(kind, 'see docs/drop.md')}."
            )
        labels = self.settings.blocks[self.task].extract.labels
        if kind in LABELLED and not label:
            raise InputError(f"{name} is of the kind {kind!r}: name the label that counts with --label.")
        if kind not in LABELLED and label:
            raise InputError(f"{name} is of the kind {kind!r}, whose label is not in doubt: leave out --label.")
        if label and labels is not None and label not in labels:
            raise InputError(f"--label {label!r} is none of {', '.join(labels)} (`extract: labels` in params.yaml).")

    def _row(self, name: str) -> dict[str, str]:
        found = [r for r in self.table.to_dict("records") if name and r["row"].startswith(name)]
        if len({r["row"] for r in found}) != 1:
            what = "no row" if not found else f"{len(found)} rows"
            raise InputError(f"{what} in {self.path} has a name that starts with {name!r}: see `quarantine list`.")
        return found[0]

    def _source(self, row: dict[str, str]) -> str:
        source = self._digest(row)
        if source is None:
            raise InputError(f"{row['row']} cannot be released: its file is not in the drop {self.drop}.")
        return source

    def _digest(self, row: dict[str, str]) -> str | None:
        """SHA-256, hex, of the row's cine in the drop; None when it is not there or not inside."""
        if self.drop.is_dir():
            path = (self.drop / row["video"]).resolve()
            if not path.is_relative_to(self.drop.resolve()) or not path.is_file():
                return None
            with open(path, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        if is_zip(self.drop):
            with zipfile.ZipFile(self.drop) as archive:
                if row["video"] not in archive.namelist():
                    return None
                with archive.open(row["video"]) as file:
                    return hashlib.file_digest(file, "sha256").hexdigest()
        return None

    def _facts(self, row: dict[str, str]) -> dict[str, Any]:
        """What the store knows about the row's cine: its record without what only the store needs."""
        source = self._digest(row)
        if source is None:
            return {"file": "not in the drop"}
        path = self.store / f"{source}.json"
        if not path.is_file():
            return {"source": source, "record": "none: the cine was not read"}
        return {key: value for key, value in read_json(path).items() if key not in ("recipe", "bytes", "rejected")}
