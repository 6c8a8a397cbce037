"""Judges whether a free text, such as a site or a device, may be kept: a few plain words without a name, a date or a
phone number."""

import re
import unicodedata

SHORT_WORDS = re.compile(r"[^\W_][\w .,'’/+()&-]{0,39}")
_DAY, _YEAR = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:19|20)\d\d"
_MONTHS = (  # in English, German, French, Spanish, Italian and Portuguese, without accents
    "jan january januar janvier enero gennaio janeiro feb february februar fevrier febrero febbraio fevereiro "
    "mar march marz maerz mars marzo marco apr april avril abril aprile may mai mayo maggio maio jun june juni juin "
    "junio giugno junho jul july juli juillet julio luglio julho aug august aout agosto sep sept september septembre "
    "septiembre settembre setembro oct okt october oktober octobre octubre ottobre outubro nov november novembre "
    "noviembre novembro dec dez dic december dezember decembre diciembre dicembre dezembro"
)
_MONTH = f"(?:{'|'.join(_MONTHS.split())})"
NUMBERS = re.compile(  # of a person, a phone, or a date
    "|".join(
        (
            r"\d{5,}",
            r"(?<!\w)\d(?:[ ()./+-]*\d){4,}",  # groups of digits, as in a phone number; E10 2023 is a device
            r"\d(?:[ ()./+-]*\d){6,}",
            rf"(?<!\w){_DAY}[./ -]{_DAY}[./ -](?:\d{{4}}|\d\d)(?!\w)",
            rf"(?<!\w){_YEAR}[./ -]{_DAY}[./ -]{_DAY}(?!\w)",
            rf"(?<!\w){_DAY}[./-]{_YEAR}(?!\w)",
            rf"\d{{1,4}}(?:st|nd|rd|th)?[ .,/-]*(?:of |de )?{_MONTH}(?![^\W\d_])",
            rf"(?<![^\W\d_]){_MONTH}[ .,/-]*(?:de )?\d{{1,4}}",
            r"\d ?[年月日]",
            r"(?<!\w)\d{1,2} ?(?:y|yo|yrs?|years?|jahre?|ans|anos)(?!\w)",  # an age
        )
    )
)
# Words beside which the name, the number or the age of a person is written.
PERSONAL = {"dr", "prof", "mr", "mrs", "frau", "herr", "mme", "mlle", "signora", "patient", "patientin", "pat", "mrn"}
PERSONAL |= {"dob", "born", "geb", "geboren", "nee", "age", "aged", "alter"}
EXPANDED = {"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa", "æ": "ae", "ß": "ss"}
UNSPACED = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff]")  # Chinese, Japanese, Korean: no blanks, short names


def is_harmless(text: str, names: set[str]) -> bool:
    """Whether a text is a few plain words, without a date, a number of five digits or more (also in groups, as in a
    phone number) and without one of the words in `names`."""
    if not SHORT_WORDS.fullmatch(unicodedata.normalize("NFC", text)):
        return False
    text = _plain(text)
    words = {*re.split(r"[\W_]+", text), *re.split(r"[\W\d_]+", text)}
    if words & PERSONAL:
        return False
    hidden = (name for name in names if len(name) > 4 or UNSPACED.search(name))
    return not NUMBERS.search(text) and names.isdisjoint(words) and not any(name in text for name in hidden)


def words_of(*names: str) -> set[str]:
    """The words in a person's names and numbers, for `is_harmless`: two letters, or three letters and digits, or more;
    shorter ones where names are written without blanks. Müller counts as muller and as mueller."""
    spelled = [*map(_plain, names), *(_plain(_expanded(name)) for name in names), *map(_contracted, map(_plain, names))]
    words = {word for name in spelled for word in (*re.split(r"[\W_]+", name), *re.findall(r"\d{4,}", name)) if word}
    return {w for w in words if len(w) > 2 or (len(w) == 2 and w.isalpha()) or UNSPACED.search(w)}


def _expanded(name: str) -> str:
    name = unicodedata.normalize("NFC", name.casefold())
    return "".join(EXPANDED.get(character, character) for character in name)


def _contracted(name: str) -> str:
    return re.sub(r"([aou])e", r"\1", name)


def _plain(text: str) -> str:
    """Lower case without accents, so that Zoë, ZOE and both Unicode forms of Zoë are the same name."""
    return "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
