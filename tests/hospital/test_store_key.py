"""A store knows by which key its patients got their names: a look with another one, or with none, takes nothing."""

import shutil

import pytest
from inbox_folder import deliver, digest, taken

from fetalflow.errors import InputError
from fetalflow.hospital.arrival.intake import Prepare
from fetalflow.hospital.arrival.journal import FILE as JOURNAL
from fetalflow.hospital.arrival.journal import LOOK, read_journal
from fetalflow.hospital.arrival.store_key import CLEANED, FILE, accept_key, read_store_key
from fetalflow.hospital.deidentify.pseudonyms import Key

KEYS = [Key(bytes(range(start, start + 32))) for start in (1, 2)]
A, B = (key.name for key in KEYS)


def look(inbox, store, key: Key | None, without_record: bool = False):
    """What a look takes, with a preparation that gives new names to deliveries and patients."""

    def clean(folder, scratch):
        out = scratch / "clean"
        shutil.copytree(folder, out, dirs_exist_ok=True)
        table = out / "annotations.csv"
        header, *lines = table.read_text().splitlines()
        rows = [line.split(",") for line in lines]
        rows = [",".join([row[0], key.pseudonym("patient", row[1]), *row[2:]]) for row in rows]
        table.write_text("\n".join([header, *rows]) + "\n")
        kept = store / CLEANED / f"{key.pseudonym('drop', folder.name)}.csv"
        kept.parent.mkdir(exist_ok=True)
        kept.write_text("row,kind,reason\n")
        return out

    prepare = Prepare(clean, lambda name: key.pseudonym("drop", name), key.name) if key else None
    try:
        return sorted(taken(inbox, store, prepare=prepare).values())
    finally:
        if without_record:
            (store / FILE).unlink()


@pytest.mark.parametrize("recorded", [True, False], ids=["with its record", "from before there was one"])
@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        (0, None, "no key is configured"),
        (0, 1, f"the key {B} is configured"),
        (None, 0, f"without de-identification, and now the key {A} is configured"),
    ],
)
def test_another_key_or_none_takes_nothing(inbox, tmp_path, first, then, message, recorded):
    store, keys = tmp_path / "store", [*KEYS, None]
    first, then = (keys[-1 if number is None else number] for number in (first, then))
    assert look(inbox, store, first, without_record=not recorded) == ["taken", "taken"]
    before, lines = digest(store), read_journal(store)
    if not recorded and first and then:
        message = "nothing shows whether the configured key"
    with pytest.raises(InputError, match=message) as refused:
        look(inbox, store, then)
    assert "Nothing was read" in str(refused.value)
    assert not first or KEYS[0].secret.hex() not in (
        str(refused.value) + (store / FILE).read_text() if recorded else ""
    )
    assert digest(store) == before and read_journal(store) == lines
    # The first key still fits; a store without a record gets it, because the inbox shows the same deliveries.
    assert look(inbox, store, first) == ["known", "known"]
    assert read_store_key(store) == (first.name if first else "")
    with pytest.raises(InputError, match="take|taken"):
        look(inbox, store, then)


def test_a_store_of_which_nothing_shows_the_key_waits_for_a_person(inbox, tmp_path):
    store = tmp_path / "store"
    look(inbox, store, KEYS[0], without_record=True)
    shutil.rmtree(inbox)
    deliver(inbox, "friday", ["1.avi,P77,north,U7,A,,,head"], {"1.avi": b"cine 77"})
    with pytest.raises(InputError, match="--accept-key"):
        look(inbox, store, KEYS[0])
    accept_key(store, A)
    assert look(inbox, store, KEYS[0]) == ["taken"]
    with pytest.raises(InputError, match=f"with the key {A}, and now the key {B}"):
        accept_key(store, B)


def test_a_store_with_drops_of_both_kinds_is_refused_for_ever(inbox, tmp_path):
    store = tmp_path / "store"
    look(inbox, store, KEYS[0], without_record=True)
    for path in (store / CLEANED).glob("*"):
        if path.stem == KEYS[0].pseudonym("drop", "monday"):
            path.unlink()
    for key in (None, *KEYS):
        with pytest.raises(InputError, match="two names"):
            look(inbox, store, key)
    with pytest.raises(InputError, match="two names"):
        accept_key(store, A)


def test_before_the_first_drop_a_key_may_come_and_the_names_that_were_seen_go(tmp_path):
    inbox, store = tmp_path / "inbox", tmp_path / "store"
    inbox.mkdir()
    assert look(inbox, store, None) == [] and read_store_key(store) is None, "an empty inbox settles nothing"
    deliver(inbox, "Jane Roe", ["1.avi,P1,north,U7,A,,,head"], {"1.avi": b"cine 1"}, marked=False)
    assert look(inbox, store, None) == ["waiting"]
    assert "Jane Roe" in (store / JOURNAL).read_text() and read_store_key(store) == ""
    assert look(inbox, store, KEYS[1]) == ["waiting"] and read_store_key(store) == B
    assert not any("Jane Roe" in (store / file).read_text() for file in (JOURNAL, LOOK))
    with pytest.raises(InputError, match="no key is configured"):
        look(inbox, store, None)
    assert look(inbox, store, KEYS[0]) == ["waiting"], "a wrong key can be corrected as long as nothing was taken"
    (store / FILE).write_text("{}")
    with pytest.raises(InputError, match="is damaged"):
        look(inbox, store, KEYS[0])
