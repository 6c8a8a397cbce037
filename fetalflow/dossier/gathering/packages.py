"""The packages that are installed now: as CycloneDX, what they are for, and where they differ from the locks."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, metadata, requires
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

PROJECT = "fetalflow"
RUN, DEVELOPMENT = "requirements.lock", "requirements-dev.lock"
# Of torch there are two locks, and an environment has one of the two builds.
LOCKS = (RUN, "requirements-torch.lock", "requirements-cpu.lock", DEVELOPMENT)
LISTING = ("environment", "--no-validate", "--output-reproducible", "--spec-version", "1.6", "--output-format", "JSON")
LONGEST = 80  # characters of a licence's name; longer ones are whole licence texts
NO_LICENCE = ("", "UNKNOWN")


class NoListing(Exception):
    """The packages cannot be listed; the text says why."""


def bill_of_materials() -> dict[str, Any]:
    """The installed packages as CycloneDX 1.6, without time and serial number, so that the same packages give the same
    file. A package without a licence that CycloneDX knows has the name that its metadata states. Raises NoListing.

    Source: CycloneDX's program for Python, which has no interface for import.
    """
    environment = {
        key: value for key, value in os.environ.items() if key != "SOURCE_DATE_EPOCH"
    }  # it would be the time
    command = [sys.executable, "-m", "cyclonedx_py", *LISTING]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise NoListing((done.stderr.strip().splitlines() or ["no reason was given"])[-1])
    bill = json.loads(done.stdout)
    for component in bill.get("components", []):
        # A package that was installed from a folder names it, and a path of this machine is nobody's business.
        outside = [link for link in component.pop("externalReferences", []) if not link["url"].startswith("file:")]
        component |= {"externalReferences": outside} if outside else {}
        if "licenses" not in component and (name := _stated_licence(component["name"])):
            component["licenses"] = [{"license": {"name": name, "acknowledgement": "declared"}}]
    return bill


def _stated_licence(package: str) -> str:
    try:
        text = metadata(package).get("License") or ""
    except PackageNotFoundError:
        return ""
    line = " ".join((text.strip().splitlines() or [""])[0].split())
    return "" if line in NO_LICENCE or len(line) > LONGEST else line


def direct_dependencies(code: Path | None) -> list[dict[str, str | None]]:
    """`name` and `purpose` of each package that fetalflow names, by name. purpose: the comment in pyproject.toml, None
    without one, or where there is no checkout."""
    if code is None:
        named = map(Requirement, requires(PROJECT) or [])
        return _by_name((it.name, None) for it in named if it.marker is None or it.marker.evaluate({"extra": ""}))
    text = (code / "pyproject.toml").read_text(encoding="utf-8")
    comments = dict(re.findall(r'^\s*"([^"]+)",\s*# (.+?)\s*$', text, re.MULTILINE))
    lines = tomllib.loads(text)["project"]["dependencies"]
    return _by_name((Requirement(line).name, comments.get(line)) for line in lines)


def _by_name(found: Iterable[tuple[str, str | None]]) -> list[dict[str, str | None]]:
    return [{"name": name, "purpose": purpose} for name, purpose in sorted(found)]


def pinned(text: str) -> dict[str, str]:
    """Package to version, for the lines of a lock that are meant for this Python and system."""
    found = {}
    for line in text.splitlines():
        try:
            requirement = Requirement(line.rstrip("\\ ")) if line[:1].isalnum() else None
        except InvalidRequirement:
            continue
        if requirement and (requirement.marker is None or requirement.marker.evaluate()):
            found[canonicalize_name(requirement.name)] = next((each.version for each in requirement.specifier), "")
    return found


def against_locks(installed: Mapping[str, str], locks: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """What the locks say about the installed packages.

    installed: package to version. locks: for each file of LOCKS that is there, package to version. `differs` has a row
    `name`, `installed`, `locked` for each package of another version, `not_locked` the packages in no lock, `missing`
    those of RUN that are not installed, and `development` those that only tests need.
    """
    installed = {canonicalize_name(name): version for name, version in installed.items()}
    installed.pop(PROJECT, None)
    versions: dict[str, set[str]] = {}
    for pins in locks.values():
        for name, version in pins.items():
            versions.setdefault(name, set()).add(version)
    for_work = {name for file, pins in locks.items() if file != DEVELOPMENT for name in pins}
    differs = {name for name in installed if name in versions and installed[name] not in versions[name]}
    return {
        "installed": len(installed),
        "as_locked": len([name for name in installed if name in versions and name not in differs]),
        "development": sorted(name for name in installed if name in versions and name not in for_work),
        "differs": [
            {"name": name, "installed": installed[name], "locked": " or ".join(sorted(versions[name]))}
            for name in sorted(differs)
        ],
        "not_locked": [{"name": n, "installed": installed[n]} for n in sorted(set(installed) - set(versions))],
        "missing": sorted(set(locks.get(RUN, {})) - set(installed)),
    }
