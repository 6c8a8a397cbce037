"""Nobody sees or changes anything at the station without an account, from another site, or beyond the limits."""

import json
import os
import re
import stat
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest
from closures import ROOT
from limits import RateLimitItemPerMinute
from starlette.testclient import TestClient

from fetalflow.errors import InputError
from fetalflow.station import accounts as room
from fetalflow.station import pages, rates
from fetalflow.station.access import COOKIE
from fetalflow.station.accounts import Accounts
from fetalflow.station.app import station
from fetalflow.station.place import Place
from fetalflow.station.rates import LOG_INS, Rates

PASSWORD = "correct horse battery"
HOST = "http://127.0.0.1:8787"
OPEN = {"/log-in", "/link"}
SOURCE = "a" * 64


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    workspace = tmp_path_factory.mktemp("workspace")
    (workspace / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    made = station(Place(workspace, "movement"))
    for name, role in (("ann", "annotator"), ("adi", "adjudicator"), ("lea", "lead")):
        made.state.accounts.make(name, role, PASSWORD)
    return made


@pytest.fixture
def client(app):
    app.state.rates = Rates()
    return TestClient(app, base_url=HOST, follow_redirects=False, raise_server_exceptions=False)


def log_in(client: TestClient, name: str = "lea") -> str:
    """Log in; the session's CSRF token."""
    assert client.post("/log-in", data={"name": name, "password": PASSWORD}).status_code == 303
    return client.app.state.accounts.session(client.cookies[COOKIE]).csrf


def routes() -> list[tuple[str, str]]:
    """Every method and path of the pages, with values for the places in the path."""
    values = {"source": SOURCE, "task": "movement"}
    found = []
    for page in iter_modules(pages.__path__):
        for route in import_module(f"{pages.__name__}.{page.name}").router.routes:
            path = re.sub(r"{(\w+)[^}]*}", lambda name: values.get(name[1], "0"), route.path)
            found += [(method, path) for method in route.methods]
    return sorted(found)


def test_every_page_and_file_needs_a_session_and_every_change_the_token(client):
    found = [(method, path) for method, path in routes() if path not in OPEN]
    assert ("POST", "/log-out") in found and len(found) > 1
    for method, path in found:
        assert client.request(method, path).status_code == 401, (method, path)
        assert client.request(method, path, headers={"accept": "text/html"}).headers["location"] == "/log-in"
    log_in(client)
    for method, path in found:
        if method not in ("GET", "HEAD"):
            for token in ({}, {"X-CSRF": "wrong"}, {"X-CSRF": "wröng".encode()}):
                assert client.request(method, path, headers=token).status_code == 403, (method, path)
            assert client.request(method, path, data={"csrf": "wröng"}).status_code == 403, (method, path)


@pytest.mark.parametrize("name", ["ann", "adi", "lea"])
def test_no_page_answers_with_an_error_of_the_program(client, name):
    token = log_in(client, name)
    for method, path in routes():
        if path not in OPEN | {"/log-out"}:
            for body in (None, {}, {"nix": [1]}, [1]):
                sent = client.request(method, path, json=body, headers={"X-CSRF": token, "accept": "application/json"})
                assert sent.status_code < 500, (method, path, body, sent.text[:300])
                assert "Traceback" not in sent.text and os.sep + "home" not in sent.text


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/static/../accounts.py",
            "/static/%2e%2e/accounts.py",
            "/static/..%2f..%2fparams.yaml",
            "/static//etc/passwd",
        ),
        *("/cine/../../params.yaml", "/cine/%2e%2e%2fparams.yaml", "/cine/..", "/station/accounts.db", "/params.yaml"),
    ],
)
def test_no_file_outside_is_served(client, path):
    log_in(client)
    answer = client.get(path)  # the client makes `/` of `/cine/..`, which leads to the list
    assert answer.status_code in (404, 405, 422) or answer.headers.get("location") == "/cines", path


def test_a_page_of_another_site_reaches_nothing(client):
    token = log_in(client)
    assert client.get("/log-in", headers={"host": "evil.example"}).status_code == 400
    headers = {"X-CSRF": token, "origin": "http://evil.example"}
    assert client.post("/log-out", headers=headers).status_code == 403
    assert client.post("/log-in", data={"name": "lea", "password": PASSWORD}, headers=headers).status_code == 403
    assert client.post("/log-out", headers=headers | {"origin": HOST}).status_code == 303


def test_every_answer_forbids_foreign_scripts_and_copies(client):
    for path in ("/log-in", "/static/keys.js", "/nix"):
        headers = client.get(path).headers
        assert "default-src 'self'" in headers["content-security-policy"] and "unsafe" not in str(headers)
        assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"
    cookie = client.post("/log-in", data={"name": "lea", "password": PASSWORD}).headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie


def test_wrong_passwords_are_slow_and_unknown_names_look_the_same(client):
    answers = {client.post("/log-in", data={"name": name, "password": "x"}).text for name in ("lea", "nobody")}
    assert len(answers) == 1
    with ThreadPoolExecutor(20) as pool:  # guesses at the same time
        said = list(pool.map(lambda _: client.post("/log-in", data={"name": "lea", "password": "x"}), range(20)))
    # The address has two wrong log-ins already.
    assert Counter(answer.status_code for answer in said) == {401: LOG_INS.amount - 2, 429: 20 - LOG_INS.amount + 2}
    assert "Wait" in next(answer.text for answer in said if answer.status_code == 429)
    assert client.post("/log-in", data={"name": "lea", "password": PASSWORD}).status_code == 429


def test_behind_a_proxy_a_guess_counts_for_the_address_that_the_proxy_states(client, monkeypatch):
    monkeypatch.setitem(client.app.state._state, "is_behind_proxy", True)
    monkeypatch.setattr(client.app.state.accounts, "log_in", lambda name, password: None)  # so that it is quick
    for number in range(LOG_INS.amount + 1):
        forged = {"x-forwarded-for": f"10.0.0.{number}, 192.0.2.7"}
        last = client.post("/log-in", data={"name": f"n{number}", "password": "x"}, headers=forged)
    assert last.status_code == 429
    other = {"x-forwarded-for": "192.0.2.8"}
    assert client.post("/log-in", data={"name": "n", "password": "x"}, headers=other).status_code == 401


def test_too_many_requests_and_too_long_ones_are_refused(client, monkeypatch):
    monkeypatch.setattr(rates, "REQUESTS", RateLimitItemPerMinute(20))  # 600 in 5 s take longer on a busy machine
    statuses = {client.get("/static/keys.js").status_code for _ in range(30)}
    monkeypatch.undo()
    assert statuses == {200, 429}
    client.app.state.rates = Rates()
    token = log_in(client)
    assert client.post("/log-out", content=b"x" * 9 * 2**20, headers={"X-CSRF": token}).status_code == 413
    assert client.post("/log-out", content=iter([b"x"]), headers={"X-CSRF": token}).status_code == 413


def test_sessions_end_with_time_a_new_password_a_closed_account_or_a_log_out(tmp_path, monkeypatch):
    accounts = Accounts(tmp_path / "accounts.db")
    assert stat.S_IMODE(accounts.path.stat().st_mode) == 0o600
    accounts.make("ann", "annotator", PASSWORD)
    now = room._now()

    def token() -> str:
        return accounts.log_in("ann", PASSWORD)[0]

    first, second = token(), token()
    accounts.log_out(first)
    assert accounts.session(first) is None and accounts.session(second).account.name == "ann"
    monkeypatch.setattr(room, "_now", lambda: now + room.IDLE + timedelta(minutes=1))
    assert accounts.session(second) is None
    monkeypatch.setattr(room, "_now", lambda: now)
    third = token()
    accounts.set_password("ann", "another long password")
    assert accounts.session(third) is None and accounts.log_in("ann", PASSWORD) is None
    fourth = accounts.log_in("ann", "another long password")[0]
    accounts.close("ann")
    assert accounts.session(fourth) is None and accounts.log_in("ann", "another long password") is None
    with pytest.raises(InputError, match="already an account"):
        accounts.make("ann", "lead", PASSWORD)  # the name stays that of the first person
    assert PASSWORD.encode() not in accounts.path.read_bytes() and third.encode() not in accounts.path.read_bytes()


def test_a_link_logs_in_once(app, client, monkeypatch):
    once = app.state.accounts.link("lea")
    assert client.get("/link", params={"once": once}).headers["location"] == "/"
    assert client.get("/link", params={"once": once}).status_code == 401
    late, now = app.state.accounts.link("lea"), room._now()
    monkeypatch.setattr(room, "_now", lambda: now + room.LINK + timedelta(seconds=1))
    assert client.get("/link", params={"once": late}).status_code == 401


@pytest.mark.parametrize(
    ("name", "role", "password", "said"),
    [
        ("", "lead", PASSWORD, "name"),
        ("a b", "lead", PASSWORD, "name"),
        ("<b>", "lead", PASSWORD, "name"),
        ("ann", "boss", PASSWORD, "Choose one of: annotator"),
        ("ann", "lead", "short", "12 characters"),
        ("ann", "lead", "x" * 201, "200 characters"),  # the log-in would refuse it
    ],
)
def test_a_wrong_account_is_refused_in_a_sentence(tmp_path, name, role, password, said):
    with pytest.raises(InputError, match=said):
        Accounts(tmp_path / "accounts.db").make(name, role, password)


def test_every_log_in_and_view_has_an_audit_line_that_is_whole_under_load(app, client):
    audit = app.state.audit
    threads = [threading.Thread(target=audit.write, args=("ann", "view", f"{n}")) for n in range(20)]
    for thread in threads:
        thread.start()
    log_in(client)
    client.post("/log-in", data={"name": "lea", "password": "x"})
    for thread in threads:
        thread.join()
    lines = [json.loads(line) for path in Path(audit.folder).glob("*.jsonl") for line in path.read_text().splitlines()]
    assert {line["subject"] for line in lines if line["action"] == "view"} == {str(n) for n in range(20)}
    assert {"log in", "log-in refused"} <= {line["action"] for line in lines}
