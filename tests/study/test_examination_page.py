"""The page of an examination says all that the result says; and it can be printed."""

import re
from dataclasses import replace
from html import unescape

import pytest
from bright_study import bright_models, frames_of, write_one, write_study

from fetalflow.report import paper
from fetalflow.study.examining import examine_study
from fetalflow.study.page import page
from fetalflow.study.result import FOR_RESEARCH, UsedModel


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    models = replace(
        bright_models(), used=(UsedModel("biometry", "fetal-biometry", "3", "bright", "ab" * 32, "torch"),)
    )
    folder = write_study(tmp_path_factory.mktemp("page") / "files")
    (folder / "b.dcm").unlink()  # no femur
    (folder / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM nothing")
    write_one(folder / "<img src=x>.dcm", frames_of("other"))
    return examine_study(models, [folder], weeks=18)


@pytest.fixture(scope="module")
def html(result):
    return page(result)


def test_the_page_says_every_length_warning_file_and_model(result, html):
    text = unescape(re.sub(r"\s+", " ", re.sub(r'src="data:[^"]*"', "", html)))
    for length in result.lengths.values():
        assert f"{length.value:.1f} mm" in text
    for said in (*result.warnings, *result.missing.values(), *(each.not_read for each in result.files)):
        assert said in text
    for each in (*result.ages, *result.weights):
        assert each.name in text and each.reason in text
    assert all(each.name in text for each in result.files) and "fetal-biometry, version 3" in text and "ab" * 8 in text
    assert "No length of the femur:" in text and "No gestational age" not in text


def test_it_is_marked_and_needs_no_network(html):
    assert html.count(FOR_RESEARCH) >= 3
    assert html.count("data:image/png;base64,") == 2 and not re.findall(r'(?:src|href)="(?!data:)', html)


def test_the_name_of_a_file_is_text_and_no_html(html):
    assert "<img src=x>" not in html and "&lt;img src=x&gt;.dcm" in html


def test_without_a_browser_there_is_no_pdf_and_the_reason_is_said(tmp_path, monkeypatch):
    """An earlier PDF goes, since it would show another examination."""
    (tmp_path / "a.pdf").write_bytes(b"%PDF- old")
    monkeypatch.setattr(paper.shutil, "which", lambda name: None)
    assert "Install chromium" in paper.print_page(tmp_path / "a.html", tmp_path / "a.pdf")
    monkeypatch.setattr(paper.shutil, "which", lambda name: "/bin/false")
    assert "exit status 1" in paper.print_page(tmp_path / "a.html", tmp_path / "a.pdf")
    assert not list(tmp_path.iterdir())


@pytest.mark.long
@pytest.mark.skipif(not any(map(paper.shutil.which, paper.BROWSERS)), reason="no Chromium: apt-get install chromium")
def test_the_page_is_printed(html, tmp_path):
    (tmp_path / "a.html").write_text(html, encoding="utf-8")
    assert paper.print_page(tmp_path / "a.html", tmp_path / "a.pdf") == ""
    assert (tmp_path / "a.pdf").read_bytes()[:5] == b"%PDF-" and (tmp_path / "a.pdf").stat().st_size > 20_000
