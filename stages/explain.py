"""Explain the main network of a task: maps, attention, filters, mistakes, and how well the maps find the anatomy."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from fetalflow.artefacts import atomic_folder, write_json, write_table
from fetalflow.explain.choosing import (
    Sequences,
    answered,
    choose_measured,
    choose_mistakes,
    choose_per_class,
    known_anatomy,
    tested,
)
from fetalflow.explain.drawing import draw_overlap
from fetalflow.explain.maps import probabilities
from fetalflow.explain.measuring import TRAINED, by_label, in_words, measure, remarks, table_of
from fetalflow.explain.overlap import read_anatomy
from fetalflow.explain.pictures import Picture, Shown
from fetalflow.explain.stills import painter
from fetalflow.settings import load_settings
from fetalflow.weights import read


def main(task: str) -> None:
    settings = load_settings()
    entry, wanted = settings.tasks[task], settings.blocks[task].explain
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network, config = read(Path("models") / task / entry.variant, device)
    data, drop = Path("data") / task, Path(entry.drop)
    rows = tested(pd.read_parquet(data / "manifest.parquet"), pd.read_parquet(data / "split.parquet"))
    sequences = Sequences(data, rows)
    answers = probabilities(network, sequences, device)
    labels = tuple(config["labels"])
    table = answered(rows, answers, labels)
    table["known"] = known_anatomy(table)

    def anatomy(row: Mapping[str, Any]) -> np.ndarray:
        first, step = int(row["first_frame"]), float(row.get("step", 1.0))
        return read_anatomy(drop / row["mask"], first, config["frames"], config["size"], step)

    def shown(row: pd.Series) -> Shown:
        chances = dict(zip(labels, map(float, answers[row["row"]]), strict=True))
        return Shown(row, sequences[row["row"]], chances, anatomy(row) if row["known"] else None)

    chosen = choose_per_class(table, labels, wanted.per_class, wanted.seed)
    mistakes = choose_mistakes(table, wanted.mistakes, wanted.seed)
    measured_rows = choose_measured(table, wanted.measured, wanted.seed)
    unmeasured = table.loc[~table["known"], "label"].value_counts().reindex(labels, fill_value=0).to_dict()

    with atomic_folder(Path("reports") / task / "explain") as folder:
        result: dict[str, Any] = {"task": task, "variant": entry.variant, "figures": []}
        overlap: dict[str, Any] = {"sequences": len(measured_rows), "text": "No sequence has a mask: not measured."}
        if len(measured_rows):
            measured = Sequences(data, measured_rows)
            found = measure(network, config, measured_rows, measured, anatomy, device)
            write_table(folder / "overlap.csv", found)
            lines = table_of(found, wanted.seed)
            names = list(dict.fromkeys(line["map"] for line in lines if line["weights"] == TRAINED))
            overlap |= {
                "text": " ".join(
                    [
                        *(in_words(lines, name, config["frames"]) for name in (names[0], names[-1])),
                        remarks(config["frames"], unmeasured),
                    ]
                ),
                "unmeasured": unmeasured,
                "rows": lines,
                "by_label": {name: by_label(found, name) for name in names},
            }
            picture = Picture(
                "overlap.png",
                "overlap",
                "",
                "",
                overlap["text"],
                draw_overlap(lines, still=config["frames"] == 1),
            )
            result["figures"].append(_write(folder, picture))
        for picture in painter(network, config, device).all(
            [shown(row) for _, row in chosen.iterrows()], [shown(row) for _, row in mistakes.iterrows()]
        ):
            result["figures"].append(_write(folder, picture))
        write_json(folder / "explain.json", result | {"overlap": overlap})
    print(f"{len(result['figures'])} figures of {entry.variant} in reports/{task}/explain.\n{overlap['text']}")


def _write(folder: Path, picture: Picture) -> dict[str, str]:
    picture.figure.savefig(folder / picture.file)
    return picture.entry()


if __name__ == "__main__":
    from stages.lifeline import run

    run(main)
