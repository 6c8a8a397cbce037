"""How a plane is shown on the screen: its surroundings, the probe and the zoom.

Lengths in mm, angles in rad. x runs across the image, y down from the probe's face.
"""

from dataclasses import dataclass, replace

import numpy as np

from fetalflow.hospital.phantom.anatomy import bystander, cord, surround
from fetalflow.hospital.phantom.console import set_up
from fetalflow.hospital.phantom.figure import Figure, ellipse
from fetalflow.hospital.phantom.patients import Patient
from fetalflow.hospital.phantom.planes.anatomy import BRAIN_PLANES, abdomen, brain, femur, thorax
from fetalflow.hospital.phantom.planes.cervix import cervix
from fetalflow.hospital.phantom.planes.elsewhere import SECTIONS
from fetalflow.hospital.phantom.scanner import Scanner
from fetalflow.settings.params import Phantom

# FETAL_PLANES_DB's names and the numbers of its file names
PLANES = {"Other": 1, "Fetal abdomen": 2, "Fetal brain": 3, "Maternal cervix": 4, "Fetal femur": 5, "Fetal thorax": 6}
NOT_A_BRAIN = "Not A Brain"
AMBIGUOUS = 0.1  # share of the looks (see Look) at a standard plane without some of its landmarks
ENDOCAVITY = 0.7  # share of the cervices scanned through the vagina; the others are scanned through a full bladder
BESIDE = 0.25  # share of the looks with another part of the fetus at the edge of the view
FILL = {  # share of the screen that the part fills
    "Fetal abdomen": (0.6, 0.95), "Fetal brain": (0.65, 1.0), "Fetal femur": (0.4, 0.75),
    "Fetal thorax": (0.65, 1.2), "Maternal cervix": (0.3, 0.5), "Other": (0.5, 1.05),
}  # fmt: skip


@dataclass(frozen=True)
class Look:
    """One look at a patient: a run of pictures of the same anatomy, each from a slightly different place.

    section: the brain plane, or a key of SECTIONS for the plane "Other"; seed: of the anatomy; clear: share of the
    landmarks (0-1) that the section shows.
    """

    plane: str
    section: str
    seed: tuple[int, ...]
    clear: float
    inside: bool  # an endocavity probe in the vagina

    @property
    def brain_plane(self) -> str:
        return self.section if self.plane == "Fetal brain" else NOT_A_BRAIN


def choose(plane: str, seed: tuple[int, ...]) -> Look:
    """Draw at random how a look at a plane is taken."""
    rng = np.random.default_rng([*seed, 2])
    clear = rng.uniform(0.1, 0.4) if rng.random() < AMBIGUOUS else rng.uniform(0.88, 1.0)
    section, inside = "", plane == "Maternal cervix" and rng.random() < ENDOCAVITY
    if plane == "Fetal brain":
        section = "Other" if clear < 0.5 else str(rng.choice(BRAIN_PLANES, p=(0.5, 0.25, 0.25)))
    elif plane == "Other":
        shares = np.array([share for _, share in SECTIONS.values()])
        section = str(rng.choice(list(SECTIONS), p=shares / shares.sum()))
        inside = section in ("placenta", "vault") and rng.random() < 0.5
    return Look(plane, section, seed, clear, bool(inside))


def _draw(look: Look, f: Figure, root: int, patient: Patient) -> None:
    drawn = {"Fetal abdomen": abdomen, "Fetal femur": femur, "Fetal thorax": thorax, "Maternal cervix": cervix}
    f.labelled = True
    if look.plane == "Fetal brain":
        brain(f, root, patient.sizes, look.section, look.clear)
    elif look.plane == "Other":
        SECTIONS[look.section][0](f, root, patient.sizes)
    else:
        drawn[look.plane](f, root, patient.sizes, look.clear)
    f.labelled = False


def _orientation(plane: str, section: str, rng: np.random.Generator) -> tuple[float, float]:
    """The angle of the part in rad, and its direction along x, 1 or -1."""
    direction = rng.choice([-1.0, 1.0])
    if plane == "Maternal cervix":
        return rng.normal(0.12, 0.2), -1.0 if rng.random() < 0.9 else 1.0
    if plane == "Fetal femur" or section in ("bones", "thigh", "arm", "leg", "hand", "foot"):
        return rng.normal(0, 0.35) if rng.random() < 0.85 else rng.uniform(-1.2, 1.2), direction
    return rng.normal(0, 0.2), direction


def arrange(look: Look, patient: Patient, shot: np.random.Generator) -> tuple[Figure, np.ndarray]:
    """The scene of one picture, one frame long, and the box of the part in view: [[x0, y0], [x1, y1]].

    The anatomy comes from the seed of the look. Two pictures of a look differ only by the place and the tilt of the
    probe, which come from `shot`, the generator of one picture.
    """
    rng = np.random.default_rng([*look.seed, 3])
    part = Figure(np.zeros(1), rng, still=True)
    turn, direction = _orientation(look.plane, look.section, rng)
    root = part.segment(0, angle=turn + shot.normal(0, 0.1), stretch=direction * shot.normal(1, 0.03))
    _draw(look, part, root, patient)
    box = np.stack(part.bounds()) if part.shapes else np.array([(-35.0, 0.0), (35.0, 45.0)])
    f = Figure(np.zeros(1), rng, still=True)
    gap = rng.uniform(1, 10)
    if look.inside:
        top = rng.uniform(9, 16) if look.plane == "Maternal cervix" else rng.uniform(5, 12)
        f.add(0, "soft", ellipse(150, 150, (0, 60)), level=rng.normal(-4, 1.5))
    else:
        wall, cervix_below = patient.uterus.wall, look.plane == "Maternal cervix"
        back = wall + gap + (box[1] - box[0])[1] + rng.uniform(3, 22)
        surround(f, replace(patient.uterus, back=back))
        top = wall + gap
        if cervix_below:  # seen through the bladder, without amniotic fluid in front
            top = wall + rng.uniform(16, 26)
            f.add(0, "soft", ellipse(150, 150, (0, wall + 150)), level=-4)
            f.add(0, "hole", ellipse(rng.uniform(28, 42), (top - wall) / 2, (rng.normal(0, 8), (wall + top) / 2 - 1)))
        if not cervix_below and rng.random() < 0.5:
            cord(f, np.array([rng.uniform(-50, 50), rng.uniform(wall + 5, back)]))
        if not cervix_below and rng.random() < BESIDE:
            bystander(f, "", patient.sizes, replace(patient.uterus, back=max(back, wall + 20)), np.zeros((1, 2)))
    across = rng.normal(0, 4)
    if rng.random() < (0.05 if look.clear > 0.5 else 0.6):  # half of it outside the sector
        across = rng.choice([-1, 1]) * rng.uniform(0.35, 0.6) * np.ptp(box[:, 0])
    by = np.array([across - box[:, 0].mean(), top - box[0, 1]]) + shot.normal(0, (5.0, 1.5))
    part.shift(1, by)
    return _merge(f, part), box + by


def _merge(below: Figure, above: Figure) -> Figure:
    """One figure with the segments and shapes of both; `above` covers `below`."""
    first = len(below.chain) - 1
    below.chain += above.chain[1:]
    below.shapes += [replace(s, segment=s.segment + first) for s in above.shapes]
    return below


def set_up_for_part(
    look: Look, patient: Patient, box: np.ndarray, zoom: float, settings: Phantom, shot: np.random.Generator
) -> Scanner:
    """The scanner with probe, depth and zoom for the part in `box`. zoom: habit of the operator (see Operator)."""
    rng = np.random.default_rng([*look.seed, 4])
    depth = max(box[1, 1] + rng.uniform(6, 28), 60.0)
    scanner = set_up(patient, depth, int(patient.site.fps[0]), settings, shot)
    if look.clear < 0.5:
        scanner = replace(scanner, gain=scanner.gain - rng.uniform(0, 6))
    if look.inside:
        scanner = replace(
            scanner, radius=rng.uniform(9, 12), half_angle=np.deg2rad(rng.uniform(58, 72)),
            depth=rng.uniform(62, 85), megahertz=scanner.megahertz + 1.8, clutter=scanner.clutter - 4,
        )  # fmt: skip
        return replace(scanner, mm_per_px=scanner.depth * rng.uniform(0.95, 1.15) / (0.9 * scanner.height))
    wide, high = box[1] - box[0]
    fill = rng.uniform(*FILL[look.plane]) * zoom * shot.uniform(0.85, 1.15)
    scale = max(wide / scanner.width, high / scanner.height) / fill
    scale = float(np.clip(scale, 0.4 * scanner.mm_per_px, 1.05 * scanner.mm_per_px))
    middle = box.mean(0) + shot.normal(0, 0.04, 2) * (wide, high)
    highest = -0.05 * scanner.height * scale
    lowest = max(highest, scanner.depth - 0.93 * scanner.height * scale)
    # A scanner takes a zoomed picture with fewer, denser lines: the sector narrows around the part.
    corner = np.abs(box[:, 0]).max() + 0.12 * wide
    half_angle = np.arctan2(corner, box[0, 1] + 0.35 * high + scanner.radius) * rng.uniform(1.0, 1.5)
    above = np.clip(middle[1] - 0.5 * scanner.height * scale, highest, lowest)
    return replace(
        scanner, mm_per_px=scale, top=float(-above / scale), centre=float(scanner.width / 2 - middle[0] / scale),
        half_angle=float(min(scanner.half_angle, half_angle)), focus=float(box.mean(0)[1] * shot.uniform(0.8, 1.2)),
        aperture=rng.uniform(26, 38), noise=rng.uniform(-86, -78),
    )  # fmt: skip
