"""Print the known security faults of locked packages, and keep them for dossiers in sbom/audit.json.

    python infra/audit.py PIP-AUDIT LOCK...      # `make audit` calls it

It asks the package index about each package, so it needs the network. The exit status is 1 if a lock has a fault, or
if it could not be checked; then an earlier sbom/audit.json stays as it is.
"""

import hashlib
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

KEPT = Path("sbom", "audit.json")
OPTIONS = ("--strict", "--disable-pip", "--require-hashes")


def audit(program: str, lock: str) -> tuple[bool, dict | None]:
    """Whether a lock is without a fault, after its faults were printed, and the same as a record for KEPT: None if the
    program could not check it. It prints either a table or JSON, so it runs twice; it keeps the answers of the index.
    """
    print(f"{lock}:", flush=True)
    command = [program, *OPTIONS, "-r", lock]
    good = subprocess.run(command).returncode == 0
    done = subprocess.run([*command, "--format", "json", "--progress-spinner", "off"], capture_output=True, text=True)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return False, None
    return good, {"sha256": hashlib.sha256(Path(lock).read_bytes()).hexdigest(), "packages": packages}


def main(program: str, locks: list[str]) -> int:
    found = {lock: audit(program, lock) for lock in locks}
    unknown = [lock for lock, (_, record) in found.items() if record is None]
    if unknown:
        print(f"{', '.join(unknown)} could not be checked, so {KEPT} was not written.", file=sys.stderr)
        return 1
    KEPT.parent.mkdir(exist_ok=True)
    made = datetime.now(UTC).isoformat(timespec="seconds")
    kept = {"made": made, "locks": {lock: record for lock, (_, record) in found.items()}}
    KEPT.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    return 0 if all(good for good, _ in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
