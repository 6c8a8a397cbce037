"""The hospitals of the phantom. Each has one device, with an image style and a file format, and two readers."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Site:
    """A hospital and its one device. Angles in degrees, levels in dB, lengths in mm."""

    name: str
    device: str
    suffix: str
    fps: tuple[int, ...]
    megahertz: float
    radius: float
    angle: float  # of the whole sector
    gain: float
    dynamic_range: float
    tgc: tuple[float, ...]
    gamma: float
    persistence: float
    zoom: float
    readers: tuple[str, str]


SITES = (
    Site("Northfield University Hospital", "Sonara E10", ".dcm", (30, 36), 4.25, 55, 66, 4, 60, (0, 1, -1, 0), 1.0, 0.1,
         1.0, ("NF-1", "NF-2")),
    Site("Brigid Women's Hospital", "Velox U7", ".mp4", (30,), 5.0, 50, 70, 0, 56, (2, 0, 0, -3), 0.9, 0.25, 0.94,
         ("BW-1", "BW-2")),
    Site("Lindenau District Clinic", "Corvus 220", ".avi", (25, 28), 3.5, 60, 58, 7, 66, (-3, 0, 2, 3), 1.15, 0.0, 1.08,
         ("LD-1", "LD-2")),
    Site("Harbour Maternity Centre", "Sonara P4", ".mov", (40, 33), 4.5, 52, 74, 2, 52, (1, -2, 1, 2), 1.0, 0.35, 0.9,
         ("HM-1", "HM-2")),
    Site("Alpine Regional Hospital", "Meridian M5", ".mpg", (25, 30), 4.0, 58, 62, -3, 70, (0, 3, 0, -2), 0.8, 0.15,
         1.02, ("AR-1", "AR-2")),
)  # fmt: skip
