"""Makes the chapters from the evidence alone, so that anybody who has the evidence can make them again."""

from collections.abc import Callable, Mapping
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from fetalflow.artefacts import file_digest, write_json, write_text
from fetalflow.dossier.chapter import Chapter
from fetalflow.dossier.chapters import change_plan, checklists, data_sheet, facts, life, risks, software
from fetalflow.dossier.evidence import FOLDER, Evidence
from fetalflow.dossier.page import render
from fetalflow.registry.provenance import code_state
from fetalflow.report.paper import print_page

JSON, PAGE, PDF = "dossier.json", "index.html", "dossier.pdf"
HEAD = ("model", "version", "made", "fetalflow", "commit")
CHAPTERS: tuple[Callable[[Evidence], Chapter], ...] = (
    facts.chapter,
    change_plan.chapter,
    checklists.chapter,
    software.chapter,
    risks.chapter,
    data_sheet.chapter,
    life.chapter,
)


def head_of_now() -> dict[str, str]:
    """The version and the commit of the code that makes chapters now."""
    state = code_state() or {"commit": "not known", "dirty": False}
    return {"fetalflow": installed("fetalflow"), "commit": state["commit"] + ("-dirty" if state["dirty"] else "")}


def compose(folder: Path, head: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """(JSON, HTML) of the dossier in `folder`, from the files of its evidence.

    head: the keys of HEAD: model, version, when it was made, and by which code. Raises InputError when a file of the
    evidence cannot be read.
    """
    evidence = Evidence(folder / FOLDER)
    chapters = [make(evidence) for make in CHAPTERS]
    files = {name: evidence.sha256(name) for name in evidence.names()}
    content = {"head": dict(head), "chapters": [chapter.as_dict() for chapter in chapters], "evidence": files}
    return content, render(chapters, evidence, head)


def write_composed(folder: Path, head: Mapping[str, Any]) -> str:
    """Write page, paper and JSON; return an empty text, or the reason why there is no paper. The JSON file states the
    SHA-256 of the paper, since nobody can make the same bytes again."""
    content, page = compose(folder, head)
    write_text(folder / PAGE, page)
    no_paper = print_page(folder / PAGE, folder / PDF)
    write_json(folder / JSON, content | {"paper": "" if no_paper else file_digest(folder / PDF)})
    return no_paper
