"""The bank of answers of `watch`: synthetic hospitals that nobody trained on, answered by one trained model.

A device that changes at a site is the same recordings of this site with another look. It is applied to the masked
frames, before the figures are taken and the frames are fitted. To film the women again with another scanner would be
nearer to the truth, and takes an hour.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from fetalflow.cine.letterbox import fit
from fetalflow.hospital.phantom.sites import SITES
from fetalflow.inference.package import Package
from fetalflow.watch.row import picture_figures

KEPT = ("patient", "site", "label")
FIGURES = ("mean_intensity", "sharpness", "speckle", "niqe", "blank_share", "fps")
BATCH = 16
Look = Callable[[np.ndarray], np.ndarray]  # of frames, float32 [N, H, W], 0-255


def _smooth(frames: np.ndarray) -> np.ndarray:
    found = np.stack([cv2.GaussianBlur(frame, (0, 0), 2.0) for frame in frames])
    for i in range(1, len(found)):  # persistence
        found[i] = 0.5 * found[i] + 0.5 * found[i - 1]
    return found


def _zoom(frames: np.ndarray) -> np.ndarray:
    height, width = frames.shape[1:]
    inner = frames[:, height // 6 : -(height // 6), width // 6 : -(width // 6)]
    return np.stack([cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR) for frame in inner])


def _noise(frames: np.ndarray) -> np.ndarray:
    return frames + np.random.default_rng(0).normal(0, 25, frames.shape).astype(np.float32)


DEVICES: dict[str, tuple[int, Look]] = {  # the number of the site, and the look of its new device
    "darker by 30 grey levels": (0, lambda frames: frames - 30),
    "gamma 1.8": (1, lambda frames: 255 * (np.clip(frames, 0, 255) / 255) ** 1.8),
    "contrast x 1.7": (2, lambda frames: (frames - 50) * 1.7 + 20),
    "smoothing": (3, _smooth),
    "noise": (4, _noise),
    "zoom x 1.5": (0, _zoom),
}


def bank(folder: Path, name: str, hospitals: Sequence[Path], package: Package) -> pd.DataFrame:
    """One row per sequence: KEPT, FIGURES, unfamiliarity, y_pred and p_<label> before calibration. name: of DEVICES, or
    "quiet" for all sites as they are. hospitals: workspaces with the finished stage preprocess of the movement task. It
    is made once and kept in `folder`."""
    file = folder / f"{'-'.join(each.name for each in hospitals)}-{name.replace(' ', '-')}.parquet"
    if file.is_file():
        return pd.read_parquet(file)
    table = pd.concat([_of_hospital(each, name, package) for each in hospitals], ignore_index=True)
    table.to_parquet(file, index=False)
    return table


def _of_hospital(hospital: Path, name: str, package: Package) -> pd.DataFrame:
    data = hospital / "data" / "movement"
    rows = pd.read_parquet(data / "manifest.parquet")
    number, look = DEVICES.get(name, (None, None))
    if number is not None:
        rows = rows[rows["site"] == SITES[number].name]
    rows = rows.reset_index(drop=True)
    fitted, figures = [], []
    for row in rows.to_dict("records"):
        frames = np.load(data / "frames" / f"{row['source']}.npy", mmap_mode="r")
        frames = np.array(frames[row["first_frame"] : row["last_frame"] + 1])
        if look is not None:
            in_sector = frames.max(axis=0) > 0
            frames = np.where(in_sector, np.clip(look(frames.astype(np.float32)), 0, 255), 0).astype(np.uint8)
        figures.append(picture_figures(frames, package.size, row["fps"]))
        fitted.append(fit(frames, package.size))
    answers = [package.answer(np.stack(fitted[i : i + BATCH])) for i in range(0, len(fitted), BATCH)]
    p = np.concatenate([found.probabilities for found in answers])
    return rows[[*KEPT]].assign(
        patient=[f"{hospital.name}-{of}" for of in rows["patient"]],
        **pd.DataFrame(figures, columns=list(FIGURES)).to_dict("series"),
        unfamiliarity=np.concatenate([package.familiarity.score(found.features) for found in answers]),
        y_pred=np.array(package.labels)[p.argmax(1)],
        **{f"p_{label}": p[:, i] for i, label in enumerate(package.labels)},
    )
