"""Networks by name: a variant is a file of this folder with `build(frames, size, classes, **options)`."""

import inspect
import pkgutil
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from fetalflow.errors import InputError

NOT_NETWORKS = {"building", "summary"}


def known_variants() -> list[str]:
    return sorted(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if m.name not in NOT_NETWORKS)


def build(variant: str, frames: int, size: int, classes: int, **options: Any) -> nn.Module:
    """The network of `variant`: float [B, `frames`, `size`, `size`] in 0-1 -> logits [B, `classes`].

    Weights are drawn from torch's global generator. Raises InputError naming the known variants, or the known options
    of the variant.
    """
    if variant not in known_variants():
        raise InputError(f"no network is called {variant!r}; known networks: {', '.join(known_variants())}.")
    module = import_module(f"fetalflow.models.{variant}")
    network = inspect.signature(module.build).return_annotation  # a network states its options once, in its __init__
    known = {p.name for p in inspect.signature(network).parameters.values() if p.kind is p.KEYWORD_ONLY}
    if wrong := sorted(set(options) - known):
        raise InputError(f"{variant} has no option {', '.join(wrong)}; its options: {', '.join(sorted(known))}.")
    return module.build(frames, size, classes, **options)
