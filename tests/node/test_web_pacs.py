"""A PACS by DICOMweb that answers in pages, not at all, or not for one object: the rest is taken."""

import threading
import time
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import pytest
from certificates import certificate
from cine_files import dicom, speckle
from name_search import named_in
from node_studies import a_node, as_bytes
from pydicom import Dataset, dcmread
from requests import ConnectionError as NoConnection
from requests import HTTPError, Response

from fetalflow.errors import InputError
from fetalflow.node import web
from fetalflow.node.delivering import deliver
from fetalflow.node.listening import server_tls
from fetalflow.node.taking import FULL
from fetalflow.node.web import OBJECT, STUDY, fetch

WEB = {"url": "http://127.0.0.1:9/dicom-web", "title": "WEB", "days": 36500, "every": 0}
RULES = ({"task": "movement"},)


def item(tag: str, value: str) -> dict:
    return {tag: {"Value": [value]}, "00080060": {"Value": ["US"]}}


class Pacs:
    """Three studies of two objects each, at most `page` in an answer. wrong: what is raised instead of an object."""

    def __init__(self, page: int = 2, wrong: dict[str, Exception] | None = None, takes_offset: bool = True) -> None:
        self.page, self.wrong, self.takes_offset = page, wrong or {}, takes_offset

    def _answer(self, found: list[dict], limit: int, offset: int) -> list[dict]:
        return found[offset if self.takes_offset else 0 :][: min(limit, self.page)]

    def search_for_studies(self, search_filters, limit, offset):
        return self._answer([item(STUDY, f"1.{n}") for n in range(3)], limit, offset)

    def search_for_instances(self, study, fields, limit, offset):
        return self._answer([item(OBJECT, f"{study}.1.{n}") for n in range(2)], limit, offset)

    def retrieve_instance(self, study, series, name, media_types) -> Dataset:
        if name in self.wrong:
            raise self.wrong[name]
        made = dicom(speckle(1), PatientID=f"CANARY {study}", StudyInstanceUID=study, SeriesInstanceUID=f"{study}.1")
        made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = name
        return dcmread(BytesIO(as_bytes(made)))


def refused(code: int) -> HTTPError:
    response = Response()
    response.status_code = code
    return HTTPError("CANARY", response=response)


CASES = {
    "pages of one": (Pacs(page=1), {}, 6, ""),
    "a PACS that knows no pages": (Pacs(page=9, takes_offset=False), {}, 6, ""),
    "more studies than are looked at": (Pacs(), {"most": 2}, 4, "only the first 2 studies are looked at"),
    "an object that is not given": (Pacs(wrong={"1.0.1.0": refused(500)}), {}, 5, "is not given (HTTP 500)"),
    "an object that is no DICOM": (Pacs(wrong={"1.0.1.0": ValueError("CANARY")}), {}, 5, "was not taken: ValueError"),
    "no connection": (Pacs(wrong={"1.1.1.0": NoConnection("CANARY")}), {}, 2, "no answer that can be used"),
    "a full disk": (Pacs(wrong={"1.1.1.0": OSError(28, "CANARY")}), {}, 2, FULL),
}


@pytest.mark.parametrize("case", CASES)
def test_what_a_pacs_gives_is_taken(tmp_path, monkeypatch, case):
    pacs, settings, count, words = CASES[case]
    said = []
    monkeypatch.setattr(web, "client", lambda _: pacs)
    with a_node(tmp_path, rules=RULES, peers={}, web=WEB | settings) as node:
        assert fetch(node, said.append) == count
        assert [words in line for line in said] == [True] * bool(words), said
        pacs.wrong, heard = {}, len(said)
        fetch(node, said.append)  # later, it gives all
        lost = case == "an object that is no DICOM"  # until the node is started again
        assert node.receipts.counts() == {"held": settings.get("most", 3) * 2 - lost}, said[heard:]
    assert not named_in("".join(said).encode())


def test_a_study_that_the_scanner_still_sends_is_not_complete(tmp_path, monkeypatch):
    monkeypatch.setattr(web, "client", lambda _: Pacs())
    with a_node(tmp_path, rules=RULES, peers={}, web=WEB, quiet=120) as node:
        fetch(node, print)
        assert deliver(node) == []
        node.clock = lambda: time.time() + 130
        assert [len(receipts) for _, receipts in deliver(node)] == [2, 2, 2]


def test_a_pacs_that_says_nothing_more_does_not_stop_the_node(monkeypatch):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(web, "PATIENCE", 0.2)
        settings = web.Web(url=f"http://127.0.0.1:{silent.getsockname()[1]}/dicom-web")
        session = web.client(settings)._session
        with pytest.raises(web.RequestException):
            session.get(settings.url)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """The port of a PACS over TLS that gives an empty list to user:secret, and its certificate."""
    pem, key = certificate(tmp_path_factory.mktemp("tls"), "pacs")

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            knows = self.headers["Authorization"] == f"Basic {b64encode(b'user:secret').decode()}"
            self.send_response(200 if knows else 401)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.socket = server_tls(pem, key, None).wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port, pem
    server.shutdown()


@pytest.mark.parametrize(
    ("login", "is_known", "words"),
    [("user:secret", True, ""), ("user:wrong", True, "HTTP 401"), ("user:secret", False, "REQUESTS_CA_BUNDLE")],
)
def test_over_tls_with_a_password(tmp_path, monkeypatch, guarded, login, is_known, words):
    port, pem = guarded
    said = []
    monkeypatch.setenv(web.LOGIN, login)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    if is_known:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(pem))
    with a_node(tmp_path, rules=RULES, web=WEB | {"url": f"https://127.0.0.1:{port}/dicom-web"}) as node:
        assert fetch(node, said.append) == 0
    assert [words in line for line in said] == [True] * bool(words), said


def test_a_password_that_would_be_read_on_its_way_is_refused_before_the_node_works(tmp_path, monkeypatch):
    monkeypatch.setenv(web.LOGIN, "user:secret")
    with (
        pytest.raises(InputError, match="give an https URL"),
        a_node(tmp_path, rules=RULES, web=WEB | {"url": "http://pacs/dicom-web"}),
    ):
        pass
