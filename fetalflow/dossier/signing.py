"""Signs a dossier, and the model package in it, with model-signing. Nothing is asked over a network.

`package.sig` covers the package alone, so that both can be passed on together. `dossier.sig` covers every other file of
the dossier, the package and its signature too. A signature is made with a private key (an elliptic curve, PEM), or with
such a key and its certificate.
"""

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from fetalflow.artefacts import read_json, write_new
from fetalflow.errors import InputError

DOSSIER, PACKAGE = "dossier.sig", "package.sig"
PACKAGE_FOLDER = "package"
CHANGED = re.compile(r"Hash mismatch for '([^']+)'")  # in a message of model-signing


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
    path = file
    try:
        write_new(file, private)
        path = public
        try:
            write_new(public, shown, 0o644)
        except OSError:
            file.unlink()  # half a pair would be in the way of the next try
            raise
    except OSError as error:
        raise InputError(f"The key cannot be written to {path}: {error.strerror}. Choose another file.") from None
    return public


def sign(folder: Path, signer: Signer) -> None:
    """Write both signatures into the dossier in `folder`. Raises InputError when the key or a certificate cannot be
    used."""
    from model_signing.signing import Config

    if signer.certificate is not None:
        _require_for_code(signer.certificate)
    config = Config()
    try:
        if signer.certificate is None:
            config.use_elliptic_key_signer(private_key=signer.key)
        else:
            above = signer.chain or [signer.certificate]  # model-signing reads no empty chain
            config.use_certificate_signer(
                private_key=signer.key, signing_certificate=signer.certificate, certificate_chain=above
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
            if reader.key is None and not _is_for_code(certificate := certificate_of(signature)):
                problems.append(f"{name} does not fit: {_named(certificate)} is no certificate for code signing.")
        except Exception as error:  # noqa: BLE001 - the library raises what its parts raise, on a forged signature too
            problems.append(f"{name} does not fit: {_why(error)}.")
    return problems


def signer_in_words(folder: Path) -> str:
    """Who signed the dossier, by the name in the certificate. The signature must have been checked before."""
    return f"Signed with the certificate of {_named(certificate_of(folder / DOSSIER))}. Is it one that you expect?"


def certificate_of(signature: Path) -> x509.Certificate:
    """The signer's certificate in a signature. Raises KeyError or ValueError when it has none."""
    chain = read_json(signature)["verificationMaterial"]["x509CertificateChain"]["certificates"]
    return x509.load_der_x509_certificate(base64.b64decode(chain[0]["rawBytes"]))


def _is_for_code(certificate: x509.Certificate) -> bool:
    """model-signing is content with a digital signature, which the certificate of every web server may make."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return ExtendedKeyUsageOID.CODE_SIGNING in usage


def _require_for_code(path: Path) -> None:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no certificate as PEM: {_first_line(error)}.") from None
    if not _is_for_code(certificate):
        raise InputError(
            f"{path} is no certificate for code signing, so no reader would accept it. Ask the authority of your "
            "hospital for one whose extended key usage is code signing."
        )


def _named(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()


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


def _why(error: Exception) -> str:
    """What the library found, in words; its own sentence, where it is not one of the usual two."""
    said = _first_line(error)
    if said.startswith("Key mismatch"):
        return "it was made with another key than the one that you named"
    if said.startswith("Signature mismatch"):
        files = sorted(set(CHANGED.findall(said.replace("\\", ""))))
        which = f": {', '.join(files)}" if files else ""
        return f"files were changed, added or removed since it was signed{which}"
    return said


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
