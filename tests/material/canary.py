"""A drop with a name in every place that can hold one, and a look into what is compressed."""

import gzip
import io
import lzma
import re
import zipfile
import zlib
from pathlib import Path

import av
import cv2
import numpy as np
import pydicom
from cine_files import dicom, save_dicom, sector_mask, speckle, ultrasound_region
from PIL import Image, PngImagePlugin
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

CANARY = "CANARY"
NAME = "CANARY^JANE"
HEIGHT, WIDTH = 240, 320
HULL = cv2.dilate(sector_mask(HEIGHT, WIDTH).astype(np.uint8), np.ones((25, 25))) > 0
HEADER = "video,patient,site,device,annotator,start_frame,end_frame,label,mm_per_px,study_date,comment,CANARY column"


def drawn(place: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W], the name in white letters."""
    picture = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.putText(picture, NAME, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, 255, 1)
    return picture


BESIDE, OVER = drawn((4, 14)), drawn((110, 150))


def planted(seed: int, frames: int = 24, speed: float = 3.0) -> np.ndarray:
    """uint8 [T, H, W]: the name beside and over the sector."""
    return np.maximum(speckle(frames, HEIGHT, WIDTH, seed=seed, speed=speed), np.maximum(BESIDE, OVER))


def canary_dicom() -> Dataset:
    dataset = dicom(planted(1), PatientName=NAME, PatientID=f"{CANARY}-4711", StudyDate="20260203", CineRate=25)
    dataset.InstitutionName = dataset.StudyDescription = dataset.ImageComments = f"{CANARY} CLINIC"
    dataset.Manufacturer, dataset.ManufacturerModelName = "Acme", f"{CANARY} model"
    dataset.StudyInstanceUID = "1.2.3.4711"
    nested, deeper = Dataset(), Dataset()
    deeper.PersonName = nested.PatientName = NAME
    nested.PersonIdentificationCodeSequence = Sequence([deeper])
    dataset.RequestAttributesSequence = Sequence([nested])
    region = ultrasound_region(0.05, 20, 24, 300, 230)
    region.private_block(0x0021, CANARY, create=True).add_new(1, "LO", NAME)
    region.ImageComments = NAME
    dataset.SequenceOfUltrasoundRegions = Sequence([region])
    dataset.private_block(0x0011, f"{CANARY} PRIVATE", create=True).add_new(1, "LO", NAME)
    dataset.add(pydicom.DataElement(0x00189073, "LO", NAME))  # AcquisitionDuration, whose type should be a number
    dataset.add(pydicom.DataElement(0x00181063, "LO", NAME))  # FrameTime, which is on the whitelist
    return dataset


def write_mp4(path: Path, frames: np.ndarray) -> None:
    with av.open(str(path), "w") as container:
        container.metadata.update(title=NAME, comment=NAME, artist=NAME)
        stream = container.add_stream("libx264", rate=25, options={"crf": "18"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:], "yuv420p"
        stream.metadata["handler_name"] = NAME
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, "gray")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def canary_drop(folder: Path) -> Path:
    """A DICOM cine, an MP4, a PNG and a JPEG; rows that pass, and rows with every kind of fault, all with the name."""
    inner = folder / "CANARY^folder"
    inner.mkdir(parents=True)
    save_dicom(inner / "CANARY_a.dcm", canary_dicom())
    write_mp4(inner / "CANARY_b.mp4", planted(2))
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Comment", NAME)
    notes.add_text("Patient", NAME, zip=True)
    Image.fromarray(planted(3, 1)[0]).save(inner / "CANARY_c.png", pnginfo=notes)
    exif = Image.Exif()
    exif[0x010E] = exif[0x013B] = NAME
    Image.fromarray(planted(4, 1)[0]).save(inner / "CANARY_d.jpg", exif=exif, comment=NAME.encode(), quality=98)
    (inner / "CANARY_broken.mp4").write_bytes(b"CANARY is no video" * 100)
    (inner / "CANARY_note.txt").write_text(NAME)
    (inner / "CANARY_unlisted.png").write_bytes((inner / "CANARY_c.png").read_bytes() + CANARY.encode())
    lines = [
        f"{file},{NAME} {n},north,Probe 3,Dr {CANARY},,,{label},0.3,2026-02-0{n},{NAME} was here,{CANARY}"
        for n, (file, label) in enumerate(
            [
                ("CANARY^folder/CANARY_a.dcm", "head"),
                ("CANARY^folder/CANARY_b.mp4", "arm"),
                ("CANARY^folder/CANARY_c.png", "arm"),
                ("CANARY^folder/CANARY_d.jpg", "head"),
                ("CANARY^folder/CANARY_broken.mp4", "head"),
                ("CANARY^folder/CANARY_a.dcm", f"haed {CANARY}"),
                ("../CANARY_outside.dcm", "head"),
                ("CANARY_missing.dcm", "head"),
            ],
            1,
        )
    ]
    whole = f"CANARY^folder/CANARY_b.mp4,{NAME} 2,north,Probe 3,Dr {CANARY}"
    lines += [
        f"{whole},CANARY,,arm,0.3,2026-02-02,,",
        f"{whole},,900,arm,0.3,2026-02-02,,",
        f"{whole},,,arm,0.3,{NAME},,",
        f"{whole.replace('north', CANARY)},,,arm,0.3,2026-02-02,,",
    ]
    (folder / "annotations.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    return folder


def contents(data: bytes) -> list[bytes]:
    """Bytes as they are and, where a part of them is compressed, what is in it."""
    found = [data]
    if data[:4] == b"PK\3\4":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            found += [archive.read(name) for name in archive.namelist()]
    if data[:2] == b"\x1f\x8b":
        found.append(gzip.decompress(data))
    if data[:6] == b"\xfd7zXZ\0":
        found.append(lzma.decompress(data))
    for start in (match.start() for match in re.finditer(rb"x[\x01\x5e\x9c\xda]", data)):
        try:
            found.append(zlib.decompressobj().decompress(memoryview(data)[start:], 1 << 20))
        except zlib.error:
            continue
    return found
