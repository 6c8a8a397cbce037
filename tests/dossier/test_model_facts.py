"""Chapter 1: what the maker states, the figures of the run, performance by age, failures; pictures without names."""

import re
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

from fetalflow.artefacts import read_json, write_json, write_text
from fetalflow.dossier.chapter import Picture, Table, Words, parts, texts_of
from fetalflow.dossier.chapters import facts
from fetalflow.dossier.chapters.failures import failures
from fetalflow.dossier.chapters.performance import performance
from fetalflow.dossier.evidence import Evidence, Figure
from fetalflow.dossier.gathering import ages
from fetalflow.dossier.gathering.nameless_pictures import nameless_pictures, without_words
from fetalflow.dossier.gathering.registered import VERSION
from fetalflow.dossier.statements import FILE, MISSING
from fetalflow.registry.provenance import data_digest

VARIANT = "net"


def words_of(blocks) -> str:
    return " | ".join("".join(map(str, parts(text))) for block in blocks for text in texts_of(block))


def rows_below(blocks, heading: str) -> list[list[str]]:
    """The rows of the first table after a heading, as text."""
    start = next(i for i, block in enumerate(blocks) if getattr(block, "text", "") == heading)
    table = next(block for block in blocks[start:] if isinstance(block, Table))
    return [["".join(map(str, parts(cell))) for cell in row] for row in table.rows]


def test_what_the_maker_states_is_printed_and_what_is_missing_is_named(tmp_path):
    write_json(tmp_path / VERSION, {"variant": VARIANT, "task": "movement"})
    write_text(tmp_path / FILE, "intended_use: Count movements at home.\n")
    found = [block for block in facts.chapter(Evidence(tmp_path)).blocks if getattr(block, "kind", "") == "maker"]
    said = [str(block.parts) for block in found]
    assert "Intended use: Count movements at home." in said
    assert sum(MISSING in each for each in said) == len(said) - 1 == 9


def test_a_version_without_any_result_has_no_sentence_about_performance(tmp_path):
    write_json(tmp_path / VERSION, {"variant": VARIANT, "task": "movement"})
    chapter = facts.chapter(Evidence(tmp_path))
    assert all(figure.value is None for figure in chapter.figures() if figure.file != VERSION)
    said = words_of(performance(Evidence(tmp_path), VARIANT))
    assert "No performance is on record" in said and "Measured on" not in said
    assert not re.search("has one|was tested|was wrong", said) and "Figures by site are not on record" in said


@pytest.mark.parametrize("task", ["movement", "planes", "biometry"])
def test_the_figures_are_those_of_the_run(evidence_of, task):
    folder = evidence_of(task)
    variant = read_json(folder / VERSION)["variant"]
    metrics, config = read_json(folder / "run/metrics.json")[variant], read_json(folder / "package/config.json")
    blocks = facts.chapter(Evidence(folder)).blocks
    shown = dict(rows_below(blocks, "Performance on the test part"))
    low = "" if metrics["accuracy_low"] is None else f" [{metrics['accuracy_low']:.3f}, {metrics['accuracy_high']:.3f}]"
    assert shown["accuracy"] == f"{metrics['accuracy']:.3f}{low}"
    model = dict(rows_below(blocks, "The model"))
    assert model["SHA-256 of the weights"] == config["weights"]["sha256"] and len(model["paper of the task"]) > 20
    by_label = rows_below(blocks, "By label")
    assert sorted(row[0] for row in by_label) == sorted(config["labels"])
    assert sum(int(row[1]) for row in by_label) == metrics["n_rows"]
    assert "Lengths" in words_of(blocks) or task != "biometry"


def test_synthetic_data_are_said_to_be_synthetic(tmp_path):
    write_json(tmp_path / VERSION, {"variant": VARIANT, "task": "movement"})
    for phantoms, warned in (("[movement]", True), ("[planes]", False), ("[]", False)):
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / facts.PARAMS).write_text(f"phantoms: {phantoms}\n")
        assert ("The images are synthetic" in words_of(facts.chapter(Evidence(tmp_path)).blocks)) is warned


class Store:
    """The registry of one run, for the modules that gather."""

    def __init__(self, folder: Path, digest: str) -> None:
        self.folder, self.client = folder, self
        self.tags = {"data_digest": digest}

    def artefact_paths(self, run: str, folder: str = ""):
        return [path.name for path in self.folder.glob("*")]

    def artefact(self, run: str, path: str):
        return None

    def download_artifacts(self, run: str, path: str, target: str) -> str:
        return str(self.folder / path)

    def get_run(self, run: str):
        return SimpleNamespace(data=SimpleNamespace(tags=self.tags), info=SimpleNamespace(start_time=0))


def by_age(folder: Path, given: list[str], digest: str | None = None, weeks: bool = False) -> dict:
    """`ages.json` of 24 answers of 12 patients; every third answer is wrong. given: the age of each patient."""
    logged, data = folder / "logged", folder / "data" / "movement"
    logged.mkdir(), data.mkdir(parents=True)
    rows = [{"sequence": f"s{i}", "patient": f"p{i // 2}", "site": "S", "part": "test"} for i in range(24)]
    answers = pd.DataFrame(rows).assign(y_true=["arm", "leg"] * 12)
    answers["y_pred"] = [truth if i % 3 else "arm" for i, truth in enumerate(answers["y_true"])]
    manifest = pd.DataFrame(rows).assign(gestational_age=[given[i // 2] for i in range(24)], label="arm")
    if weeks:
        answers["weeks"] = manifest["gestational_age"]
        answers["found_hc_mm"] = 1.0
    answers.to_csv(logged / f"{VARIANT}.csv", index=False)
    manifest.to_parquet(data / "manifest.parquet")
    store = Store(logged, data_digest(manifest) if digest is None else digest)
    subject = SimpleNamespace(store=store, workspace=folder, task="movement", run="r", variant_run="v", variant=VARIANT)
    ages.gather(subject, folder)
    return read_json(folder / ages.FILE)


def test_performance_by_age_counts_every_test_sequence_once(tmp_path):
    found = by_age(tmp_path, ["18"] * 5 + ["21.5"] * 5 + ["", "999"])
    assert [(row["age"], row["n"], row["patients"]) for row in found["bands"]] == [
        ("16-20", 10, 5),
        ("20-24", 10, 5),
        (ages.UNKNOWN, 4, 2),
    ]
    assert found["sequences"] == 20 and found["patients"] == 10
    right = sum(row["accuracy"] * row["n"] for row in found["bands"])
    assert right == pytest.approx(sum(i % 3 != 0 or i % 2 == 0 for i in range(24)))
    assert found["bands"][0]["accuracy_low"] is not None and found["bands"][2]["accuracy_low"] is None
    shown = rows_below(performance(Evidence(tmp_path), VARIANT), "By gestational age")
    assert [row[0] for row in shown] == ["16-20", "20-24", ages.UNKNOWN]


@pytest.mark.parametrize(
    ("given", "digest", "said"),
    [
        (["30"] * 12, None, "All test sequences are of one band of weeks"),
        ([""] * 12, None, "The drop states no gestational age."),
        (["30"] * 6 + ["20"] * 6, "another", "The workspace now holds other data"),
    ],
)
def test_where_ages_say_nothing_the_chapter_says_why(tmp_path, given, digest, said):
    assert by_age(tmp_path, given, digest)["bands"] == []
    assert said in words_of(performance(Evidence(tmp_path), VARIANT))


def test_a_registry_without_answers_has_no_ages(tmp_path):
    subject = SimpleNamespace(store=Store(tmp_path / "none", ""), variant=VARIANT, variant_run="v")
    ages.gather(subject, tmp_path)
    assert read_json(tmp_path / ages.FILE) == {"why": ages.NO_ANSWERS, "bands": []}


@pytest.mark.parametrize(("file", "said"), [("manifest.parquet", "cannot be read"), ("answers", ages.DAMAGED)])
def test_damaged_tables_are_a_sentence(tmp_path, file, said):
    by_age(tmp_path, ["30"] * 12)
    damaged = tmp_path / (f"data/movement/{file}" if file != "answers" else f"logged/{VARIANT}.csv")
    damaged.write_bytes(b"no table")
    store = Store(tmp_path / "logged", "d")
    subject = SimpleNamespace(
        store=store, workspace=tmp_path, task="movement", run="r", variant_run="v", variant=VARIANT
    )
    ages.gather(subject, tmp_path)
    assert said in words_of(performance(Evidence(tmp_path), VARIANT))


def picture(words: dict[int, str], frame: bool = True) -> np.ndarray:
    """White paper with lines of words at heights, and a frame at row 80."""
    paper = np.full((200, 500, 3), 255, np.uint8)
    for row, line in words.items():
        cv2.putText(paper, line, (10, row), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0))
    if frame:
        paper[80:190, 10:150] = np.random.default_rng(1).integers(0, 200, (110, 140, 3))
    return paper


@pytest.mark.parametrize(
    "words",
    [
        {20: "heart cines/P023.avi, patient P023"},
        {20: "heart cines/P023.avi,", 36: "patient P023, gjpqy", 52: "No warnings."},
        {20: "____________________ patient_P023 ______________"},
        {74: "patient P023 right above the frame", 66: "and a second line upon it"},
    ],
)
def test_the_words_above_the_first_frame_are_taken_away(words):
    strip = {75: "measured"} if 74 not in words else {}
    before = picture(words | strip)
    after = without_words(before)
    first = 64 if strip else 80
    assert (after[:first] == 255).all() and (after[first:] == before[first:]).all()


def test_only_pictures_that_name_nobody_stay_as_they_are(tmp_path):
    listed = {"mistake-1.png": "mistake", "none.png": "mistake", "overview.png": "overview"}
    for name in (*listed, "stray.png", "page.svg"):
        cv2.imwrite(str(tmp_path / name.replace(".svg", ".png")), picture({20: "patient P1"}, frame=name != "none.png"))
    (tmp_path / "page.png").rename(tmp_path / "page.svg")
    figures = [{"file": file, "kind": kind, "caption": file} for file, kind in listed.items()]
    write_json(tmp_path / "explain.json", {"figures": figures})
    overview = (tmp_path / "overview.png").read_bytes()
    nameless_pictures(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*")) == ["explain.json", "mistake-1.png", "overview.png"]
    assert (tmp_path / "overview.png").read_bytes() == overview
    assert (cv2.imread(str(tmp_path / "mistake-1.png"))[:40] == 255).all()


def test_at_most_six_failures_are_shown_mistakes_first(tmp_path):
    kinds = ["worst_overlap", "worst_error", "sequence", *["mistake"] * 3, *["worst_error"] * 4]
    figures = [{"file": f"{i}.png", "kind": kind, "caption": f"{kind} {i}"} for i, kind in enumerate(kinds)]
    write_json(tmp_path / "run/explain/explain.json", {"figures": figures})
    for each in figures[:-1]:
        (tmp_path / "run/explain" / each["file"]).touch()
    blocks = failures(Evidence(tmp_path), VARIANT)
    shown = [block.caption for block in blocks if isinstance(block, Picture)]
    assert all(isinstance(caption, Figure) for caption in shown)
    assert [str(caption) for caption in shown] == [
        *(f"mistake {i}" for i in (3, 4, 5)),
        *(f"worst_error {i}" for i in (1, 6, 7)),
    ]
    assert isinstance(failures(Evidence(tmp_path / "none"), VARIANT)[-1], Words)


def test_confusions_add_up_to_the_wrong_answers(evidence_of):
    folder = evidence_of("planes")
    variant = read_json(folder / VERSION)["variant"]
    score = read_json(folder / f"run/evaluation/{variant}-score.json")
    blocks = failures(Evidence(folder), variant)
    wrong = int(np.sum(score["confusion"]) - np.trace(score["confusion"]))
    assert wrong and f"Wrong answers on the test part: {wrong}." in words_of(blocks)
    assert sum(int(row[2]) for row in rows_below(blocks, "Failure cases")) == wrong


def test_the_pictures_of_a_run_lose_the_line_that_names_the_patient(workspace_of, dossier_evidence):
    before = sorted((workspace_of("movement") / "reports/movement/explain").glob("sequence-*.png"))
    assert before
    for path in before:
        drawn, kept = cv2.imread(str(path)), cv2.imread(str(dossier_evidence / "run/explain" / path.name))
        line = slice(10, 40)  # where the stage explain writes label, cine and patient
        assert (drawn[line] < 128).any() and (kept[line] == 255).all()
        assert (drawn[60:] == kept[60:]).all()
