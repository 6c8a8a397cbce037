"""Where the ultrasound is in a DICOM frame, and how many millimetres a pixel is: its regions, PixelSpacing, aspect."""

import math
from collections.abc import Iterable

from pydicom import Dataset

from fetalflow.cine.orientation import LONGEST
from fetalflow.cine.recording import SQUARE, Recording, Region, is_square

CENTIMETRES = 3  # PhysicalUnitsXDirection
TWO_DIMENSIONAL = 1  # RegionSpatialFormat; others are M-mode, spectral, wave form and graphics
# RegionDataType: none stated, tissue, colour flow over tissue, backscatter. Doppler and traces are no tissue.
TISSUE = {0, 1, 2, 15}
CORNERS = ("RegionLocationMinY0", "RegionLocationMinX0", "RegionLocationMaxY1", "RegionLocationMaxX1")
SMALL = 0.04  # of the frame; a smaller region is a symbol or a thumbnail and has no influence on the scale
PLACEHOLDER = (1.0, 1.0)  # PixelSpacing that exporting programs write where they know none


def set_scale(header: Dataset, recording: Recording) -> None:
    """Set `spacing`, `aspect`, `regions` and `box` of a recording from its header, and remark what contradicts itself.

    - The regions count before PixelSpacing. One that reaches beyond the frame shows that the frame was resized after
      they were written, so all of them are void, and PixelSpacing with them.
    - Regions of different scale give no scale for the frame: `regions` has them.
    - PixelSpacing 1\\1 is a placeholder.
    """
    found = list(_regions(header))
    if any(_is_beyond(header, item) for item in found):
        recording.remark(
            f"an ultrasound region of its header reaches beyond the frame of {header.Columns}x{header.Rows} pixels, as "
            "after a resized export; the regions and the scale of the header are not used"
        )
        return
    regions = [Region(_box(header, item), _spacing(item)) for item in found if _is_tissue(item)]
    recording.box = _around(header, regions)
    stated = _pixel_spacing(header, recording)
    large = [r for r in regions if _area(r) >= SMALL * header.Rows * header.Columns] or regions
    spacings = [r.spacing for r in large if r.spacing]
    if not spacings:
        recording.spacing = stated
        if regions and stated:
            recording.remark("its ultrasound regions state no length; PixelSpacing is used")
    elif len(spacings) == len(large) and all(_alike(spacing, spacings[0]) for spacing in spacings):
        recording.spacing = max((r for r in large), key=_area).spacing
        if stated and not _alike(stated, recording.spacing):
            recording.remark(
                f"its ultrasound region states {_words(recording.spacing)} mm per pixel, PixelSpacing "
                f"{_words(stated)}; the region's is used"
            )
    else:
        recording.regions = large
        scales = ", ".join(_words(r.spacing) if r.spacing else "unknown" for r in large)
        recording.remark(
            f"its {len(large)} ultrasound regions have different scales ({scales} mm per pixel); only a structure that "
            "lies wholly in one of them has a length"
        )
    _set_aspect(header, recording)


def mm_per_square_px(spacing: tuple[float, float] | None) -> float | None:
    """Millimetres per pixel after pixels were made square (see `cine.orientation.squared_shape`); None if not known."""
    if spacing is None:
        return None
    return sum(spacing) / 2 if is_square(spacing[0] / spacing[1]) else min(spacing)


def numbers(header: Dataset, name: str) -> list[float]:
    """The values of an element as numbers; NaN for a blank or for text. Empty if there is no such element."""
    try:
        value = header.get(name)
    except Exception:  # pydicom reads values late, and damaged ones raise many kinds of errors
        return [math.nan]
    if value is None or isinstance(value, str) and not value.strip():
        return []
    return [_number(one) for one in (value if isinstance(value, Iterable) and not isinstance(value, str) else [value])]


def _number(value: object) -> float:
    try:
        return float(str(value).strip().replace(",", "."))
    except ValueError:
        return math.nan


def _regions(header: Dataset) -> Iterable[Dataset]:
    """The regions of a header that state their position."""
    items = header.get("SequenceOfUltrasoundRegions") or []
    return (item for item in items if all(math.isfinite(_first(item, corner)) for corner in CORNERS))


def _first(item: Dataset, name: str, otherwise: float = math.nan) -> float:
    return next(iter(numbers(item, name)), otherwise)


def _is_tissue(item: Dataset) -> bool:
    top, left, bottom, right = (_first(item, corner) for corner in CORNERS)
    is_flat = _first(item, "RegionSpatialFormat") == TWO_DIMENSIONAL
    return is_flat and _first(item, "RegionDataType", 0) in TISSUE and bottom > top and right > left


def _is_beyond(header: Dataset, item: Dataset) -> bool:
    """Whether a region leaves the frame. By one pixel it may: some machines state the end instead of the last pixel."""
    top, left, bottom, right = (_first(item, corner) for corner in CORNERS)
    return min(top, left) < 0 or bottom > header.Rows or right > header.Columns


def _box(header: Dataset, item: Dataset) -> tuple[int, int, int, int]:
    top, left, bottom, right = (int(_first(item, corner)) for corner in CORNERS)
    return top, left, min(header.Rows, bottom + 1), min(header.Columns, right + 1)


def _spacing(item: Dataset) -> tuple[float, float] | None:
    units = {_first(item, f"PhysicalUnits{axis}Direction") for axis in "XY"}
    down, across = (10 * abs(_first(item, f"PhysicalDelta{axis}")) for axis in "YX")
    return (down, across) if units == {CENTIMETRES} and _is_length(down) and _is_length(across) else None


def _is_length(value: float) -> bool:
    return math.isfinite(value) and value > 0


def _area(region: Region) -> int:
    top, left, end_row, end_column = region.box
    return (end_row - top) * (end_column - left)


def _around(header: Dataset, regions: list[Region]) -> tuple[int, int, int, int] | None:
    """The box around all regions; None if there is none or it is implausibly small."""
    if not regions:
        return None
    tops, lefts, end_rows, end_columns = zip(*(region.box for region in regions), strict=True)
    top, left, end_row, end_column = min(tops), min(lefts), max(end_rows), max(end_columns)
    if end_row - top < header.Rows // 8 or end_column - left < header.Columns // 8:
        return None
    return top, left, end_row, end_column


def _pixel_spacing(header: Dataset, recording: Recording) -> tuple[float, float] | None:
    spacing = numbers(header, "PixelSpacing")
    for shared in header.get("SharedFunctionalGroupsSequence") or []:
        for measures in shared.get("PixelMeasuresSequence") or []:
            spacing = spacing or numbers(measures, "PixelSpacing")
    if not spacing:
        return None
    if len(spacing) != 2 or not all(map(_is_length, spacing)):
        recording.remark("its PixelSpacing is no pair of numbers above 0 and is not used")
        return None
    if tuple(spacing) == PLACEHOLDER:
        recording.remark("its PixelSpacing is 1\\1, which is a placeholder and no scale")
        return None
    return spacing[0], spacing[1]


def _set_aspect(header: Dataset, recording: Recording) -> None:
    pair = numbers(header, "PixelAspectRatio")
    stated = pair[0] / pair[1] if len(pair) == 2 and all(map(_is_length, pair)) else None
    pairs = [recording.spacing] if recording.spacing else [r.spacing for r in recording.regions if r.spacing]
    aspects = {down / across for down, across in pairs}
    if aspects:
        aspect = aspects.pop() if max(aspects) <= (1 + SQUARE) * min(aspects) else 1.0
        if stated and abs(stated / aspect - 1) > SQUARE:
            recording.remark(
                f"its PixelAspectRatio is {pair[0]:g}\\{pair[1]:g}, but its scale states pixels {aspect:.3g} times as "
                "high as wide; the scale is used"
            )
    else:
        aspect = stated or 1.0
    if max(aspect, 1 / aspect) > LONGEST:
        recording.remark(f"its header states pixels {aspect:.3g} times as high as wide, which is not used")
        recording.spacing, recording.regions = None, []
    elif not is_square(aspect):
        recording.aspect = aspect
        recording.remark(f"its pixels are not square ({aspect:.3g} times as high as wide)")


def _alike(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return all(abs(a - b) <= SQUARE * max(a, b) for a, b in zip(one, other, strict=True))


def _words(spacing: tuple[float, float]) -> str:
    down, across = spacing
    return f"{(down + across) / 2:.3g}" if is_square(down / across) else f"{down:.3g} down and {across:.3g} across"
