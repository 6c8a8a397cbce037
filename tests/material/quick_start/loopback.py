"""No Python of the tests listens on an address that other machines reach."""

import socket
import sys
from functools import partialmethod

FAMILIES = (socket.AF_INET, socket.AF_INET6)


class NotLoopback(PermissionError):
    """A test, or a server that it started, wants to listen for other machines."""


def keep_to_loopback() -> None:
    """From now on, this process binds and listens on loopback alone.

    A port that the system chooses may be bound on every address, as clients of DICOM do, but nobody may listen there.
    """
    socket.socket.bind = partialmethod(_bind, socket.socket.bind)
    socket.socket.listen = partialmethod(_listen, socket.socket.listen)


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
