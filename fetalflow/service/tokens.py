"""The tokens that admit a request. The service keeps only their SHA-256, and compares in constant time."""

import hashlib
import hmac
import os
import stat
from pathlib import Path

from fetalflow.errors import InputError

VARIABLE, FILE_VARIABLE = "FETALFLOW_SERVE_TOKENS", "FETALFLOW_SERVE_TOKENS_FILE"
SHORTEST = 24  # characters of a token: nobody guesses it
HASHED = "sha256:"  # begins a line that holds the SHA-256 of a token and not the token


class Tokens:
    """All tokens that are valid."""

    def __init__(self, words: list[str]) -> None:
        """words: tokens, or `sha256:HEX` of tokens. Raises InputError for a short or a malformed one."""
        self._digests = [_digest(number, word) for number, word in enumerate(words, start=1)]

    def __len__(self) -> int:
        return len(self._digests)

    def admits(self, authorization: str) -> bool:
        """Whether the value of the header `Authorization` is `Bearer TOKEN` with a valid token."""
        kind, _, token = authorization.partition(" ")
        found = hashlib.sha256(token.strip().encode()).digest()
        # Every digest is compared, so that the time says nothing about which one is near.
        return sum(hmac.compare_digest(found, each) for each in self._digests) > 0 and kind.lower() == "bearer"


def read_tokens(file: Path | None = None) -> Tokens:
    """The tokens of a file, of the file that FETALFLOW_SERVE_TOKENS_FILE names, or of FETALFLOW_SERVE_TOKENS, in this
    order: one on each line, `#` begins a remark. Empty where nothing is given.

    Raises InputError when the file cannot be read, can be read by everybody, or holds no token or a wrong one.
    """
    path = file or (Path(os.environ[FILE_VARIABLE]) if os.environ.get(FILE_VARIABLE) else None)
    if path is None:
        return Tokens(_words(os.environ.get(VARIABLE, "")))
    try:
        text, mode = path.read_text(encoding="utf-8"), path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the file of tokens {path} cannot be read ({error}).") from None
    if mode & stat.S_IROTH:
        raise InputError(f"every user of this machine can read the tokens in {path}. Do: chmod 600 {path}")
    if not (words := _words(text)):
        raise InputError(f"{path} holds no token. Write one on each line, such as the output of: openssl rand -hex 32")
    return Tokens(words)


def _words(text: str) -> list[str]:
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def _digest(number: int, word: str) -> bytes:
    if word.startswith(HASHED):
        try:
            found = bytes.fromhex(word.removeprefix(HASHED))
        except ValueError:
            found = b""
        if len(found) != hashlib.sha256().digest_size:
            raise InputError(f"token {number}: after {HASHED} come 64 hexadecimal digits.")
        return found
    if len(word) < SHORTEST or not word.isascii() or any(letter.isspace() for letter in word):
        raise InputError(
            f"token {number} must have at least {SHORTEST} ASCII characters without a space; it has {len(word)}. Make "
            "one with: openssl rand -hex 32"
        )
    return hashlib.sha256(word.encode()).digest()
