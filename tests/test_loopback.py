"""No test, and no server that a test starts, listens on an address that other machines reach."""

import asyncio
import socket
import subprocess
import sys
from contextlib import closing

import pytest
from alone import alone, assert_alone
from processes import environ, free_port
from quick_start.loopback import NotLoopback

OPEN = ["", "0.0.0.0", "::", "::0", "192.0.2.1", b"0.0.0.0", "::ffff:0.0.0.0"]


def bound(host, port: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
    family = socket.AF_INET6 if ":" in str(host) else socket.AF_INET
    made = socket.socket(family, kind)
    try:
        made.bind((host, port))
    except OSError:
        made.close()
        raise
    return made


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@pytest.mark.parametrize("host", OPEN)
def test_nothing_binds_a_port_on_an_address_that_others_reach(host, kind):
    with pytest.raises(NotLoopback, match="must listen on 127.0.0.1"):
        bound(host, free_port(), kind)


def test_who_chose_no_address_or_no_port_listens_to_nobody_either():
    with closing(bound("", 0)) as client, pytest.raises(NotLoopback, match=r"not on '0\.0\.0\.0'"):
        client.listen()
    with closing(socket.socket()) as unbound, pytest.raises(NotLoopback):
        unbound.listen(5)
    with pytest.raises(NotLoopback):
        asyncio.run(asyncio.start_server(lambda *_: None, port=0))


def test_loopback_is_free():
    with closing(bound("127.0.0.1", 0)) as server, closing(bound("127.0.0.2", free_port())) as other:
        server.listen()
        other.listen(5)
    with closing(socket.socket(socket.AF_UNIX)) as local:
        local.bind("\0fetalflow-test")  # a name without a file
        local.listen()


@pytest.mark.parametrize("variables", [lambda folder: {}, alone], ids=["a server", "a night"])
def test_a_server_of_the_tests_keeps_to_loopback(variables, tmp_path):
    words = [sys.executable, "-m", "http.server", "--bind", "0.0.0.0", str(free_port())]
    done = subprocess.run(words, env=environ(variables(tmp_path)), capture_output=True, text=True, timeout=30)
    assert done.returncode and "NotLoopback: a server of a test must listen on" in done.stderr


@pytest.mark.parametrize(
    ("call", "host"),
    [
        ("socket.create_connection(('10.1.2.3', 80))", "10.1.2.3"),
        ("socket.getaddrinfo('telemetry.hospital.org', 443)", "telemetry.hospital.org"),
        ("socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('8.8.8.8', 53))", "8.8.8.8"),
        ("urllib.request.urlopen('http://analytics.hospital.org/')", "analytics.hospital.org"),
    ],
)
def test_who_asks_for_another_machine_is_refused_and_written_down(call, host, tmp_path):
    """tests/conftest.py reads the file at the end of all tests, and looks into the home folder."""
    words = [sys.executable, "-c", f"import socket, urllib.request; {call}"]
    done = subprocess.run(words, env=environ(alone(tmp_path)), capture_output=True, text=True, timeout=30)
    assert done.returncode and f"{host} is not this machine" in done.stderr
    with pytest.raises(AssertionError, match=host):
        assert_alone(tmp_path)


def test_a_machine_that_nobody_has_is_refused_as_well(tmp_path):
    words = [sys.executable, "-c", "import socket; socket.getaddrinfo('server.example', 443)"]
    done = subprocess.run(words, env=environ(alone(tmp_path)), capture_output=True, text=True, timeout=30)
    assert done.returncode and "server.example is not this machine" in done.stderr
    assert_alone(tmp_path)
