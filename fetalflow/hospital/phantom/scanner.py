"""A convex ultrasound scanner, from moving scatterers to B-mode frames (docs/architecture.md, the synthetic hospital).

Point scatterers ride on the tissue. Each frame sums them, with the phase of their two-way travel, into a polar grid;
a separable point spread function, attenuation, shadow, gain, log compression and scan conversion follow.
"""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from fetalflow.hospital.phantom.figure import TISSUES, Scene

SPEED_MM_US = 1.54
SCATTERERS_PER_MM2 = 7.0
EDGE_PER_MM = 7.0
ELEVATION_SIGMA_MM = 1.3  # thickness of the image plane
SLAB_MM = 3.0  # scatterers lie this far before and behind the plane
NEAR_MM = 12.0  # tissue this far outside the sector may still drift into it
BONES = ("bone", "skull")
BESIDE = 0.1  # share of the amplitude that passes a bone, which is thinner than the image plane
TGC_DB_CM_MHZ = 0.30  # what the console compensates, one way; tissue attenuates more, fluid hardly


@dataclass(frozen=True)
class Scanner:
    """Probe, console and screen of one cine. Lengths in mm, angles in rad, levels in dB."""

    radius: float  # of the probe's face
    half_angle: float  # of the sector
    depth: float
    megahertz: float
    fps: float
    height: int  # px of the screen
    width: int
    mm_per_px: float
    top: float  # y of the middle of the probe's face, px
    centre: float  # its x, px
    gain: float
    dynamic_range: float
    focus: float  # mm
    tgc: tuple[float, ...]  # depth gain: the console's sliders, evenly over depth
    gamma: float = 1.0  # of the grey map
    persistence: float = 0.0  # share of the previous frame that stays
    noise: float = -74.0
    aperture: float = 20.0  # mm; a larger one gives a finer lateral resolution
    clutter: float = -26.0  # reverberation of the abdominal wall at the probe's face

    @cached_property
    def samples(self) -> int:
        return int(round(1.7 * self.height))

    @cached_property
    def lines(self) -> int:
        return int(round(0.62 * self.height))

    @cached_property
    def depths(self) -> np.ndarray:
        """float32 [samples] mm from the probe's face."""
        return np.linspace(0, self.depth, self.samples, dtype=np.float32)

    def polar(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Depth in mm, and fractional sample and line, of points x (across), y (down from the face's middle) in mm."""
        below = y + np.float32(self.radius)
        depth = np.sqrt(x * x + below * below) - np.float32(self.radius)
        line = (np.arctan2(x, below) / self.half_angle + 1) * ((self.lines - 1) / 2)
        return depth, depth * ((self.samples - 1) / self.depth), line

    @cached_property
    def maps(self) -> tuple[np.ndarray, np.ndarray]:
        """Scan conversion: where each screen pixel lies in the polar grid, in the form that cv2.remap takes."""
        v, u = np.mgrid[: self.height, : self.width].astype(np.float32)
        _, sample, line = self.polar((u - self.centre) * self.mm_per_px, (v - self.top) * self.mm_per_px)
        return cv2.convertMaps(line.astype(np.float32), sample.astype(np.float32), cv2.CV_16SC2)

    @cached_property
    def sector(self) -> np.ndarray:
        """bool [height, width]: pixels that the beam reaches."""
        v, u = np.mgrid[: self.height, : self.width].astype(np.float32)
        _, sample, line = self.polar((u - self.centre) * self.mm_per_px, (v - self.top) * self.mm_per_px)
        return (sample >= 0) & (sample <= self.samples - 1) & (line >= 0) & (line <= self.lines - 1)


def scan(scene: Scene, drift: np.ndarray, scanner: Scanner, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Film a scene.

    drift: float32 [T, 3] mm, displacement of the probe. Returns frames uint8 [T, height, width] without overlays,
    and masks uint8 [T, height, width], 1 where the labelled anatomy is.
    """
    tissue, console, outlines = _Scatterers(scene, scanner, rng), _Console(scanner, rng), _Outlines(scene)
    frames = np.empty((len(drift), scanner.height, scanner.width), np.uint8)
    masks = np.zeros_like(frames)
    before = None
    for t, probe in enumerate(drift):
        transforms = scene.transforms[t].copy()
        transforms[:, :, 2] -= probe[:2]
        anatomy = outlines.paint(transforms, scanner)
        grey = console.develop(tissue.echo(transforms, probe[2], anatomy), scene, anatomy, rng)
        if before is not None:
            grey = scanner.persistence * before + (1 - scanner.persistence) * grey
        before = grey
        frames[t] = cv2.remap(grey, *scanner.maps, cv2.INTER_LINEAR, borderValue=0)
        for shape in (s for s in scene.shapes if s.labelled):
            points = _move(shape.outline, transforms[shape.segment]) / scanner.mm_per_px
            points = np.round((points + (scanner.centre, scanner.top)) * 16).astype(np.int32)
            cv2.fillPoly(masks[t], [points], 1, shift=4)
    frames[:, ~scanner.sector] = 0
    masks[:, ~scanner.sector] = 0
    return frames, masks


def _move(points: np.ndarray, transform: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Points [P, 2] under an affine map [2, 3], or under a map each, [P, 2, 3]. Not a matrix product: BLAS may round it
    differently in another process or on more threads, and the same settings must give the same bytes."""
    out = np.empty(points.shape, np.float32) if out is None else out
    for axis in (0, 1):
        across, down, shift = (transform[..., axis, i] for i in range(3))
        out[:, axis] = points[:, 0] * across + points[:, 1] * down + shift
    return out


class _Outlines:
    """The outlines of all shapes, one after another, so that each frame moves them in one step."""

    def __init__(self, scene: Scene) -> None:
        outlines = [shape.outline for shape in scene.shapes]
        self.points = np.concatenate(outlines)
        self.segment = np.repeat([shape.segment for shape in scene.shapes], [len(o) for o in outlines])
        self.ends = np.cumsum([len(outline) for outline in outlines])[:-1]

    def paint(self, transforms: np.ndarray, scanner: Scanner) -> np.ndarray:
        """uint8 [samples, lines]: 1 + index of the topmost shape; 0 is amniotic fluid."""
        anatomy = np.zeros((scanner.samples, scanner.lines), np.uint8)
        _, sample, line = scanner.polar(*_move(self.points, transforms[self.segment]).T)
        corners = np.round(np.stack([line, sample], -1) * 16).astype(np.int32)
        for index, outline in enumerate(np.split(corners, self.ends), start=1):
            cv2.fillPoly(anatomy, [outline], index, shift=4)
        return anatomy


class _Scatterers:
    """All point scatterers, sorted by segment, in the coordinates of their segments."""

    def __init__(self, scene: Scene, scanner: Scanner, rng: np.random.Generator) -> None:
        self.scanner, self.wave = scanner, np.float32(4 * np.pi * scanner.megahertz / SPEED_MM_US)
        bulk = [_fill(shape, index, rng) for index, shape in enumerate(scene.shapes, start=1)]
        edge = [_trace(shape, index, rng) for index, shape in enumerate(scene.shapes, start=1)]
        clouds = [self._near(c, scene.transforms) for c in [*bulk, *edge, _float(scanner, rng)]]
        clouds.sort(key=lambda c: c["segment"])
        self.place, self.normal, self.level, self.order = (
            np.concatenate([c[key] for c in clouds]) for key in ("place", "normal", "level", "order")
        )
        self.segment = np.concatenate([np.full(len(c["place"]), c["segment"]) for c in clouds])
        bounds = np.searchsorted(self.segment, np.arange(len(scene.transforms[0]) + 1))
        self.slices = [slice(a, b) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
        count = len(self.place)
        self.level = self.level * np.sqrt(rng.exponential(1, count)).astype(np.float32)  # Rayleigh
        self.phase = rng.uniform(0, 2 * np.pi, count).astype(np.float32)
        self.across = rng.uniform(-SLAB_MM, SLAB_MM, count).astype(np.float32)
        self.is_edge = self.normal.any(1)

    def _near(self, cloud: dict, transforms: np.ndarray) -> dict:
        """Only the scatterers that lie in the sector, or near it, in the first, middle or last frame."""
        s, near = self.scanner, np.zeros(len(cloud["place"]), bool)
        for t in (0, len(transforms) // 2, -1):
            depth, _, line = s.polar(*_move(cloud["place"], transforms[t, cloud["segment"]]).T)
            near |= (depth > -NEAR_MM) & (depth < s.depth + NEAR_MM) & (np.abs(line / s.lines - 0.5) < 0.65)
        return {key: value if key == "segment" else value[near] for key, value in cloud.items()}

    def echo(self, transforms: np.ndarray, elevation: float, anatomy: np.ndarray) -> np.ndarray:
        """Complex echo before the point spread function, float32 [samples, lines, 2]."""
        s = self.scanner
        place = np.empty_like(self.place)
        for segment, rows in enumerate(self.slices):
            _move(self.place[rows], transforms[segment], out=place[rows])
        depth, sample, line = s.polar(place[:, 0], place[:, 1])
        row, column = np.rint(sample).astype(np.int32), np.rint(line).astype(np.int32)
        cell = row * s.lines + column
        seen = np.flatnonzero((row >= 0) & (row < s.samples) & (column >= 0) & (column < s.lines))
        seen = seen[anatomy.ravel()[cell[seen]] <= self.order[seen]]  # no other shape covers it
        depth, cell = depth[seen], cell[seen]
        off_plane = (self.across[seen] - elevation) / ELEVATION_SIGMA_MM
        level = self.level[seen] * np.exp(-off_plane * off_plane / 2)
        edge = np.flatnonzero(self.is_edge[seen])
        level[edge] *= self._facing(seen[edge], place, depth[edge], transforms)
        angle = self.phase[seen] - self.wave * depth
        size = s.samples * s.lines
        both = [np.bincount(cell, level * wave(angle), size) for wave in (np.cos, np.sin)]
        return np.stack(both, -1).reshape(s.samples, s.lines, 2).astype(np.float32)

    def _facing(self, edge: np.ndarray, place: np.ndarray, depth: np.ndarray, transforms: np.ndarray) -> np.ndarray:
        """Share of each edge's echo that returns, float [n]. An edge that faces the beam reflects like a mirror."""
        normal = np.einsum("nij,nj->ni", transforms[self.segment[edge], :, :2], self.normal[edge])
        beam = (place[edge] + np.float32([0, self.scanner.radius])) / (depth + np.float32(self.scanner.radius))[:, None]
        return 0.12 + 0.88 * (normal * beam).sum(1) ** 4


def _fill(shape, order: int, rng: np.random.Generator) -> dict:
    """Scatterers inside an outline. Their level varies slowly over the tissue."""
    tissue, low = TISSUES[shape.tissue], shape.outline.min(0) - 1
    step = 0.25
    size = np.ceil((shape.outline.max(0) + 1 - low) / step).astype(int)
    inside = np.zeros(size[::-1], np.uint8)
    cv2.fillPoly(inside, [np.round((shape.outline - low) / step * 16).astype(np.int32)], 1, shift=4)
    rows, columns = np.nonzero(inside)
    count = int(len(rows) * step**2 * SCATTERERS_PER_MM2) if tissue.echo > -90 else 0
    pick = rng.integers(0, max(len(rows), 1), count)
    place = np.stack([columns[pick], rows[pick]], -1) * step + rng.uniform(-step / 2, step / 2, (count, 2)) + low
    waves = rng.normal(0, 1, (4, 2)) / tissue.grain * (1, tissue.layered)
    slow = [np.sin(place[:, 0] * x + place[:, 1] * y + rng.uniform(0, 6.3)) for x, y in waves]
    unevenness = np.add.reduce(slow) * tissue.uneven / 2
    level = 10 ** ((tissue.echo + shape.level + unevenness) / 20)
    return _cloud(place, np.zeros((count, 2)), level, order, shape.segment)


def _trace(shape, order: int, rng: np.random.Generator) -> dict:
    """Scatterers along an outline, with the normals of the outline."""
    tissue, points = TISSUES[shape.tissue], shape.outline
    steps = np.roll(points, -1, 0) - points
    lengths = np.hypot(*steps.T)
    count = int(lengths.sum() * EDGE_PER_MM) if tissue.edge > -90 else 0
    pick = np.searchsorted(np.cumsum(lengths), rng.uniform(0, lengths.sum(), count)).clip(0, len(points) - 1)
    normal = np.stack([steps[pick, 1], -steps[pick, 0]], -1) / np.maximum(lengths[pick, None], 1e-6)
    place = points[pick] + steps[pick] * rng.uniform(0, 1, (count, 1)) + normal * rng.normal(0, 0.15, (count, 1))
    level = np.full(count, 10 ** ((tissue.edge + shape.level) / 20))
    return _cloud(place, normal, level, order, shape.segment)


def _float(scanner: Scanner, rng: np.random.Generator) -> dict:
    """Vernix and cells floating in the amniotic fluid."""
    reach = (scanner.radius + scanner.depth) * np.sin(scanner.half_angle)
    count = int(2 * reach * scanner.depth * 1.5)
    place = rng.uniform((-reach, 0), (reach, scanner.depth), (count, 2))
    return _cloud(place, np.zeros((count, 2)), np.full(count, 10 ** (TISSUES["fluid"].echo / 20)), 0, 0)


def _cloud(place, normal, level, order: int, segment: int) -> dict:
    return {
        "place": place.astype(np.float32),
        "normal": normal.astype(np.float32),
        "level": level.astype(np.float32),
        "order": np.full(len(place), order, np.uint8),
        "segment": segment,
    }


class _Console:
    """Turns the complex echo into grey. It holds what does not change within a cine."""

    def __init__(self, scanner: Scanner, rng: np.random.Generator) -> None:
        s = self.scanner = scanner
        wavelength = SPEED_MM_US / s.megahertz
        self.axial = _gauss(1.0 * wavelength / (s.depth / (s.samples - 1)))
        pitch = 2 * s.half_angle / (s.lines - 1)
        narrow = 0.42 * wavelength / s.aperture / pitch
        self.lateral = _gauss(narrow), _gauss(2.3 * narrow)
        self.blur = np.clip(np.abs(s.depths - s.focus) / (0.55 * s.depth), 0, 1)[:, None, None].astype(np.float32)
        sliders = np.interp(s.depths, np.linspace(0, s.depth, len(s.tgc)), s.tgc)
        self.tgc = 10 ** ((2 * TGC_DB_CM_MHZ * s.megahertz * s.depths / 10 + sliders + s.gain) / 20)[:, None]
        self.tgc = self.tgc.astype(np.float32)
        noise = rng.standard_normal((s.samples, 2 * s.lines, 2), np.float32) * 10 ** (s.noise / 20)
        self.noise = cv2.sepFilter2D(noise, -1, np.ones(1, np.float32), self.axial)
        decay = np.exp(-s.depths / 6)[:, None, None] * 10 ** (s.clutter / 20)
        bands = 1 + 0.4 * np.cos(2 * np.pi * s.depths / rng.uniform(3, 6))[:, None, None]
        haze = rng.standard_normal((s.samples, s.lines, 2), np.float32)
        self.haze = (cv2.sepFilter2D(haze, -1, self.lateral[1], self.axial) * decay * bands).astype(np.float32)

    def develop(self, echo: np.ndarray, scene: Scene, anatomy: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """float32 [samples, lines] grey 0-255 from the complex echo [samples, lines, 2]."""
        s = self.scanner
        # At baseband the axial pulse is a Gaussian: the scatterers' phase already holds its cosine.
        sharp = cv2.sepFilter2D(echo, -1, self.lateral[0], self.axial)
        broad = cv2.sepFilter2D(echo, -1, self.lateral[1], self.axial)
        field = sharp + self.blur * (broad - sharp)
        names = ["fluid", *(shape.tissue for shape in scene.shapes)]
        bone = [TISSUES[name].attenuation if name in BONES else 0.0 for name in names]
        soft = [TISSUES[name].attenuation if name not in BONES else 0.0 for name in names]
        through = self._through(soft, anatomy) * (BESIDE + (1 - BESIDE) * self._through(bone, anatomy))
        offset = int(rng.integers(0, s.lines))
        field = field * through[..., None] + self.haze
        field = (field + self.noise[:, offset : offset + s.lines]) * self.tgc[..., None]
        level = 10 * np.log10(field[..., 0] ** 2 + field[..., 1] ** 2 + 1e-12)
        grey = np.clip(1 + level / s.dynamic_range, 0, 1)
        return (255 * grey**s.gamma).astype(np.float32)

    def _through(self, loss: list[float], anatomy: np.ndarray) -> np.ndarray:
        """Share of the amplitude that reaches each sample and returns, float32 [samples, lines]: the cumulative product
        along every line. `loss`: dB/cm/MHz by the index in `anatomy`."""
        s = self.scanner
        kept = 10 ** (-2 * np.array(loss, np.float32) * s.megahertz * (s.depth / 10 / (s.samples - 1)) / 20)
        return cv2.blur(np.cumprod(kept[anatomy], axis=0), (3, 1))


def _gauss(sigma: float) -> np.ndarray:
    """Gaussian kernel of unit energy, so that the level of the speckle does not depend on the resolution."""
    half = max(1, int(np.ceil(2.5 * sigma)))
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / max(sigma, 1e-3)) ** 2)
    return (kernel / np.sqrt((kernel**2).sum())).astype(np.float32)
