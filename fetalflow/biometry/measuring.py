"""Measures a segmented structure in mm, with warnings; a structure that cannot be measured gives no length."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from fetalflow.biometry.calipers import Ellipse, fit_ellipse, long_side
from fetalflow.biometry.growth import AGES, FAR, length_range, z_score
from fetalflow.biometry.outline import Spacing, largest_component, outline_mm
from fetalflow.biometry.structures import LENGTHS

LEAST_PX = 30  # area of a structure; fewer pixels have no shape
LIKE_SIZE = 0.3  # of the largest piece's area: a second piece of this size may be the structure as well
# A head or abdomen is cut off when a larger share of its ellipse lies beyond the sector. The mask's outline shows this
# less well, because masks end a little before the edge (docs/ml-lead/biometry.md).
BEYOND = 0.02
# A femur is cut off when one of its ends is nearer to the sector's edge than this many times its thickness. Both were
# set on other patients than they are reported on (docs/ml-lead/thresholds.md).
ENDS = 1.5
ROUND = 0.9  # IoU of a head or abdomen with its ellipse; below it, its shape is not an ellipse
FAR_OUT = 4.0  # robust standard deviations; frames further from the median are left out of the cine's length


@dataclass(frozen=True)
class Measured:
    """One measured frame. lengths: in `unit` by name (hc, bpd, ofd, ac, fl); empty when `refused`.

    calipers: float [2 or 4, 2], the end points (x, y) of what was measured, in the same unit. BPD and OFD run from
    outer edge to outer edge. warnings: plain sentences. refused: the structure cannot be measured.
    """

    structure: str
    unit: str  # mm, or px where the pixel spacing is not known
    lengths: dict[str, float] = field(default_factory=dict)
    ellipse: Ellipse | None = None
    calipers: np.ndarray | None = None
    warnings: tuple[str, ...] = ()
    refused: bool = False
    area: float = 0.0  # of the largest piece of the mask, in unit squared; 0 where nothing was found
    regular: bool = True  # False: a head or abdomen whose shape is not an ellipse


def measure_frame(
    answer: np.ndarray,
    structure: str,
    spacing: Spacing | None,
    sector: np.ndarray | None = None,
    weeks: float | None = None,
) -> Measured:
    """Measure one frame. answer: float [H, W] in 0-1, or a mask, of `structure` (head, abdomen or femur).

    spacing: mm per pixel of this grid; None: lengths are in pixels, with a warning. sector: bool [H, W], what the probe
    sees; None: the whole image. weeks: gestational age if it is known, to warn of implausible lengths.
    """
    unit = "mm" if spacing else "px"
    warnings = [] if spacing else ["no pixel spacing is known: lengths are in pixels"]
    component, second = largest_component(answer)
    if component.sum() < LEAST_PX:
        return Measured(structure, unit, warnings=(*warnings, f"no {structure} was found"), refused=True)
    scale = spacing or Spacing(1.0, 1.0)
    area = float(component.sum()) * scale.row * scale.column
    if second >= LIKE_SIZE:
        warnings.append(
            f"two pieces of similar size (the areas are in a ratio of {second:.0%}): it is not known which is the "
            f"{structure}"
        )
        return Measured(structure, unit, warnings=tuple(warnings), refused=True, area=area)
    points = outline_mm(answer, component, scale)
    ellipse, regular = None, True
    if structure == "femur":
        calipers = long_side(points)
        lengths = {"fl": float(np.linalg.norm(calipers[1] - calipers[0]))}
        at_edge = end_at_edge(calipers / (scale.column, scale.row), component, sector)
        cut_off = "an end lies at the edge of what the probe sees" if at_edge else ""
    else:
        ellipse = fit_ellipse(points)
        calipers = ellipse.ends().reshape(4, 2)
        values = (ellipse.circumference, ellipse.short, ellipse.long)
        lengths = dict(zip(LENGTHS[structure], values, strict=False))
        share = share_beyond(ellipse.points() / (scale.column, scale.row), component.shape, sector)
        cut_off = f"{share:.0%} of its ellipse lies beyond what the probe sees" if share > BEYOND else ""
        if not (regular := (iou := _iou(points, ellipse)) >= ROUND):
            warnings.append(f"its shape is not an ellipse: the overlap with the fitted ellipse is {iou:.0%}")
    if cut_off:
        return Measured(structure, unit, warnings=(*warnings, f"cut off: {cut_off}"), refused=True, area=area)
    if spacing and weeks is not None:
        warnings += implausible(lengths, weeks)
    return Measured(structure, unit, lengths, ellipse, calipers, tuple(warnings), area=area, regular=regular)


def implausible(lengths_mm: dict[str, float], weeks: float) -> list[str]:
    """A warning for each length that is implausible at the stated age."""
    if not AGES[0] <= weeks <= AGES[1]:
        return [
            f"{weeks:g} weeks is outside of the growth curves ({AGES[0]:g}-{AGES[1]:g}): lengths were not checked "
            "against the age"
        ]
    scores = {name: z_score(name, value, weeks) for name, value in lengths_mm.items()}
    return [
        f"{name.upper()} {lengths_mm[name]:.1f} mm is implausible at {weeks:g} weeks (z {z:+.1f})"
        for name, z in scores.items()
        if abs(z) > FAR
    ]


def impossible(lengths_mm: dict[str, float]) -> list[str]:
    """A warning for each length that no fetus of 14 to 40 weeks has."""
    found = []
    for name, value in lengths_mm.items():
        low, high = length_range(name)
        if not low <= value <= high:
            least = f"at {AGES[0]:g} weeks it is {low:.0f} mm or more, so it is wrong, or the fetus is younger"
            most = f"at {AGES[1]:g} weeks it is {high:.0f} mm or less"
            found.append(
                f"{name.upper()} {value:.1f} mm is impossible: {least if value < low else most}. Check the scale"
            )
    return found


def share_beyond(points: np.ndarray, shape: tuple[int, int], sector: np.ndarray | None) -> float:
    """The share (0-1) of `points`, float [P, 2] (x, y) in px, that lie beyond the sector, or beyond the image."""
    return float((_distance_to_edge(points, shape, sector) == 0).mean())


def end_at_edge(ends: np.ndarray, component: np.ndarray, sector: np.ndarray | None) -> bool:
    """Whether one of a bone's ends, float [2, 2] (x, y) in px, is nearer to the sector's edge than ENDS times the
    bone's thickness. The bone may then continue beyond the sector."""
    thickness = component.sum() / max(1.0, float(np.linalg.norm(ends[1] - ends[0])))
    return bool(_distance_to_edge(ends, component.shape, sector).min() < ENDS * thickness)


def _distance_to_edge(points: np.ndarray, shape: tuple[int, int], sector: np.ndarray | None) -> np.ndarray:
    """Px from each of `points` to the sector's edge; 0 beyond it."""
    seen = np.ones(shape, np.uint8) if sector is None else sector.astype(np.uint8)
    inside = cv2.distanceTransform(np.pad(seen, 1), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    x, y = np.rint(points).astype(int).T + 1
    in_image = (x >= 0) & (y >= 0) & (x < inside.shape[1]) & (y < inside.shape[0])
    return np.where(in_image, inside[np.where(in_image, y, 0), np.where(in_image, x, 0)], 0.0)


def _iou(points: np.ndarray, ellipse: Ellipse) -> float:
    """IoU of an outline and its ellipse, drawn on a grid of about 200 px so that the unit does not matter."""
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
    """One length of a cine. spread: robust standard deviation between the frames that are used (0 for one frame)."""

    value: float
    spread: float
    frames: int  # number of frames that are used
    left_out: int  # number of frames left out, because their length is far from the others


def join_values(values: Sequence[float]) -> Joined | None:
    """The median of the frames' values without outliers; None when no frame gave a value."""
    all_values = np.array([v for v in values if np.isfinite(v)], dtype=np.float64)
    if not len(all_values):
        return None
    middle, spread = np.median(all_values), _robust_sd(all_values)
    near = np.abs(all_values - middle) <= FAR_OUT * max(spread, 1e-3 * abs(middle))
    kept = all_values[near]
    return Joined(float(np.median(kept)), _robust_sd(kept), len(kept), int((~near).sum()))


def _robust_sd(values: np.ndarray) -> float:
    return float(1.4826 * np.median(np.abs(values - np.median(values))))
