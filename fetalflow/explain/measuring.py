"""The faithfulness table: every kind of map, of the trained network and of its untrained twin, against the anatomy."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from fetalflow.explain.maps import batches, image_maps, network_maps, rank_correlation, to_input, untrained_twin
from fetalflow.explain.overlap import field_of_view, overlap, summarise

TRAINED, RANDOM, NONE = "trained", "random", "none"  # whose weights a map is made with


def measure(
    network: nn.Module,
    config: dict[str, Any],
    rows: pd.DataFrame,
    sequences: np.ndarray,
    anatomy: np.ndarray,
    device: torch.device,
) -> pd.DataFrame:
    """One row per sequence and map: `sequence`, `patient`, `label`, `map`, `weights` and the measures of `overlap`.

    `rows` (with `predicted`) belong to `sequences` uint8 [B, N, H, W] and `anatomy` bool [B, N, H, W]. The class
    explained is the one the trained network predicted, for its untrained twin too. `likeness` is the rank correlation
    of the two networks' maps: near 1, the map shows the image and not what was learned.
    """
    labels = config["labels"]
    twin = untrained_twin(config, device)
    found: list[dict[str, Any]] = []
    for part in batches(sequences):
        here = rows.iloc[part]
        inputs = to_input(sequences[part], device)
        targets = torch.tensor([labels.index(label) for label in here["predicted"]], device=device)
        trained = network_maps(network, inputs, targets)
        random = network_maps(twin, inputs, targets)
        fields = [field_of_view(sequence) for sequence in sequences[part]]
        for weights, maps in ((TRAINED, trained), (RANDOM, random), (NONE, image_maps(sequences[part]))):
            for name, values in maps.items():
                for i, (_, row) in enumerate(here.iterrows()):
                    facts = {key: row[key] for key in ("sequence", "patient", "label", "correct")}
                    measures = overlap(values[i], anatomy[part][i], fields[i])
                    if weights == TRAINED:
                        measures["likeness"] = rank_correlation(values[i] * fields[i], random[name][i] * fields[i])
                    found.append(facts | {"map": name, "weights": weights} | measures)
    return pd.DataFrame(found)


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
    """Mean concentration and number of sequences per label of the trained network's map `name`."""
    rows = measured[(measured["map"] == name) & (measured["weights"] == TRAINED)].dropna(subset=["concentration"])
    means = rows.groupby("label")["concentration"].agg(["mean", "size"])
    return {
        str(label): {"concentration": float(mean), "sequences": int(size)}
        for label, mean, size in means.itertuples(name=None)
    }


def in_words(table: list[dict[str, Any]], name: str) -> str:
    """One plain sentence on the trained network's map `name`: how it stands to chance, whichever way."""
    row = next(row for row in table if row["map"] == name and row["weights"] == TRAINED)
    if not row["sequences"]:
        return f"{name} is zero everywhere on all {row['empty']} measured sequences: it explains nothing here."
    low, high = row["concentration_low"], row["concentration_high"]
    verdict = "more than chance" if low > 1 else "less than chance" if high < 1 else "no more than chance can explain"
    sentence = (
        f"{name} puts {row['concentration']:.2f} [{low:.2f}, {high:.2f}] times the mass on the labelled anatomy that "
        f"chance would ({verdict}); its peak lies there in {row['pointing']:.0%} of the frames, by chance in "
        f"{row['area']:.0%} ({row['sequences']} test sequences of {row['patients']} patients)."
    )
    if row["empty"]:
        sentence += f" On {row['empty']} further sequences the map is zero everywhere; they are not counted."
    twin = next((row for row in table if row["map"] == name and row["weights"] == RANDOM), None)
    if twin and twin["sequences"]:
        sentence += f" With random weights: {twin['concentration']:.2f} times, {twin['pointing']:.0%}."
    return sentence
