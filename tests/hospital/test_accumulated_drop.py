"""The accumulated drop is the one of a plain groupby over all rows in memory, in whatever blocks it is made."""

import numpy as np
import pandas as pd
import pytest

from fetalflow.hospital.arrival import received_rows
from fetalflow.hospital.arrival.accumulated_drop import accumulate, forget
from fetalflow.hospital.arrival.patient_sides import read_sides
from fetalflow.hospital.arrival.withdrawal import add_withdrawn
from fetalflow.hospital.drop.columns import COLUMNS
from fetalflow.settings.params import Split

PATIENTS = ["P1", "P2", 'Pé,"3', "", "P5"]


def delivery(random: np.random.Generator, number: int) -> pd.DataFrame:
    """Few different values, so that rows come again; signs that CSV quotes; columns that other deliveries lack."""
    count = int(random.integers(0, 12))
    rows = {"video": random.choice(["v1", "v2", "v3"], count), "patient": random.choice(PATIENTS, count)}
    rows |= {"site": "N", "device": "", "annotator": random.choice(["a", "b\nc"], count)}
    rows |= {"start_frame": "", "end_frame": "", "label": random.choice(["head", "leg"], count)}
    if number % 2:
        rows |= {"mask": random.choice(["m", ""], count), "age": "3", "Age": "4"}
    return pd.DataFrame(rows, dtype=str)


def plain(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    rows = pd.concat([rows.assign(drop=name) for name, rows in tables.items()], ignore_index=True).fillna("")
    columns = [*COLUMNS, *sorted(set(rows) - set(COLUMNS) - {"drop"})]
    return rows.groupby(columns, as_index=False)["drop"].agg(lambda drops: ";".join(sorted(set(drops))))


@pytest.mark.parametrize("seed", range(12))
def test_every_row_is_there_once_with_all_its_drops(seed, tmp_path, monkeypatch):
    monkeypatch.setattr(received_rows, "BLOCK", 1 + seed % 5)
    random = np.random.default_rng(seed)
    tables = {f"{number:03x}": delivery(random, number) for number in range(1 + seed % 4)}
    (tmp_path / "received").mkdir()
    for name, rows in tables.items():
        rows.to_csv(tmp_path / "received" / f"{name}.csv", index=False)
    expected = plain(tables)
    for _ in range(2):  # nothing changes in the second call
        assert accumulate(tmp_path, Split()) == len(expected)
        found = pd.read_csv(tmp_path / "drop" / "annotations.csv", dtype=str, keep_default_na=False)
        sides = read_sides(tmp_path).set_index("patient")["side"].to_dict() | {"": ""}
        pd.testing.assert_frame_equal(found, expected.assign(part=expected["patient"].map(sides).astype(str)))
    assert not [*(tmp_path / ".scratch").glob("*")]


def test_rows_of_a_withdrawn_patient_are_in_no_file(tmp_path):
    (tmp_path / "received").mkdir()
    rows = pd.DataFrame(dict.fromkeys(COLUMNS, "x"), index=range(5)).assign(patient=["P1", "P2"] * 2 + ["P2"], site="N")
    rows.to_csv(tmp_path / "received" / "0.csv", index=False)
    assert accumulate(tmp_path, Split()) == len(plain({"0": rows}))
    add_withdrawn(tmp_path, "P1", "a person", "she asked", [("N", "P1")])
    assert accumulate(tmp_path, Split()) == len(plain({"0": rows[rows["patient"] == "P2"]}))
    assert forget(tmp_path)[0] == 2
    assert "P1" not in (tmp_path / "received" / "0.csv").read_text() + (tmp_path / "drop/annotations.csv").read_text()


def test_nothing_received_is_nothing_written(tmp_path):
    assert accumulate(tmp_path, Split()) is None and not [*tmp_path.iterdir()]


def test_what_the_memory_does_not_hold_goes_to_disk_and_away_again(tmp_path, monkeypatch):
    monkeypatch.setattr(received_rows, "MEMORY", "15MB")
    (tmp_path / "received").mkdir()
    rows = pd.DataFrame(dict.fromkeys(COLUMNS, "x"), index=range(30_000))
    rows = rows.assign(video=[f"{number:0200d}" for number in np.random.default_rng(0).permutation(len(rows))])
    rows.to_csv(tmp_path / "received" / "0.csv", index=False)
    assert accumulate(tmp_path, Split()) == len(rows)
    found = pd.read_csv(tmp_path / "drop" / "annotations.csv", usecols=["video"], dtype=str)["video"]
    assert found.is_monotonic_increasing and set(found) == set(rows["video"])
    assert not [*(tmp_path / ".scratch").glob("*")]
