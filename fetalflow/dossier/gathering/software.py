"""Code, environment and packages: what runs now, and what is needed to make the numbers of the version again."""

import json
import tomllib
from pathlib import Path
from typing import Any

from dulwich.object_store import tree_lookup_path
from dulwich.repo import NotGitRepository, Repo
from pydantic import BaseModel

from fetalflow.artefacts import file_digest, read_json, write_json
from fetalflow.dossier.gathering.packages import (
    LOCKS,
    PROJECT,
    NoListing,
    against_locks,
    bill_of_materials,
    direct_dependencies,
    pinned,
)
from fetalflow.dossier.subject import Subject
from fetalflow.errors import InputError
from fetalflow.registry.provenance import code_state, hardware, versions

BILL, SOFTWARE, AUDIT = "sbom.json", "software.json", "audit.json"  # files of the evidence
AUDITED = Path("sbom", "audit.json")  # in the checkout; `make audit` writes it
TAGS = b"refs/tags/"


def gather(subject: Subject, folder: Path) -> None:
    """Write `sbom.json` and `software.json`, and copy `audit.json` if `make audit` has written it.

    A package that was installed without a checkout has no locks and no audit; `software.json` says so. Raises
    InputError when `sbom/audit.json` is no audit.
    """
    code = checkout()
    facts = environment(code) | {"data_set": _data_set(subject)}
    try:
        bill = bill_of_materials()
        write_json(folder / BILL, bill)
        installed = {component["name"]: component.get("version", "") for component in bill.get("components", [])}
        facts |= {"packages": against_locks(installed, _locks(code)) if facts["locks"] else None, "listing": "made"}
    except NoListing as error:
        facts |= {"packages": None, "listing": f"not made: {error}"}
    write_json(folder / SOFTWARE, facts)
    if code is not None and (code / AUDITED).is_file():
        write_json(folder / AUDIT, read_audit(code / AUDITED))


class AuditedLock(BaseModel):
    """sha256: of the lock. packages: what pip-audit says about each, with `name`, and `version` if it was looked up."""

    sha256: str
    packages: list[dict[str, Any]]


class Audit(BaseModel):
    """made: date and time (UTC). locks: file name to what was found."""

    made: str
    locks: dict[str, AuditedLock]


def read_audit(path: Path) -> dict[str, Any]:
    """The result of `make audit`. Raises InputError when the file is none."""
    try:
        return Audit.model_validate(read_json(path)).model_dump()
    except (OSError, ValueError) as error:
        text = (
            f"{path} is no result of `make audit` ({type(error).__name__}). Run `make audit` again, or delete the file."
        )
        raise InputError(text) from None


def checkout() -> Path | None:
    """The checkout that this code is of; None where the package was installed without one."""
    root = Path(__file__).resolve().parents[3]
    try:
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return root if project.get("project", {}).get("name") == PROJECT else None


def environment(code: Path | None) -> dict[str, Any]:
    """Commit, versions, machine, digests of the locks, and direct dependencies, ready for JSON. A machine without git
    has no commit; `locks` is empty without a checkout."""
    try:
        state = code_state()
    except InputError:  # FETALFLOW_COMMIT is no commit; `fetalflow run` says what is wrong with it
        state = None
    return {
        "checkout": code is not None,
        "code": state and {"commit": state["commit"], "dirty": state["dirty"]},
        "versions": versions(),
        "machine": hardware(),
        "locks": {name: file_digest(code / name) for name in LOCKS if code and (code / name).is_file()},
        "direct": direct_dependencies(code),
    }


def _locks(code: Path | None) -> dict[str, dict[str, str]]:
    files = {name: code / name for name in LOCKS if code and (code / name).is_file()}
    return {name: pinned(file.read_text(encoding="utf-8")) for name, file in files.items()}


def _data_set(subject: Subject) -> str | None:
    """The name of the state of the workspace that the version is of, which `fetalflow data checkout` takes; None where
    the workspace has none. A tag of the same name from another registry names another run, and is no such state."""
    try:
        repository = Repo(str(subject.workspace))
    except NotGitRepository:
        return None
    with repository as git:
        names = [name for name in git.refs.as_dict(TAGS.rstrip(b"/")) if _is_of(name.decode(), subject)]
        found = [name for name in names if _run_at(git, TAGS + name, subject.task) == subject.run]
    return min(found).decode() if found else None


def _is_of(name: str, subject: Subject) -> bool:
    """Whether a tag is `MODEL-vVERSION`, or that with more digits, as `fetalflow run` writes it."""
    base = f"{subject.model}-v{subject.version}"
    return name == base or name.startswith(f"{base}-")


def _run_at(git: Repo, reference: bytes, task: str) -> str | None:
    """The run in `registered.json` of a task, at a tag."""
    try:
        commit = git[git.refs.get_peeled(reference) or git.refs[reference]]
        _, blob = tree_lookup_path(git.__getitem__, commit.tree, f"reports/{task}/registered.json".encode())
        return json.loads(git[blob].data).get("run_id")
    except (KeyError, ValueError, AttributeError):
        return None
