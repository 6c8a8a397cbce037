"""The page of the quarantine decides what `fetalflow quarantine` decides, for a lead, in the same file."""

import shutil
from contextlib import contextmanager
from dataclasses import asdict

import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from finished_run import TASK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.sync_api import expect
from starlette.testclient import TestClient
from typer.testing import CliRunner

from fetalflow.errors import InputError
from fetalflow.hospital.drop.review import history, row_id
from fetalflow.hospital.quarantine_desk import Desk
from fetalflow.station.app import station
from fetalflow.station.place import Place
from flows.cli.app import app as cli

PASSWORD = "a long password for tests"
FEW = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=30)


@pytest.fixture(scope="module")
def station_of(review, tmp_path_factory):
    """A station over a copy of the workspace, with a lead and an annotator."""
    folder = tmp_path_factory.mktemp("desk") / "run"
    shutil.copytree(review[0].workspace, folder, ignore=shutil.ignore_patterns("station"))
    app = station(Place(folder, TASK))
    for name, role in (("ann", "annotator"), ("lea", "lead")):
        app.state.accounts.make(name, role, PASSWORD)
    return app


@pytest.fixture
def app(station_of):
    (station_of.state.place.workspace / "reviews" / f"{TASK}.csv").unlink(missing_ok=True)
    return station_of


@pytest.fixture(scope="module")
def lea(station_of):
    return client_of(station_of, "lea")


@pytest.fixture
def client(app, lea):
    return lea


def client_of(app, name: str) -> TestClient:
    client = TestClient(app, base_url="http://127.0.0.1:8787", raise_server_exceptions=False)
    token, session = app.state.accounts.log_in(name, PASSWORD)
    client.cookies.set("fetalflow_session", token)
    client.headers["X-CSRF"] = session.csrf
    return client


def rows(client, **wanted: str) -> list[dict]:
    answer = client.get(f"/quarantine/{TASK}/rows", params=wanted)
    assert answer.status_code == 200, answer.text
    return answer.json()["rows"]


def named(client) -> dict[str, str]:
    """The names of the rows by kind; of the two that differ, by their label."""
    return {row["label"] if row["kind"] == "disagreement" else row["kind"]: row["row"] for row in rows(client)}


def decide(client, decision: str, names: list[str], why: str = "seen", label: str = ""):
    body = {"decision": decision, "rows": names, "why": why, "label": label}
    return client.post(f"/quarantine/{TASK}/decide", json=body)


def reviews(app) -> list:
    return history(app.state.place.workspace / "reviews" / f"{TASK}.csv")


def test_only_a_lead_sees_and_decides(app):
    ann = client_of(app, "ann")
    assert ann.get("/quarantine").status_code == 403
    assert ann.get(f"/quarantine/{TASK}/rows").status_code == 403
    assert decide(ann, "reject", ["0" * 12]).status_code == 403 and not reviews(app)


def test_the_page_shows_what_the_verb_lists_and_shows(client, app):
    desk, found = Desk(app.state.place.workspace, TASK), client.get(f"/quarantine/{TASK}/rows").json()
    assert found["kinds"] == desk.counts()
    for shown, known in zip(found["rows"], desk.rows(), strict=True):
        same = ("row", "video", "patient", "start_frame", "end_frame", "label", "annotator", "kind", "reason")
        assert {key: shown[key] for key in same} == {key: known[key] for key in same}
    name = named(client)["head"]
    details, known = client.get(f"/quarantine/{TASK}/rows/{name}").json(), desk.show(name)
    assert details["to_do"] == known["to_do"] and details["decisions"] == []
    assert details["facts"]["frames"] == 24 and details["facts"]["source"] == known["facts"]["source"]
    assert [row["row"] for row in details["same_cine"]] == [row["row"] for row in known["same_cine"]]
    assert "--label" not in details["release"]
    assert client.get(f"/quarantine/{TASK}/rows/zzz").status_code == 422


@pytest.mark.parametrize(
    "wanted",
    [
        *({"kind": "disagreement"}, {"site": "canary bay hospital"}, {"label": "arm"}, {"annotator": "X"}),
        *({"patient": "p2"}, {"video": "b*"}, {"video": "*", "kind": "span", "site": "Canary-Bay Hospital"}),
        *({"kind": "nothing"}, {"site": "Elsewhere"}),
    ],
)
def test_the_filters_choose_the_rows_that_the_verb_would(client, app, wanted):
    found = {row["row"] for row in rows(client, **wanted)}
    try:
        known = set(Desk(app.state.place.workspace, TASK).select(**wanted))
    except InputError:
        known = set()
    assert found == known


def test_a_plan_says_which_rows_and_decides_nothing(client, app):
    names = named(client)
    wanted = {"decision": "release", "rows": list(names.values()), "label": "arm"}
    found = client.post(f"/quarantine/{TASK}/plan", json=wanted).json()
    assert set(found["rows"]) == {names["head"], names["arm"], names["label"]}
    assert "this row has the kind 'span', so its label is not changed" in found["refused"][names["span"]]
    assert "deliver the file" in found["refused"][names["missing"]]
    assert not any("--" in sentence for sentence in found["refused"].values()), "no option of a terminal"
    found = client.post(f"/quarantine/{TASK}/plan", json=wanted | {"decision": "reject"}).json()
    assert set(found["rows"]) == set(names.values()) and not found["refused"] and not reviews(app)


@pytest.mark.parametrize(
    ("decision", "which", "why", "label", "said"),
    [
        ("reject", ["span"], " ", "", "a decision needs a reason"),
        ("release", ["head", "span"], "seen", "arm", "leave the label empty"),
        ("release", ["head"], "seen", "", "choose the correct label"),
        ("release", ["head"], "seen", "tail", "the label 'tail' is not one of arm, head, heart"),
        ("release", ["missing"], "seen", "", "cannot be released: its kind is 'missing'"),
    ],
)
def test_what_cannot_be_decided_is_a_sentence_and_nothing_is_written(client, app, decision, which, why, label, said):
    names = named(client)
    answer = decide(client, decision, [names[each] for each in which], why, label)
    assert answer.status_code == 422 and said in answer.json()["detail"], answer.text
    assert not reviews(app)
    assert decide(client, decision, ["0" * 12], "seen").status_code == 422
    assert decide(client, "forget", [names["span"]]).status_code == 422
    for odd in ("a\x00b", "a\x1bb"):  # the record is a text file
        assert decide(client, "reject", [names["span"]], odd).status_code == 422
    assert not reviews(app)


def test_decisions_are_in_the_one_file_and_on_the_page_until_the_next_run(client, app):
    names = named(client)
    assert decide(client, "release", [names["head"], names["label"]], " two readers agree ", "head").status_code == 200
    assert decide(client, "reject", [names["missing"]], 'a typing error, "see" mail\nof Monday').status_code == 200
    found = {row["row"]: row["decided"] for row in rows(client)}
    assert found[names["head"]] == {"decision": "release", "who": "lea", "as_label": "head"}
    assert found[names["missing"]]["decision"] == "reject" and found[names["span"]] is None
    assert [line.why for line in reviews(app)] == ["two readers agree"] * 2 + ['a typing error, "see" mail\nof Monday']
    kinds = {kind["kind"]: kind["waiting"] for kind in client.get(f"/quarantine/{TASK}/rows").json()["kinds"]}
    assert kinds == {"disagreement": 1, "label": 1, "missing": 1, "span": 0}
    plan = {"decision": "reject", "rows": [names["head"], names["span"]]}  # of a page that was loaded before
    found = client.post(f"/quarantine/{TASK}/plan", json=plan).json()
    assert found["decided"] == {names["head"]: "release by lea"} and len(found["rows"]) == 2
    decide(client, "reject", [names["head"]], "a second look")
    past = client.get(f"/quarantine/{TASK}/rows/{names['head']}").json()["decisions"]
    assert [(each["decision"], each["why"]) for each in past] == [
        ("release", "two readers agree"),
        ("reject", "a second look"),
    ]
    lines = [line for path in app.state.audit.folder.glob("*") for line in path.read_text().splitlines()]
    assert any("release rows in quarantine" in line and names["label"] in line and '"lea"' in line for line in lines)


@FEW
@given(data=st.data(), why=TEXT.filter(str.strip), decision=st.sampled_from(["release", "reject"]))
def test_a_decision_by_the_page_and_by_the_verb_write_the_same_line(app, client, tmp_path_factory, data, why, decision):
    place = app.state.place
    names = named(client)
    possible = ["head", "arm", "label"] if decision == "release" else list(names)
    chosen = [names[each] for each in data.draw(st.lists(st.sampled_from(possible), min_size=1, unique=True))]
    label = data.draw(st.sampled_from(["head", "heart"])) if decision == "release" else ""
    other = tmp_path_factory.mktemp("other")
    (other / "params.yaml").write_text((place.workspace / "params.yaml").read_text())
    (other / "data" / TASK).mkdir(parents=True)
    shutil.copy(place.workspace / "data" / TASK / "quarantine.csv", other / "data" / TASK)
    before = len(reviews(app))
    answer = decide(client, decision, chosen, why, label)
    words = ["quarantine", decision, *chosen, "--by=lea", f"--why={why}", f"--workspace={other}"]
    done = CliRunner().invoke(cli, words + ([f"--label={label}"] if label else []))
    assert answer.status_code == 200 and done.exit_code == 0, (answer.text, done.output, done.exception)
    page, verb = reviews(app)[before:], history(other / "reviews" / f"{TASK}.csv")
    assert [asdict(line) | {"time": ""} for line in page] == [asdict(line) | {"time": ""} for line in verb]


def test_nothing_is_decided_while_a_run_has_the_workspace(app):
    @contextmanager
    def taken(what: str):
        raise InputError("the workspace is in use: fetalflow run of somebody.")
        yield

    client = client_of(station(Place(app.state.place.workspace, TASK, hold=taken)), "lea")
    answer = decide(client, "reject", [named(client)["span"]])
    assert answer.status_code == 422 and "in use" in answer.json()["detail"] and not reviews(app)


def test_a_bulk_of_thousands_is_planned_and_decided(review, tmp_path):
    """Each row was looked up by reading the whole table: five thousand took minutes."""
    (tmp_path / "params.yaml").write_text((review[0].workspace / "params.yaml").read_text())
    one = pd.read_csv(review[0].workspace / "data" / TASK / "quarantine.csv", dtype=str, keep_default_na=False).iloc[0]
    table = pd.DataFrame([one.to_dict() | {"patient": f"P{i}"} for i in range(1000)])
    (tmp_path / "data" / TASK).mkdir(parents=True)
    table.to_csv(tmp_path / "data" / TASK / "quarantine.csv", index=False)
    app = station(Place(tmp_path, TASK))
    app.state.accounts.make("lea", "lead", PASSWORD)
    client = client_of(app, "lea")
    names = [row["row"] for row in rows(client)]
    assert len(names) == 1000 and names[0] == row_id(table.iloc[0])
    assert (
        len(client.post(f"/quarantine/{TASK}/plan", json={"decision": "reject", "rows": names}).json()["rows"]) == 1000
    )
    assert decide(client, "reject", names).status_code == 200 and len(reviews(app)) == 1000


def test_a_lead_decides_in_bulk_by_key(app, browser, serving):
    running = serving(app)
    address = next(running)
    context = browser.new_context(base_url=address, viewport={"width": 1400, "height": 900})
    context.set_default_timeout(10_000)
    context.add_cookies(
        [{"name": "fetalflow_session", "value": app.state.accounts.log_in("lea", PASSWORD)[0], "url": address}]
    )
    page, errors = context.new_page(), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto("/quarantine")
    page.wait_for_selector("#rows tbody tr.active")
    said = page.locator("#said")
    page.keyboard.press("a")
    page.keyboard.press("r")
    assert said.inner_text().startswith("Write the reason first")
    page.keyboard.type("two readers looked")
    page.keyboard.press("Escape")
    page.select_option("#decision select", "head")
    page.locator("h1").click()
    page.keyboard.press("r")
    page.wait_for_selector("#plan[open]")
    assert page.inner_text("#plan-title") == "Release 3 of 5 rows as head?"
    assert page.locator("#plan .refused li").count() == 2
    assert Axe().run(page).response["violations"] == []
    page.keyboard.press("Escape")
    page.wait_for_selector("#plan", state="hidden")
    assert said.inner_text() == "Nothing was changed." and not reviews(app)
    page.locator("h1").click()
    page.keyboard.press("r")
    page.click("#yes")
    page.get_by_text("3 rows are released.").wait_for()
    assert {line.who for line in reviews(app)} == {"lea"} and len(reviews(app)) == 3
    assert "deliver the file" in page.inner_text("#rows tbody"), "what could not be released says why at its row"
    page.goto(f"/quarantine?task={TASK}&kind=disagreement")
    expect(page.locator("#rows tbody tr")).to_have_count(2)
    assert "is released as head by lea" in page.inner_text("#rows tbody")
    assert Axe().run(page).response["violations"] == [] and not errors
    context.close()
    next(running, None)
