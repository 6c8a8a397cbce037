"""Reads a table as people and Excel write it. Every line of the file that is not blank becomes a row, or a part of one.

A quotation mark that is never closed makes a CSV parser put the next lines into one cell, without an error. So each
line is read by itself, and a cell that spans several lines is accepted only if none of these lines looks like a row.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from fetalflow.errors import InputError
from fetalflow.hospital.drop.columns import LINE_FAULT

SEPARATORS = ",;\t"
INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060\u00ad"  # byte order mark, zero-width characters, soft hyphen
BLANKS = INVISIBLE + " \t\u00a0\v\f\x1a"  # the last one ends a file of DOS
# How a table in UTF-16 or UTF-32 begins: with a byte order mark, or with letters of ASCII.
WIDE = {
    **{rb"\xff\xfe\0\0|\0\0\xfe\xff": "utf-32", rb"\xff\xfe|\xfe\xff": "utf-16"},
    **{rb"[^\0]\0[^\0]\0": "utf-16-le", rb"\0[^\0]\0[^\0]": "utf-16-be"},
}
WINDOWS = "windows-1252"
UTF8_LETTER = re.compile(rb"[\xc3-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}")
# What text of Windows-1252 does not have: control characters, and quotation marks inside of a word. Text of DOS (cp850)
# that is read as Windows-1252 has them: its "Köln" becomes "K”ln".
FOREIGN = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]|(?<=\w)[‚ƒ„…†‡‰“”•](?=\w)")
NUL = "it holds a NUL character. Write the row again"
MOST_LINES = 30  # of one cell

csv.field_size_limit(10_000_000)


def read_text_table(
    path: Path, columns: Sequence[str], separators: str = SEPARATORS, known: Sequence[str] = ()
) -> pd.DataFrame:
    """A CSV file, every value text without surrounding blanks, and `where`, the place of each row.

    columns: those it must have; known: others that it may have, both in any case of letters. separators: of these, the
    one that gives most of `columns` is used, and Excel's first line `sep=;` is obeyed. Lines without any value are left
    out. If a line is no row (a quote that is not closed, a value too many), its column LINE_FAULT says so; without such
    lines the column is not there.
    Raises InputError when a column is missing or is there twice, or the file is not text (`decoded_text`).
    """
    lines = _unwrapped(_lines(path))
    first = next((number for number, line in enumerate(lines) if line.strip(BLANKS)), None)
    if first is None:
        raise InputError(f"{path} is empty. Expected a first line with {', '.join(columns)}.")
    if stated := re.fullmatch(r'"?sep=(.)"?', lines[first].strip(INVISIBLE + " ")):
        separators, first = stated[1], first + 1
    header = lines[first] if first < len(lines) else ""
    known = (*columns, *known)
    separator = max(separators, key=lambda each: len(set(_names(header, each, known)) & set(columns)))
    names = _names(header, separator, known)
    _check_columns(path, first + 1, names, columns, separators)
    needed = [names.index(column) for column in columns]
    rows, places, faults = [], [], []
    for number, cells, fault in _records(lines, first + 1, separator, needed):
        if not any(cells) and not fault:
            continue
        fault = fault or _wrong_number(cells, names) or (NUL if any("\0" in cell for cell in cells) else "")
        rows.append([*cells[: len(names)], *[""] * (len(names) - len(cells))])
        places.append(f"line {number + 1} of {path.name}")
        faults.append(fault)
    table = pd.DataFrame(rows, columns=range(len(names)), dtype=str)
    table.columns = _column_names(names)
    table = table.rename(columns={name: f"annotations_{name}" for name in ("where", LINE_FAULT)})
    table = table.assign(where=pd.Series(places, index=table.index, dtype=str))
    return table.assign(**{LINE_FAULT: faults}) if any(faults) else table


def decoded_text(path: Path) -> tuple[str, str]:
    """The text of a table and its encoding: UTF-8, UTF-16, UTF-32, or else Windows-1252, in which Excel writes `CSV`
    in Western Europe and America.

    Raises InputError when the file cannot be read, or is no text in one of these.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}. Correct the file or its permissions.") from None
    encoding = next((name for start, name in WIDE.items() if re.match(start, data, re.DOTALL)), "utf-8-sig")
    try:
        return data.decode(encoding), encoding
    except UnicodeDecodeError as error:
        wrong = error
    line = data.count(b"\n", 0, wrong.start) + 1
    around = data[max(0, wrong.start - 10) : wrong.start + 10].decode("ascii", "replace")
    # A letter outside ASCII that is correct UTF-8 shows that only a part of the file is in another encoding.
    if encoding == "utf-8-sig" and not UTF8_LETTER.search(data):
        try:
            text = data.decode(WINDOWS)
        except UnicodeDecodeError:
            text = "\0"
        if not FOREIGN.search(text):
            return text, WINDOWS
    raise InputError(
        f"{path} is not a CSV file in UTF-8: line {line}, near {around!r}. Save it again as CSV UTF-8."
    ) from None


def warning_of_encoding(path: Path) -> str:
    """A sentence for a table whose encoding is only the likely one, with an example; "" for all others."""
    text, encoding = decoded_text(path)
    if encoding != WINDOWS:
        return ""
    word = next(word for word in re.findall(r"[^\s,;\"]+", text) if not word.isascii())
    return (
        f"{path.name} is not UTF-8 and was read as {WINDOWS.capitalize()}: it has words such as {word[:40]!r}. If they "
        "look wrong, save the table as CSV UTF-8."
    )


def _lines(path: Path) -> list[str]:
    text, _ = decoded_text(path)
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _names(header: str, separator: str, known: Sequence[str]) -> list[str]:
    """The names in the first line; one of `known` is found in any case of letters."""
    found = [" ".join(name.strip(BLANKS).split()) for name in _parsed(header, separator) or header.split(separator)]
    while found and not found[-1]:
        found.pop()
    plain = {column.casefold(): column for column in known if column not in found}
    return [plain.get(name.casefold(), name) for name in found]


def _column_names(names: Sequence[str]) -> list[str]:
    """A column without a name, as pandas writes its index, is kept as `column_1`."""
    return [name or f"column_{index}{'_' * (f'column_{index}' in names)}" for index, name in enumerate(names, 1)]


def _records(
    lines: Sequence[str], start: int, separator: str, needed: Sequence[int]
) -> Iterator[tuple[int, list[str], str]]:
    """Index of its first line, cells and fault of every record. Every line is in exactly one record."""
    number = start
    while number < len(lines):
        line, taken, fault = lines[number], 1, ""
        cells: list[str] | None = line.split(separator) if '"' not in line else _parsed(line, separator)
        while cells is None and number + taken < len(lines) and taken < MOST_LINES:
            if _looks_like_a_row(lines[number + taken], separator, needed):
                break
            taken += 1
            cells = _parsed("\n".join(lines[number : number + taken]), separator)
        if cells is None:
            cells, taken = line.replace('"', "").split(separator), 1
            fault = (
                'its quotation marks are not in pairs. Write a value with a quotation mark as "22"" probe", or '
                "without the mark"
            )
        cells = [cell.strip(BLANKS) for cell in cells]
        yield number, [_unprotected(cell) for cell in cells] if '="' in line else cells, fault
        number += taken


def _unprotected(cell: str) -> str:
    """`="001"` is how programs keep Excel from changing 001 to 1."""
    return cell[2:-1] if cell.startswith('="') and cell.endswith('"') and len(cell) > 2 else cell


def _unwrapped(lines: list[str]) -> list[str]:
    """The lines; where each is one cell in quotation marks, as after a table was saved twice, what is in the marks."""
    header = next((line.strip(BLANKS) for line in lines if line.strip(BLANKS)), "")
    cells = [_parsed(header, separator) for separator in SEPARATORS] if header[:1] == header[-1:] == '"' else []
    if not cells or any(each is None or len(each) != 1 for each in cells) or not set(cells[0][0]) & set(SEPARATORS):
        return lines
    inner = (_parsed(line.strip(BLANKS), ",") for line in lines)
    return [cells[0] if cells and len(cells) == 1 else line for line, cells in zip(lines, inner, strict=True)]


def _parsed(text: str, separator: str) -> list[str] | None:
    """The cells of one record; None if a quotation mark is not closed or text follows the closing one."""
    try:
        records = list(csv.reader([text], delimiter=separator, strict=True, skipinitialspace=True))
    except csv.Error:
        return None
    return records[0] if len(records) == 1 else ([""] if not records else None)


def _looks_like_a_row(line: str, separator: str, needed: Sequence[int]) -> bool:
    """Whether a line by itself has a value in every column that must be filled."""
    cells = line.split(separator)
    return len(cells) > max(needed) and all(cells[index].strip(BLANKS + '"') for index in needed)


def _wrong_number(cells: Sequence[str], names: Sequence[str]) -> str:
    unnamed = [index for index, cell in enumerate(cells) if cell and index >= len(names)]
    if not unnamed:
        return ""
    return (
        f"value {unnamed[0] + 1}, {cells[unnamed[0]][:40]!r}, has no column: the first line has {len(names)} names. "
        "Put a value with a comma in quotation marks, or name the column"
    )


def _check_columns(path: Path, line: int, names: Sequence[str], columns: Sequence[str], separators: str) -> None:
    missing = [column for column in columns if column not in names]
    if missing:
        raise InputError(
            f"{path}, line {line}: expected the columns {', '.join(columns)}; missing: {', '.join(missing)}; "
            f"found: {', '.join(names)}. Add or rename columns, and separate values by {separators[0]!r} "
            f"(docs/data-engineer/drop.md).{' Save it as CSV UTF-8.' if not ''.join(names).isascii() else ''}"
        )
    twice = sorted({name for name in names if name and list(names).count(name) > 1})
    if twice:
        raise InputError(
            f"{path}, line {line}: expected every column once, found twice: {', '.join(twice)}. Remove or rename one "
            "of them."
        )
