"""A warm start: training begins with the weights of an earlier model package, or of a pretraining without labels.

The package is in the workspace, in a folder whose name is the SHA-256 of its `config.json`, and that file records the
digest of the weights. So the path in `train.start` identifies the weights, and DVC trains again when they change.
"""

from pathlib import Path
from typing import Any

from torch import nn

from fetalflow.artefacts import file_digest, read_json
from fetalflow.errors import InputError
from fetalflow.models.package_files import CONFIG, ORIGIN
from fetalflow.models.weights import read
from fetalflow.training.pretrained import PRETRAINING, begin_from_pretrained, is_pretrained

FITTING = ("task", "network", "labels", "frames", "size", "options")  # must be equal in both configurations
COLD = "Train from random weights instead: `fetalflow retrain --cold`, or --set TASK.train.start=''."


def begin_from(start: str, network: nn.Module, model: dict[str, Any]) -> None:
    """Copy the weights of the package in the folder `start` into `network`; of pretrained weights those that there are.
    Nothing happens when `start` is empty.

    model: the configuration that training will save. Raises InputError when the package does not match the digest in
    the folder's name, is damaged, or was made for another network, labels or size.
    """
    if not start:
        return
    path = Path(start) / CONFIG
    found = file_digest(path) if path.is_file() else "no such file"
    if found != Path(start).name:
        raise InputError(
            f"the SHA-256 of {path} must be the name of its folder; found: {found}. Run `fetalflow retrain --warm` "
            f"again, which fetches the package. {COLD}"
        )
    if is_pretrained(read_json(path)):
        return begin_from_pretrained(Path(start), network, model)
    earlier, config = read(start)
    differ = [f"  {key}: {config[key]}, now {model[key]}" for key in FITTING if config[key] != model[key]]
    if differ:
        raise InputError("the model to start from does not fit the model to train:\n" + "\n".join(differ) + f"\n{COLD}")
    network.load_state_dict(earlier.state_dict())


def start_without_labels(start: str) -> str:
    """`start` where it is weights of a pretraining, which saw no label; else empty."""
    path = Path(start) / CONFIG
    return start if start and path.is_file() and is_pretrained(read_json(path)) else ""


def started_from(start: str) -> dict[str, Any]:
    """The entries of the new package's configuration on its start: {} for a cold start. `started_from`: the digest of
    the package, its origin in the registry where that is known, and `before`, the packages that the package itself was
    started from, latest first. `pretraining`: the facts of the pretraining that it or one of these began with."""
    if not start:
        return {}
    folder = Path(start)
    config = read_json(folder / CONFIG)
    if is_pretrained(config):
        return {PRETRAINING: config[PRETRAINING] | {"weights": folder.name}}
    origin = read_json(folder / ORIGIN) if (folder / ORIGIN).is_file() else {}
    earlier = config.get("started_from")
    before = [earlier["package"], *earlier["before"]] if earlier else []
    kept = {PRETRAINING: config[PRETRAINING]} if PRETRAINING in config else {}
    return {"started_from": {"package": folder.name, **origin, "before": before}} | kept
