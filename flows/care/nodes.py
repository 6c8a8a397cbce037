"""Removes a patient from the nodes of a checkout (`fetalflow node`), whether they run or not."""

from collections.abc import Iterable
from pathlib import Path

from fetalflow.hospital.deidentify.pseudonyms import Key
from fetalflow.hospital.drop.spelling import near, tidy
from fetalflow.node.forgetting import Removed, forget, is_node, runs_elsewhere

NODE = "node"  # folder of a workspace


def erase_from_nodes(
    folders: Iterable[Path], names: Iterable[str], sites: Iterable[str], site: str | None, key: Key | None, plan: bool
) -> dict[Path, Removed]:
    """What was removed, by workspace; with `plan`, what would be. A node on another machine is left as it is.

    names: of her, pseudonyms or with a key also the hospital's identifier; sites: where she is (`near`); site: as the
    caller states it. With a key a pseudonym is one woman at all sites, unless the caller states one.
    """
    names = {*names, *(key.pseudonym("patient", tidy(each)) for each in names if key)}
    known = {near(site)} if site else {*sites} if key is None else set()
    is_site = (lambda each: near(each) in known) if known else None
    places = [folder for folder in dict.fromkeys(folders) if is_node(folder / NODE)]
    places = [folder for folder in places if not runs_elsewhere(folder / NODE)]
    return {folder: forget(folder / NODE, names, is_site, plan) for folder in places}


def nodes_elsewhere(folders: Iterable[Path]) -> list[str]:
    """A sentence for each node that runs on another machine, where she has to be removed."""
    there = {folder: runs_elsewhere(folder / NODE) for folder in dict.fromkeys(folders) if is_node(folder / NODE)}
    return [
        f"what the node of {folder} keeps of her: it runs on {host}, so `fetalflow node --forget` has to be run there"
        for folder, host in there.items()
        if host
    ]
