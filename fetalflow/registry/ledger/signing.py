"""Signatures of the ledger (Ed25519): who signs keeps the private key, and whoever reads needs only the public key.

A worker needs no key: it moves the alias of the challenger, and these lines are not signed. Every other line that was
written after the ledger was sealed must be signed. A signature covers the number of its line and the hash of the line
before, so nobody can use it for another line.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fetalflow.artefacts import write_new
from fetalflow.errors import InputError

VARIABLE = "FETALFLOW_LEDGER_KEY_FILE"  # the file with the private key, 64 hex digits
PURPOSE = b"fetalflow ledger line "  # a signature for another purpose is never one of a line


@dataclass(frozen=True)
class Trust:
    """The public keys whose lines count; without any, no line needs a signature.

    sealed: number and hash of the last line when the ledger was sealed: lines up to it need no signature.
    workers_move: the aliases that are moved without a signature.
    """

    public_keys: tuple[str, ...] = ()
    sealed: tuple[int, str] | None = None
    workers_move: tuple[str, ...] = ()

    def needs_signature(self, alias: str) -> bool:
        return bool(self.public_keys) and alias not in self.workers_move

    def refusal(self, alias: str, digest: str, signature: str | None) -> str | None:
        """Why a line after the seal does not count, as the end of a sentence; None if it counts. digest: of its signed
        content."""
        if signature is None:
            unsigned = f"it has no signature, and ledger.json demands one for every move of {alias}"
            return unsigned if self.needs_signature(alias) else None
        if not self.accepts(digest, signature):
            return "its signature does not fit any public key in ledger.json"
        return None

    def accepts(self, digest: str, signature: str) -> bool:
        """Whether a signature fits one of the public keys; without any key, nothing has to be signed."""
        return not self.public_keys or any(_fits(key, digest, signature) for key in self.public_keys)


def _fits(public_key: str, digest: str, signature: str) -> bool:
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        key.verify(bytes.fromhex(signature), PURPOSE + digest.encode())
    except (InvalidSignature, ValueError):
        return False
    return True


def sign(key: Ed25519PrivateKey, digest: str) -> str:
    """The signature of a line's content, hex."""
    return key.sign(PURPOSE + digest.encode()).hex()


def public_of(key: Ed25519PrivateKey) -> str:
    """The public key, hex."""
    return key.public_key().public_bytes_raw().hex()


def signing_key(file: Path | str | None = None) -> Ed25519PrivateKey | None:
    """The key in `file`, or in the file that the environment names; None where it names none.

    Raises InputError if the file cannot be read, has no key, or if everybody may read it.
    """
    file = file or os.environ.get(VARIABLE)
    if not file:
        return None
    try:
        mode = Path(file).stat().st_mode
        key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(Path(file).read_text(encoding="ascii").strip()))
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else "it does not have 64 hex digits"
        raise InputError(f"the ledger's key {file} cannot be used: {what}. {VARIABLE} names this file.") from None
    if mode & stat.S_IRWXO:
        raise InputError(f"every user of this machine may use the ledger's key {file}: chmod 600 {file}.")
    return key


def make_key(file: Path | str) -> Ed25519PrivateKey:
    """The key in `file`; it is made, for its owner only, if there is no such file."""
    if not Path(file).exists():
        text = Ed25519PrivateKey.generate().private_bytes_raw().hex() + "\n"
        try:
            write_new(file, text.encode("ascii"))
        except OSError as error:
            raise InputError(f"the key {file} cannot be written: {error.strerror}. Choose another folder.") from None
    return signing_key(file)
