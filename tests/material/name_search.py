"""Search for the names of `named_deliveries` in every form that a byte of a file may give them."""

import base64
import hashlib
import json
import unicodedata
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
from canary import CANARY, contents
from processes import ROOT

SECOND = "Zäpfelmann-Öhr"  # what plain ASCII does not show: Latin-1, decomposed letters, JSON's escapes
SECRET = bytes(range(7, 71)).hex()  # the key of the pseudonyms
WORDS = (CANARY, SECOND, SECRET)


def forms(word: str) -> set[bytes]:
    """The bytes by which a word may stand in a file, lower case where letters have a case."""
    found = set()
    for text in (word, word.lower(), word.upper()):
        for code in ("utf-8", "latin-1", "utf-16-le", "utf-16-be"):
            found.add(text.encode(code).lower())
        for plain in (unicodedata.normalize("NFD", text), quote(text), quote(text, safe=""), json.dumps(text)[1:-1]):
            found.add(plain.encode().lower())
        found |= {text.encode(code).hex().encode() for code in ("utf-8", "latin-1")}
    return found


def base64_forms(word: str) -> set[bytes]:
    """What of a word's base64 does not depend on its neighbours, for each of the three places it can begin at."""
    found = set()
    for raw in {text.encode(code) for text in (word, word.lower()) for code in ("utf-8", "latin-1")}:
        for offset in range(3):
            whole = base64.b64encode(bytes(offset) + raw)
            found.add(whole[-(-offset * 8 // 6) : (offset + len(raw)) * 8 // 6])
    return found


FORMS = {form for word in WORDS for form in forms(word)}
BASE64 = {form for word in WORDS for form in base64_forms(word)}


def named_in(data: bytes) -> list[bytes]:
    """The forms of a word that stand in bytes, or in what is compressed in them."""
    parts = contents(data)
    if data[:4] == b"PAR1":
        table = pq.read_table(pa.BufferReader(data))
        parts.append((table.to_pandas().to_csv() + str(table.schema.metadata)).encode())
    found = [form for part in map(bytes.lower, parts) for form in FORMS if form in part]
    return found + [form for part in parts for form in BASE64 if form in part]


def searched(*folders: Path) -> int:
    """How many different files of the folders were searched; fails at the first that names somebody."""
    seen = set()
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            assert not named_in(path.relative_to(folder).as_posix().encode()), path
            if path.is_file() and not path.is_relative_to(ROOT):
                data = path.read_bytes()
                if (digest := hashlib.sha256(data).digest()) not in seen:
                    seen.add(digest)
                    assert not named_in(data), (path, named_in(data)[0])
    return len(seen)
