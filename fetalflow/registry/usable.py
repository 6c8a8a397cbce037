"""Whether a registered version may become champion again: its files are those that were registered, and it was trained
on nobody who was withdrawn since."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pandas as pd

from fetalflow.errors import InputError, TrackingFailed
from fetalflow.hospital.arrival.withdrawal import is_withdrawn, read_withdrawn
from fetalflow.registry.candidates import people_of
from fetalflow.registry.client import Registry
from fetalflow.registry.registered_files import PACKAGE_TAG, package_problems
from fetalflow.registry.tracking import download_package, registry
from fetalflow.settings.params import load_settings

PARAMS = "params.yaml"
ERASED = "erased-"  # begins the name that an erased patient has in the tables of the runs that used her


def withdrawn_here(workspace: Path = Path()) -> pd.DataFrame:
    """Everybody who was withdrawn from a task of this workspace, or from one of the workspaces beside it, as
    `read_withdrawn` gives them; empty where the folder has no settings. Raises InputError when a list is damaged.

    A workspace of one drop has no list. Of the workspaces beside it only those count of whom the site is known: by a
    bare pseudonym another hospital may mean somebody else. `patient` is empty then.
    """
    if not (workspace / PARAMS).is_file():
        return read_withdrawn(workspace / "no store")
    lists = [read_withdrawn(store) for store in (*_stores(workspace), workspace / "no store")]
    for file in sorted(workspace.resolve().parent.glob(f"*/{PARAMS}")):
        with suppress(InputError):  # it is not known where another workspace without settings has its lists
            for store in _stores(file.parent) if file.parent != workspace.resolve() else ():
                other = read_withdrawn(store)
                known = (other["site"] != "") | other["pseudonym"].str.startswith(ERASED)
                lists.append(other[known].assign(patient=""))
    return pd.concat(lists, ignore_index=True)


def _stores(workspace: Path) -> list[Path]:
    return [workspace / of.retrain.store / task for task, of in load_settings(workspace / PARAMS).blocks.items()]


def withdrawn_among(people: Iterable[tuple[str, str]], withdrawn: pd.DataFrame) -> int:
    """How many of `people`, (patient, site), were withdrawn, by their permanent names or by those of a hospital."""
    rows = pd.DataFrame(sorted(people), columns=["patient", "site"], dtype=str)
    gone = is_withdrawn(rows, withdrawn) | rows["patient"].isin(set(withdrawn["patient"]) - {""})
    return int(rows.loc[gone, "patient"].nunique())


def require_usable(store: Registry, model: str, version: str, others: Iterable[str] = ()) -> None:
    """Raises InputError when a version cannot or must not be used; the message says why, and which of `others` can be.

    The current folder is the workspace whose withdrawn patients count.
    """
    withdrawn = withdrawn_here()
    if not (reason := _reason(store, model, version, withdrawn)):
        return
    usable = [one for one in others if one != version and not _reason(store, model, one, withdrawn)]
    instead = f"These can be used: {', '.join(usable)}; `fetalflow rollback --to`." if usable else "Train a new model."
    raise InputError(f"version {version} of {model} {reason}. No alias was moved. {instead}")


def require_nobody_withdrawn(model: str, version: str, workspace: Path = Path()) -> None:
    """Raises InputError when a version was trained on a patient who was withdrawn from the workspace by now."""
    withdrawn = withdrawn_here(workspace)
    with registry() as store:
        if reason := _withdrawal(store, model, version, withdrawn):
            raise InputError(f"version {version} of {model} {reason}. No alias was moved. Train a new model.")


def require_files(store: Registry, model: str, version: str) -> None:
    """Raises InputError when the files of a version are gone, or are not those that were registered."""
    if problems := file_problems(store, model, version):
        raise InputError(f"version {version} of {model} {_in_words(problems)}. No alias was moved.")


def _reason(store: Registry, model: str, version: str, withdrawn: pd.DataFrame) -> str:
    """Why a version is refused; empty if it is not."""
    try:
        if problems := file_problems(store, model, version):
            return _in_words(problems)
    except InputError:
        return "is not in the registry any more"
    return _withdrawal(store, model, version, withdrawn)


def _withdrawal(store: Registry, model: str, version: str, withdrawn: pd.DataFrame) -> str:
    """Why a version must not be used because of those who were withdrawn; empty if it may be."""
    if withdrawn.empty:
        return ""
    run = store.client.get_run(store.client.get_model_version(model, version).run_id)
    people = people_of(store, run.data.tags.get("mlflow.parentRunId", run.info.run_id))
    if people is None:
        return "must not be used: patients were withdrawn, and its runs do not record whom it was trained on"
    count = withdrawn_among(people, withdrawn)
    return f"must not be used: {count} of the patients that it was trained on were withdrawn since" if count else ""


def _in_words(problems: list[str]) -> str:
    return f"cannot be used: {'; '.join(problems)}. Restore its files from a backup of the artefact store"


def file_problems(store: Registry, model: str, version: str) -> list[str]:
    """Why the files of a version are not those that were registered; empty if they are. Raises InputError when there is
    no such version."""
    store.require_version(model, version)
    recorded = store.client.get_model_version(model, version).tags.get(PACKAGE_TAG)
    try:
        package = download_package(f"models:/{model}/{version}")
    except (InputError, TrackingFailed, OSError) as error:  # the registry answers, so the files are missing
        return [f"its files cannot be fetched ({str(error).rstrip('.')})"]
    return package_problems(package, recorded)
