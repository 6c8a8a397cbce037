"""Tells a drawn outline from a filled mask by its topology, and fills outlines. A filled mask is never changed.

An outline is a closed curve one pen wide. The pen's width is even, and small beside the structure.
"""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

EMPTY, DELIVERED, FILLED = "empty", "as delivered", "outline filled"
COMPLETED = "outline completed beyond the frame's border"
OPEN = "open line, as delivered"
MAIN = 0.05  # of the largest piece's area with its holes; smaller pieces are specks, which decide nothing
THIN, THIN_PX = 0.1, 4.0  # the widest pen: a share of the structure's diameter, or this many px
UNEVEN, UNEVEN_PX = 1.5, 1.5  # a pen's widest place may be this many times its narrowest one, and so many px more
HOLLOW = 1 / 3  # least share of holes within an outline; of a bone it is small
LONG = 25  # pen widths; a thin mask that is shorter is no line
BENT = 0.85  # a line is bent if its extent is at most this share of its length; a bowed femur is longer
DASHES = 5  # pieces of one line; fewer may be bones
ON_ELLIPSE = 2.0  # px beside half of the pen by which a cut outline may leave its ellipse
FINE = 4  # parts of a pixel to which `inset` is exact
SPECK_PX = 30  # area below which a frame's mask has no shape


@dataclass(frozen=True)
class Solid:
    """mask: uint8 [H, W], 1 in the structure; done: one of the words above; pen: px, width of the drawn line, 0
    where nothing was filled."""

    mask: np.ndarray
    done: str
    pen: float = 0.0


class Undecided(Exception):
    """A mask that is neither filled nor a whole outline. Its text says what was found and what to do."""


def solid(drawn: np.ndarray) -> Solid:
    """One frame, uint8 [H, W] of 0 and 1. Raises Undecided."""
    pieces = _pieces(drawn)
    if not pieces:
        return Solid(drawn, EMPTY)
    largest = max(piece.whole for piece in pieces)
    main = [piece for piece in pieces if piece.whole >= MAIN * largest]
    if not any(piece.hollow for piece in main):
        return _of_lines(drawn, main)
    closed = [_is_closed(piece) for piece in main]
    if not any(closed):
        return Solid(drawn, DELIVERED)
    if not all(closed):
        raise Undecided("one part is a drawn outline and another is not. Deliver all of it filled")
    filled = drawn.copy()
    for piece in main:
        others = [other.edge[0, 0] for other in main if other is not piece]
        if any(cv2.pointPolygonTest(piece.edge, tuple(map(float, point)), False) > 0 for point in others):
            raise Undecided("one outline lies inside another, so it is not clear which is meant. Deliver it filled")
        cv2.drawContours(filled, [piece.edge], -1, 1, cv2.FILLED)
    return Solid(filled, FILLED, float(np.mean([piece.pen for piece in main])))


def inset(mask: np.ndarray, px: float) -> np.ndarray:
    """A filled mask, uint8 [H, W], whose edge is moved inwards by `px`, to parts of a pixel, except at the frame's
    border. Its steps are smoothed first, because distances from steps are too short."""
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    if not len(rows) or px <= 0:
        return mask
    margin = int(px) + 6
    box = (slice(rows[0], rows[-1] + 1 + 2 * margin), slice(columns[0], columns[-1] + 1 + 2 * margin))
    padded = cv2.copyMakeBorder(mask, margin, margin, margin, margin, cv2.BORDER_REPLICATE)[box].astype(np.float32)
    fine = cv2.resize(cv2.GaussianBlur(padded, (0, 0), 1), None, fx=FINE, fy=FINE, interpolation=cv2.INTER_LINEAR)
    away = cv2.distanceTransform((fine > 0.5).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    kept = (away >= FINE * px + 0.5).astype(np.float32)
    coarse = cv2.resize(kept, padded.shape[::-1], interpolation=cv2.INTER_AREA) >= 0.5
    moved = np.zeros_like(mask)
    inner = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    moved[inner] = coarse[margin:-margin, margin:-margin]
    return moved & mask


@dataclass(frozen=True)
class _Piece:
    """A connected piece of a mask. drawn: uint8 [h, w], the piece alone within one dark pixel; corner: x, y of its
    first pixel in the frame; edge: its outer contour in the frame; area: px; whole: px with its holes; pen: px, mean
    width if it is a line; at_border: whether it touches the frame's border."""

    drawn: np.ndarray
    corner: tuple[int, int]
    edge: np.ndarray
    area: int
    whole: int
    pen: float
    at_border: bool

    @cached_property
    def _away(self) -> np.ndarray:
        return cv2.distanceTransform(self.drawn, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)

    @cached_property
    def middle(self) -> np.ndarray:
        """The pixels (x, y) on its middle line, int [P, 2]."""
        y, x = np.nonzero((self._away == cv2.dilate(self._away, np.ones((3, 3)))) & (self.drawn > 0))
        return np.stack([x, y], axis=1) + self.corner

    @property
    def even(self) -> bool:
        """Whether its width is nearly the same everywhere."""
        x, y = (self.middle - self.corner).T
        narrow, wide = 2 * np.percentile(self._away[y, x], (5, 95)) - 1
        return bool(wide <= UNEVEN * narrow + UNEVEN_PX)

    @property
    def hollow(self) -> bool:
        return self.whole - self.area >= HOLLOW * self.whole

    @property
    def length(self) -> float:
        return self.area / self.pen


def _pieces(drawn: np.ndarray) -> list[_Piece]:
    x, y, width, height = cv2.boundingRect(drawn)
    if not width:
        return []
    count, labels, facts, _ = cv2.connectedComponentsWithStats(drawn[y : y + height, x : x + width])
    largest, pieces = facts[1:, cv2.CC_STAT_AREA].max(), []
    for number in range(1, count):
        left, top, width, height, area = facts[number]
        # A speck. A piece with a small area may still be a large outline.
        if area < 0.02 * largest and max(width, height) < 0.1 * max(drawn.shape):
            continue
        piece = np.pad((labels[top : top + height, left : left + width] == number).astype(np.uint8), 1)
        edges, order = cv2.findContours(piece, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        outer = next(edge for edge, (*_, parent) in zip(edges, order[0], strict=True) if parent < 0)
        whole = cv2.drawContours(np.zeros_like(piece), [outer], -1, 1, cv2.FILLED).sum()
        around = sum(cv2.arcLength(edge, True) for edge in edges) / 2
        left, top = left + x, top + y
        at_border = left == 0 or top == 0 or left + width == drawn.shape[1] or top + height == drawn.shape[0]
        corner, pen = (left - 1, top - 1), area / max(1.0, around)
        pieces.append(_Piece(piece, corner, outer + corner, int(area), int(whole), pen, at_border))
    return pieces


def _is_closed(piece: _Piece) -> bool:
    across = 2 * np.sqrt(piece.whole / np.pi)
    return piece.hollow and piece.pen <= max(THIN_PX, THIN * across) and piece.even


def _of_lines(drawn: np.ndarray, main: list[_Piece]) -> Solid:
    """A frame without a closed outline: a filled mask, or lines that have a gap or that the frame's border cuts."""
    points = np.concatenate([piece.edge for piece in main])
    hull, pen = cv2.contourArea(cv2.convexHull(points)), float(np.median([piece.pen for piece in main]))
    if pen > max(THIN_PX, THIN * 2 * np.sqrt(hull / np.pi)) or not all(piece.even for piece in main):
        return Solid(drawn, DELIVERED)
    is_bent = max(cv2.minAreaRect(points)[1]) <= BENT * sum(piece.length for piece in main)
    if is_bent and all(piece.at_border for piece in main) and _divides(drawn):
        return Solid(_completed(drawn, main, pen), COMPLETED, pen)
    if _has_gap(drawn, main, pen, is_bent):
        raise Undecided("the drawn outline has a gap. Close it, or deliver the structure filled")
    is_line = all(piece.length >= LONG * piece.pen and piece.whole < 2 * piece.area for piece in main)
    return Solid(drawn, OPEN if is_line else DELIVERED)


def _divides(drawn: np.ndarray) -> bool:
    """Whether lines that reach the frame's border cut the background into pieces."""
    _, _, facts, _ = cv2.connectedComponentsWithStats(1 - drawn, connectivity=4)
    return bool((facts[1:, cv2.CC_STAT_AREA] >= SPECK_PX).sum() > 1)


def _has_gap(drawn: np.ndarray, main: list[_Piece], pen: float, is_bent: bool) -> bool:
    """Whether lines become a closed outline when gaps of a few pixels are closed (between many dashes, of the length of
    two dashes), or, where the lines are bent, become one with the frame's border. Lines are widened for this, because
    closing in the sense of morphology joins no thin ends."""
    dash = max(main[0].drawn.shape) if len(main) >= DASHES else 0
    width = int(max(2 * pen + 5, 2 * dash)) | 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    inside = 1 - cv2.dilate(np.pad(drawn, width), disc)
    cv2.floodFill(inside, None, (0, 0), 0)
    # Two bones beside each other that just touch when they are widened enclose slits only.
    enclosed = cv2.dilate(cv2.morphologyEx(inside, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8)), disc).sum()
    return bool(enclosed >= HOLLOW * (enclosed + drawn.sum()) > 0) or (is_bent and _divides(cv2.dilate(drawn, disc)))


def _completed(drawn: np.ndarray, main: list[_Piece], pen: float) -> np.ndarray:
    """The ellipse whose outline the frame's border cuts, up to the pen's outer edge: heads and abdomens are annotated
    with ellipses. Raises Undecided where the lines are no ellipse."""
    points = np.concatenate([piece.middle for piece in main]).astype(np.float64)
    mean = points.mean(axis=0)  # OpenCV computes in float32, which is most exact near 0
    centre, (width, height), degrees = cv2.fitEllipseDirect((points - mean).astype(np.float32))
    along, across = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))

    def beyond(x: np.ndarray, y: np.ndarray, wider: float) -> np.ndarray:
        x, y = x - mean[0] - centre[0], y - mean[1] - centre[1]
        u, v = along * x + across * y, along * y - across * x
        return np.hypot(u / (width / 2 + wider), v / (height / 2 + wider)) - 1

    away = np.abs(beyond(*points.T, 0.0)) * min(width, height) / 2
    if not np.percentile(away, 95) <= pen / 2 + ON_ELLIPSE:
        raise Undecided("the frame's border cuts the drawn outline, and it is no ellipse. Deliver it filled")
    y, x = np.mgrid[: drawn.shape[0], : drawn.shape[1]]
    return (beyond(x, y, pen / 2) <= 0).astype(np.uint8) | drawn
