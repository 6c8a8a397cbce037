"""Deciding on quarantined rows: what a release and a reject do at the next extraction, and what they refuse."""

import json
import re
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import yaml
from cine_files import speckle, write_video
from typer.testing import CliRunner

from fetalflow.errors import InputError
from fetalflow.hospital.drop.quarantine import check_share
from fetalflow.hospital.drop.review import RELEASABLE, history, read_decisions, row_id, write_decisions
from fetalflow.hospital.quarantine_desk import TO_DO, Desk
from fetalflow.sequences.extraction import extract_drop
from fetalflow.settings.params import Extract
from flows.cli.app import app
from flows.workspaces.workspace import prepare
from stages import extract as stage

ROOT = Path(__file__).parents[2]
EXTRACT = Extract(labels=("head", "arm"), frames=5, stride=5, workers=1, quarantine_share=1.0)


def row(video="a.avi", patient="P1", annotator="ann", start="", end="", label="head"):
    return {"video": video, "patient": patient, "site": "north", "device": "convex", "annotator": annotator,
            "start_frame": start, "end_frame": end, "label": label}  # fmt: skip


GOOD = row("good.avi", "P9")
ROWS = [
    GOOD,
    row(annotator="x"),
    row(annotator="y", label="arm"),  # disagrees with the row before
    row("b.avi", "P2", label="hed"),
    row("b.avi", "P2", start="10", end="24"),  # the cine has frames 0-23
    row("gone.avi", "P3"),
]


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A workspace over a drop with a quarantined row of several kinds, extracted once."""
    drop = tmp_path / "drop"
    for number, name in enumerate(("good", "a", "b")):
        drop.mkdir(exist_ok=True)
        write_video(drop / f"{name}.avi", speckle(24, 64, 96, seed=number))
    pd.DataFrame(ROWS).to_csv(drop / "annotations.csv", index=False)
    changes = {"tasks": {"movement": {"drop": str(drop)}}, "movement": {"extract": EXTRACT.model_dump(mode="json")}}
    folder = prepare(tmp_path / "run", changes=[changes])
    monkeypatch.chdir(folder)
    stage.main("movement")
    return folder


def extracted():
    stage.main("movement")
    return pd.read_parquet("data/movement/extracted.parquet"), pd.read_csv("data/movement/quarantine.csv")


def name_of(row):
    return row_id(row)


def test_list_counts_every_kind_and_says_what_to_do(workspace):
    desk = Desk(workspace, "movement")
    kinds = {found["kind"]: found for found in desk.counts()}
    assert {k: f["rows"] for k, f in kinds.items()} == {"disagreement": 2, "label": 1, "missing": 1, "span": 1}
    assert kinds["span"]["releasable"] and not kinds["missing"]["releasable"]
    assert [r["video"] for r in desk.rows("missing")] == ["gone.avi"]
    with pytest.raises(InputError, match="one of its kinds: disagreement"):
        desk.rows("truncated")


def test_show_gives_the_cine_its_other_rows_and_nothing_outside_the_drop(workspace):
    shown = Desk(workspace, "movement").show(name_of(ROWS[1]))
    assert shown["facts"]["frames"] == 24 and shown["facts"]["fps"] == 25
    assert [other["annotator"] for other in shown["same_cine"]] == ["y"]
    outside = row("../params.yaml", "P4")
    pd.DataFrame([*ROWS, outside]).to_csv(workspace.parent / "drop" / "annotations.csv", index=False)
    extracted()
    assert Desk(workspace, "movement").show(name_of(outside))["facts"] == {"file": "not in the drop"}


def test_without_decisions_nothing_changes(workspace):
    drop, store = workspace.parent / "drop", workspace / "data/movement/frames"
    with_none = extract_drop(drop, EXTRACT, store, decisions={})
    by_stage = json.loads((workspace / "reports/movement/extract.json").read_text())
    assert by_stage.pop("read").keys() == {"drop", "decisions"} and with_none.summary == by_stage
    assert "rows_released" not in with_none.summary


def test_a_disagreement_is_adjudicated_by_the_label_that_counts(workspace):
    kappa = json.loads(Path("reports/movement/extract.json").read_text())["kappa"]
    Desk(workspace, "movement").release([name_of(ROWS[2])], "Dr Example", "seen frame by frame", label="arm")
    sequences, quarantine = extracted()
    used = sequences[sequences.video == "a.avi"]
    assert set(used.label) == {"arm"} and set(used.annotators) == {"y"} and len(used) == 4
    assert quarantine[quarantine.video == "a.avi"].kind.tolist() == ["rejected"]
    assert "overrules" in quarantine[quarantine.video == "a.avi"].reason.iloc[0]
    summary = json.loads(Path("reports/movement/extract.json").read_text())
    assert summary["rows_released"] == 1 and summary["rows"] == summary["rows_used"] + summary["rows_quarantined"]
    assert summary["kappa"] == kappa  # what the annotators said is reported as they said it


def test_naming_the_label_of_the_other_row_uses_both(workspace):
    Desk(workspace, "movement").release([name_of(ROWS[2])], "Dr Example", "a slip", label="head")
    sequences, quarantine = extracted()
    used = sequences[sequences.video == "a.avi"]
    assert set(used.label) == {"head"} and len(used) == 4 and "a.avi" not in set(quarantine.video)


def test_rejecting_one_of_two_leaves_the_other_in_agreement_with_itself(workspace):
    Desk(workspace, "movement").reject([name_of(ROWS[1])], "Dr Example", "wrong side")
    sequences, quarantine = extracted()
    assert set(sequences[sequences.video == "a.avi"].label) == {"arm"}
    assert quarantine.set_index("annotator").kind["x"] == "rejected"


def test_label_and_span_can_be_released(workspace):
    desk = Desk(workspace, "movement")
    desk.release([name_of(ROWS[3])], "Dr Example", "a slip of the pen", label="arm")
    desk.release([name_of(ROWS[4])], "Dr Example", "one frame too far")
    sequences, quarantine = extracted()
    # The two rows of b.avi now meet: whole cine arm, frames 10-23 head. One annotator may not say both.
    assert quarantine[quarantine.video == "b.avi"].kind.tolist() == ["disagreement"] * 2
    Desk(workspace, "movement").reject([name_of(ROWS[3])], "Dr Example", "the second is right")
    sequences, _ = extracted()
    used = sequences[sequences.video == "b.avi"]
    assert set(used.label) == {"head"} and used.last_frame.max() <= 23 and used.first_frame.min() == 10


def test_a_release_ends_when_the_file_changes_and_a_rejection_does_not(workspace):
    drop = workspace.parent / "drop"
    desk = Desk(workspace, "movement")
    desk.release([name_of(ROWS[2])], "Dr Example", "seen", label="arm")
    desk.reject([name_of(ROWS[5])], "Dr Example", "never recorded")
    for name, seed in (("a", 70), ("gone", 71)):
        write_video(drop / f"{name}.avi", speckle(24, 64, 96, seed=seed))
    sequences, quarantine = extracted()
    by_row = {name_of(r): r for r in quarantine.fillna("").to_dict("records")}
    assert "changed since" in by_row[name_of(ROWS[2])]["reason"]
    assert by_row[name_of(ROWS[5])]["kind"] == "rejected"
    assert "gone.avi" not in set(sequences.video)


def test_rejected_rows_do_not_count_against_the_share(workspace):
    quarantine = pd.read_csv("data/movement/quarantine.csv")
    with pytest.raises(InputError, match="5 of 6 rows"):
        check_share(quarantine, 6, 0.5, "q.csv")
    Desk(workspace, "movement").reject([name_of(r) for r in ROWS[1:]], "Dr Example", "all bad")
    _, quarantine = extracted()
    check_share(quarantine, 6, 0.0, "q.csv")
    assert set(quarantine.kind) == {"rejected"} and len(quarantine) == 5


@pytest.mark.parametrize(
    ("number", "label", "message"),
    [
        (5, "", "kind is 'missing'.*deliver the file"),
        (2, "", "give the correct label"),
        (2, "foot", "not one of head, arm"),
        (4, "arm", "leave out --label"),
    ],
)
def test_what_cannot_be_released_says_so_and_writes_nothing(workspace, number, label, message):
    before = Path("reviews/movement.csv").read_bytes()
    with pytest.raises(InputError, match=message):
        Desk(workspace, "movement").release([name_of(ROWS[number])], "Dr Example", "because", label=label)
    assert Path("reviews/movement.csv").read_bytes() == before


def test_a_rejection_can_be_taken_back_where_the_kind_can_be_released(workspace):
    Desk(workspace, "movement").reject([name_of(ROWS[4]), name_of(ROWS[5])], "Dr Example", "too hasty")
    extracted()
    desk = Desk(workspace, "movement")
    with pytest.raises(InputError, match="kind is 'missing'"):
        desk.release([name_of(ROWS[5])], "Dr Example", "again")
    desk.release([name_of(ROWS[4])], "Dr Example", "looked again")
    sequences, _ = extracted()
    assert "b.avi" in set(sequences.video)
    assert [d.decision for d in history(Path("reviews/movement.csv"))] == ["reject", "reject", "release"]


def test_decisions_are_only_added_and_survive(workspace):
    desk = Desk(workspace, "movement")
    desk.reject([name_of(ROWS[5])], "Dr Example", 'a "quoted", reason\nin two lines')
    first = Path("reviews/movement.csv").read_text()
    assert desk.counts()[2]["waiting"] == 1 and desk.counts()[2]["kind"] == "missing"
    extracted()
    assert not Desk(workspace, "movement").pending()
    desk.reject([name_of(ROWS[4])], "Dr Example", "no")
    assert Path("reviews/movement.csv").read_text().startswith(first)
    assert Path("reviews/movement.csv").read_text() != first
    prepare(workspace, changes=[{"tasks": {"movement": {"drop": "drop"}}}])
    assert len(history(Path("reviews/movement.csv"))) == 2


def test_a_damaged_file_of_decisions_stops_extraction(workspace):
    path = Path("reviews/movement.csv")
    write_decisions(path, [])
    path.write_text(path.read_text() + "2026-01-01,somebody,release\n")
    with pytest.raises(InputError, match="line 2.*backup"):
        stage.main("movement")
    path.write_text("who,why\n")
    with pytest.raises(InputError, match="line 1"):
        read_decisions(path)


def test_a_zip_is_decided_on_like_a_folder(workspace):
    drop = workspace.parent / "drop"
    packed = workspace.parent / "drop.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(drop.iterdir()):
            archive.write(path, path.name)
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["tasks"]["movement"]["drop"] = str(packed)
    Path("params.yaml").write_text(yaml.safe_dump(params))
    Desk(workspace, "movement").release([name_of(ROWS[1])], "Dr Example", "seen", label="arm")
    sequences, _ = extracted()
    assert set(sequences[sequences.video == "a.avi"].label) == {"arm"}


def test_the_command_line_lists_shows_and_decides(workspace):
    def call(*words):
        done = CliRunner().invoke(app, ["quarantine", *words])
        assert done.exit_code == 0, done.output
        return done.stdout

    listed = call("list")
    assert "2 disagreement" in listed and name_of(ROWS[2]) in listed and "deliver the file" in listed
    assert json.loads(call("show", name_of(ROWS[2])))["row"]["label"] == "arm"
    call("release", name_of(ROWS[2])[:6], "--by", "Dr Example", "--why", "seen", "--label", "arm")
    call("reject", name_of(ROWS[5]), name_of(ROWS[4]), "--by", "Dr Example", "--why", "no")
    assert "decided: release, in effect from the next run" in call("list", "--kind", "disagreement")
    assert json.loads(call("list", "--json"))["waiting"] == sorted(name_of(ROWS[n]) for n in (2, 4, 5))
    error = CliRunner().invoke(app, ["quarantine", "reject", "zzz", "--by", "x", "--why", "y"]).exception
    assert isinstance(error, InputError) and "quarantine list" in str(error)


def test_rows_are_decided_on_in_bulk_by_filters(workspace):
    def call(*words):
        done = CliRunner().invoke(app, ["quarantine", *words, "--by", "Dr Example", "--reason", "seen by a reader"])
        if isinstance(done.exception, InputError):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.stdout

    planned = call("release", "--kind", "disagreement", "--site", "North", "--label", "arm", "--plan")
    assert planned.startswith("2 rows would") and not history(Path("reviews/movement.csv"))
    for filters, said in (
        (["--site", "south"], "waits for a decision with site 'south'"),
        (["--kind", "label", "--patient", "P3"], "kind 'label', patient 'P3'"),
        ([], "needs either"),
        (["abc", "--kind", "label"], "needs either"),
    ):
        with pytest.raises(InputError, match=said):
            call("reject", *filters)
    with pytest.raises(InputError, match="cannot be released: its kind is 'missing'"):
        call("release", "--patient", "P3")
    call("release", "--kind", "label", "--label", "head", "--video", "b*")
    call("reject", "--kind", "disagreement", "--labelled", "arm", "--annotator", "y")
    decided = {(each.decision, each.row) for each in history(Path("reviews/movement.csv"))}
    assert decided == {("release", name_of(ROWS[3])), ("reject", name_of(ROWS[2]))}
    assert {each.why for each in history(Path("reviews/movement.csv"))} == {"seen by a reader"}
    call("reject", "--site", "north")
    assert len(history(Path("reviews/movement.csv"))) == 5, "what was decided before is not decided again"
    with pytest.raises(InputError, match="5 of them are decided already"):
        call("reject", "--site", "north")


def test_every_kind_that_extraction_or_docs_name_has_something_to_do():
    library = ROOT / "fetalflow"
    rooms = [library / "hospital" / "drop", library / "sequences", library / "cine"]
    files = [path for room in rooms for path in room.rglob("*.py")]
    code = "\n".join(path.read_text() for path in files)
    raised = set(re.findall(r'Rejected\(\s*"(\w+)"', code))
    page = (ROOT / "docs" / "data-engineer" / "drop.md").read_text().split("## Quarantine")[1]
    documented = set(re.findall(r"^\| `(\w+)` \|", page, re.M))
    assert raised <= set(TO_DO) and documented == set(TO_DO) and set(RELEASABLE) < set(TO_DO)
