"""The page with what to look at next: who sees what, what the networks are asked, and its keys."""

import re
import shutil
from dataclasses import replace
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from station_workspace import make_place, put_network, sources
from test_frames import PASSWORD, signed_in

from fetalflow.annotation.journal import Event
from fetalflow.annotation.standing import REOPEN, SUBMIT
from fetalflow.annotation.studies import Study, write_study
from fetalflow.station.app import station
from fetalflow.station.catalogue import Catalogue
from fetalflow.station.next_queue import NextQueue
from fetalflow.station.place import Place

TASK = "movement"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A workspace whose network answers, and one cine without labels."""
    place = make_place(tmp_path_factory.mktemp("next"))
    put_network(place)
    return place


@pytest.fixture(scope="module")
def source(place) -> str:
    return sources(place)["unlabelled"]


@pytest.fixture(scope="module")
def app(place):
    made = station(place)
    for name in ("anna", "ben"):
        made.state.accounts.make(name, "annotator", PASSWORD)
    return made


@pytest.fixture(scope="module")
def anna(app):
    return signed_in(app)


def shown(client, query: str = "") -> str:
    answer = client.get(f"/next{query}", headers={"accept": "text/html"})
    assert answer.status_code == 200
    return answer.text


def ask(client) -> dict:
    token = re.search(r'name="csrf" content="([^"]+)"', shown(client))[1]
    return client.post("/next/ask", headers={"X-CSRF": token}).json()


def submit(place, source: str, account: str, action: str = SUBMIT) -> None:
    place.journal.add([Event(account, TASK, source, uuid4().hex, action, {})])


def test_a_cine_without_labels_is_answered_and_then_has_a_reason(app, anna, place, source):
    assert f"/cine/{source}" in shown(anna) and "Nothing is known of it yet." in shown(anna)
    assert anna.post("/next/ask").status_code == 403, "without the session's token"
    assert ask(anna) == {"asked": 1, "left": 0, "answered": 1}
    assert ask(anna)["asked"] == 0, "it was answered before"
    page = shown(anna)
    assert "Nothing is known" not in page and "two labels" in page  # of a network that was not trained
    assert not re.search(r"\d+%", page), "without a study, what the network says would lead who labels"
    assert "Only one network was trained" in page
    assert "Nothing waits for you here." in shown(anna, "?only=check")
    assert anna.get("/next?only=other").status_code == 422
    lines = [line for path in app.state.audit.folder.glob("*.jsonl") for line in path.read_text().splitlines()]
    assert any('"view what to look at next"' in line for line in lines)


def test_what_was_submitted_leaves_the_list_until_it_is_opened_again(anna, place, source):
    for action, there in ((SUBMIT, False), (REOPEN, True)):
        submit(place, source, "ben", action)
        assert (f"/cine/{source}" in shown(anna)) is there


def test_the_next_cine_of_the_list_follows_its_order_and_skips_what_is_done(app, anna, place, monkeypatch):
    """From a cine that was left open on to the one below it, and from the last to the first."""
    order = [digit * 64 for digit in "abcd"]
    rows = pd.DataFrame({"source": order, "kind": ["label", "check", "label", "label"], "reasons": [[]] * 4})
    listed = pd.DataFrame({"task": TASK, "source": order, "name": "n", "patient": ""})
    monkeypatch.setattr(NextQueue, "ordered", lambda queue: (rows, []))
    monkeypatch.setattr(Catalogue, "rows", lambda catalogue: listed)
    found = {each: anna.get(f"/next/after/{each}").json()["source"] for each in order}
    assert list(found.values()) == [order[2], order[0], order[3], order[0]]
    place.journal.add([Event("anna", TASK, order[2], uuid4().hex, SUBMIT, {})])
    assert anna.get(f"/next/after/{order[2]}").json()["source"] == order[0]
    links = re.findall(r'href="(/cine/[^"]+)"', shown(anna))
    assert links == [f"/cine/{order[0]}?task={TASK}&amp;from=next", f"/cine/{order[1]}?task={TASK}", links[2]]


def test_a_study_decides_who_sees_the_cine_and_the_reason(app, anna, place, source):
    ben = signed_in(app, "ben")
    write_study(place.journal, TASK, "lea", Study(name="s", accounts=("ben",), sources=(source,)))
    assert source not in shown(anna)
    page = shown(ben)
    assert source in page and "hides the reason" in page and "two labels" not in page
    submit(place, source, "anna")  # who does not belong to the study
    assert source in shown(ben)
    submit(place, source, "anna", REOPEN)
    write_study(place.journal, TASK, "lea", Study(name="s", accounts=("ben", "anna"), sources=(source,), network=True))
    assert re.search(r"near the boundary of two labels: \w+ \d+%, \w+ \d+%", shown(anna))


def test_other_networks_are_asked_once_and_without_a_network_the_page_says_so(place, source, monkeypatch):
    queue = NextQueue(place, Catalogue(place))
    monkeypatch.setattr(NextQueue, "_others", lambda self: ["fetalmovnet_s"])  # the same network once more
    while queue.ask(0)["left"]:
        pass
    assert list(queue._collected.votes[source]) == ["fetalmovnet_s"]
    assert [reason.kind for reason in queue.ordered()[0]["reasons"][0]] == ["boundary"]  # both say the same
    monkeypatch.setattr(Catalogue, "frames", lambda *_: pytest.fail("an answer is asked once"))
    assert queue.ask(0)["asked"] == 0
    empty = replace(place, workspace=place.workspace / "nothing")
    empty.workspace.mkdir()
    shutil.copy(place.workspace / "params.yaml", empty.workspace)
    rows, notes = (queue := NextQueue(empty, Catalogue(empty))).ordered()
    assert rows["source"].tolist() == [source] and queue.ask(1) == {"asked": 0, "left": 0, "answered": 0}
    assert "was not trained in this workspace yet" in notes[0] and "from patient to patient" in notes[0]


def test_a_cine_that_cannot_be_decoded_is_counted_and_not_offered(place, tmp_path):
    (tmp_path / "broken.avi").write_bytes(b"RIFF" + bytes(200))
    broken = replace(place, drop=tmp_path)
    queue = NextQueue(broken, Catalogue(broken))
    assert len(queue.ordered()[0]) == 1, "nobody has tried yet"
    assert queue.ask(1)["asked"] == 1
    rows, notes = queue.ordered()
    assert rows.empty and "could not answer 1 of the cines without a label" in notes[0]


@pytest.fixture
def tested(place, tmp_path) -> tuple[Place, list[str]]:
    """A workspace whose main network and one other answered 12 cines of its test part, of which the fourth has a wrong
    label; the last one is in training."""
    shutil.copy(place.workspace / "params.yaml", tmp_path)
    data, labels = tmp_path / "data" / TASK, place.settings.block(TASK).extract.labels
    (data / "predictions").mkdir(parents=True)
    names = [f"{at:064x}" for at in range(13)]
    rows = pd.DataFrame({"sequence": [f"{name}-0" for name in names], "source": names, "first_frame": 0})
    rows = rows.assign(last_frame=9, label=["arm", "head", "heart"] * 4 + ["arm"], annotators="a", fps=25.0)
    rows = rows.assign(patient=names, site="S", device="D", mm_per_px=0.5, video=[f"{name}.avi" for name in names])
    said = rows["label"].copy()
    rows.loc[3, "label"] = "head"
    rows.to_parquet(data / "extracted.parquet")
    of_label = {f"p_{label}": np.where(said == label, 0.94, 0.01) for label in labels}
    answered = rows[["sequence"]].assign(y_true=rows["label"], y_pred=said, part="test", fold=0, **of_label)
    for variant in place.settings.variants(TASK)[:2]:
        answered[:12].to_csv(data / "predictions" / f"{variant}.csv", index=False)
    return Place(tmp_path, TASK), names


def test_a_label_that_the_answers_contradict_is_to_be_checked(tested):
    place, names = tested
    app = station(place)
    app.state.accounts.make("anna", "annotator", PASSWORD)
    page = shown(signed_in(app))
    assert re.findall(r"/correct/(\w+)", page) == [names[3]], "nobody knows whether the last one is right"
    assert "Its label head may be wrong: arm is likelier." in page and "2 of 2 networks give it another" in page
    assert "The labels of 12 of 13 cines were compared" in page and names[3] not in shown(signed_in(app), "?only=label")
    write_study(place.journal, TASK, "lea", Study(name="s", accounts=("anna",), sources=(names[3],)))
    assert names[3] not in shown(signed_in(app)), "the reason would say the label to somebody who labels it blind"


def test_the_list_has_keys_and_can_be_read_by_a_screen_reader(log_in, answering):
    page = log_in("ada")
    page.goto("/next")
    page.wait_for_function("document.getElementById('said').textContent === '' || /complete/.test(said.textContent)")
    assert not Axe().run(page).response["violations"]
    page.keyboard.press("?")
    assert "Check the label" in page.inner_text("dialog")
    page.keyboard.press("Escape")
    page.keyboard.press("3")
    page.wait_for_url("**/next?only=check")
    page.keyboard.press("1")
    page.wait_for_url("**/next")
    if page.locator("#queue tbody tr").count():
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        page.wait_for_url("**/cine/*")
