"""A station on loopback: who logs in, and how large the window is."""

import socket
import threading
from collections.abc import Iterator

PASSWORD = "a long password for tests"
ACCOUNTS = {"anna": "annotator", "ben": "annotator", "ada": "adjudicator", "lea": "lead"}
SIZE = {"width": 1400, "height": 900}


def serve(app: object) -> Iterator[str]:
    """The address of a server of `app`, until the iterator is closed."""
    import uvicorn

    taken = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{taken.getsockname()[1]}"
    server.should_exit = True
    thread.join(20)
