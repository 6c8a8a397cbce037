"""A delivery that is recalled from every task of every workspace that took it."""

from collections.abc import Iterator
from pathlib import PurePosixPath

from fetalflow.errors import InputError
from fetalflow.hospital.arrival.journal import read_journal
from fetalflow.hospital.arrival.recall import AlreadySo, recall
from fetalflow.hospital.arrival.recall_record import HAD, NotTaken, drop_of
from flows.care.stores import Store
from flows.workspaces.lock import hold


def recall_everywhere(chosen: list[Store], delivery: str, by: str, why: str, restore: bool = False) -> Iterator[str]:
    """Leave the rows of a delivery out of each of the stores that took it, or with `restore` let them count again.
    Yields what was done, a sentence for each store.

    delivery: its name in `fetalflow arrivals`, or its drop. Raises InputError if no store took it, if deliveries of
    several inboxes have this name, or if its rows are left out (or count) everywhere already.
    """
    found = find_delivery(chosen, delivery)
    done, already = [], []
    for store, drop in found.items():
        with hold(store.workspace, "fetalflow recall"):
            try:
                recall(store.path, delivery, by, why, store.split, restore)
            except AlreadySo as same:
                already.append(same)
                yield f"{store}: {same}"
                continue
        done.append(store)
        yield f"{store}: the rows of delivery {drop} {'count again' if restore else 'are left out'}."
    if not done:
        raise already[0]
    yield from _namesakes(chosen, found)
    yield "Next: " + " and ".join(
        f"fetalflow retrain --task {store.task}" + (f" --name {store.workspace.name}" if _has_a_name(store) else "")
        for store in done
    )


def find_delivery(chosen: list[Store], delivery: str) -> dict[Store, str]:
    """The stores that took a delivery, each with its drop. Raises InputError as `recall_everywhere`."""
    found = {}
    for store in chosen:
        try:
            found[store] = drop_of(store.path, delivery)
        except NotTaken:
            continue
        except InputError as error:
            raise InputError(f"{store}: {error}") from None
    if not found:
        places = ", ".join(map(str, chosen)) or "no workspace: none takes deliveries"
        raise NotTaken(
            f"no delivery called {delivery!r} was taken by {places}. Give a name or drop as `fetalflow arrivals` lists "
            "them."
        )
    if len({_inbox(store) for store in found}) > 1 and len(set(found.values())) > 1:
        listed = "; ".join(f"{store}: drop {drop} from {store.inbox or 'no inbox'}" for store, drop in found.items())
        raise InputError(
            f"deliveries of several inboxes are called {delivery!r}, so nothing was done: {listed}. Say which one with "
            "--workspace or --task, or give the digits of its drop."
        )
    return found


def _namesakes(chosen: list[Store], found: dict[Store, str]) -> Iterator[str]:
    """Stores of the same inboxes that took a delivery of the same name with other rows, such as for other labels."""
    names = {line["name"] for store, drop in found.items() for line in _taken(store) if line["drop"] == drop}
    inboxes = {_inbox(store) for store in found} - {""}
    for store in chosen:
        if store not in found and _inbox(store) in inboxes:
            for name, drop in sorted({(line["name"], line["drop"]) for line in _taken(store) if line["name"] in names}):
                yield f"Not recalled: {store} took a delivery {name} as drop {drop}, too. `fetalflow recall {drop}`."


def _taken(store: Store) -> list[dict]:
    return [line for line in read_journal(store.path) if line["state"] in HAD]


def _inbox(store: Store) -> str:
    """Of the store, so that two ways to write one folder are equal."""
    return store.inbox if "://" in store.inbox or not store.inbox else str(PurePosixPath(store.inbox))


def _has_a_name(store: Store) -> bool:
    return store.workspace.name != f"arrivals-{store.task}"
