"""The rows of all received drops as one table in DuckDB, which puts on disk what the memory does not hold.

So ten million rows of ten years need no more memory than a night's.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from fetalflow.hospital.arrival.recall_record import counting_rows, left_out, waiting
from fetalflow.hospital.drop.columns import COLUMNS, PERSON

SCRATCH = ".scratch"  # folder in a store for unfinished work
MEMORY = "600MB"  # of DuckDB; pandas needs more for the patients
BLOCK = 200_000  # rows that are in pandas at a time
WHO = ("site", "patient", PERSON)
CALLED = ("name", "of_site", "pseudonym", "fault")  # what `permanent_names` says of each WHO


class ReceivedRows:
    """The rows as they were received, every value text. `columns`: those of any drop; a drop without one has ''."""

    def __init__(self, database: duckdb.DuckDBPyConnection) -> None:
        self.database = database
        self.columns: list[str] = []
        # DuckDB takes `Age` and `age` for one name, and a drop may have both. So the columns have numbers.
        names = (*COLUMNS, PERSON, "fault", "part", "drop")
        self._number = {name: f"c{number}" for number, name in enumerate(names)}
        columns = ", ".join(f"{number} VARCHAR DEFAULT ''" for number in self._number.values())
        database.execute(f"CREATE TABLE received ({columns})")

    def add(self, rows: pd.DataFrame) -> None:
        for name in (name for name in rows if name not in self._number):
            self._number[name] = number = f"c{len(self._number)}"
            self.database.execute(f"ALTER TABLE received ADD COLUMN {number} VARCHAR DEFAULT ''")
        self.columns += [name for name in rows if name not in self.columns]
        self._register("delivery", rows.rename(columns=self._number))
        self.database.execute("INSERT INTO received BY NAME FROM delivery")

    def who(self) -> pd.DataFrame:
        """Every site, patient and person that occur together."""
        chosen = ", ".join(f"{self._number[name]} AS {name}" for name in WHO)
        return self._answer(f"SELECT DISTINCT {chosen} FROM received").read_all().to_pandas()

    def call(self, who: pd.DataFrame, called: pd.DataFrame) -> None:
        """Name the patients: `called` has CALLED for each row of `who`. Rows of nobody in `who` are left out."""
        self._called = called[list(CALLED)].reset_index(drop=True)
        people = pd.concat([who[list(WHO)], self._called.add_prefix("called_")], axis=1)
        self._register("people", people.assign(person_number=np.arange(len(people), dtype=np.int32)))
        same = " AND ".join(f"{self._number[name]} = {name}" for name in WHO)
        self.database.execute(f"CREATE VIEW named AS FROM received JOIN people ON {same}")

    def of_patients(self) -> pd.DataFrame:
        """patient, of_site, pseudonym, label, drop and official (the drop's `part`) of every row, as categories: a text
        that occurs often is in memory once."""
        of = {
            name: self._number[column] for name, column in (("label", "label"), ("drop", "drop"), ("official", "part"))
        }
        chosen = ", ".join(f"{number} AS {name}" for name, number in of.items())
        reader = self._answer(f"SELECT person_number, {chosen} FROM named")
        blocks = [
            pa.table(
                [block.column(0), *(block.column(name).dictionary_encode() for name in of)], names=block.schema.names
            )
            for block in reader
        ] or [reader.schema.empty_table()]
        rows = pa.concat_tables(blocks).unify_dictionaries().to_pandas()
        number = rows.pop("person_number").to_numpy()
        for name, column in (("patient", "name"), ("of_site", "of_site"), ("pseudonym", "pseudonym")):
            rows[name] = self._called[column].astype("category").take(number).array
        return rows

    def each_once(self, columns: list[str], sides: pd.DataFrame) -> Iterator[pd.DataFrame]:
        """Blocks of the different rows, sorted by `columns`: these, `drop` with the ids of the drops that have the row
        (';'-joined), and `part`, the side of the patient. At least one block."""
        self._register("sides", sides[["patient", "side"]])
        fault = self._number["fault"]
        shown = {name: number for name, number in self._number.items() if name in columns}
        shown |= {"patient": "called_name", "fault": f"CASE {fault} WHEN '' THEN called_fault ELSE {fault} END"}
        chosen = ", ".join(f"{shown[name]} AS k{number}" for number, name in enumerate(columns))
        keys = ", ".join(f"k{number}" for number in range(len(columns)))
        reader = self._answer(
            f"SELECT DISTINCT {chosen}, {self._number['drop']} AS drop, coalesce(side, '') AS part "
            f"FROM named LEFT JOIN sides ON called_name = sides.patient ORDER BY {keys}, drop"
        )
        rest = reader.schema.empty_table().to_pandas()
        names = dict(zip(keys.split(", "), columns, strict=True))
        for block in reader:
            rows = pd.concat([rest, block.to_pandas()], ignore_index=True)
            known = rows[list(names)]
            row = (known != known.shift()).any(axis=1).cumsum()
            complete = row != row.iloc[-1]  # the next block may go on with the last row
            yield _joined(rows[complete], row[complete]).rename(columns=names)
            rest = rows[~complete]
        yield _joined(rest, pd.Series(0, rest.index)).rename(columns=names)

    def _register(self, name: str, table: pd.DataFrame) -> None:
        self.database.register(name, pa.Table.from_pandas(table, preserve_index=False))

    def _answer(self, query: str) -> pa.RecordBatchReader:
        return self.database.sql(query).to_arrow_reader(BLOCK)


def _joined(rows: pd.DataFrame, row: pd.Series) -> pd.DataFrame:
    """The first of the rows with one number, with the drops of all of them."""
    several = row.duplicated(keep=False)
    drops = rows["drop"].where(~several, rows.loc[several].groupby(row)["drop"].transform(";".join))
    return rows.assign(drop=drops)[~row.duplicated()]


@contextmanager
def received_rows(store: Path, counting: bool = False) -> Iterator[ReceivedRows | None]:
    """The rows of all received drops; None while nothing was received. counting: without those that were recalled or
    superseded."""
    left = left_out(store) if counting else {}
    if not (paths := received_paths(store)):
        yield None
        return
    folder = store / SCRATCH / "tables"
    folder.mkdir(parents=True, exist_ok=True)  # DuckDB makes no folder above its last one
    settings = {
        "memory_limit": MEMORY,
        "temp_directory": str(folder),
        "threads": 2,
        "preserve_insertion_order": False,
    }
    try:
        with duckdb.connect(config=settings) as database:
            database.execute("SET enable_progress_bar = false")
            rows = ReceivedRows(database)
            for path in paths:
                rows.add(rows_that_count(path, left).assign(drop=path.stem))
            yield rows
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def received_paths(store: Path) -> list[Path]:
    """The files with the rows of each drop; not those of a correction that was killed."""
    unfinished = waiting(store)
    return [path for path in sorted((store / "received").glob("*.csv")) if path.stem not in unfinished]


def rows_that_count(path: Path, left: dict[str, set[str]]) -> pd.DataFrame:
    """The rows of one drop without those that were recalled or superseded. left: `left_out` of the store."""
    others = left.get(path.stem)
    of_others = None if others is None else {other: read_rows(path.with_stem(other)) for other in sorted(others)}
    return counting_rows(read_rows(path), of_others)


def read_rows(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False).fillna("")
