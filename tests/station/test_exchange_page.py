"""Marks leave the station for another program and come back, by the page and by the verb."""

import io
import json
import re
import zipfile

import av
import pytest
from served_station import PASSWORD
from starlette.testclient import TestClient
from station_workspace import TASK, make_place, sources
from typer.testing import CliRunner

from fetalflow.annotation.exchange.folder import FORMATS, address
from fetalflow.annotation.journal import Event
from fetalflow.annotation.standing import standing, submitted
from fetalflow.annotation.studies import SAW, Study, write_study
from fetalflow.station import exchanged
from fetalflow.station.accounts import Accounts
from fetalflow.station.app import station
from fetalflow.station.catalogue import Catalogue
from flows.cli.app import app as verbs

MARK = {"kind": "span", "id": "1" * 32, "label": "head", "first_frame": 2, "last_frame": 9}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A station with one mark of anna, and a browser of the lead."""
    place = make_place(tmp_path_factory.mktemp("exchange"))
    app = station(place)
    for name, role in (("anna", "annotator"), ("ben", "annotator"), ("lea", "lead")):
        app.state.accounts.make(name, role, PASSWORD)
    source = sources(place)["first"]
    place.journal.add([Event("anna", TASK, source, "e" * 32, "mark", MARK)])
    client = TestClient(app, base_url="http://localhost")
    token, session = app.state.accounts.log_in("lea", PASSWORD)
    client.cookies.set("fetalflow_session", token)
    return place, source, client, session.csrf


def give(client, form: str) -> zipfile.ZipFile:
    answer = client.get(f"/exchange/{TASK}/{form}")
    assert answer.status_code == 200, answer.text
    return zipfile.ZipFile(io.BytesIO(answer.content))


def take(served, form: str, text: str | bytes, **more: str) -> tuple[int, str]:
    _, _, client, csrf = served
    data = {"csrf": csrf, "task": TASK, "form": form, **more}
    content = text.encode() if isinstance(text, str) else text
    answer = client.post("/exchange", data=data, files={"file": ("x", content)})
    return answer.status_code, answer.text


def test_every_format_leaves_and_what_comes_back_twice_stands_once(served):
    place, source, client, _ = served
    assert client.get("/exchange").status_code == 200
    tasks = give(client, "label-studio").read("video-tasks.json").decode()
    moved = tasks.replace("1" * 32, "2" * 32).replace('"end": 10', '"end": 12')
    for _ in range(2):
        status, said = take(served, "label-studio", moved)
        assert status == 200 and "1 marks were read" in said
    marks = standing(place.journal.events(TASK, source, "anna"))
    assert [(m.label, m.first_frame, m.last_frame) for m in marks] == [("head", 2, 9), ("head", 2, 11)]
    assert "left-out.txt" in give(client, "coco").namelist()
    name, labels = give(client, "cvat").namelist()
    assert name == f"{source}-anna.xml" and labels == "labels.json"
    assert take(served, "cvat", give(client, "cvat").read(name).decode())[0] == 200
    assert len(standing(place.journal.events(TASK, source, "anna"))) == 2


@pytest.mark.parametrize(
    ("form", "change", "said"),
    [
        ("label-studio", ("anna", "zoe"), "zoe"),
        ("label-studio", ('"head"', '"tail"'), "tail"),
        ("label-studio", ('"end": 10', '"end": 99'), "99"),
        ("label-studio", ("[", "{"), "no export"),
        ("nix", ("", ""), "unknown"),
    ],
)
def test_a_wrong_file_writes_nothing_and_says_why(served, form, change, said):
    place, _, client, _ = served
    before = len(place.journal.events(TASK))
    text = give(client, "label-studio").read("video-tasks.json").decode().replace(*change)
    status, page = take(served, form, text)
    assert status == 422 and said in page and len(place.journal.events(TASK)) == before


@pytest.mark.parametrize("form", FORMATS)
def test_the_verb_writes_the_pictures_too(served, tmp_path, form):
    place, source, _, _ = served
    words = ("station", "give", str(tmp_path / "out"), "--form", form, "--workspace", str(place.workspace))
    done = CliRunner().invoke(verbs, words)
    assert done.exit_code == 0, done.output
    cine = tmp_path / "out" / address(source, None)
    assert cine.is_file() == (form != "coco")
    if form != "coco":
        with av.open(str(cine)) as container:
            assert sum(1 for _ in container.decode(video=0)) == 40
    again = CliRunner().invoke(verbs, words)
    assert "not empty" in str(again.exception)
    if form == "label-studio":
        tasks = json.loads((tmp_path / "out" / "video-tasks.json").read_text())
        assert {task["data"]["source"] for task in tasks} == {source}
    assert [each.name for each in Accounts(place.folder / "accounts.db").list()] == ["anna", "ben", "lea"]


@pytest.mark.parametrize("form", ["label-studio", "cvat"])
def test_the_zip_that_a_program_exports_is_read_as_it_is(served, form):
    client = served[2]
    packed = client.get(f"/exchange/{TASK}/{form}").content
    status, page = take(served, form, packed)
    assert status == 200 and "0 are new or changed" in page
    for wrong, said in ((packed[:-40], "cannot be read"), (b"PK", "cannot be read"), (b"\xff\xfe", "no text in UTF-8")):
        status, page = take(served, form, wrong)
        assert status == 422 and said in page
    status, page = take(served, "coco" if form == "cvat" else "cvat", packed)
    assert status == 422 and ("choose its format" in page or "export as" in page)


def span(identity: str, first: int, last: int, note: str = "") -> dict:
    """A time line label as Label Studio exports it, which counts frames from 1."""
    value = {"ranges": [{"start": first + 1, "end": last + 1}], "timelinelabels": ["head"]}
    return {"id": identity, "type": "timelinelabels", "value": value, "meta": {"text": [note] if note else []}}


class File:
    """What a person of Label Studio, whom it knows by a number, marked on the second cine."""

    def __init__(self, served) -> None:
        self.served, self.place = served, served[0]
        self.source = sources(self.place)["second"]

    def take(self, *regions: dict, who: object = 7, **more: str) -> str:
        by = {"completed_by": who, "result": list(regions)}
        task = {"data": {"video": f"/data/{self.source}.mp4"}, "annotations": [by]}
        status, page = take(self.served, "label-studio", json.dumps([task]), **more)
        return " ".join(re.sub("<[^>]*>", "", page[page.index("<h1>") : page.index("Take marks out")]).split())

    def stands(self, name: str = "ben") -> list[tuple[int, int, str]]:
        marks = standing(self.place.journal.events(TASK, self.source, name))
        return sorted((mark.first_frame, mark.last_frame, mark.note) for mark in marks)

    def is_done(self, name: str = "ben") -> bool:
        return submitted(self.place.journal.events(TASK, self.source, name))


def test_marks_of_another_program_become_those_of_an_account_and_count_when_they_are_submitted(served):
    file = File(served)
    assert "marks of 7, who have no account here" in file.take(span("x1", 2, 9))
    assert "1 are new or changed" in (said := file.take(span("x1", 2, 9), people="7=ben"))
    assert "count when their annotators have submitted" in said and not file.is_done()
    assert "0 are new or changed, 1 are here" in file.take(span("x1", 2, 9), people="ben", submit="true")
    assert file.is_done() and file.stands() == [(2, 9, "")]
    # A program that gives marks other identities doubles none; a note that somebody wrote there comes in.
    assert "0 are new or changed" in file.take(span("other", 2, 9), people="ben")
    assert "ben has submitted the cine" in file.take(span("x1", 2, 12), people="ben")
    assert file.stands() == [(2, 9, "")], "nothing was written"
    assert "1 cines were submitted" in file.take(span("x1", 2, 12, "late"), people="ben", submit="true")
    assert file.stands() == [(2, 12, "late")] and file.is_done()
    # The first file again is older than what is here now.
    assert "1 are older than those here" in file.take(span("x1", 2, 9), people="ben", submit="true")
    assert file.stands() == [(2, 12, "late")]
    assert "does not say whose" in file.take(span("x1", 2, 9), people="7=")


def test_what_was_changed_at_the_station_is_not_undone_by_an_older_file(served):
    file, page = File(served), served[2]
    file.place.journal.add([Event("anna", TASK, file.source, "a" * 32, "mark", MARK | {"id": "a" * 32})])
    text = give(page, "label-studio").read("video-tasks.json").decode()
    changed = MARK | {"id": "a" * 32, "last_frame": 20}
    file.place.journal.add([Event("anna", TASK, file.source, "b" * 32, "mark", changed)])
    assert "1 are older" in take(served, "label-studio", text)[1]
    assert file.stands("anna") == [(2, 20, "")]
    file.place.journal.add([Event("anna", TASK, file.source, "c" * 32, "remove", {"mark": "a" * 32})])
    take(served, "label-studio", text)
    assert file.stands("anna") == [], "what was removed stays away"
    # The same file read as the work of somebody else is that person's, and she can change it.
    take(served, "label-studio", text, people="anna=lea")
    (mark,) = standing(file.place.journal.events(TASK, file.source, "lea"))
    assert mark.id != "a" * 32 and file.stands("lea") == [(2, 9, "")]


def test_cines_that_nobody_marked_go_out_with_the_answer_of_the_network(served, tmp_path, monkeypatch):
    place = served[0]
    window = {"first_frame": 0, "last_frame": 9, "label": "arm"}
    answered = {"windows": [window, window | {"first_frame": 5, "last_frame": 14}]}
    monkeypatch.setattr(exchanged, "answer_of", lambda catalogue, cine: answered)
    words = ["station", "give", "--unmarked", "--predictions", "--workspace", str(place.workspace)]
    done = CliRunner().invoke(verbs, [*words, str(tmp_path / "all"), "--drop", str(place.drop)])
    assert done.exit_code == 0, done.output
    tasks = json.loads((tmp_path / "all" / "video-tasks.json").read_text())
    assert {task["data"]["source"] for task in tasks} == set(sources(place).values())
    new = next(task for task in tasks if task["data"]["source"] == sources(place)["unlabelled"])
    (region,) = new["predictions"][0]["result"]
    assert (
        region["value"] == {"ranges": [{"start": 1, "end": 15}], "timelinelabels": ["arm"]} and not new["annotations"]
    )
    place.journal.add([Event("ben", TASK, sources(place)["unlabelled"], "d" * 32, "mark", MARK | {"id": "d" * 32})])
    left = CliRunner().invoke(verbs, [*words, str(tmp_path / "some")])
    assert "1 cines with marks are not in the list" in left.output and "--drop" in left.output


def test_a_cine_with_neither_marks_nor_answers_is_not_decoded_for_the_page(served, monkeypatch):
    """Thousands of cines of a drop would take an hour."""
    asked = []
    monkeypatch.setattr(Catalogue, "cine", lambda self, source, *of, **how: asked.append(source))
    monkeypatch.setattr(exchanged, "standing_by_account", lambda events: [])
    assert served[2].get(f"/exchange/{TASK}/label-studio?predictions=true").status_code == 200 and asked == []


@pytest.mark.parametrize(
    ("study", "plain", "predictions"),
    [
        ({"accounts": ("lea", "ben")}, 403, 403),
        ({"accounts": ("lea", "ben"), "blind": False}, 200, 403),
        ({"accounts": ("anna", "ben")}, 200, 200),
    ],
)
def test_a_lead_takes_nothing_out_that_a_study_hides_and_has_seen_the_rest(served, study, plain, predictions):
    place, source, client, _ = served
    write_study(place.journal, TASK, "lea", Study(name="s", **study))
    address = f"/exchange/{TASK}/label-studio"
    assert client.get(address).status_code == plain
    assert client.get(f"{address}?predictions=true").status_code == predictions
    seen = [event for event in place.journal.events(TASK, source, "lea") if event.action == SAW]
    assert len(seen) == 1, "once for each cine, by an earlier test"
