"""Which fetus the files of a study show, as far as their names and headers say it. A picture alone does not say it:
twins of one size look alike."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fetalflow.errors import InputError

LETTERS = "ABCD"
ONE_BY_ONE = ("1", "2", "3", "4"), ("I", "II", "III", "IV")
SAYS_WHICH = re.compile(
    r"(?<![a-z0-9])(fo?etus|twin|triplet|baby)[\s_.:#-]*([a-d]|[1-4]|i{1,3}|iv)(?![a-z0-9])", re.IGNORECASE
)
SAYS_SEVERAL = re.compile(
    r"(?<![a-z])(twins|twin pregnancy|triplets?|gemini|multiple pregnancy|multiple gestation|(?:di|mono)chorionic)"
    r"(?![a-z])",
    re.IGNORECASE,
)
CANNOT_BE_KNOWN = (
    "Two fetuses of one size cannot be told apart by their pictures: all lengths are taken for those of one fetus."
)
OTHERS_LEFT_OUT = "files of another fetus, or that do not say which,"
MIXED = "the study is of several fetuses, and not every file says which one it shows"


@dataclass(frozen=True)
class Named:
    """which: A to D; empty where it is not said, or more than one is named. several: the words speak of more than one
    fetus."""

    which: str = ""
    several: bool = False


def named_in(file: str, texts: Sequence[str]) -> Named:
    """file: its name in the study. texts: what its header says in words.

    Of a file's name, `fetus 2` may be a counter, so only letters count there, except after twin and triplet.
    """
    found = {letter_of(number) for text in texts for _, number in SAYS_WHICH.findall(text)}
    found |= {
        letter_of(number)
        for what, number in SAYS_WHICH.findall(file)
        if number.upper() in LETTERS or what.casefold() in ("twin", "triplet")
    }
    several = len(found) > 1 or any(SAYS_SEVERAL.search(text) for text in (file, *texts))
    return Named(found.pop() if len(found) == 1 else "", several)


def letter_of(number: str) -> str:
    """A to D, of a letter, a number or a Roman number; another text in capitals."""
    number = number.upper()
    return next((LETTERS[kind.index(number)] for kind in ONE_BY_ONE if number in kind), number)


def of_one_fetus(files: Mapping[str, Named], wanted: str) -> tuple[set[str], list[str], str]:
    """Names of the files to examine, remarks, and why lengths of several files may not be joined to an age ("": they
    may). files: by name. wanted: the fetus that the caller asks for, A to D; empty: the study is of one.

    Raises InputError where the files name several fetuses and `wanted` is empty, or no file names the wanted one.
    """
    fetuses = sorted({each.which for each in files.values()} - {""})
    silent = sorted(name for name, each in files.items() if not each.which)
    if wanted:
        wanted = letter_of(wanted)
        if wanted not in fetuses:
            raise InputError(
                f"no file says that it shows fetus {wanted}; the files name {', '.join(fetuses) or 'no fetus'}. A file "
                "says it by its name or its series description, such as `fetus A`."
            )
        kept = {name for name, each in files.items() if each.which == wanted}
        left = f"{OTHERS_LEFT_OUT} are left out: {_some(set(files) - kept)}"
        return kept, [left] if len(kept) < len(files) else [], ""
    if len(fetuses) > 1:
        examples = [next(name for name, each in files.items() if each.which == fetus) for fetus in fetuses]
        shown = ", ".join(f"{name} shows fetus {fetus}" for name, fetus in zip(examples, fetuses, strict=True))
        raise InputError(
            f"the files are of {len(fetuses)} fetuses, expected one: {shown}. Examine the files of each alone, such as "
            f"by `fetalflow examine --fetus {fetuses[0]}`."
        )
    if silent and (fetuses or any(each.several for each in files.values())):
        return set(files), [f"{MIXED}: {_some(silent)}"], MIXED
    return set(files), [], ""


def _some(names: Sequence[str] | set[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:5]) if len(names) <= 5 else f"{', '.join(names[:5])} and {len(names) - 5} more"
