"""The page with the list of cines: its rows, its stills, its keys, and ten thousand rows."""

import hashlib
import json

import cv2
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from finished_run import TASK
from starlette.testclient import TestClient

from fetalflow.annotation.studies import Study, write_study
from fetalflow.errors import InputError
from fetalflow.hospital.arrival.journal import LOOK, write_look
from fetalflow.station.app import station
from fetalflow.station.catalogue import STATES, Catalogue
from fetalflow.station.pages.cines import STILL_PX

PASSWORD = "a long password for tests"


@pytest.fixture(scope="module")
def app(review):
    made = station(review[0])
    for name in ("ann", "ben"):
        made.state.accounts.make(name, "annotator", PASSWORD)
    return made


@pytest.fixture(scope="module")
def client(app):
    return client_of(app, "ann")


@pytest.fixture(scope="module")
def ben(app):
    return client_of(app, "ben")


def client_of(app, name: str) -> TestClient:
    client = TestClient(app, base_url="http://127.0.0.1:8787", raise_server_exceptions=False)
    client.cookies.set("fetalflow_session", app.state.accounts.log_in(name, PASSWORD)[0])
    return client


def listed(client) -> dict[str, dict]:
    """The rows by name."""
    found = client.get("/cines/list").json()
    rows = [dict(zip(found["columns"], row, strict=True)) for row in found["rows"]]
    return {row["name"]: row for row in rows}


def audited(app) -> list[dict]:
    lines = [line for path in app.state.audit.folder.glob("*.jsonl") for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines]


def test_the_first_page_is_the_list_and_every_view_is_audited(client, app, review):
    page = client.get("/", headers={"accept": "text/html"})
    assert page.url.path == "/cines" and "Cines and stills" in page.text
    rows = listed(client)
    assert set(rows) == set(review[1]) and rows["wrong"]["state"] == ["mistake", "test"]
    assert rows["good"]["mm_per_px"] is None and rows["good"]["fps"] == 25
    assert all(state in page.text for state in STATES)
    for _ in range(2):
        assert client.get(f"/cines/{TASK}/{review[1]['good']}/still").status_code == 200
    lines = [(line["account"], line["action"], line["subject"]) for line in audited(app)]
    assert ("ann", "view list of cines", "") in lines
    assert lines.count(("ann", "view still", review[1]["good"])) == 1, "one line a session"


def test_deliveries_that_wait_in_the_inbox_are_counted_and_not_named(client, review):
    assert client.get("/cines/list").json()["note"] == ""
    place = review[0]
    store = place.workspace / place.settings.block(TASK).retrain.store / TASK
    store.mkdir(parents=True, exist_ok=True)
    states = [("waiting", "Bay Clinic"), ("refused", "Old Clinic"), ("waiting", "B")]
    write_look(store, 1e9, [{"name": name, "state": state, "said": "is being written"} for state, name in states])
    note = client.get("/cines/list").json()["note"]
    (store / LOOK).unlink()
    assert note.startswith("2 deliveries wait in the inbox (last look: 2001-09-09T01:46:40") and "Clinic" not in note


def test_a_still_is_the_middle_frame_with_what_was_blanked(client, review, app):
    source = review[1]["good"]
    answer = client.get(f"/cines/{TASK}/{source}/still")
    found = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(found, app.state.catalogue.frames(source)[12]) and max(found.shape) <= STILL_PX
    assert client.get(f"/cines/{TASK}/{'0' * 64}/still").status_code == 404
    assert client.get(f"/cines/planes/{source}/still").status_code == 404
    assert client.get(f"/cines/{TASK}/..%2F..%2Fparams.yaml/still").status_code == 404


@pytest.mark.parametrize("shape", [(2000, 5), (5, 2000), (1, 1), (3000, 4000), (0, 0)])
def test_a_still_of_any_shape_is_a_small_picture_and_a_cine_that_cannot_be_shown_is_crossed_out(
    client, review, monkeypatch, shape
):
    def frames(self, source, task):
        if not shape[0]:
            raise InputError("its fault is empty")
        return np.full((1, *shape), 200, np.uint8)

    monkeypatch.setattr(Catalogue, "frames", frames)
    answer = client.get(f"/cines/{TASK}/{review[1]['good']}/still")
    found = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert max(found.shape) == min(STILL_PX, max(shape) or STILL_PX) and bool(found.min() == 200) is bool(shape[0])


def test_while_a_cine_is_decoded_the_others_are_told_to_come_back(client, review, app):
    catalogue = app.state.catalogue
    for kept in (catalogue.place.folder / "frames").glob(f"{review[1]['late']}.*"):
        kept.unlink()  # another test may have looked at it
    with catalogue._decoding:
        assert client.get(f"/cines/{TASK}/{review[1]['good']}/still").status_code == 200, "it is stored"
        answer = client.get(f"/cines/{TASK}/{review[1]['late']}/still")
        assert answer.status_code == 503 and answer.headers["Retry-After"]
    assert client.get(f"/cines/{TASK}/{review[1]['late']}/still").status_code == 200


@pytest.mark.parametrize(("blind", "network"), [(True, False), (True, True), (False, False), (False, True)])
def test_a_study_keeps_from_its_people_what_it_keeps_blind(client, ben, review, blind, network):
    place, sources = review
    chosen = tuple(sources[name] for name in ("a", "wrong", "tested"))
    study = Study(name="s", accounts=("ben",), sources=chosen, blind=blind, network=network)
    write_study(place.journal, TASK, "lea", study)
    mine, others = listed(ben), listed(client)
    for name in ("a", "wrong", "tested"):
        assert (mine[name]["labels"] == [] and mine[name]["annotators"] == []) is blind
        seen = {"mistake", "unfamiliar"} & set(mine[name]["state"])
        wanted = {"tested": network, "wrong": network and not blind}  # a mistake says that the label is another one
        assert bool(seen) is wanted.get(name, False)
        assert others[name]["labels"] and others["wrong"]["state"] == ["mistake", "test"]
    assert ("disagreement" in mine["a"]["state"]) is not blind and mine["good"] == others["good"]


def many(count: int) -> dict:
    """As many rows as a hospital has in years."""
    columns = ["source", "task", "name", "patient", "site", "device", "labels", "annotators", "frames", "fps"]
    rows = [
        [hashlib.sha256(str(i).encode()).hexdigest(), TASK, f"c{i:05d}", f"P{i // 5:04d}", f"S{i % 7}", f"D{i % 3}"]
        + [["head"], ["a"], 20 + i % 50, 25.0, None, ["training"] if i % 5 else ["mistake", "test"]]
        for i in range(count)
    ]
    return {"columns": [*columns, "mm_per_px", "state"], "rows": rows}


def test_ten_thousand_rows_scroll_by_key_and_the_filter_is_in_the_link(log_in):
    page = log_in()
    found = json.dumps(many(10_000))
    page.route("**/cines/list", lambda route: route.fulfill(body=found, content_type="application/json"))
    page.route("**/still", lambda route: route.abort())
    page.goto("/cines")
    page.wait_for_selector("#row-0")
    active, said = "#grid [aria-selected=true]", page.locator("#said")
    assert page.get_attribute("#grid", "aria-rowcount") == "10001"
    for key, row in (("j", 1), ("ArrowDown", 2), ("k", 1), ("End", 9999), ("PageUp", None), ("Home", 0)):
        page.keyboard.press(key)
        if row is not None:
            assert page.get_attribute(active, "aria-rowindex") == str(row + 2)
            assert page.get_attribute("#grid", "aria-activedescendant") == f"row-{row}"
        assert page.locator(active).is_visible()
    took = page.evaluate(
        """async () => {
          const grid = document.getElementById("grid"), begun = performance.now();
          for (let at = 0; at < 30; at++) { grid.scrollTop = at * 19989; await new Promise(requestAnimationFrame); }
          return (performance.now() - begun) / 30;
        }"""
    )
    assert took < 250, "ms for each jump through the list"
    assert page.locator("#grid .rows .row").count() < 60, "only what is in view is in the page"
    page.keyboard.press("/")
    page.keyboard.type("p0123")
    page.keyboard.press("Escape")
    page.keyboard.press("1")  # the first reason that a cine has: wrong answer
    assert said.inner_text().startswith("1 of 10000 cines")
    assert "search=p0123" in page.evaluate("location.search") and "state=mistake" in page.evaluate("location.search")
    page.reload()
    page.wait_for_selector("#row-0")
    assert said.inner_text().startswith("1 of 10000 cines") and page.input_value("[name=search]") == "p0123"
    page.keyboard.press("x")
    assert said.inner_text().startswith("10000 of 10000") and page.evaluate("location.search") == ""
    page.get_by_role("button", name="Frames").click()
    page.get_by_role("button", name="Frames").click()
    assert page.locator("#grid .rows .row [role=gridcell]:nth-child(8)").first.inner_text() == "69"
    assert page.locator("[aria-sort=descending]").inner_text().startswith("Frames")


def test_a_link_to_a_value_that_is_gone_shows_an_empty_list_and_says_why(log_in):
    page = log_in()
    page.goto("/cines?site=Nowhere&sort=<script>")
    page.wait_for_selector("#grid:not([hidden])")
    assert page.inner_text("#said") == "No cine of 3 fits these filters. Press x to show all."


def test_enter_opens_the_cine_and_back_leads_to_the_same_row(log_in):
    page = log_in()
    page.goto("/cines")
    page.wait_for_selector("#row-0")
    assert Axe().run(page).response["violations"] == []
    page.keyboard.press("j")
    name = page.inner_text("#row-1 a")
    page.keyboard.press("Enter")
    page.wait_for_url("**/cine/*")
    page.go_back()
    page.wait_for_selector("#grid [aria-selected=true]")
    assert page.inner_text("#grid [aria-selected=true] a") == name
