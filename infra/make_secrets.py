"""Write infra/.env: random passwords, and the two paths that only the operator knows.

    python infra/make_secrets.py --drops /srv/drops --key /etc/fetalflow/pseudonym.key

Never writes over an existing file: new passwords would lock the servers out of their databases. Needs Python only.
"""

import argparse
import os
import secrets
import sys
from pathlib import Path

HERE = Path(__file__).parent
WORKER = 10001  # the user of the worker's image: it reads the key, and nobody else may
BITS = 192  # of every secret; hex, so that it may stand in a URL


def filled(example: str, paths: dict[str, Path]) -> str:
    """The text of .env.example with a random value behind every empty name, and `paths` behind theirs."""
    lines = []
    for line in example.splitlines():
        name, equals, value = line.partition("=")
        if equals and not value and not line.startswith("#"):
            line = f"{name}={paths[name].resolve() if name in paths else secrets.token_hex(BITS // 8)}"
        lines.append(line)
    return "\n".join(lines) + "\n"


def write_private(path: Path, text: str) -> None:
    """A new file that its owner alone may read. Raises FileExistsError."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)


def main(words: list[str] | None = None, target: Path = HERE / ".env") -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--drops", type=Path, required=True, help="the folder where hospitals deliver")
    parser.add_argument("--key", type=Path, required=True, help="the file with the key of the pseudonyms; made if new")
    options = parser.parse_args(words)
    if target.exists():
        sys.exit(f"{target} is there already and stays as it is: the servers know its passwords.")
    if not options.drops.is_dir():
        sys.exit(f"{options.drops} is no folder: give the one where hospitals deliver.")
    if options.key.resolve().is_relative_to(HERE.parent.resolve()):
        sys.exit(f"{options.key} lies in the repository: keep the key of the pseudonyms elsewhere.")
    if not options.key.exists():
        write_private(options.key, secrets.token_hex(32) + "\n")
        if os.geteuid() == 0:
            os.chown(options.key, WORKER, WORKER)
        print(f"Made {options.key}. Keep a copy in a safe: without it new pseudonyms will not match the old ones.")
    example = (HERE / ".env.example").read_text(encoding="utf-8")
    write_private(target, filled(example, {"DROPS": options.drops, "PSEUDONYM_KEY_FILE": options.key}))
    print(f"Wrote {target}. Keep a copy where you keep passwords.")


if __name__ == "__main__":
    main()
