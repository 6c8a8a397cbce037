"""One name in several spellings: what is certainly the same text is made the same, and what looks alike is found."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Hashable, Iterable
from functools import lru_cache

from fetalflow.hospital.drop.table import INVISIBLE

# Cyrillic and Greek capitals and small letters that look like a Latin letter.
LOOK_ALIKE = str.maketrans("АВЕКМНОРСТУХІЈЅаеорсухіјѕΑΒΕΖΗΙΚΜΝΟΡΤΥΧο", "ABEKMHOPCTYXIJSaeopcyxijsABEZHIKMNOPTYXo")
UNSEEN = {ord(character): None for character in INVISIBLE}


def tidy(text: str) -> str:
    """The text in Unicode's form NFC, without characters that nobody sees, every run of blanks as one blank."""
    if text.isascii() and text.isprintable() and "  " not in text:
        return text.strip()
    text = "".join(c for c in text.translate(UNSEEN) if unicodedata.category(c) != "Cf")
    return " ".join(unicodedata.normalize("NFC", text).split())


def plain_number(text: str) -> str:
    """The text, tidy, with a decimal point where a number has a comma: 0,21 as 0.21."""
    text = tidy(text)
    return text.replace(",", ".") if re.fullmatch(r"[+-]?\d*,\d+", text, re.ASCII) else text


def whole(text: str) -> str:
    """The text, tidy, without the decimals that programs add to a whole number: 3.0 as 3."""
    text = tidy(text)
    return found[1] if (found := re.fullmatch(r"(\d+)[.,]0+", text, re.ASCII)) else text


@lru_cache(maxsize=1 << 17)
def near(name: str) -> Hashable:
    """Equal for two names that a person may have meant to be one: P001, p001, P-001, P 1 and 001.0, 1.

    Letters count without case and accents, numbers without leading zeros, and everything between them does not count.
    """
    text = name.casefold()
    if not name.isascii():
        text = unicodedata.normalize("NFKD", name).translate(LOOK_ALIKE).casefold()
        text = "".join(str(unicodedata.digit(c, c)) for c in text if unicodedata.category(c) != "Mn")
    text = re.sub(r"^(\d+)[.,]0+$", r"\1", text.strip())
    text = re.sub(r"(?<=[^\W\d_])[\W_]+(?=[^\W\d_])", "", text)
    parts = re.findall(r"\d+|[^\W\d_]+", text)
    return tuple(part.lstrip("0") or "0" if part.isdecimal() else part for part in parts) or text


def same_label(label: str) -> str:
    """Equal for two spellings of one label: without case, blanks and underscores alike. Signs such as - count."""
    return re.sub(r"[\s_]+", " ", unicodedata.normalize("NFKC", label)).strip().casefold()


def groups(names: Iterable[str]) -> list[list[str]]:
    """The names that are near to another one, in groups, sorted; the first of a group has most digits and letters."""
    found: dict[Hashable, set[str]] = defaultdict(set)
    for name in names:
        found[near(name)].add(name)
    return sorted(sorted(group, key=lambda name: (-len(name), name)) for group in found.values() if len(group) > 1)
