"""Tables as people and Excel write them: every line is a row that is used, or a row with a reason."""

import csv
import io
import random

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetalflow.errors import InputError, Rejected
from fetalflow.hospital.drop.columns import ANNOTATIONS, COLUMNS, LINE_FAULT
from fetalflow.hospital.drop.identity import tidy_rows
from fetalflow.hospital.drop.rows import check_row, read_annotations
from fetalflow.hospital.drop.table import read_text_table

HEADER = "video,patient,site,device,annotator,start_frame,end_frame,label,mm_per_px"
ROWS = ["c0.png,P1,Köln,X,A,0,0,head,0.21", "c1.png,P2,Köln,X,A,,,arm,0.22"]
GOOD = [
    ["c0.png", "P1", "Köln", "X", "A", "0", "0", "head", "0.21"],
    ["c1.png", "P2", "Köln", "X", "A", "", "", "arm", "0.22"],
]


def read(tmp_path, text: str | bytes) -> pd.DataFrame:
    (tmp_path / ANNOTATIONS).write_bytes(text if isinstance(text, bytes) else text.encode())
    return tidy_rows(read_annotations(tmp_path))


def faults(rows: pd.DataFrame) -> list[str]:
    found = []
    for row in rows.to_dict("records"):
        try:
            check_row(row, None)
            found.append("")
        except Rejected as reason:
            found.append(reason.reason)
    return found


TEXT = "\n".join([HEADER, *ROWS]) + "\n"
SEMICOLON = TEXT.replace(",", ";").replace("0.2", "0,2")


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        "\ufeff" + TEXT.replace("\n", "\r\n"),
        TEXT.replace("\n", "\r"),
        TEXT.replace("\n", "\r\r\n"),
        TEXT.rstrip(),
        SEMICOLON,
        "sep=;\r\n" + SEMICOLON,
        '"sep=,"\n' + TEXT,
        TEXT.replace(",", "\t"),
        TEXT.replace("0.21", '"0,21"'),
        TEXT.replace("\n", ",,,\n") + ",,,,,,,,,,,\n\n  \n",
        TEXT.replace("video,patient", "Video,PATIENT").replace("mm_per_px", "MM_per_px"),
        TEXT.replace(",0,0,", ",0.0,0.00,"),
        TEXT.replace(",0,0,", ', 0 ,"0,0",'),
        "\n\n" + TEXT,
        TEXT.replace("P1", "\u200bP1\u00a0").replace("head", "head\u200b "),
        "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in TEXT.splitlines()),
        TEXT.replace(",", "\t").encode("utf-16"),
        b"\xfe\xff" + TEXT.encode("utf-16-be"),
        SEMICOLON.encode("cp1252"),
        TEXT.encode("utf-16-le"),
        TEXT.encode("utf-16-be"),
        TEXT.encode("utf-32"),
        TEXT + "\x1a",
        TEXT.replace(",,,arm", ",NA,NaN,arm"),
        TEXT.replace("P1", '="P1"'),
        "".join(f'"{line}"\n' for line in TEXT.splitlines()),
        "".join(f'"{line}"\n' for line in SEMICOLON.splitlines()),
        "".join(f"{'' if line == HEADER else number},{line}\n" for number, line in enumerate(TEXT.splitlines())),
    ],
    ids=[
        *("plain", "bom_crlf", "old_mac", "doubled_cr", "no_end", "semicolon", "sep_line", "sep_quoted", "tab"),
        *("decimal_comma", "trailing", "case", "float", "blanks", "empty_first", "invisible", "quoted"),
        *("utf16_tab", "utf16_big_endian", "windows_1252", "utf16_no_mark", "utf16_big_no_mark", "utf32", "end_of_dos"),
        *("empty_as_R_writes_it", "text_for_excel", "quoted_lines", "quoted_lines_semicolon", "index_of_pandas"),
    ],
)
def test_what_excel_and_people_write_is_read(tmp_path, text):
    rows = read(tmp_path, text)
    assert rows[[*COLUMNS, "mm_per_px"]].to_numpy().tolist() == GOOD
    assert faults(rows) == ["", ""] and LINE_FAULT not in rows


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ('c9.png,P1,,,A,,,head,0.2,"22"" probe', "quotation marks"),
        ('c9.png,P1,,,A,,,head,0.2,"22 probe', "quotation marks"),
        ('c9.png,P1,,,A,,,head,0.2,"22" probe', "quotation marks"),
        ("c9.png,P1,,,A,,,head,0,21,x", "value 11, 'x', has no column"),
        ("c9.png,P1,,,A,,,head,0.2,x,y", "has no column"),
        (",,,,,,,,0.2,", "video, patient, annotator, label must be filled in"),
        ("c9.png,P1,,,A,0.5,,head,,", "start_frame must be a whole number"),
        (f"c9.png,P1,,,A,{'9' * 5000},,head,,", "start_frame must be a whole number"),
        ("c9.png,P1,,,A,٣,,head,,", "start_frame must be a whole number"),
        ("c9.png,P1,,,A,,,head,1_0,", "mm_per_px must be a number above 0"),
        ("c9.png,P1,,,A,,,head,1.234;5,", "mm_per_px must be a number above 0"),
        (f"{'n' * 256}.png,P1,,,A,,,head,,", "more than 255 bytes"),
        (f"c9.png,P1,,,A,,,{'h' * 300},,", "label must have at most 200 characters, found 300"),
        ("c9.png,2026-11-03,,,A,,,head,,", "Excel may have made"),
        ("c9.png,3.11.2026,,,A,,,head,,", "Excel may have made"),
        ("c9.png,02-Jan,,,A,,,head,,", "Excel may have made"),
        ("c9.png,03. Mrz,,,A,,,head,,", "Excel may have made"),
        ("c9.png,3-août,,,A,,,head,,", "Excel may have made"),
        ("c9.png,1.2E+12,,,A,,,head,,", "Excel may have made"),
        ("c9.png,#REF!,,,A,,,head,,", "Excel may have made"),
        ("c9.png,nan,,,A,,,head,,", "patient must be filled in"),
        ("c9.png,P\0001,,,A,,,head,,", "NUL"),
        ("a\x1fb.png,P1,,,A,,,head,,", "cannot be printed"),
    ],
)
def test_a_wrong_line_is_one_row_with_a_reason_and_takes_no_other_line_with_it(tmp_path, bad, reason):
    rows = read(tmp_path, "\n".join([HEADER + ",note", f"{ROWS[0]},a", bad, f"{ROWS[1]},b", f"{ROWS[0]},c"]))
    found = faults(rows)
    assert len(rows) == 4 and [bool(fault) for fault in found] == [False, True, False, False]
    assert reason in found[1] and found[1].startswith("line 3 of annotations.csv: ") and len(found[1]) < 250
    assert list(rows["note"])[2:] == ["b", "c"]


def test_ids_that_only_resemble_a_date_are_ids(tmp_path):
    names = ["1-2-3", "01-2", "2019-0012", "12.5", "MAR-7", "1E4", "19.05.1", "12 Marsh"]
    rows = read(tmp_path, "\n".join([HEADER, *(ROWS[0].replace("P1", name) for name in names)]))
    assert faults(rows) == [""] * len(names)


def test_a_long_remark_and_a_remark_of_several_lines_are_no_fault(tmp_path):
    note = 'first line\nsecond, with a comma\n\n"quoted"' + "x" * 300
    text = io.StringIO()
    csv.writer(text).writerows([[*HEADER.split(","), "note"], [*GOOD[0], note], [*GOOD[1], "b"]])
    rows = read(tmp_path, text.getvalue())
    assert faults(rows) == ["", ""] and list(rows["where"]) == [f"line {n} of {ANNOTATIONS}" for n in (2, 6)]


def test_columns_that_the_reader_adds_itself_are_kept_under_another_name(tmp_path):
    rows = read(tmp_path, f"{HEADER},where\n{ROWS[0]},here\n")
    assert list(rows["annotations_where"]) == ["here"] and list(rows["where"]) == ["line 2 of annotations.csv"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TEXT.encode("utf-16")[:-1], "CSV UTF-8"),
        (TEXT.encode("cp850"), "line 2, near.*CSV UTF-8"),  # its ö is a quotation mark in Windows-1252
        (TEXT.encode() + ROWS[1].encode("cp1252"), "line 4, near.*CSV UTF-8"),  # two encodings in one file
        (TEXT.encode("cp1252") + b"\x00\x01", "line 2, near.*CSV UTF-8"),
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"sep=;\n", "missing: video"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path, text)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**9))
def test_the_lines_of_the_file_are_the_rows_of_the_table(tmp_path_factory, seed):
    """Counted from the bytes: without remarks of several lines, each line with a value is one row."""
    rng, path = random.Random(seed), tmp_path_factory.getbasetemp() / "lines.csv"
    separator, end = rng.choice(",;\t"), rng.choice(["\n", "\r\n"])
    stray = ['"', '""', "'", separator, "x", " ", "\u2028", "\x0b", "\x85"]
    lines = ["a,b,c,d".replace(",", separator)]
    for number in range(rng.randint(0, 12)):
        line = separator.join(["1", "2", rng.choice(["", '"q"', '"q""r"', "3"]), f"{number}"])
        place = rng.randrange(len(line) + 1)
        lines += ["" if rng.random() < 0.1 else line[:place] + rng.choice(stray) * (rng.random() < 0.3) + line[place:]]
    path.write_bytes(end.join(lines).encode())
    written = sum(bool(line.strip()) for line in path.read_bytes().split(b"\n")[1:])
    table = read_text_table(path, ("a", "b"))
    assert len(table) == written and table["where"].is_unique
