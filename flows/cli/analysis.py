"""Commands for networks and predictions that need no run: `describe`, `score`, `compare`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fetalflow.errors import InputError


def describe(
    model: str,
    size: Annotated[int | None, typer.Option(min=1, help="Height and width of a frame, in pixels.")] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="Number of frames of a sequence.")] = None,
    classes: Annotated[int | None, typer.Option(min=1, help="Number of labels.")] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="OPTION=VALUE for an option of the network.")
    ] = None,
) -> None:
    """Show layers, output shapes, parameters and GMAC of a network; the default sizes are those of its paper."""
    from fetalflow.models.summary import describe as describe_network
    from fetalflow.models.summary import task_of
    from fetalflow.settings.params import load_settings
    from flows.checkout import CHECKOUT
    from flows.workspaces.workspace import overlay, parse_changes

    settings, task = load_settings(CHECKOUT / "params.yaml"), task_of(model)
    block = overlay(settings.blocks[task].model_dump(), settings.profiles.get("paper", {}).get(task, {}))
    shape = {
        "frames": frames or block["extract"]["frames"],
        "size": size or block["preprocess"]["size"],
        "classes": classes or len(block["extract"]["labels"] or ()),
    }
    print(describe_network(model, **shape, options=parse_changes(change or [])))


def score(predictions: Path) -> None:
    """Compute all metrics of a predictions file, as JSON."""
    from fetalflow.evaluation.predictions import read_predictions
    from fetalflow.evaluation.scoring import score as score_predictions
    from fetalflow.settings.params import Evaluate

    print(json.dumps(score_predictions(read_predictions(predictions), Evaluate()), indent=2))


def compare(predictions: list[Path]) -> None:
    """Compare the first predictions file with each other one: paired patients, Wilcoxon, McNemar, Holm; as JSON."""
    from fetalflow.evaluation.predictions import read_predictions
    from fetalflow.evaluation.significance import compare_all
    from fetalflow.settings.params import Significance

    if len(predictions) < 2:
        raise InputError("compare needs at least two predictions files; the first is the reference")
    reference, *others = (read_predictions(path) for path in predictions)
    by_path = {str(path): table for path, table in zip(predictions[1:], others, strict=True)}
    if len(by_path) < len(others):
        raise InputError("compare got the same predictions file twice")
    print(json.dumps(compare_all(reference, by_path, Significance()), indent=2))
