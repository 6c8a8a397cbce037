"""A dossier as one HTML page with its pictures in it. Every figure has a number that leads to its file and digest."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import jinja2
from markupsafe import Markup, escape

from fetalflow.dossier.chapter import Chapter, Text, parts
from fetalflow.dossier.evidence import Evidence, Figure
from fetalflow.report.style import STYLE

SHOWN = 12  # digits of a digest


def render(chapters: Sequence[Chapter], evidence: Evidence, facts: Mapping[str, Any]) -> str:
    """facts: `model`, `version`, `made` and so on, for the head of the page."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fetalflow.dossier", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    numbers = {name: number for number, name in enumerate(evidence.names(), 1)}
    environment.filters["shown"] = lambda text: _shown(text, numbers)
    environment.tests["kind"] = lambda block, name: type(block).__name__ == name
    return environment.get_template("page.html.j2").render(
        chapters=chapters,
        facts=facts,
        shared_style=STYLE,
        files=[(number, name, evidence.sha256(name)) for name, number in numbers.items()],
        picture=lambda name: _picture(evidence, name),
        svg=Markup,
    )


def _shown(text: Text, numbers: Mapping[str, int]) -> Markup:
    """Words as they are; a figure with the number of its file."""
    return Markup("").join(_figure(p, numbers) if isinstance(p, Figure) else escape(p) for p in parts(text))


def _figure(figure: Figure, numbers: Mapping[str, int]) -> Markup:
    if figure.file not in numbers:
        return Markup('<span class="none">{}</span>').format(str(figure))
    source = f"{figure.file}: {figure.where} (SHA-256 {figure.sha256[:SHOWN]})"
    number = numbers[figure.file]
    link = Markup('<a href="#file-{}">{}</a>').format(number, number)
    return Markup('<span title="{}">{}</span><sup>{}</sup>').format(source, str(figure), link)


def _picture(evidence: Evidence, name: str) -> str:
    """A data URI of a picture of the evidence."""
    kind = {".jpg": "jpeg", ".jpeg": "jpeg"}.get(PurePosixPath(name).suffix.lower(), "png")
    return f"data:image/{kind};base64,{base64.b64encode((evidence.folder / name).read_bytes()).decode()}"
