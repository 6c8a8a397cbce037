"""A dossier as one HTML page with its pictures in it. Every figure has a number that leads to its file and digest."""

import base64
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from fetalflow.dossier.chapter import Chapter, parts
from fetalflow.dossier.evidence import Evidence, Figure
from fetalflow.report.template import page_template

LONG = re.compile(r"(\S{30,})")  # a word that may break, so that a table fits on paper


def render(chapters: Sequence[Chapter], evidence: Evidence, facts: Mapping[str, Any]) -> str:
    """facts: `model`, `version`, `made` and so on, for the head of the page."""
    filters = {"parts": parts, "words": lambda text: LONG.split(str(text))}  # every second word is long
    tests = {
        "figure": lambda part: isinstance(part, Figure),
        "kind": lambda block, name: type(block).__name__ == name,
    }
    numbers = {name: number for number, name in enumerate(evidence.names(), 1)}
    return page_template("dossier", filters, tests).render(
        chapters=chapters,
        facts=facts,
        numbers=numbers,
        digests={name: evidence.sha256(name) for name in numbers},
        picture=lambda name: _picture(evidence, name),
    )


def _picture(evidence: Evidence, name: str) -> str:
    """A data URI of a picture of the evidence."""
    kind = {".jpg": "jpeg", ".jpeg": "jpeg"}.get(PurePosixPath(name).suffix.lower(), "png")
    return f"data:image/{kind};base64,{base64.b64encode((evidence.folder / name).read_bytes()).decode()}"
