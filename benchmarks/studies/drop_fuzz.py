"""Random hostile drops: tables, names and files that people really have, mixed by a seed.

    python -m benchmarks drop_fuzz --seed 1 --drops 2000

No drop may end in anything but a result or an InputError, and every row of its table must be used or in quarantine. The
rows are counted when the table is written. A drop that breaks this is kept in --keep and named by its seed.
"""

import argparse
import random
import tempfile
import traceback
import zipfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from fetalflow.artefacts import write_json, write_table
from fetalflow.errors import InputError
from fetalflow.hospital.drop.first_look import check_drop
from fetalflow.sequences.extraction import extract_drop
from fetalflow.settings.params import Extract, Split

COLUMNS = ("video", "patient", "site", "device", "annotator", "start_frame", "end_frame", "label")
FURTHER = ("mm_per_px", "hc_mm", "mask", "note", "path", "sector", "digest", "where", "fault", "person", "fps", "")
PATIENTS = (
    "P001",
    "p001",
    "P1",
    "P 001",
    "P001\u200b",
    "Ä1",
    "A\u03081",
    "12.0",
    "12",
    "2024-01-05",
    "nan",
    "",
    "unknown",
)
PATIENTS += ("North/P001", "1.2E+12", "Ünïçödé", "x" * 300, "-", "#REF!", "=1+1", "P002", "P003", "P004")
LABELS = ("head", "Head", "head ", "arm", "arm\u200b", "ARM", "", "leg", "h" * 300, "he\u0000ad", "0")
SITES = ("", "North", "north", "South", "Nor th", "nan", "Köln", "Ko\u0308ln")
FRAMES = ("", "", "0", "0.0", "1,0", "1", "-1", "1.5", "9" * 30, "1e3", "٣", "0x1")
NUMBERS = ("", "0.2", "0,2", "1.234,5", "nan", "inf", "-1", "1_0", "abc", "0", "1e400", "24+3")
PATHS = ("", "gone.png", "../x.png", "/etc/passwd", "n" * 300, "a\u0000b", "cines\\a.png", "C:\\x.png", "e.mask.png")
STRAY = (*['"'] * 4, '""', ";", ",", "\t", "\n", "\r\n", '"\n', "\u2028", "\ufeff", "\x1f", "é", "'", "\\")
NAMES = (
    "a.png",
    "b.PNG",
    "ü.png",
    "u\u0308x.png",
    "x y.png",
    "'q'.png",
    "IM_0001",
    "c.dcm",
    "d.avi",
    "e.mask.png",
    ".h.png",
)
NAMES += (
    "._a.png",
    "Thumbs.db",
    "n" * 250 + ".png",
    "README",
    "t.xlsx",
    "f_P3.png",
    "g_P10.png",
    "f_mask.png",
)
FOLDERS = ("", "cines/", "train/head/", "test/arm/", "head/", "Head/", "arm/P1/", "__MACOSX/", "a/b/c/d/", "North/")
SETTINGS = Extract(frames=1, stride=1, workers=1, mask_sector=False, mask_overlays=False)


@dataclass(frozen=True)
class Made:
    """A drop that was written. rows: least and largest number of rows that its table may have; None without a table."""

    path: Path
    rows: tuple[int, int] | None


def make(folder: Path, seed: int) -> Made:
    rng = random.Random(seed)
    drop = folder / rng.choice(["drop", "dröp 'x'", "d [1]"])
    drop.mkdir()
    names = [rng.choice(FOLDERS) + rng.choice(NAMES) for _ in range(rng.randint(0, 9))]
    for name in [*names, *(["z.zip"] if rng.random() < 0.05 else [])]:
        _write_file(drop / name, rng)
    rows = _write_table(drop, names, rng) if rng.random() < 0.8 else None
    if rng.random() < 0.05:
        (drop / "annotations.csv").write_bytes(rng.randbytes(rng.choice([0, 1, 300])))
        rows = (0, 10**9)
    if rng.random() < 0.15:
        with zipfile.ZipFile(folder / "drop.zip", "w") as zipped:
            for file in sorted(drop.rglob("*")):
                if file.is_file():
                    zipped.write(file, str(file.relative_to(drop)).replace("/", rng.choice(["/", "/", "\\"])))
        return Made(folder / "drop.zip", rows)
    return Made(drop, rows)


def _write_file(path: Path, rng: random.Random) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = rng.random()
        if kind < 0.75:
            picture = np.random.default_rng(rng.randrange(12)).integers(0, 255, (16, 20), np.uint8)
            data = cv2.imencode(".png", picture)[1].tobytes()
            path.write_bytes(data if kind < 0.65 else data[: rng.randrange(len(data))])
        else:
            path.write_bytes(rng.choice([b"", b"\x00" * 140, b"text", b"PK\x03\x04", b"\x00" * 128 + b"DICM", b"RIFF"]))
        if rng.random() < 0.03:
            path.chmod(0)
    except OSError:  # the file is a folder already, or the other way round
        pass


def _write_table(drop: Path, names: list[str], rng: random.Random) -> tuple[int, int] | None:
    if (drop / "annotations.csv").exists():
        return None
    header = [*COLUMNS, *rng.sample(FURTHER, rng.randint(0, 4))]
    if rng.random() < 0.1:
        header.pop(rng.randrange(len(header)))
    separator, ending = rng.choice(",,,;\t"), rng.choice(["\n", "\r\n", "\r"])
    written = [name.upper() if rng.random() < 0.05 else name for name in header]
    lines = (["sep=" + separator] if rng.random() < 0.1 else []) + [separator.join(written)]
    rows = rng.randint(0, 12)
    spread = 0  # lines that may count as rows of their own
    for _ in range(rows):
        video = rng.randrange(len(names) or 1)
        values = [_value(column, names[video] if names else "a.png", f"P{video:03d}", rng) for column in header]
        cells = [_cell(value, separator, rng) for value in values]
        if rng.random() < 0.15:  # a quotation mark that is opened and not closed, or the other way round
            odd = rng.randrange(len(cells))
            cells[odd] = rng.choice([f'"{cells[odd]}', f'{cells[odd]}"'])
        line = separator.join(cells)
        if rng.random() < 0.08:
            place = rng.randrange(len(line) + 1)
            line = line[:place] + rng.choice(STRAY) + line[place:]
        spread += len([part for part in line.replace("\r\n", "\n").replace("\r", "\n").split("\n") if part]) - 1
        lines.append(line + separator * rng.choice([0, 0, 0, 1, 3]))
        lines += [""] * (rng.random() < 0.05)
    lines += [separator * 5] * (rng.random() < 0.1)
    text = ending.join(lines) + (ending if rng.random() < 0.8 else "")
    encoding = rng.choice([*["utf-8"] * 8, *["utf-8-sig"] * 4, "latin-1", "utf-16"])
    (drop / "annotations.csv").write_bytes(text.encode(encoding, "replace"))
    return rows, rows + spread


def _value(column: str, video: str, patient: str, rng: random.Random) -> str:
    """Most values are good ones, or else no row would get past its first fault."""
    if rng.random() < 0.95:
        good = {"video": video, "patient": patient, "label": rng.choice(["head", "arm"]), "annotator": "reader"}
        return good.get(column, "")
    if column in ("video", "mask"):
        return rng.choice(PATHS)
    odd = {"patient": PATIENTS, "site": SITES, "label": LABELS, "start_frame": FRAMES, "end_frame": FRAMES}
    odd |= {"mm_per_px": NUMBERS, "hc_mm": NUMBERS, "fault": ("", "bad"), "person": ("W1", "W2")}
    return rng.choice(odd.get(column, ("x", "two\nlines", 'a "quote"', "n" * 300)))


def _cell(value: str, separator: str, rng: random.Random) -> str:
    needs = any(character in value for character in (separator, '"', "\n", "\r"))
    return '"' + value.replace('"', '""') + '"' if needs or rng.random() < 0.1 else value


def fault_of(made: Made, store: Path, seed: int) -> str:
    """What is wrong with the result for one drop; empty if nothing is."""
    rng = random.Random(seed)
    near = rng.choice(["stop", "same", "different", "different"])
    settings = SETTINGS.model_copy(
        update={"near_patients": near, "patient_pattern": rng.choice([None, r"P(\d+)"]), "max_frames": 10}
    )
    try:
        check_drop(made.path, "movement", settings, Split(kind="random"), ())
    except InputError as refused:
        if not str(refused).strip():
            return "the first look refuses it without a word"
    try:
        found = extract_drop(made.path, settings, store)
    except InputError as refused:
        return "" if str(refused).strip() else "it is refused without a word"
    summary = found.summary
    write_table(store / "quarantine.csv", found.quarantine)
    write_table(store / "sequences.parquet", found.sequences)
    write_json(store / "extract.json", summary)
    if summary["rows"] != summary["rows_used"] + len(found.quarantine):
        return f"{summary['rows']} rows, {summary['rows_used']} used and {len(found.quarantine)} in quarantine"
    if made.rows and summary["layout"] == "annotations.csv" and not made.rows[0] <= summary["rows"] <= made.rows[1]:
        return f"{made.rows[0]} to {made.rows[1]} rows were written, {summary['rows']} were counted"
    if (found.quarantine["reason"].str.len() < 5).any():
        return "a row is in quarantine without a reason"
    return ""


def run(seed: int, drops: int, keep: Path | None = None) -> list[str]:
    """The faults of so many drops, each with its seed."""
    faults = []
    for number in range(seed, seed + drops):
        with tempfile.TemporaryDirectory() as scratch:
            made = make(Path(scratch), number)
            try:
                fault = fault_of(made, Path(scratch) / "store", number)
            except Exception as error:
                fault = "".join(traceback.format_exception_only(error)).strip()
                if keep is not None:
                    fault = traceback.format_exc()
        if fault:
            faults.append(f"seed {number}: {fault}")
            if keep is not None:
                (keep / str(number)).mkdir(parents=True)
                make(keep / str(number), number)
    return faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the first drop; the others follow")
    parser.add_argument("--drops", type=int, default=1000)
    parser.add_argument("--keep", type=Path, help="folder for the drops that fail")
    options = parser.parse_args()
    faults = run(options.seed, options.drops, options.keep)
    print("\n".join([*faults, f"{len(faults)} of {options.drops} drops failed"]))
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    main()
