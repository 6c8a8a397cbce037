"""What a line says about files: the digest of a version's files, and of each file of an evidence; and their check."""

import hashlib
import json
from typing import Any

from fetalflow.registry.client import Registry
from fetalflow.registry.ledger.chain import Line
from fetalflow.registry.registered_files import PACKAGE_TAG
from fetalflow.registry.usable import file_problems

NOT_IN_DIGEST = ("evidence_digest", "made", "done")  # keys of a verdict that its digest did not cover until 2026-11
VERDICT = "verdict.json"


def evidence_folder(evidence: str) -> str:
    """The folder of a promotion's evidence in the artefacts of the challenger's run."""
    return f"promotion/{evidence[:12]}"


def recorded_files(store: Registry, model: str, version: str | None, evidence: str | None) -> dict[str, Any]:
    """The keys `package` and `kept` of a line, as far as there are such files."""
    if version is None:
        return {}
    package = package_digest(store, model, version)
    kept = kept_files(store, model, version, evidence) if evidence else {}
    return ({"package": package} if package else {}) | ({"kept": kept} if kept else {})


def package_digest(store: Registry, model: str, version: str) -> str | None:
    """SHA-256 over the names and contents of a version's files; None if there are none.

    What MLflow and Python write beside them when the model is loaded is left out.
    """
    files = store.version_files(model, version)
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest() if files else None


def package_error(store: Registry, lines: list[Line], model: str, version: str, found: str | None) -> str | None:
    """What is wrong with the files of a version, in a sentence. found: their digest, None without files.

    The first signed line that recorded them counts, or else the first one; where none did, the digest in a tag of the
    version, which every writer can change.
    """
    recorded = [line for line in lines if (line["model"], line["to"]) == (model, version) and "package" in line]
    if not recorded:
        tagged = PACKAGE_TAG in store.client.get_model_version(model, version).tags
        problems = file_problems(store, model, version) if tagged else []
        return f"the files of version {version} of {model}: {'; '.join(problems)}. Restore them." if problems else None
    line = next((line for line in recorded if "signature" in line), recorded[0])
    if found == line["package"]:
        return None
    what = "are gone" if found is None else "were changed or swapped"
    return (
        f"the files of version {version} of {model} {what}: line {line['number']} recorded the digest "
        f"{line['package'][:12]}, found {found[:12] if found else 'no files'}. Restore them from the backup of the "
        "store, and do not use this version."
    )


def file_errors(
    store: Registry, lines: list[Line], aliases: dict[str, dict[str, str]], workers: tuple[str, ...]
) -> list[str]:
    """What is wrong with packages and evidence, in sentences. Read are the versions that have an alias now, and those
    that ever had one that is not in `workers`: other versions are never used again."""
    used = {(model, version) for model, of_model in aliases.items() for version in of_model.values()}
    used |= {(line["model"], line["to"]) for line in lines if line["alias"] not in workers and line["to"]}
    here = [(model, version) for model, version in sorted(used) if store.has_version(model, version)]
    found = [package_error(store, lines, *one, package_digest(store, *one)) for one in here]
    wrong = [error for error in found if error]
    return wrong + [error for line in _last_of_each_evidence(store, lines) for error in _evidence_errors(store, line)]


def changed_evidence(store: Registry, lines: list[Line]) -> list[tuple[Line, dict[str, str]]]:
    """Each last line about an evidence whose files are not the recorded ones, and the digests of the files now."""
    found = [
        (line, kept_files(store, line["model"], line["to"], line["evidence"]))
        for line in _last_of_each_evidence(store, lines)
    ]
    return [(line, kept) for line, kept in found if any(kept.get(n) != d for n, d in line.get("kept", {}).items())]


def _last_of_each_evidence(store: Registry, lines: list[Line]) -> list[Line]:
    """The last line about each evidence of a version that is still in the registry. A signed line counts more than one
    without a signature, and one that recorded the files more than one that did not."""
    ranked = sorted(lines, key=lambda line: ("signature" in line, "kept" in line))
    named = {(line["model"], line["to"], line["evidence"]): line for line in ranked if line["evidence"] and line["to"]}
    return [line for (model, version, _), line in named.items() if store.has_version(model, version)]


def kept_files(store: Registry, model: str, version: str, evidence: str) -> dict[str, str]:
    """SHA-256 by name of the files of a promotion's evidence; empty if there are none."""
    run = store.run_of(model, version)
    return store.files_of(run, evidence_folder(evidence)) if run else {}


def _evidence_errors(store: Registry, line: Line) -> list[str]:
    model, version, evidence = line["model"], line["to"], line["evidence"]
    found, wrong = kept_files(store, model, version, evidence), []
    start = f"line {line['number']}: of the evidence {evidence[:12]} of version {version} of {model}, the file"
    for name, digest in line.get("kept", {}).items():
        if found.get(name) != digest:
            what = "was changed" if name in found else "is gone"
            wrong.append(
                f"{start} {name} {what}: expected SHA-256 {digest[:12]}, found {found.get(name, 'nothing')[:12]} "
                f"in the run {store.run_of(model, version)}. Restore it from the backup; if it was changed on "
                "purpose: fetalflow ledger repair --evidence --reason WHY"
            )
    if VERDICT in found and "kept" not in line and not _fits_old(store, store.run_of(model, version), evidence):
        wrong.append(f"{start} {VERDICT} was changed: its digest is another one. Restore it from the backup.")
    return wrong


def _fits_old(store: Registry, run: str, evidence: str) -> bool:
    """Whether a verdict of a line without `kept` has the digest that the line names."""
    try:
        verdict = json.loads(store.artefact(run, f"{evidence_folder(evidence)}/{VERDICT}") or "")
        core = {key: value for key, value in verdict.items() if key not in NOT_IN_DIGEST}
    except (ValueError, AttributeError):
        return False
    return hashlib.sha256(json.dumps(core, sort_keys=True, separators=(",", ":")).encode()).hexdigest() == evidence
