"""A patient's withdrawal from every task of every chosen workspace."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from fetalflow.hospital.arrival.intake import keep_out, withdraw
from fetalflow.hospital.arrival.permanent_names import ANY, KEY
from fetalflow.hospital.arrival.store_key import read_store_key
from fetalflow.hospital.arrival.withdrawal import read_withdrawn
from fetalflow.hospital.deidentify.pseudonyms import Key
from flows.care.stores import Found, Pairs, Store, pseudonyms_there, spellings
from flows.workspaces.lock import hold

# Of a workspace: pictures of cines, and what the network said of them. The review station makes them again.
STATION = ("station/frames", "station/recorded", "station/answers")


def withdraw_everywhere(
    found: list[Found], chosen: list[Store], patient: str, by: str, why: str, key: Key | None
) -> Iterator[str]:
    """Remove a patient from the stores where she was found; the other `chosen` stores refuse her from now on. Yields
    what was done, a sentence for each store. patient: the word by which a person named her."""
    of = {each.store: each for each in found}
    for store in chosen:
        also = _also(store, found, patient, key)
        if (hers := of.get(store)) is not None:
            with hold(store.workspace, "fetalflow withdraw"):
                rows, files = withdraw(store.path, hers.word, by, why, store.split, hers.site, also)
                decoded = [path for file in files for path in _decoded(store, file)]
                for path in decoded:
                    path.unlink()
            yield (
                f"{store}: {hers.name}: {rows} rows, {len(files)} files and {len(decoded)} decoded files were removed, "
                "and will not be taken again."
            )
        elif also:
            with hold(store.workspace, "fetalflow withdraw"):
                keep_out(store.path, _name_elsewhere(found[0].name, also), by, why, also)
            yield f"{store}: it has nothing of her, and will take nothing of her."
        else:
            yield f"{store}: it has nothing of her. Later drops may bring her, because nobody knows her site."
    yield from _other_spellings(found, patient, key)
    tasks = sorted({each.store.task for each in found})
    names = sorted({each.name for each in found})
    folders = sorted({str(each.store.workspace) for each in found})
    then = " and ".join(f"fetalflow retrain --task {task}" for task in tasks)
    yield (
        f"Next: {then} (it trains without this patient, and from no model that was trained on her), then `dvc gc "
        f"--workspace` in {', '.join(folders)} to delete copies of old results.\n"
        f"Earlier uses: {' and '.join(f'fetalflow lineage {name}' for name in names)}. The inbox is only read: the "
        "hospital must remove her files there."
    )


def learn_of_withdrawn(store: Store, others: Iterable[Store], key: str) -> None:
    """Let a store refuse everybody who withdrew from another one, also before it was made. key: the name of its key, or
    CLEAR. A name without a site counts only where it cannot be another hospital's, as in `_also`."""
    have = set(read_withdrawn(store.path)[KEY].itertuples(index=False, name=None))
    for other in others:
        lines = read_withdrawn(other.path)
        is_same = other.workspace.resolve() == store.workspace.resolve() or bool(key and _key(other) == key)
        lines = lines[(lines["site"] != "") | is_same]
        for (name, by, why), of in lines.groupby(["patient", "by", "why"], sort=False):
            if missing := {*of[KEY].itertuples(index=False, name=None)} - have:
                store.path.mkdir(parents=True, exist_ok=True)
                keep_out(store.path, _name_elsewhere(name, missing), by, why, missing)
                have |= missing


def _name_elsewhere(name: str, pairs: Iterable[tuple[str, str]]) -> str:
    """The name of a patient in the list of a store that does not have her. There her bare pseudonym may be, or become,
    the name of another hospital's patient."""
    return next((f"{site}/{pseudonym}" for site, pseudonym in sorted(pairs) if site not in ("", ANY)), name)


def _also(store: Store, found: list[Found], patient: str, key: Key | None) -> Pairs:
    """More names by which a delivery may bring her to this store: those of the other stores, and other spellings of the
    hospital's identifier. A name without a site counts only where it cannot be another hospital's."""
    same_key = [each for each in found if _key(each.store) and _key(each.store) == _key(store)]
    pairs = {
        (site, pseudonym)
        for each in found
        for site, pseudonym in each.pairs
        if site or each in same_key or each.store.workspace == store.workspace
    }
    if key is not None and _key(store) == key.name and same_key:
        sites = {site for each in found for site, _ in each.pairs}
        more = {key.pseudonym("patient", way) for way in spellings(patient)}
        more -= {*pseudonyms_there(store, patient, key), *_pseudonyms(found)}
        pairs |= {(site, pseudonym) for site in sites for pseudonym in more}
    return pairs


def _other_spellings(found: list[Found], patient: str, key: Key | None) -> Iterator[str]:
    for each in found if key is not None else []:
        if _key(each.store) != key.name:
            continue
        for pseudonym in pseudonyms_there(each.store, patient, key):
            if pseudonym not in _pseudonyms(found):
                yield (
                    f"{each.store}: {pseudonym} is the pseudonym of another spelling of this identifier, and has rows. "
                    f"If it is she: fetalflow withdraw {pseudonym}."
                )


def _pseudonyms(found: list[Found]) -> set[str]:
    return {pseudonym for each in found for _, pseudonym in each.pairs} | {each.name for each in found}


def _key(store: Store) -> str | None:
    return read_store_key(store.path)


def _decoded(store: Store, file: str) -> list[Path]:
    """Its frames, and what the review station made of it."""
    folders = (f"data/{store.task}/frames", *STATION)
    return [path for folder in folders for path in (store.workspace / folder).glob(f"{Path(file).stem}.*")]
