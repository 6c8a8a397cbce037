"""The embedded store follows its folder: MLflow keeps whole paths of artefacts."""

import sqlite3
from pathlib import Path

import pytest

from fetalflow.registry.moved_store import ADDRESSES, follow_the_move


def store(folder: Path, *roots: str) -> Path:
    """A database with one row in each table for each address, and artefacts beside it."""
    (folder / "mlartifacts").mkdir(parents=True)
    with sqlite3.connect(folder / "mlflow.db") as database:
        for table, column in ADDRESSES.items():
            database.execute(f"CREATE TABLE {table} ({column})")
            rows = [root if table == "experiments" else f"{root}/r1/artifacts" for root in roots]
            database.executemany(f"INSERT INTO {table} VALUES (?)", [(row,) for row in rows])
    return folder / "mlflow.db"


def addresses(database: Path) -> list[str]:
    with sqlite3.connect(database) as found:
        return [uri for table, column in ADDRESSES.items() for (uri,) in found.execute(f"SELECT {column} FROM {table}")]


@pytest.mark.parametrize("former", ["file:///a/ws/mlartifacts", "file:///a%20100%25_%C3%A9/mlartifacts"])
def test_every_address_leads_to_the_folder_beside_the_database(tmp_path, former):
    here = tmp_path / "100% _é"
    database = store(here, former)
    assert follow_the_move(database) == [former]
    today = (here / "mlartifacts").as_uri()
    assert addresses(database) == [today] + 3 * [f"{today}/r1/artifacts"]
    assert follow_the_move(database) == []


def test_other_addresses_stay(tmp_path):
    others = ["s3://bucket/mlartifacts", "file:///a/elsewhere", "mlflow-artifacts:/1"]
    database = store(tmp_path / "ws", *others, "file:///a/mlartifacts")
    with sqlite3.connect(database) as found:
        found.execute("INSERT INTO runs VALUES ('file:///a/mlartifacts2/r1')")  # begins alike
    follow_the_move(database)
    left = [uri for uri in addresses(database) if not uri.startswith((tmp_path / "ws").as_uri())]
    assert left == [others[0], others[1], others[2]] + [f"{uri}/r1/artifacts" for uri in others] + [
        "file:///a/mlartifacts2/r1",
        *(f"{uri}/r1/artifacts" for _ in range(2) for uri in others),
    ]


def test_a_database_without_its_artefacts_is_not_changed(tmp_path):
    database = store(tmp_path / "ws", "file:///a/mlartifacts")
    (tmp_path / "ws" / "mlartifacts").rmdir()
    assert follow_the_move(database) == [] and addresses(database)[0] == "file:///a/mlartifacts"
