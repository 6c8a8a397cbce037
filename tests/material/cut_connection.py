"""A TCP relay on loopback in front of a server, which fails in the ways that networks and stores fail."""

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

FULL = b"HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
VERBS = (b"GET ", b"POST ", b"PUT ", b"PATCH ", b"DELETE ")


class Relay:
    """cut_after: bytes, either way, after which every connection is closed and no new one answered; stall: they are
    held instead; lose_every: the answer of every n-th request that changes something is lost; full: an artefact cannot
    be stored."""

    def __init__(self, port: int) -> None:
        self.server = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.reset()
        threading.Thread(target=self._accept, daemon=True).start()

    def reset(self, cut_after: int | None = None, stall: bool = False, lose_every: int = 0, full: bool = False) -> None:
        self.cut_after, self.stall, self.lose_every, self.full = cut_after, stall, lose_every, full
        self.passed = self.requests = 0
        self.struck = threading.Event()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(("127.0.0.1", self.server)) as server:
            lose = False
            while not self.struck.is_set() or self.stall or self.cut_after is None:
                source = select.select([client, server], [], [], 0.2)[0]
                for one in source:
                    chunk = one.recv(1 << 14)
                    if not chunk:
                        return
                    self.passed += len(chunk)
                    if self.cut_after is not None and self.passed > self.cut_after:
                        self.struck.set()
                        if not self.stall:
                            return
                        chunk = b""  # held for ever
                    if one is client and chunk.startswith(VERBS):
                        self.requests += not chunk.startswith(b"GET ")
                        lose = bool(self.lose_every) and not chunk.startswith(b"GET ")
                        lose = lose and self.requests % self.lose_every == 0
                        if self.full and chunk.startswith(b"PUT "):
                            self.struck.set()
                            client.sendall(FULL)
                            return
                    if one is server and lose:
                        self.struck.set()
                        return
                    (server if one is client else client).sendall(chunk)


@contextmanager
def relay(port: int) -> Iterator[Relay]:
    made = Relay(port)
    try:
        yield made
    finally:
        made.listener.close()
