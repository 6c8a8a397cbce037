"""Where alerts arrive: a server on loopback that keeps what Apprise sends it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@contextmanager
def alert_receiver() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """(the address as Apprise writes it, what arrived there: title and text)."""
    found: list[tuple[str, str]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):  # noqa: N802 - a name of http.server
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found.append((body["title"], body["message"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"json://127.0.0.1:{server.server_port}/", found
    server.shutdown()
    server.server_close()
