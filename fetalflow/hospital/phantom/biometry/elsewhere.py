"""What a biometry cine shows where there is nothing to measure: a thorax, a cervix, or another view of the planes."""

from dataclasses import replace

import numpy as np

from fetalflow.hospital.phantom.biometry.views import View
from fetalflow.hospital.phantom.motion import probe_drift
from fetalflow.hospital.phantom.patients import Patient
from fetalflow.hospital.phantom.planes import views as planes
from fetalflow.settings.params import Phantom

SHARES = {"Fetal thorax": 0.4, "Maternal cervix": 0.2, "Other": 0.4}  # of the cines without a structure


def arrange_elsewhere(patient: Patient, fps: int, frames: int, settings: Phantom, seed: tuple[int, ...]) -> View:
    """A view without a structure: no length, an empty mask and no calipers. Only the probe moves."""
    rng = np.random.default_rng([*seed, 2])
    look = planes.choose(str(rng.choice(list(SHARES), p=list(SHARES.values()))), seed)
    figure, box = planes.arrange(look, patient, rng)
    scanner = replace(planes.set_up_for_part(look, patient, box, 1.0, settings, rng), fps=fps)
    scene = figure.scene()
    scene = replace(scene, transforms=np.repeat(scene.transforms, frames, axis=0))
    drift = probe_drift(np.arange(frames) / fps, rng)
    mask = np.zeros((frames, scanner.height, scanner.width), np.uint8)
    return View(scene, scanner, drift, mask, np.zeros((frames, 0, 2)), {}, 0.0)
