"""Removes a patient from what a node keeps, also while the node runs: objects, true identifiers, results. Later objects
of her are refused."""

import shutil
import socket
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from pydicom import dcmread

from fetalflow.errors import InputError
from fetalflow.node.receipts import Receipt, Receipts, forgotten_name
from fetalflow.node.returning import RESULTS
from fetalflow.node.running_node import DATABASE, HOST, LOCK, SPOOL, in_short


@dataclass(frozen=True)
class Removed:
    """What was removed, or would be."""

    objects: int = 0
    studies: int = 0
    results: int = 0

    def __bool__(self) -> bool:
        return bool(self.objects or self.results)


def is_node(folder: Path) -> bool:
    """Whether a node worked in a folder."""
    return (folder / DATABASE).is_file()


def runs_elsewhere(folder: Path) -> str:
    """The machine on which the node of a folder runs, "" where it is this one or the node does not run."""
    with suppress(InputError), _beside(folder):
        return ""
    return _host(folder)


def _host(folder: Path) -> str:
    return (folder / HOST).read_text().strip() if (folder / HOST).is_file() else "another machine"


@contextmanager
def _beside(folder: Path) -> Iterator[None]:
    """No node begins to work in a folder until the block ends. One that works already may go on, on this machine.

    Raises InputError when it works on another one: on a shared folder, two machines would damage the database.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if (host := _host(folder)) != socket.gethostname():
            raise InputError(
                f"the node in {folder} runs on {host}. Run `fetalflow node --forget PSEUDONYM` there, or end that node "
                "first."
            ) from None
    try:
        yield
    finally:
        lock.release()


def forget(
    folder: Path,
    patients: Iterable[str],
    is_site: Callable[[str], bool] | None = None,
    dry: bool = False,
) -> Removed:
    """Remove all that the node in `folder` keeps of a patient: nothing where there is no node.

    Raises InputError when the node runs on another machine.

    patients: names by which the pipeline knows her; is_site: where another woman has the same name, of which sites she
    is. dry: only count. What of her is in an inbox stays.
    """
    if not is_node(folder):
        return Removed()
    patients = {*patients}
    with _beside(folder), closing(Receipts(folder / DATABASE, None)) as receipts:
        hers = [each for each in receipts.all() if each.patient in patients and (not is_site or is_site(each.site))]
        studies = {each.study for each in hers}
        results = [*_results(folder, patients if is_site is None else set(), studies)]
        removed = Removed(len(hers), len(studies), len(results))
        if dry:
            return removed
        receipts.forget(studies, _refused(patients, hers, bool(is_site)))
        for each in hers:
            if each.file:
                (folder / SPOOL / each.file).unlink(missing_ok=True)
    for path in results:
        path.unlink(missing_ok=True)
    for study in studies:
        shutil.rmtree(folder / RESULTS / in_short(study), ignore_errors=True)
    return removed


def admit(folder: Path, patient: str) -> bool:
    """Take her objects again. Whether they were refused."""
    if not is_node(folder):
        return False
    with _beside(folder), closing(Receipts(folder / DATABASE, None)) as receipts:
        sites = {each.site for each in receipts.all()}
        return bool(receipts.admit({forgotten_name(patient, site) for site in {"", *sites}}))


def _refused(patients: Iterable[str], hers: Iterable[Receipt], of_site: bool) -> set[str]:
    if of_site:
        return {forgotten_name(each.patient, each.site) for each in hers}
    return {forgotten_name(patient) for patient in patients}


def _results(folder: Path, patients: set[str], studies: set[str]) -> Iterator[Path]:
    """Results of her that were not sent yet, wherever they lie among the results."""
    for path in (folder / RESULTS).rglob("*"):
        if path.is_file():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    header = dcmread(path, stop_before_pixels=True, specific_tags=["PatientID", "StudyInstanceUID"])
                except Exception:  # noqa: BLE001 - what is no DICOM, or half of one, is removed with its folder
                    continue
            if str(header.get("PatientID")) in patients or str(header.get("StudyInstanceUID")) in studies:
                yield path
