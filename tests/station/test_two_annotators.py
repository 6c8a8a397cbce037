"""Two people label blind, a third decides, and an answer is corrected: on the pages that they use."""

import html
import re
from uuid import uuid4

import pandas as pd
import pytest
from starlette.testclient import TestClient
from station_workspace import make_place, put_network, sources

from fetalflow.annotation.studies import Study, write_study
from fetalflow.station.answered import answers_of
from fetalflow.station.app import station
from fetalflow.station.catalogue import Cine
from fetalflow.watch.log import AnswerLog
from fetalflow.watch.row import Answered

PASSWORD = "a long password for tests"
ACCOUNTS = {"anna": "annotator", "ben": "annotator", "ada": "adjudicator", "lea": "lead"}
TASK = "movement"


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    place = make_place(tmp_path_factory.mktemp("two"))
    (place.drop / "patients.csv").write_text("video,patient,site\nunlabelled.avi,P7,S1\n")
    with open(place.workspace / "params.yaml", "a") as file:
        file.write("\nwatch:\n  folder: answers\n")
    app = station(place)
    for name, role in ACCOUNTS.items():
        app.state.accounts.make(name, role, PASSWORD)
    app.state.cines = sources(place)
    return app


class Person:
    """A browser of one account, without scripts."""

    def __init__(self, app, name: str) -> None:
        self.client = TestClient(app, base_url="http://localhost", headers={"accept": "text/html"})
        token, self.session = app.state.accounts.log_in(name, PASSWORD)
        self.client.cookies.set("fetalflow_session", token)

    def get(self, path: str, status: int = 200) -> str:
        answer = self.client.get(path)
        assert answer.status_code == status, answer.text
        return html.unescape(answer.text)

    def post(self, path: str, status: int = 200, **form) -> str:
        answer = self.client.post(path, data=form | {"csrf": self.session.csrf})
        assert answer.status_code == status, answer.text
        return html.unescape(answer.text)

    def send(self, path: str, status: int = 200, **value):
        headers = {"x-csrf": self.session.csrf, "accept": "application/json"}
        answer = self.client.post(path, json=value, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    def label(self, source: str, label: str, first: int, last: int) -> None:
        mark = {"kind": "span", "id": uuid4().hex, "label": label, "first_frame": first, "last_frame": last}
        events = [
            {"id": uuid4().hex, "action": action, "value": value} for action, value in (("mark", mark), ("submit", {}))
        ]
        self.send(f"/marks/{TASK}/{source}", events=events)


@pytest.fixture(scope="module")
def people(app):
    return {name: Person(app, name) for name in ACCOUNTS}


def test_from_two_blind_annotators_over_a_decision_to_a_drop(app, people):
    source, place = app.state.cines["unlabelled"], app.state.place
    anna, ben, ada, lea = people.values()
    lea.post("/studies", name="pairs", which="unlabelled", accounts=["anna", "ben"], blind="yes")
    assert "anna, ben" in lea.get("/studies")
    anna.label(source, "arm", 0, 11)
    said = lea.post("/agreement/write", 422, where="place")  # ben has not submitted it
    assert "no row to write" in said and str(place.drop) not in said
    ben.label(source, "heart", 0, 11)
    assert "0 cines" not in ada.get("/agreement") and "Waits for a third person: 1" in ada.get("/agreement")

    page = ada.get(f"/adjudicate/{source}")
    assert not re.search(r"\b(anna|ben)\b", page)  # who decides does not know whose answer it is
    assert "arm: frames 0 to 11" in page and "heart: frames 0 to 11" in page
    about = re.search(r'name="about" value="(\w+)"', page)[1]
    side = re.search(r"<h3>(\w)</h3>(?:(?!<h3>).)*heart: frames", page, re.DOTALL)[1]
    others = ada.client.get(f"/overlays/{TASK}/{source}/marks").json()  # the layer over the cine
    assert {mark["label"]: mark["account"] for mark in others}["heart"] == side
    assert sorted(mark["account"] for mark in others) == ["A", "B"]
    for query in ("", f"&side={side}"):
        picture = ada.client.get(f"/adjudicate/{source}/picture?case=span 0-11{query}")
        assert picture.headers["content-type"] == "image/png" and picture.content.startswith(b"\x89PNG")
    form = {"case": "span 0-11", "about": about, "choice": side}
    assert "needs a reason" in ada.post(f"/adjudicate/{source}", 422, **form)
    assert "changed these marks" in ada.post(f"/adjudicate/{source}", 409, **form | {"about": "0" * 32}, why="so")
    assert "Nothing waits" not in ada.get("/agreement")
    assert "No disagreement" in ada.post(f"/adjudicate/{source}", **form, why="valves are seen")
    assert "Nothing waits" in lea.get("/agreement")

    assert "1 rows of 1 cines" in lea.post("/agreement/write", where="place")
    (row,) = pd.read_csv(place.drop / "annotations.csv", keep_default_na=False).to_dict("records")
    assert (row["video"], row["patient"], row["label"], row["annotator"]) == ("unlabelled.avi", "P7", "heart", "ada")
    said = (place.folder / "audit").glob("*.jsonl")
    actions = {line.split('"action": "')[1].split('"')[0] for path in said for line in path.read_text().splitlines()}
    assert actions >= {"write study", "view agreement", "view adjudication", "decide", "write drop"}


@pytest.mark.parametrize(
    ("name", "path", "status"),
    [
        ("anna", "/agreement", 403),
        ("anna", "/adjudicate/{unlabelled}", 403),
        ("ada", "/studies", 403),
        ("lea", "/adjudicate/{unknown}", 404),
        ("lea", "/adjudicate/..%2F..%2Fparams.yaml", 404),
        ("lea", "/adjudicate/{unlabelled}/picture?case=span 0-11&side=Z", 404),
        ("anna", "/correct/{unknown}", 404),
        ("anna", "/correct/{unlabelled}", 403),  # her study hides the network
        ("anna", "/correct/{first}", 200),
        ("anna", "/in-use", 200),
    ],
)
def test_who_may_open_which_page(app, people, name, path, status):
    people[name].get(path.format(unknown="f" * 64, **app.state.cines), status)


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"which": "all"}, "accounts"),
        ({"which": "all", "accounts": ["nobody"]}, "nobody"),
        ({"which": "these", "accounts": ["anna"], "sources": "0123456789ab"}, "fit 0 cines"),
        ({"which": "these", "accounts": ["anna"]}, "has no cine"),
        ({"which": "some", "accounts": ["anna"]}, "some"),
        ({"which": "all", "accounts": ["anna"], "least_dice": "7"}, "least_dice"),
    ],
)
def test_a_study_that_makes_no_sense_is_refused_with_a_sentence(people, form, said):
    assert said in people["lea"].post("/studies", 422, name="odd", **form)
    assert "odd" not in people["lea"].get("/studies")


def test_an_answer_is_judged_and_counts_in_use(app, people):
    source, anna = app.state.cines["first"], people["anna"]
    answer = {"origin": "service", "model": "fetal-movement 3", "first_frame": 0, "last_frame": 3, "answer": "head"}
    wrong = answer | {"right": False, "label": "heart", "why": "valves"}
    for change in (
        {"why": ""},
        {"label": ""},
        {"label": "nose"},
        {"last_frame": 400},
        {"origin": "x"},
        {"label": "(my marks)"},
    ):
        assert anna.send(f"/correct/{source}", 422, **wrong | change)["detail"]
    assert anna.send(f"/correct/{source}", **wrong)["of_truth"] is False
    assert anna.send(
        f"/correct/{source}", **answer | {"first_frame": 4, "last_frame": 7, "right": True, "label": "head"}
    )
    page = anna.get(f"/correct/{source}")
    assert "head is wrong (anna)" in page and "head is right (anna)" in page
    row = re.search(r"fetal-movement 3</th><td>service</td><td>(\d)</td><td>(\d)</td><td>([\d.]+)", anna.get("/in-use"))
    assert row.groups() == ("1", "1", "0.500")


def test_a_blind_person_learns_nothing_of_what_others_said(app, people):
    source, (anna, ben, ada, _) = app.state.cines["second"], people.values()
    study = Study(name="shown", accounts=("anna", "ada"), sources=(source,), network=True)
    write_study(app.state.place.journal, TASK, "lea", study)
    answer = {"origin": "service", "model": "fetal-movement 3", "first_frame": 0, "last_frame": 23, "answer": "foot"}
    ben.send(f"/correct/{source}", **answer | {"right": False, "label": "heart", "why": "valves"})
    log = AnswerLog(app.state.place.workspace / "answers")
    fields = {"model": "fetal-movement", "version": "3", "input": source, "probabilities": {"foot": 0.75}}
    for more in ({"label": "foot"}, {"label": "foot"}, {"label": "leg", "role": "shadow"}, {"label": None}):
        log.add(Answered(TASK, "service", **fields | more))
    log.settle("9999-01-01")  # also what is a Parquet file by now
    log.add(Answered(TASK, "measure", **fields | {"label": "hand", "input": "0" * 64}))
    log.add(Answered(TASK, "measure", **fields | {"label": "arm", "lengths": {"hc": (170.04, None, None)}}))
    page = anna.get(f"/correct/{source}")
    assert "another person judged it" in page and "wrong: heart" not in page
    shown = {text: page.count(f"<td>{text}</td>") for text in ("foot", "arm HC 170.0 mm", "leg", "hand")}
    assert shown == {"foot": 1, "arm HC 170.0 mm": 1, "leg": 0, "hand": 0}
    assert "<td>service, fetal-movement 3</td><td>0.75</td>" in page
    assert "wrong: heart" in ben.get(f"/correct/{source}")
    assert "wrong: heart" in people["lea"].get(f"/correct/{source}")
    saw = [event.account for event in app.state.place.journal.events(TASK, source) if event.action == "saw"]
    assert saw == ["lea"]  # she labels this cine blindly no more

    anna.label(source, "arm", 0, 20)
    ada.label(source, "head", 0, 20)
    page = ada.get("/agreement")
    assert "you label it" in page and "frames 0 to 20" not in page
    assert "frames 0 to 20: they agree on 0%" in people["lea"].get("/agreement")
    mine = answer | {"first_frame": 18, "last_frame": 23, "right": False, "label": "(my marks)", "why": "seen"}
    anna.send(f"/correct/{source}", **mine)  # her span begins before the answer
    (mark,) = app.state.place.journal.events(TASK, source, "anna")[-1].value["marks"]
    assert (mark["label"], mark["first_frame"], mark["last_frame"]) == ("arm", 18, 20)
    for person in (anna, ada):
        person.send(f"/marks/{TASK}/{source}", events=[{"id": uuid4().hex, "action": "reopen"}])
    write_study(app.state.place.journal, TASK, "lea", study.model_copy(update={"accounts": ("anna", "ben")}))


def test_who_labels_a_cine_from_nothing_gets_the_answers_after_it(tmp_path):
    place = make_place(tmp_path)
    app, source = station(place), sources(place)["unlabelled"]
    app.state.accounts.make("anna", "annotator", PASSWORD)
    anna = Person(app, "anna")
    assert "Label this cine and submit it first" in anna.get(f"/correct/{source}", 403)
    answer = {"origin": "predict", "model": "m 1", "first_frame": 0, "last_frame": 3, "answer": "arm", "right": True}
    anna.send(f"/correct/{source}", 403, **answer)
    anna.label(source, "arm", 0, 11)
    anna.send(f"/correct/{source}", **answer)
    assert "Is the answer right?" in anna.get(f"/correct/{source}")


def test_only_the_answers_of_the_workspaces_network_are_listed(tmp_path):
    place = make_place(tmp_path)
    runs = [{"fold": 0, "seed": seed, "first_frame": 0, "last_frame": 3} for seed in (1, 0)]
    rows = [run | {"y_true": "head", "y_pred": label, "part": "test"} for run, label in zip(runs, "ab", strict=True)]
    cine = Cine("c" * 64, TASK, "c", "P", "S", "D", (), (), frozenset(), None, predictions=rows)
    (tmp_path / "reports" / TASK).mkdir(parents=True)
    (tmp_path / "reports" / TASK / "registered.json").write_text('{"experiment": "of DVC"}')
    assert [answer.label for answer in answers_of(place, cine)] == ["b"]  # no network is there: the first run
    put_network(place)
    (found,) = answers_of(place, cine)
    assert found.label == "b" and re.search(r"\(not registered, [0-9a-f]{8}\)", found.model)
    (tmp_path / "reports" / TASK / "registered.json").write_text('{"name": "fetal-movement", "version": "4"}')
    assert answers_of(place, cine)[0].model == "fetal-movement 4"


def test_the_pages_work_with_keys_and_pass_axe(app, people, serving, browser):
    from axe_playwright_python.sync_playwright import Axe

    cines = app.state.cines
    people["anna"].label(cines["second"], "arm", 0, 20)
    people["ben"].label(cines["second"], "head", 0, 20)
    running = serving(app)
    address = next(running)
    context = browser.new_context(viewport={"width": 1400, "height": 900}, base_url=address)
    errors = []
    try:
        for name, path, key in [
            ("lea", f"/adjudicate/{cines['second']}", "1"),
            ("lea", "/agreement", ""),
            ("lea", "/studies", ""),
            ("ada", f"/correct/{cines['first']}", "j"),
            ("ada", "/in-use", ""),
        ]:
            token, _ = app.state.accounts.log_in(name, PASSWORD)
            context.add_cookies([{"name": "fetalflow_session", "value": token, "url": address}])
            page = context.new_page()
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.goto(path)
            found = Axe().run(page)
            assert found.violations_count == 0, f"{path}: {found.generate_report()}"
            if key == "1":
                page.keyboard.press("1")
                page.keyboard.type("seen")
                page.keyboard.press("Enter")
                page.get_by_text("No disagreement on this cine waits").wait_for()
            elif key:
                page.keyboard.press(key)
        assert not errors
    finally:
        context.close()
        next(running, None)
