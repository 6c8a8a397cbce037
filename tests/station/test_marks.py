"""What the station writes of one annotator's marks, and what it refuses with a sentence."""

import itertools
import json
from types import SimpleNamespace
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient
from unlabelled_drops import marks_of, sources, unlabelled_place

from fetalflow.annotation.journal import Event
from fetalflow.annotation.studies import Study, write_study
from fetalflow.station.access import COOKIE
from fetalflow.station.app import station

PASSWORD = "correct horse battery"
HOST = "http://127.0.0.1:8787"
NUMBERS = itertools.count()


def new_id() -> str:
    return uuid4().hex


def span(label="head", first=0, last=3, **more) -> dict:
    return {"id": new_id(), "kind": "span", "label": label, "first_frame": first, "last_frame": last} | more


def shape(kind: str, **more) -> dict:
    return {"id": new_id(), "kind": kind, "label": "head", "first_frame": 1, "last_frame": 1} | more


class Person:
    """A browser of one account."""

    def __init__(self, app, name: str, task: str, source: str) -> None:
        self.name, self.url = name, f"/marks/{task}/{source}"
        self.client = TestClient(app, base_url=HOST, raise_server_exceptions=False)
        token, session = app.state.accounts.log_in(name, PASSWORD)
        self.client.cookies.set(COOKIE, token)
        self.client.headers["X-CSRF"] = session.csrf

    def send(self, *changes: tuple[str, dict], url: str = ""):
        events = [{"id": new_id(), "action": action, "value": value} for action, value in changes]
        body = json.dumps({"events": events})  # in ASCII, so that a lone surrogate arrives as a browser may send it
        return self.client.post(url or self.url, content=body, headers={"Content-Type": "application/json"})

    def read(self, after: int = -1) -> dict:
        return self.client.get(self.url, params={"after": after}).json()


@pytest.fixture(scope="module")
def stations(tmp_path_factory):
    """By task: the place, its app, and two people on its first cine."""
    made = {}
    for task in ("movement", "planes", "biometry"):
        place = unlabelled_place(tmp_path_factory.mktemp(task) / "w", task, {"anna": PASSWORD, "ben": PASSWORD})
        app, found = station(place), sources(place)
        people = {name: Person(app, name, task, found[0]) for name in ("anna", "ben")}
        made[task] = SimpleNamespace(place=place, app=app, sources=found, **people)
    return made


@pytest.fixture
def movement(stations):
    return stations["movement"]


@pytest.fixture
def biometry(stations):
    return stations["biometry"]


def test_each_account_has_its_marks_and_gets_nobody_elses(movement):
    hers, his = span("head"), span("arm")
    assert movement.anna.send(("mark", hers)).status_code == 200
    number = movement.ben.send(("mark", his)).json()["number"]
    mine = movement.ben.read()
    assert (mine["number"], [mark["id"] for mark in mine["marks"]]) == (number, [his["id"]])
    assert hers["id"] in [mark["id"] for mark in movement.anna.read()["marks"]]
    assert movement.ben.read(after=number) == {"number": number, "account": "ben"}


@pytest.mark.parametrize("action", ["mark", "remove"])
def test_nobody_changes_the_mark_of_another_person_or_another_cine(movement, action):
    hers = span()
    movement.anna.send(("mark", hers))
    value = hers | {"label": "foot"} if action == "mark" else {"mark": hers["id"]}
    other = movement.anna.url.replace(movement.sources[0], movement.sources[1])
    for answer in (movement.ben.send((action, value)), movement.anna.send((action, value), url=other)):
        assert answer.status_code == 422
        assert "belongs to another person or another cine" in answer.json()["detail"]
    assert marks_of(movement.place, "anna", movement.sources[0])[-1].label == "head"


WRONG_IN_BIOMETRY = [
    (shape("caliper", ends=[[1, 1], [160, 50]]), "160.00, 50.00 lies outside the picture of 160 x 120 px"),
    (shape("caliper", ends=[[1, 1], [1, 1]]), "same point"),
    (shape("caliper", ends=[[1, 1], [5, 1]], last_frame=2), "on one frame"),
    (shape("caliper", ends=[[1, 1]]), "ends"),
    (shape("ellipse", centre=[80, 60], axes=[300, 300], angle=0), "more than half of the ellipse's outline"),
    (shape("ellipse", centre=[80, 60], axes=[0, 3], angle=0), "greater than 0"),
    (shape("ellipse", centre=[-3, 60], axes=[3, 3], angle=0), "outside the picture"),
    (shape("polygon", corners=[[1, 1], [50, 1], [90, 1]]), "less than half a pixel"),
    (shape("polygon", corners=[[1, 1], [50, 1], [9, 120]]), "outside the picture"),
    (shape("polygon", corners=[[1, 1], [50, 1]]), "corners"),
    (shape("brush", size=[60, 160], runs=[0, 9600]), "60 x 160 px (height x width); the cine's frames have 120 x 160"),
    (shape("brush", size=[120, 160], runs=[0, 5]), "5 px together; a frame has 19200"),
    (shape("brush", size=[120, 160], runs=[19200]), "empty"),
    (shape("brush", size=[120, 160], runs=[-5, 19205]), "greater than or equal to 0"),
    (shape("caliper", ends=[[1, 1], [9, 9]], first_frame=6, last_frame=6), "the cine has the frames 0 to 5"),
    (shape("caliper", ends=[[1, 1], [9, 9]], label="hand"), "there are: head, abdomen, femur, other"),
    (shape("arrow"), "cannot be read"),
    (shape("caliper", ends=[[1, 1], [9, 9]], note="\ud800"), "note"),
    (shape("caliper", ends=[[1, 1], ["NaN", 9]]), "finite number"),
    (shape("caliper", ends=[[1, 1], [9, 9]], account="ben"), "account"),
]
WRONG_IN_MOVEMENT = [
    (span(last=30), "frames 0 to 30; the cine has the frames 0 to 29"),
    (span(first=5, last=4), "the last frame is not before the first"),
    (span(first=-1), "first_frame"),
    (span("Head"), "'Head' is no label of movement"),
    (shape("caliper", ends=[[1, 1], [9, 9]]), "movement has no marks of the kind caliper; it has: span"),
    (span(id="x"), "id"),
    (span(id={"x": 1}), "id"),
]


@pytest.mark.parametrize(
    ("task", "value", "words"),
    [("biometry", *case) for case in WRONG_IN_BIOMETRY] + [("movement", *case) for case in WRONG_IN_MOVEMENT],
)
def test_a_mark_that_does_not_fit_the_cine_is_refused_with_a_sentence_and_nothing_is_written(
    stations, task, value, words
):
    there = stations[task]
    before = there.anna.read()
    good = span() if task == "movement" else shape("caliper", ends=[[1, 1], [9, 9]])
    answer = there.anna.send(("mark", good), ("mark", value))
    assert (answer.status_code, words in answer.json()["detail"]) == (422, True), answer.json()
    assert there.anna.read() == before


@pytest.mark.parametrize(
    "value",
    [
        shape("caliper", ends=[[-0.5, -0.5], [159.5, 119.5]]),
        shape("ellipse", centre=[80, 60], axes=[85, 50], angle=30),
        shape("ellipse", centre=[80, 60], axes=[30, 40], angle=-170.5),
        shape("polygon", corners=[[1, 1], [9, 1], [9.25, 8]], started_from="fetalnet_lite", shown="its outline"),
        shape("brush", size=[120, 160], runs=[0, 19200]),
        shape("brush", size=[120, 160], runs=[80, 40, 19080], label="other"),
        span("femur", 0, 5),
    ],
)
def test_a_mark_comes_back_as_it_was_sent(biometry, value):
    assert biometry.anna.send(("mark", value)).status_code == 200
    mark = biometry.anna.read()["marks"][-1]
    assert {name: mark[name] for name in value} == value
    assert biometry.anna.send(("remove", {"mark": value["id"]})).status_code == 200
    assert value["id"] not in [mark["id"] for mark in biometry.anna.read()["marks"]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("erase", {}), "'erase' is unknown"),
        (("study", {"name": "s", "accounts": ["anna"]}), "'study' is unknown"),
        (("saw", {}), "'saw' is unknown"),
        (("submit", {"for": "ben"}), "no value"),
        (("remove", {}), "names the mark"),
        (("remove", {"mark": 3}), "names the mark"),
        (("remove", {"mark": ["0"]}), "names the mark"),
        (("remove", {"mark": "\ud800" * 32}), "names the mark"),
        (("remove", {"mark": "0" * 32, "for": "ben"}), "names the mark"),
    ],
)
def test_an_action_that_the_page_does_not_have_is_refused(movement, change, words):
    answer = movement.anna.send(change)
    assert (answer.status_code, words in answer.json()["detail"]) == (422, True), answer.json()


def test_a_submitted_cine_is_opened_again_before_it_is_changed(movement):
    assert movement.anna.send(("submit", {})).status_code == 200
    refused = movement.anna.send(("mark", span()))
    assert refused.json()["detail"] == "you submitted this cine; open it again before you change it."
    assert movement.ben.send(("mark", span())).status_code == 200
    assert movement.anna.read()["submitted"]
    assert movement.anna.send(("reopen", {}), ("mark", span()), ("submit", {})).status_code == 200
    assert movement.anna.send(("reopen", {})).status_code == 200


def test_an_event_that_comes_again_after_the_submit_is_acknowledged_and_stands_once(movement):
    event = {"id": new_id(), "action": "mark", "value": span("leg")}
    first = movement.anna.client.post(movement.anna.url, json={"events": [event]}).json()
    movement.anna.send(("submit", {}))
    again = movement.anna.client.post(movement.anna.url, json={"events": [event]})
    assert (again.status_code, again.json()) == (200, first)
    assert [mark["id"] for mark in movement.anna.read()["marks"]].count(event["value"]["id"]) == 1
    changed = event | {"value": event["value"] | {"label": "arm"}}
    assert movement.anna.client.post(movement.anna.url, json={"events": [changed]}).status_code == 422
    movement.anna.send(("reopen", {}))


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("/marks/movement/" + "0" * 64, 404),
        ("/marks/planes/{source}", 404),
        ("/marks/movement/..%2Fparams.yaml", 404),
        ("/marks/movement/params.yaml", 422),
    ],
)
def test_a_cine_that_the_list_does_not_have_is_not_there(movement, url, status):
    url = url.format(source=movement.sources[0])
    assert movement.anna.client.get(url).status_code == status
    assert movement.anna.send(("mark", span()), url=url).status_code == status


def test_views_and_changes_leave_audit_lines_and_a_look_for_news_does_not(movement):
    def lines() -> list[str]:
        files = (movement.place.folder / "audit").glob("*.jsonl")
        return [json.loads(line)["action"] for path in files for line in path.read_text().splitlines()]

    before = len(lines())
    number = movement.anna.read()["number"]
    movement.anna.read(after=number)
    movement.anna.send(("mark", span()))
    assert lines()[before:] == ["view own marks", "change marks"]


def test_the_next_cine_is_the_next_one_that_the_account_has_not_submitted(stations):
    planes = stations["planes"]
    listed = list(planes.app.state.catalogue.rows().query("task == 'planes'")["source"])

    def following(person, after):
        return person.client.get("/labelling/planes/next", params={"after": after}).json()["source"]

    assert [following(planes.anna, source) for source in listed] == [*listed[1:], listed[0]]
    for source in listed[:-1]:
        planes.anna.send(("submit", {}), url=f"/marks/planes/{source}")
    assert following(planes.anna, listed[0]) == listed[-1]
    assert following(planes.anna, listed[-1]) is None
    assert following(planes.ben, listed[0]) == listed[1]
    planes.anna.send(("reopen", {}), url=f"/marks/planes/{listed[1]}")
    found = planes.anna.client.get("/labelling/planes/stills").json()
    assert [still["source"] for still in found["stills"]] == [listed[1], listed[-1]]
    assert planes.app.state.catalogue.cine(listed[1]).record["digest"] == found["stills"][0]["digest"]


def test_what_nobody_can_decode_or_a_study_gives_to_others_is_not_next(stations):
    planes, others = stations["planes"], Study(name="his", accounts=("ben",), sources=())
    (planes.place.drop / "broken.png").write_bytes(b"\x89PNG no picture")
    url = f"/marks/planes/{planes.sources[0]}"
    for source in planes.sources:
        planes.ben.send(("submit", {}), url=url.replace(planes.sources[0], source))
    assert planes.ben.client.get("/labelling/planes/next").json() == {"source": None}
    assert planes.ben.client.get("/labelling", follow_redirects=False).headers["location"] == "/cines"
    planes.ben.send(("reopen", {}), url=url)
    assert planes.ben.client.get("/labelling", follow_redirects=False).headers["location"] == "/labelling/planes"
    write_study(planes.place.journal, "planes", "lea", others.model_copy(update={"sources": tuple(planes.sources)}))
    assert planes.anna.client.get("/labelling/planes/next").json() == {"source": None}
    assert planes.ben.client.get("/labelling/planes/next").json() == {"source": planes.sources[0]}
    assert (planes.ben.client.get(url).json()["counts"], planes.anna.client.get(url).json()["counts"]) == (True, False)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["anna", "ben"]),
        st.sampled_from(["mark", "mark", "remove", "submit", "reopen", "again"]),
        st.integers(0, 2),
        st.sampled_from(["head", "leg", "wrong"]),
    ),
    max_size=10,
)


@settings(max_examples=12, deadline=None)
@given(steps=STEPS)
def test_what_the_api_gives_is_what_the_accepted_events_say(stations, steps):
    """A plain model of marks by account, against the server; `again` sends the last event of the account once more."""
    there, example = stations["movement"], next(NUMBERS)
    ids = {(name, i): f"{example:024x}{int(name == 'ben'):04x}{i:04x}" for name in ("anna", "ben") for i in range(3)}
    held, done, last = {"anna": {}, "ben": {}}, {"anna": False, "ben": False}, {}
    for name in held:
        getattr(there, name).send(("reopen", {}))
    for name, action, i, label in steps:
        person, mark = getattr(there, name), ids[name, i]
        if action == "again":
            if name in last:
                assert person.client.post(person.url, json={"events": [last[name]]}).status_code == 200
            continue
        value = {"mark": span(label, id=mark), "remove": {"mark": mark}}.get(action, {})
        event = {"id": new_id(), "action": action, "value": value}
        status = person.client.post(person.url, json={"events": [event]}).status_code
        is_refused = action in ("mark", "remove") and done[name] or (action == "mark" and label == "wrong")
        assert status == (422 if is_refused else 200)
        if is_refused:
            continue
        last[name] = event
        if action == "mark":
            held[name][mark] = label
        elif action == "remove":
            held[name].pop(mark, None)
        else:
            done[name] = action == "submit"
    for name, marks in held.items():
        found = getattr(there, name).read()
        mine = {mark["id"]: mark["label"] for mark in found["marks"] if mark["id"].startswith(f"{example:024x}")}
        assert (mine, found["submitted"]) == (marks, done[name])
        getattr(there, name).send(("reopen", {}))


def test_two_writers_at_once_cannot_get_a_mark_behind_a_submit(movement):
    """The check and the writing are one transaction: what another process submits in between counts."""
    journal, seen = movement.place.journal, []

    def check(event, earlier):
        seen.append([each.action for each in earlier])

    movement.anna.send(("submit", {}))
    journal.add([Event("anna", "movement", movement.sources[0], new_id(), "mark", span())], check)
    assert seen == [["submit"]]
    movement.anna.send(("reopen", {}))
