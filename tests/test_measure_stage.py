"""The masks that networks answered with, kept, and measured beside the true ones: archive, comparison, stage."""

import zipfile

import numpy as np
import pytest

from fetalflow.errors import InputError
from fetalflow.mask_archive import reading, writing

# ---- the archive


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "0-0.npz"
    with writing(path) as add:
        for name in ("a", "b"):
            add(name, np.linspace(0, 1, 2 * 64 * 64, dtype=np.float32).reshape(2, 64, 64))
    return path


def test_masks_come_back_within_a_level(archive):
    with reading(archive) as answer:
        assert answer("b").dtype == np.float32 and answer("b").shape == (2, 64, 64)
        np.testing.assert_allclose(answer("a").ravel(), np.linspace(0, 1, 2 * 64 * 64), atol=0.5 / 255)


def test_a_sequence_that_is_not_held_is_named(archive):
    with reading(archive) as answer, pytest.raises(InputError, match=r"0-0.npz holds no mask of c\. Run the train"):
        answer("c")


def test_what_fails_elsewhere_is_not_blamed_on_the_archive(archive):
    with pytest.raises(InputError, match="^mm_per_px is missing$"), reading(archive) as answer:
        answer("a")
        raise InputError("mm_per_px is missing")
    with pytest.raises(ValueError, match="^shapes differ$"), reading(archive):
        raise ValueError("shapes differ")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no more", b"a text"])
def test_a_file_that_is_no_archive_is_damaged(archive, content):
    archive.write_bytes(content)
    with pytest.raises(InputError, match=r"0-0.npz is damaged .*Run the train stage again"), reading(archive):
        pass
    archive.unlink()
    with pytest.raises(InputError, match="is missing: the masks"), reading(archive):
        pass


def test_flipped_bytes_are_found_when_the_sequence_is_read(archive):
    with zipfile.ZipFile(archive) as found:
        second = found.infolist()[1]
    whole = bytearray(archive.read_bytes())
    start = second.header_offset + 60
    whole[start : start + 40] = bytes(40)
    archive.write_bytes(bytes(whole))
    with reading(archive) as answer:
        assert answer("a").shape == (2, 64, 64)
        with pytest.raises(InputError, match=r"0-0.npz is damaged .*Run the train stage again"):
            answer("b")
