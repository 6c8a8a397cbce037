"""The digest of a registered package, and whether the files of a package are still those that were registered."""

import hashlib
from pathlib import Path

from fetalflow.artefacts import file_digest, read_json
from fetalflow.errors import InputError
from fetalflow.evaluation.certainty.record import certainty_path, read_certainty
from fetalflow.inference.engines.choice import EXPORTS, JUDGED
from fetalflow.inference.engines.record import RECORD, read_record
from fetalflow.models.package_files import CONFIG, WEIGHTS, read_config, read_familiarity

PACKAGE_TAG = "fetalflow.package"  # of a version: `registered_digest`, so that the same model gets only one version
CARD = "README.md"  # of the registered package: its model card


def registered_digest(package: Path, exports: Path | None, card: str) -> str:
    """SHA-256, hex, of the model: package, certainty, formats and card. Measured times are not part of it."""
    formats = sorted(exports.glob(f"*/{RECORD}")) if exports else []
    files = [f"{path.parent.name} {read_json(path)['files']}" for path in formats]
    certainty = certainty_of(package)
    files += [file_digest(certainty)] if certainty else []
    return hashlib.sha256("".join([file_digest(package / CONFIG), card, *files]).encode()).hexdigest()


def certainty_of(package: Path) -> Path | None:
    """The file that says how sure the model is; None where there is none. Raises InputError if it cannot be read or
    belongs to other weights."""
    weights = read_config(package)["weights"].get("sha256")
    path = certainty_path(package, weights)
    if path is not None:
        read_certainty(path, weights)
    return path


def package_problems(package: Path, recorded: str | None) -> list[str]:
    """Why the files of the registered package in `package` are not those that were registered; empty if they are.

    recorded: the version's PACKAGE_TAG. A version without it was not registered by fetalflow; its files are then only
    compared with the digests in the package.
    """
    try:
        config = read_config(package)
        weights, expected = file_digest(package / WEIGHTS), config["weights"].get("sha256")
        if weights != expected:
            return [f"{WEIGHTS} has the SHA-256 {weights[:12]}, but {CONFIG} records {str(expected)[:12]}"]
        read_familiarity(package, config)
        exports = package / EXPORTS if (package / EXPORTS / JUDGED).is_file() else None
        for record in sorted(exports.glob(f"*/{RECORD}")) if exports else ():
            read_record(record.parent)
        if recorded is None:
            return []
        found = registered_digest(package, exports, (package / CARD).read_text(encoding="utf-8"))
    except (InputError, OSError, ValueError, KeyError) as error:
        # Without the folder, which is a temporary one if the package was downloaded.
        return [str(error).rstrip(".").replace(f"{package}/", "").replace(str(package), "the package")]
    if found == recorded:
        return []
    return [f"configuration, model card and formats have the digest {found[:12]}, but {recorded[:12]} was registered"]
