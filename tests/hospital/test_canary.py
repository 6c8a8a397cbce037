"""Names are planted wherever a drop can hold one; after de-identification and extraction nothing may hold one still."""

import io
import traceback
import zipfile
from pathlib import Path

import numpy as np
import pytest
from canary import BESIDE, CANARY, HEADER, HULL, NAME, OVER, canary_drop, contents, planted, write_mp4
from PIL import Image, PngImagePlugin

from fetalflow.artefacts import file_digest
from fetalflow.cine.reading import read_cine
from fetalflow.cine.recording import Limits
from fetalflow.errors import InputError
from fetalflow.hospital.deidentify.drop import QUARANTINE, deidentify_drop
from fetalflow.hospital.deidentify.pseudonyms import Key
from fetalflow.sequences.extraction import extract_drop
from fetalflow.settings.params import Extract

KEY = Key(bytes(range(7, 71)))
SETTINGS = Extract(labels=("head", "arm"), frames=4, stride=4, workers=1, quarantine_share=1.0)


def zipped(folder: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = NAME.encode()
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                member = zipfile.ZipInfo(path.relative_to(folder).as_posix())
                member.comment = NAME.encode()
                archive.writestr(member, path.read_bytes())
    return target


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
    # A weakness that docs/data-engineer/deidentification.md states; when it is mended, so must be the page.
    assert shares[0.0] < 0.1


def broken_drops(folder: Path) -> dict[str, Path]:
    nothing = folder / "nothing"
    (nothing / "CANARY^folder").mkdir(parents=True)
    (nothing / "CANARY^folder" / "CANARY.txt").write_text(NAME)
    tables = {
        "twice": f"{HEADER},CANARY column\n",
        "missing": f"CANARY,video\n{NAME},b\n",
        "useless": f"{HEADER}\nCANARY.mp4,{NAME},,,x,,,CANARY,,,,\n",
        "long": f"{HEADER}\n{CANARY * 100}.mp4,{NAME},,,x,,,head,,,,\n",
    }
    for name, table in tables.items():
        (folder / name).mkdir()
        (folder / name / "annotations.csv").write_text(table)
    escaping = folder / "escaping.zip"
    with zipfile.ZipFile(escaping, "w") as archive:
        archive.writestr("../CANARY.txt", NAME)
    return {"nothing": nothing} | {name: folder / name for name in tables} | {"escaping": escaping}


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
    monkeypatch.setattr("fetalflow.hospital.deidentify.files.write_video", crash)
    deidentify_drop(drop, tmp_path / "out", KEY, SETTINGS)
    assert ",broken," in (tmp_path / "out" / QUARANTINE).read_text()
    assert_clean(tmp_path / "out")


def test_the_drop_itself_is_left_as_it_was(tmp_path):
    drop = canary_drop(tmp_path / "drop")
    before = {path: file_digest(path) for path in drop.rglob("*") if path.is_file()}
    deidentify_drop(drop, tmp_path / "out", KEY, SETTINGS)
    assert before == {path: file_digest(path) for path in drop.rglob("*") if path.is_file()}
