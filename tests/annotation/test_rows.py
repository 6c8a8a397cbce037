"""Which marks on a cine become rows of a drop."""

import pytest

from fetalflow.annotation.adjudication import Counted
from fetalflow.annotation.annotation import Box, Ellipse, Span
from fetalflow.annotation.checking import kinds_of
from fetalflow.annotation.rows import Subject, rows_of

SUBJECT = Subject("a" * 64, "cine.avi", (20, 40, 60), 0.5, "P1")
MARKS = (
    Span(id="1" * 32, label="head", last_frame=9),
    Ellipse(id="2" * 32, label="head", centre=(30, 20), axes=(9, 5), angle=0),
    Box(id="3" * 32, label="head", first_frame=2, last_frame=8, corner=(3, 3), size=(9, 9)),
)


@pytest.mark.parametrize(
    ("task", "frames", "left_out"), [("movement", ("0", "9"), ["box", "ellipse"]), ("biometry", ("0", "0"), ["box"])]
)
def test_a_shape_from_another_program_hides_no_span_of_a_task_that_has_no_shapes(task, frames, left_out):
    found = rows_of(SUBJECT, Counted(marks=[("ann", mark) for mark in MARKS]), ["head"], kinds_of(task))
    assert [(row["start_frame"], row["end_frame"]) for row in found.rows] == [frames]
    assert [each.split("kind ")[1].split(",")[0] for each in found.remarks] == left_out
    assert bool(found.masks) is (task == "biometry")
