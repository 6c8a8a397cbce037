"""Fetches a registered model package. In a store on SQLite it is found without MLflow, whose import and connection take
3.5 s of processor time; the look-up takes 5 ms. Anything unusual, and every server, goes through MLflow."""

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import yaml

from fetalflow.errors import InputError, TrackingFailed
from fetalflow.models.package_files import CONFIG
from fetalflow.registry.address import require_store, tracking_uri

SQLITE = "sqlite:///"
OF_ALIAS = """
    SELECT v.version, v.storage_location FROM registered_model_aliases a
    JOIN model_versions v ON v.name = a.name AND v.version = a.version WHERE a.name = ? AND a.alias = ?
"""
ALIASES = "SELECT alias FROM registered_model_aliases WHERE name = ?"
OF_VERSION = "SELECT version, storage_location FROM model_versions WHERE name = ? AND version = ?"


def fetch_package(model_uri: str) -> tuple[str, Path]:
    """The registered model `models:/NAME@ALIAS` (or /VERSION) as `models:/NAME/VERSION`, and the folder of its package,
    which is downloaded if it is on a server.

    Raises InputError when there is no such model, TrackingFailed when the server is out of reach.
    """
    uri = tracking_uri()
    require_store(uri)
    found = _in_sqlite(Path(uri.removeprefix(SQLITE)), model_uri) if uri.startswith(SQLITE) else None
    if found is None:
        from fetalflow.registry import tracking

        version = tracking.numbered(model_uri)
        found = version, tracking.download_package(version)
    return found


def fetch_in_use(model: str, champion: str, challenger: str) -> tuple[str, str, Path]:
    """The version of a registered model that answers: its champion, or while there is none its challenger. Returns
    `models:/NAME/VERSION`, the alias and the folder of the package.

    Raises InputError when no version has one of the two aliases, TrackingFailed when the server is out of reach.
    """
    uri = tracking_uri()
    require_store(uri)
    aliases = _aliases_in_sqlite(Path(uri.removeprefix(SQLITE)), model) if uri.startswith(SQLITE) else None
    if aliases is None:
        from fetalflow.registry.tracking import registry

        with registry() as store:
            aliases = set(store.aliases(model))
    for alias in (champion, challenger):
        if alias in aliases:
            version, folder = fetch_package(f"models:/{model}@{alias}")
            return version, alias, folder
    raise InputError(
        f"no version of {model} is {champion} or {challenger}. Run the pipeline to register one, or name a version "
        f"with --model models:/{model}/VERSION."
    )


def version_of_alias(model: str, alias: str) -> str | None:
    """`models:/NAME/VERSION` of the version that has an alias now; None where none has it. Nothing is downloaded.

    Raises InputError when there is no store here, TrackingFailed when the store cannot be read or the server is out of
    reach: then nothing is known about the alias.
    """
    uri = tracking_uri()
    require_store(uri)
    if uri.startswith(SQLITE):
        database = Path(uri.removeprefix(SQLITE))
        try:
            with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as store:
                rows = store.execute(OF_ALIAS, (model, alias)).fetchall()
        except sqlite3.Error as error:
            raise TrackingFailed(f"the MLflow store {database} cannot be read ({error}).") from None
        return f"models:/{model}/{rows[0][0]}" if rows else None
    from fetalflow.registry.tracking import numbered

    try:
        return numbered(f"models:/{model}@{alias}")
    except InputError:
        return None


def _aliases_in_sqlite(database: Path, model: str) -> set[str] | None:
    """None if SQLite does not show it. The caller then asks MLflow, whose error message says what is wrong."""
    try:
        with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as store:
            return {alias for (alias,) in store.execute(ALIASES, (model,))} or None
    except sqlite3.Error:
        return None


def _in_sqlite(database: Path, model_uri: str) -> tuple[str, Path] | None:
    """None if SQLite does not show it. The caller then asks MLflow, whose error message says what is wrong."""
    text = model_uri.removeprefix("models:/")
    name, at, wanted = text.rpartition("@") if "@" in text else text.rpartition("/")
    try:
        with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as store:
            rows = store.execute(OF_ALIAS if at == "@" else OF_VERSION, (name, wanted)).fetchall()
        ((version, location),) = rows  # with MLflow's workspaces, the same name may occur more than once
        folder = Path(url2pathname(urlsplit(location).path))
        flavours = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))["flavors"]
        package = folder / flavours["python_function"]["data"]
    except (sqlite3.Error, OSError, ValueError, TypeError, KeyError, yaml.YAMLError):
        return None
    is_here = urlsplit(location).scheme in ("file", "") and (package / CONFIG).is_file()
    return (f"models:/{name}/{version}", package) if is_here else None
