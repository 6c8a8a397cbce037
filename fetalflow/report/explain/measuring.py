"""The faithfulness table: overlap of every kind of map with the anatomy, for the trained network and for the same
network with random weights."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from fetalflow.cine.field_of_view import sector_of
from fetalflow.evaluation.intervals import no_interval
from fetalflow.models.answering import to_input
from fetalflow.report.explain.choosing import Sequences
from fetalflow.report.explain.maps import batches, image_maps, network_maps, rank_correlation, untrained_twin
from fetalflow.report.explain.overlap import map_overlap, summarise

# From a network, inputs [B, N, H, W] and classes [B] to maps [B, N or 1, H, W] >= 0 by name.
Maps = Callable[[nn.Module, Tensor, Tensor], dict[str, np.ndarray]]
NO_MAPS = "This network has no attention: it has no maps."
TRAINED, RANDOM, NONE = "trained", "random", "none"  # the weights that a map is made with


def faithfulness_table(
    network: nn.Module,
    config: dict[str, Any],
    rows: pd.DataFrame,
    sequences: Sequences,
    anatomy: Callable[[Mapping[str, Any]], np.ndarray],
    device: torch.device,
    maps_of: Maps = network_maps,
) -> pd.DataFrame:
    """One row per sequence and map: `sequence`, `patient`, `label`, `map`, `weights` and the measures of `map_overlap`.

    rows: of `sequences`, with `predicted`; anatomy: returns that of a row as bool [N, H, W]. The explained class is the
    one that the trained network predicts, also for the network with random weights. `likeness`: rank correlation of
    the maps of both networks; near 1, the map shows the image and not what was learned.
    """
    labels = config["labels"]
    twin = untrained_twin(config, device)
    lines: list[dict[str, Any]] = []
    for part in batches(sequences):
        here, frames = rows.iloc[part], sequences[part]
        known = [anatomy(row) for _, row in here.iterrows()]
        inputs = to_input(frames, device)
        targets = torch.tensor([labels.index(label) for label in here["predicted"]], device=device)
        trained = maps_of(network, inputs, targets)
        random = maps_of(twin, inputs, targets)
        fields = [sector_of(sequence, fitted=True) for sequence in frames]
        for weights, maps in ((TRAINED, trained), (RANDOM, random), (NONE, image_maps(frames))):
            for name, values in maps.items():
                for i, (_, row) in enumerate(here.iterrows()):
                    facts = {key: row[key] for key in ("sequence", "patient", "label", "correct")}
                    measures = map_overlap(values[i], known[i], fields[i])
                    if weights == TRAINED:
                        measures["likeness"] = rank_correlation(values[i] * fields[i], random[name][i] * fields[i])
                    lines.append(facts | {"map": name, "weights": weights} | measures)
    return pd.DataFrame(lines)


def summary(measured: pd.DataFrame, frames: int, unmeasured: Mapping[str, int], seed: int) -> dict[str, Any]:
    """The part of `explain.json` on the table of `faithfulness_table`. frames: N of a sequence; unmeasured: as in
    `remarks`."""
    lines = table_of(measured, seed)
    names = list(dict.fromkeys(line["map"] for line in lines if line["weights"] == TRAINED))
    sentences = [in_words(lines, name, frames) for name in dict.fromkeys([*names[:1], *names[-1:]])]
    return {
        "text": " ".join([*(sentences or [NO_MAPS]), remarks(frames, unmeasured)]),
        "unmeasured": dict(unmeasured),
        "rows": lines,
        "by_label": {name: by_label(measured, name) for name in names},
    }


def table_of(measured: pd.DataFrame, seed: int) -> list[dict[str, Any]]:
    """One JSON-able row per map and weights, with intervals over patients; the first map is the paper's Grad-CAM."""
    table = []
    for (name, weights), rows in measured.groupby(["map", "weights"], sort=False):
        row: dict[str, Any] = {"map": name, "weights": weights} | summarise(rows, seed)
        if weights == TRAINED and rows["likeness"].notna().any():
            row["likeness"] = float(rows["likeness"].mean())
        table.append(row)
    return table


def by_label(measured: pd.DataFrame, name: str) -> dict[str, dict[str, float]]:
    """Per label, of the trained network's map `name`: mean concentration, share of the map on the anatomy (`inside`),
    the anatomy's share of the field of view (`area`, the share expected by chance), and the number of sequences."""
    rows = measured[(measured["map"] == name) & (measured["weights"] == TRAINED)].dropna(subset=["concentration"])
    means = rows.groupby("label")[["concentration", "inside", "area"]].mean()
    sizes = rows.groupby("label").size()
    return {
        str(label): {key: float(value) for key, value in mean.items()} | {"sequences": int(sizes[label])}
        for label, mean in means.iterrows()
    }


def in_words(table: list[dict[str, Any]], name: str, frames: int) -> str:
    """Sentences that compare the trained network's map `name` with chance. frames: N of a sequence."""
    row = next(row for row in table if row["map"] == name and row["weights"] == TRAINED)
    many = "images" if frames == 1 else "sequences"
    if not row["sequences"]:
        return f"{name} is zero everywhere on all {row['empty']} measured {many}: it explains nothing here."
    sentence = _share(name, row) if frames == 1 else _concentration(name, row)
    if row["empty"]:
        sentence += f" On {row['empty']} further {many} the map is zero everywhere; they are not counted."
    twin = next((row for row in table if row["map"] == name and row["weights"] == RANDOM), None)
    if twin and twin["sequences"]:
        share = f"{twin['inside']:.0%} inside, " if frames == 1 else ""
        sentence += f" With random weights: {share}{twin['concentration']:.2f} times, {twin['pointing']:.0%}."
    return sentence


def remarks(frames: int, unmeasured: Mapping[str, int]) -> str:
    """How to read the sentences. unmeasured: number of test sequences without a known anatomy, by label."""
    if frames == 1:
        known, image = "structure", "A map must be better than the brightness to show more than the image itself."
    else:
        known = "anatomy"
        image = (
            "A map must be better than the brightness and the change between frames to show more than the frames "
            "themselves."
        )
    left = ", ".join(f"{label} {count}" for label, count in unmeasured.items() if count)
    return (
        f"Chance is the {known}'s share of the field of view; intervals are 95 % by bootstrap over patients. Random "
        "weights are the control: a map that is as good without training shows the image, not what was learned. "
        + image
        + (
            f" Test {'images' if frames == 1 else 'sequences'} without a known {known} are left out: {left}."
            if left
            else ""
        )
    )


def _share(name: str, row: Mapping[str, Any]) -> str:
    return (
        f"{name[0].upper()}{name[1:]}: {row['inside']:.0%} of the map lie inside the structure, by chance "
        f"{row['area']:.0%}; the mean ratio of the two is {row['concentration']:.2f}{_interval(row)} "
        f"({_verdict(row)}); the peak lies inside in {row['pointing']:.0%} of the images "
        f"({row['sequences']} test images of {row['patients']} patients)."
    )


def _concentration(name: str, row: Mapping[str, Any]) -> str:
    return (
        f"{name} puts {row['concentration']:.2f}{_interval(row)} times as much mass on the labelled anatomy as "
        f"chance ({_verdict(row)}); its peak lies there in {row['pointing']:.0%} of the frames, by chance in "
        f"{row['area']:.0%} ({row['sequences']} test sequences of {row['patients']} patients)."
    )


def _interval(row: Mapping[str, Any]) -> str:
    low, high = row["concentration_low"], row["concentration_high"]
    return "" if low is None else f" [{low:.2f}, {high:.2f}]"


def _verdict(row: Mapping[str, Any]) -> str:
    low, high = row["concentration_low"], row["concentration_high"]
    if low is None:
        return no_interval(row["patients"])
    if low > 1:
        return "more than chance"
    return "less than chance" if high < 1 else "not significantly different from chance"
