"""Keys and secrets are whole or not there, for their owner only, and never written over."""

import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from fetalflow import artefacts
from fetalflow.dossier import signing as dossier
from fetalflow.errors import InputError
from fetalflow.registry.ledger import signing as ledger
from fetalflow.station.shown_names import _own_secret

MAKERS = {
    "dossier": lambda folder: dossier.make_key(folder / "key"),
    "ledger": lambda folder: ledger.make_key(folder / "key"),
    "station": lambda folder: _own_secret(folder / "key"),
}


@pytest.mark.parametrize("maker", MAKERS)
def test_a_full_disk_leaves_no_part_of_a_key(maker, tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(artefacts.os, "fsync", full)
        with pytest.raises((InputError, OSError), match="No space left"):
            MAKERS[maker](tmp_path)
    assert not list(tmp_path.iterdir())
    MAKERS[maker](tmp_path)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_half_a_pair_of_keys_is_not_left(tmp_path):
    (tmp_path / "key.pub").write_text("somebody else's")
    with pytest.raises(InputError, match="key.pub: File exists. Choose another file"):
        dossier.make_key(tmp_path / "key")
    assert [path.name for path in tmp_path.iterdir()] == ["key.pub"]


@pytest.mark.parametrize("links", [True, False])
def test_a_file_is_never_written_over(links, tmp_path, monkeypatch):
    if not links:

        def refused(*names):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(artefacts.os, "link", refused)
    artefacts.write_new(tmp_path / "key", b"first", 0o640)
    with pytest.raises(FileExistsError):
        artefacts.write_new(tmp_path / "key", b"second")
    assert (tmp_path / "key").read_bytes() == b"first" and len(list(tmp_path.iterdir())) == 1
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o640


def test_of_many_at_once_one_writes_and_all_read_the_same_secret(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: _own_secret(tmp_path / "secret").name, range(8)))
    assert len(set(keys)) == 1
