"""Complete studies become deliveries in the inboxes: each object in one of them, whatever is killed when.

First the database settles which objects a delivery has, then it is written under a hidden name and renamed, then the
database notes it. A kill in between leaves work that the next start finishes with the same name and content.
"""

import csv
import hashlib
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from fetalflow.artefacts import atomic_file, atomic_folder, write_text
from fetalflow.errors import InputError
from fetalflow.hospital.arrival.inbox import is_url
from fetalflow.hospital.arrival.intake import NO_LABELS, UNLABELLED
from fetalflow.hospital.deidentify.files import CINES
from fetalflow.hospital.deidentify.sealed import write_seal
from fetalflow.hospital.drop.columns import ANNOTATIONS, ASSUMED, COLUMNS
from fetalflow.node.inboxes import inbox_of, is_delivered, put
from fetalflow.node.receipts import Receipt
from fetalflow.node.running_node import Node, in_short
from fetalflow.settings.node import Rule

DELIVERING = ".delivering-"  # how the folder of a delivery begins that is being copied to a URL
ANNOTATOR = "node"  # of the labels that rules give
PATIENTS = "patients.csv"  # of a delivery without labels: who its cines are of


def deliver(node: Node, say: Callable[[str], None] = lambda line: None) -> list[tuple[str, list[Receipt]]]:
    """Write what is complete. Returns the names of the deliveries and what each holds, and says it of each.

    Raises InputError or OSError when one could not be written, after all others were.
    """
    for study in node.receipts.complete(node.clock(), node.settings.node.quiet):
        if study not in node.busy:
            _assign(node, study)
    made, failed = [], None
    for name, receipts in node.receipts.assigned().items():
        try:
            _write(node, name, receipts)
        except (InputError, OSError) as error:
            failed = error
            continue
        node.receipts.delivered(name)
        made.append((name, receipts))
        say(f"{name}: {len(receipts)} objects are in the inbox of {receipts[0].task}")
    tidy_spool(node)
    if failed:
        raise failed
    return made


def _assign(node: Node, study: str) -> None:
    groups = defaultdict(list)
    for receipt in node.receipts.waiting(study):
        groups[receipt.task, receipt.inbox, bool(receipt.label)].append(receipt)
    for (task, _, _), receipts in groups.items():
        content = hashlib.sha256("\0".join([task, *(each.object for each in receipts)]).encode()).hexdigest()[:8]
        node.receipts.assign(receipts, f"study-{in_short(study)}-{content}")


def _write(node: Node, name: str, receipts: list[Receipt]) -> None:
    first = receipts[0]
    place = inbox_of(Rule(task=first.task, inbox=first.inbox), node.settings)
    marker = node.settings.block(first.task).retrain.marker
    if is_url(place):
        if not is_delivered(place, name, marker):
            with TemporaryDirectory(prefix=DELIVERING, dir=node.folder) as folder:
                _fill(Path(folder), receipts, node, marker)
                put(place, name, Path(folder), marker)
        return
    inbox = Path(place)
    _remove_left(inbox, name)
    if (inbox / name).exists():  # it was written, and the node was killed before it could note that
        return
    with atomic_folder(inbox / name) as folder:
        _fill(folder, receipts, node, marker)
    _to_disk(inbox)


def _fill(folder: Path, receipts: list[Receipt], node: Node, marker: str) -> None:
    (folder / CINES).mkdir()
    for file in {each.file for each in receipts}:
        shutil.copyfile(node.spool / file, folder / file)
    _write_tables(folder, receipts, node)
    for path in folder.rglob("*"):
        _to_disk(path)
    (folder / marker).touch()
    _to_disk(folder)


def _write_tables(folder: Path, receipts: list[Receipt], node: Node) -> None:
    rows = {each.file: _row(each) for each in receipts}
    assumed = [ASSUMED] if any(each.assumed for each in receipts) else []
    if receipts[0].label:
        _write_csv(folder / ANNOTATIONS, [*COLUMNS, *assumed], rows.values())
    else:
        _write_csv(folder / PATIENTS, ["video", "patient", "site", "device"], rows.values())
        write_text(folder / UNLABELLED, f"{NO_LABELS}\n")
    if node.key:
        write_seal(folder, rows, node.receipts.refused(receipts[0].study), node.key)


def _row(receipt: Receipt) -> dict[str, str]:
    facts = {column: getattr(receipt, column) for column in ("patient", "site", "device", "label")}
    return facts | {"video": receipt.file, "annotator": ANNOTATOR, ASSUMED: receipt.assumed}


def _write_csv(path: Path, columns: list[str], rows: Iterable[dict[str, str]]) -> None:
    with atomic_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns, restval="", extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        table.writerows(sorted(rows, key=lambda row: row["video"]))


def _remove_left(inbox: Path, name: str) -> None:
    """What a killed `_write` left; `atomic_folder` gives it such a name."""
    for left in inbox.glob(f".{name}-*"):
        shutil.rmtree(left, ignore_errors=True)


def tidy_spool(node: Node) -> None:
    """Remove files that no held object needs: delivered ones, and what a kill left. Only while nothing is worked on."""
    with node.idle() as idle:
        if not idle:
            return
        held = node.receipts.held_files()
        for path in (node.spool / CINES).glob("*"):
            if f"{CINES}/{path.name}" not in held:
                path.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    """A power cut must not leave a delivery with its marker but without its files."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
