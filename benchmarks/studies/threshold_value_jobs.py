"""The values of each threshold that `thresholds` compares, and what they cost on two hospitals."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
from torch import nn

from benchmarks.studies.threshold_jobs import BATCH, Answered, answered
from fetalflow.biometry import measuring, section
from fetalflow.biometry.clip import measure_clip
from fetalflow.biometry.structures import OTHER
from fetalflow.evaluation.certainty import temperature
from fetalflow.evaluation.measurement_rows import fitted_spacing, number, seen_area
from fetalflow.evaluation.segmentation import overlap
from fetalflow.inference.engines import int8
from fetalflow.inference.engines.engine import OnnxRuntime
from fetalflow.inference.engines.onnx_file import export_onnx
from fetalflow.inference.engines.spread import spread
from fetalflow.models import familiarity
from fetalflow.models.familiarity import UNLIKE, at_length_1, fit_familiarity

CALIBRATION = 64  # sequences
FALSE_ALARMS = 0.05
BEFORE = {
    "HIGH": "0.9",
    "NEAR": "0.03",
    "NOISE": "1.7",
    "STANDS": "5",
    "SHARP": "90",
    "FLICKERS": "12",
    "MOSTLY": "0.6",
}
DRAWS = 100  # of patients whom a temperature is fitted on
FITTED_ON = 7  # patients
SIMULATED = 50  # cines of each kind and noise
Costs = dict[str, pd.DataFrame]  # by value: patient, group, cost


@dataclass(frozen=True)
class Made:
    """One task: its package and network, the answers to its training hospital (with `part`) and to the other two."""

    package: Path
    network: nn.Module
    trained: Answered
    setting: Answered
    reporting: Answered
    femurs: tuple[Answered, ...]  # of two more hospitals, for setting and for reporting; only for biometry
    places: tuple[Path, Path]  # of setting and reporting
    seeds: tuple[int, int]


@dataclass(frozen=True)
class Compared:
    """A threshold, its value before the study, what is counted, and what each value costs on the two hospitals."""

    name: str
    before: str
    counted: str
    setting: Costs
    reporting: Costs


def costs(patient: Any, group: Any, cost: Any) -> pd.DataFrame:
    return pd.DataFrame({"patient": patient, "group": group, "cost": np.asarray(cost, float)})


def both(name: str, before: str, counted: str, of: Callable[[Answered], Costs], made: Made) -> Compared:
    return Compared(name, before, counted, of(made.setting), of(made.reporting))


def cut_off_views(made: Made) -> Iterator[Compared]:
    """Head and abdomen by the share of the ellipse beyond the sector; femur by the distance of its ends to the edge."""
    counted = "whole views without a length, and cut-off views with one"
    beyond = {f"{share:g}": (measuring, "BEYOND", share) for share in (0.005, 0.01, 0.02, 0.03, 0.05, 0.1)}
    yield both("biometry.measuring.BEYOND", "0.02", counted, partial(_views, beyond, ("head", "abdomen")), made)
    ends = {f"{far:g}": (measuring, "ENDS", far) for far in (0.25, 0.5, 1.0, 1.5, 2.0)}
    found = [_views(ends, ("femur",), seen) for seen in (made.setting, made.reporting)]
    more = [_views(ends, ("femur",), seen) for seen in made.femurs]
    of_value = [{value: pd.concat([a[value], b[value]]) for value in ends} for a, b in zip(found, more, strict=True)]
    yield Compared("biometry.measuring.ENDS", "1", counted, *of_value)


def _views(values: Mapping[str, tuple], structures: tuple[str, ...], seen: Answered) -> Costs:
    shares = np.array([number(share) for share in seen.rows["seen"]])
    usable = seen.rows["label"].isin(structures) & ((shares > 0.98) | (shares < 0.9))
    group = np.where(shares[usable] < 0.9, "cut-off views", "whole views")
    found = {}
    for value, change in values.items():
        with patch.object(*change):
            measured = [_has_length(seen, place) for place in np.flatnonzero(usable)]
        found[value] = costs(seen.patients[usable], group, np.equal(measured, group == "cut-off views"))
    return found


def _has_length(seen: Answered, place: int) -> bool:
    row, masks = seen.rows.iloc[place], seen.masks[place].astype(np.float32)
    size = masks.shape[-1]
    return bool(measure_clip(masks, row["label"], fitted_spacing(row, size), seen_area(row, size)).lengths)


def unlike_training(made: Made) -> Iterator[Compared]:
    """How "unlike the training data" is found: the layer, the scaling, the distance, and the directions that are kept.

    Beside other views it must find frames that show nothing: dim, black, or noise."""
    counted = "views like those of training that are flagged, and all else that is not"
    pairs = [(seen, _spoilt(made, seen)) for seen in (made.setting, made.reporting)]
    designs = [_designs(made.trained, *pair) for pair in pairs]
    yield Compared("models.familiarity, the design", "head, length 1", counted, *designs)
    found: list[Costs] = [{}, {}]
    for size in (16, 32, 64, 128, 256):
        with patch.object(familiarity, "DIRECTIONS", size):
            for place, (seen, others) in enumerate(pairs):
                found[place][str(size)] = _flags(seen, others, _mahalanobis(made.trained, _layers(seen)[0]))
    yield Compared("models.familiarity.DIRECTIONS", "128", counted, *found)


def _spoilt(made: Made, seen: Answered) -> dict[str, Answered]:
    rng = np.random.default_rng(0)
    ways = {
        "dim frames": lambda frames: frames // 8,
        "black frames": np.zeros_like,
        "noise": lambda frames: rng.integers(0, 256, frames.shape, np.uint8),
    }
    rows = seen.rows.groupby("patient").head(1)
    return {name: answered(made.network, rows, _layers(seen), way) for name, way in ways.items()}


def _layers(seen: Answered) -> list[str]:
    return list(seen.features)


def _designs(trained: Answered, seen: Answered, others: Mapping[str, Answered]) -> Costs:
    head, last = _layers(seen)
    found = {
        "head, length 1": _flags(seen, others, _mahalanobis(trained, head)),
        "last layer, length 1": _flags(seen, others, _mahalanobis(trained, last)),
        "head, nearest neighbour": _flags(seen, others, _nearest(trained, head)),
    }
    with patch.object(familiarity, "at_length_1", lambda features: features.astype(np.float64)):
        found["head, as they are"] = _flags(seen, others, _mahalanobis(trained, head))
    return found


def _parts(trained: Answered, layer: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of the training and of the validation part, and the labels of the first."""
    part, features = trained.rows["part"].to_numpy(), trained.features[layer]
    labels = trained.rows["label"].to_numpy(dtype=str)
    return features[part == "train"], features[part == "validation"], labels[part == "train"]


def _mahalanobis(trained: Answered, layer: str) -> Callable[[Answered], np.ndarray]:
    train, validation, labels = _parts(trained, layer)
    fitted = fit_familiarity(layer, train, labels, validation, FALSE_ALARMS)
    return lambda seen: fitted.score(seen.features[layer]) > UNLIKE


def _nearest(trained: Answered, layer: str) -> Callable[[Answered], np.ndarray]:
    train, validation, _ = _parts(trained, layer)
    known = at_length_1(train)

    def away(features: np.ndarray) -> np.ndarray:
        return 1 - (at_length_1(features) @ known.T).max(axis=1)

    limit = np.quantile(away(validation), 1 - FALSE_ALARMS, method="higher")
    return lambda seen: away(seen.features[layer]) > limit


def _flags(seen: Answered, others: Mapping[str, Answered], flagged: Callable[[Answered], np.ndarray]) -> pd.DataFrame:
    other = seen.rows["label"].to_numpy() == OTHER
    found = [costs(seen.patients, np.where(other, "other views", "views of training"), flagged(seen) != other)]
    return pd.concat([*found, *(costs(each.patients, name, ~flagged(each)) for name, each in others.items())])


def first_layer(made: Made) -> Iterator[Compared]:
    """8 bits with the first convolution in float or in 8 bits: how far probabilities and masks are from torch's."""
    train = made.trained.rows[made.trained.rows["part"] == "train"]
    calibration = [np.load(path) for path in spread(train, CALIBRATION, 0)["path"]]
    found: list[Costs] = [{}, {}]
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "onnx"
        export_onnx(made.package, exported)
        for value, steps in {"float": int8.first_steps, "8 bits": lambda graph: []}.items():
            with patch.object(int8, "first_steps", steps):
                int8.quantise(exported, Path(folder) / value, calibration)
            engine = OnnxRuntime(Path(folder) / value)
            for place, seen in enumerate((made.setting, made.reporting)):
                found[place][value] = _away_from_torch(engine, seen)
    name = f"inference.engines.int8, first layer of {made.package.name}"
    yield Compared(name, "float", "distance from the answers of torch", *found)


def _away_from_torch(engine: OnnxRuntime, seen: Answered) -> pd.DataFrame:
    away, masks = [], []
    for start in range(0, len(seen.rows), BATCH):
        frames = np.stack([np.load(path) for path in seen.rows["path"].iloc[start : start + BATCH]])
        answer = engine.answer(frames.astype(np.float32) / 255)
        here = slice(start, start + len(frames))
        away += list(np.abs(answer.probabilities - seen.p[here]).sum(axis=1) / 2)
        if answer.mask is not None:
            pairs = zip(answer.mask_probabilities > 0.5, seen.masks[here] > 0.5, strict=True)
            masks += [1 - overlap(*pair)[0] if any(each.any() for each in pair) else 0.0 for pair in pairs]
    tables = [costs(seen.patients, "probabilities", away)]
    return pd.concat([*tables, costs(seen.patients, "masks", masks)] if masks else tables)


def prior_of_the_temperature(made: Made) -> Iterator[Compared]:
    """Log loss on patients whom the temperature was not fitted on, also of answers that were made overconfident."""
    spreads = {f"{sd:g}": (temperature, "SPREAD", sd) for sd in (0.25, 0.5, 1.0, 2.0)}
    name = "evaluation.certainty.temperature.SPREAD"
    yield both(name, "0.5", "log loss after the temperature", partial(_log_losses, spreads), made)


def _log_losses(values: Mapping[str, tuple], seen: Answered) -> Costs:
    names, patient = np.unique(seen.patients, return_inverse=True)
    truth = seen.rows["truth"].to_numpy()
    squared = seen.p**2 / (seen.p**2).sum(axis=1, keepdims=True)
    found = {}
    for value, change in values.items():
        with patch.object(*change):
            tables = []
            for group, p in {"as answered": seen.p, "made overconfident": squared}.items():
                losses, times = np.zeros(len(p)), np.zeros(len(p))
                rng = np.random.default_rng(0)
                for _ in range(DRAWS):
                    fit = np.isin(patient, rng.permutation(len(names))[:FITTED_ON])
                    codes = np.unique(patient[fit], return_inverse=True)[1]
                    t = temperature.fit_temperature(p[fit], truth[fit], codes)
                    after = temperature.tempered(p[~fit], t)[np.arange((~fit).sum()), truth[~fit]]
                    losses[~fit] -= np.log(np.maximum(after, 1e-12))
                    times[~fit] += 1
                tables.append(costs(seen.patients, group, losses / times))
        found[value] = pd.concat(tables)
    return found


def sweeps(seeds: tuple[int, int]) -> Iterator[Compared]:
    """The frames of a sweep that count; on simulated lengths of sweeps and of still cines."""
    grids = {"HIGH": (0.8, 0.85, 0.9, 0.95), "NEAR": (0.01, 0.02, 0.03, 0.05, 0.08), "NOISE": (1.0, 1.7, 2.5, 3.5)}
    simulated = [list(_lengths(seed)) for seed in seeds]
    for name, grid in grids.items():
        found: list[Costs] = [{}, {}]
        for value in grid:
            with patch.object(section, name, value):
                for place, cines in enumerate(simulated):
                    rows = [
                        (which, kind, 100 * abs(np.median(cine[section.largest_sections(cine)]) - 1))
                        for kind, which, cine in cines
                    ]
                    found[place][f"{value:g}"] = costs(*zip(*rows, strict=True))
        yield Compared(f"biometry.section.{name}", BEFORE[name], "error of the length in %", *found)


def _lengths(seed: int) -> Iterator[tuple[str, int, np.ndarray]]:
    """Kind, number and lengths (1 is the true one) of simulated cines: sweeps of a sphere, whole or in part, and still
    ones, whose errors are independent or alike in neighbouring frames."""
    rng = np.random.default_rng(seed)
    for noise in (0.0, 0.01, 0.03, 0.06):
        for kind in ("sweep", "part of a sweep", "still", "still, errors alike"):
            for which in range(SIMULATED):
                frames = int(rng.integers(10, 61))
                part = rng.uniform(0.3, 1, 2) if kind.startswith("part") else np.full(2, float(kind == "sweep"))
                true = np.sqrt(1 - np.linspace(-part[0], part[1], frames + 2)[1:-1] ** 2)
                error = rng.normal(size=frames)
                if kind.endswith("alike"):
                    for place in range(1, frames):
                        error[place] = 0.8 * error[place - 1] + 0.6 * error[place]
                yield f"{kind}, noise {noise:.0%}", which, true * (1 + noise * error)
