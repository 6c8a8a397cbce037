"""The circumference, axes or length of an outline: pure geometry, in the unit of the outline's points."""

from dataclasses import dataclass
from math import cos, pi, radians, sin, sqrt

import cv2
import numpy as np


@dataclass(frozen=True)
class Ellipse:
    """x, y: centre; long, short: full lengths of the axes; degrees: angle of the long axis from x towards y, 0-180."""

    x: float
    y: float
    long: float
    short: float
    degrees: float

    @property
    def circumference(self) -> float:
        """Ramanujan's second formula; its relative error is under 1e-4 for any head or abdomen."""
        a, b = self.long / 2, self.short / 2
        h = ((a - b) / (a + b)) ** 2
        return pi * (a + b) * (1 + 3 * h / (10 + sqrt(4 - 3 * h)))

    def points(self, count: int = 360) -> np.ndarray:
        """float64 [count, 2], (x, y) along the ellipse."""
        t = np.linspace(0, 2 * pi, count, endpoint=False)
        c, s = cos(radians(self.degrees)), sin(radians(self.degrees))
        u, v = self.long / 2 * np.cos(t), self.short / 2 * np.sin(t)
        return np.stack([self.x + c * u - s * v, self.y + s * u + c * v], axis=1)

    def ends(self) -> np.ndarray:
        """float64 [2, 2, 2]: the ends (x, y) of the long axis, then of the short one."""
        c, s = cos(radians(self.degrees)), sin(radians(self.degrees))
        middle = np.array([self.x, self.y])
        along, across = np.array([c, s]) * self.long / 2, np.array([-s, c]) * self.short / 2
        return np.array([[middle - along, middle + along], [middle - across, middle + across]])


def fit_ellipse(points: np.ndarray) -> Ellipse:
    """Direct least-squares fit of an ellipse (Fitzgibbon 1999). points: float [P >= 5, 2], (x, y)."""
    middle = points.mean(axis=0)  # OpenCV computes in float32, which is most exact near 0
    (x, y), (width, height), degrees = cv2.fitEllipseDirect((points - middle).astype(np.float32))
    if width < height:
        width, height, degrees = height, width, degrees + 90
    return Ellipse(x + middle[0], y + middle[1], width, height, degrees % 180)


def long_side(points: np.ndarray) -> np.ndarray:
    """float64 [2, 2]: the ends (x, y) of the long middle line of the smallest rectangle around `points` (float [P, 2]).

    The length of this line is a femur's length.
    """
    middle = points.mean(axis=0)
    corners = cv2.boxPoints(cv2.minAreaRect((points - middle).astype(np.float32))).astype(np.float64)
    sides = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1)
    first = int(np.argmin(sides[:2]))  # index of a short side; the other short side is two further on
    ends = [(corners[i] + corners[(i + 1) % 4]) / 2 for i in (first, first + 2)]
    return np.array(ends) + middle
