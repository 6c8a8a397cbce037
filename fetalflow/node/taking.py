"""Takes one DICOM object: finds its rule, de-identifies it in memory where a key is set, and holds it in the spool.

When `take` returns, the object is on the disk and in the database, or it was refused. The same object, sent twice or
on two associations at once, is held once.
"""

import hashlib
import re
import sqlite3
import warnings
from functools import partial
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread

from fetalflow.artefacts import atomic_file
from fetalflow.cine.dicom import MODALITIES
from fetalflow.cine.reading import open_cine
from fetalflow.cine.recording import Limits
from fetalflow.cine.store import LIMITS
from fetalflow.errors import Rejected
from fetalflow.hospital.deidentify.files import CINES, cine_name, has_no_room, write_cine
from fetalflow.hospital.deidentify.header import DATES
from fetalflow.hospital.deidentify.pseudonyms import shift_date
from fetalflow.hospital.deidentify.table import REASONS, rejected
from fetalflow.hospital.drop.columns import YES
from fetalflow.hospital.drop.identity import NO_LETTER, NO_PATIENT, NOTHING
from fetalflow.hospital.drop.spelling import tidy
from fetalflow.node.memory import in_memory
from fetalflow.node.receipts import HELD, REFUSED, Receipt
from fetalflow.node.rules import Place, place, plain, text
from fetalflow.node.running_node import Node, in_short
from fetalflow.node.vault import Vault

FULL = "the node has no room on its disk or in its memory"
MOST_OBJECTS = 10**6  # of a study; a header that states more states nonsense
NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
UIDS = (*NEEDED[:3], "FrameOfReferenceUID")
TRUE = (  # of patient and study: what a result gets back before it leaves the node
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "OtherPatientIDs"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber"),
    *("ReferringPhysicianName",),
)
SAME_IN_A_STUDY = ("PatientBirthDate", "IssuerOfPatientID")
MAKER = "fetalflow"  # Manufacturer of results, which have a ConversionType where they are pictures
NOT_TAKEN = {  # kinds of refusal that stay without a receipt
    "rule": "no rule of the node takes this object",
    "header": "the header lacks a UID that every object needs, or cannot be read",
    "result": "it is a result of fetalflow",
    "image": "the object is no ultrasound image",
    "patient": "earlier objects of this study have another PatientID, date of birth or issuer",
    "twice": "another study has an object with this SOPInstanceUID",
    "other": "an object with this SOPInstanceUID was stored with another picture; a changed image needs a new UID",
    "forgotten": "this patient was removed from the node (`fetalflow node --admit` takes her again)",
}


class Refused(Exception):  # noqa: N818 - a decision about one object, not an error of the program
    """An object that is not taken. kind: of NOT_TAKEN, or of `fetalflow.hospital.deidentify.table.REASONS`. study: a
    short name of its study for the log, "" where it is not known."""

    def __init__(self, kind: str, study: str = "") -> None:
        super().__init__(kind, study)
        self.kind, self.study = kind, study

    @property
    def reason(self) -> str:
        return NOT_TAKEN.get(self.kind) or REASONS[rejected(self.kind)]


def take(node: Node, data: bytes, sender: str) -> Receipt:
    """Take one object. data: a whole DICOM file; sender: AE title.

    Raises Refused; an error of which `is_full` is true when there is no room, and then nothing was taken.
    """
    limits = Limits(max_bytes=node.settings.node.max_bytes)
    if len(data) > limits.max_bytes:
        raise Refused("huge")
    try:
        with in_memory(data, limits) as path, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's warnings quote values
            return _take(node, path, data, sender)
    except Rejected as verdict:  # a deflated object that cannot be unpacked
        raise Refused(verdict.kind) from None


def _take(node: Node, path: Path, data: bytes, sender: str) -> Receipt:
    header = _header(path)
    study, name = node.name(text(header, "StudyInstanceUID")), node.name(text(header, "SOPInstanceUID"))
    if _is_result(node, header):
        raise Refused("result", in_short(study))
    where = place(header, sender, node.settings.node)
    if where is None:
        raise Refused("rule", in_short(study))
    if not header.get("Rows") or text(header, "Modality").upper() not in MODALITIES:
        raise Refused("image", in_short(study))
    identifier, assumed = _identifier(header)
    patient = node.key.pseudonym("patient", identifier) if node.key else identifier
    if node.receipts.patient_of(study) not in (None, patient):  # `add` decides; this spares the work
        raise Refused("patient", in_short(study))
    digest = hashlib.sha256(data).hexdigest()
    found = node.receipts.find(study, name)
    held = found if found and found.state != REFUSED else None
    if held and _is_copy(node, held, digest):
        return held
    with node.working_on(study):
        kind, file = _spool(node, path, data, where, identifier, digest)
        picture = "" if kind else _picture(node, where, file)
        if held:
            _compare(node, held, kind, picture)
            return held
        sealed = _sealed(node, header, patient, identifier)
        receipt = Receipt(
            study=study,
            object=name,
            patient=patient,
            digest=digest if not node.key else "",  # it would show who has the original that this is she
            state=REFUSED if kind else HELD,
            kind=kind,
            file=file,
            task=where.rule.task,
            inbox=where.rule.inbox,
            site=_kept(node, where.site, header),
            device=_kept(node, text(header, "ManufacturerModelName"), header),
            label=where.label,
            assumed=assumed,
            received=node.clock(),
        )
        stated = text(header, "NumberOfStudyRelatedInstances")
        expected = min(int(stated), MOST_OBJECTS) if stated.isdecimal() else 0
        not_added = node.receipts.add(receipt, sender, expected, sealed, _stated(node, header), picture)
    if kind := not_added or kind:
        raise Refused(kind, in_short(study))
    return receipt


def _header(path: Path) -> Dataset:
    try:
        header = dcmread(path, stop_before_pixels=True)
        header.decode()
        if all(text(header, name) for name in NEEDED):
            return header
    except Exception:  # pydicom reads values late, and damaged ones raise many kinds of errors, with their values
        pass
    raise Refused("header")


def _is_result(node: Node, header: Dataset) -> bool:
    """Whether the object is a result of fetalflow. A PACS that forwards all of a study would send it in circles."""
    ours = text(header, "Manufacturer").casefold() == MAKER and text(header, "ConversionType")
    return bool(ours) or node.receipts.was_returned(text(header, "SOPInstanceUID"))


def _identifier(header: Dataset) -> tuple[str, str]:
    """Who the object is of, and YES where nobody says so and its study counts as a patient."""
    found = tidy(text(header, "PatientID"))
    nobody = found.casefold() in NO_PATIENT or NO_LETTER.fullmatch(found) or NOTHING.fullmatch(found)
    return (f"study {text(header, 'StudyInstanceUID')}", YES) if not found or nobody else (found, "")


def _stated(node: Node, header: Dataset) -> dict[str, str]:
    """Digests of what must agree in a study beside the identifier; two women may have one, or none."""
    values = {name: text(header, name).casefold() for name in SAME_IN_A_STUDY}
    return {name: _digest(node, value) for name, value in values.items() if value}


def _digest(node: Node, value: str) -> str:
    """With a key, only who has it can find the value by trying."""
    return node.key.digest("stated", value).hex() if node.key else hashlib.sha256(value.encode()).hexdigest()


def _is_copy(node: Node, held: Receipt, digest: str) -> bool:
    """Whether an object has the bytes of the held one. The name of its file follows from them."""
    return held.digest == digest if node.key is None else cine_name(held.patient, digest, node.key) in held.file


def _compare(node: Node, held: Receipt, kind: str, picture: str) -> None:
    """A PACS may forward an object with another header or compression, but not with another picture. Raises Refused."""
    if kind:
        raise Refused(kind, in_short(held.study))
    if (known := node.receipts.picture_of(held.study, held.object)) and known != picture:
        raise Refused("other", in_short(held.study))


def _picture(node: Node, where: Place, file: str) -> str:
    """A digest of the pixels of all frames of a file in the spool; "" where they cannot be read."""
    content = hashlib.sha256()
    try:
        with open_cine(node.spool / file, _limits(node, where)) as cine:
            for frame in cine.frames:
                content.update(frame)
    except Rejected:  # without a key it is stored as it came
        return ""
    return _digest(node, content.hexdigest())


def _limits(node: Node, where: Place) -> Limits:
    extract = node.settings.block(where.rule.task).extract
    return Limits(**{name: getattr(extract, name) for name in LIMITS})


def _spool(node: Node, path: Path, data: bytes, where: Place, identifier: str, digest: str) -> tuple[str, str]:
    """Write the object into the spool. Returns why it cannot be used, or "", and its file there."""
    limits = _limits(node, where)
    if len(data) > limits.max_bytes:
        return "huge", ""
    if node.key is None:
        file = f"{CINES}/{digest[:24]}.dcm"
        with atomic_file(node.spool / file) as temporary:
            temporary.write_bytes(data)
        return "", file
    threshold = node.settings.block(where.rule.task).extract.cut_threshold
    written = write_cine(path, digest, identifier, set(), node.spool, node.key, limits, threshold)
    return (written, "") if isinstance(written, str) else ("", written.name)


def _kept(node: Node, words: str, header: Dataset) -> str:
    return plain(words, header) if node.key else tidy(words)


def _sealed(node: Node, header: Dataset, patient: str, identifier: str) -> dict[str, bytes]:
    """What results need in order to go back under the true identifiers, by pseudonym."""
    if node.key is None:
        return {}
    true = Dataset()
    for element in (header[name] for name in TRUE if name in header):
        true.add(element)
    study = text(header, "StudyInstanceUID")
    facts: dict[str, dict[str, Any]] = {
        node.name(uid): {"uid": uid} for uid in {text(header, name) for name in UIDS} - {""}
    }
    facts[node.name(study)] |= {"header": true.to_json_dict(suppress_invalid_tags=True), "patient": patient}
    days = node.key.days(identifier)
    dates = [text(header, name).replace(".", "") for name in DATES if name in header]
    facts[node.name(text(header, "SOPInstanceUID"))]["dates"] = {
        shift_date(each, days): each for each in dates if re.fullmatch(r"\d{8}", each, re.ASCII)
    }
    seal = partial(Vault.seal, node.vault)
    return {name: seal(name, value) for name, value in facts.items()}


def is_full(error: Exception) -> bool:
    """Whether the machine has no room, or its database cannot be written; that is no fault of the object."""
    return isinstance(error, MemoryError | sqlite3.OperationalError) or has_no_room(error)
