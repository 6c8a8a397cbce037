"""What of a row may stay, what evaluation needs of it, and limits and places of what is read."""

import tempfile
import tracemalloc
import zipfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
from cine_files import dicom, save_dicom, speckle, write_video
from pydicom import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from fetalflow.cine.reading import read_cine
from fetalflow.cine.recording import Limits
from fetalflow.errors import InputError, Rejected
from fetalflow.evaluation.measurement_rows import LENGTHS, measurement_row
from fetalflow.hospital.arrival.intake import Prepare, arrive
from fetalflow.hospital.arrival.scratch_folders import scratch_outside
from fetalflow.hospital.deidentify import pixels
from fetalflow.hospital.deidentify.drop import deidentify_drop
from fetalflow.hospital.deidentify.files import Written, write_mask
from fetalflow.hospital.deidentify.free_text import is_harmless, words_of
from fetalflow.hospital.deidentify.header import clean_header, read_header
from fetalflow.hospital.deidentify.pseudonyms import Key
from fetalflow.hospital.deidentify.table import FURTHER, USED_UP
from fetalflow.hospital.drop import columns
from fetalflow.hospital.drop.ground_truth import KNOWN
from fetalflow.sequences.manifest_columns import FILE_COLUMNS, FIRST_COLUMNS
from fetalflow.settings.params import Extract, Retrain, Split

KEY = Key(bytes(range(64)))
SETTINGS = Extract(labels=("head",), frames=4, stride=4, workers=1)
HEADER = "video,patient,site,device,annotator,start_frame,end_frame,label"

# Free text

NAMES = words_of("DOE^Harriet", "A-48151", "har", "Li^Wu", "Zoë", "李^伟", "Müller", "Boehm")
PLAIN = (
    *("Voluson E10", "EPIQ 7G", "Zürich Süd", "LOGIQ (2)", "Harbour", "Brigid Women's Hospital", "LOGIQ E10 2023"),
    *("Aplio 500", "HDI 5000", "Voluson 18.0.2", "Ward 12", "St Mary's 2", "Mayo Clinic", "March", "SSD-4000", "医院"),
)
NAMED = (
    *("doe clinic", "Clinic 48151", "MRN 1234567", "SEND^JOE", "a\nb", "Harriets", "x" * 41, "", " "),
    *("Ward of Li", "wu", "U-22 ZOE\u0308", "Zoe", "李伟 医院"),  # names of two letters or signs, other accents
    *("born 12.03.1990", "12/3/90", "1990-03-12", "3.1.99", "12 Mar 1990", "March 12, 1990", "12MAR90", "03/1990"),
    *("12th of March", "5. Mai", "1 août", "20260110", "1990年11月3日"),
    *("Mueller", "MULLER'S", "Böhm", "DOE2", "Dr. Schmidt", "Frau M.", "MRN 4711", "born in 1990", "34y", "34 years"),
    *("tel 089 1234", "+49 89 123 456", "(089) 12 34 56", "555-0199", "tel0171 234 56", "0 8 9 1 2 3", "٠٨٩ ١٢٣٤"),
)


@pytest.mark.parametrize("text", PLAIN)
def test_a_plain_site_or_device_is_kept(text):
    assert is_harmless(text, NAMES)


@pytest.mark.parametrize("text", NAMED)
def test_site_and_device_may_not_hold_a_name_a_date_or_a_phone_number(text):
    assert not is_harmless(text, NAMES)


def drop_of(folder: Path, *rows: str, further: str = "") -> Path:
    """A drop of these rows. Each cine that they name is a short video, or a DICOM of the patient Li Wei."""
    folder.mkdir(parents=True)
    (folder / "annotations.csv").write_text("\n".join([HEADER + further, *rows]) + "\n")
    for seed, name in enumerate(sorted({row.partition(",")[0] for row in rows})):
        frames = speckle(4, 120, 160, seed=seed)
        if name.endswith(".dcm"):
            save_dicom(folder / name, dicom(frames, PatientName="Li^Wei", FrameTime="40"))
        else:
            write_video(folder / name, frames, "ffv1")
    return folder


def table(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "annotations.csv", dtype=str, keep_default_na=False)


def test_a_name_in_the_header_is_looked_for_in_the_table(tmp_path):
    """The table has a number for the patient, and the name of her site has her name."""
    drop = drop_of(tmp_path / "drop", "a.dcm,4711,Li clinic,,ann,,,head", "b.dcm,4711,north,,ann,,,head")
    found = deidentify_drop(drop, tmp_path / "out", KEY, SETTINGS)
    assert found.summary["quarantined"] == {"site": 1} and found.quarantine["row"].tolist() == [2]


# Columns


class Noting(dict):
    """A row that notes which of its columns are read."""

    def __init__(self, row: dict):
        super().__init__(row)
        self.read: set[str] = set()

    def get(self, name, default=None):
        self.read.add(name)
        return super().get(name, default)

    def __getitem__(self, name):
        self.read.add(name)
        return super().__getitem__(name)


def test_every_column_that_is_read_later_is_kept():
    """What evaluation reads of a row of the manifest, without what fetalflow computes; and the contract's columns."""
    read = set()
    for structure in LENGTHS:
        row = Noting({"label": structure, "mm_per_px": 0.2, "height": 32, "width": 32})
        measurement_row(np.zeros((1, 32, 32), np.float32), None, row, None)
        read |= row.read
    assert {"seen", "gestational_age", "hc_mm", "fl_mm"} < read
    contract = {*columns.FURTHER, *KNOWN, columns.ASSUMED} - {*columns.OWN, *USED_UP}
    assert (read - {*FIRST_COLUMNS, *FILE_COLUMNS}) | contract <= {*columns.COLUMNS, *FURTHER}


def test_the_ground_truth_comes_through(tmp_path):
    drop = drop_of(
        *(tmp_path / "drop", "a.avi,jane,,,ann,,,head,0.8,J9,yes", "b.avi,jane,,,ann,,,head,80,J9,"),
        further=",seen,person,patient_assumed",
    )
    found = deidentify_drop(drop, tmp_path / "out", KEY, SETTINGS)
    kept = table(tmp_path / "out")[["seen", "person", "patient_assumed"]]
    assert kept.iloc[0].tolist() == ["0.8", KEY.pseudonym("person", "J9"), "yes"]
    assert found.summary["quarantined"] == {"value": 1} and found.summary["columns_left_out"] == 0


# Who is who


def test_nearly_equal_patients_stop_it_without_their_names(tmp_path):
    """With pseudonyms nobody could see any more that they may be one woman."""
    drop = drop_of(tmp_path / "drop", "a.avi,Jane1,n,,ann,,,head", "b.avi,jane1,n,,ann,,,head")
    with pytest.raises(InputError, match="--near-patients") as stopped:
        deidentify_drop(drop, tmp_path / "out", KEY, SETTINGS)
    assert "jane" not in f"{stopped.value} {stopped.value.__context__}".lower()
    with pytest.raises(InputError, match="'jane1'"):
        deidentify_drop(drop, tmp_path / "out", KEY, SETTINGS, reveal=True)
    for said, patients in (("same", 1), ("different", 2)):
        settings = SETTINGS.model_copy(update={"near_patients": said})
        assert deidentify_drop(drop, tmp_path / said, KEY, settings).summary["patients"] == patients


def test_a_patient_has_one_pseudonym_whoever_else_is_in_the_drop(tmp_path):
    """P001 of North keeps her new name when P001 of South is in the same drop; the column `site` tells them apart."""
    drop = drop_of(tmp_path / "drop", "a.avi,P001,north,,x,,,head", "b.avi,P001,south,,x,,,head")
    deidentify_drop(drop, tmp_path / "out", KEY, SETTINGS)
    assert set(table(tmp_path / "out")["patient"]) == {KEY.pseudonym("patient", "P001")}


# Times and shape of pixels


def test_times_of_frames_and_shape_of_pixels_come_through(tmp_path):
    """A video that pauses keeps its time stamps. One with pixels that are not square becomes a DICOM that says so."""
    frames, ticks = speckle(20), Fraction(1, 1000)
    with av.open(str(tmp_path / "old.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 120, 160, "gray"
        stream.codec_context.time_base = ticks
        for index, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, "gray")
            picture.pts, picture.time_base = 40 * index + (4000 if index >= 9 else 0), ticks
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    first_pass = pixels.survey(tmp_path / "old.mkv", Limits(), 0.35)
    pixels.write_video(tmp_path / "new.mkv", iter(frames), first_pass)
    new = read_cine(tmp_path / "new.mkv", Limits())
    assert new.pauses == (9,) and new.times == first_pass.times and new.fps == 25 and np.array_equal(new.frames, frames)

    wide = pixels.Survey([(20, np.full((120, 160), 255, np.uint8))], 20, 25.0, first_pass.times, 0.75)
    header = clean_header(Dataset(), KEY, "jane", "ab", wide)
    assert header.PixelAspectRatio == [3, 4] and header.FrameTimeVector[8:11] == [40, 4040, 40]


# Limits and places


def bomb(path: Path, frames: int) -> Path:
    dataset = dicom(np.zeros((1, 240, 320), np.uint8), NumberOfFrames=frames, PixelData=bytes(frames * 240 * 320))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return save_dicom(path, dataset)


def test_a_bomb_is_not_unpacked(tmp_path):
    """A deflated DICOM and a mask of some kilobytes, which unpack to 31 MB each, cost no memory."""
    deflated = bomb(tmp_path / "a.dcm", 400)
    np.savez_compressed(tmp_path / "m.npz", mask=np.zeros((400, 240, 320), np.uint8))
    tracemalloc.start()
    try:
        for limits in (Limits(max_bytes=5_000_000), Limits(max_cine_pixels=5_000_000)):
            with pytest.raises(Rejected, match="max_bytes|max_cine_pixels"):
                pixels.survey(deflated, limits, 0.35)
        with pytest.raises(Rejected, match="max_bytes"):
            read_header(deflated, Limits(max_bytes=5_000_000))
        with pytest.raises(Rejected, match="mask"):
            write_mask(tmp_path / "m.npz", {}, Written("cines/a.mkv", (4, 240, 320), 0.0), tmp_path, KEY)
        assert tracemalloc.get_traced_memory()[1] < 15_000_000
    finally:
        tracemalloc.stop()


def test_what_may_name_patients_is_never_in_the_store(tmp_path, monkeypatch):
    """A delivery from a URL and a zip are fetched and unpacked in the temporary folder: the store is in backups."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    drop = drop_of(tmp_path / "Roe", "a.avi,Roe,,,ann,,,head")
    (tmp_path / "inbox").mkdir()
    with zipfile.ZipFile(tmp_path / "inbox" / "Roe.zip", "w") as archive:
        for path in drop.iterdir():
            archive.write(path, path.name)
    store, seen = tmp_path / "store", []

    def look(folder: Path, scratch: Path) -> Path:
        assert not [path for path in store.rglob("*") if "Roe" in path.name or path.suffix in (".avi", ".zip")]
        seen.append(folder.parent)
        assert all(not parent.stat().st_mode & 0o077 for parent in folder.parents[:2])
        raise InputError("no")

    url = f"file://{tmp_path / 'inbox'}"
    for _ in range(2):
        arrive(url, store, Retrain(settle=0), Split(), Prepare(look, lambda name: "D1"))
    assert len(seen) == 1 and (tmp_path / "temporary") in seen[0].parents
    assert not list((tmp_path / "temporary").iterdir())


def test_what_a_killed_look_leaves_is_removed_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "inbox").mkdir()
    killed = scratch_outside(tmp_path / "store")
    (killed.__enter__() / "Roe.avi").write_bytes(b"Roe")
    other = scratch_outside(tmp_path / "other store")  # whose look goes on
    (other.__enter__() / "Doe.avi").write_bytes(b"Doe")
    arrive(str(tmp_path / "inbox"), tmp_path / "store", Retrain(), Split(), Prepare(lambda folder, scratch: folder))
    assert [path.name for path in tmp_path.rglob("*.avi")] == ["Doe.avi"]
