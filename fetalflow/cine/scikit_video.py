"""scikit-video 1.1.11 on NumPy 2, for NIQE, the features of BRISQUE and scene detection.

Nothing of a run imports it: it is the definition that tests and a benchmark compare `natural_scenes` with.

These call names that no longer exist: `np.int` and `np.float` (removed in NumPy 1.24) and `scipy.misc.imresize`
(removed in SciPy 1.3). Only the modules of scikit-video get these names: their `np` and `scipy` are copies of the two
namespaces with the names added. NumPy and SciPy themselves stay unchanged.

    from fetalflow.cine.scikit_video import measure
    measure.niqe(frame)                # float32 [T] of uint8 [H, W] or [T, H, W], H and W >= 194
    measure.brisque_features(frame)    # float32 [T, 36]
    measure.scenedet(frames, "edges")  # int [scenes], the first frame of each

Other parts of scikit-video (SSIM, block motion, writing) are not prepared for NumPy 2 and are not used.
"""

import sys
import warnings
from types import SimpleNamespace

import numpy as np
import scipy
from PIL import Image

with warnings.catch_warnings():
    # scikit-video imports the deprecated `scipy.misc`, and its docstrings contain invalid escape sequences.
    warnings.simplefilter("ignore")
    from skvideo import measure as measure


def imresize(picture: np.ndarray, factor: float, interp: str, mode: str) -> np.ndarray:
    """Resize float32 [H, W] by `factor`, as `scipy.misc.imresize` of SciPy 1.2 does for `mode` "F" (32-bit float).

    interp: a filter of Pillow, such as "bicubic". Returns float32 [int(H * factor), int(W * factor)].
    Raises ValueError for another mode.
    """
    if mode != "F":
        raise ValueError(f'imresize works for mode="F" only, found mode={mode!r}')
    height, width = picture.shape
    size = int(width * factor), int(height * factor)
    return np.array(Image.fromarray(picture).resize(size, Image.Resampling[interp.upper()]))


_NAMESPACES = {
    "np": SimpleNamespace(**vars(np) | {"int": int, "float": float}),
    "scipy": SimpleNamespace(**vars(scipy) | {"misc": SimpleNamespace(imresize=imresize)}),
}
for _name, _module in list(sys.modules.items()):
    if _name.startswith("skvideo."):
        vars(_module).update({name: _NAMESPACES[name] for name in _NAMESPACES.keys() & vars(_module).keys()})
