"""Marks leave the station for another program and come back, by the page and by the verb."""

import io
import json
import zipfile

import av
import pytest
from conftest import PASSWORD
from starlette.testclient import TestClient
from station_workspace import TASK, make_place, sources
from typer.testing import CliRunner

from fetalflow.annotation.exchange.folder import FORMATS, address
from fetalflow.annotation.journal import Event
from fetalflow.annotation.standing import standing
from fetalflow.station.accounts import Accounts
from fetalflow.station.app import station
from flows.cli.app import app as verbs

MARK = {"kind": "span", "id": "1" * 32, "label": "head", "first_frame": 2, "last_frame": 9}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A station with one mark of anna, and a browser of the lead."""
    place = make_place(tmp_path_factory.mktemp("exchange"))
    app = station(place)
    for name, role in (("anna", "annotator"), ("lea", "lead")):
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


def take(served, form: str, text: str) -> tuple[int, str]:
    _, _, client, csrf = served
    data = {"csrf": csrf, "task": TASK, "form": form}
    answer = client.post("/exchange", data=data, files={"file": ("x", text.encode())})
    return answer.status_code, answer.text


def test_every_format_leaves_and_what_comes_back_twice_stands_once(served):
    place, source, client, _ = served
    assert client.get("/exchange").status_code == 200
    tasks = give(client, "label-studio").read("tasks.json").decode()
    moved = tasks.replace("1" * 32, "2" * 32).replace('"end": 10', '"end": 12')
    for _ in range(2):
        status, said = take(served, "label-studio", moved)
        assert status == 200 and "1 marks were read" in said
    marks = standing(place.journal.events(TASK, source, "anna"))
    assert [(m.label, m.first_frame, m.last_frame) for m in marks] == [("head", 2, 9), ("head", 2, 11)]
    assert "left-out.txt" in give(client, "coco").namelist()
    (name,) = give(client, "cvat").namelist()
    assert name == f"{source}-anna.xml"
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
    text = give(client, "label-studio").read("tasks.json").decode().replace(*change)
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
        tasks = json.loads((tmp_path / "out" / "tasks.json").read_text())
        assert {task["data"]["source"] for task in tasks} == {source}
    assert [each.name for each in Accounts(place.folder / "accounts.db").list()] == ["anna", "lea"]
