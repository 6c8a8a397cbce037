"""The files of a model package as far as they are read without torch: configuration, digests and familiarity."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, numpy, safe_open

from fetalflow.artefacts import file_digest, read_json
from fetalflow.errors import InputError

FORMAT = 2
WEIGHTS = "model.safetensors"
FAMILIARITY = "familiarity.safetensors"
CONFIG = "config.json"
ORIGIN = "origin.json"  # of a package to start from: the registered model and version that it was fetched from
GIVEN = {
    **{"task": str, "variant": str, "network": str, "labels": list, "frames": int, "size": int, "options": dict},
    "extract": dict,
}
ADDED = {"format": int, "normalisation": dict, "versions": dict, "weights": dict}


def read_config(folder: Path | str) -> dict[str, Any]:
    """The configuration of `folder`, checked against the digest in the header of its weights. The weights are not
    loaded: this is for engines that do not need torch's.

    Raises InputError when a file is missing, or the configuration is incomplete or was changed.
    """
    folder = Path(folder)
    config = unchecked_config(folder)
    check_weights_exist(folder / WEIGHTS)
    shapes_of(folder / WEIGHTS, config)
    return config


def read_familiarity(folder: Path | str, config: dict[str, Any]) -> dict[str, np.ndarray] | None:
    """The familiarity arrays of the package in `folder` with the configuration `config`; None where it has none.

    Raises InputError when the file is missing or is not the one that was saved.
    """
    if "familiarity" not in config:
        return None
    path = Path(folder) / FAMILIARITY
    if not path.is_file():
        raise InputError(f"{folder} holds no {FAMILIARITY}, but {CONFIG} names it. Copy the whole folder again.")
    if (found := file_digest(path)) != config["familiarity"].get("sha256"):
        raise InputError(
            f"{path} is not the file that was saved: SHA-256 {found}, {CONFIG} records "
            f"{config['familiarity'].get('sha256')}. Copy the whole folder again, or train again."
        )
    return numpy.load_file(path)


def unchecked_config(folder: Path) -> dict[str, Any]:
    """As `read_config`, but without the check against the weights."""
    path = folder / CONFIG
    if not path.is_file():
        raise InputError(f"{folder} holds no {CONFIG}. Expected a folder that the train stage wrote.")
    try:
        config = read_json(path)
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}.") from None
    if not isinstance(config, dict):
        raise InputError(f"{path} must hold an object, found {type(config).__name__}.")
    check_keys(config, GIVEN | ADDED, str(path))
    if config["format"] != FORMAT:
        raise InputError(f"{path} has format {config['format']}, this fetalflow reads {FORMAT}.")
    return config


def check_weights_exist(weights: Path) -> None:
    """Raises InputError when the file `weights` is missing."""
    if not weights.is_file():
        raise InputError(f"{weights.parent} holds no {WEIGHTS}. Expected a folder that the train stage wrote.")


def shapes_of(weights: Path, config: dict[str, Any]) -> dict[str, tuple]:
    """The shape of each tensor. Raises InputError when the weights were saved with another configuration."""
    try:
        with safe_open(weights, "np") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            recorded = (file.metadata() or {}).get("config_sha256")
    except SafetensorError as error:
        raise InputError(f"{weights} is not a safetensors file: {error}.") from None
    if recorded != config_digest(config):
        raise InputError(f"{weights.parent / CONFIG} was changed after it was saved. Copy the whole folder again.")
    return shapes


def check_keys(config: dict[str, Any], expected: dict[str, type], where: str) -> None:
    """Raises InputError when a key of `expected` is missing in `config`, or its value has another type."""
    if missing := [key for key in expected if key not in config]:
        raise InputError(f"{where} lacks {', '.join(missing)}. Expected keys: {', '.join(expected)}.")
    for key, kind in expected.items():
        if not isinstance(config[key], kind) or isinstance(config[key], bool):
            raise InputError(f"{where}: {key} must be {kind.__name__}, found {config[key]!r}.")
    if len(set(config["labels"])) != len(config["labels"]) or not config["labels"]:
        raise InputError(f"{where}: labels must be a list without duplicates, found {config['labels']!r}.")


def config_digest(config: dict[str, Any]) -> str:
    """SHA-256 of a configuration without its facts about the weights, which contain this digest."""
    rest = {key: value for key, value in config.items() if key != "weights"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
