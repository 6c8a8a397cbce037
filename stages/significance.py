"""The main network against each of its rivals, on the same test patients."""

from pathlib import Path

from fetalflow.artefacts import write_json
from fetalflow.evaluation.predictions import predictions_of, read_predictions
from fetalflow.evaluation.significance import compare_all
from fetalflow.settings.params import load_settings


def main(task: str) -> None:
    settings = load_settings()
    tables = {v: read_predictions(predictions_of(Path("data", task), v)) for v in settings.variants(task)}
    main_variant, *rivals = tables
    result = compare_all(
        tables[main_variant], {v: tables[v] for v in rivals}, settings.blocks[task].significance, name=main_variant
    )
    write_json(Path("reports", task, "significance.json"), result)
    for comparison in result["comparisons"].values():
        print(comparison["verdict"])


if __name__ == "__main__":
    from stages.runtime.lifeline import run

    run(main)
