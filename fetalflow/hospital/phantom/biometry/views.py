"""What a biometry cine shows: head, abdomen or femur in its measuring plane, moving slowly, and its true calipers.

Lengths in mm, angles in rad. x runs across the image, y down from the probe's face.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from fetalflow.biometry.calipers import fit_ellipse, long_side
from fetalflow.hospital.phantom.anatomy import cord, surround
from fetalflow.hospital.phantom.figure import Figure, Scene, ellipse
from fetalflow.hospital.phantom.growth import Sizes
from fetalflow.hospital.phantom.motion import probe_drift
from fetalflow.hospital.phantom.patients import Patient
from fetalflow.hospital.phantom.planes.anatomy import abdomen, brain, femur
from fetalflow.hospital.phantom.planes.views import Look, set_up_for_part
from fetalflow.hospital.phantom.scanner import Scanner
from fetalflow.settings.params import Phantom

PLANES = {"head": "Fetal brain", "abdomen": "Fetal abdomen", "femur": "Fetal femur"}  # by label
SHAFT = 1 / 1.1  # of the femur's length: planes.anatomy draws its ends beyond the shaft
STILL = 0.2  # share of the cines without fetal movement
SHADOWED = 0.3  # share with a structure in front that casts a shadow
BLURRED = 0.15  # share out of focus and with much persistence
MARGIN = 2.0  # px between a whole structure and the edge of the sector
LOST = 0.12, 0.45  # smallest and largest share of a partial view's outline that the sector cuts off
TRIES = 60
FINE = 8  # masks are drawn on a grid this much finer: cv2.fillPoly also fills every pixel that an edge touches


@dataclass(frozen=True)
class View:
    """One cine before it is filmed. drift: float32 [T, 3] mm, displacement of the probe. mask: uint8 [T, height,
    width], 1 where a pixel's centre lies in the structure and in the sector. ends: float64 [T, 4 or 2, 2], the marks
    of a perfect caliper on every frame: ends (x, y) in recorded px of the long axis and of the short one, or of the
    femur. lengths: mm by name (hc, bpd, ofd, ac, fl). seen: share of the outline (0-1) that lies in the sector on the
    worst frame; the lengths are those of the whole structure."""

    scene: Scene
    scanner: Scanner
    drift: np.ndarray
    mask: np.ndarray
    ends: np.ndarray
    lengths: dict[str, float]
    seen: float


def arrange(
    label: str,
    patient: Patient,
    partial: bool,
    fps: int,
    frames: int,
    settings: Phantom,
    seed: tuple[int, ...],
    size: np.ndarray | float = 1.0,
) -> View:
    """A view of a structure that is whole, or that the sector cuts off if `partial`. Until it is so, the probe is moved
    and the zoom reduced, at most TRIES times.

    size: of the section that each frame shows, float [T]; 1: the plane to measure in. A sweep through an ellipsoid has
    the square root of 1 - d squared at the distance d from its middle. `lengths` are those at 1.
    """
    rng = np.random.default_rng([*seed, 2])
    section = str(rng.choice(["Trans-thalamic", "Trans-ventricular"], p=(0.8, 0.2)))  # where heads are measured
    look = Look(PLANES[label], section, seed, clear=1.0, inside=False)
    time = np.arange(frames) / fps
    drift = probe_drift(time, rng)
    for attempt in range(TRIES):
        shot = np.random.default_rng([*seed, 3, attempt])
        scene, part, box = _lay(label, look, patient, time, partial, shot, size)
        scanner = replace(set_up_for_part(look, patient, box, 0.97**attempt, settings, shot), fps=fps)
        scanner = _narrow(scanner, box, shot) if partial else _widen(scanner, attempt)
        outline = np.concatenate([s.outline for s in part])
        lost = _lost(_moved(outline, scene, part[0].segment, drift), scanner)
        if LOST[0] <= lost.min() and lost.max() <= LOST[1] if partial else not lost.any():
            break
    if rng.random() < BLURRED:
        scanner = replace(scanner, aperture=rng.uniform(8, 13), persistence=rng.uniform(0.45, 0.65))
    calipers, lengths = _true_size(label, outline.astype(np.float64))
    ends = _on_screen(_moved(calipers, scene, part[0].segment, drift), scanner)
    mask = np.zeros((frames, scanner.height, scanner.width), np.uint8)
    for shape in part:
        outlines = _on_screen(_moved(shape.outline, scene, shape.segment, drift), scanner)
        for drawn, points in zip(mask, outlines, strict=True):
            drawn |= _fill(points, scanner)
    return View(scene, scanner, drift, mask, ends, lengths, float(1 - lost.max()))


def _lay(
    label: str,
    look: Look,
    patient: Patient,
    time: np.ndarray,
    partial: bool,
    shot: np.random.Generator,
    size: np.ndarray | float,
):
    """The scene, its labelled shapes, and the box around them over all frames: [[x0, y0], [x1, y1]].

    The anatomy comes from the seed of the look; its place and its movement come from `shot`.
    """
    f = Figure(time, np.random.default_rng([*look.seed, 4]), still=True)
    wall, gap = patient.uterus.wall, shot.uniform(2, 9)
    around = len(f.chain)
    root = f.segment(0, *_movement(label, time, shot), stretch=shot.choice([-1.0, 1.0]) * size, widen=size)
    f.labelled = True
    _draw(label, look.section, f, root, patient.sizes)
    part = _label(label, f)
    low, high = f.bounds()
    across = shot.normal(0, 4)
    if partial:
        across = shot.choice([-1, 1]) * shot.uniform(0.25, 0.5) * (high - low)[0]
    f.shift(around, by := np.array([across - (low + high)[0] / 2, wall + gap - low[1]]))
    box = np.stack([low, high]) + by
    behind = Figure(time, f.rng, still=True)
    uterus = replace(patient.uterus, back=box[1, 1] + shot.uniform(3, 22))
    surround(behind, uterus)
    if shot.random() < 0.5:
        cord(behind, np.array([shot.uniform(-50, 50), shot.uniform(wall + 5, uterus.back)]))
    f.shapes = [*behind.shapes, *f.shapes]
    if shot.random() < SHADOWED:
        _shade(f, box, wall, shot)
    return f.scene(), part, box


def _movement(label: str, time: np.ndarray, shot: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Place of the structure, float [T, 2] mm, and its angle, float [T] rad: a slow shift and a slow roll."""
    f = Figure(time, shot, still=bool(shot.random() < STILL))
    place = np.stack([f.swing(0, limit, (1.5, 4.0)) * np.ones_like(time) for limit in (5, 2)], -1)
    angle = shot.normal(0, 0.35) if label == "femur" else shot.normal(0, 0.2)
    return place, angle + np.deg2rad(f.swing(0, 7, (1.5, 4.0))) * np.ones_like(time)


def _draw(label: str, section: str, f: Figure, root: int, sizes: Sizes) -> None:
    if label == "head":
        brain(f, root, sizes, section, clear=1.0)
    elif label == "abdomen":
        abdomen(f, root, sizes, clear=0.9)
    else:
        femur(f, root, replace(sizes, fl=SHAFT * sizes.fl), clear=1.0)


def _label(label: str, f: Figure) -> list:
    """Label only what is measured, and return it: the outer edge of the skull, the skin of the abdomen, or the femur
    with its ends."""
    of = {"head": slice(1, 2), "abdomen": slice(0, 1), "femur": slice(-3, None)}[label]
    f.shapes = [replace(s, labelled=False) for s in f.shapes]
    f.shapes[of] = [replace(s, labelled=True) for s in f.shapes[of]]
    return f.shapes[of]


def _shade(f: Figure, box: np.ndarray, wall: float, shot: np.random.Generator) -> None:
    """Draw bone or gas in front: a limb across the beam, a rib of the mother, air under the probe."""
    f.labelled = False
    for _ in range(shot.integers(1, 3)):
        at = shot.uniform(box[0, 0], box[1, 0]), shot.uniform(0.75 * wall, box[0, 1] - 0.5)
        f.add(0, "rib", ellipse(shot.uniform(2, 6), shot.uniform(1, 2), at), level=shot.uniform(-10, -2))


def _widen(scanner: Scanner, attempt: int) -> Scanner:
    return replace(scanner, half_angle=scanner.half_angle + np.deg2rad(0.7 * attempt), depth=scanner.depth + attempt)


def _narrow(scanner: Scanner, box: np.ndarray, shot: np.random.Generator) -> Scanner:
    """Narrow the sector, so that its edge runs through the structure."""
    middle, wide = abs(box.mean(0)[0]), np.ptp(box[:, 0])
    edge = middle + (0.5 - shot.uniform(0.1, 0.35)) * wide
    return replace(scanner, half_angle=float(np.arctan2(edge, box.mean(0)[1] + scanner.radius)))


def _moved(points: np.ndarray, scene: Scene, segment: int, drift: np.ndarray) -> np.ndarray:
    """Points [P, 2] of a segment as the probe sees them, float64 [T, P, 2] mm."""
    maps = scene.transforms[:, segment].astype(np.float64)
    turned = [points[:, 0] * maps[:, i, :1] + points[:, 1] * maps[:, i, 1:2] + maps[:, i, 2:] for i in (0, 1)]
    return np.stack(turned, -1) - drift[:, None, :2]


def _lost(outline: np.ndarray, scanner: Scanner) -> np.ndarray:
    """Share of an outline [T, P, 2] on each frame that lies outside the sector or the screen, or within MARGIN."""
    depth, _, line = scanner.polar(outline[..., 0], outline[..., 1])
    inside = np.abs(line / (scanner.lines - 1) - 0.5) * 2 * scanner.half_angle  # angle from the middle
    margin = MARGIN * scanner.mm_per_px
    beside = (scanner.half_angle - inside) * (depth + scanner.radius) < margin
    x, y = outline[..., 0] / scanner.mm_per_px + scanner.centre, outline[..., 1] / scanner.mm_per_px + scanner.top
    off = (x < MARGIN) | (y < MARGIN) | (x > scanner.width - 1 - MARGIN) | (y > scanner.height - 1 - MARGIN)
    return (beside | off | (depth < margin) | (depth > scanner.depth - margin)).mean(axis=1)


def _on_screen(points: np.ndarray, scanner: Scanner) -> np.ndarray:
    """Points [..., 2] (x, y) from mm to recorded px. The centre of a pixel has whole numbers."""
    return points / scanner.mm_per_px + (scanner.centre, scanner.top)


def _fill(outline: np.ndarray, scanner: Scanner) -> np.ndarray:
    """uint8 [height, width], 1 inside of an outline [P, 2] px and of the sector."""
    fine = np.zeros((scanner.height * FINE, scanner.width * FINE), np.uint8)
    cv2.fillPoly(fine, [np.round(outline * FINE * 16).astype(np.int32)], 1, shift=4)
    return fine[::FINE, ::FINE] * scanner.sector


def _true_size(label: str, outline: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    """Caliper marks and lengths in mm of the true outline, float64 [P, 2], in the coordinates of its segment."""
    if label == "femur":
        ends = long_side(outline)
        return ends, {"fl": float(np.linalg.norm(ends[1] - ends[0]))}
    found = fit_ellipse(outline)
    ends = found.ends().reshape(4, 2)
    if label == "abdomen":
        return ends, {"ac": found.circumference}
    return ends, {"hc": found.circumference, "bpd": found.short, "ofd": found.long}
