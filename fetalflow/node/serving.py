"""The running node: one process for a folder, which receives all the time and in rounds delivers and sends back."""

import resource
import shutil
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock, Timeout

from fetalflow.artefacts import write_text
from fetalflow.errors import InputError
from fetalflow.hospital.arrival.intake import crash_in_words
from fetalflow.hospital.deidentify.pseudonyms import Key
from fetalflow.node.delivering import DELIVERING, deliver, tidy_spool
from fetalflow.node.inboxes import inbox_of, local_files
from fetalflow.node.listening import keep_quiet, listening
from fetalflow.node.receipts import Receipt, Receipts
from fetalflow.node.returning import RESULTS, send_back
from fetalflow.node.running_node import DATABASE, HOST, LOCK, SPOOL, Node, in_short
from fetalflow.node.sending import sender
from fetalflow.node.web import client, fetch
from fetalflow.settings.node import Rule
from fetalflow.settings.params import Settings

EXAMINING = ".examining-"  # how the folder of results that are being made begins
EXAMINED_FOR = 7 * 86_400  # s after it was received, a study is examined
Say = Callable[[str], None]
Examine = Callable[[list[Path], Path], None]  # the files of a study, and the new folder for results as DICOM


@contextmanager
def opened(settings: Settings, folder: Path, key: Key | None) -> Iterator[Node]:
    """The node of a folder. Raises InputError when another process has it, it was used with another key, or the
    settings of the node do not fit together."""
    if not settings.node.rules:
        raise InputError(
            "the node takes nothing: params.yaml has no node.rules (docs/operator/pacs.md has an example)."
        )
    if not settings.node.peers and not settings.node.web.url:
        raise InputError("nobody may send to the node: name AE titles in node.peers, or a PACS in node.web.url.")
    if settings.node.web.url:
        client(settings.node.web)  # a password that would be read on its way is refused
    for rule in settings.node.rules:
        settings.block(rule.task)  # an unknown task is refused
        inbox_of(rule, settings)
    for name in (SPOOL, RESULTS):
        (folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump of the memory would hold names
    keep_quiet()
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"another node works in {folder}. End it, or give --folder another folder.") from None
    receipts = None
    try:
        write_text(folder / HOST, socket.gethostname())  # SQLite's log is not shared between machines
        receipts = Receipts(folder / DATABASE, key.name if key else "")
        node = Node(settings, folder, key, receipts)
        for kind in (EXAMINING, DELIVERING):
            for left in folder.glob(f"{kind}*"):  # by a node that was killed
                shutil.rmtree(left, ignore_errors=True)
        tidy_spool(node)
        yield node
    finally:
        if receipts:
            receipts.close()
        lock.release()


def one_round(node: Node, say: Say, tls: ssl.SSLContext | None = None, examine: Examine | None = None) -> None:
    """Fetch what is new in the DICOMweb PACS, deliver complete studies, examine them, send results back.

    A step that fails does not stop the others. Raises the error of the first one that failed.
    """
    steps = (
        partial(fetch, node, say),
        partial(deliver, node, say),
        partial(_examine_new, node, say, examine),
        lambda: send_back(node, sender(node, tls), say),
    )
    failed = []
    for step in steps:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - it is raised below
            failed.append(error)
    if failed:
        raise failed[0]


def _examine_new(node: Node, say: Say, examine: Examine | None) -> None:
    """Where a node never examined before, it does not begin with all that it ever received: results of old studies
    would come into the PACS."""
    if examine is None:
        return
    for study, receipts in node.receipts.not_examined(node.clock() - EXAMINED_FOR).items():
        if not {each.delivery for each in receipts} <= node.not_examined:
            _examine(node, in_short(study), receipts, examine, say)


def _examine(node: Node, name: str, receipts: list[Receipt], examine: Examine, say: Say) -> None:
    """Examine a whole study, also what was delivered before. Where it fails, the sender gets no result, and the node
    tries again when more of the study comes, or when it is started again."""
    try:
        files: dict[str, list[str]] = {}
        for each in receipts:
            inbox = inbox_of(Rule(task=each.task, inbox=each.inbox), node.settings)
            files.setdefault(inbox, []).append(f"{each.delivery}/{each.file}")
        files = {inbox: list(dict.fromkeys(paths)) for inbox, paths in files.items()}
        shutil.rmtree(node.folder / RESULTS / name, ignore_errors=True)  # of fewer objects, and not yet sent
        with TemporaryDirectory(prefix=EXAMINING, dir=node.folder) as place:  # half of the results is not sent
            there = [each for inbox, paths in files.items() for each in local_files(inbox, paths, Path(place, "files"))]
            if there:
                examine(there, Path(place, name))
                if Path(place, name).is_dir():
                    Path(place, name).rename(node.folder / RESULTS / name)
                gone = sum(map(len, files.values())) - len(there)
                say(f"study {name} was examined" + (f" without {gone} objects, which left the inbox" if gone else ""))
    except Exception as error:  # noqa: BLE001 - one study must not stop the node, and a message may quote it
        why = f"{crash_in_words(error)}; `fetalflow examine` with its files shows the reason"
        say(f"study {name} could not be examined: {why}")
        node.not_examined |= {each.delivery for each in receipts}
    else:
        node.receipts.examined(receipts)


def serve(
    node: Node,
    address: tuple[str, int],
    say: Say,
    stop: threading.Event,
    tls: tuple[ssl.SSLContext | None, ssl.SSLContext | None] = (None, None),
    pause: float = 2.0,
    examine: Examine | None = None,
) -> None:
    """Work until `stop` is set. tls: of the server, and of the sender of results; pause: seconds between rounds."""
    with listening(node, address, say, tls[0]) as port:
        say(f"{node.settings.node.title} listens on {address[0]} port {port}")
        last = ""
        while not stop.is_set():
            failed = _failed_round(node, say, tls[1], examine)
            if failed and failed != last:
                say(f"this round failed, and the next one tries again: {failed}")
            last = failed
            stop.wait(pause)


def _failed_round(node: Node, say: Say, tls: ssl.SSLContext | None, examine: Examine | None) -> str:
    """Why a round failed, or "". What is held stays held, and objects are received all the while."""
    try:
        one_round(node, say, tls, examine)
    except InputError as error:  # its message names folders and settings
        return str(error)
    except Exception as error:  # noqa: BLE001 - its message may quote an object
        return crash_in_words(error)
    return ""
