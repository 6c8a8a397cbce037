"""A dossier as one HTML page with its pictures in it. Every figure has a number that leads to its file and digest."""

import base64
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import jinja2

from fetalflow.dossier.chapter import Chapter, parts
from fetalflow.dossier.evidence import Evidence, Figure
from fetalflow.report.style import STYLE

LONG = re.compile(r"(\S{30,})")  # a word that may break, so that a table fits on paper


def render(chapters: Sequence[Chapter], evidence: Evidence, facts: Mapping[str, Any]) -> str:
    """facts: `model`, `version`, `made` and so on, for the head of the page."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fetalflow.dossier", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["parts"] = parts
    environment.filters["words"] = lambda text: LONG.split(str(text))  # every second one is long
    environment.tests["figure"] = lambda part: isinstance(part, Figure)
    environment.tests["kind"] = lambda block, name: type(block).__name__ == name
    numbers = {name: number for number, name in enumerate(evidence.names(), 1)}
    return environment.get_template("page.html.j2").render(
        chapters=chapters,
        facts=facts,
        shared_style=STYLE,
        numbers=numbers,
        digests={name: evidence.sha256(name) for name in numbers},
        picture=lambda name: _picture(evidence, name),
    )


def _picture(evidence: Evidence, name: str) -> str:
    """A data URI of a picture of the evidence."""
    kind = {".jpg": "jpeg", ".jpeg": "jpeg"}.get(PurePosixPath(name).suffix.lower(), "png")
    return f"data:image/{kind};base64,{base64.b64encode((evidence.folder / name).read_bytes()).decode()}"
