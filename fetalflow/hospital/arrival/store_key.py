"""By which key the patients of a store got their pseudonyms. The store keeps a name of the key and never the key.

With another key, or with none, every delivery of the inbox would look new: it would be taken a second time, every
patient would get a second name, and a patient of the test part could come into training.
"""

from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

from fetalflow.artefacts import read_json, write_json
from fetalflow.errors import InputError
from fetalflow.hospital.arrival import journal

FILE = "key.json"
CLEAR = ""  # in the place of a key's name: the drops were taken without de-identification
CLEANED = "deidentification"  # folder of a store: for each de-identified delivery the rows that were left out
NEW_STORE = (
    "start a new workspace (fetalflow retrain --inbox INBOX --name NEW_NAME), withdraw there again who withdrew here, "
    "because her name is another one there, and remove this one when it is ready"
)


def read_store_key(store: Path) -> str | None:
    """The name of the store's key (`pseudonyms.Key.name`), CLEAR, or None for a store that has no record of it.

    Raises InputError when the record is damaged.
    """
    file = store / FILE
    if not file.is_file():
        return None
    try:
        return str(read_json(file)["key"])
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{file} is damaged: expected the name of the store's key. Restore its last copy.") from None


def check_key(store: Path, key: str) -> None:
    """Raises InputError when the store has a record of its key, and `key` (a name, or CLEAR) is another one.

    A store that has taken no drop yet may still change its key, but a key cannot be left out again.
    """
    known = read_store_key(store)
    if known in (None, key) or (key and not _has_drops(store)):
        return
    raise InputError(_refusal(store, known, key))


def settle_key(store: Path, key: str, names: Collection[str]) -> None:
    """Write the record of the key at the first look. names: those that the journal would have for the deliveries in the
    inbox now; they show whether a store from before 2026-12, which has no record, was made with this key.

    Raises InputError when the store was made with another key, or when that cannot be known.
    """
    known = read_store_key(store)
    if known == key:
        return
    if known is None and _has_drops(store):
        _recognise(store, key, names)
    elif not names:
        return  # nothing is written yet, so the next look may come with another key
    elif key:  # what earlier looks without this key wrote down has other names, perhaps those of patients
        for file in (journal.FILE, journal.LOOK):
            (store / file).unlink(missing_ok=True)
    _write(store, key)


def accept_key(store: Path, key: str) -> None:
    """A person says that a store without a record was made with `key`. Raises InputError if it was not."""
    check_key(store, key)
    if read_store_key(store) is None:
        clear, cleaned = _taken(store)
        if clear or not cleaned:
            raise InputError(_refusal(store, None if cleaned else CLEAR, key))
        _write(store, key)


def _recognise(store: Path, key: str, names: Collection[str]) -> None:
    clear, cleaned = _taken(store)
    if clear and cleaned:
        raise InputError(_refusal(store, None, key))
    if bool(cleaned) != bool(key):
        raise InputError(_refusal(store, "a key that it does not name" if cleaned else CLEAR, key))
    if key and not cleaned & set(names):
        raise InputError(
            f"{store} was made with a key of which it has no record, and none of its {len(cleaned)} deliveries is in "
            f"the inbox any more, so nothing shows whether the configured key {key} is that one. Nothing was read. "
            "If you are sure that it is, run `fetalflow retrain --accept-key` once. Else configure the right key."
        )


def _taken(store: Path) -> tuple[set[str], set[str]]:
    """The names of the deliveries that were taken in clear, and of those that were de-identified."""
    cleaned = {path.stem for path in (store / CLEANED).glob("*.csv")}
    taken = {line["name"] for line in journal.read_journal(store) if line["state"] in ("taken", "again")}
    # A look that was killed may have cleaned a delivery that was not taken.
    return taken - cleaned, (cleaned & taken) or (set() if taken else cleaned)


def _has_drops(store: Path) -> bool:
    return any((store / "received").glob("*.csv"))


def _write(store: Path, key: str) -> None:
    store.mkdir(parents=True, exist_ok=True)
    write_json(store / FILE, {"key": key, "since": datetime.now(UTC).isoformat(timespec="seconds")})


def _refusal(store: Path, known: str | None, key: str) -> str:
    """known: the name of the store's key, CLEAR, or None for drops of both kinds."""
    configured = f"the key {key} is configured" if key else "no key is configured"
    if known is None:
        return (
            f"{store} holds drops that were taken in clear and others that were de-identified, because "
            "not every look had the key. The same patients have two names in it. Nothing was read. Configure the key, "
            f"and {NEW_STORE}."
        )
    if known == CLEAR:
        return (
            f"the drops in {store} were taken without de-identification, and now {configured}. Every delivery would "
            "come a second time, under other names. Nothing was read. Either remove the variables "
            f"FETALFLOW_PSEUDONYM_KEY and FETALFLOW_PSEUDONYM_KEY_FILE, or {NEW_STORE}."
        )
    return (
        f"the drops in {store} were de-identified with the key {known}, and now {configured}. Every delivery would "
        "come a second time, under other names. Nothing was read. Set FETALFLOW_PSEUDONYM_KEY_FILE to the file of the "
        f"key {known}; the hospital has a copy in its safe. If it is lost, {NEW_STORE}."
    )
