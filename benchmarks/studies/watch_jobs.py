"""The bank of answers of `watch`: synthetic hospitals that nobody trained on, answered by one trained model.

A device that changes at a site is the same women, filmed by another device under the site's name.
"""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd

from fetalflow.artefacts import write_table
from fetalflow.hospital.phantom.movement import hospital
from fetalflow.hospital.phantom.sites import SITES, Site
from fetalflow.inference.package import Package
from fetalflow.quality.drift import speckle
from fetalflow.sequences.extraction import extract_drop
from fetalflow.sequences.preprocessing import preprocess
from fetalflow.settings.params import TaskSettings

KEPT = ("patient", "site", "label", "mean_intensity", "sharpness", "niqe", "blank_share", "fps")
BATCH = 16


def of_another_site(number: int) -> Callable[[Site], Site]:
    """The device of another site, which the model knows, with that device's frame rates and file format."""
    return lambda site: replace(SITES[number], name=site.name, readers=site.readers)


DEVICES: dict[str, tuple[int, Callable[[Site], Site]]] = {  # the number of the site, and its new device
    "low gain": (0, lambda site: replace(site, device="A", gain=site.gain - 9)),
    "known device": (1, of_another_site(4)),
    "high contrast": (2, lambda site: replace(site, device="B", gamma=1.7, dynamic_range=45)),
    "smoothing": (3, lambda site: replace(site, device="C", persistence=0.6, megahertz=2.8)),
    "new device": (
        4,
        lambda site: replace(site, device="D", megahertz=6.5, gamma=1.4, dynamic_range=48, gain=3, zoom=0.8),
    ),
    "zoom": (0, lambda site: replace(site, device="E", zoom=1.35)),
}


def bank(folder: Path, name: str, seed: int, patients: int, package: Package, settings: TaskSettings) -> pd.DataFrame:
    """One row per sequence: KEPT, speckle, unfamiliarity, y_pred and p_<label> before calibration. name: of DEVICES, or
    "quiet" for all sites as they are. It is made once and kept in `folder`."""
    file = folder / f"{name.replace(' ', '-')}-{seed}.parquet"
    if file.is_file():
        return pd.read_parquet(file)
    phantom = settings.phantom.model_copy(
        update={"seed": seed, "patients": patients, "sequences": dict.fromkeys(settings.extract.labels, patients)}
    )
    with tempfile.TemporaryDirectory(dir=folder) as place, patch.object(hospital, "plan", _changed(name)):
        data = Path(place)
        hospital.make_drop(phantom, data / "drop", workers=1)
        extract = settings.extract.model_copy(update={"workers": 1})
        found = extract_drop(data / "drop", extract, data / "frames")
        made = preprocess(found.sequences, data / "frames", data / "sequences", package.size, 1)
        frames = [np.load(data / path) for path in made["path"]]
    answers = [package.answer(np.stack(frames[i : i + BATCH])) for i in range(0, len(frames), BATCH)]
    p = np.concatenate([each.probabilities for each in answers])
    unlike = np.concatenate([package.familiarity.score(each.features) for each in answers])
    table = made[[*KEPT]].assign(
        patient=[f"{seed}-{each}" for each in made["patient"]],
        speckle=[speckle(each[len(each) // 2]) for each in frames],
        unfamiliarity=unlike,
        y_pred=np.array(package.labels)[p.argmax(1)],
        **{f"p_{label}": p[:, i] for i, label in enumerate(package.labels)},
    )
    write_table(file, table)
    return table


def _changed(name: str) -> Callable:
    """`hospital.plan` whose recordings are those of one site with its new device; all recordings for "quiet"."""
    whole = hospital.plan
    if name == "quiet":
        return whole
    number, change = DEVICES[name]

    def plan(settings):
        site = SITES[number]
        for cine in whole(settings):
            if cine.patient.site.name == site.name and not cine.fault:
                yield replace(cine, patient=replace(cine.patient, site=change(site)))

    return lambda settings: list(plan(settings))
