"""Write the digest of every image into the compose files and Dockerfiles, so that a tag cannot change what runs.

    python infra/pin_images.py           # asks the registries by `docker buildx imagetools`, and rewrites the files
    python infra/pin_images.py --check   # asks nobody; exit status 1 and a list if an image has no digest

Images that are built here have no digest: their packages have hashes (requirements.lock). Commit the changed files.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
# `image:` of a service that is not built here, or FROM; then the tag, and perhaps a digest.
IMAGE = re.compile(
    r"(?P<before>^\s*image: |^FROM )(?P<tag>(?!fetalflow-)[\w./-]+:[\w.-]+)(?P<digest>@sha256:[0-9a-f]{64})?", re.M
)


def digest(tag: str) -> str:
    """The digest of an image for all its platforms, from its registry. Raises SystemExit with the reason."""
    command = ["docker", "buildx", "imagetools", "inspect", "--format", "{{.Manifest.Digest}}", tag]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except FileNotFoundError:
        sys.exit("The program docker is not on this machine. Run this where Docker and its buildx are installed.")
    found = done.stdout.strip()
    if done.returncode or not re.fullmatch(r"sha256:[0-9a-f]{64}", found):
        sys.exit(f"The digest of {tag} could not be read, and no file was changed: {(done.stderr or found).strip()}")
    return found


def main(arguments: list[str] | None = None, folder: Path = HERE) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit status 1 if an image has no digest")
    check = parser.parse_args(arguments).check
    files = {path: path.read_text("utf-8") for path in [*folder.glob("compose*.yaml"), *folder.glob("*/Dockerfile")]}
    found = [(path, match) for path, text in files.items() for match in IMAGE.finditer(text)]
    if check:
        if missing := sorted(f"{path.relative_to(folder)}: {m['tag']}" for path, m in found if not m["digest"]):
            sys.exit("Without a digest:\n  " + "\n  ".join(missing) + "\nRun python infra/pin_images.py.")
        return
    digests = {tag: digest(tag) for tag in sorted({match["tag"] for _, match in found})}
    for path, text in files.items():
        path.write_text(IMAGE.sub(lambda m: f"{m['before']}{m['tag']}@{digests[m['tag']]}", text), encoding="utf-8")
    print("\n".join(f"{tag}@{digests[tag]}" for tag in digests))


if __name__ == "__main__":
    main()
