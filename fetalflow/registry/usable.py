"""Whether a registered version may become champion again: its files are those that were registered, and it was trained
on nobody who was withdrawn since."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from fetalflow.errors import InputError, TrackingFailed
from fetalflow.hospital.arrival.withdrawal import is_withdrawn, read_withdrawn
from fetalflow.registry.candidates import people_of
from fetalflow.registry.client import Registry
from fetalflow.registry.registered_files import PACKAGE_TAG, package_problems
from fetalflow.registry.tracking import download_package
from fetalflow.settings.params import load_settings

PARAMS = "params.yaml"


def withdrawn_here(workspace: Path = Path()) -> pd.DataFrame:
    """Everybody who was withdrawn from a task of this workspace, as `read_withdrawn` gives them; empty where the folder
    has no settings. Raises InputError when a list is damaged."""
    params = workspace / PARAMS
    blocks = load_settings(params).blocks if params.is_file() else {}
    stores = [workspace / block.retrain.store / task for task, block in blocks.items()]
    return pd.concat([read_withdrawn(store) for store in (*stores, workspace / "no store")], ignore_index=True)


def withdrawn_among(people: Iterable[tuple[str, str]], withdrawn: pd.DataFrame) -> int:
    """How many of `people`, (patient, site), were withdrawn, by their permanent names or by those of a hospital."""
    rows = pd.DataFrame(sorted(people), columns=["patient", "site"], dtype=str)
    gone = is_withdrawn(rows, withdrawn) | rows["patient"].isin(withdrawn["patient"])
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
