"""Pretrained weights as files: `model.safetensors` and `config.json`, in a folder named by the SHA-256 of the latter.

They are not a model package: they have neither labels nor a head. Training starts from them as from an earlier package
(`training/start.py`): the folder's name identifies the weights.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fetalflow.artefacts import atomic_folder, file_digest, read_json, write_json
from fetalflow.errors import InputError
from fetalflow.models.package_files import CONFIG, WEIGHTS

PRETRAINING = "pretraining"  # key of the configuration; a model package that started from it has it, too
FITTING = ("network", "frames", "size", "options")  # must be equal in both configurations; labels need not
SHOWN = 5  # tensors in a message
AGAIN = "Run the stage pretrain again, or train without it: --set TASK.pretrain.folder=''."


def save_pretrained(folder: Path, weights: Mapping[str, Tensor], config: dict[str, Any]) -> Path:
    """Write `folder`/DIGEST and return its path; `folder` is replaced as a whole.

    config: `network`, `frames`, `size`, `options`, and in PRETRAINING the facts that the model card states.
    """
    with atomic_folder(folder) as temporary:
        inner = temporary / "new"
        inner.mkdir()
        save_file(dict(weights), inner / WEIGHTS)
        (inner / WEIGHTS).chmod(0o644)  # safetensors makes files that only their owner can read
        write_json(
            inner / CONFIG, json.loads(json.dumps(config)) | {"weights": {"sha256": file_digest(inner / WEIGHTS)}}
        )
        name = file_digest(inner / CONFIG)
        inner.rename(temporary / name)
    return folder / name


def kept_weights(folder: Path, recipe: str) -> bool:
    """Whether `folder` holds whole weights of a pretraining with the same `recipe`: digest of sequences, settings and
    code."""
    found = [path.parent for path in folder.glob(f"*/{CONFIG}")]
    if len(found) != 1 or file_digest(found[0] / CONFIG) != found[0].name or not (found[0] / WEIGHTS).is_file():
        return False
    config = read_json(found[0] / CONFIG)
    return config[PRETRAINING]["recipe"] == recipe and file_digest(found[0] / WEIGHTS) == config["weights"]["sha256"]


def pretrained_in(folder: Path) -> Path:
    """The one folder in `folder` that `save_pretrained` wrote. Raises InputError when there is none, or several."""
    found = sorted(path.parent for path in folder.glob(f"*/{CONFIG}")) if folder.is_dir() else []
    if len(found) != 1:
        raise InputError(
            f"{folder} must hold the pretrained weights in one folder, found {len(found)}. `dvc repro` runs the stage "
            "pretrain before the stage train."
        )
    return found[0]


def is_pretrained(config: dict[str, Any]) -> bool:
    """Whether this is the configuration of pretrained weights, and not that of a model package."""
    return PRETRAINING in config and "labels" not in config


def begin_from_pretrained(folder: Path, network: nn.Module, model: dict[str, Any]) -> None:
    """Copy the weights in `folder` into `network`; its head, and a decoder of masks, stay as they are.

    model: the configuration that training will save. The caller has compared the digest in the folder's name. Raises
    InputError when the weights are damaged, or of another network, size or number of frames.
    """
    config, path = read_json(folder / CONFIG), folder / WEIGHTS
    differ = [f"  {key}: {config.get(key)}, now {model[key]}" for key in FITTING if config.get(key) != model[key]]
    if differ:
        raise InputError(
            f"the pretrained weights in {folder} do not fit the network to train:\n" + "\n".join(differ) + f"\n{AGAIN}"
        )
    found = file_digest(path) if path.is_file() else "no such file"
    if found != config["weights"]["sha256"]:
        raise InputError(
            f"{path} is not the file that was saved: expected SHA-256 {config['weights']['sha256']}, found {found}. "
            f"{AGAIN}"
        )
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path} is not a safetensors file: {error}. {AGAIN}") from None
    state = network.state_dict()
    wrong = [
        f"  {name}: expected {tuple(state[name].shape) if name in state else 'no such tensor'}, found {tuple(w.shape)}"
        for name, w in weights.items()
        if name not in state or state[name].shape != w.shape
    ]
    if wrong:
        raise InputError(f"{path} does not fit the network:\n" + "\n".join(wrong[:SHOWN]) + f"\n{AGAIN}")
    network.load_state_dict(state | weights)
