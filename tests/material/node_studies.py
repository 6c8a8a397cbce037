"""A node with peers and rules, and ultrasound objects to send to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import yaml
from canary import HEIGHT, NAME, WIDTH, canary_dicom
from name_search import SECOND, SECRET
from processes import ROOT
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid
from pynetdicom import AE

from fetalflow.hospital.deidentify.pseudonyms import Key
from fetalflow.node.running_node import Node
from fetalflow.node.serving import opened
from fetalflow.settings.params import Settings, checked

KEY = Key(bytes.fromhex(SECRET))
SCANNER = "SCANNER"
STUDY = "1.2.3.4711"
FRAMES = 8
RULES = ({"peer": SCANNER, "description": "CLINIC", "task": "movement", "labels": {"head": "(?i)head"}},)


@cache
def _params() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "params.yaml").read_text())


def node_settings(inbox: Path, rules: tuple[dict, ...] = RULES, **node: Any) -> Settings:
    inbox.mkdir(exist_ok=True)
    rules = tuple({"inbox": str(inbox)} | rule for rule in rules)
    block = {"rules": rules, "peers": {SCANNER: {"site": "north"}}, "quiet": 0} | node
    return checked(_params() | {"node": block}, "params.yaml")


@contextmanager
def a_node(folder: Path, key: Key | None = KEY, **node: Any) -> Iterator[Node]:
    """A node in `folder`, with the inbox `inbox` there."""
    with opened(node_settings(folder / "inbox", **node), folder / "node", key) as made:
        yield made


def studied(number: int = 1, **elements: Any) -> Dataset:
    """The canary's object (name in every place that a DICOM object has) number `number` of its study."""
    made = canary_dicom()
    made.NumberOfFrames, made.PixelData = FRAMES, made.PixelData[: FRAMES * HEIGHT * WIDTH]
    made.SeriesInstanceUID, made.SOPInstanceUID = f"{STUDY}.1", f"{STUDY}.1.{number}"
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.SeriesDescription, made.OperatorsName = f"head {NAME}", SECOND
    for name, value in elements.items():
        setattr(made, name, value)
    return made


def as_bytes(made: Dataset) -> bytes:
    with BytesIO() as file:
        made.save_as(file, enforce_file_format=True)
        return file.getvalue()


def send(port: int, *objects: Dataset, title: str = SCANNER, patience: float = 30, **options: Any) -> list[int | None]:
    """C-STORE of each object to a node on this machine; the statuses: None, and no more, where there is no answer."""
    entity = AE(ae_title=title)
    entity.dimse_timeout = entity.acse_timeout = patience
    for each in objects:
        entity.add_requested_context(each.SOPClassUID, each.file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", port, ae_title="FETALFLOW", **options)
    if not association.is_established:
        return []
    statuses: list[int | None] = []
    for each in objects:
        if None not in statuses:
            statuses.append(association.send_c_store(each).get("Status"))
    association.release()
    return statuses


def a_result(source: Dataset) -> Dataset:
    """A secondary capture in the study of a de-identified object, which it refers to, as the pipeline makes them."""
    made = Dataset()
    for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"):
        setattr(made, name, source.get(name, ""))
    made.StudyInstanceUID, made.AccessionNumber, made.ReferringPhysicianName = source.StudyInstanceUID, "", ""
    made.SOPClassUID, made.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    made.SeriesInstanceUID, made.SeriesNumber, made.InstanceNumber = generate_uid(), 900, 1
    made.Modality, made.ConversionType, made.PatientIdentityRemoved = "OT", "WSD", "YES"
    made.Manufacturer = "fetalflow"
    made.SeriesDescription = "for research, not for diagnosis"
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    made.SourceImageSequence = Sequence([reference])
    made.Rows, made.Columns, made.SamplesPerPixel, made.PhotometricInterpretation = 8, 8, 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
    made.PixelData = bytes(64)
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    return made
