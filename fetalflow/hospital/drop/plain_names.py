"""File names as people and systems write them: one plain form, and which of them mean the same file.

A name may come decomposed from macOS (`u` and a mark for `ü`), with `\\` from Windows, in bytes that are no UTF-8 from
an old archive, or in another case in the table than on the disk.
"""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import PurePosixPath

# Files that macOS, Windows, network disks and DICOM media add. Names that begin with a dot are hidden and count as
# such, too.
ADDED = {"__macosx", "dicomdir", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "$recycle.bin", "@eadir"}
SIMILAR = 0.8  # difflib's ratio from which a name is named as a near one
# In which a name that is no UTF-8 may be written: by DOS, Windows and old Macs, in Europe and in Asia.
ENCODINGS = (
    *("cp437", "latin-1", "cp850", "cp1252", "mac_roman", "cp1250", "cp852", "cp1251", "cp866", "cp1253", "cp1254"),
    *("shift_jis", "gb18030", "big5", "euc_kr"),
)
SEARCHES = 10  # near names that are looked for in one drop: each search goes through all names


def decoded(raw: bytes) -> str:
    """The text of a file name of which only the bytes are known: UTF-8, or else whichever of DOS (cp437) and Latin-1
    gives more letters. In the wrong one of the two, letters become signs."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return max(raw.decode("cp437"), raw.decode("latin-1"), key=_letters)


def spellings(raw: bytes) -> tuple[str, ...]:
    """What the bytes of a path may mean in old encodings, in its plain form; nothing where they are UTF-8."""
    try:
        raw.decode("utf-8")
        return ()
    except UnicodeDecodeError:
        texts = (raw.decode(encoding, "replace") for encoding in ENCODINGS)
        return tuple(dict.fromkeys(plain(text) for text in texts if "\ufffd" not in text))


def _letters(text: str) -> int:
    names = (unicodedata.name(c, "") for c in text if not c.isascii())
    return sum(name.startswith("LATIN") for name in names)


def plain(name: str) -> str:
    """A path with `/`, composed (NFC) and without the marks by which Python carries bytes that are no UTF-8."""
    if name.isascii():
        return name.replace("\\", "/")
    if any("\ud800" <= c <= "\udfff" for c in name):
        name = decoded(os.fsencode(name))
    return unicodedata.normalize("NFC", name.replace("\\", "/"))


def is_added(name: str) -> bool:
    """Whether a path is hidden, or one that a system adds by itself."""
    return any(part.startswith(".") or part.casefold() in ADDED for part in plain(name).split("/"))


def alike(text: str) -> str:
    """What two spellings of one word share: case, kinds and number of blanks and invisible characters do not count."""
    if text.isascii() and text.isprintable():
        return " ".join(text.split()).casefold()
    shown = "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf")
    return unicodedata.normalize("NFC", " ".join(shown.split()).casefold())


class Names:
    """The files of a drop, to look up what a table writes. names: paths in their plain form; others: what else the
    bytes of a name may mean (`spellings`)."""

    def __init__(self, names: Iterable[str], others: Mapping[str, Iterable[str]] | None = None) -> None:
        self.names = set(names)
        self._alike: dict[str, list[str]] = defaultdict(list)
        self._last: dict[str, list[str]] = defaultdict(list)
        for name in sorted(self.names):
            self._alike[_path_alike(name)].append(name)
            self._last[_stem(name)].append(name)
        for name, spelled in (others or {}).items():
            for key in {_path_alike(other) for other in spelled} - {_path_alike(name)}:
                self._alike[key] += [name] if name in self.names else []
        self._searches = SEARCHES

    def find(self, text: str) -> str | None:
        """The file that `text` means: by its exact name, else the only one that is spelled alike."""
        if text in self.names:
            return text
        tidy = "/".join(part for part in plain(text).split("/") if part not in ("", "."))
        if tidy in self.names:
            return tidy
        found = self._alike.get(_path_alike(tidy), [])
        return found[0] if len(found) == 1 else None

    def near(self, text: str) -> str:
        """A sentence on the files whose names come near `text`, which `find` does not find, or ""."""
        key = _path_alike(plain(text))
        if several := self._alike.get(key):
            return f"{_listed(several)} are spelled alike, and it is not known which is meant: rename one"
        if elsewhere := self._last.get(_stem(text)):
            return f"the name comes near {_listed(elsewhere)}: correct the path or the file's name"
        if self._searches and len(self._alike) <= 20_000:
            self._searches -= 1
            if close := get_close_matches(key, self._alike, n=1, cutoff=SIMILAR):
                return f"the name comes near {self._alike[close[0]][0]}: correct the path or the file's name"
        return ""


def _path_alike(name: str) -> str:
    return "/".join(alike(part) for part in name.split("/") if part not in ("", "."))


def _stem(name: str) -> str:
    return alike(PurePosixPath(plain(name)).stem)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
