"""Entries of params.yaml for the networks that a small test trains."""

from typing import Any


def entry(task: str, variant: str, network: str = "", base: str = "", **options: Any) -> dict[str, Any]:
    """One variant. network, base: default the variant's name."""
    network = network or variant
    return {"task": task, "variant": variant, "network": network, "base": base or network, "options": options}


def put_variants(params: dict[str, Any], task: str, entries: list[dict[str, Any]]) -> None:
    """Let `task` train the networks of `entries`, the first as its main one; other tasks in `params` keep theirs."""
    main, *rivals = entries
    params["tasks"][task] = {"drop": f"data/{task}/drop"} | params["tasks"].get(task, {}) | main
    params[task]["rivals"] = {f"{task}-{rival['variant']}": rival for rival in rivals}
    params["ablations"] = {name: rival for each in params["tasks"] for name, rival in params[each]["rivals"].items()}
