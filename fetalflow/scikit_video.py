"""scikit-video 1.1.11 on NumPy 2 and today's SciPy.

Its code calls names that are gone: `np.int`, `np.float`, `np.bool` and `np.product` (NumPy 1.24 and 2),
`ndarray.tostring` (NumPy 2.3), `scipy.misc.imresize` (SciPy 1.3) and `scipy.ndimage.morphology` (deprecated).
Without them writing, NIQE, BRISQUE, SSIM, MS-SSIM, edge scene detection and block motion fail. Block motion also
keeps its vectors as int8 and adds them to pixel positions, which overflows under NumPy 2's promotion: it gets int64.

The names are supplied to scikit-video's own modules only: each of them sees `np` and `scipy` through a thin stand-in
that adds the missing names and hands on everything else. NumPy and SciPy themselves stay as they are, so no other
library can come to lean on a name that does not exist.

Use the modules from here, after which every part of scikit-video works (reading and writing need ffmpeg and ffprobe):

    from fetalflow.scikit_video import io, measure, motion
    measure.niqe(frame)               # float32 [T] of uint8 [H, W] or [T, H, W], H and W >= 194
    measure.brisque_features(frame)   # float32 [T, 36]
    measure.scenedet(frames, "edges") # int [scenes], first frame of each
"""

import builtins
import importlib
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy
import scipy
import scipy.linalg
import scipy.ndimage
import scipy.signal
import scipy.spatial
from PIL import Image

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "lanczos": Image.Resampling.LANCZOS,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "cubic": Image.Resampling.BICUBIC,
}


def imresize(
    arr: numpy.ndarray, size: int | float | tuple[int, int], interp: str = "bilinear", mode: str | None = None
) -> numpy.ndarray:
    """`scipy.misc.imresize` of SciPy 1.2 for the one mode that scikit-video uses ("F", 32-bit float).

    arr: float or uint8 [H, W]. size: an int is a percentage, a float a fraction, a tuple the wanted (height, width).
    Returns float32 [h, w].
    """
    if mode != "F":
        raise ValueError(f'imresize is supplied for mode="F" only, found mode={mode!r}')
    height, width = arr.shape
    if isinstance(size, tuple):
        height, width = size
    else:
        factor = size / 100 if isinstance(size, int) else size
        height, width = int(height * factor), int(width * factor)
    image = Image.fromarray(numpy.ascontiguousarray(arr, dtype=numpy.float32))
    return numpy.array(image.resize((width, height), resample=_RESAMPLING[interp]))


class _Supplemented(ModuleType):
    """A module with some names added; all others come from the module itself."""

    def __init__(self, module: ModuleType, **added: Any) -> None:
        super().__init__(module.__name__)
        self.__dict__.update(added, _module=module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


class _Frames(numpy.ndarray):
    """Frames that still know `tostring`, which scikit-video's writers call."""

    def tostring(self) -> bytes:
        return self.tobytes()


_MISC = ModuleType("scipy.misc")
_MISC.imresize = imresize
_GONE = {"int": builtins.int, "float": builtins.float, "bool": numpy.bool_, "product": numpy.prod}
_NUMPY = _Supplemented(numpy, **_GONE)
_SCIPY = _Supplemented(scipy, misc=_MISC, ndimage=_Supplemented(scipy.ndimage, morphology=scipy.ndimage))


@contextmanager
def _scipy_misc_importable() -> Iterator[None]:
    # `import scipy.misc` warns today and will fail in SciPy 2; it is only needed while scikit-video is being imported.
    kept = sys.modules.get("scipy.misc")
    sys.modules["scipy.misc"] = _MISC
    try:
        yield
    finally:
        del sys.modules["scipy.misc"]
        if kept is not None:
            sys.modules["scipy.misc"] = kept


def _load(name: str) -> ModuleType:
    with _scipy_misc_importable(), warnings.catch_warnings():
        # Invalid escape sequences in scikit-video's docstrings.
        warnings.simplefilter("ignore", category=SyntaxWarning)
        warnings.simplefilter("ignore", category=DeprecationWarning)
        module = importlib.import_module(f"skvideo.{name}")
    for found in [m for key, m in sys.modules.items() if key.partition(".")[0] == "skvideo"]:
        if vars(found).get("np") is numpy:
            found.np = _NUMPY
        if vars(found).get("scipy") is scipy:
            found.scipy = _SCIPY
    return module


measure = _load("measure")
motion = _load("motion")
motion.block.np = _Supplemented(numpy, **_GONE, int8=numpy.int64)
io = _load("io")

_vshape = io.abstract.vshape
io.abstract.vshape = lambda data: _vshape(data).view(_Frames)
