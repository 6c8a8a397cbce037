"""Write the lock files: for each environment all packages, with their versions and the hashes of their files.

    make lock                     # a version stays as it is while it fits
    make lock UPGRADE=--upgrade   # take the newest versions that fit

| file                           | packages                                                                            |
| requirements.lock              | all that runs, without torch                                                        |
| requirements-dev.lock          | in addition, what only tests need                                                   |
| requirements-torch.lock        | in addition, torch from the usual index: on Linux for CUDA, with NVIDIA's libraries |
| infra/mlflow/requirements.lock | the image of MLflow's server, with the versions of the files above                  |
| infra/tools.lock               | the programs that lock, list and audit packages; they have a separate environment   |

It needs `uv` and the package index.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEAD = "# Written by `make lock` from {source}. Install it with `pip install --require-hashes --no-deps`.\n"
# Of torch there are builds for CUDA and for CPUs. Only the first are on the usual package index, so only they are
# locked here, with the libraries that they require. requirements-cpu.lock is written by hand.
TORCH = re.compile(r"torch==|nvidia-(?!ml-py)|cuda-|triton")


def compiled(source: Path, *words: str, pins: str = "") -> dict[str, str]:
    """Resolve `source` for Python 3.11 and later, on every system: each requirement with the lines of its hashes.

    pins: requirements that are kept where they fit. Raises CalledProcessError; uv then prints the reason.
    """
    command = ["uv", "pip", "compile", str(source), *words, "--universal", "--python-version", "3.11"]
    command += ["--generate-hashes", "--no-header", "--no-annotate", "--quiet", "--constraint", "-"]
    done = subprocess.run(command, input=pins, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    entries = re.split(r"\n(?=\S)", done.stdout.strip())
    return {entry.partition("\\")[0].strip(): entry for entry in entries}


def pinned(*files: Path) -> str:
    """The requirements of lock files, without hashes."""
    text = "\n".join(file.read_text(encoding="utf-8") for file in files if file.is_file())
    return "\n".join(re.findall(r"^[\w.-]+==[^\\\n]+", text, re.M))


def write(file: Path, entries: dict[str, str], source: str) -> None:
    file.write_text(HEAD.format(source=source) + "\n".join(entries.values()) + "\n", encoding="utf-8")


def main(upgrade: bool) -> None:
    run, dev, torch = (ROOT / f"requirements{part}.lock" for part in ("", "-dev", "-torch"))
    project = ROOT / "pyproject.toml"
    before = "" if upgrade else pinned(run, dev, torch)
    everything = compiled(project, "--extra", "openvino", "--extra", "dev", pins=before)
    pins = "\n".join(everything)
    runs = compiled(project, "--extra", "openvino", pins=pins)
    write(run, {name: entry for name, entry in runs.items() if not TORCH.match(name)}, project.name)
    write(torch, {name: entry for name, entry in runs.items() if TORCH.match(name)}, project.name)
    write(dev, {name: entry for name, entry in everything.items() if name not in runs}, f"{project.name}, extra dev")
    server, tools = ROOT / "infra" / "mlflow" / "requirements.in", ROOT / "infra" / "tools.in"
    write(server.with_suffix(".lock"), compiled(server, pins=pins), server.name)
    before = "" if upgrade else pinned(tools.with_suffix(".lock"))
    write(tools.with_suffix(".lock"), compiled(tools, pins=before), tools.name)


if __name__ == "__main__":
    main("--upgrade" in sys.argv[1:])
