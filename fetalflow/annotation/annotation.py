"""One mark of one annotator on one cine or still: a span of frames, calipers, an ellipse, an outline or a mask."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Point = tuple[float, float]  # x, y in px of the stored frames; the middle of the first pixel is 0, 0
Frame = Annotated[int, Field(ge=0)]  # the first frame of a cine is 0


class Mark(BaseModel):
    """What is common to all marks. `label` is a label of the task; first and last frame belong to the mark.

    id: chosen by the page that makes the mark, 32 hex digits, so that sending it twice makes one mark.
    shown: what of a network's answer the annotator saw when the mark was made: "" for nothing, else the model's name,
    its version and what was shown (`fetal-movement 3: probabilities`).
    started_from: "" for drawn from nothing, else the model whose outline was taken as a beginning.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    label: Annotated[str, Field(min_length=1, max_length=200)]
    first_frame: Frame = 0
    last_frame: Frame = 0
    shown: Annotated[str, Field(max_length=300)] = ""
    started_from: Annotated[str, Field(max_length=300)] = ""
    note: Annotated[str, Field(max_length=2000)] = ""


class Span(Mark):
    """Frames with one label (movement); a whole still with its plane has first and last frame 0 (planes)."""

    kind: Literal["span"] = "span"


class Caliper(Mark):
    """The two ends of a length on one frame, in px."""

    kind: Literal["caliper"] = "caliper"
    ends: tuple[Point, Point]


class Ellipse(Mark):
    """An ellipse on one frame: centre in px, half axes in px, the angle of the first axis to the x axis in degrees."""

    kind: Literal["ellipse"] = "ellipse"
    centre: Point
    axes: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]
    angle: float


class Polygon(Mark):
    """A closed outline on one frame, corners in px."""

    kind: Literal["polygon"] = "polygon"
    corners: Annotated[tuple[Point, ...], Field(min_length=3, max_length=20_000)]


class Brush(Mark):
    """A mask painted on one frame: height and width in px, and run lengths row by row, which begin with a run of 0."""

    kind: Literal["brush"] = "brush"
    size: tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]]
    runs: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(max_length=2_000_000)]


class Box(Mark):
    """A rectangle, as other programs deliver it: the corner nearest to the frame's corner in px, width and height in
    px, turned by `angle` degrees clockwise about that corner. track: boxes of one structure have the same text; from
    this box to the next one of the track, its sides move evenly."""

    kind: Literal["box"] = "box"
    corner: Point
    size: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]
    angle: float = 0.0
    track: Annotated[str, Field(max_length=200)] = ""


Annotation = Annotated[Span | Caliper | Ellipse | Polygon | Brush | Box, Field(discriminator="kind")]
