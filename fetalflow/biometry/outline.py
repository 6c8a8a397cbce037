"""A mask's outline in mm: where the answer crosses one half between two pixels, on a grid of any spacing."""

from dataclasses import dataclass

import contourpy
import cv2
import numpy as np

HALF = 0.5


@dataclass(frozen=True)
class Spacing:
    """mm per pixel down (rows) and across (columns). Without a scale both are 1 and lengths are in pixels."""

    row: float
    column: float

    def resized(self, before: tuple[int, int], after: tuple[int, int]) -> "Spacing":
        """The spacing once an image of (height, width) `before` px has become `after` px, each side by itself."""
        return Spacing(self.row * before[0] / after[0], self.column * before[1] / after[1])


def largest_component(answer: np.ndarray) -> tuple[np.ndarray, float]:
    """The largest piece of `answer` (float or bool [H, W], above one half is in), as bool [H, W], and how large the
    next one is beside it (0-1). Nothing anywhere: an empty mask and 0."""
    inside = (np.asarray(answer) > HALF).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(inside, connectivity=8)
    if count < 2:
        return inside.astype(bool), 0.0
    areas = stats[1:, cv2.CC_STAT_AREA]
    order = np.argsort(-areas, kind="stable")
    second = areas[order[1]] / areas[order[0]] if count > 2 else 0.0
    return labels == order[0] + 1, float(second)


def outline_mm(answer: np.ndarray, component: np.ndarray, spacing: Spacing) -> np.ndarray:
    """float64 [P, 2], the longest closed line (x, y) in mm around `component` where `answer` crosses one half.

    answer: float [H, W] in 0-1, or a mask; pixel centres lie on whole numbers, so a mask's outline runs along the
    edges of its pixels. Beyond the image it counts as 0: a mask that reaches the border is closed there.
    """
    near = cv2.dilate(component.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    padded = np.pad(np.where(near, np.asarray(answer, dtype=np.float64), 0.0), 1)
    lines = contourpy.contour_generator(z=padded).lines(HALF)
    line = max(lines, key=lambda points: _area(points - points.mean(axis=0)))
    return (line - 1) * np.array([spacing.column, spacing.row])


def _area(points: np.ndarray) -> float:
    x, y = points.T
    return abs(float(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1]))) / 2
