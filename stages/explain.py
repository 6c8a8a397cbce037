"""Pictures that explain the main network of a task: saliency maps, attention, filters, mistakes, and how well the maps
find the anatomy. For a network that segments: outlines, lengths and the worst results."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from fetalflow.artefacts import atomic_folder, write_json, write_table
from fetalflow.evaluation.lengths import with_lengths
from fetalflow.evaluation.predictions import Predictions, check_predictions
from fetalflow.models.building import segments
from fetalflow.models.weights import read
from fetalflow.report.explain.cases import Cases, gate_maps
from fetalflow.report.explain.choosing import (
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
from fetalflow.report.explain.drawing import draw_overlap
from fetalflow.report.explain.maps import network_maps, probabilities
from fetalflow.report.explain.measuring import faithfulness_table, summary
from fetalflow.report.explain.outlines import outline_pictures
from fetalflow.report.explain.pictures import Picture, Shown
from fetalflow.report.explain.stills import painter
from fetalflow.settings.params import load_settings
from fetalflow.training.freed_memory import freed_memory_kept


@freed_memory_kept()  # a sixth of the processor time: every batch of gradients needs the same memory
def main(task: str) -> None:
    settings = load_settings()
    entry, explain = settings.tasks[task], settings.blocks[task].explain
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network, config = read(Path("models") / task / entry.variant, device)
    data = Path("data") / task
    rows = tested(pd.read_parquet(data / "manifest.parquet"), pd.read_parquet(data / "split.parquet"))
    sequences, labels = Sequences(data, rows), tuple(config["labels"])

    def anatomy(row: Mapping[str, Any]) -> np.ndarray:
        return read_sequence(data / row["mask_path"]) > 0

    if segments(network):
        cases, maps = Cases(network, config, data, device), gate_maps
        table = as_measured(rows, measured_again(data, entry.variant, config["training"]), config["training"])
    else:
        answers, maps = probabilities(network, sequences), network_maps
        table = answered(rows, answers, labels)
    table["known"] = known_anatomy(table)
    chosen = choose_per_class(table, labels, explain.per_class, explain.seed)
    mistakes = choose_mistakes(table, explain.mistakes, explain.seed)
    measured_rows = choose_measured(table, explain.measured, explain.seed)

    def shown(row: pd.Series) -> Shown:
        by_label = dict(zip(labels, map(float, answers[row["row"]]), strict=True))
        return Shown(row, sequences[row["row"]], by_label, anatomy(row) if row["known"] else None)

    def pictures() -> Iterator[Picture]:
        if segments(network):
            lowest_dice = choose_worst(table, "dice", explain.worst, largest=False)
            largest_error = choose_worst(table, "largest_error", explain.worst, largest=True)
            return outline_pictures(cases, chosen, lowest_dice, largest_error, mistakes)
        examples, wrong = ([shown(row) for _, row in each.iterrows()] for each in (chosen, mistakes))
        return painter(network, config, device).all(examples, wrong)

    with atomic_folder(Path("reports") / task / "explain") as folder:
        result: dict[str, Any] = {"task": task, "variant": entry.variant, "figures": []}
        overlap: dict[str, Any] = {"sequences": len(measured_rows), "text": "No sequence has a mask: not measured."}
        if len(measured_rows):
            measured = Sequences(data, measured_rows)
            found = faithfulness_table(network, config, measured_rows, measured, anatomy, device, maps)
            write_table(folder / "overlap.csv", found)
            unmeasured = table.loc[~table["known"], "label"].value_counts().reindex(labels, fill_value=0).to_dict()
            overlap |= summary(found, config["frames"], unmeasured, explain.seed)
            figure = draw_overlap(overlap["rows"], still=config["frames"] == 1)
            result["figures"].append(_write(folder, Picture("overlap.png", "overlap", "", "", overlap["text"], figure)))
        result["figures"] += [_write(folder, picture) for picture in pictures()]
        write_json(folder / "explain.json", result | {"overlap": overlap})
    print(f"{len(result['figures'])} figures of {entry.variant} in reports/{task}/explain.\n{overlap['text']}")


def measured_again(data: Path, variant: str, training: Mapping[str, int]) -> Predictions:
    """The main network's test answers of one fold and seed with their lengths, as the measure stage writes them. They
    are measured here again, because that stage waits for all rivals, and this one runs beside their trainings."""
    file = data / "predictions" / f"{variant}.csv"
    table = pd.read_csv(file, dtype=str, na_filter=False)
    fold, seed = str(training["fold"]), str(training["seed"])
    table = table[(table["fold"] == fold) & (table["seed"] == seed) & (table["part"] == "test")]
    archive = data / "answers" / variant / f"{fold}-{seed}.npz"
    manifest = pd.read_parquet(data / "manifest.parquet").set_index("sequence", drop=False)
    return check_predictions(with_lengths(table, [archive], manifest, data, workers=1), str(file))


def _write(folder: Path, picture: Picture) -> dict[str, str]:
    picture.figure.savefig(folder / picture.file)
    return picture.entry()


if __name__ == "__main__":
    from stages.runtime.lifeline import run

    run(main)
