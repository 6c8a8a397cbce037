"""What a page may call a site, a device, a person and a cine.

Without a key of pseudonyms these are the names of the drop. With a key, no name of a hospital and no path reaches a
page: each name has a stand-in, which is the same in every session of this station.
"""

import os
import re
import secrets
from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property
from pathlib import Path, PurePosixPath

import pandas as pd

from fetalflow.artefacts import write_new
from fetalflow.cine.suffixes import CINES
from fetalflow.hospital.arrival.store_key import read_store_key
from fetalflow.hospital.deidentify.drop import RECORD
from fetalflow.hospital.deidentify.pseudonyms import FILE_VARIABLE, VARIABLE, Key, read_key
from fetalflow.station.place import Place

PSEUDONYM = re.compile(r"[PAOS][0-9a-f]{16}")
SHORTEST = 4  # letters of a part of a path that is replaced wherever it stands
DIGITS = 6  # of a stand-in: two of a hundred sites share one in 3 of 10 000 stations
# Words with a slash, or that end like a file: all that a sentence may say of a path that no table names.
ENDINGS = "|".join(map(re.escape, (*CINES, ".zip", ".csv", ".npz", ".db")))
REST = re.compile(r"\(a (?:folder|path)\)[/\\]\S*?(?=:?(?:\s|$))")  # of a path whose folder was replaced
PATH = re.compile(rf"(?<!\S)(?!docs/|frames/s|mm/px)\S*[/\\]\S*|\S+(?:{ENDINGS})\b", re.IGNORECASE)


def has_key(place: Place) -> bool:
    """Whether a key of pseudonyms is set: in the environment, in the record of a store of the workspace that takes
    deliveries, or in a drop that was de-identified before."""
    if any(os.environ.get(name, "").strip() for name in (VARIABLE, FILE_VARIABLE)):
        return True
    for task, block in place.settings.blocks.items():
        drops = [place.workspace / place.settings.tasks[task].drop, *([place.drop] if place.drop else [])]
        if read_store_key(place.workspace / block.retrain.store / task) or any((d / RECORD).is_file() for d in drops):
            return True
    return False


class ShownNames:
    """secret: None where names are shown as they are; else stand-ins follow from it, so that nobody can find a name by
    trying those of all hospitals. labels: those that the tasks know; another one may be anything."""

    def __init__(self, secret: Key | None, labels: Iterable[str] = ()) -> None:
        self.secret = secret
        self.labels = set(labels)
        self._known: dict[str, str] = {}  # of free text: what is replaced, and by what

    @property
    def hidden(self) -> bool:
        return self.secret is not None

    def place(self, kind: str, name: str) -> str:
        """A site, a device or a label: `site 3f2a9c`."""
        if not self.hidden or not name or (kind == "label" and name in self.labels):
            return name
        return f"{kind} {self.secret.digest(kind, name)[:DIGITS].hex()[:DIGITS]}"

    def person(self, kind: str, name: str) -> str:
        """A patient or an annotator. Pseudonyms stay; `SITE/PSEUDONYM`, as a second site's patient is called, too, but
        for the site."""
        if not self.hidden or not name or PSEUDONYM.fullmatch(name):
            return name
        site, slash, last = name.rpartition("/")
        if slash and PSEUDONYM.fullmatch(last):
            return f"{self.place('site', site)}/{last}"
        return self.secret.pseudonym(kind, name)

    def people(self, kind: str, names: str) -> str:
        """Several names, separated by `;`."""
        return ";".join(self.person(kind, name) for name in names.split(";")) if self.hidden else names

    def cine(self, path: str, source: str) -> str:
        """A short name of a cine: the stem of its file, or the first 12 digits of its SHA-256."""
        if self.hidden or not path:
            return source[:12]
        file = PurePosixPath(path)  # `1.2.840.1` has no ending
        return file.stem if file.suffix.lower() in CINES else file.name

    def remember(self, texts: Iterable[str], shown: str) -> None:
        """Replace these texts in every sentence of `sentence`. One letter is no name, and a word of many sentences."""
        self._known |= {text: shown for text in texts if len(text) > 1 and text not in self.labels}
        self.__dict__.pop("_pattern", None)

    def remember_path(self, path: str) -> None:
        """A path, its folders and its file; a short part may be a word or a number of any sentence."""
        parts = {part for name in PurePosixPath(path).parts for part in (name, PurePosixPath(name).stem)}
        self.remember((path, *(part for part in parts if len(part) >= SHORTEST)), "(a path)")

    def remember_rows(self, rows: pd.DataFrame) -> None:
        """All names that the rows of a drop, of its sequences or of its quarantine have."""
        for column in ("video", "mask"):
            for path in rows[column].unique() if column in rows else ():
                self.remember_path(path)
        for column, kind in (("patient", "patient"), ("annotator", "annotator"), ("annotators", "annotator")):
            for joined in rows[column].unique() if column in rows else ():
                for name in joined.split(";"):
                    if self.person(kind, name) != name:
                        self.remember([name], self.person(kind, name))
        for kind in ("site", "device", "label"):
            for name in rows[kind].unique() if kind in rows else ():
                self.remember([name], self.place(kind, name))

    @cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        known = sorted(self._known, key=len, reverse=True)
        return re.compile("|".join(rf"(?<!\w){re.escape(k)}(?!\w)" for k in known), re.IGNORECASE) if known else None

    def sentence(self, text: str) -> str:
        """A sentence of a person or of the library, without names and paths where they are hidden."""
        if not self.hidden or not text:
            return text
        if self._pattern is not None:
            folded = {name.casefold(): shown for name, shown in self._known.items()}
            text = self._pattern.sub(lambda found: folded.get(found[0].casefold(), "(a name)"), text)
            text = re.sub(
                r"\(a (?:folder|path)\)[/\\]\S*?(?=:?(?:\s|$))", "(a path)", text
            )  # with the rest of the path
        return without_paths(text)


def without_paths(text: str) -> str:
    """A sentence without anything that looks like a path."""
    return PATH.sub("(a path)", text)


def names_of(place: Place) -> ShownNames:
    """The names of a station. Raises InputError when a key is set and wrong."""
    if not has_key(place):
        return ShownNames(None)
    labels = {label for block in place.settings.blocks.values() for label in block.extract.labels or ()}
    is_set = any(os.environ.get(name, "").strip() for name in (VARIABLE, FILE_VARIABLE))
    return ShownNames(read_key() if is_set else _own_secret(place.folder / "names.secret"), labels)


def _own_secret(path: Path) -> Key:
    """A secret of this station for stand-ins: the key of the hospital is elsewhere, and here is only its name."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):  # another process made it just now
            write_new(path, secrets.token_bytes(32))
    return Key(path.read_bytes())
