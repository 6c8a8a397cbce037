"""Names are planted wherever a drop can hold one; after de-identification and extraction nothing may hold one still."""

import gzip
import io
import lzma
import re
import traceback
import zipfile
import zlib
from pathlib import Path

import av
import cv2
import numpy as np
import pydicom
import pytest
from cine_files import dicom, save_dicom, sector_mask, speckle, ultrasound_region
from PIL import Image, PngImagePlugin
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from fetalflow.artefacts import file_digest
from fetalflow.cine.reading import read_cine
from fetalflow.cine.recording import Limits
from fetalflow.deidentify.drop import QUARANTINE, deidentify_drop
from fetalflow.deidentify.pseudonyms import Key
from fetalflow.errors import InputError
from fetalflow.extraction import extract_drop
from fetalflow.settings import Extract

CANARY = "CANARY"
NAME = "CANARY^JANE"
KEY = Key(bytes(range(7, 71)))
HEIGHT, WIDTH = 240, 320
SETTINGS = Extract(labels=("head", "arm"), frames=4, stride=4, workers=1, quarantine_share=1.0)
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


def zipped(folder: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = NAME.encode()
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                member = zipfile.ZipInfo(path.relative_to(folder).as_posix())
                member.comment = NAME.encode()
                archive.writestr(member, path.read_bytes())
    return target


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


def holds_canary(data: bytes) -> bool:
    needles = [CANARY.encode(code) for code in ("utf-8", "utf-16-le", "utf-16-be")]
    needles += [needle.lower() for needle in needles]
    return any(needle in part for part in contents(data) for needle in needles)


def assert_clean(folder: Path) -> None:
    paths = sorted(folder.rglob("*"))
    assert any(path.is_file() for path in paths)
    for path in paths:
        assert CANARY not in path.relative_to(folder).as_posix().upper()
        assert not path.is_file() or not holds_canary(path.read_bytes()), path.relative_to(folder)


def test_the_search_finds_what_was_planted(tmp_path):
    drop = canary_drop(tmp_path / "drop")
    files = [path for path in drop.rglob("*") if path.is_file()]
    assert len(files) == 8
    assert all(holds_canary(path.read_bytes()) for path in files)
    png = Image.open(drop / "CANARY^folder" / "CANARY_c.png")
    compressed = io.BytesIO()
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Patient", NAME, zip=True)
    png.save(compressed, "PNG", pnginfo=notes)
    assert CANARY.encode() not in compressed.getvalue() and holds_canary(compressed.getvalue())


@pytest.mark.parametrize("as_zip", [False, True], ids=["folder", "zip"])
def test_no_name_is_left_anywhere(tmp_path, capfd, caplog, recwarn, as_zip):
    drop = canary_drop(tmp_path / "drop")
    drop = zipped(drop, tmp_path / "CANARY.zip") if as_zip else drop
    found = deidentify_drop(drop, tmp_path / "out", KEY, SETTINGS)
    assert found.summary["rows_written"] == 4 and found.summary["cines_written"] == 4
    assert found.summary["quarantined"] == {
        **{"label": 1, "missing": 1, "outside": 1, "row": 1, "site": 1, "span": 1, "unreadable": 1, "value": 1}
    }
    assert found.summary["columns_left_out"] == 2
    assert_clean(tmp_path / "out")

    extraction = extract_drop(tmp_path / "out", SETTINGS.model_copy(update={"frames": 1}), tmp_path / "frames")
    assert len(extraction.sequences) >= 4 and extraction.quarantine.empty
    assert_clean(tmp_path / "frames")
    told = capfd.readouterr()
    said = [told.out, told.err, caplog.text, repr(found), extraction.sequences.to_csv(), str(extraction.summary)]
    said += [str(warning.message) for warning in recwarn]
    assert not any(holds_canary(text.encode()) for text in said)


def test_text_beside_the_sector_is_blank_on_every_frame(tmp_path):
    deidentify_drop(canary_drop(tmp_path / "drop"), tmp_path / "out", KEY, SETTINGS)
    cines = sorted((tmp_path / "out" / "cines").iterdir())
    assert sorted(path.suffix for path in cines) == [".dcm", ".mkv", ".png", ".png"]
    beside = (BESIDE > 0) & ~HULL
    assert beside.sum() > 100
    for path in cines:
        frames = read_cine(path, Limits()).frames
        assert not frames[:, beside].any(), path.suffix
        assert (frames[:, 60:120, 130:190] > 0).mean() > 0.9, path.suffix  # the tissue is still there


def test_text_over_tissue_is_found_in_part_only(tmp_path):
    """What is not promised, measured: moving cines lose about half of such bright text, standing ones keep it all."""
    shares = {}
    for speed in (3.0, 0.0):
        found = []
        for seed in range(6):
            drop = tmp_path / f"{speed}-{seed}"
            drop.mkdir()
            write_mp4(drop / "a.mp4", planted(seed, speed=speed))
            (drop / "annotations.csv").write_text(f"{HEADER}\na.mp4,p1,,,x,,,head,,,,\n")
            deidentify_drop(drop, tmp_path / f"out-{drop.name}", KEY, SETTINGS)
            cine = next((tmp_path / f"out-{drop.name}" / "cines").iterdir())
            found.append((read_cine(cine, Limits()).frames[:, OVER > 128] == 0).mean())
        shares[speed] = float(np.mean(found))
    assert 0.3 < shares[3.0] < 0.9
    assert shares[0.0] < 0.1  # a weakness that docs/deidentification.md states; when it is mended, so must be the page


def broken_drops(folder: Path) -> dict[str, Path]:
    nothing = folder / "nothing"
    (nothing / "CANARY^folder").mkdir(parents=True)
    (nothing / "CANARY^folder" / "CANARY.txt").write_text(NAME)
    twice = folder / "twice"
    twice.mkdir()
    (twice / "annotations.csv").write_text(f"{HEADER},CANARY column\n")
    missing = folder / "missing"
    missing.mkdir()
    (missing / "annotations.csv").write_text(f"CANARY,video\n{NAME},b\n")
    useless = folder / "useless"
    useless.mkdir()
    (useless / "annotations.csv").write_text(f"{HEADER}\nCANARY.mp4,{NAME},,,x,,,CANARY,,,,\n")
    long = folder / "long"
    long.mkdir()
    (long / "annotations.csv").write_text(f"{HEADER}\n{CANARY * 100}.mp4,{NAME},,,x,,,head,,,,\n")
    escaping = folder / "escaping.zip"
    with zipfile.ZipFile(escaping, "w") as archive:
        archive.writestr("../CANARY.txt", NAME)
    return {path.stem: path for path in (nothing, twice, missing, useless, long, escaping)}


def test_no_message_names_anybody(tmp_path, capfd):
    for name, drop in broken_drops(tmp_path).items():
        with pytest.raises(InputError) as caught:
            deidentify_drop(drop, tmp_path / f"out-{name}", KEY, SETTINGS)
        error: BaseException | None = caught.value
        shown = "".join(traceback.format_exception(error))
        while error is not None:  # what a log that prints every cause would show
            shown, error = shown + str(error), error.__cause__ or error.__context__
        shown = shown.replace(__file__, "")  # a traceback names this file
        assert CANARY not in shown.upper(), name
        assert not (tmp_path / f"out-{name}").exists()
    assert CANARY not in "".join(capfd.readouterr())
    with pytest.raises(InputError, match=CANARY):
        deidentify_drop(tmp_path / "nothing", tmp_path / "out", KEY, SETTINGS, reveal=True)


def test_a_crash_in_a_decoder_names_nobody(tmp_path, monkeypatch):
    def crash(*arguments):
        raise RuntimeError(f"cannot decode {NAME}")

    drop = canary_drop(tmp_path / "drop")
    monkeypatch.setattr("fetalflow.deidentify.drop.write_video", crash)
    deidentify_drop(drop, tmp_path / "out", KEY, SETTINGS)
    assert ",broken," in (tmp_path / "out" / QUARANTINE).read_text()
    assert_clean(tmp_path / "out")


def test_the_drop_itself_is_left_as_it_was(tmp_path):
    drop = canary_drop(tmp_path / "drop")
    before = {path: file_digest(path) for path in drop.rglob("*") if path.is_file()}
    deidentify_drop(drop, tmp_path / "out", KEY, SETTINGS)
    assert before == {path: file_digest(path) for path in drop.rglob("*") if path.is_file()}
