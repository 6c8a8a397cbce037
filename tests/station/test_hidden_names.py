"""Where a key of pseudonyms is set, no page says where a cine was recorded, what its file is called, or who she is."""

import json
import os
import re
from importlib import import_module
from pkgutil import iter_modules
from urllib.parse import quote

import pytest
from finished_run import TASK
from review_workspace import ROWS, SITE, make_review_workspace
from starlette.testclient import TestClient

from fetalflow.artefacts import write_json
from fetalflow.errors import InputError
from fetalflow.hospital.arrival.store_key import FILE
from fetalflow.hospital.deidentify.drop import RECORD
from fetalflow.hospital.deidentify.pseudonyms import VARIABLE, Key
from fetalflow.hospital.drop.review import Decision, write_decisions
from fetalflow.station import pages
from fetalflow.station.app import station
from fetalflow.station.catalogue import Catalogue
from fetalflow.station.place import Place
from fetalflow.station.shown_names import ShownNames, has_key, names_of

PAGES = [import_module(f"{pages.__name__}.{page.name}") for page in iter_modules(pages.__path__)]
PASSWORD = "a long password for tests"
KEY = bytes(range(32)).hex()
FOLDER, PATIENT, DEVICE, ANNOTATOR, LABEL = (
    "Kanarienberg 47x11",
    "Vogel, Jane",
    "Kanari Scan",
    "dr.nachtigall",
    "vogelhed",
)
NAMES = ("kanari", "47x11", "vogel", "nachtigall", "canary", "jane")
HIDDEN = re.compile("|".join(NAMES), re.IGNORECASE)
PSEUDONYM = "P0123456789abcdef"


def named(row: dict) -> dict:
    """A row with a name of the hospital or of a person wherever the drop may have one."""
    label = LABEL if row["label"] == "hed" else row["label"]
    changed = {"device": DEVICE, "label": label, "annotator": f"{row['annotator']} {ANNOTATOR}"}
    return row | changed | {"video": f"{FOLDER}/Vogel/{row['video']}", "patient": f"{PATIENT} {row['patient']}"}


@pytest.fixture(scope="module")
def named_station(tmp_path_factory):
    """Extracted before the key was set, so that the tables are full of names; and cines without labels."""
    folder = tmp_path_factory.mktemp("named")
    place, sources = make_review_workspace(folder, named)
    drop = folder / "Kanarienberg new" / "Vogel"
    drop.mkdir(parents=True)
    os.link(place.workspace.parent / "drop" / FOLDER / "Vogel" / "good.avi", drop / "Vogel Jane.avi")
    (drop / "Vogel 47x11.mp4").write_bytes(b"no video")
    place = Place(place.workspace, TASK, drop)
    reviews = place.workspace / "reviews" / f"{TASK}.csv"
    row = Catalogue(place).quarantine(TASK).iloc[0]
    past = {column: row[column] for column in ("row", "video", "patient", "start_frame", "end_frame", "label")}
    past |= {"annotator": "", "kind": "x", "as_label": "", "source": ""}
    why = f"the reader at {SITE} said so of {FOLDER}/Vogel/a.avi"
    write_decisions(reviews, [Decision("2026-11-30T00:00:00.000+00:00", "dr.nachtigall", "reject", why=why, **past)])
    return place, sources


@pytest.fixture
def client(named_station, monkeypatch):
    monkeypatch.setenv(VARIABLE, KEY)
    Catalogue._shared.clear()
    app = station(named_station[0])
    if not app.state.accounts.list():
        app.state.accounts.make("lea", "lead", PASSWORD)
    client = TestClient(app, base_url="http://127.0.0.1:8787", raise_server_exceptions=False)
    token, session = app.state.accounts.log_in("lea", PASSWORD)
    client.cookies.set("fetalflow_session", token)
    client.headers["X-CSRF"] = session.csrf
    yield client
    Catalogue._shared.clear()


def texts(client) -> dict[str, str]:
    """What every page and file of the station says of cines in several states, and when it is asked for too much."""
    catalogue = client.app.state.catalogue
    table = catalogue.rows()
    sources = [*table.loc[~table["state"].map(sorted).map(str).duplicated(keep="last"), "source"], "0" * 64]
    rows = list(catalogue.quarantine(TASK)["row"])
    found = {}
    for route in (each for page in PAGES for each in page.router.routes if "GET" in each.methods):
        for source in sources if "{source" in route.path else [""]:
            for row in rows if "{row" in route.path else [""]:
                values = {"task": TASK, "source": source, "row": row}
                path = re.sub(r"{(\w+)[^}]*}", lambda name, of=values: of.get(name[1], "0"), route.path)
                answer = client.get(path, headers={"accept": "text/html"})
                found[path] = f"{answer.headers} {answer.text}"
    for decision in ("release", "reject"):
        body = {"decision": decision, "rows": rows, "label": "arm"}
        found[f"{decision} plan"] = client.post(f"/quarantine/{TASK}/plan", json=body).text
        found[f"{decision} decide"] = client.post(f"/quarantine/{TASK}/decide", json=body | {"why": "seen"}).text
    for wanted in ({"site": SITE}, {"video": f"*{FOLDER}*"}, {"kind": "x"}, {"task": SITE}):
        query = "&".join(f"{key}={quote(value)}" for key, value in wanted.items())
        found[query] = client.get(f"/quarantine/{TASK}/rows?{query}").text
    return found


def test_no_page_says_a_name_of_the_hospital_or_of_a_patient(client):
    found = texts(client)
    assert len(found) > 30 and any("/still" in path for path in found)
    for path, text in found.items():
        assert not HIDDEN.search(text), (path, HIDDEN.search(text), text[:400])


def test_without_a_key_the_same_pages_say_the_names(client, monkeypatch):
    """The search would find them."""
    monkeypatch.delenv(VARIABLE)
    Catalogue._shared.clear()
    row = Catalogue(client.app.state.place).quarantine(TASK)["row"].iloc[0]
    paths = ("/cines/list", f"/quarantine/{TASK}/rows", f"/quarantine/{TASK}/rows/{row}")
    said = " ".join(client.get(path).text for path in paths).lower()
    assert all(name in said for name in NAMES)


def test_stand_ins_can_be_filtered_and_are_the_same_after_a_restart(client, named_station):
    rows = Catalogue(named_station[0]).rows()
    known = rows[rows["site"] != ""]
    assert set(known["site"]) == {names_of(named_station[0]).place("site", SITE)} and known["site"].iloc[0] != SITE
    assert known["patient"].str.fullmatch("P[0-9a-f]{16}").all() and known["patient"].nunique() == 6
    assert set(rows["name"]) == {source[:12] for source in rows["source"]}
    listed = client.get(f"/quarantine/{TASK}/rows").json()["rows"]
    for column in ("site", "patient", "label", "annotator"):
        wanted = {column: listed[0][column]}
        chosen = client.get(f"/quarantine/{TASK}/rows", params=wanted).json()["rows"]
        assert listed[0] in chosen and all(row[column] == listed[0][column] for row in chosen)
    assert len(client.get(f"/quarantine/{TASK}/rows", params={"video": f"*{FOLDER}*"}).json()["rows"]) == len(listed)
    reasons = {row["kind"]: row["reason"] for row in listed}
    assert "agree on 0% of frames 0-23" in reasons["disagreement"] and "may quote names" in reasons["missing"]


def test_a_decision_names_the_true_row(client, named_station):
    chosen = client.get(f"/quarantine/{TASK}/rows", params={"kind": "label"}).json()["rows"]
    body = {"decision": "release", "rows": [chosen[0]["row"]], "why": "seen", "label": "head"}
    assert client.post(f"/quarantine/{TASK}/decide", json=body).status_code == 200
    line = (named_station[0].workspace / "reviews" / f"{TASK}.csv").read_text().splitlines()[-1]
    assert LABEL in line and FOLDER in line, "the one record is for those who see the drop"


@pytest.mark.parametrize(
    ("where", "is_set"),
    [
        ("environment", True),
        ("store", True),
        ("store in clear", False),
        ("drop", True),
        ("new drop", True),
        ("no", False),
    ],
)
def test_a_key_is_set_by_the_environment_a_store_or_a_deidentified_drop(review, tmp_path, monkeypatch, where, is_set):
    (tmp_path / "params.yaml").write_text((review[0].workspace / "params.yaml").read_text())
    drop = tmp_path / "new"
    drop.mkdir()
    place = Place(tmp_path, TASK, drop)
    store = tmp_path / place.settings.block(TASK).retrain.store / TASK
    if where == "environment":
        monkeypatch.setenv(VARIABLE, KEY)
    elif where.startswith("store"):
        store.mkdir(parents=True)
        write_json(store / FILE, {"key": "" if "clear" in where else "0a1b2c3d"})
    elif where.endswith("drop"):
        folder = drop if where == "new drop" else tmp_path / "cleaned"
        folder.mkdir(exist_ok=True)
        write_json(folder / RECORD, {})
        if where == "drop":
            text = (tmp_path / "params.yaml").read_text().replace(place.settings.tasks[TASK].drop, str(folder))
            (tmp_path / "params.yaml").write_text(text)
            place = Place(tmp_path, TASK, drop)
    assert has_key(place) is is_set and names_of(place).hidden is is_set
    assert names_of(place).place("site", SITE) == names_of(place).place("site", SITE), "the same in every session"


def test_a_wrong_key_stops_the_list_and_shows_nothing(client, monkeypatch):
    monkeypatch.setenv(VARIABLE, "0011")
    Catalogue._shared.clear()
    answer = client.get("/cines/list")
    assert answer.status_code == 422 and "0011" not in answer.text and not HIDDEN.search(answer.text)
    with pytest.raises(InputError):
        Catalogue(client.app.state.place).rows()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (PSEUDONYM, PSEUDONYM),
        (f"Canary Bay/{PSEUDONYM}", rf"site [0-9a-f]{{6}}/{PSEUDONYM}"),  # the second site that has this pseudonym
        (f"a/b/{PSEUDONYM}", rf"site [0-9a-f]{{6}}/{PSEUDONYM}"),
        ("Jane", "P[0-9a-f]{16}"),
        (PSEUDONYM.upper(), "P[0-9a-f]{16}"),
        ("", ""),
    ],
)
def test_a_pseudonym_stays_and_everything_else_gets_one(name, shown):
    found = ShownNames(Key(bytes(range(32)))).person("patient", name)
    assert re.fullmatch(shown, found) and ShownNames(None).person("patient", name) == name


@pytest.mark.parametrize(
    ("sentence", "shown"),
    [
        ("no row in /data/Canary Bay/q.csv waits", None),
        ("cine canary.avi is broken", "cine (a path) is broken"),
        ("Canary Bay/patients.csv: none of its 3 rows is of the drop", "(a path): none of its 3 rows is of the drop"),
        ("CANARY BAY HOSPITAL said so", None),
        (
            "see docs/data-engineer/drop.md: 25 frames/s, found 30",
            "see docs/data-engineer/drop.md: 25 frames/s, found 30",
        ),
        ("the header promises 9 frames, 4 could be decoded", "the header promises 9 frames, 4 could be decoded"),
    ],
)
def test_a_sentence_keeps_its_numbers_and_loses_its_names(sentence, shown):
    names = ShownNames(Key(bytes(range(32))), ["head"])
    for row in ROWS:
        names.remember_path(f"Canary Bay/{row['video']}")
    names.remember([SITE], "site 1")
    found = names.sentence(sentence)
    assert not HIDDEN.search(found) and (shown is None or found == shown)
    assert ShownNames(None).sentence(sentence) == sentence


def test_the_record_that_is_kept_holds_no_name(client, named_station):
    client.get("/cines/list")
    folder = named_station[0].folder
    for path in (folder / "digests.json",):
        assert not HIDDEN.search(json.dumps(path.read_text()))
