"""Every Python imports this file when it starts, if its folder is in PYTHONPATH: writes down each host beside this
machine that a process wants to reach, and refuses it."""

import gc
import os
import socket
import sys

HERE = {None, "", "localhost", "0.0.0.0", "::", "::1", socket.gethostname()}


def watch(event: str, arguments: tuple) -> None:
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto", "socket.sendmsg") and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host not in HERE and not host.startswith("127."):
        with open(os.environ["WATCHED_HOSTS"], "a") as file:
            file.write(f"{host} by {sys.argv}\n")
        raise ConnectionRefusedError(f"{host} is not this machine")


sys.addaudithook(watch)
sys.path.append(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "quick_start"))
from loopback import keep_to_loopback  # noqa: E402

keep_to_loopback()
gc.set_threshold(50_000, 20, 20)  # as in quick_start beside this folder: a Python imports only one such file
sys.modules.setdefault("rfc3987_syntax", None)
