"""Networks by name: a network is a file of a task's room here that has `build(frames, size, classes, **options)`.

The room `parts` holds what networks of several rooms, or several of one, are made of.
"""

import inspect
import pkgutil
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, get_type_hints

from torch import Tensor, nn

from fetalflow.errors import InputError

PARTS = "fetalflow.models.parts."


class Answer(NamedTuple):
    """What a network says that segments a clip and names what it sees; its `forward` is annotated with it.

    mask: logits [B, N, H, W]. label: logits [B, C]. sides: while it learns, further logits [B, N, H, W] of the mask,
    one from each level of its decoder.
    """

    mask: Tensor
    label: Tensor
    sides: tuple[Tensor, ...] = ()


def segments(network: nn.Module) -> bool:
    """Whether the network answers with an `Answer`; others answer with the logits of labels alone."""
    return get_type_hints(type(network).forward).get("return") is Answer


def label_logits(answer: Tensor | Answer) -> Tensor:
    """[B, C] of what any network answers."""
    return answer.label if isinstance(answer, Answer) else answer


def known_networks() -> dict[str, str]:
    """Module by network, sorted by network."""
    modules = pkgutil.walk_packages([str(Path(__file__).parent)], "fetalflow.models.")
    files = (m.name for m in modules if m.name.count(".") == 3 and not m.ispkg and not m.name.startswith(PARTS))
    found = {name.rsplit(".", 1)[1]: name for name in files}
    return {name: found[name] for name in sorted(found)}


def known_options(network: str) -> set[str]:
    """What the network called `network` can be built with. Raises InputError naming the known networks."""
    kind = inspect.signature(_module(network).build).return_annotation  # a network states its options in its __init__
    return {p.name for p in inspect.signature(kind).parameters.values() if p.kind is p.KEYWORD_ONLY}


def build(network: str, frames: int, size: int, classes: int, **options: Any) -> nn.Module:
    """The network called `network`: float [B, `frames`, `size`, `size`] in 0-1 -> logits [B, `classes`], or an
    Answer.

    Weights are drawn from torch's global generator. Raises InputError naming the known networks, or the known options
    of the network.
    """
    known = known_options(network)
    if wrong := sorted(set(options) - known):
        raise InputError(f"{network} has no option {', '.join(wrong)}; its options: {', '.join(sorted(known))}.")
    return _module(network).build(frames, size, classes, **options)


def _module(network: str) -> ModuleType:
    modules = known_networks()
    if network not in modules:
        raise InputError(f"no network is called {network!r}; known networks: {', '.join(modules)}.")
    return import_module(modules[network])
