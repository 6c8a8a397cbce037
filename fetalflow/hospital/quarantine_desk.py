"""A person's work on the quarantine of a workspace: list its rows, show what to do, and record decisions."""

import hashlib
import os
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from fetalflow.artefacts import read_json
from fetalflow.errors import InputError
from fetalflow.hospital.drop.contents import list_contents
from fetalflow.hospital.drop.inside import leaves
from fetalflow.hospital.drop.opening import read_rows
from fetalflow.hospital.drop.quarantine import REJECTED, count_kinds
from fetalflow.hospital.drop.review import (
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
from fetalflow.hospital.drop.spelling import near
from fetalflow.settings.params import load_settings

TO_DO = {  # kind -> what to do; docs/data-engineer/drop.md has the same table
    "missing": "deliver the file, or correct the path",
    "outside": "use a path inside the drop",
    "copy": "remove the copy, or correct the row; or reject the rows of the wrong copy",
    "empty": "export the file again",
    "unreadable": "export the file again in one of the formats of docs/data-engineer/drop.md",
    "truncated": "copy or export the file again",
    "broken": "copy or export the file again",
    "lying": "export the file again",
    "size": "split the cine where its frame size changes",
    "huge": "cut the file, or raise the limit",
    "modality": "remove the file: it is not ultrasound",
    "row": "correct the row",
    "label": "correct the row, add the label to `extract: labels`, or release it with the label that counts",
    "span": "correct the row, or release it: it is then used up to the cine's last frame",
    "patient": "correct the rows; or reject those that name the wrong patient",
    "disagreement": "adjudicate: look at the cine, then release one row with the label that counts, or reject the "
    "wrong ones",
    "mask": "correct or replace the mask's file, or clear the row's `mask`",
    "short": "label a longer span, or remove the row",
    "rate": "export with the right frame rate; or --set TASK.extract.fps=null where there is none",
    "held_out": "nothing: pretraining learns from no file of a patient who is tested",
    REJECTED: "nothing: a person decided to keep it out",
}


class Desk:
    """The quarantine of one task in one workspace. Raises InputError when extraction has not run there yet."""

    def __init__(self, workspace: Path, task: str) -> None:
        self.settings = load_settings(workspace / "params.yaml")
        self.settings.block(task)  # an unknown task is refused
        self.task = task
        self.path = workspace / "data" / task / "quarantine.csv"
        self.store = workspace / "data" / task / "frames"
        self.reviews = workspace / "reviews" / f"{task}.csv"
        self.lock = FileLock(workspace / ".locks" / f"reviews-{task}.lock", timeout=60)
        self.drop = workspace / self.settings.tasks[task].drop
        if not self.path.is_file():
            raise InputError(f"{self.path} is missing. Extraction writes it: run the pipeline of {task} first.")
        self.table = pd.read_csv(self.path, dtype=str, keep_default_na=False)
        self.table["row"] = [row_id(row) for row in self.table.to_dict("records")]

    def counts(self) -> list[dict[str, Any]]:
        """For each kind, most frequent first: kind, rows, waiting (rows with a decision that the next run will apply),
        releasable, to_do."""
        pending = self.table["row"].isin(self.pending())
        return [
            {
                "kind": kind,
                "rows": count,
                "waiting": int((pending & (self.table["kind"] == kind)).sum()),
                "releasable": kind in RELEASABLE,
                "to_do": self._to_do(kind),
            }
            for kind, count in count_kinds(self.table).items()
        ]

    def rows(self, kind: str | None = None) -> list[dict[str, str]]:
        """The rows of one kind, or all rows, with their name `row`. Raises InputError if no row has this kind."""
        if kind is not None and kind not in set(self.table["kind"]):
            kinds = ", ".join(count_kinds(self.table)) or "nothing"
            raise InputError(f"{self.path} has no row of the kind {kind!r}. Choose one of its kinds: {kinds}.")
        return self.table[self.table["kind"] == kind if kind else slice(None)].to_dict("records")

    def select(self, **wanted: str | None) -> list[str]:
        """The names of the rows that have all the values `wanted`, which nobody has decided on yet.

        wanted: kind, label, patient, annotator, video (a pattern such as `*/B/*`) or site; None: any. Raises InputError
        if no row has them.
        """
        wanted = {column: value for column, value in wanted.items() if value is not None}
        rows = self.matching(**wanted)
        decided = self.pending()
        names = [name for name in rows["row"] if name not in decided]
        if not names:
            said = ", ".join(f"{column} {value!r}" for column, value in wanted.items())
            left = f"; {len(rows)} of them are decided already" if len(rows) else ""
            raise InputError(
                f"no row in {self.path} waits for a decision with {said}{left}. `fetalflow quarantine list`."
            )
        return list(dict.fromkeys(names))

    def matching(self, **wanted: str) -> pd.DataFrame:
        """The rows of the table that have all the values `wanted` (see `select`), decided or not."""
        rows = self.table
        if "site" in wanted:
            rows = rows.assign(site=rows["row"].map(self.sites()).fillna(""))
        for column, value in wanted.items():
            if column == "video":
                rows = rows[rows["video"].map(lambda path, value=value: fnmatchcase(path, value))]
            else:
                rows = rows[rows[column].map(near) == near(value)]
        return rows

    def sites(self) -> dict[str, str]:
        """The site of each row of the drop, by `row_id`: the table of quarantine has none."""
        drop, _ = read_rows(self.drop)
        columns = [*ROW, *(["site"] if "site" in drop.rows else [])]
        return {row_id(row): row.get("site", "") for row in drop.rows[columns].to_dict("records")}

    def pending(self) -> dict[str, Decision]:
        """Decisions that are newer than the table. The next run will apply them."""
        written = datetime.fromtimestamp(self.path.stat().st_mtime, UTC).isoformat(timespec="milliseconds")
        return {name: d for name, d in read_decisions(self.reviews).items() if d.time >= written}

    def show(self, name: str) -> dict[str, Any]:
        """One row: row (its columns), facts (of its cine), same_cine (the other rows), decisions (oldest first)."""
        row = self._row(name)
        same = [r for r in self.table.to_dict("records") if r["video"] == row["video"] and r["row"] != row["row"]]
        return {
            "row": row,
            "to_do": self._to_do(row["kind"]),
            "release": RELEASABLE.get(row["kind"], "not possible for this kind"),
            "facts": self._facts(row),
            "same_cine": same,
            "decisions": [d.__dict__ for d in history(self.reviews) if d.row == row["row"]],
        }

    def release(self, names: list[str], who: str, why: str, label: str = "") -> list[Decision]:
        """Decide that rows are used after all. If one cannot be released, raises InputError and decides nothing."""
        return self._decide(RELEASE, names, who, why, label)

    def reject(self, names: list[str], who: str, why: str) -> list[Decision]:
        """Decide that rows stay out for ever."""
        return self._decide(REJECT, names, who, why, "")

    def refusals(self, decision: str, names: list[str], label: str = "") -> dict[str, str]:
        """Why rows cannot get a decision, a release with `label`, by their names. Those that can are not in it."""
        found = {}
        for name in names:
            try:
                row = self._row(name)
                if decision == RELEASE:
                    self._check_releasable(row, self._kind(row), label)
                    self._source(row)
            except InputError as error:
                found[name] = str(error)
        return found

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
        """The kind of a row; of a rejected row, the kind that it had before."""
        decided = read_decisions(self.reviews).get(row["row"]) if row["kind"] == REJECTED else None
        return decided.kind if decided else row["kind"]

    def _check_releasable(self, row: dict[str, str], kind: str, label: str) -> None:
        name = row["row"]
        if kind == REJECTED:
            raise InputError(
                f"{name} cannot be released: another row of the same frames was released. Reject that one first."
            )
        if kind not in RELEASABLE:
            raise InputError(
                f"{name} cannot be released: its kind is {kind!r}. Only rows of these kinds can be released: "
                f"{', '.join(RELEASABLE)}. What to do: {self._to_do(kind)}."
            )
        labels = self.settings.blocks[self.task].extract.labels
        if kind in LABELLED and not label:
            raise InputError(f"{name} has the kind {kind!r}: give the correct label with --label.")
        if kind not in LABELLED and label:
            raise InputError(f"{name} has the kind {kind!r}, so its label is not changed: leave out --label.")
        if label and labels is not None and label not in labels:
            raise InputError(f"--label {label!r} is not one of {', '.join(labels)}, the labels of {self.task}.")

    def _to_do(self, kind: str) -> str:
        return TO_DO.get(kind, "see docs/data-engineer/drop.md").replace("TASK", self.task)

    @cached_property
    def _by_name(self) -> dict[str, dict[str, str]]:
        """The first row of each name."""
        return {row["row"]: row for row in reversed(self.table.to_dict("records"))}

    def _row(self, name: str) -> dict[str, str]:
        if name in self._by_name:  # a bulk of thousands names each row in full
            return self._by_name[name]
        matching = [row for known, row in self._by_name.items() if name and known.startswith(name)]
        if len(matching) != 1:
            raise InputError(
                f"{self.path} has {len(matching)} rows with a name that begins with {name!r}. Give a name that fits "
                "one row only; `fetalflow quarantine list` shows the names."
            )
        return matching[0]

    def _source(self, row: dict[str, str]) -> str:
        source = self._digest(row)
        if source is None:
            raise InputError(f"{row['row']} cannot be released: its file is not in the drop {self.drop}.")
        return source

    def _digest(self, row: dict[str, str]) -> str | None:
        """SHA-256, hex, of the row's cine; None if the drop does not hold it."""
        if leaves(row["video"], self.drop):
            return None
        if os.path.isfile(path := self.drop / row["video"]):
            with open(path, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        if not self.drop.exists() or row["video"] not in (contents := list_contents(self.drop)).files:
            return None
        with contents.opened(row["video"]) as file:  # in a zip
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _facts(self, row: dict[str, str]) -> dict[str, Any]:
        """Facts about the row's cine: its record in the store, without the entries that only the store needs."""
        source = self._digest(row)
        if source is None:
            return {"file": "not in the drop"}
        path = self.store / f"{source}.json"
        if not path.is_file():
            return {"source": source, "record": "none: the cine was not read"}
        return {key: value for key, value in read_json(path).items() if key not in ("recipe", "bytes", "rejected")}
