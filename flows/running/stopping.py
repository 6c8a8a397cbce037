"""What a person sees when a command is stopped, and what is ended then."""

import sys
import threading

from stages.runtime.stopping import KEPT, PATIENCE_S, end_now, kill_children, on_stop

SERVER_S = 1.5  # for telling a Prefect server; the processes are ended whether it answers or not

_flow_runs: list[str] = []  # ids of the runs of this process, the outermost first
_patience: list[float] = []  # s, for the first signal, where the command is a server
_stopping = threading.Event()
_is_flow = threading.Event()  # a flow is ended by force: Prefect would wait for the server that the signal ended, too


class Stopped(BaseException):
    """A signal arrived in a command that is no flow: it may still remove its temporary files. Holds its number."""


def stop_on_signals() -> None:
    """From now on SIGINT, SIGTERM and SIGHUP end this command and all its processes within PATIENCE_S."""

    def end(number: int) -> None:
        if not _is_flow.is_set():
            # In a thread, so that a second signal is heard. It is the last one: the patience of a server is used up.
            waiting = threading.Timer(_patience.pop() if _patience else PATIENCE_S, end_now, [number])
            waiting.daemon = True
            waiting.start()
            return
        _stopping.set()
        kill_children()
        line = "\r\x1b[K\x1b[?25h" if sys.stderr.isatty() else "\n"  # ends the moving line and shows the cursor again
        print(line + KEPT, file=sys.__stderr__, flush=True)
        _report_to_server()
        end_now(number)

    def in_main(number: int) -> None:
        if not _is_flow.is_set():
            raise Stopped(number)
        threading.Event().wait()  # the thread above ends the process

    on_stop(end, in_main)


def stop_by_force() -> None:
    """From now on a signal ends this process at once: a flow runs in it. What it wrote so far is whole or not there."""
    _is_flow.set()


def stop_after(seconds: float) -> None:
    """From now on the first signal leaves this command, a server, so many seconds to answer what it has taken; it hears
    the signal itself. A second signal ends it within PATIENCE_S."""
    _patience[:] = [seconds]


def wait_if_stopped() -> None:
    """If a person stops this process, wait for its end: stages that were ended for it have not failed."""
    if _stopping.is_set():
        threading.Event().wait()


def note_flow_run(run: str | None) -> None:
    """Remember the id of a run that is to be set to Cancelled on its server when a person stops it."""
    if run:
        _flow_runs.append(str(run))


def _report_to_server() -> None:
    if not _flow_runs:
        return
    from prefect.settings import PREFECT_API_URL

    if not PREFECT_API_URL.value():
        return  # a temporary server is ended with the run
    thread = threading.Thread(target=_cancel, daemon=True)
    thread.start()
    thread.join(SERVER_S)


def _cancel() -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelled

    with get_client(sync_client=True, httpx_settings={"timeout": SERVER_S}) as client:
        for run in _flow_runs:
            client.set_flow_run_state(run, Cancelled(message="Stopped by a person."), force=True)
