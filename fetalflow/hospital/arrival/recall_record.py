"""Deliveries whose rows do not count any more: recalled by a person, or superseded by a later delivery.

Nothing is removed: `recalled.csv` of the store gets a line, and the accumulated drop is written without those rows. So
a recall can be taken back, the patients keep their sides, and the record says who decided what and why.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import pandas as pd
import yaml

from fetalflow.artefacts import write_table
from fetalflow.errors import InputError
from fetalflow.hospital.arrival.journal import read_journal
from fetalflow.hospital.drop.contents import list_contents

FILE = "recalled.csv"
WAITING = ".waiting"  # ends a file beside the rows of a correction that is being written
NOTE = "supersedes.yaml"  # in a delivery: which earlier ones it corrects
RECALL, SUPERSEDE, RESTORE = "recall", "supersede", "restore"
DROP = 12  # digits of the name of a drop
HAD = ("taken", "again", "corrected")  # states in the journal of a delivery whose rows are in the store
OF_A_HOSPITAL = "the hospital, by its delivery"
KEYS = {"deliveries", "cines", "by", "why"}
FORM = (
    f"{NOTE} must say `deliveries: [NAME, ...]`, all rows of which it replaces, or `cines: true`, if it replaces the "
    "earlier rows of its cines alone; and may say `by` and `why`"
)


class NotTaken(InputError):
    """A store has taken no delivery of this name."""


@dataclass(frozen=True)
class Line:
    """decision: recall or supersede rows of `drop`, or restore it. later: the drop that supersedes it, or "". cines:
    "yes" if only the rows of cines that `later` has, too, are superseded."""

    time: str
    by: str
    why: str
    decision: str
    drop: str
    later: str = ""
    cines: str = ""


COLUMNS = [field.name for field in fields(Line)]


@dataclass(frozen=True)
class Supersedes:
    """What a delivery says that it corrects. deliveries: earlier ones by name or drop; cines: earlier rows of its cines
    alone."""

    deliveries: tuple[str, ...]
    cines: bool
    by: str
    why: str


def lines(store: Path) -> list[Line]:
    """Every line, oldest first. Raises InputError when the file is damaged: rows that were recalled must not come
    back unseen."""
    if not (path := store / FILE).is_file():
        return []
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    known = table["decision"].isin([RECALL, SUPERSEDE, RESTORE]).all() if list(table) == COLUMNS else False
    if not known:
        raise InputError(
            f"{path} must hold {', '.join(COLUMNS)}, and only the decisions {RECALL}, {SUPERSEDE} and {RESTORE}. "
            "It was changed by hand: restore its last good copy."
        )
    return [Line(**row) for row in table.to_dict("records")]


def left_out(store: Path) -> dict[str, set[str]]:
    """For each drop of which rows do not count: the later drops whose cines are left out; empty if no row counts.

    What a drop supersedes counts again once that drop was recalled: so the newest line is read first.
    """
    whole: set[str] = set()
    in_part: dict[str, set[str]] = {}
    restored: set[str] = set()
    for line in reversed(lines(store)):
        if line.drop in restored or line.later in whole:
            continue
        if line.decision == RESTORE:
            restored.add(line.drop)
        elif line.cines:
            in_part.setdefault(line.drop, set()).add(line.later)
        else:
            whole.add(line.drop)
    return in_part | {drop: set() for drop in whole}


def counting_rows(rows: pd.DataFrame, of_others: Mapping[str, pd.DataFrame] | None) -> pd.DataFrame:
    """The rows of a drop that count. of_others: None if all do; else the rows of the drops that supersede its cines;
    empty if it was recalled as a whole."""
    if of_others is None:
        return rows
    if not of_others:
        return rows.iloc[:0]
    return rows[~rows["video"].isin({video for other in of_others.values() for video in other["video"]})]


def add_lines(
    store: Path, decision: str, drops: Iterable[str], by: str, why: str, later: str = "", cines: bool = False
) -> None:
    """Add a line for each drop to the record, all in one step."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    new = [Line(now, by.strip(), why.strip(), decision, drop, later, "yes" if cines else "") for drop in drops]
    write_table(store / FILE, pd.DataFrame([asdict(each) for each in [*lines(store), *new]], columns=COLUMNS))


def waiting(store: Path) -> set[str]:
    """The drops whose rows do not count yet, because a correction was killed before its lines were written."""
    marked = {path.stem for path in (store / "received").glob(f"*{WAITING}")}
    return marked - {line.later for line in lines(store)} if marked else marked


def drop_of(store: Path, name: str) -> str:
    """The drop of a delivery, by its name in `fetalflow arrivals` or by (the first 6 or more of) its 12 digits.

    Raises NotTaken if no delivery that was taken has this name, InputError if several different ones have it.
    """
    taken = [line for line in read_journal(store) if line["state"] in HAD]
    drops = {line["drop"] for line in taken if line["name"] == name}
    if not drops and len(name) >= DROP // 2:
        drops = {line["drop"] for line in taken if line["drop"].startswith(name.lower())}
    if len(drops) == 1:
        return drops.pop()
    if drops:
        raise InputError(
            f"{len(drops)} deliveries were taken under the name {name!r}: {', '.join(sorted(drops))}. Give the digits "
            "of the one that is meant; `fetalflow arrivals` lists them."
        )
    raise NotTaken(f"no delivery called {name!r} was taken. Give a name or drop as `fetalflow arrivals` lists them.")


def read_note(delivery: Path) -> Supersedes | None:
    """What a delivery, a folder or zip, says that it corrects; None if it has no `supersedes.yaml`.

    Raises InputError when the file has another form.
    """
    contents = list_contents(delivery)
    found = [name for name in contents.files if PurePosixPath(name).name.lower() == NOTE]
    if not found:
        return None
    if len(found) > 1:
        raise InputError(f"it has {len(found)} files called {NOTE}. Expected one.")
    with contents.opened(found[0]) as file:
        try:
            note = yaml.safe_load(file.read().decode("utf-8-sig"))
        except (yaml.YAMLError, UnicodeDecodeError):
            raise InputError(f"{NOTE} is no YAML in UTF-8. {FORM}.") from None
    names = note.get("deliveries", []) if isinstance(note, dict) else None
    names = [names] if isinstance(names, str) else names
    is_list = isinstance(names, list) and all(isinstance(name, (str, int)) for name in names)
    if not is_list or set(note) - KEYS or not isinstance(note.get("cines", False), bool):
        raise InputError(f"{FORM}.")
    if bool(names) == note.get("cines", False):
        raise InputError(
            f"{NOTE} says {'both' if names else 'neither'} `deliveries` {'and' if names else 'nor'} `cines`. {FORM}."
        )
    said = [str(note.get(key) or "").strip() for key in ("by", "why")]
    return Supersedes(tuple(map(str, names)), not names, *said)


def superseded_drops(note: Supersedes, store: Path, name: Callable[[str], str]) -> tuple[dict[str, str], str]:
    """The drop of each delivery that a note names; why one of them is not known, or "". name: makes the name of a
    delivery in the journal from the one that the hospital gave it."""
    found = {}
    for written in note.deliveries:
        try:
            found[written] = drop_of(store, name(written))
        except InputError:
            try:
                found[written] = drop_of(store, written)
            except InputError as error:
                return {}, f"{NOTE}: {error}"
    return found, ""


def supersede(store: Path, drop: str, note: Supersedes, named: Mapping[str, str]) -> str:
    """Record what a drop that was taken supersedes; returns it in words. named: the drop of each delivery that the note
    names."""
    known = {(line.drop, line.later) for line in lines(store)}
    others = named.values() if not note.cines else sorted(path.stem for path in (store / "received").glob("*.csv"))
    for other in others:
        if other != drop and (other, drop) not in known:
            by, why = note.by or OF_A_HOSPITAL, note.why or f"{NOTE} of the later delivery"
            add_lines(store, SUPERSEDE, [other], by, why, drop, note.cines)
    return f"it supersedes {'earlier rows of its cines' if note.cines else ', '.join(sorted(set(others)))}"
