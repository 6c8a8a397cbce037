"""The page that the report stage writes, and what is in it."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import stages.report
from fetalflow.report.style import STYLE

VOID = {"meta", "img", "br", "link", "input", "hr", "i"}


class Page(HTMLParser):
    """What a page loads, the ids it has, its text, and whether its tags close in order."""

    def __init__(self, html: str):
        super().__init__()
        self.loads, self.images, self.links, self.ids, self.open, self.texts = [], [], [], [], [], []
        self.styles, self.tables, self.classes = [], [], []  # tables: the classes around each table
        self.html = html
        self.feed(html)
        self.text = re.sub(r"[ \n]+", " ", " ".join(self.texts))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids += [found["id"]] if "id" in found else []
        if tag == "img":
            self.images.append(found)
        elif tag == "a":
            self.links.append(found["href"])
        elif "src" in found or tag in ("link", "iframe", "object"):
            self.loads.append((tag, found))
        if tag == "table":
            self.tables.append(list(self.classes))
        if tag not in VOID:
            self.open.append(tag)
            self.classes.append(found.get("class") or "")

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"
            self.classes.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(data)
        elif self.open and self.open[-1] == "style":
            self.styles.append(data)


def fits(page: Page) -> None:
    """Assert that nothing of a page is cut on a narrow screen or on paper, as far as its structure can show it."""
    style = re.sub(r"\s+", " ", " ".join(page.styles))
    assert " ".join(STYLE.split()) in style
    assert 'name="viewport" content="width=device-width' in page.html
    boxed = "table:not(.scroll table) { display: block; overflow-x: auto }" in style
    assert boxed or page.tables and all("scroll" in around for around in page.tables), "a table outside a box"


def page_of(task: str, folder: Path) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        stages.report.main(task)
    return (folder / "reports" / task / "report.html").read_text(encoding="utf-8")
