"""A server answers what it has taken before a signal ends it; any other command, and a second signal, end at once."""

import signal
import subprocess
import sys
import time

import pytest
from processes import ROOT

# As uvicorn does: it hears the signal itself, finishes in its time, and raises it again.
SERVER = """
import signal, sys, threading
from flows.running import stopping
stopping.PATIENCE_S = 0.3
stopping.stop_on_signals()
if sys.argv[1] != "never":
    stopping.stop_after(float(sys.argv[1]))
heard = threading.Event()
signal.signal(signal.SIGTERM, lambda number, frame: heard.set())
print("ready", flush=True)
while not heard.wait(0.02):
    pass
threading.Event().wait(1.5)
print("answered", flush=True)
"""


@pytest.mark.parametrize(
    ("patience", "signals", "answered"), [("20", 1, True), ("0.2", 1, False), ("20", 2, False), ("never", 1, False)]
)
def test_a_signal_leaves_a_server_its_time_and_a_second_one_does_not(patience, signals, answered):
    command = [sys.executable, "-c", SERVER, patience]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout.readline() == "ready\n"
        for _ in range(signals):
            server.send_signal(signal.SIGTERM)
            time.sleep(0.1)  # two signals at once are one
        assert (server.stdout.read() == "answered\n") == answered
        assert (server.wait(20) == 0) == answered
