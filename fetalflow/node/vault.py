"""True identifiers, each under the pseudonym of the same thing, encrypted with AES-256-GCM.

The key of the cipher follows from the hospital's key of pseudonyms (HKDF-SHA256): who has that key can find patients by
trying their identifiers anyway, and there is only one secret to keep.
"""

import json
import os
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fetalflow.errors import InputError
from fetalflow.hospital.deidentify.pseudonyms import Key

NONCE = 12  # bytes
BLOCK = 256  # bytes: the length of a value must not show how long a name is


class Vault:
    """Seals and opens values. Without a key they stay readable, as everything else does that comes in then."""

    def __init__(self, key: Key | None) -> None:
        derived = HKDF(SHA256(), 32, None, b"fetalflow: identifiers of the node").derive(key.secret) if key else None
        self._cipher = AESGCM(derived) if derived else None

    def seal(self, name: str, value: dict[str, Any]) -> bytes:
        """name: the pseudonym. A value that is moved to another pseudonym cannot be opened."""
        text = json.dumps(value).encode()
        if self._cipher is None:
            return text
        nonce = os.urandom(NONCE)
        return nonce + self._cipher.encrypt(nonce, text + b" " * (-len(text) % BLOCK), name.encode())

    def open(self, name: str, sealed: bytes) -> dict[str, Any]:
        """Raises InputError when the value was sealed with another key, or was changed."""
        try:
            if self._cipher is not None:
                sealed = self._cipher.decrypt(sealed[:NONCE], sealed[NONCE:], name.encode())
            return json.loads(sealed)
        except (InvalidTag, ValueError):
            raise InputError(
                "the node's table of identifiers cannot be opened with the configured key: it was written with another "
                "key, or without one, or it is damaged. Configure the key with which the node worked before."
            ) from None
