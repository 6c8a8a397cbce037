"""No Python of the tests listens on an address that other machines reach, or speaks to another machine."""

import os
import socket
import sys
from functools import partialmethod

FAMILIES = (socket.AF_INET, socket.AF_INET6)
HERE = {None, "", "localhost", "0.0.0.0", "::", "::1", socket.gethostname()}
# Nobody has these (RFC 2606, RFC 5737): tests name them as machines that give no answer.
NOWHERE = (".example", ".example.org", ".example.com", ".invalid", ".test")
TEST_NETS = ("192.0.2.", "198.51.100.", "203.0.113.")


class NotLoopback(PermissionError):
    """A test, or a server that it started, wants to listen for other machines."""


def keep_to_loopback() -> None:
    """From now on, this process binds and listens on loopback alone.

    A port that the system chooses may be bound on every address, as clients of DICOM do, but nobody may listen there.
    """
    socket.socket.bind = partialmethod(_bind, socket.socket.bind)
    socket.socket.listen = partialmethod(_listen, socket.socket.listen)


def keep_to_this_machine() -> None:
    """From now on, each other machine that this process wants to reach is refused, and its name is written into the
    file that WATCHED_HOSTS names."""
    if os.environ.get("WATCHED_HOSTS"):
        sys.addaudithook(_watch)


def _watch(event: str, arguments: tuple) -> None:
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto", "socket.sendmsg") and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host in HERE or host.startswith("127."):
        return
    if not host.endswith(NOWHERE) and not host.startswith(TEST_NETS):
        with open(os.environ["WATCHED_HOSTS"], "a") as file:
            file.write(f"{host} by {sys.argv} in {os.environ.get('PYTEST_CURRENT_TEST', 'no test')}\n")
    raise ConnectionRefusedError(f"{host} is not this machine")


def _bind(self: socket.socket, real, address) -> None:
    if self.family in FAMILIES and address[1] != 0:
        _check(address[0])
    return real(self, address)


def _listen(self: socket.socket, real, *backlog) -> None:
    if self.family in FAMILIES:
        _check(self.getsockname()[0])
    return real(self, *backlog)


def _check(host: str | bytes) -> None:
    host = host.decode() if isinstance(host, bytes | bytearray) else host
    plain = host.lower().removeprefix("::ffff:")
    if not (plain.startswith("127.") or plain in ("localhost", "::1")):
        raise NotLoopback(
            f"a server of a test must listen on 127.0.0.1 or ::1, and not on {host or 'every address'!r}, which other "
            f"machines reach. Give it a host. It is: {' '.join(sys.argv)[:200]}"
        )
