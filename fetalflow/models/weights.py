"""A trained network as files: `model.safetensors`, `config.json` and, to detect input that is unlike the training data,
`familiarity.safetensors`. No file is a pickle, which could run code when it is loaded."""

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import numpy
from safetensors.torch import load_file, save_file
from torch import nn

from fetalflow.artefacts import atomic_folder, file_digest, write_json
from fetalflow.errors import InputError
from fetalflow.models.building import build
from fetalflow.models.package_files import (
    CONFIG,
    FAMILIARITY,
    FORMAT,
    GIVEN,
    WEIGHTS,
    check_keys,
    check_weights_exist,
    config_digest,
    shapes_of,
    unchecked_config,
)


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
    check_keys(config, GIVEN | ({} if familiarity is None else {"familiarity": dict}), "the given configuration")
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
        save_file(state, temporary / WEIGHTS, metadata={"config_sha256": config_digest(config)})
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
    config, weights = unchecked_config(folder), folder / WEIGHTS
    check_weights_exist(weights)
    if (found := file_digest(weights)) != config["weights"].get("sha256"):
        raise InputError(
            f"{weights} is not the file that was saved: SHA-256 {found}, {CONFIG} records "
            f"{config['weights'].get('sha256')}. Copy the whole folder again, or train again."
        )
    shapes, network = shapes_of(weights, config), without_weights(config)
    _check_shapes(shapes, {name: tuple(value.shape) for name, value in network.state_dict().items()}, weights)
    network.load_state_dict(load_file(weights), assign=True)
    return network.to(device).eval(), config


def without_weights(config: dict[str, Any]) -> nn.Module:
    """The network of a package's configuration on the meta device, which has shapes only: no random weights are drawn
    and no pretrained weights are loaded."""
    with torch.device("meta"):
        return build(config["network"], config["frames"], config["size"], len(config["labels"]), **config["options"])


def _check_shapes(found: dict[str, tuple], expected: dict[str, tuple], weights: Path) -> None:
    wrong = [
        f"  {name}: expected {expected.get(name, 'no such tensor')}, found {found.get(name, 'none')}"
        for name in sorted(found.keys() | expected.keys())
        if found.get(name) != expected.get(name)
    ]
    if wrong:
        raise InputError(f"{weights} does not fit the network of {CONFIG}:\n" + "\n".join(wrong[:10]))
