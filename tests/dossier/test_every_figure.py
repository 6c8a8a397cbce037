"""What every chapter keeps: no number without a source, the same evidence gives the same dossier, no patient's name."""

import contextlib
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from dossier_head import HEAD

from fetalflow.artefacts import file_digest, read_json, write_json
from fetalflow.dossier.chapter import Table, parts, texts_of
from fetalflow.dossier.composing import CHAPTERS, compose
from fetalflow.dossier.evidence import FOLDER, NOT_ON_RECORD, Evidence, Figure
from fetalflow.dossier.gathering import ages, deliveries, labels, people, registered, task_words
from fetalflow.dossier.page import render
from fetalflow.dossier.subject import find_subject
from fetalflow.registry.tracking import registry

TASKS = ("movement", "planes", "biometry")
MEASURED = re.compile(r"\d[.,]\d|\d\s?%")  # a decimal number or a percentage
NO_NUMBER = re.compile(
    r"\b(19|20)\d\d-\d\d|§|\bv?\d+\.\d+\.\d+|\b(Art|Sec|Annex|ISO|IEC|EN)\b[^,;]{0,24}\d"
)  # dates, versions, sections


def chapters_of(folder: Path):
    evidence = Evidence(folder)
    return [make(evidence) for make in CHAPTERS]


def copied(evidence: Path, target: Path) -> Path:
    return Path(shutil.copytree(evidence, target / FOLDER))


@pytest.mark.parametrize("task", TASKS)
def test_a_measured_number_is_always_a_figure(evidence_of, task):
    for chapter in chapters_of(evidence_of(task)):
        for block in chapter.blocks:
            for text in texts_of(block):
                for part in parts(text):
                    if isinstance(part, str) and MEASURED.search(part):
                        assert NO_NUMBER.search(part), f"{chapter.name}: {part!r} holds a number without a source"


@pytest.mark.parametrize("task", TASKS)
def test_every_figure_names_a_file_of_the_evidence_and_its_digest(evidence_of, task):
    folder = evidence_of(task)
    for chapter in chapters_of(folder):
        for figure in chapter.figures():
            assert figure.where and isinstance(figure.value, str | int | float | bool | None), figure
            file = folder / figure.file
            assert figure.sha256 == (file_digest(file) if file.is_file() else ""), figure
            assert file.is_file() or figure.value is None, figure


@pytest.mark.parametrize("task", TASKS)
def test_tables_are_narrow_and_whole(evidence_of, task):
    for chapter in chapters_of(evidence_of(task)):
        for block in chapter.blocks:
            if isinstance(block, Table):
                assert len(block.head) <= 5 and all(len(row) == len(block.head) for row in block.rows), block.head


@pytest.mark.parametrize("task", TASKS)
def test_the_same_evidence_gives_the_same_dossier(evidence_of, composed_of, tmp_path, task):
    copied(evidence_of(task), tmp_path)
    assert compose(tmp_path, HEAD) == composed_of(task)


def test_a_changed_number_of_the_evidence_changes_the_dossier(dossier_evidence, tmp_path):
    """The number that is shown, and the digest of every figure of its file."""
    folder = copied(dossier_evidence, tmp_path)
    metrics = read_json(folder / "run/metrics.json")
    variant = read_json(folder / "version.json")["variant"]
    metrics[variant]["accuracy"] = 0.1234
    write_json(folder / "run/metrics.json", metrics)
    before, after = ([c.as_dict() for c in chapters_of(each)] for each in (dossier_evidence, folder))
    assert before != after and "0.123" in render(chapters_of(folder), Evidence(folder), HEAD)
    of_file = [f for c in chapters_of(folder) for f in c.figures() if f.file == "run/metrics.json"]
    assert {f.sha256 for f in of_file} == {file_digest(folder / "run/metrics.json")}


@pytest.mark.parametrize("gone", ["run", "package/certainty.json", "people.json", "deliveries.json", "statements.yaml"])
def test_a_missing_source_is_a_sentence(dossier_evidence, tmp_path, gone):
    folder = copied(dossier_evidence, tmp_path)
    shutil.rmtree(folder / gone) if (folder / gone).is_dir() else (folder / gone).unlink(missing_ok=True)
    chapters = chapters_of(folder)
    figures = [figure for chapter in chapters for figure in chapter.figures()]
    assert all(figure.value is None for figure in figures if figure.file.startswith(gone))
    if gone == "run":
        assert NOT_ON_RECORD in render(chapters, Evidence(folder), HEAD)


@pytest.mark.parametrize("task", TASKS)
def test_the_evidence_names_no_patient_and_no_cine(evidence_of, workspace_of, task):
    manifest = pd.read_parquet(workspace_of(task) / "data" / task / "manifest.parquet")
    names = {*manifest["patient"], *(Path(video).stem for video in manifest["video"])} - set(manifest["sequence"])
    for path in sorted(evidence_of(task).rglob("*")):
        if path.is_file() and path.suffix != ".png":
            assert not (names & set(re.findall(r"[\w-]+", path.read_text(encoding="utf-8")))), path.name


def test_a_registry_without_a_workspace_is_enough(workspace_of, tmp_path):
    """As on a server: then ages, devices, deliveries and labels are not on record, and everything of the run is."""
    folder, empty = tmp_path / FOLDER, tmp_path / "empty"
    folder.mkdir(), empty.mkdir()
    with contextlib.chdir(workspace_of("movement")), registry() as store:
        subject = find_subject(store, "fetal-movement", "1", empty)
        for module in (registered, task_words, people, ages, deliveries, labels):
            module.gather(subject, folder)
    assert not list(empty.iterdir())
    page = render(chapters_of(folder), Evidence(folder), HEAD)
    for said in ("The workspace has no manifest of this task.", "No delivery is on record.", labels.NO_JOURNAL):
        assert said in page
    assert read_json(folder / people.FILE)["parts"] and "Measured on" in page


def test_a_figure_without_a_value_is_said_to_be_missing():
    assert str(Figure(None, "run/metrics.json", "accuracy", "")) == NOT_ON_RECORD
