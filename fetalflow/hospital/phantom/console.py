"""The console of an ultrasound machine: its settings, and what it writes into the images."""

import cv2
import numpy as np

from fetalflow.hospital.phantom.patients import Patient
from fetalflow.hospital.phantom.scanner import Scanner
from fetalflow.settings.params import Phantom


def set_up(patient: Patient, depth: float, fps: int, settings: Phantom, rng: np.random.Generator) -> Scanner:
    """The scanner of the patient's site, set to a depth of about `depth` mm. Settings vary a little between cines."""
    site, height = patient.site, settings.height
    depth = depth * rng.uniform(0.97, 1.03)
    return Scanner(
        radius=site.radius,
        half_angle=np.deg2rad(site.angle / 2),
        depth=depth,
        megahertz=site.megahertz,
        fps=fps,
        height=height,
        width=settings.width,
        mm_per_px=depth / (0.9 * height) / site.zoom,
        top=(0.04 - 0.5 * max(site.zoom - 1, 0)) * height,
        centre=settings.width * (0.5 + rng.normal(0, 0.01)),
        gain=site.gain - patient.loss + rng.normal(0, 2),
        dynamic_range=site.dynamic_range,
        focus=depth * rng.uniform(0.4, 0.75),
        tgc=tuple(np.array(site.tgc) + rng.normal(0, 1, len(site.tgc))),
        gamma=site.gamma,
        persistence=site.persistence,
    )


def burn_in(frames: np.ndarray, patient: Patient, scanner: Scanner) -> None:
    """Draw names, settings, a depth scale, a grey wedge and a logo into frames uint8 [T, H, W]."""
    height, width = frames.shape[1:]
    unit, site = height / 240, patient.site
    plate = np.zeros((height, width), np.uint8)

    def write(text: str, x: float, y: float, size: float = 0.28, grey: int = 190) -> None:
        cv2.putText(plate, text, (int(x), int(y)), cv2.FONT_HERSHEY_SIMPLEX, size * unit, grey, 1, cv2.LINE_AA)

    left, right = 4 * unit, width - 62 * unit
    write(site.device.upper(), left, 10 * unit, 0.3, 230)
    write(site.name.split()[0][:12], left, 20 * unit)
    write(f"ID {patient.name}", left, 30 * unit)
    write(f"GA {patient.sizes.weeks:.0f}w", left, 40 * unit)
    write(f"{scanner.megahertz:.1f}MHz", right, 10 * unit)
    write(f"G {50 + scanner.gain:.0f}  {scanner.fps:.0f}Hz", right, 20 * unit)
    write(f"{scanner.depth / 10:.1f}cm", right, 30 * unit)
    step = 10 / scanner.mm_per_px  # px per centimetre
    for centimetre in range(int((height - 4 - scanner.top) / step) + 1):
        y = int(scanner.top + centimetre * step)
        cv2.line(plate, (width - 1 - (6 if centimetre % 5 == 0 else 3), y), (width - 2, y), 200, 1)
    wedge = np.linspace(255, 0, int(60 * unit)).astype(np.uint8)[:, None]
    plate[int(50 * unit) : int(50 * unit) + len(wedge), int(3 * unit) : int(8 * unit)] = wedge
    cv2.circle(plate, (int(12 * unit), int(height - 10 * unit)), int(6 * unit), 210, 1, cv2.LINE_AA)
    write(site.device[0], 9 * unit, height - 7 * unit, 0.3, 230)
    np.maximum(frames, plate, out=frames)
