"""Makes the chapters from the evidence alone, so that anybody who has the evidence can make them again."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fetalflow.artefacts import write_json, write_text
from fetalflow.dossier.chapter import Chapter
from fetalflow.dossier.chapters import facts
from fetalflow.dossier.evidence import FOLDER, Evidence
from fetalflow.dossier.page import render

JSON, PAGE, PDF = "dossier.json", "index.html", "dossier.pdf"
CHAPTERS: tuple[Callable[[Evidence], Chapter], ...] = (facts.chapter,)


def compose(folder: Path, head: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """(JSON, HTML) of the dossier in `folder`, from the files of its evidence.

    head: model, version, when it was made, and by which version of fetalflow. Raises InputError when a file of the
    evidence cannot be read.
    """
    evidence = Evidence(folder / FOLDER)
    chapters = [make(evidence) for make in CHAPTERS]
    files = {name: evidence.sha256(name) for name in evidence.names()}
    content = {**head, "chapters": [chapter.as_dict() for chapter in chapters], "evidence": files}
    return content, render(chapters, evidence, head)


def write_composed(folder: Path, head: Mapping[str, Any]) -> None:
    """Write the JSON file and the page."""
    content, page = compose(folder, head)
    write_json(folder / JSON, content)
    write_text(folder / PAGE, page)
