"""Ctrl-C, SIGTERM and a closed terminal end a process within seconds, even while the main thread is in C code."""

import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

import psutil

HANGUP = getattr(signal, "SIGHUP", None)  # Windows has none
KEPT = "Stopped. The finished stages are kept; the same command continues from there."
PATIENCE_S = 3  # until a process that is told to end by an exception is ended by force


def on_stop(end: Callable[[int], None], in_main: Callable[[int], None] = lambda number: None) -> None:
    """Call `end` with the number of the signal in a thread of its own, and `in_main` in the main thread.

    Python runs handlers of signals only between two of its instructions, and one call of torch may take longer than
    a person waits; the wake-up socket is written at once. Background jobs of a shell ignore SIGINT; it is heard here.
    """
    listening, woken = socket.socketpair()
    woken.setblocking(False)

    def wait() -> None:
        while number := listening.recv(1)[0]:
            if number in signals:
                end(number)

    signals = [signal.SIGINT, signal.SIGTERM]
    if HANGUP and signal.getsignal(HANGUP) != signal.SIG_IGN:  # `nohup` ignores it
        signals.append(HANGUP)
    for number in signals:
        signal.signal(number, lambda number, frame: in_main(number))
    signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
    on_stop.sockets = listening, woken  # kept open as long as the process lives
    os.register_at_fork(after_in_child=lambda: _forget(signals))
    threading.Thread(target=wait, daemon=True, name="signals").start()


def _forget(signals: list[int]) -> None:
    """A forked child, such as a process that loads data, would wake its parent by its signals."""
    signal.set_wakeup_fd(-1)
    for number in signals:
        signal.signal(number, signal.SIG_DFL)


def kill_children() -> None:
    """End every process that this one started, and their children, whatever group or session they are in."""
    for _ in range(3):  # one may have been started while the list was made
        children = psutil.Process().children(recursive=True)
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        if not children:
            return
        psutil.wait_procs(children, timeout=0.3)


def end_now(number: int) -> None:
    """End this process and its children by force. The exit status is 128 plus the signal's number, as in a shell."""
    kill_children()
    os._exit(128 + number)
