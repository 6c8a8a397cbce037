"""Builds networks by name. A network is a file in a task's folder here with `build(frames, size, classes, **options)`.

The folder `parts` holds layers that several networks share.
"""

import inspect
import pkgutil
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, get_type_hints

from torch import Tensor, nn

from fetalflow.errors import InputError

PARTS = "fetalflow.models.parts."


class Answer(NamedTuple):
    """The output of a network that segments a clip and labels it. The `forward` of such a network states this type.

    mask: logits [B, N, H, W]. label: logits [B, C]. sides: in training mode, further logits [B, N, H, W] of the mask,
    one from each level of the decoder.
    """

    mask: Tensor
    label: Tensor
    sides: tuple[Tensor, ...] = ()


def segments(network: nn.Module) -> bool:
    """Whether the network returns an `Answer`; other networks return the logits of labels only."""
    return get_type_hints(type(network).forward).get("return") is Answer


def known_networks() -> dict[str, str]:
    """The module of each network, sorted by the network's name."""
    modules = pkgutil.walk_packages([str(Path(__file__).parent)], "fetalflow.models.")
    files = (m.name for m in modules if m.name.count(".") == 3 and not m.ispkg and not m.name.startswith(PARTS))
    found = {name.rsplit(".", 1)[1]: name for name in files}
    return {name: found[name] for name in sorted(found)}


def known_options(network: str) -> set[str]:
    """The names of the options of the network called `network`. Raises InputError naming the known networks."""
    network_class = inspect.signature(_module(network).build).return_annotation  # its __init__ states the options
    return {p.name for p in inspect.signature(network_class).parameters.values() if p.kind is p.KEYWORD_ONLY}


def build(network: str, frames: int, size: int, classes: int, **options: Any) -> nn.Module:
    """The network called `network`: float [B, `frames`, `size`, `size`] in 0-1 -> logits [B, `classes`], or an
    Answer.

    Random weights come from torch's global generator. Raises InputError naming the known networks, or the known options
    of the network.
    """
    known = known_options(network)
    if wrong := sorted(set(options) - known):
        raise InputError(f"{network} has no option {', '.join(wrong)}; its options: {', '.join(sorted(known))}.")
    return _module(network).build(frames, size, classes, **options)


def about(network: str) -> str:
    """The first sentence of the file of the network called `network`: what the network is. Raises InputError naming the
    known networks."""
    text = " ".join((inspect.getdoc(_module(network)) or "").split("\n\n")[0].split())
    return re.split(r"(?<=\.) (?!\d)", text)[0]


def _module(network: str) -> ModuleType:
    modules = known_networks()
    if network not in modules:
        raise InputError(f"no network is called {network!r}; known networks: {', '.join(modules)}.")
    return import_module(modules[network])
