"""The secret key of a hospital, from which pseudonyms, shifted dates and new UIDs follow (HMAC-SHA256)."""

import hashlib
import hmac
import os
import re
import stat
import unicodedata
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from uuid import UUID

from fetalflow.errors import InputError

VARIABLE = "FETALFLOW_PSEUDONYM_KEY"
FILE_VARIABLE = "FETALFLOW_PSEUDONYM_KEY_FILE"
FEWEST_BYTES = 32
MOST_DAYS = 3650  # a date moves back by 1 to this many days
HOW = (
    "Make one with `(umask 077; openssl rand -hex 32 > FILE)`, outside of every checkout and drop, and keep a copy in "
    f"the hospital's safe. Name the file with --key-file or {FILE_VARIABLE}, or set {VARIABLE} to its content."
)


@dataclass(frozen=True, repr=False)
class Key:
    """A secret of at least 32 bytes. No `repr` and no message shows it."""

    secret: bytes = field(repr=False)

    def __repr__(self) -> str:
        return f"Key({self.name})"

    @property
    def name(self) -> str:
        """Eight hex digits that distinguish keys and reveal nothing else about them."""
        return self.digest("key", "")[:4].hex()

    def digest(self, kind: str, value: str) -> bytes:
        """32 bytes. The same value gives different digests for different kinds, such as patient and operator."""
        message = f"{kind}\0{unicodedata.normalize('NFC', value)}".encode("utf-8", "surrogateescape")
        return hmac.new(self.secret, message, hashlib.sha256).digest()

    def pseudonym(self, kind: str, value: str) -> str:
        """Initial of the kind and 16 hex digits. The chance that two of a million patients share one is 3 in 10^8."""
        return f"{kind[0].upper()}{self.digest(kind, value)[:8].hex()}"

    def uid(self, uid: str) -> str:
        """A DICOM UID of the form 2.25.<UUID> (PS3.5 B.2), always the same for the same UID."""
        return f"2.25.{UUID(bytes=self.digest('uid', uid)[:16], version=4).int}"

    def days(self, patient: str) -> int:
        """Days, -1 to -MOST_DAYS, by which every date of a patient moves."""
        return -1 - int.from_bytes(self.digest("days", patient)[:8], "big") % MOST_DAYS


def shift_date(text: str, days: int) -> str:
    """A date as YYYYMMDD or YYYY-MM-DD, moved by `days`, in the same form. Raises ValueError for anything else."""
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}|\d{8}", text, re.ASCII):
        raise ValueError("no date")
    try:
        moved = (date.fromisoformat(text) + timedelta(days=days)).isoformat()
    except (ValueError, OverflowError):
        raise ValueError("no date") from None
    return moved if "-" in text else moved.replace("-", "")


def read_key(file: Path | None = None) -> Key:
    """The key from a file, or from the environment: VARIABLE, else the file that FILE_VARIABLE names.

    Raises InputError, whose message quotes nothing of the key, when there is no key, it is short or not random
    hexadecimal digits, or its file can be read by others or lies in a checkout.
    """
    if file is None and (text := os.environ.get(VARIABLE, "").strip()):
        return _parse(text, f"the key in {VARIABLE}")
    if file is None and not os.environ.get(FILE_VARIABLE):
        raise InputError(f"de-identification needs a secret key and found none. {HOW}")
    path = file or Path(os.environ[FILE_VARIABLE])
    try:
        return _parse(_read_private(path), f"the key file {path}")
    except PermissionError:
        raise InputError(
            f"the key file {path} cannot be read by user {os.geteuid()}, who runs this. Give it to that user, as root: "
            f"chown {os.geteuid()} {path}; and let the user enter its folder."
        ) from None


def _read_private(path: Path) -> str:
    if not path.is_file():
        raise InputError(f"the key file {path} is not there. {HOW}")
    real = path.resolve()
    _refuse_open(path, real)
    if checkout := next((folder for folder in real.parents if (folder / ".git").exists()), None):
        raise InputError(f"the key file {path} lies in the checkout {checkout}, where somebody may commit it. {HOW}")
    return real.read_text(encoding="utf-8", errors="replace").strip()


def _refuse_open(path: Path, real: Path) -> None:
    """Raises InputError if anybody but the owner may read or change the key.

    One exception: a group of this process may read a file on a mount that is read-only. That is how Kubernetes gives a
    secret to a process (fsGroup), and inside the container nobody else is in that group.
    """
    status = real.stat()
    mode = stat.S_IMODE(status.st_mode) & 0o077
    mounted = bool(os.statvfs(real).f_flag & os.ST_RDONLY) and status.st_gid in {os.getegid(), *os.getgroups()}
    if mode & ~(stat.S_IRGRP if mounted else 0):
        raise InputError(f"the key file {path} is open to others (mode bits {mode:03o}). Close it: chmod 600 {path}")


def _parse(text: str, source: str) -> Key:
    if not re.fullmatch(r"[0-9a-fA-F]*", text) or len(text) % 2:
        raise InputError(f"{source} must be pairs of hexadecimal digits and nothing else. {HOW}")
    secret = bytes.fromhex(text)
    if len(secret) < FEWEST_BYTES:
        raise InputError(f"{source} has {len(secret)} bytes, at least {FEWEST_BYTES} are needed. {HOW}")
    if len(set(secret)) < 16:  # of 32 random bytes, 30 differ
        raise InputError(f"{source} is not random: only {len(set(secret))} of its bytes differ. {HOW}")
    return Key(secret)
