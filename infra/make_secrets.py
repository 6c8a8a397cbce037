"""Write infra/.env with random passwords and the paths that the operator gives.

    python infra/make_secrets.py --drops /srv/drops --key /etc/fetalflow/pseudonym.key

It never overwrites an existing file, because with new passwords the servers could not open their databases. It needs
only Python. Root makes the key for the worker's user at once; for other users it prints the command that does so.
"""

import argparse
import os
import secrets
import stat
import sys
from pathlib import Path

HERE = Path(__file__).parent
WORKER = 10001  # user id in the image of the worker: only this user may read the keys
LEDGER = (
    '{"export": ["/heads/ledger.jsonl"]}\n'  # until `fetalflow ledger seal` writes it: where heads go in a container
)
BITS = 192  # of every secret; in hex, so that it can be part of a URL


def filled(example: str, paths: dict[str, Path]) -> str:
    """The text of .env.example with `paths` filled in, and a random value for every other empty variable."""
    lines = []
    for line in example.splitlines():
        name, equals, value = line.partition("=")
        if equals and not value and not line.startswith("#"):
            line = f"{name}={paths[name].resolve() if name in paths else secrets.token_hex(BITS // 8)}"
        lines.append(line)
    return "\n".join(lines) + "\n"


def write_private(path: Path, text: str) -> None:
    """Write a new file that only its owner can read. Raises FileExistsError."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)


def make_key(path: Path, worker: int) -> None:
    """Make a key file that only user `worker` can read; a key that is there stays as it is.

    Exits with a message if the worker could not read the key, or others could: only root can give it to that user.
    """
    if not path.exists():
        write_private(path, secrets.token_hex(32) + "\n")
        if os.geteuid() == 0:
            os.chown(path, worker, worker)
        print(f"Created {path}. Keep a copy in a safe: without it, new pseudonyms will not match the old ones.")
    status = path.stat()
    if status.st_uid != worker or stat.S_IMODE(status.st_mode) & 0o477 != 0o400:
        sys.exit(
            f"{path} belongs to user {status.st_uid} and has the mode {stat.S_IMODE(status.st_mode):03o}. The worker "
            f"runs as user {worker} and must be the only one who can read it. Do this, then start the command again:\n"
            f"    sudo chown {worker}:{worker} {path} && sudo chmod 600 {path}"
        )


def make_ledger(folder: Path) -> None:
    """Make the folder with ledger.json, which everybody may read; one that is there stays as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "ledger.json"
    if not file.exists():
        file.write_text(LEDGER, encoding="utf-8")
        file.chmod(0o644)
        print(f"Created {file}. The ML lead seals it: docs/ml-lead/ledger.md.")


def main(arguments: list[str] | None = None, target: Path = HERE / ".env", worker: int = WORKER) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--drops", type=Path, required=True, help="the folder where hospitals deliver")
    parser.add_argument(
        "--key", type=Path, required=True, help="the file with the pseudonym key; created if it does not exist"
    )
    parser.add_argument("--ledger", type=Path, help="the folder of ledger.json; default: `ledger` beside the key")
    options = parser.parse_args(arguments)
    if target.exists():
        sys.exit(f"{target} exists and stays as it is: the servers use its passwords.")
    if not options.drops.is_dir():
        sys.exit(f"{options.drops} is not a folder: give the folder where hospitals deliver.")
    if options.key.resolve().is_relative_to(HERE.parent.resolve()):
        sys.exit(f"{options.key} is in the repository: keep the pseudonym key outside.")
    make_key(options.key, worker)
    ledger = options.ledger or options.key.with_name("ledger")
    make_ledger(ledger)
    example = (HERE / ".env.example").read_text(encoding="utf-8")
    paths = {"DROPS": options.drops, "PSEUDONYM_KEY_FILE": options.key, "LEDGER_FOLDER": ledger}
    write_private(target, filled(example, paths))
    print(f"Wrote {target}. Keep a copy where you keep passwords.")


if __name__ == "__main__":
    main()
