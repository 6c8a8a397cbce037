"""A trained network as files: `model.safetensors`, `config.json` and, to detect input that is unlike the training data,
`familiarity.safetensors`. No file is a pickle, which could run code when it is loaded."""

import hashlib
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, numpy, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from fetalflow.artefacts import atomic_folder, file_digest, read_json, write_json
from fetalflow.errors import InputError
from fetalflow.models.building import build

FORMAT = 2
WEIGHTS = "model.safetensors"
FAMILIARITY = "familiarity.safetensors"
CONFIG = "config.json"
GIVEN = {
    **{"task": str, "variant": str, "network": str, "labels": list, "frames": int, "size": int, "options": dict},
    "extract": dict,
}
ADDED = {"format": int, "normalisation": dict, "versions": dict, "weights": dict}


def save(
    folder: Path | str,
    network: nn.Module,
    config: dict[str, Any],
    familiarity: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write `network` and what is needed to use it. `folder` is replaced as a whole.

    `config` gives `task`, `variant`, `network` (its file in `models/`), `labels` (in the order of the network's
    outputs), `frames` (N), `size` (px), `options` (of the network), `extract` (the settings for reading a cine) and
    optionally further JSON-able facts such as `training`. Format, normalisation, versions and digests are added here.
    `familiarity` holds the arrays of a `fetalflow.models.familiarity.Familiarity`; its other facts are in the
    configuration's `familiarity`.

    Raises InputError when a key is missing or of the wrong type.
    """
    config = json.loads(json.dumps(config))
    _check_keys(config, GIVEN | ({} if familiarity is None else {"familiarity": dict}), "the given configuration")
    config = {"format": FORMAT} | config
    config["normalisation"] = {"from": "uint8", "divide_by": 255}
    config["versions"] = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    with atomic_folder(folder) as temporary:
        if familiarity is not None:
            numpy.save_file({name: np.ascontiguousarray(a) for name, a in familiarity.items()}, temporary / FAMILIARITY)
            (temporary / FAMILIARITY).chmod(0o644)
            config["familiarity"] |= {"sha256": file_digest(temporary / FAMILIARITY)}
        # The weights hold the digest of the configuration, so that neither file can be replaced alone.
        save_file(state, temporary / WEIGHTS, metadata={"config_sha256": _config_digest(config)})
        (temporary / WEIGHTS).chmod(0o644)  # safetensors makes files that only their owner can read
        parameters = sum(p.numel() for p in network.parameters() if p.requires_grad)
        weights = {"sha256": file_digest(temporary / WEIGHTS), "trainable_parameters": parameters}
        write_json(temporary / CONFIG, config | {"weights": weights})


def read(folder: Path | str, device: str | torch.device = "cpu") -> tuple[nn.Module, dict[str, Any]]:
    """The network of `folder` in evaluation mode on `device`, and its configuration.

    Raises InputError when a file is missing, the configuration is incomplete or was changed, the weights are not those
    that were saved, or the weights do not fit the network.
    """
    folder = Path(folder)
    config, weights = _read_config(folder), folder / WEIGHTS
    _check_exists(weights)
    if (found := file_digest(weights)) != config["weights"].get("sha256"):
        raise InputError(
            f"{weights} is not the file that was saved: SHA-256 {found}, {CONFIG} records "
            f"{config['weights'].get('sha256')}. Copy the whole folder again, or train again."
        )
    shapes, network = _header(weights, config), without_weights(config)
    _check_shapes(shapes, {name: tuple(value.shape) for name, value in network.state_dict().items()}, weights)
    network.load_state_dict(load_file(weights), assign=True)
    return network.to(device).eval(), config


def read_config(folder: Path | str) -> dict[str, Any]:
    """The configuration of `folder`, checked against the digest in the header of its weights. The weights are not
    loaded: this is for engines that do not need torch's.

    Raises InputError when a file is missing, or the configuration is incomplete or was changed.
    """
    folder = Path(folder)
    config = _read_config(folder)
    _check_exists(folder / WEIGHTS)
    _header(folder / WEIGHTS, config)
    return config


def without_weights(config: dict[str, Any]) -> nn.Module:
    """The network of a package's configuration on the meta device, which has shapes only: no random weights are drawn
    and no pretrained weights are loaded."""
    with torch.device("meta"):
        return build(config["network"], config["frames"], config["size"], len(config["labels"]), **config["options"])


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


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        raise InputError(f"{folder} holds no {CONFIG}. Expected a folder that the train stage wrote.")
    try:
        config = read_json(path)
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}.") from None
    if not isinstance(config, dict):
        raise InputError(f"{path} must hold an object, found {type(config).__name__}.")
    _check_keys(config, GIVEN | ADDED, str(path))
    if config["format"] != FORMAT:
        raise InputError(f"{path} has format {config['format']}, this fetalflow reads {FORMAT}.")
    return config


def _check_exists(weights: Path) -> None:
    if not weights.is_file():
        raise InputError(f"{weights.parent} holds no {WEIGHTS}. Expected a folder that the train stage wrote.")


def _header(weights: Path, config: dict[str, Any]) -> dict[str, tuple]:
    """The shape of each tensor. Raises InputError when the weights were saved with another configuration."""
    try:
        with safe_open(weights, "pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            recorded = (file.metadata() or {}).get("config_sha256")
    except SafetensorError as error:
        raise InputError(f"{weights} is not a safetensors file: {error}.") from None
    if recorded != _config_digest(config):
        raise InputError(f"{weights.parent / CONFIG} was changed after it was saved. Copy the whole folder again.")
    return shapes


def _check_keys(config: dict[str, Any], expected: dict[str, type], where: str) -> None:
    if missing := [key for key in expected if key not in config]:
        raise InputError(f"{where} lacks {', '.join(missing)}. Expected keys: {', '.join(expected)}.")
    for key, kind in expected.items():
        if not isinstance(config[key], kind) or isinstance(config[key], bool):
            raise InputError(f"{where}: {key} must be {kind.__name__}, found {config[key]!r}.")
    if len(set(config["labels"])) != len(config["labels"]) or not config["labels"]:
        raise InputError(f"{where}: labels must be a list without duplicates, found {config['labels']!r}.")


def _check_shapes(found: dict[str, tuple], expected: dict[str, tuple], weights: Path) -> None:
    wrong = [
        f"  {name}: expected {expected.get(name, 'no such tensor')}, found {found.get(name, 'none')}"
        for name in sorted(found.keys() | expected.keys())
        if found.get(name) != expected.get(name)
    ]
    if wrong:
        raise InputError(f"{weights} does not fit the network of {CONFIG}:\n" + "\n".join(wrong[:10]))


def _config_digest(config: dict[str, Any]) -> str:
    rest = {key: value for key, value in config.items() if key != "weights"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
