"""The stores of the workspaces that take drops: where a patient may be."""

import os
import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fetalflow.errors import InputError
from fetalflow.hospital.arrival.find_patient import NotThere, find_patient
from fetalflow.hospital.arrival.patient_sides import read_sides
from fetalflow.hospital.arrival.permanent_names import ANY
from fetalflow.hospital.arrival.store_key import read_store_key
from fetalflow.hospital.deidentify.pseudonyms import FILE_VARIABLE, VARIABLE, Key, read_key
from fetalflow.hospital.drop.spelling import near, tidy
from fetalflow.settings.params import Split, load_settings
from flows.checkout import CHECKOUT

Pairs = set[tuple[str, str]]  # (site, pseudonym)


@dataclass(frozen=True)
class Store:
    workspace: Path
    task: str
    path: Path
    split: Split
    inbox: str

    def __str__(self) -> str:
        return f"{self.task} in {self.workspace}"


@dataclass(frozen=True)
class Found:
    """A patient in one store: the word and site by which she was found, her name there, and each site and pseudonym by
    which a delivery may name her."""

    store: Store
    word: str
    site: str | None
    name: str
    pairs: Pairs


def stores(workspace: Path | None = None) -> list[Store]:
    """The stores of a workspace, or of all in `workspaces/`; there, one that cannot be read is named on standard error.

    Raises InputError if `workspace` cannot be read.
    """
    files = [workspace / "params.yaml"] if workspace else sorted((CHECKOUT / "workspaces").glob("*/params.yaml"))
    found = []
    for file in files:
        try:
            settings = load_settings(file)
        except InputError as error:
            if workspace is not None:
                raise
            print(f"{file.parent} is left out: {error}", file=sys.stderr)
            continue
        for task, block in settings.blocks.items():
            if (place := file.parent / block.retrain.store / task).is_dir():
                found.append(Store(file.parent, task, place, block.split, block.retrain.inbox or ""))
    return found


def beside(workspace: Path) -> list[Store]:
    """The stores of a workspace and of those beside it; one whose settings cannot be read is left out."""
    found = []
    for file in sorted(workspace.resolve().parent.glob("*/params.yaml")):
        with suppress(InputError):
            found += stores(file.parent)
    return found


def configured_key(file: Path | None = None) -> Key | None:
    """The key from a file or the environment; None if none is configured. Raises InputError for a wrong one."""
    is_there = file is not None or any(os.environ.get(name, "").strip() for name in (VARIABLE, FILE_VARIABLE))
    return read_key(file) if is_there else None


def refuse_foreign_key(key: Key, chosen: Iterable[Store]) -> None:
    """Raises InputError if stores have records of their keys and `key` is none of them: it would find nobody."""
    known = {name for store in chosen if (name := read_store_key(store.path))}
    if known and key.name not in known:
        raise InputError(
            f"the key that was given is {key.name}, and the drops here were de-identified with "
            f"{', '.join(sorted(known))}. With another key nobody is found. Give the right key: --key-file, or "
            f"{FILE_VARIABLE}."
        )


def spellings(identifier: str) -> list[str]:
    """The hospital's identifier, tidied as in a drop, then other ways to write it: case, blanks, signs, zeros."""
    usual = tidy(identifier)
    plain = [usual, re.sub(r"[\W_]+", "", usual), re.sub(r"(?<!\d)0+(?=\d)", "", usual)]
    plain.append(re.sub(r"[\W_]+", "", plain[-1]))
    return list(dict.fromkeys(way for text in plain for way in (text, text.upper(), text.lower(), text.title()) if way))


def pseudonyms_there(store: Store, identifier: str, key: Key) -> list[str]:
    """The pseudonyms of all spellings of an identifier that the store has ever had, the usual one first."""
    known = set(read_sides(store.path)["pseudonym"])
    return [name for way in spellings(identifier) if (name := key.pseudonym("patient", way)) in known]


def find_in(chosen: Iterable[Store], patient: str, site: str | None, key: Key | None) -> list[Found]:
    """Where a patient is. patient: her name, her pseudonym, or with a key the hospital's identifier.

    Raises InputError if she is nowhere, or if patients of several sites have this name and `site` is not given.
    """
    chosen, found = list(chosen), []
    for store in chosen:
        names = [patient]
        if key is not None and read_store_key(store.path) in (None, key.name):
            names += pseudonyms_there(store, patient, key)
        for name in dict.fromkeys(names):
            try:
                found.append(Found(store, name, site, *find_patient(store.path, name, site)))
                break
            except NotThere:
                continue
    if not found:
        places = "; ".join(map(str, chosen))
        with_key = (
            f"The key {key.name} is configured, so an identifier of the hospital was looked for, too."
            if key
            else f"For an identifier of the hospital configure the key ({FILE_VARIABLE})."
        )
        raise NotThere(
            f"nothing of this patient{'' if site is None else f' at {site!r}'} is in the stores of {places}. Give the "
            f"pseudonym as the manifest has it. {with_key}"
        )
    _refuse_several(found)
    return found


def _refuse_several(found: list[Found]) -> None:
    """One name at two sites is two women; a name of which no store knows the site may be either."""
    sites = [{near(site): site for site, _ in each.pairs if site not in ("", ANY)} for each in found]
    known = [each for each in sites if each]
    if any(not set(first) & set(second) for first in known for second in known):
        listed = "; ".join(
            f"{each.store}: {each.name} of {', '.join(sorted(of.values())) or 'a site that is not known'}"
            for each, of in zip(found, sites, strict=True)
        )
        raise InputError(f"several patients have this name: {listed}. Say of which site she is: --site SITE.")
