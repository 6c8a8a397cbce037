"""What a segmented structure measures, in mm; and what is wrong with it, instead of a silent number."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from fetalflow.biometry.calipers import Ellipse, fit_ellipse, long_side
from fetalflow.biometry.growth import AGES, z_score
from fetalflow.biometry.outline import Spacing, largest_component, outline_mm
from fetalflow.biometry.structures import LENGTHS

LEAST_PX = 30  # of a structure: fewer pixels have no shape
LIKE_SIZE = 0.3  # of the largest piece: a second one as large as this may be the structure as well
# Part of a head or abdomen is not seen where more than this share of its ellipse lies beyond the sector. Masks end a
# little before the edge, so their own outline tells less (docs/biometry.md).
BEYOND = 0.02
ROUND = 0.9  # overlap (IoU) of a head or abdomen with its ellipse: less, and it is no ellipse
IMPLAUSIBLE = 6.0  # standard deviations from the median of the stated age
FAR_OUT = 4.0  # robust standard deviations: such a frame does not count for its cine


@dataclass(frozen=True)
class Measured:
    """One frame. lengths: mm by name (hc, bpd, ofd, ac, fl), or px where there is no scale; empty when there is none.

    calipers: float [2 or 4, 2], ends (x, y) of what was measured, in the same unit. BPD and OFD run from outer edge to
    outer edge. warnings: plain sentences; with `refused` there is no number.
    """

    structure: str
    unit: str  # mm or px
    lengths: dict[str, float] = field(default_factory=dict)
    ellipse: Ellipse | None = None
    calipers: np.ndarray | None = None
    warnings: tuple[str, ...] = ()
    refused: bool = False


def measure(
    answer: np.ndarray,
    structure: str,
    spacing: Spacing | None,
    sector: np.ndarray | None = None,
    weeks: float | None = None,
) -> Measured:
    """answer: float [H, W] in 0-1, or a mask, of `structure` (head, abdomen or femur).

    spacing: mm per pixel of this grid; None: the answer is in pixels and says so. sector: bool [H, W], what the probe
    sees; None: the whole image. weeks: gestational age if it is known, to tell implausible lengths.
    """
    unit = "mm" if spacing else "px"
    said = [] if spacing else ["no pixel spacing is known: lengths are in pixels"]
    component, second = largest_component(answer)
    if component.sum() < LEAST_PX:
        return Measured(structure, unit, warnings=(*said, f"no {structure} was found"), refused=True)
    if second >= LIKE_SIZE:
        said.append(f"two pieces of like size ({second:.0%} of the larger one): which is the {structure} is not known")
        return Measured(structure, unit, warnings=tuple(said), refused=True)
    scale = spacing or Spacing(1.0, 1.0)
    points = outline_mm(answer, component, scale)
    ellipse = None
    if structure == "femur":
        calipers = long_side(points)
        lengths = {"fl": float(np.linalg.norm(calipers[1] - calipers[0]))}
        at_edge = end_at_edge(calipers / (scale.column, scale.row), component, sector)
        cut = "an end lies at the edge of what the probe sees" if at_edge else ""
    else:
        ellipse = fit_ellipse(points)
        calipers = ellipse.ends().reshape(4, 2)
        values = (ellipse.circumference, ellipse.short, ellipse.long)
        lengths = dict(zip(LENGTHS[structure], values, strict=False))
        share = beyond(ellipse.points() / (scale.column, scale.row), component.shape, sector)
        cut = f"{share:.0%} of its ellipse lies beyond what the probe sees" if share > BEYOND else ""
        if (overlap := _overlap(points, ellipse)) < ROUND:
            said.append(f"its shape is no ellipse: they overlap by {overlap:.0%}")
    if cut:
        return Measured(structure, unit, warnings=(*said, f"cut off: {cut}"), refused=True)
    if spacing and weeks is not None:
        said += implausible(lengths, weeks)
    return Measured(structure, unit, lengths, ellipse, calipers, tuple(said))


def implausible(lengths_mm: dict[str, float], weeks: float) -> list[str]:
    """A sentence for each length that no fetus of the stated age has."""
    if not AGES[0] <= weeks <= AGES[1]:
        return [f"{weeks:g} weeks is outside of the growth curves ({AGES[0]:g}-{AGES[1]:g}): not checked against age"]
    scores = {name: z_score(name, value, weeks) for name, value in lengths_mm.items()}
    return [
        f"{name.upper()} {lengths_mm[name]:.1f} mm is implausible at {weeks:g} weeks (z {z:+.1f})"
        for name, z in scores.items()
        if abs(z) > IMPLAUSIBLE
    ]


def beyond(points: np.ndarray, shape: tuple[int, int], sector: np.ndarray | None) -> float:
    """The share (0-1) of `points`, float [P, 2] (x, y) in px, that lie beyond the sector, or beyond the image."""
    return float((_room(points, shape, sector) == 0).mean())


def end_at_edge(ends: np.ndarray, component: np.ndarray, sector: np.ndarray | None) -> bool:
    """Whether one of a bone's ends, float [2, 2] (x, y) in px, lies nearer to the sector's edge than the bone is thick:
    it may go on where nothing is seen."""
    thickness = component.sum() / max(1.0, float(np.linalg.norm(ends[1] - ends[0])))
    return bool(_room(ends, component.shape, sector).min() < thickness)


def _room(points: np.ndarray, shape: tuple[int, int], sector: np.ndarray | None) -> np.ndarray:
    """Px from each of `points` to the sector's edge; 0 beyond it."""
    seen = np.ones(shape, np.uint8) if sector is None else sector.astype(np.uint8)
    inside = cv2.distanceTransform(np.pad(seen, 1), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    x, y = np.rint(points).astype(int).T + 1
    known = (x >= 0) & (y >= 0) & (x < inside.shape[1]) & (y < inside.shape[0])
    return np.where(known, inside[np.where(known, y, 0), np.where(known, x, 0)], 0.0)


def _overlap(points: np.ndarray, ellipse: Ellipse) -> float:
    """IoU of two shapes, drawn on a grid of some 200 px so that it does not depend on the unit."""
    both = np.concatenate([points, ellipse.points()])
    low, scale = both.min(axis=0), 200 / np.ptp(both, axis=0).max()
    drawn = []
    for shape in (points, ellipse.points()):
        mask = np.zeros((208, 208), np.uint8)
        cv2.fillPoly(mask, [np.round((shape - low) * scale + 4).astype(np.int32)], 1)
        drawn.append(mask.astype(bool))
    return float((drawn[0] & drawn[1]).sum() / (drawn[0] | drawn[1]).sum())


@dataclass(frozen=True)
class Joined:
    """One length over a cine. spread: robust standard deviation between the frames that count (0 for one frame)."""

    value: float
    spread: float
    frames: int  # that count
    left_out: int  # measured, but far from the others


def join(values: Sequence[float]) -> Joined | None:
    """The median of the frames' values without those far out; None when no frame gave one."""
    all_values = np.array([v for v in values if np.isfinite(v)], dtype=np.float64)
    if not len(all_values):
        return None
    middle, spread = np.median(all_values), _robust_sd(all_values)
    near = np.abs(all_values - middle) <= FAR_OUT * max(spread, 1e-3 * abs(middle))
    kept = all_values[near]
    return Joined(float(np.median(kept)), _robust_sd(kept), len(kept), int((~near).sum()))


def _robust_sd(values: np.ndarray) -> float:
    return float(1.4826 * np.median(np.abs(values - np.median(values))))
