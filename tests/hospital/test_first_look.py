"""Contract, example, reader and messages of a drop agree, and a drop that cannot be used is refused at once."""

import re
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from fetalflow.errors import InputError
from fetalflow.hospital.drop.first_look import check_drop
from fetalflow.hospital.drop.rows import ANNOTATIONS, COLUMNS, FILLED, FURTHER, OPTIONAL, read_annotations
from fetalflow.settings.params import Extract, Split

DOCS = Path(__file__).parents[2] / "docs" / "data-engineer"
LEAST = ",".join(FILLED)
ROWS = [f"{label}{patient}.avi,P{patient},reader,{label}" for patient in range(3) for label in ("head", "arm")]


def drop_of(folder: Path, *rows: str, header: str = LEAST) -> Path:
    """A drop whose cines are only names: the first look opens none of them."""
    folder.mkdir()
    (folder / ANNOTATIONS).write_text("\n".join((header, *rows)) + "\n")
    for row in ROWS:
        (folder / row.partition(",")[0]).touch()
    return folder


def look(drop: Path, task: str = "movement", labels=None, kind: str = "grouped", usual=("head", "arm", "leg")) -> str:
    return check_drop(drop, task, Extract(labels=labels), Split(kind=kind), usual)


def test_page_example_and_reader_have_the_same_columns(tmp_path):
    page = (DOCS / "drop.md").read_text()
    stated = dict(re.findall(r"^\| `(\w+)` \| (yes|no) \|", page, re.M))
    assert tuple(stated) == COLUMNS
    assert tuple(column for column, needed in stated.items() if needed == "yes") == FILLED
    assert all(f"`{column}`" in page for column in FURTHER if column != "part")
    example = (DOCS / "example-annotations.csv").read_text()
    assert tuple(example.splitlines()[0].split(",")) == COLUMNS
    (tmp_path / ANNOTATIONS).write_text(example)
    table = read_annotations(tmp_path)
    assert (table[list(FILLED)] != "").all(axis=None) and (table[list(OPTIONAL)] == "").any(axis=None)


@pytest.mark.parametrize("missing", COLUMNS)
def test_a_column_may_be_missing_if_the_page_says_so(tmp_path, missing):
    example = pd.read_csv(DOCS / "example-annotations.csv", dtype=str, keep_default_na=False)
    example.drop(columns=missing).to_csv(tmp_path / ANNOTATIONS, index=False)
    if missing in OPTIONAL:
        assert (read_annotations(tmp_path)[missing] == "").all()
        return
    with pytest.raises(InputError, match=rf"expected the columns {', '.join(FILLED)}; missing: {missing}; found: "):
        read_annotations(tmp_path)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("start_frames", "start_frame"), ("End Frame", "end_frame"), ("devise", "device"), ("mm_per_pixel", "mm_per_px")],
)
def test_a_misspelt_column_is_refused_because_its_values_would_not_be_used(tmp_path, name, meant):
    drop = drop_of(tmp_path / "drop", *(f"{row},1" for row in ROWS), header=f"{LEAST},{name}")
    with pytest.raises(InputError, match=f"no column {name!r} in the contract, but {meant!r}"):
        look(drop)


def test_the_least_drop_is_accepted_and_what_it_holds_is_said(tmp_path):
    drop = drop_of(tmp_path / "drop", *(f"{row},x" for row in ROWS), header=f"{LEAST},parity")
    assert look(drop).endswith("read as annotations.csv: 6 rows, 6 cines, 3 patients.")
    with zipfile.ZipFile(tmp_path / "drop.zip", "w") as made:
        for file in drop.iterdir():
            made.write(file, f"delivery/{file.name}")
    assert look(tmp_path / "drop.zip").endswith("6 rows, 6 cines, 3 patients.")


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        (["gone.avi,P1,r,head"], {}, r"none of the 1 rows can be used(.|\n)*line 2.*no file 'gone.avi' in the drop"),
        (
            ["head0.avi,,r,head", "../x.avi,P1,r,arm"],
            {},
            r"none of the 2 rows(.|\n)*patient must be filled in(.|\n)*inside",
        ),
        (ROWS, {"labels": ("leg",)}, "label 'head' is none of leg"),
        ([row for row in ROWS if "head" in row], {}, "all usable rows have the label 'head'"),
        (ROWS[:4], {}, "at least 3 patients.*of 2: P0, P1.*--set movement.split.kind=random"),
        (ROWS, {"task": "biometry", "usual": ("head", "abdomen")}, "measured on arm.*--set biometry.extract.labels"),
    ],
    ids=["missing", "bad rows", "labels", "one label", "patients", "not measurable"],
)
def test_a_drop_that_the_task_cannot_use_is_refused(tmp_path, rows, settings, message):
    with pytest.raises(InputError, match=message):
        look(drop_of(tmp_path / "drop", *rows), **settings)


def test_what_people_decided_on_and_other_splits_are_not_refused(tmp_path):
    drop = drop_of(tmp_path / "drop", *ROWS[:4])
    assert "2 patients" in look(drop, kind="random")
    assert "2 patients" in check_drop(drop, "movement", Extract(), Split(), ("head", "arm"), reviewed=True)
