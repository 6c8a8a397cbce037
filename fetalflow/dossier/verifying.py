"""Checks a dossier: its signatures, the digest of each file, and that its figures are those of its evidence."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fetalflow.artefacts import file_digest, read_json
from fetalflow.dossier.composing import HEAD, JSON, PAGE, PDF, compose, head_of_now
from fetalflow.dossier.evidence import FOLDER
from fetalflow.dossier.gathering.registered import VERSION
from fetalflow.dossier.signing import DOSSIER, PACKAGE, PACKAGE_FOLDER, Reader, signature_problems, signer_in_words
from fetalflow.errors import InputError


def verify(folder: Path, reader: Reader | None = None) -> tuple[list[str], list[str]]:
    """(problems, notes) of the dossier in `folder`, in sentences; no problem means that no byte changed since it was
    signed.

    reader: whom the reader trusts; None leaves the signatures out, which a note says. Raises InputError when `folder`
    is no dossier, or when the reader's key cannot be used.
    """
    content = _content(folder)
    problems, notes = file_problems(folder, content), []
    if reader is None:
        notes.append("The signatures were not checked: name the signer's public key with --key, or certificates.")
    else:
        of_signature = signature_problems(folder, reader)
        problems += of_signature
        if reader.key is None and not of_signature:
            notes.append(signer_in_words(folder))
    if any(content["head"][key] != value for key, value in head_of_now().items()):
        notes.append("Another version of fetalflow wrote it, so the figures were not made again from the evidence.")
    elif not problems:
        problems += _made_again(folder, content)
    return problems, notes


def file_problems(folder: Path, content: Mapping[str, Any]) -> list[str]:
    """Files that are missing, changed or not of this dossier, compared with the digests that the dossier states."""
    stated = {f"{FOLDER}/{name}": digest for name, digest in content["evidence"].items()}
    stated |= {f"{PACKAGE_FOLDER}/{name}": digest for name, digest in _package_files(folder).items()}
    stated |= {PDF: content["paper"]} if content["paper"] else {}
    paths = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    found = {path.relative_to(folder).as_posix(): path for path in paths}
    problems = [f"{name} is missing." for name in (*stated, PAGE) if name not in found]
    problems += [f"{name} was changed." for name in stated if name in found and _differs(found[name], stated[name])]
    others = set(found) - set(stated) - {JSON, PAGE, DOSSIER, PACKAGE}
    return problems + [f"{name} does not belong to this dossier." for name in sorted(others)]


def _content(folder: Path) -> dict[str, Any]:
    try:
        content = read_json(folder / JSON)
        if set(content["head"]) == set(HEAD) and isinstance(content["evidence"], dict) and "paper" in content:
            return content
        reason = "it states no head and no evidence"
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = type(error).__name__
    raise InputError(f"{folder} is no dossier: {JSON} cannot be read ({reason}). Name a folder that dossier wrote.")


def _package_files(folder: Path) -> dict[str, str]:
    try:
        return read_json(folder / FOLDER / VERSION)["package_files"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # the missing or changed file is named anyway


def _made_again(folder: Path, content: Mapping[str, Any]) -> list[str]:
    try:
        again, page = compose(folder, content["head"])
    except (InputError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # Somebody changed a file of the evidence and its digest, too, and it does not have its form any more.
        return [f"The figures cannot be made again from the evidence ({type(error).__name__}: {error})."]
    problems = [] if again | {"paper": content["paper"]} == content else [f"{JSON} is not what the evidence says."]
    if page.encode() != (folder / PAGE).read_bytes():
        problems.append(f"{PAGE} is not what the evidence says.")
    return problems


def _differs(path: Path, digest: str) -> bool:
    return path.is_symlink() or file_digest(path) != digest
