"""Explain the main network of a task: maps, attention, filters, mistakes, and how well the maps find the anatomy; of a
network that segments, its outlines, lengths and worst answers."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from fetalflow.artefacts import atomic_folder, write_json, write_table
from fetalflow.evaluation.predictions import read_predictions
from fetalflow.explain.cases import Asked, gate_maps
from fetalflow.explain.choosing import (
    Sequences,
    answered,
    as_measured,
    choose_measured,
    choose_mistakes,
    choose_per_class,
    choose_worst,
    known_anatomy,
    read_sequence,
    tested,
)
from fetalflow.explain.drawing import draw_overlap
from fetalflow.explain.maps import network_maps, probabilities
from fetalflow.explain.measuring import measure, summary
from fetalflow.explain.outlines import outline_pictures
from fetalflow.explain.pictures import Picture, Shown
from fetalflow.explain.stills import painter
from fetalflow.models.building import segments
from fetalflow.settings import load_settings
from fetalflow.weights import read


def main(task: str) -> None:
    settings = load_settings()
    entry, wanted = settings.tasks[task], settings.blocks[task].explain
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network, config = read(Path("models") / task / entry.variant, device)
    data = Path("data") / task
    rows = tested(pd.read_parquet(data / "manifest.parquet"), pd.read_parquet(data / "split.parquet"))
    sequences, labels = Sequences(data, rows), tuple(config["labels"])

    def anatomy(row: Mapping[str, Any]) -> np.ndarray:
        return read_sequence(data / row["mask_path"]) > 0

    if segments(network):
        asked, maps = Asked(network, config, data, device), gate_maps
        table = as_measured(rows, read_predictions(data / "measured" / f"{entry.variant}.csv"), config["training"])
    else:
        answers, maps = probabilities(network, sequences, device), network_maps
        table = answered(rows, answers, labels)
    table["known"] = known_anatomy(table)
    chosen = choose_per_class(table, labels, wanted.per_class, wanted.seed)
    mistakes = choose_mistakes(table, wanted.mistakes, wanted.seed)
    measured_rows = choose_measured(table, wanted.measured, wanted.seed)

    def shown(row: pd.Series) -> Shown:
        chances = dict(zip(labels, map(float, answers[row["row"]]), strict=True))
        return Shown(row, sequences[row["row"]], chances, anatomy(row) if row["known"] else None)

    def pictures() -> Iterator[Picture]:
        if segments(network):
            least = choose_worst(table, "dice", wanted.worst, largest=False)
            furthest = choose_worst(table, "largest_error", wanted.worst, largest=True)
            return outline_pictures(asked, chosen, least, furthest, mistakes)
        examples, wrong = ([shown(row) for _, row in each.iterrows()] for each in (chosen, mistakes))
        return painter(network, config, device).all(examples, wrong)

    with atomic_folder(Path("reports") / task / "explain") as folder:
        result: dict[str, Any] = {"task": task, "variant": entry.variant, "figures": []}
        overlap: dict[str, Any] = {"sequences": len(measured_rows), "text": "No sequence has a mask: not measured."}
        if len(measured_rows):
            measured = Sequences(data, measured_rows)
            found = measure(network, config, measured_rows, measured, anatomy, device, maps)
            write_table(folder / "overlap.csv", found)
            unmeasured = table.loc[~table["known"], "label"].value_counts().reindex(labels, fill_value=0).to_dict()
            overlap |= summary(found, config["frames"], unmeasured, wanted.seed)
            figure = draw_overlap(overlap["rows"], still=config["frames"] == 1)
            result["figures"].append(_write(folder, Picture("overlap.png", "overlap", "", "", overlap["text"], figure)))
        result["figures"] += [_write(folder, picture) for picture in pictures()]
        write_json(folder / "explain.json", result | {"overlap": overlap})
    print(f"{len(result['figures'])} figures of {entry.variant} in reports/{task}/explain.\n{overlap['text']}")


def _write(folder: Path, picture: Picture) -> dict[str, str]:
    picture.figure.savefig(folder / picture.file)
    return picture.entry()


if __name__ == "__main__":
    from stages.lifeline import run

    run(main)
