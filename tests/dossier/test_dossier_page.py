"""The dossier of a champion as a person opens it: in a browser, on a small screen, and on paper."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from chromium import opened_chromium

from fetalflow.artefacts import read_json
from fetalflow.dossier.composing import JSON, PAGE, PDF


@pytest.fixture(scope="module")
def browser():
    with opened_chromium() as found:
        yield found


@pytest.fixture
def opened(browser, dossier):
    asked = []
    page = browser.new_page(viewport={"width": 1000, "height": 900})
    page.on("request", lambda request: asked.append(request.url))
    page.goto((dossier / PAGE).as_uri())
    yield page
    page.close()
    assert all(url.startswith(("file:", "data:")) for url in asked), "the page needs no network"


def test_every_chapter_picture_and_source_is_there(opened, dossier):
    chapters = [chapter["name"] for chapter in read_json(dossier / JSON)["chapters"]]
    assert chapters == ["facts", "change_plan", "checklists", "software", "risks", "data", "life"]
    assert opened.evaluate("[...document.querySelectorAll('section')].map(each => each.id)") == [*chapters, "files"]
    lost = "[...document.querySelectorAll('a[href^=\"#\"]')].filter(a => !document.querySelector(a.hash)).length"
    assert opened.evaluate(lost) == 0
    assert opened.evaluate("[...document.images].every(each => each.complete && each.naturalWidth > 50)")
    assert opened.evaluate("document.querySelectorAll('figure svg').length") == 1, "the way of the data is drawn"
    assert opened.evaluate("document.querySelectorAll('[title*=\"SHA-256\"]').length") > 200
    assert opened.evaluate("document.querySelectorAll('#files tbody tr').length") == len(
        read_json(dossier / JSON)["evidence"]
    )


def test_nothing_is_cut_on_a_small_screen_and_a_reader_of_screens_finds_its_way(opened):
    assert Axe().run(opened).response["violations"] == []
    opened.set_viewport_size({"width": 400, "height": 800})
    assert opened.evaluate("document.documentElement.scrollWidth") <= 400


def test_the_paper_has_every_chapter(dossier):
    if not (dossier / PDF).is_file():
        pytest.skip("Chromium is not installed: `apt-get install chromium`.")
    paper = (dossier / PDF).read_bytes()
    assert paper.startswith(b"%PDF-") and len(re.findall(rb"/Type /Page\b", paper)) >= 8
