"""The locks: whole sets of packages that fit together, with a hash for every file, and each environment takes its own.

No package index is needed: what a package requires is read from its installed metadata.
"""

import re
from functools import cache
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from closures import ROOT
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

RUN, TORCH, CPU, DEV = (ROOT / f"requirements{part}.lock" for part in ("", "-torch", "-cpu", "-dev"))
SERVER, TOOLS = ROOT / "infra" / "mlflow" / "requirements.lock", ROOT / "infra" / "tools.lock"
SETS = {"worker": (RUN, TORCH), "development": (RUN, TORCH, DEV), "mlflow": (SERVER,)}
PYTHONS = [default_environment() | {"python_version": short, "python_full_version": full}
           for short, full in (("3.11", "3.11.2"), ("3.11", "3.11.14"), ("3.12", "3.12.7"))]  # fmt: skip
ONLY_ON_OTHERS = {"async-timeout", "pywin32", "waitress", "whenever"}  # not for this Python or system
CUDA = re.compile(r"nvidia-(?!ml-py)|cuda-|triton")  # a machine without a GPU has none of these


def entries(text: str) -> list[tuple[Requirement, list[str]]]:
    """The requirements of a lock, each with its hashes."""
    blocks = re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", text, flags=re.M).strip())
    return [
        (Requirement(re.split(r"[\\]|--hash", block)[0].strip()), re.findall(r"--hash=sha256:([0-9a-f]{64})", block))
        for block in blocks
    ]


def pinned(text: str, python: dict[str, str]) -> dict[str, str]:
    """The version of each package for a Python. Raises AssertionError if one has several, or a range."""
    found: dict[str, str] = {}
    for requirement, _ in entries(text):
        if requirement.marker and not requirement.marker.evaluate(python):
            continue
        (exact,) = requirement.specifier
        name = canonicalize_name(requirement.name)
        assert exact.operator == "==" and name not in found, f"{name} has two versions: {found.get(name)}, {exact}"
        found[name] = exact.version
    return found


@cache
def required(name: str) -> list[Requirement] | None:
    try:
        return [Requirement(line) for line in requires(name) or []]
    except PackageNotFoundError:
        return None


def faults(text: str, python: dict[str, str]) -> list[str]:
    """Each requirement of a package in the set that the set does not fulfil."""
    versions, wrong = pinned(text, python), []
    extras: dict[str, set[str]] = {}
    waiting = [(name, "") for name in versions]
    while waiting:
        name, extra = waiting.pop()
        assert required(name) is not None or name in ONLY_ON_OTHERS or CUDA.match(name), f"{name} is not installed"
        for requirement in required(name) or []:
            if requirement.marker and not requirement.marker.evaluate(python | {"extra": extra}):
                continue
            other = canonicalize_name(requirement.name)
            if other not in versions or not requirement.specifier.contains(versions[other], prereleases=True):
                wrong.append(f"{name} requires {requirement}; the lock has {versions.get(other)}")
            for further in requirement.extras - extras.setdefault(other, set()):
                extras[other].add(further)
                waiting.append((other, further))
    return wrong


def text_of(name: str) -> str:
    return "\n".join(lock.read_text() for lock in SETS[name])


@pytest.mark.parametrize("python", PYTHONS, ids=lambda python: python["python_full_version"])
@pytest.mark.parametrize("name", SETS)
def test_the_packages_of_each_environment_fit_together(name, python):
    assert not faults(text_of(name), python)


def test_a_set_that_does_not_fit_is_found():
    text = text_of("mlflow")
    with pytest.raises(AssertionError, match="boto3 has two versions"):
        faults(text + f"\nboto3==1.43.107 --hash=sha256:{'0' * 64}", PYTHONS[1])
    (wrong, *_) = faults(re.sub(r"^botocore==\S+", "botocore==0.1", text, flags=re.M), PYTHONS[1])
    assert "botocore" in wrong


@pytest.mark.parametrize("lock", [RUN, TORCH, CPU, DEV, SERVER, TOOLS], ids=lambda lock: lock.name)
def test_every_package_has_hashes(lock):
    for requirement, hashes in entries(lock.read_text()):
        assert hashes and len(set(hashes)) == len(hashes), requirement
        assert len(requirement.specifier) == 1 and not requirement.url


def test_both_builds_of_torch_have_one_version_and_the_server_has_the_versions_of_the_others():
    (cpu, (of_cpu,)), *more = entries(CPU.read_text())
    (version,) = cpu.specifier
    everything = pinned(text_of("development"), PYTHONS[1])
    assert not more and version.version == f"{everything['torch']}+cpu" and of_cpu not in TORCH.read_text()
    assert pinned(SERVER.read_text(), PYTHONS[1]).items() <= everything.items()


def test_the_worker_has_no_package_that_only_tests_use():
    run = pinned(text_of("worker"), PYTHONS[1])
    assert {"torch", "prefect", "mlflow", "dvc"} <= set(run) and len(run) > 200
    assert not {"pytest", "hypothesis", "moto", "monai", "ruff", "dicom-validator", "statsmodels", "boto3"} & set(run)
    assert not set(run) & set(pinned(DEV.read_text(), PYTHONS[1])), "nothing is in both"


@pytest.mark.parametrize("path", [ROOT / "Makefile", *(ROOT / "infra").rglob("Dockerfile")], ids=lambda path: path.name)
def test_nothing_is_installed_without_hashes(path: Path):
    text = re.sub(r"\\\n\s*", "", path.read_text()).replace("$(INSTALL)", "pip install --no-deps --no-build-isolation")
    installs = [re.split(r" && | \|\| |2>", part)[0] for part in re.findall(r"^(?!#|INSTALL).*", text, re.M)
                for part in re.findall(r"pip install .*?(?= && | \|\| |2>|$)", part)]  # fmt: skip
    assert installs
    for words in installs:
        assert "--no-deps" in words, words
        assert "--require-hashes" in words or "--no-build-isolation --editable ." in words, words
        packages = [
            w for w in re.sub(r"(-r|--requirement|--only-binary|--editable) \S+", "", words).split()[2:] if w[0] != "-"
        ]
        assert not packages, f"{packages}: only what a lock names is installed"
