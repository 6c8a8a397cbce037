"""Scenes in which only movement names the label: arm, hand, leg and foot are all in view, and one of them moves, or
only the probe does, or nothing.

One frame says nothing about the label, by construction. Every part goes to and fro for ever with a random phase. A part
that does not move rests at a random point of the same way, so that its pose in a frame has the same distribution as
that of a part that moves. A probe that does not move rests at a random point of the way that it would take. Each pose
of a patient is filmed once with every label, and the scanner does not mix a frame with the one before, which would blur
what moves.

Lengths in mm, angles in rad. x runs across the image, y down from the probe's face.
"""

from collections.abc import Mapping

import numpy as np

from fetalflow.hospital.phantom.anatomy import PARTS, Uterus, surround
from fetalflow.hospital.phantom.figure import Figure, Scene
from fetalflow.hospital.phantom.growth import Sizes
from fetalflow.hospital.phantom.motion import probe_drift, to_and_fro

IN_VIEW = ("arm", "hand", "leg", "foot")
PROBE, STILL = "probe", "still"
LABELS = (*IN_VIEW, PROBE, STILL)
APART_MM = 28.0  # between the middles of two neighbours
MIDDLE = 0.5  # of the femur's length: from the joint at which a part begins to about its middle
QUICKER = 0.6  # of the periods of `limbs`: in ten frames, a third of a second, every movement can be seen
HORIZON_S = 100.0  # random moments at which a part rests, or starts to move


class Posed(Figure):
    """A figure whose movements go on for ever, so that no frame of them is special."""

    def swing(self, low: float, high: float, period: tuple[float, float]) -> np.ndarray:
        amplitude, duration = self.rng.uniform(low, high), QUICKER * self.rng.uniform(*period)
        return amplitude * to_and_fro(self.time, duration, self.rng.random())

    def kick(self, duration: float) -> np.ndarray:
        return to_and_fro(self.time, 2 * duration, self.rng.random())


def compose_moving(
    label: str, s: Sizes, u: Uterus, time: np.ndarray, rng: np.random.Generator
) -> tuple[Scene, np.ndarray]:
    """The scene of one cine, and the drift of the probe, float32 [T, 3] mm.

    label: of LABELS. time: float [T] s. rng: of the pose; the draws are the same for every label, so that cines with
    equal `rng` differ only in what moves. The labelled shapes are those of the part that moves.
    """
    f = Posed(time, rng, False)
    surround(f, u)
    # In the middle frame every part is at its random moment.
    pose_parts(f, {label: time - time[len(time) // 2]}, s, u)
    f.time = time
    way, drifts = probe_drift(time, rng), rng.random() < 0.5
    way = way - way[rng.integers(len(time))]
    rest = way[rng.integers(len(time))]
    moves = label == PROBE or (label != STILL and drifts)
    return f.scene(), way if moves else np.broadcast_to(rest, way.shape)


def pose_parts(f: Posed, clocks: Mapping[str, np.ndarray], s: Sizes, u: Uterus) -> dict[str, list[int]]:
    """Draw the parts of IN_VIEW at random places. Returns the numbers of the shapes of each part.

    clocks: by part, float [T] s, the elapsed time of its movement since a random moment; it moves where this changes.
    A part without a clock rests, and the shapes of the others are labelled.
    """
    rng, shapes = f.rng, {}
    places = rng.permutation(len(IN_VIEW))
    for name, place in zip(IN_VIEW, places, strict=True):
        # Also the way of a part that moves begins at a random moment.
        f.time = rng.uniform(0, HORIZON_S) + clocks.get(name, np.zeros_like(f.time))
        f.labelled = name in clocks
        first, drawn = len(f.chain), len(f.shapes)
        angle = rng.uniform(0, 2 * np.pi)
        PARTS[name](f, f.segment(0, angle=angle), s)
        middle = np.array([(place - (len(IN_VIEW) - 1) / 2) * APART_MM, rng.uniform(u.wall + 15, u.back - 15)])
        # Not by the bounds of the outline, which are larger for a part that moves.
        f.shift(first, middle + rng.normal(0, 3, 2) - MIDDLE * s.fl * np.array([np.cos(angle), np.sin(angle)]))
        shapes[name] = list(range(drawn, len(f.shapes)))
    return shapes
