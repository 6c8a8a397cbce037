"""A network of biometry that needs no training: what is brighter than a half is the structure, and its brightest grey
says which."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from cine_files import sector_mask
from torch import Tensor, nn

from fetalflow.biometry.calipers import Ellipse
from fetalflow.cine.field_of_view import as_text, sector_of
from fetalflow.inference.package import Package
from fetalflow.models.building import Answer
from fetalflow.settings.params import Extract

LABELS = ("abdomen", "femur", "head")
LEVEL = {"abdomen": 170, "femur": 210, "head": 250, "other": 140}  # grey of the structure, by which it is told
BACKGROUND = 60
N, SIZE = 4, 128
SIDE, MM = 96, 0.8  # px of what `sequences` writes, and mm of each
SHAPES = {"head": (46, 36), "abdomen": (40, 36), "femur": (36, 8)}  # px: long and short axis; length and thickness
COLUMN = {"head": "hc_mm", "abdomen": "ac_mm", "femur": "fl_mm"}


class Bright(nn.Module):
    """mask: its logit is 0 at a grey of 0.5. label: the structure whose grey the brightest 0.3 % have."""

    def __init__(self, labels: tuple[str, ...] = LABELS, silent: bool = False):
        super().__init__()
        self.head = nn.Identity()
        self.levels = nn.Parameter(torch.tensor([LEVEL[label] / 255 for label in labels]), requires_grad=False)
        self.silent = silent
        self.asked: list[tuple[int, int]] = []  # clips and frames of each call

    def forward(self, x: Tensor) -> Answer:
        self.asked.append((len(x), x.shape[1]))
        top = x.flatten(1).quantile(0.997, dim=1)
        label = self.head(-60 * (top[:, None] - self.levels).abs())
        return Answer(40 * (x - 0.5), label * 0 if self.silent else label)


def bright_package(
    frames: int = N, size: int = SIZE, labels: tuple[str, ...] = LABELS, silent: bool = False
) -> Package:
    extract = Extract(frames=frames, stride=frames, labels=labels, workers=1)
    config = {"task": "biometry", "variant": "bright", "network": "bright", "labels": labels, "frames": frames}
    config |= {"size": size, "options": {}, "extract": extract.model_dump(mode="json")}
    return Package(Bright(labels, silent).eval(), config)


def shown(
    label: str,
    frames: int = 1,
    height: int = 240,
    width: int = 320,
    centre: tuple[float, float] = (160, 130),
    axes: tuple[float, float] = (120, 90),
    degrees: float = 20,
) -> np.ndarray:
    """uint8 [T, H, W]: a structure in a sector of noise, smooth at its edge. axes: whole, in px; a femur is `axes[0]`
    long and as thick as `axes[1]`."""
    rng = np.random.default_rng(5)
    sharp = np.zeros((4 * height, 4 * width), np.float32)
    middle = tuple(4 * c + 1.5 for c in centre)
    if label == "femur":
        corners = cv2.boxPoints((middle, (4 * axes[0], 4 * axes[1]), degrees))
        cv2.fillPoly(sharp, [np.round(corners).astype(np.int32)], 1)
    else:
        cv2.ellipse(sharp, (middle, (4 * axes[0], 4 * axes[1]), degrees), 1, -1)
    inside = cv2.resize(sharp, (width, height), interpolation=cv2.INTER_AREA)
    noise = rng.normal(0, 4, (frames, height, width))
    picture = BACKGROUND + (LEVEL[label] - BACKGROUND) * inside + noise
    return np.clip(picture * sector_mask(height, width), 0, 255).astype(np.uint8)


def true_mm(label: str) -> float:
    long, short = (MM * side for side in SHAPES[label])
    return long if label == "femur" else Ellipse(0, 0, long, short, 0).circumference


def sequences(folder: Path, labels: tuple[str, ...], frames: int = 2, each: int = 2) -> pd.DataFrame:
    """Structures of a known size on disk under `folder`, their masks, and their manifest."""
    rows = []
    for place in ("sequences", "masks"):
        (folder / place).mkdir(parents=True)
    for i in range(each * len(labels)):
        label = labels[i % len(labels)]
        clip = shown(label, frames, SIDE, SIDE, centre=(48, 52), axes=SHAPES[label])
        np.save(folder / "sequences" / f"s{i}.npy", clip)
        np.save(folder / "masks" / f"s{i}.npy", (clip > 127).astype(np.uint8))
        row = {"sequence": f"s{i}", "video": f"{i}.avi", "patient": f"p{i}", "device": "d", "label": label}
        row |= {"first_frame": 0, "last_frame": frames - 1, "frames": frames, "height": SIDE, "width": SIDE}
        row |= {"mm_per_px": MM, "path": f"sequences/s{i}.npy", "mask_path": f"masks/s{i}.npy"}
        row |= {"sector": as_text(sector_of(clip), SIDE), "gestational_age": "20.0", "seen": "1.0"}
        row |= dict.fromkeys(COLUMN.values(), "") | {COLUMN[label]: f"{true_mm(label):.2f}"}
        rows.append(row)
    return pd.DataFrame(rows)
