"""Finds the ultrasound sector of a cine, without the burned-in text, scales, logos and patient data around it.

The change of each pixel over the cine shows it: speckle changes, and graphics do not. In a still nothing changes, but
graphics are flat and speckle is not. Where the evidence is weak, pixels are kept, because blanked anatomy is lost while
a kept scale does little harm.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

EVERY = 8  # after the first 32 frames, every 8th is used
FIRST = 32
MOVES = 3.0  # grey levels; a pixel with a larger standard deviation changes
STANDS = 5.0  # grey levels; a pixel with a smaller standard deviation is still; lossy video makes still text flicker
STILL_SHARE = 0.3  # a cine with a smaller share of changing lit pixels is still
LIT = 3  # grey levels above the background from which a pixel is lit; small, because deep tissue is dark
BACKGROUND = 10  # the highest grey level that is used as the background of a frame
BRIGHT = 150  # grey level from which a still pixel may be graphics
SHARP = 90  # grey levels by which a stroke is brighter than its surroundings; averaged speckle is less bright
AMID = 0.5  # least share of changing pixels around a stroke that is drawn over the picture
LETTERS = 30  # least area of a group of strokes in px
SMALL_AREA = 300  # px; a smaller coloured area that stands still is a symbol
SPECK = 6  # px; fewer coloured pixels that stand still are chance
LINE, STROKE = 5, 9  # px; what is narrower is a line, or a stroke of a letter
FLICKERS = 12.0  # grey levels; as STANDS, for lines, whose colour flickers more in lossy video
MOSTLY = 0.6  # share of a coloured piece; if more of it stands still, all of it does
FLOWS_AROUND = 0.3  # share of changing colour around a pixel, from which it lies in colour flow
TINTED_SHARE = 0.1  # of the frame; with more coloured pixels, it is a colour map or Doppler and not graphics
GRAPHICS_SHARE = 0.02  # of the sector; if more of it seems to be graphics, it is anatomy
SMALLEST = 0.05  # of the frame; a smaller region is not accepted as the sector
LARGE, LIVELY = 0.2, 0.03  # of the largest region; further regions are used from LARGE, or if they change from LIVELY
PIECE = 0.0005  # of a still; a smaller region is a speck or a letter
FLAT = 0.6  # share of pixels equal to their right neighbour; a region with more is a drawing or nearly black
SHINES = 40  # grey levels; a flat region with a higher mean is a drawing; dim tissue reaches half of it
BOXED = 0.85  # of the bounding box; a flat region that fills more is a drawing, even if it is dim


@dataclass
class Watch:
    """Mean, change and colour of every pixel, collected while the frames of a cine are read."""

    seen: int = 0
    sampled: int = 0
    total: np.ndarray | None = None  # float32 [H, W], sum of the sampled frames
    squares: np.ndarray | None = None  # float32 [H, W], sum of their squares
    coloured: np.ndarray | None = None  # bool [H, W], strongly coloured in every sampled frame; None: nowhere

    def look(self, frame: np.ndarray, tint: Callable[[], np.ndarray | None]) -> None:
        """Take the next frame, uint8 [H, W]. tint: gives its strongly coloured pixels, bool [H, W]."""
        is_sampled = self.seen < FIRST or self.seen % EVERY == 0
        self.seen += 1
        if not is_sampled:
            return
        if not self.sampled:
            self.total, self.squares = np.zeros((2, *frame.shape), np.float32)
        cv2.accumulate(frame, self.total)
        cv2.accumulateSquare(frame, self.squares)
        self.sampled += 1
        if self.sampled == 1:
            self.coloured = tint()
        elif self.coloured is not None:
            now = tint()
            self.coloured = None if now is None else self.coloured & now
        if self.coloured is not None and not self.coloured.any():
            self.coloured = None  # nothing is coloured in every frame, so later frames need no check

    def mean(self) -> np.ndarray:
        return self.total / self.sampled

    def deviation(self, mean: np.ndarray) -> np.ndarray:
        return np.sqrt(np.maximum(self.squares / self.sampled - mean * mean, 0))


def keep(
    watch: Watch, box: tuple[int, int, int, int] | None, *, overlays: bool = True, sector: bool = True
) -> np.ndarray:
    """Pixels to keep, uint8 [H, W]: 255 keep, 0 blank.

    box: rows and columns (first row, first column, end row, end column) of the area that the header states as
    ultrasound. overlays: blank graphics; sector: blank the area outside the sector.
    """
    mean = watch.mean()
    kept = np.full(mean.shape, 255, np.uint8)
    inside = kept.copy()
    if box is not None:
        top, left, end_row, end_column = box
        inside[:] = 0
        inside[top:end_row, left:end_column] = 255
        if sector:
            kept = inside.copy()
    if watch.seen == 1:
        strokes, filled = _coloured_in_a_still(watch)
        if sector and (found := find_sector_of_still(mean, inside & ~strokes & ~filled)) is not None:
            kept &= found
        return kept & ~strokes if overlays else kept
    deviation = watch.deviation(mean)
    lit, moving = mean > _background(mean) + LIT, deviation > MOVES
    is_still = watch.sampled < 3 or np.count_nonzero(lit & moving) < STILL_SHARE * np.count_nonzero(lit)
    found = find_sector(lit, moving, inside)
    if sector and found is not None:
        kept &= found
    if overlays:
        kept &= ~coloured_graphics(watch)
        if not is_still:
            kept &= ~graphics(mean, deviation, found)
    return kept


def find_sector(lit: np.ndarray, moving: np.ndarray, inside: np.ndarray) -> np.ndarray | None:
    """The sector's convex hull, uint8 [H, W] 255 inside; None if it was not found. lit, moving: bool [H, W].

    It is the hull of pixels that are lit or change, without thin strokes: of the largest connected region, and of other
    large ones, since a shadow may cut the sector in two.
    """
    picture = cv2.bitwise_and((lit | moving).astype(np.uint8), inside)
    # Text is thinner than 7 px, so opening removes it; closing then joins the speckle.
    picture = cv2.morphologyEx(picture, cv2.MORPH_OPEN, _disc(7))
    picture = cv2.morphologyEx(picture, cv2.MORPH_CLOSE, _disc(min(picture.shape) // 24))
    count, regions, facts, _ = cv2.connectedComponentsWithStats(picture)
    if count < 2:
        return None
    areas = facts[:, cv2.CC_STAT_AREA].astype(float)
    areas[0] = 0
    changing = np.bincount(regions[moving], minlength=count) / np.maximum(areas, 1)
    counts = (areas >= LARGE * areas.max()) | ((areas >= LIVELY * areas.max()) & (changing > 0.5))
    counts[0] = False
    return _hull(counts[regions].astype(np.uint8))


def find_sector_of_still(frame: np.ndarray, inside: np.ndarray) -> np.ndarray | None:
    """The sector's convex hull in a single frame, uint8 [H, W] 255 inside; None if it was not found.

    frame: grey levels [H, W]; inside: uint8 [H, W], 255 where the sector may be. It is the hull of all regions that are
    brighter than the background, even by little, and are neither thin strokes nor drawings. So dark tissue is included,
    and bars, logos and the panels of the screen are not.
    """
    lit = cv2.bitwise_and((frame > _background(frame)).astype(np.uint8), inside)
    picture = cv2.morphologyEx(lit, cv2.MORPH_OPEN, _disc(7))
    count, regions, facts, _ = cv2.connectedComponentsWithStats(picture)
    if count < 2:
        return None
    areas = np.maximum(facts[:, cv2.CC_STAT_AREA].astype(float), 1)
    boxes = facts[:, cv2.CC_STAT_WIDTH].astype(float) * facts[:, cv2.CC_STAT_HEIGHT]
    same = np.zeros(frame.shape, bool)
    same[:, :-1] = frame[:, :-1] == frame[:, 1:]
    flat = np.bincount(regions[same], minlength=count) / areas > FLAT
    means = np.bincount(regions.ravel(), weights=frame.ravel(), minlength=count) / areas
    counts = ~(flat & ((means > SHINES) | (areas > BOXED * boxes))) & (areas >= PIECE * frame.size)
    areas[0] = 0
    counts[areas.argmax()], counts[0] = True, False
    return _hull(counts[regions].astype(np.uint8))


def _hull(regions: np.ndarray) -> np.ndarray | None:
    """The convex hull of all regions, which are above 0 in uint8 [H, W], as 255 and two pixels wider; None if it is too
    small."""
    found = np.zeros(regions.shape, np.uint8)
    outlines, _ = cv2.findContours(regions, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    cv2.fillConvexPoly(found, cv2.convexHull(np.concatenate(outlines)), 255)
    found = cv2.dilate(found, _disc(5))
    return found if np.count_nonzero(found) >= SMALLEST * found.size else None


def _background(mean: np.ndarray) -> float:
    return min(float(np.percentile(mean[::4, ::4], 2)), BACKGROUND)


def graphics(mean: np.ndarray, deviation: np.ndarray, sector: np.ndarray | None) -> np.ndarray:
    """Still, bright, sharp strokes in a moving picture (text, calipers, depth marks): uint8 [H, W], 255 there.

    Still strokes in still surroundings (the near field) are not included, nor are soft still lines (the pleura).
    """
    strokes = (deviation < STANDS) & (mean > BRIGHT)
    outstanding = cv2.morphologyEx(mean, cv2.MORPH_TOPHAT, _disc(9)) > SHARP
    around = cv2.boxFilter((deviation > MOVES).astype(np.float32), -1, (41, 41))
    drawn = _clusters((strokes & outstanding & (around > AMID)).astype(np.uint8))
    drawn = cv2.dilate(drawn * 255, _disc(5))
    area = drawn.size if sector is None else np.count_nonzero(sector)
    within = np.count_nonzero(drawn if sector is None else drawn & sector)
    return drawn if within <= GRAPHICS_SHARE * area else np.zeros_like(drawn)


def _clusters(strokes: np.ndarray) -> np.ndarray:
    """Strokes in groups, as in text, uint8 [H, W] 0 or 1; a single saturated echo is removed."""
    if not strokes.any():
        return strokes
    joined = cv2.morphologyEx(strokes, cv2.MORPH_CLOSE, _disc(9))
    count, regions, _, _ = cv2.connectedComponentsWithStats(joined)
    sizes = np.bincount(regions[strokes > 0], minlength=count)
    return strokes * (sizes >= LETTERS)[regions].astype(np.uint8)


def coloured_graphics(watch: Watch) -> np.ndarray:
    """Coloured text, calipers and scale bars: uint8 [H, W], 255 there; none if they are many.

    They are coloured in every sampled frame and stand still. Colour flow of a vessel is lit in every frame too, but it
    changes; and where nothing changes, it is an area within tissue, and graphics are strokes, small, or beside it.
    """
    nothing = np.zeros(watch.total.shape, np.uint8)
    if watch.coloured is None:
        return nothing
    if watch.seen == 1:
        return _grown(watch.coloured) if watch.coloured.mean() <= TINTED_SHARE else nothing
    mean = watch.mean()
    deviation = watch.deviation(mean)
    still = watch.coloured & (deviation < STANDS)
    lines = watch.coloured & (_areas(watch.coloured, LINE) == 0)
    for pieces, most in ((watch.coloured, STANDS), (lines, FLICKERS)):
        for piece in _pieces(pieces):
            if (deviation[piece] < most).mean() > MOSTLY:  # the rest flickers, as in lossy video
                still[piece] = True
    if still.mean() > TINTED_SHARE:
        return nothing
    flows = cv2.boxFilter((watch.coloured & ~still).astype(np.float32), -1, (15, 15)) > FLOWS_AROUND
    tissue = ((mean > _background(mean) + LIT) | (deviation > MOVES)) & ~watch.coloured
    areas = _areas(still, STROKE)
    drawn = np.zeros_like(nothing)
    for piece in _pieces(still & (areas == 0)):
        if len(piece[0]) >= (LETTERS if flows[piece].mean() > 0.5 else SPECK):
            drawn[piece] = 1
    for piece in _pieces(areas > 0):
        if len(piece[0]) < SMALL_AREA or not _lies_in(piece, tissue):
            drawn[piece] = 1
    return _grown(drawn)


def _areas(coloured: np.ndarray, width: int) -> np.ndarray:
    """The parts of `coloured`, bool [H, W], that are at least about `width` px wide: uint8 of 0 and 1."""
    marked, disc = coloured.astype(np.uint8), _disc(width)
    return cv2.dilate(cv2.morphologyEx(marked, cv2.MORPH_OPEN, disc), disc) & marked


def _pieces(marked: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows and columns of every connected piece of bool [H, W]."""
    count, pieces, facts, _ = cv2.connectedComponentsWithStats(marked.astype(np.uint8))
    found = []
    for number, (left, top, width, height, _) in enumerate(facts[1:count], 1):
        rows, columns = np.nonzero(pieces[top : top + height, left : left + width] == number)
        found.append((rows + top, columns + left))
    return found


def _lies_in(piece: tuple[np.ndarray, np.ndarray], tissue: np.ndarray) -> bool:
    """Whether most of what surrounds a coloured area is tissue; a scale bar stands on black."""
    area = np.zeros(tissue.shape, np.uint8)
    area[piece] = 1
    around = (cv2.dilate(area, _disc(15)) > 0) & (cv2.dilate(area, _disc(5)) == 0)
    return bool(around.any()) and float(tissue[around].mean()) > 0.5


def _grown(marked: np.ndarray) -> np.ndarray:
    return cv2.dilate(marked.astype(np.uint8) * 255, _disc(3))


def _coloured_in_a_still(watch: Watch) -> tuple[np.ndarray, np.ndarray]:
    """Coloured strokes (calipers, text) and coloured areas (Doppler, logos) of a single frame, uint8 [H, W], 255 there.

    A coloured area in a single frame may be flow, so only thin coloured lines are taken as graphics.
    """
    coloured = coloured_graphics(watch)
    filled = cv2.dilate(cv2.morphologyEx(coloured, cv2.MORPH_OPEN, _disc(9)), _disc(9)) & coloured
    return coloured & ~filled, filled


def _disc(diameter: int) -> np.ndarray:
    diameter = max(3, diameter) | 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))
