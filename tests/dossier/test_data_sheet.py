"""Chapter 6: where the data are from, their terms, the way from arrival to test, who labelled, and who was erased."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pandas as pd
import pytest

from fetalflow.artefacts import read_json, write_json, write_table
from fetalflow.dossier.chapter import Drawing, parts, texts_of
from fetalflow.dossier.chapters import data_sheet
from fetalflow.dossier.chapters.labelled import labelled
from fetalflow.dossier.chapters.way_of_data import way_of_data
from fetalflow.dossier.evidence import Evidence
from fetalflow.dossier.flow_drawing import Box, draw
from fetalflow.dossier.gathering import deliveries, labels, people
from fetalflow.dossier.gathering.data_of_version import NO_MANIFEST
from fetalflow.errors import InputError
from fetalflow.hospital.arrival.recall_record import RECALL, add_lines
from fetalflow.hospital.arrival.withdrawal import add_withdrawn

PARTS = [
    {"part": part, "sequences": n, "patients": patients, "cines": cines}
    for part, n, patients, cines in (("train", 60, 6, 30), ("validation", 12, 2, 6), ("test", 20, 3, 10))
]
PEOPLE = {"folds": 1, "parts": PARTS, "labels": [], "shared": 0, "unused": {"sequences": 8, "patients": 1}} | {
    "sites": [],
    "erased": 0,
    "all": {"sequences": 100, "patients": 11, "cines": 46},
    "devices": [],
    "why_no_manifest": "",
}
EXTRACT = {"rows": 70, "rows_used": 58, "rows_quarantined": 12, "quarantined": {"truncated": 9, "lying": 3}} | {
    "sequences": 100,
    "sequences_by_label": {"arm": 40, "leg": 60},
    "patients": 11,
    "kappa": {"arm": 0.81},
}
SPLIT = {"kind": "grouped", "counts": {"train": {"arm": 60}, "validation": {"arm": 12}, "test": {"arm": 5, "leg": 15}}}
ADD_UP = "The counts of all steps add up."


def words_of(blocks) -> str:
    return " | ".join("".join(map(str, parts(text))) for block in blocks for text in texts_of(block))


def evidence_with(folder: Path, extract=EXTRACT, everyone=PEOPLE, split=SPLIT) -> Evidence:
    for name, content in (("run/extract.json", extract), (people.FILE, everyone), ("run/split.json", split)):
        write_json(folder / name, content)
    return Evidence(folder)


def test_counts_that_add_up_are_said_to(tmp_path):
    blocks = way_of_data(evidence_with(tmp_path))
    assert ADD_UP in words_of(blocks)
    (drawing,) = [block for block in blocks if isinstance(block, Drawing)]
    assert {figure.value for figure in drawing.figures} >= {70, 58, 12, 9, 3, 100, 8, 60, 20}
    assert all(str(figure) in drawing.svg for figure in drawing.figures)


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"extract": EXTRACT | {"rows": 71}}, "counts of rows do not"),
        ({"extract": EXTRACT | {"rows_used": 59}}, "counts of rows do not"),
        ({"extract": EXTRACT | {"quarantined": {"truncated": 9}}}, "counts of rows in quarantine do not"),
        ({"extract": EXTRACT | {"sequences_by_label": {"arm": 40}}}, "counts of sequences by label do not"),
        ({"everyone": PEOPLE | {"unused": {"sequences": 7}}}, "counts of sequences by part do not"),
        ({"everyone": PEOPLE | {"unused": {"sequences": 0}}}, "counts of patients by part do not|cines by part do not"),
        ({"split": SPLIT | {"counts": {"train": {"arm": 1}}}}, "some are not on record: .*sequences of the split"),
        ({"split": {"counts": {key: {"arm": 1} for key in people.PARTS}}}, "counts of sequences of the split do not"),
        ({"extract": {"rows": 70}}, "some are not on record: rows; .*sequences by label"),
    ],
)
def test_counts_that_do_not_add_up_are_a_warning(tmp_path, changed, what):
    everyone = changed.get("everyone")
    if everyone and everyone["unused"]["sequences"] == 0:  # then nobody is left out, and patients can be compared
        changed = {"everyone": everyone | {"all": {"patients": 12, "cines": 47, "sequences": 92}}}
    blocks = way_of_data(evidence_with(tmp_path, **changed))
    said = " | ".join(words_of([block]) for block in blocks if getattr(block, "kind", "") == "warning")
    assert re.search(what, said) and ADD_UP not in words_of(blocks)


@pytest.mark.parametrize("task", ["movement", "planes", "biometry"])
def test_the_parts_are_those_of_the_split(evidence_of, workspace_of, task):
    split = pd.read_parquet(workspace_of(task) / "data" / task / "split.parquet")
    manifest = pd.read_parquet(workspace_of(task) / "data" / task / "manifest.parquet")
    found = read_json(evidence_of(task) / people.FILE)
    for part in found["parts"]:
        rows = split[split["part"] == part["part"]]
        assert (part["sequences"], part["patients"]) == (len(rows), rows["patient"].nunique())
        assert part["cines"] == manifest.loc[manifest["sequence"].isin(rows["sequence"]), "source"].nunique()
    assert sum(part["sequences"] for part in found["parts"]) + found["unused"]["sequences"] == len(manifest)
    assert sum(row["patients"] for row in found["sites"]) == manifest["patient"].nunique()
    assert sum(row["sequences"] for row in found["devices"]) == len(manifest)
    of_labels = [row[part] for row in found["labels"] for part in people.PARTS]
    assert sum(of_labels) == len(split)


def test_a_workspace_with_other_data_states_no_devices_and_the_registry_still_the_parts(
    workspace_of, gathered_of, monkeypatch
):
    manifest = workspace_of("biometry") / "data" / "biometry" / "manifest.parquet"
    kept = manifest.read_bytes()
    try:
        table = pd.read_parquet(manifest)
        table.assign(label="femur").to_parquet(manifest)
        changed = gathered_of("biometry", people.gather, deliveries.gather, labels.gather)
    finally:
        manifest.write_bytes(kept)
    found = read_json(changed / people.FILE)
    assert found["parts"] and found["sites"] and not found["devices"] and "other data" in found["why_no_manifest"]
    said = words_of([*data_sheet._devices(Evidence(changed)), *data_sheet._deliveries(Evidence(changed))])
    assert said.count("other data") == 2 and "other data" in words_of(labelled(Evidence(changed)))


def a_store(workspace: Path) -> Path:
    """Three deliveries: of 6 patients, of 5 patients with terms, and one that came after the version was made."""
    store = workspace / "arrivals" / "movement"
    lines = [
        {"time": 100.0 * day, "name": f"SecretWard{day}", "fingerprint": "f", "files": 1}
        | {"state": state, "drop": drop, "rows": rows, "cines": rows, "said": "Jane Doe"}
        for day, state, drop, rows in (
            (1, "taken", "a" * 12, 6),
            (2, "refused", "", 0),
            (3, "again", "a" * 12, 6),
            (4, "taken", "b" * 12, 12),
            (90, "taken", "c" * 12, 3),
        )
    ]
    store.mkdir(parents=True)
    (store / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    first = [{"video": f"{i}.avi", "patient": f"P{i}", "site": "North", "device": "D 7.2"} for i in range(6)]
    write_table(store / "received" / f"{'a' * 12}.csv", pd.DataFrame(first))
    consents = ["broad consent 4"] * 10 + ["Jane Doe signed", ""]
    second = [
        {"video": f"{i}.avi", "patient": f"Q{i // 2}", "site": "South", "device": "", "Licence": "CC BY 4.0"}
        | {"CONSENT": consents[i]}
        for i in range(12)
    ]
    write_table(store / "received" / f"{'b' * 12}.csv", pd.DataFrame(second))
    add_lines(store, RECALL, ["a" * 12], "ann", "Jane Doe asked")
    add_withdrawn(store, "P3", "ann", "Jane Doe asked")
    return store


class Store:
    def __init__(self, drop: str) -> None:
        self.client, self.drop = self, drop

    def artefact(self, run: str, path: str) -> str | None:
        return f"tasks: {{movement: {{drop: {self.drop}}}}}\nmovement: {{}}\n" if path == "params.yaml" else None

    def get_run(self, run: str):
        return SimpleNamespace(info=SimpleNamespace(start_time=1000 * 1000), data=SimpleNamespace(tags={}))


def subject_of(workspace: Path, drop: str = "arrivals/movement/drop") -> SimpleNamespace:
    return SimpleNamespace(store=Store(drop), workspace=workspace, task="movement", run="r")


def a_certificate(workspace: Path, number: int, **changed) -> None:
    content = {"patient": "P9", "by": "ann", "why": "asked", "time": f"2026-11-0{number}T10:00:00+00:00", "plan": False}
    content["workspaces"] = {str(workspace.resolve()): {"rows": 4, "files": 3, "remarks": ["P9"]}}
    write_json(workspace.parent / deliveries.CERTIFICATES / f"erased-{number}.json", content | changed)


def test_deliveries_are_counted_with_their_terms_and_without_names(tmp_path):
    workspace = tmp_path / "ws"
    a_store(workspace)
    a_certificate(workspace, 1)
    a_certificate(workspace, 2, plan=True)
    a_certificate(workspace, 3, workspaces={"/another": {"rows": 1, "remarks": []}})
    deliveries.gather(subject_of(workspace), tmp_path)
    text = (tmp_path / deliveries.FILE).read_text()
    found = json.loads(text)
    assert not re.search(r"Secret|Jane|\bP\d|\bQ\d|\.avi", text)
    first, second = found["deliveries"]
    assert (first["rows"], first["patients"], first["recalled"], first["consent"]) == (6, 6, "all", None)
    assert second["licence"] == {"CC BY 4.0": 12}
    assert second["consent"] == {"another text": 1, "broad consent 4": 10, "not stated": 1}
    assert found["states"] == {"again": 1, "refused": 1, "taken": 2} and found["withdrawn"] == 1
    assert found["certificates"] == [{"day": "2026-11-01", "removed": 7}]
    evidence_with(tmp_path)
    chapter = data_sheet.chapter(Evidence(tmp_path))
    said = words_of(chapter.blocks)
    for expected in (
        "Delivery 1 was recalled",
        "CC BY 4.0",
        "broad consent 4",
        "another text",
        "Weights cannot forget",
    ):
        assert expected in said
    (drawing,) = [block for block in chapter.blocks if isinstance(block, Drawing)]
    assert "2 deliveries" in drawing.svg and "1 deliveries refused" in drawing.svg and "18 rows" in drawing.svg
    assert "More rows were read than the deliveries have: 70 and 18." in said
    evidence_with(tmp_path, extract=EXTRACT | {"rows": 15})
    (drawing,) = [block for block in way_of_data(Evidence(tmp_path)) if isinstance(block, Drawing)]
    assert "3 rows recalled, withdrawn or" in drawing.svg


def test_a_delivery_that_was_recalled_after_the_version_was_made_was_used(tmp_path):
    a_store(tmp_path / "ws")
    for until, used in ((1000, True), (9e12, False)):
        (delivery, *_) = deliveries._of_store(tmp_path / "ws" / "arrivals" / "movement", until)["deliveries"]
        assert delivery["used_before"] is used
    deliveries.gather(subject_of(tmp_path / "ws"), tmp_path)
    assert "so the version used it" in words_of(data_sheet._deliveries(Evidence(tmp_path)))


def test_a_version_of_another_drop_shows_no_delivery_of_the_store(tmp_path):
    """The workspace takes deliveries now; this version was made before, or from a drop that a person named."""
    a_store(tmp_path / "ws")
    deliveries.gather(subject_of(tmp_path / "ws", "/ward/drop"), tmp_path)
    found = read_json(tmp_path / deliveries.FILE)
    assert (found["deliveries"], found["states"], found["why"]) == ([], {}, NO_MANIFEST) and found["withdrawn"] == 1
    shutil.rmtree(tmp_path / "ws")
    deliveries.gather(subject_of(tmp_path / "ws"), tmp_path)
    assert deliveries.NO_STORE in words_of(data_sheet._deliveries(Evidence(tmp_path)))
    assert "Agreement in the drop is not on record" in words_of(labelled(Evidence(tmp_path)))
    assert "Licence: not on record" in words_of(data_sheet._terms(Evidence(tmp_path)))


def test_a_certificate_that_cannot_be_read_is_named(tmp_path):
    workspace = tmp_path / "ws"
    workspace.mkdir()
    a_certificate(workspace, 1, workspaces=3)
    with pytest.raises(InputError, match=r"erased-1\.json cannot be read as a certificate .*Restore"):
        deliveries.gather(subject_of(workspace), tmp_path)


@pytest.mark.parametrize("file", ["journal.jsonl", f"received/{'a' * 12}.csv"])
def test_a_damaged_store_is_named(tmp_path, file):
    store = a_store(tmp_path / "ws")
    (store / file).write_bytes(b"\n{no line\n")
    with pytest.raises(InputError, match=r"arrivals/movement cannot be read .*Restore"):
        deliveries.gather(subject_of(tmp_path / "ws"), tmp_path)


def test_the_drawing_holds_its_boxes_apart_and_its_words_inside():
    long = Box("Quarantine <of> & more", ["a word and " * 9, "p" * 30, *["kind: 1"] * 9])
    svg = draw(
        [(Box("One", ["1 row"]), long), (Box("Two", ["2"]), None)], [Box(f"End {i}", ["3"]) for i in range(3)], "T"
    )
    root = ElementTree.fromstring(svg)
    width, height = map(int, root.attrib["viewBox"].split()[2:])
    boxes = [
        [int(each.attrib[key]) for key in ("x", "y", "width", "height")] for each in root.iter() if "rect" in each.tag
    ]
    assert len(boxes) == 6
    for i, (x, y, w, h) in enumerate(boxes):
        assert x >= 0 and y >= 0 and x + w <= width and y + h <= height
        for u, v, a, b in boxes[i + 1 :]:
            assert x + w <= u or u + a <= x or y + h <= v or v + b <= y
    for each in root.iter():
        if each.tag.endswith("}text"):
            x, y = int(each.attrib["x"]), int(each.attrib["y"])
            assert any(u <= x <= u + a and v <= y <= v + b for u, v, a, b in boxes)


def test_annotators_of_the_station_have_numbers_and_their_agreement_intervals(tmp_path):
    from station_workspace import make_place, sources

    from fetalflow.annotation.annotation import Span
    from fetalflow.annotation.journal import Event

    place = make_place(tmp_path)
    source = sources(place)["first"]
    for number, (who, last) in enumerate((("anna.secret", 39), ("bob.secret", 29))):
        mark = Span(id=f"{number:032x}", label="head", first_frame=0, last_frame=last).model_dump(mode="json")
        events = [("mark", mark), ("submit", {})]
        place.journal.add(
            Event(who, "movement", source, f"{number}{i}".ljust(32, "a"), *each) for i, each in enumerate(events)
        )
    manifest = pd.DataFrame({"annotators": ["a;b", "a", ""]})
    found = {"rows": labels._rows(manifest), "why_no_rows": "", "station": labels._station(subject_of(tmp_path))}
    write_json(tmp_path / "e" / labels.FILE, found)
    assert found["rows"] == {"annotators": 2, "sequences_by_annotators": {"0": 1, "1": 1, "2": 1}}
    station = found["station"]
    assert (station["accounts"], station["cines"], station["read_by_several"]) == (2, 1, 1), station
    assert {(row["one"], row["other"]) for row in station["kappa"]} == {(1, 2)}
    assert "secret" not in (tmp_path / "e" / labels.FILE).read_text()
    said = words_of(labelled(Evidence(tmp_path / "e")))
    assert "1 and 2" in said and "Cohen's kappa over frames" in said
    labels.gather(subject_of(tmp_path), tmp_path / "e")  # no manifest here shows that these are the version's data
    assert read_json(tmp_path / "e" / labels.FILE)["station"] == {"why": f"{NO_MANIFEST} {labels.MAY_BE_OTHERS}"}


def test_a_workspace_without_a_journal_gets_none(tmp_path):
    assert labels._station(subject_of(tmp_path)) == {"why": labels.NO_JOURNAL}
    assert not list(tmp_path.iterdir())
    shutil.rmtree(tmp_path)
