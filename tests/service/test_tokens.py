"""Which tokens are taken, and which requests they admit."""

import hashlib

import pytest

from fetalflow.errors import InputError
from fetalflow.service.tokens import FILE_VARIABLE, VARIABLE, Tokens, read_tokens

ONE, TWO = "one-token-of-24-letters!", "b" * 64


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.delenv(FILE_VARIABLE, raising=False)


def test_tokens_come_from_a_file_that_is_named_a_file_of_the_variable_or_the_variable(tmp_path, monkeypatch):
    assert len(read_tokens()) == 0 and not read_tokens().admits("Bearer ")
    monkeypatch.setenv(VARIABLE, f"{ONE}\n{TWO}  # of the viewer\n\n")
    assert len(read_tokens()) == 2 and read_tokens().admits(f"Bearer {TWO}")
    (file := tmp_path / "tokens").write_text(f"# all\nsha256:{hashlib.sha256(ONE.encode()).hexdigest()}\n")
    file.chmod(0o640)
    monkeypatch.setenv(FILE_VARIABLE, str(file))
    assert read_tokens().admits(f"Bearer {ONE}") and not read_tokens().admits(f"Bearer {TWO}")
    (other := tmp_path / "other").write_text(TWO)
    other.chmod(0o600)
    assert read_tokens(other).admits(f"bearer {TWO}") and not read_tokens(other).admits(f"Bearer {ONE}")


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        ("", 0o600, "holds no token"),
        ("# none\n", 0o600, "holds no token"),
        ("short", 0o600, "token 1 must have at least 24"),
        (f"{ONE}\nwith spaces in between of it", 0o600, "token 2 must have"),
        ("ä" * 30, 0o600, "ASCII"),
        ("sha256:abc", 0o600, "64 hexadecimal digits"),
        ("sha256:" + "g" * 64, 0o600, "64 hexadecimal digits"),
        (ONE, 0o644, "chmod 600"),
    ],
)
def test_a_file_that_would_admit_nobody_or_everybody_is_refused(tmp_path, text, mode, words):
    (file := tmp_path / "tokens").write_text(text)
    file.chmod(mode)
    with pytest.raises(InputError, match=words) as refused:
        read_tokens(file)
    assert ONE not in str(refused.value), "an error shows no token"


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", f"Basic {ONE}", ONE, f"Bearer {ONE[:-1]}", f"Bearer {ONE}x", f"Bearer x{ONE}", "Bearer \xff"],
)
def test_anything_else_is_not_admitted(header):
    tokens = Tokens([ONE, TWO])
    assert tokens.admits(f"Bearer {ONE}") and not tokens.admits(header)
