"""Signs a dossier, and the model package in it, with model-signing. Nothing is asked over a network.

`package.sig` covers the package alone, so that both can be passed on together. `dossier.sig` covers every other file of
the dossier, the package and its signature too. A signature is made with a private key (an elliptic curve, PEM), or with
such a key and its certificate.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fetalflow.errors import InputError

DOSSIER, PACKAGE = "dossier.sig", "package.sig"
PACKAGE_FOLDER = "package"


@dataclass(frozen=True)
class Signer:
    """key: the file of the private key. certificate: of this key, and chain: those above it; None and empty for a bare
    key, whose public half must then reach the reader by a way that she trusts."""

    key: Path
    certificate: Path | None = None
    chain: Sequence[Path] = ()


@dataclass(frozen=True)
class Reader:
    """What a reader trusts: a public key, or the certificates that the signer's was issued by."""

    key: Path | None = None
    chain: Sequence[Path] = ()


def make_key(file: Path) -> Path:
    """Make a private key in `file`, readable for its owner only, and its public half beside it; return the latter.

    Raises InputError when one of the files exists or cannot be written.
    """
    key, public = ec.generate_private_key(ec.SECP256R1()), file.with_name(file.name + ".pub")
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    shown = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    try:
        for path, content, mode in ((file, private, 0o600), (public, shown, 0o644)):
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as handle:
                handle.write(content)
    except OSError as error:
        raise InputError(f"The key cannot be written to {path}: {error.strerror}. Choose another file.") from None
    return public


def sign(folder: Path, signer: Signer) -> None:
    """Write both signatures into the dossier in `folder`. Raises InputError when the key or a certificate cannot be
    used."""
    from model_signing.signing import Config

    config = Config()
    try:
        if signer.certificate is None:
            config.use_elliptic_key_signer(private_key=signer.key)
        else:
            config.use_certificate_signer(
                private_key=signer.key, signing_certificate=signer.certificate, certificate_chain=signer.chain
            )
        for what, signature, ignored in _parts(folder):
            config.set_hashing_config(_hashing(ignored)).sign(what, signature)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"The dossier cannot be signed with {signer.key}: {_first_line(error)}. Expected a private key of an "
            "elliptic curve as PEM, without a password; `fetalflow dossier key FILE` makes one."
        ) from None


def signature_problems(folder: Path, reader: Reader) -> list[str]:
    """What the signatures of the dossier in `folder` say against it, in sentences; empty if both fit.

    Raises InputError when the public key or a certificate cannot be used.
    """
    problems = []
    for what, signature, ignored in _parts(folder):
        name = signature.name
        if not signature.is_file():
            problems.append(f"{name} is missing: it is not signed, or somebody removed the signature.")
            continue
        verifier = _verifier(reader).set_hashing_config(_hashing(ignored))
        try:
            verifier.verify(what, signature)
        except Exception as error:  # noqa: BLE001 - the library raises what its parts raise, on a forged signature too
            problems.append(f"{name} does not fit: {_first_line(error)}.")
    return problems


def _verifier(reader: Reader) -> Any:
    from model_signing.verifying import Config

    for file in filter(None, (reader.key, *reader.chain)):
        if not file.is_file():
            raise InputError(f"{file} does not exist. Name the signer's public key with --key, or certificates.")
    try:
        if reader.key is not None:
            return Config().use_elliptic_key_verifier(public_key=reader.key)
        return Config().use_certificate_verifier(certificate_chain=reader.chain)
    except (OSError, ValueError, TypeError) as error:
        named = reader.key or ", ".join(map(str, reader.chain))
        raise InputError(f"{named} cannot be used: {_first_line(error)}. Expected a public key as PEM.") from None


def _parts(folder: Path) -> Iterable[tuple[Path, Path, list[Path]]]:
    """(what is signed, its signature, the files left out), the package first, since the other covers its signature."""
    return (
        (folder / PACKAGE_FOLDER, folder / PACKAGE, []),
        (folder, folder / DOSSIER, [folder / DOSSIER]),
    )


def _hashing(ignored: list[Path]) -> Any:
    from model_signing.hashing import Config

    return Config().set_ignored_paths(paths=ignored, ignore_git_paths=False)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
