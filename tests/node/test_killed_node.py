"""A node that is killed at any point, and a sender that sends again and in another order: the same end, nothing lost,
nothing twice, nobody named."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest
from name_search import searched
from node_studies import a_node, send, studied
from processes import wait_for

from fetalflow.artefacts import file_digest
from fetalflow.node import delivering, listening, taking
from fetalflow.node.receipts import Receipts
from fetalflow.node.serving import one_round

COUNT = 3
FORK = multiprocessing.get_context("fork")  # the libraries are imported: 2 s for each process
POINTS = {  # where, and at which call of it, the process is killed
    "before an object is on the disk": (taking, "write_cine", 2),
    "before an object is in the database": (Receipts, "add", 2),
    "before the sender hears of it": (listening, "in_short", 2),
    "before the delivery is settled": (Receipts, "assign", 1),
    "before it is written": (delivering, "_write", 1),
    "when its cines are copied": (delivering, "_write_tables", 1),
    "before its marker": (delivering, "_to_disk", 3),
    "after it is renamed": (Receipts, "delivered", 1),
    "before the spool is tidied": (delivering, "tidy_spool", 1),
}
RARE = {*POINTS} - {"before an object is in the database", "when its cines are copied", "after it is renamed"}


def objects() -> list:
    return [studied(number, NumberOfStudyRelatedInstances=COUNT) for number in range(1, COUNT + 1)]


def serve(folder: Path, pipe, place=None, name="", call=0) -> None:
    """A node that delivers once all objects are there. It is killed at the call of a function, if one is named."""
    if place is not None:
        original, calls = getattr(place, name), iter(range(1, 10**6))

        def killed(*arguments, **options):
            if next(calls) == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **options)

        setattr(place, name, killed)
    with a_node(folder, quiet=10**6) as node, listening.listening(node, ("127.0.0.1", 0), print) as port:
        pipe.send(port)
        while not pipe.poll(0.02):
            one_round(node, print)


def during(folder: Path, *how):
    """A serving process and its port."""
    here, there = FORK.Pipe()
    process = FORK.Process(target=serve, args=(folder, there, *how))
    process.start()
    return process, here.recv(), here


def end_of(folder: Path) -> dict[str, str]:
    """Every file of the inbox, by its content."""
    files = (path for path in sorted((folder / "inbox").rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("undisturbed")
    with a_node(folder, quiet=10**6) as node, listening.listening(node, ("127.0.0.1", 0), print) as port:
        assert send(port, *objects()) == [0] * COUNT
        one_round(node, print)
    return end_of(folder)


@pytest.mark.parametrize("point", [pytest.param(p, marks=pytest.mark.long) if p in RARE else p for p in POINTS])
def test_killed_at_any_point_the_end_is_the_same(tmp_path, undisturbed, point):
    process, port, pipe = during(tmp_path, *POINTS[point])
    while process.is_alive():
        send(port, *objects(), patience=2)  # pynetdicom does not see that the other end is gone
    assert process.exitcode == -signal.SIGKILL
    searched(tmp_path)
    process, port, pipe = during(tmp_path)
    try:
        assert send(port, *reversed(objects())) == [0] * COUNT  # whoever got no answer sends again
        wait_for(lambda: end_of(tmp_path) == undisturbed, 20, lambda: str(end_of(tmp_path)))
    finally:
        pipe.send("end")
        process.join(30)
    with a_node(tmp_path, quiet=0) as node:
        assert node.receipts.counts() == {"delivered": COUNT} and not list((node.spool / "cines").iterdir())
    assert end_of(tmp_path) == undisturbed and searched(tmp_path) > 4
