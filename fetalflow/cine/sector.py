"""What of a frame is ultrasound: the sector, without the burned-in text, scales, logos and patient data around it.

Found from how each pixel behaves over the cine: speckle changes, graphics stand still. In a still nothing changes, but
graphics are flat and speckle is not. Wherever the evidence is weak the pixels are kept: blanked anatomy is lost, a kept
scale is only untidy.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

EVERY = 8  # after the first 32 frames, every 8th is looked at
FIRST = 32
MOVES = 3.0  # grey levels of standard deviation from which a pixel changes
STANDS = 5.0  # grey levels of standard deviation below which a pixel stands still; lossy video makes still text flicker
STILL_SHARE = 0.3  # below this share of changing lit pixels a cine is still
LIT = 3  # grey levels above the background from which a pixel shows something: deep tissue is dark
BACKGROUND = 10  # the background of a frame is never taken to be brighter than this
BRIGHT = 150  # grey level from which a still pixel may be graphics
SHARP = 90  # grey levels by which a stroke stands out of its surroundings; averaged speckle does not
AMID = 0.5  # share of changing pixels around a stroke that is drawn over the picture
LETTERS = 30  # px of strokes that must lie together
TINTED_SHARE = 0.1  # of the frame: more colour than this is a colour map or Doppler, not graphics
GRAPHICS_SHARE = 0.02  # of the sector: more "graphics" than this inside it is anatomy
SMALLEST = 0.05  # of the frame: a sector smaller than this was not found
LARGE, LIVELY = 0.2, 0.03  # of the largest region: another that counts; another that counts if it changes
PIECE = 0.0005  # of a still: a region smaller than this is a speck or a letter
FLAT = 0.6  # share of a region's pixels that equal their right neighbour: more is a drawing or nearly black
SHINES = 40  # grey levels, mean of a flat region from which it is drawn; dim tissue reaches half of it
BOXED = 0.85  # share of its bounding box that a flat region fills when it is drawn, however dim


@dataclass
class Watch:
    """Mean, change and colour of every pixel, gathered while the frames of a cine pass."""

    seen: int = 0
    sampled: int = 0
    total: np.ndarray | None = None  # float32 [H, W], sum of the frames looked at
    squares: np.ndarray | None = None  # float32 [H, W], sum of their squares
    coloured: np.ndarray | None = None  # bool [H, W], strongly coloured in every frame looked at; None: nowhere

    def look(self, frame: np.ndarray, tint: Callable[[], np.ndarray | None]) -> None:
        """Take the next frame, uint8 [H, W]. tint: asked for its strongly coloured pixels, bool [H, W], if needed."""
        wanted = self.seen < FIRST or self.seen % EVERY == 0
        self.seen += 1
        if not wanted:
            return
        if not self.sampled:
            self.total, self.squares = np.zeros((2, *frame.shape), np.float32)
        cv2.accumulate(frame, self.total)
        cv2.accumulateSquare(frame, self.squares)
        self.sampled += 1
        if self.sampled == 1:
            self.coloured = tint()
        elif self.coloured is not None:
            found = tint()
            self.coloured = None if found is None else self.coloured & found
        if self.coloured is not None and not self.coloured.any():
            self.coloured = None  # nothing is coloured in every frame: no need to ask again

    def mean(self) -> np.ndarray:
        return self.total / self.sampled

    def deviation(self, mean: np.ndarray) -> np.ndarray:
        return np.sqrt(np.maximum(self.squares / self.sampled - mean * mean, 0))


def keep(
    watch: Watch, box: tuple[int, int, int, int] | None, *, overlays: bool = True, sector: bool = True
) -> np.ndarray:
    """Pixels to keep, uint8 [H, W]: 255 keep, 0 blank.

    box: rows and columns (first row, first column, end row, end column) outside which the file's header says there is
    no ultrasound. overlays: blank graphics; sector: blank what lies outside the sector.
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

    Around what is lit or changes and is no thin stroke: the largest connected region, and others of some size, since
    a shadow may cut the sector in two.
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

    frame: grey levels [H, W]; inside: uint8 [H, W], 255 where the sector may lie. Around every region that is brighter
    than the background, by whatever little, and is neither a thin stroke nor drawn: dark tissue belongs to it, bars,
    logos and the panels of the screen do not.
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
    """Convex hull of all regions, uint8 [H, W] above 0 there, as 255, two pixels wider; None if it is too small."""
    found = np.zeros(regions.shape, np.uint8)
    outlines, _ = cv2.findContours(regions, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    cv2.fillConvexPoly(found, cv2.convexHull(np.concatenate(outlines)), 255)
    found = cv2.dilate(found, _disc(5))
    return found if np.count_nonzero(found) >= SMALLEST * found.size else None


def _background(mean: np.ndarray) -> float:
    return min(float(np.percentile(mean[::4, ::4], 2)), BACKGROUND)


def graphics(mean: np.ndarray, deviation: np.ndarray, sector: np.ndarray | None) -> np.ndarray:
    """Still, bright, sharp strokes in a moving picture (text, calipers, depth marks): uint8 [H, W], 255 there.

    Still strokes amid still surroundings (the near field) are kept, and so is a soft still line (the pleura).
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
    """Strokes that lie together as letters do, uint8 [H, W] 0 or 1; a saturated echo stands alone."""
    if not strokes.any():
        return strokes
    joined = cv2.morphologyEx(strokes, cv2.MORPH_CLOSE, _disc(9))
    count, regions, _, _ = cv2.connectedComponentsWithStats(joined)
    sizes = np.bincount(regions[strokes > 0], minlength=count)
    return strokes * (sizes >= LETTERS)[regions].astype(np.uint8)


def coloured_graphics(watch: Watch) -> np.ndarray:
    """Pixels coloured in every frame that was looked at, uint8 [H, W], 255 there; none if they are many."""
    if watch.coloured is None or np.count_nonzero(watch.coloured) > TINTED_SHARE * watch.coloured.size:
        return np.zeros(watch.total.shape, np.uint8)
    return cv2.dilate(watch.coloured.astype(np.uint8) * 255, _disc(3))


def _coloured_in_a_still(watch: Watch) -> tuple[np.ndarray, np.ndarray]:
    """Coloured strokes (calipers, text) and coloured areas (Doppler, logos) of a single frame, uint8 [H, W], 255 there.

    Colour of one frame may be flow, which is no graphics; thin coloured lines are.
    """
    coloured = coloured_graphics(watch)
    filled = cv2.dilate(cv2.morphologyEx(coloured, cv2.MORPH_OPEN, _disc(9)), _disc(9)) & coloured
    return coloured & ~filled, filled


def _disc(diameter: int) -> np.ndarray:
    diameter = max(3, diameter) | 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))
