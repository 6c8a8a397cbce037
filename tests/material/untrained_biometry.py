"""The package of an untrained light network of biometry, with a familiarity of random features."""

from pathlib import Path

import numpy as np
import torch
from bright_biometry import LABELS

from fetalflow.models.building import build
from fetalflow.models.familiarity import fit_familiarity
from fetalflow.models.weights import save
from fetalflow.settings.params import Extract


def save_untrained(folder: Path, frames: int, size: int) -> None:
    """Write the package of clips of so many frames, `size` px wide, into `folder`."""
    torch.manual_seed(2)
    network = build("fetalnet_lite", frames, size, len(LABELS), pretrained=False).eval()
    config = {"task": "biometry", "variant": "fetalnet_lite", "network": "fetalnet_lite", "labels": list(LABELS)}
    config |= {"frames": frames, "size": size, "options": {"pretrained": False}}
    config["extract"] = Extract(frames=frames, stride=frames, labels=LABELS, workers=1).model_dump(mode="json")
    features = np.random.default_rng(0).normal(0, 1, (60, 128)).astype(np.float32)
    familiarity = fit_familiarity("head", features[:40], np.arange(40) % 3, features[40:], 0.05)
    save(folder, network, config | {"familiarity": familiarity.facts}, familiarity.arrays)
