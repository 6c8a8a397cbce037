"""Extraction and preprocessing on a Dask cluster: joblib sends the calls to its workers (docs/operator/scale.md).

The workers must have the workspace and the drop at the same paths as this machine, and the same code and libraries. All
of this is checked before the first call. Otherwise a worker without the drop would send good cines to quarantine.
"""

import hashlib
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

from joblib import parallel_config

import fetalflow
from fetalflow.artefacts import file_digest
from fetalflow.errors import InputError

if TYPE_CHECKING:
    from distributed import Client

SCHEDULER = "FETALFLOW_SCHEDULER"  # environment variable that overrides the setting
PATIENCE_S = 10  # time limit for the scheduler and its first worker
LIBRARIES = ("av", "imagehash", "numpy", "opencv-python-headless", "pillow", "pydicom", "pylibjpeg", "scipy")


@contextmanager
def spread_over(address: str, *needed: Path) -> Iterator[None]:
    """Within this block joblib's calls run on the Dask cluster of the scheduler at `address`; "" changes nothing.

    needed: files and folders that every worker must have at the same absolute path, besides the current folder.
    Raises InputError if no scheduler or no worker answers in PATIENCE_S, or if a worker differs (`check_workers`).
    """
    address = os.environ.get(SCHEDULER, address)
    if not address:
        yield
        return
    from distributed import Client  # takes a second to import

    try:
        client = Client(address, timeout=PATIENCE_S)
    except (OSError, ValueError) as error:
        raise InputError(
            f"no Dask scheduler answers at {address} ({error}). Start one (`dask scheduler`), name another one "
            f"(--set machines.scheduler=ADDRESS, or {SCHEDULER}), or use this machine: --set machines.scheduler=''."
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=PATIENCE_S)
        except TimeoutError:
            raise InputError(
                f"the Dask scheduler at {address} has no worker after {PATIENCE_S} s. Start some: "
                f"`dask worker {address} --nworkers -1 --nthreads 1`."
            ) from None
        check_workers(client, needed)
        with parallel_config(backend="dask"):
            yield


def check_workers(client: "Client", needed: tuple[Path, ...]) -> None:
    """Raises InputError naming each worker whose code, libraries or files differ from this machine."""
    paths = [str(path.absolute()) for path in needed]
    with NamedTemporaryFile("w", dir=Path.cwd(), prefix=".cluster-") as probe:
        probe.write(probe.name)
        probe.flush()
        here = machine_facts(probe.name, paths)
        try:
            there = client.run(machine_facts, probe.name, paths)
        except ModuleNotFoundError as error:
            raise InputError(
                f"a worker of the Dask cluster cannot import fetalflow ({error}). Start the workers in an environment "
                "with fetalflow, or set PYTHONPATH to the checkout."
            ) from None
    wrong = [
        f"  {worker}: {name} is {facts[name]}, here {here[name]}"
        for worker, facts in sorted(there.items())
        for name in here
        if facts[name] != here[name]
    ]
    if wrong:
        raise InputError("workers of the Dask cluster differ from this machine:\n" + "\n".join(wrong))


def machine_facts(probe: str, paths: list[str]) -> dict[str, str]:
    """Facts that must be equal on all machines: {name: value}."""
    code = Path(fetalflow.__file__).parent
    digests = "".join(file_digest(file) for file in sorted(code.rglob("*.py")))
    file = Path(probe)
    files = {path: "there" if Path(path).exists() else "not there" for path in paths}
    return {
        "Python": platform.python_version(),
        "the code of fetalflow": hashlib.sha256(digests.encode()).hexdigest()[:12],
        **{name: version(name) for name in LIBRARIES},
        f"a file just written in {file.parent}": "there"
        if file.is_file() and file.read_text() == probe
        else "not there",
        **files,
    }
