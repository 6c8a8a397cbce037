"""Results go back to the AE that sent the study, under the true identifiers, which are put in only in memory.

Results are DICOM files with the pseudonyms of the pipeline, in the folder `results` of the node. One that was received
is removed; one that was not is tried again in the next round.
"""

import hashlib
import io
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydicom import DataElement, Dataset, dcmread
from pydicom.uid import UID

from fetalflow.errors import InputError
from fetalflow.hospital.arrival.intake import crash_in_words
from fetalflow.node.receipts import forgotten_name
from fetalflow.node.running_node import Node, in_short
from fetalflow.node.taking import TRUE

RESULTS = "results"
MARKS = (  # of de-identification: they are no longer true
    *("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
    "LongitudinalTemporalInformationModified",
)
Send = Callable[[str, Dataset], None]  # to an AE title; raises NotSent
UNICODE = "ISO_IR 192"


class NotSent(Exception):  # noqa: N818 - the next round tries again
    """Why a receiver did not take a result, in words without identifiers."""


class Away(NotSent):
    """The receiver cannot be reached: its other results wait as well, and nobody waits for each of them."""


def send_back(node: Node, send: Send, say: Callable[[str], None]) -> int:
    """Send every result that lies in the folder. Returns how many were received. Why one waits is said once."""
    sent, away, why = 0, {}, {}
    for path in sorted((node.folder / RESULTS).rglob("*.dcm")):
        if not path.is_file() or path.name.startswith("."):
            continue
        try:
            sent += _send_one(node, path, send, away)
        except (NotSent, InputError) as error:
            why[path] = str(error)
        except Exception as error:  # noqa: BLE001 - one result must not hold back the others; a message may name her
            why[path] = f"it cannot be sent ({crash_in_words(error)}); write it again, or remove it"
    for path in why:
        if node.waiting.get(path) != why[path]:
            say(f"the result {_shown(path)} waits: {why[path]}")
    node.waiting = why
    for folder in (node.folder / RESULTS).iterdir():
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return sent


def _send_one(node: Node, path: Path, send: Send, away: dict[str, str]) -> bool:
    """away: why receivers cannot be reached; filled in."""
    result = _read(path)
    study = str(result.StudyInstanceUID)
    sender = node.receipts.sender_of(study)
    if sender is None and node.receipts.is_forgotten([forgotten_name(str(result.get("PatientID") or ""))]):
        return _remove(path)  # it was made while she was removed
    if sender is None:
        raise NotSent("it belongs to no study that the node received; remove it, or restore the node's folder")
    receiver = peer.results_to if (peer := node.settings.node.peers.get(sender)) and peer.results_to else sender
    name, digest = str(result.SOPInstanceUID), hashlib.sha256(path.read_bytes()).hexdigest()
    if not node.receipts.was_returned(name, digest):
        if receiver in away:
            raise NotSent(away[receiver])
        try:
            send(receiver, with_true_identifiers(node, result))
        except Away as error:
            away[receiver] = str(error)
            raise
        node.receipts.returned(name, digest, receiver, node.clock())
    path.unlink()
    return True


def _remove(path: Path) -> bool:
    path.unlink()
    return False


def _read(path: Path) -> Dataset:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = dcmread(io.BytesIO(path.read_bytes()))
            result.decode()
            _ = result.StudyInstanceUID, result.SOPInstanceUID, result.file_meta.TransferSyntaxUID
            return result
    except Exception:  # pydicom raises many kinds of errors
        raise NotSent("it is no DICOM file that can be read; write it again, or remove it") from None


def with_true_identifiers(node: Node, result: Dataset) -> Dataset:
    """The result of a study with the identifiers under which the study came; `result` is changed. Without a key it
    stays as it is.

    UIDs of the study, its series and objects are put back wherever they are, also in references; elements of patient
    and study as they came; her pseudonym, and moved dates of the objects that the result refers to, wherever they are
    a value. Raises InputError when the table of identifiers cannot be opened, NotSent where the study is not in it.
    """
    if node.key is None:
        return result
    study = str(result.StudyInstanceUID)
    values = _opened(node, {str(value) for value in _uids(result)})
    if "header" not in values.get(study, {}):
        raise NotSent(f"the node has no identifiers of study {in_short(study)}")
    patient = values[study]["patient"]
    true = Dataset.from_json(values[study]["header"])
    dates = {moved: date for value in values.values() for moved, date in value.get("dates", {}).items()}
    _replace(result, {name: value["uid"] for name, value in values.items()}, dates, patient, true)
    for name in TRUE:
        if name in true:
            result[name] = true[name]
        elif name in result:
            setattr(result, name, "")
    for name in MARKS:
        result.pop(name, None)
    result.SpecificCharacterSet = UNICODE
    result.file_meta.MediaStorageSOPInstanceUID = result.SOPInstanceUID
    return result


def _elements(data: Dataset) -> Iterator[DataElement]:
    for element in data:
        yield element
        if element.VR == "SQ":
            for item in element.value:
                yield from _elements(item)


def _uids(data: Dataset) -> Iterator[UID]:
    for element in _elements(data):
        if element.VR == "UI" and element.value:
            yield from [element.value] if isinstance(element.value, str) else element.value


def _opened(node: Node, names: set[str]) -> dict[str, dict[str, Any]]:
    return {name: node.vault.open(name, sealed) for name, sealed in node.receipts.sealed(names).items()}


def _replace(result: Dataset, uids: dict[str, str], dates: dict[str, str], patient: str, true: Dataset) -> None:
    for element in _elements(result):
        if not element.value:
            continue
        if element.VR == "UI":
            several = not isinstance(element.value, str)
            changed = [uids.get(str(uid), str(uid)) for uid in (element.value if several else [element.value])]
            element.value = changed if several else changed[0]
        elif element.VR == "PN" and str(element.value) == patient:
            element.value = str(true.get("PatientName") or "")
        elif element.VR in ("LO", "SH", "UC", "LT", "ST", "UT") and str(element.value) == patient:
            element.value = str(true.get("PatientID") or "")
        elif element.VR in ("DA", "DT") and str(element.value)[:8] in dates:
            element.value = dates[str(element.value)[:8]] + str(element.value)[8:]


def _shown(path: Path) -> str:
    """A file of the results for the log. Its name was chosen by whoever wrote it."""
    return hashlib.sha256(path.name.encode()).hexdigest()[:8]
