"""What speaks against a figure, as sentences without the names of files: a file name may hold the name of a woman."""

import re
from collections.abc import Iterable

from fetalflow.study.fetuses import OTHERS_LEFT_OUT
from fetalflow.study.result import StudyResult

SHORT = 4  # characters; a shorter file name may also be a word or a number of the sentence
WORDS = {"head", "abdomen", "femur", "image", "study", "weeks", "planes", "model", "data", "frame", "frames"}
PLACE = re.compile(r"(^|[\s'\"(])[~.]{0,2}[/\\][\w.]|\b[A-Za-z]:\\")  # a path of this machine
# How a remark begins that lists files which are not of the result.
NAMES_OTHER_FILES = ("not an image", OTHERS_LEFT_OUT)


def without_names(text: str, result: StudyResult) -> str:
    """`text` with `image UID` in the place of each file name of the study."""
    images = _images(result)
    names = sorted(map(re.escape, images), key=len, reverse=True)
    anywhere = "|".join(name for name in names if not _may_be_a_word(name))
    first = "|".join(names)  # before a colon it is a file, also where it could be a word
    pattern = rf"(?<![\w.])(?:{anywhere or '(?!)'})(?!\w|\.\w)|(?:^|(?<=; ))(?:{first or '(?!)'})(?=: )"
    return re.sub(pattern, lambda found: images[found[0]], text)


def _may_be_a_word(name: str) -> bool:
    return name in WORDS or len(name) < SHORT and "." not in name


def of_study(result: StudyResult) -> list[str]:
    """The warnings of the whole study that can be said without the name of a file that is not part of it."""
    kept = []
    for text in result.warnings:
        head, colon, rest = text.partition(": ")
        names = head.split(", ") if colon else []
        if names and all(name in _images(result) for name in names):
            kept.append(f"{', '.join(_images(result)[name] for name in names)}: {rest}")
        elif without_names(text, result) == text and not text.startswith(NAMES_OTHER_FILES) and not PLACE.search(text):
            kept.append(text)
    return kept


def clean(texts: Iterable[str], result: StudyResult) -> list[str]:
    """Each sentence once, without the names of files."""
    return list(dict.fromkeys(without_names(text, result) for text in texts))


def _images(result: StudyResult) -> dict[str, str]:
    images = {each.name: f"image {each.sop_instance_uid or each.sha256[:12]}" for each in result.files}
    return images | {each.path.name: images[each.name] for each in result.files if each.path.name not in images}
