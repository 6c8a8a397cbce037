"""A warm start: training begins with the weights of an earlier model package instead of random ones.

The package lies in the workspace in a folder named by the SHA-256 of its `config.json`, which records the digest of the
weights: so the path in `train.start` says which bytes they are, and DVC trains anew when they are others.
"""

from pathlib import Path
from typing import Any

from torch import nn

from fetalflow.artefacts import file_digest, read_json
from fetalflow.errors import InputError
from fetalflow.weights import CONFIG, read

ORIGIN = "origin.json"  # beside the package: which version of which registered model it is
FITTING = ("task", "network", "labels", "frames", "size", "options")  # of both configurations, alike
COLD = "Train from random weights instead: `fetalflow retrain --cold`, or an empty `train.start`."


def begin_from(start: str, network: nn.Module, model: dict[str, Any]) -> None:
    """Put the weights of the package in the folder `start` into `network`, which `model` describes; "" does nothing.

    model: the configuration that training will save. Raises InputError when the package is not the one that the
    folder's name says, was damaged, or was made for another network, labels or size.
    """
    if not start:
        return
    path = Path(start) / CONFIG
    found = file_digest(path) if path.is_file() else "no such file"
    if found != Path(start).name:
        raise InputError(
            f"{path} must be the file with the SHA-256 that its folder is named by; found: {found}. Start "
            f"`fetalflow retrain --warm` again, which fetches the package. {COLD}"
        )
    earlier, config = read(start)
    differ = [f"  {key}: {config[key]}, now {model[key]}" for key in FITTING if config[key] != model[key]]
    if differ:
        raise InputError(
            "the model to start from does not fit what is trained now:\n" + "\n".join(differ) + f"\n{COLD}"
        )
    network.load_state_dict(earlier.state_dict())


def started_from(start: str) -> dict[str, Any]:
    """What the package's configuration says of its start: {} for a cold one, else `started_from` with the digest of the
    package, its origin in the registry where that is known, and `before`, the starts of the start, latest first."""
    if not start:
        return {}
    folder = Path(start)
    origin = read_json(folder / ORIGIN) if (folder / ORIGIN).is_file() else {}
    earlier = read_json(folder / CONFIG).get("started_from")
    before = [earlier["package"], *earlier["before"]] if earlier else []
    return {"started_from": {"package": folder.name, **origin, "before": before}}
