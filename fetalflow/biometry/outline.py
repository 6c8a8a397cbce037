"""A mask's outline in mm: where the answer crosses one half between two pixels. Pixels need not be square."""

from dataclasses import dataclass

import contourpy
import cv2
import numpy as np

HALF = 0.5


@dataclass(frozen=True)
class Spacing:
    """mm per pixel down (rows) and across (columns). Both are 1 where the spacing is not known; lengths are then in
    pixels."""

    row: float
    column: float

    def resized(self, before: tuple[int, int], after: tuple[int, int]) -> "Spacing":
        """The spacing after an image of (height, width) `before` px was resized to `after` px, each side for itself."""
        return Spacing(self.row * before[0] / after[0], self.column * before[1] / after[1])


def largest_component(answer: np.ndarray) -> tuple[np.ndarray, float]:
    """The largest connected piece of `answer` (float or bool [H, W], thresholded at one half) as bool [H, W], and the
    area of the second piece divided by its area (0-1). An empty answer gives an empty mask and 0."""
    inside = (np.asarray(answer) > HALF).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(inside, connectivity=8)
    if count < 2:
        return inside.astype(bool), 0.0
    areas = stats[1:, cv2.CC_STAT_AREA]
    order = np.argsort(-areas, kind="stable")
    second = areas[order[1]] / areas[order[0]] if count > 2 else 0.0
    return labels == order[0] + 1, float(second)


def outline_mm(answer: np.ndarray, component: np.ndarray, spacing: Spacing) -> np.ndarray:
    """float64 [P, 2], the closed line (x, y) in mm that encloses `component` where `answer` crosses one half; with
    several lines, the one with the largest area.

    answer: float [H, W] in 0-1, or a mask. Pixel centres lie on whole numbers, so a mask's outline runs along the edges
    of its pixels. Beyond the image the answer counts as 0, so an outline that reaches the border is closed there.
    """
    near = cv2.dilate(component.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    padded = np.pad(np.where(near, np.asarray(answer, dtype=np.float64), 0.0), 1)
    lines = contourpy.contour_generator(z=padded).lines(HALF)
    line = max(lines, key=lambda points: _area(points - points.mean(axis=0)))
    return (line - 1) * np.array([spacing.column, spacing.row])


def _area(points: np.ndarray) -> float:
    x, y = points.T
    return abs(float(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1]))) / 2
