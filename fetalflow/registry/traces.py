"""What files hold of one patient, and how they are rid of it.

Cines and sequences are named by the SHA-256 of the cine, so that digest finds her whatever her name is in a file. Rows
of tables are found by her name and site, too. A text, or a picture that may show her, is removed as a whole.
"""

import html
import io
import json
import re
import unicodedata
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import pandas as pd
import yaml

from fetalflow.artefacts import named, write_table
from fetalflow.hospital.drop.spelling import near
from fetalflow.registry.candidates import SPLIT
from fetalflow.registry.lineage import PATIENTS

SHORT = 12  # digits of the SHA-256 of a cine that the name of a sequence begins with
SIGNS = 4  # a shorter name is searched in tables only, because in a text it may be any number
PICTURES = ("explain", "preview", "previews")  # folders whose pictures show patients side by side
IMAGES = (".png", ".jpg", ".gif", ".mp4")
PAGE = "report.html"  # the page contains these pictures
KEPT, REWRITTEN, REMOVED = "kept", "rewritten", "removed"


@dataclass(frozen=True)
class Traces:
    """names: her name in tables, and each pseudonym. sites: those of her recordings, in their plain form; empty: any.
    sources: SHA-256 of each of her cines, hex. instead: the name that tables of the runs' patients get for hers, so
    that a model that saw her is still known to have seen a patient who is gone."""

    names: frozenset[str]
    sites: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()
    instead: str = ""

    def with_sources(self, sources: Iterable[str]) -> "Traces":
        return replace(self, sources=self.sources | {source for source in sources if source})

    def rows(self, table: pd.DataFrame) -> pd.Series:
        """Whether each row of a table is hers: by patient and site, by sequence, or by the digest of the cine."""
        found = self.by_name(table)
        shorts = {source[:SHORT] for source in self.sources}
        if "sequence" in table:
            found |= table["sequence"].astype(str).str[:SHORT].isin(shorts)
        for column in ("source", "video", "mask"):
            if column in table:
                stems = table[column].astype(str).map(lambda path: PurePosixPath(path).stem)
                found |= stems.isin(self.sources)
        return found

    def by_name(self, table: pd.DataFrame) -> pd.Series:
        """Whether each row names her, at one of her sites or at none."""
        if "patient" not in table:
            return pd.Series(False, index=table.index)
        sites = named(table["site"]) if "site" in table else pd.Series("", index=table.index)
        patients = table["patient"].astype(str)
        whole = patients.where(sites == "", sites + "/" + patients)
        meant = patients.isin(self.names) | whole.isin(self.names)
        return meant & (sites.map(near).isin({*self.sites, near("")}) if self.sites else True)

    def in_name(self, path: str) -> bool:
        """Whether the path of a file names one of her cines or sequences."""
        return any(source[:SHORT] in path for source in self.sources)

    def in_bytes(self, data: bytes) -> bool:
        """Whether a file holds her: rows of a table, a word of a text, a name in a zip. Pixels are not looked at."""
        if data[:4] == b"PAR1":
            return bool(self.rows(pd.read_parquet(io.BytesIO(data))).any())
        if data[:2] == b"PK":
            try:
                with zipfile.ZipFile(io.BytesIO(data)) as packed:
                    return any(self.in_name(name) for name in packed.namelist())
            except zipfile.BadZipFile:
                return False
        if b"\0" in data[:4096]:  # neither a table nor a text
            return False
        if (table := _table(data)) is not None:
            return bool(self.rows(table).any())
        return bool(_words(self.names, self.sources).search(data))

    def rid(self, path: Path, name: str, shown: bool, dry: bool = False) -> str:
        """Rid a file of her; returns KEPT, REWRITTEN or REMOVED. name: its path in its folder, with `/`. shown: she may
        be in pictures that do not name her. dry: change nothing. The table of a run's patients keeps a row for her
        under the name `instead`."""
        parts = PurePosixPath(name).parts
        shown &= parts[-1] == PAGE or (len(parts) > 1 and parts[-2] in PICTURES and path.suffix in IMAGES)
        if self.in_name(name) or shown:
            return _done(REMOVED, dry, path.unlink)
        if path.suffix == ".parquet" or path.suffix == ".csv":
            return self._rid_table(path, name, dry)
        if self.in_bytes(path.read_bytes()):
            return _done(REMOVED, dry, path.unlink)
        return KEPT

    def _rid_table(self, path: Path, name: str, dry: bool) -> str:
        data = path.read_bytes()
        table = pd.read_parquet(io.BytesIO(data)) if data[:4] == b"PAR1" else _table(data)
        if table is None:
            return _done(REMOVED, dry, path.unlink) if self.in_bytes(data) else KEPT
        hers = self.rows(table)
        if not hers.any():
            return KEPT
        if self.instead and name == PATIENTS:
            table = table.assign(patient=table["patient"].where(~hers, self.instead))
            table = table.assign(site=table["site"].where(~hers, "")) if "site" in table else table
        elif self.instead and name == SPLIT and "patient" in table:
            # A run without a table of patients says by its split whom it was trained on.
            numbers = pd.Series(range(len(table)), table.index).map("{:06d}".format)
            table = table.assign(
                patient=table["patient"].where(~hers, self.instead),
                sequence=table["sequence"].where(~hers, f"{self.instead}-" + numbers),
            )
        else:
            table = table[~hers]
        return _done(REWRITTEN, dry, lambda: write_table(path, table))


@lru_cache(maxsize=2)
def _words(names: frozenset[str], sources: frozenset[str]) -> re.Pattern[bytes]:
    """What names a patient or a cine of hers in a text."""
    shorts = [source[:SHORT].encode() for source in sorted(sources)]
    written = sorted({way for name in names if len(name) >= SIGNS for way in _written(name)})
    bounded = [rb"(?<![0-9A-Za-z])" + re.escape(name.encode()) + rb"(?![0-9A-Za-z])" for name in written]
    return re.compile(b"|".join([*shorts, *bounded]) or rb"(?!)")


def _written(name: str) -> set[str]:
    """A name as it is in a text: as it is, and as JSON, YAML, HTML and a URL write an umlaut, a quote or a blank."""
    forms = {unicodedata.normalize(form, name) for form in ("NFC", "NFD")} | {name}
    found = set(forms)
    for each in forms:
        markup = html.escape(each)
        found |= {json.dumps(each)[1:-1], yaml.safe_dump(each, width=10**6).split("\n")[0].strip("\"'"), quote(each)}
        found |= {markup, markup.replace("&#x27;", "&#39;").replace("&quot;", "&#34;")}
    return found


def cines_of(tables: Iterable[pd.DataFrame], hers: Traces) -> set[str]:
    """The SHA-256 of the cines that rows of her name, without those that a row of somebody else names, too."""
    mine, others = set(), set()
    for table in tables:
        if "patient" not in table:
            continue
        named_her, somebody = hers.by_name(table), table["patient"].astype(str) != ""
        for column in (name for name in ("source", "video", "mask") if name in table):
            stems = table[column].astype(str).map(lambda path: PurePosixPath(path).stem)
            digests = stems.where(stems.str.fullmatch(r"[0-9a-f]{64}"), "")
            mine |= set(digests[named_her])
            others |= set(digests[~named_her & somebody])
    return mine - others - {""}


def listed(data: bytes) -> list[dict[str, str]] | None:
    """The files of a folder as DVC's cache lists them (`relpath`, `md5`); None if these bytes are no such list."""
    try:
        entries = json.loads(data)
        return entries if isinstance(entries, list) and all({"md5", "relpath"} <= set(e) for e in entries) else None
    except (ValueError, TypeError):
        return None


def objects_of(objects: Callable[[], Iterator[tuple[str, Callable[[], bytes]]]], hers: Traces) -> tuple[set[str], int]:
    """The ids of the objects of a cache of DVC that hold her, and the number of objects that were read.

    objects: gives the id (MD5, of a folder with `.dir`) and the bytes of each object. A folder that names a file of
    hers goes with that file; all pictures of a folder of explanations go if one of its files holds her.
    """
    found, folders, read = set(), {}, 0
    for oid, content in objects():
        read += 1
        data = content()
        if oid.endswith(".dir"):
            folders[oid] = listed(data) or []
        elif hers.in_bytes(data):
            found.add(oid)
    for oid, entries in folders.items():
        mine = {e["md5"] for e in entries if hers.in_name(e["relpath"]) or e["md5"] in found}
        pictures = {e["md5"] for e in entries if e["relpath"].endswith(".png")}
        if mine:
            found |= {oid} | mine | (pictures if _explains(entries) else set())
    return found, read


def _explains(entries: list[dict[str, str]]) -> bool:
    return any(entry["relpath"] in ("explain.json", "overview.png") for entry in entries)


def _table(data: bytes) -> pd.DataFrame | None:
    """A CSV with columns by which a patient can be found; None for another text."""
    head = data.partition(b"\n")[0].decode("utf-8", "replace").strip().split(",")
    if not {"patient", "sequence", "source", "video"} & set(head):
        return None
    try:
        return pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False)
    except (ValueError, pd.errors.ParserError):
        return None


def _done(what: str, dry: bool, act: Callable[[], object]) -> str:
    if not dry:
        act()
    return what
