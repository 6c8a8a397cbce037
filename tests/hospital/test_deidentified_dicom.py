"""A de-identified DICOM conforms to the standard, and keeps order, shape of pixels, window and times of frames."""

import json
import shutil
import subprocess
import time
import warnings
from functools import cache
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import numpy as np
import pydicom
import pytest
from cine_files import ultrasound_region
from dicom_standard import faults
from processes import free_port
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    JPEG2000,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
)

from fetalflow.artefacts import file_digest
from fetalflow.cine.reading import open_cine
from fetalflow.cine.recording import Limits
from fetalflow.hospital.deidentify.files import write_cine
from fetalflow.hospital.deidentify.header import clean_header
from fetalflow.hospital.deidentify.pixels import Survey, write_dicom
from fetalflow.hospital.deidentify.pseudonyms import Key

KEY = Key(bytes(range(64)))
SPARED = ("color3d_jpeg_baseline.dcm", "OBXXXX1A_expb", "US1_UNC", "_big.dcm")  # like another one, or long


@cache
def samples() -> list[Path]:
    """The ultrasound files of pydicom and pydicom-data."""
    import data_store

    found = []
    for folder in (Path(pydicom.__file__).parent / "data", Path(data_store.__file__).parent):
        for path in sorted(folder.rglob("*.dcm")):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                header = dcmread(path, stop_before_pixels=True, force=True, specific_tags=["Modality"])
            if header.get("Modality") == "US" and not any(name in path.name for name in SPARED):
                found.append(path)
    return found


def facts(path: Path) -> tuple:
    with open_cine(path, Limits()) as cine:
        frames = sum(1 for _ in cine.frames)
        return frames, cine.fps, cine.mm_per_px


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[Path, Path]:
    """The de-identified files by their originals."""
    folder = tmp_path_factory.mktemp("written")
    made = {path: write_cine(path, file_digest(path), "jane", set(), folder, KEY, Limits(), 0.35) for path in samples()}
    return {path: folder / cine.name for path, cine in made.items()}


def test_real_files_conform_and_keep_what_viewers_need(written):
    assert len(written) > 12
    assert {path.name: found for path, out in written.items() if (found := faults(out))} == {}
    assert sum(bool(faults(path)) for path in written) > 3  # not every original conforms
    for path, out in written.items():
        assert facts(out) == facts(path), path.name
        old, new = dcmread(path, stop_before_pixels=True, force=True), dcmread(out, stop_before_pixels=True)
        for name in ("SeriesNumber", "InstanceNumber", "PixelAspectRatio", "FrameTime", "WindowCenter", "WindowWidth"):
            assert old.get(name) == new.get(name), (path.name, name)
        assert new.ImageType[:2] == ["DERIVED", old.ImageType[1]] and not str(new.StudyTime)
        assert new.get("LossyImageCompression") == "01" or old.get("LossyImageCompression") != "01"


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dicom3tools is not installed")
def test_dciodvfy_finds_no_error(written):
    for path, out in written.items():
        said = subprocess.run(["dciodvfy", out], capture_output=True, text=True, errors="replace").stderr
        assert "Error" not in said, (path.name, said)


@pytest.mark.skipif(not shutil.which("dcm2pnm"), reason="dcmtk is not installed")
def test_dcmtk_shows_it_without_a_warning(written, tmp_path):
    for out in written.values():
        done = subprocess.run(["dcm2pnm", out, tmp_path / "one.pgm"], capture_output=True, text=True)
        assert (done.returncode, done.stderr.strip()) == (0, "")


@pytest.mark.skipif(not shutil.which("Orthanc"), reason="Orthanc is not installed")
def test_orthanc_takes_it_and_shows_every_frame(written, tmp_path):
    port = free_port()
    (tmp_path / "orthanc.json").write_text(
        json.dumps(
            {"HttpPort": port, "DicomServerEnabled": False, "StorageDirectory": str(tmp_path)}
            | {"IndexDirectory": str(tmp_path), "AuthenticationEnabled": False}
        )
    )
    url = f"http://127.0.0.1:{port}"
    with (
        open(tmp_path / "log", "w") as log,
        subprocess.Popen(["Orthanc", tmp_path / "orthanc.json"], stderr=log) as server,
    ):
        try:
            for _ in range(100):
                try:
                    urlopen(f"{url}/system")
                    break
                except URLError:
                    time.sleep(0.1)
            for out in written.values():
                stored = json.load(urlopen(Request(f"{url}/instances", out.read_bytes(), method="POST")))
                frames = json.load(urlopen(f"{url}/instances/{stored['ID']}/frames"))
                assert len(frames) == int(dcmread(out).get("NumberOfFrames", 1))
                assert urlopen(f"{url}/instances/{stored['ID']}/frames/{frames[-1]}/preview").read()[:4] == b"\x89PNG"
                urlopen(Request(f"{url}/instances/{stored['ID']}", method="DELETE"))  # some samples share one UID
        finally:
            server.terminate()


# One case a line: elements of the original header, its frames, what must be in the new one


def original(syntax=ExplicitVRLittleEndian, **elements) -> Dataset:
    header = Dataset()
    header.Modality, header.PhotometricInterpretation, header.BitsStored = "US", "MONOCHROME2", 8
    header.SOPClassUID = UltrasoundMultiFrameImageStorage
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = syntax
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, value in elements.items():
            setattr(header, name, value)
    return header


def rewritten(folder: Path, header: Dataset, frames: int = 3, fps: float | None = None) -> Path:
    path = folder / "new.dcm"
    first_pass = Survey([(frames, np.full((5, 7), 255, np.uint8))], frames, fps)
    clean = clean_header(header, KEY, "jane", "ab" * 32, first_pass)
    write_dicom(path, clean, iter(np.zeros((frames, 5, 7), np.uint8)), (frames, 5, 7))
    return path


IMAGE, POINTER, VECTOR = {"SOPClassUID": UltrasoundImageStorage}, 0x00181063, 0x00181065
CASES = {
    "only a cine rate": ({"CineRate": "25"}, 3, 25.0, {"FrameTime": 40, "FrameIncrementPointer": POINTER}),
    "no rate": ({}, 3, None, {"FrameTimeVector": [0, 0, 0], "FrameIncrementPointer": VECTOR, "FrameTime": None}),
    "one frame of a cine": ({}, 1, None, {"FrameTime": 0, "NumberOfFrames": 1}),
    "an image": (IMAGE, 1, None, {"SOPClassUID": UltrasoundImageStorage, "NumberOfFrames": None, "FrameTime": None}),
    "an image of three frames": (IMAGE, 3, None, {"SOPClassUID": UltrasoundMultiFrameImageStorage}),
    "frame times": ({"FrameTimeVector": ["0", "40", "900"]}, 3, 2.1, {"FrameTimeVector": [0, 40, 900]}),
    "a long pause": ({"FrameTimeVector": ["0", "40", "99000"]}, 3, 25.0, {"FrameTimeVector": [0, 40, 10_000]}),
    "times since the first frame": (
        {"FrameTimeVector": ["0", "6000", "12000", "18000"]},
        4,
        0.2,
        {"FrameTimeVector": [0, 6000, 6000, 6000]},
    ),
    "too few frame times": ({"FrameTimeVector": ["0", "40"]}, 3, 25.0, {"FrameTimeVector": None, "FrameTime": 40}),
    "both": ({"FrameTime": "50", "FrameTimeVector": ["0", "40", "60"], "FrameIncrementPointer": POINTER}, 3, 20.0)
    + ({"FrameTime": 50, "FrameTimeVector": [0, 40, 60], "FrameIncrementPointer": POINTER},),
    "aspect": ({"PixelAspectRatio": ["4", "3"]}, 3, None, {"PixelAspectRatio": [4, 3]}),
    "order": ({"SeriesNumber": "7", "InstanceNumber": "16117"}, 3, None, {"SeriesNumber": 7, "InstanceNumber": 16117}),
    "an order that may be a date": ({"InstanceNumber": "19900101"}, 3, None, {"InstanceNumber": None}),
    "window": ({"WindowCenter": "90", "WindowWidth": "120"}, 3, None, {"WindowCenter": 90, "WindowWidth": 120}),
    "window, rescaled": (
        {"WindowCenter": "-10", "WindowWidth": "40", "RescaleSlope": "2", "RescaleIntercept": "-100"},
        *(3, None, {"WindowCenter": 45, "WindowWidth": 20}),
    ),
    "window, inverted": (
        {"WindowCenter": "90", "WindowWidth": "120", "PhotometricInterpretation": "MONOCHROME1"},
        *(3, None, {"WindowCenter": 166, "WindowWidth": 120}),
    ),
    "window, used up": (
        {"WindowCenter": "900", "WindowWidth": "1200", "BitsStored": 12},
        3,
        None,
        {"WindowWidth": None},
    ),
    "lossy": ({"syntax": JPEGBaseline8Bit}, 3, None, {"LossyImageCompression": "01"}),
    "lossy, not said": ({"syntax": JPEG2000, "LossyImageCompression": "00"}, 3, None, {"LossyImageCompression": "01"}),
    "was lossy": ({"LossyImageCompression": "01"}, 3, None, {"LossyImageCompression": "01"}),
    "lossless": ({"syntax": JPEG2000Lossless, "LossyImageCompression": "00"}, 3, None, {"LossyImageCompression": "00"}),
    "unknown": ({}, 3, None, {"LossyImageCompression": None}),
    "kind": (
        {"ImageType": ["ORIGINAL", "SECONDARY", "OBSTETRICAL", "0011"]},
        *(3, None, {"ImageType": ["DERIVED", "SECONDARY", "OBSTETRICAL", "0011"]}),
    ),
    "a name as kind": (
        {"ImageType": ["ORIGINAL", "PRIMARY", "JANE DOE"]},
        3,
        None,
        {"ImageType": ["DERIVED", "PRIMARY"]},
    ),
    "umlauts": (
        {"Manufacturer": "Gerätebau"},
        3,
        None,
        {"Manufacturer": "Gerätebau", "SpecificCharacterSet": "ISO_IR 192"},
    ),
    "a screen capture": ({"Modality": "OT"}, 3, 20.0, {"ConversionType": "WSD", "FrameTime": 50}),
    "a screen": ({"Modality": "OT", "ConversionType": "DV"} | IMAGE, 1, None, {"ConversionType": "DV"}),
    "a place": ({"FrameOfReferenceUID": "1.2.3"}, 3, None, {"FrameOfReferenceUID": KEY.uid("1.2.3")}),
    "old dates": ({"StudyDate": "2026.01.10", "StudyTime": "14:04:38"}, 3, None, {"StudyTime": ""}),
    "times": (
        {"StudyTime": "101530", "ContentDate": "20260110", "ContentTime": "101530", "AcquisitionTime": "101530"},
        *(3, None, {"StudyTime": "", "ContentTime": "", "AcquisitionTime": None}),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_a_header_says_is_kept_and_conforms(tmp_path, name):
    elements, frames, fps, expected = CASES[name]
    path = rewritten(tmp_path, original(**elements), frames, fps)
    assert faults(path) == []
    new = dcmread(path)
    assert {key: new.get(key) for key in expected} == expected
    assert new.Laterality == new.PatientOrientation == ""
    with open_cine(path, Limits()) as cine:  # no rate comes out of nothing
        sum(1 for _ in cine.frames)
        assert (cine.fps is None) == (fps is None)


def test_a_file_without_a_header_gets_one_that_conforms(tmp_path):
    for frames, fps in ((1, None), (3, None), (3, 12.5)):
        path = rewritten(tmp_path, Dataset(), frames, fps)
        assert faults(path) == [] and dcmread(path).LossyImageCompression == "01"


def test_a_text_in_latin_1_comes_out_readable(tmp_path):
    """Also where the file does not say in which character set its texts are."""
    for characters in ("ISO_IR 100", None):
        header = original(Manufacturer="Gerätebau")
        if characters:
            header.SpecificCharacterSet = characters
        header.save_as(tmp_path / "old.dcm")
        path = rewritten(tmp_path, dcmread(tmp_path / "old.dcm", force=True))
        assert dcmread(path).Manufacturer == "Gerätebau" and "Gerätebau".encode() in path.read_bytes()


def test_a_region_beyond_the_frame_stays_beyond_it_and_a_spoilt_one_is_left_out(tmp_path):
    far, spoilt, good = (ultrasound_region(0.02, 0, 0, 6, 4) for _ in range(3))
    far.RegionLocationMaxX1, spoilt.PhysicalDeltaX = 4_000_000_000, 4_711_000.0
    path = rewritten(tmp_path, original(SequenceOfUltrasoundRegions=Sequence([far, spoilt, good])))
    regions = dcmread(path).SequenceOfUltrasoundRegions
    assert [region.RegionLocationMaxX1 for region in regions] == [10_000, 6] and faults(path) == []
