"""Every move of the champion's alias, with its verdict, and what the change plan needs to know of each version."""

import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from pydantic import ValidationError

from fetalflow.artefacts import file_digest, read_json, write_json
from fetalflow.dossier import change_plan
from fetalflow.dossier.gathering.ledger import without_folders
from fetalflow.dossier.subject import Subject
from fetalflow.errors import InputError, TrackingFailed
from fetalflow.models.package_files import CONFIG
from fetalflow.registry.evidence import VERDICT, evidence_problems
from fetalflow.registry.ledger.alias_history import NO_MOVE
from fetalflow.registry.ledger.chain import Line
from fetalflow.registry.ledger.files import evidence_folder
from fetalflow.registry.ledger.record import alias_problems, history
from fetalflow.registry.lineage import EVIDENCE, PATIENTS
from fetalflow.registry.registered_files import PACKAGE_TAG, package_problems
from fetalflow.registry.tracking import download_package
from fetalflow.registry.usable import withdrawn_among, withdrawn_here
from fetalflow.settings.params import Loader, Promote

FILE, VERDICTS = "promotions.json", "promotions"  # a file and a folder of the evidence
TESTED = ("patient", "sequence", "site", "device")
TABLE = "challenger.csv"  # the answers of the version that was judged, in the evidence of its promotion
READING = ("mask_overlays", "mask_sector", "fps", "every")  # settings of `extract` that decide what a network sees
APPROVED = re.compile(r"approved by (.+)$", re.DOTALL)


def gather(subject: Subject, folder: Path) -> None:
    """Write `promotions.json`, a copy of each verdict to `promotions/`, and the change plan. Tables of patients become
    counts."""
    plan = change_plan.plan_file(subject.workspace, subject.task)
    change_plan.read_plan(plan)
    shutil.copyfile(plan, folder / change_plan.FILE)
    rules, why = rules_of_run(subject)
    alias = (rules or Promote().model_dump(mode="json"))["champion"]
    lines, problems, unread = _ledger(subject.model, alias)
    withdrawn = withdrawn_here(subject.workspace)
    events: list[dict[str, Any]] = []
    seen = pd.DataFrame(columns=TESTED, dtype=str)
    for line in lines:
        if line["step"] in NO_MOVE or line["from"] == line["to"]:
            continue
        event, rows = _event(subject, folder, line, lines)
        if rows is not None:
            event["tested"] = _counts(rows) | _left(seen, rows, withdrawn)
            seen = pd.concat([seen, rows]).drop_duplicates(["patient", "sequence"])
        events.append(event)
    write_json(
        folder / FILE,
        {
            "alias": alias,
            "plan_of_team": plan.parent != Path(change_plan.__file__).parent,
            "rules": rules,
            "why_no_rules": why,
            "alias_problems": problems,
            "why_no_ledger": unread,
            "events": events,
            "last_verdict": _last_verdict(subject, folder),
        },
    )


def _ledger(model: str, alias: str) -> tuple[list[Line], list[str], str]:
    """The lines about an alias, what is wrong with it, and why the ledger cannot be read; empty if it can."""
    try:
        lines = [line for line in history(model) if line["alias"] == alias]
        return lines, [without_folders(said) for said in alias_problems(model, alias)], ""
    except InputError as error:  # its run was deleted, or its anchor names another one
        return [], [], without_folders(str(error))


def rules_of_run(subject: Subject) -> tuple[dict[str, Any] | None, str]:
    """The block `promote` in the run's params.yaml, with its defaults; None with the reason where there is none."""
    text = subject.store.artefact(subject.run, "params.yaml")
    if text is None:
        return None, "The run has no params.yaml."
    try:
        block = (yaml.load(text, Loader).get(subject.task) or {}).get("promote") or {}
        return Promote.model_validate(block).model_dump(mode="json"), ""
    except (yaml.YAMLError, ValidationError, AttributeError) as error:
        return None, f"The rules in the run's params.yaml cannot be read ({type(error).__name__})."


def _event(subject: Subject, folder: Path, line: Line, lines: list[Line]) -> tuple[dict[str, Any], pd.DataFrame | None]:
    """A move as JSON, and the rows that its verdict was made on (`_tested`); None where they are not known."""
    approved = APPROVED.search(line["reason"]) if line["kind"] == "move" else None
    event = {name: line[name] for name in ("number", "time", "step", "kind", "who", "from", "to", "evidence", "reason")}
    event |= {"model": subject.model, "approved_by": approved[1] if approved else None, "verdict": None}
    event |= {"facts": None, "tested": None, "evidence_problems": [], "renewed": False}
    if line["to"] is None:
        return event, None
    event["facts"] = version_facts(subject, line["to"])
    if not line["evidence"]:
        return event, None
    about = [one for one in lines if (one["to"], one["evidence"]) == (line["to"], line["evidence"])]
    event["renewed"] = any(one["step"] == "renewed" for one in about)
    with tempfile.TemporaryDirectory() as scratch:
        found = _download(subject, line["to"], evidence_folder(line["evidence"]), scratch)
        if found is None:
            return event, None
        event["evidence_problems"] = _problems(found, line["evidence"], about)
        event["verdict"] = _keep_verdict(found, folder, line["to"], line["evidence"])
        return event, _tested(found / TABLE)


def _counts(rows: pd.DataFrame) -> dict[str, Any]:
    at = rows[rows["site"] != ""].groupby("site")["device"].unique()
    return {
        "patients": int(rows["patient"].nunique()),
        "sequences": len(rows),
        "devices_at": {site: sorted({*devices} - {""}) for site, devices in at.items()},
    }


def _left(seen: pd.DataFrame, rows: pd.DataFrame, withdrawn: pd.DataFrame) -> dict[str, int]:
    """Who was tested at an earlier promotion and is not tested at this one; of the others, the sequences that are not
    tested any more."""
    stayed = seen["patient"].isin(rows["patient"])
    gone = seen[~stayed]
    lost = seen[stayed & (seen["sequence"] != "") & ~seen["sequence"].isin(rows["sequence"])]
    return {
        "lost": int(gone["patient"].nunique()),
        "withdrawn": withdrawn_among(zip(gone["patient"], gone["site"], strict=True), withdrawn),
        "lost_sequences": int(lost["sequence"].nunique()),
    }


def _problems(found: Path, evidence: str, about: list[Line]) -> list[str]:
    """A signed line counts more than one without a signature, and the last one more than those before."""
    kept = next(iter([one["kept"] for one in sorted(about, key=lambda o: "signature" in o) if "kept" in one][-1:]), {})
    wrong = [f"{name} was changed or is gone." for name, digest in kept.items() if _digest(found / name) != digest]
    if not any(one["step"] == "renewed" for one in about):
        wrong += evidence_problems(found, evidence)
    return list(dict.fromkeys(wrong))


def _digest(path: Path) -> str:
    return file_digest(path) if path.is_file() else ""


def _keep_verdict(found: Path, folder: Path, version: str, evidence: str) -> str | None:
    """The name of the copy in the evidence; None where the file is no JSON object."""
    name = f"{VERDICTS}/{version}-{evidence[:12]}.json"
    try:
        if not isinstance(read_json(found / VERDICT), dict):
            return None
    except (OSError, ValueError):
        return None
    (folder / VERDICTS).mkdir(exist_ok=True)
    shutil.copyfile(found / VERDICT, folder / name)
    return name


def _tested(path: Path) -> pd.DataFrame | None:
    """The rows with the columns TESTED as text; a column that is not there is empty."""
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError):
        return None
    if "patient" not in rows:
        return None
    return pd.DataFrame({name: rows.get(name, pd.Series("", rows.index)) for name in TESTED})


def _download(subject: Subject, version: str, path: str, scratch: str) -> Path | None:
    """A folder of the artefacts of a version's run; None where version, run or folder are gone."""
    store = subject.store
    try:
        run = store.run_of(subject.model, version) if store.has_version(subject.model, version) else ""
        if not run or not store.client.list_artifacts(run, path):
            return None
        return Path(store.client.download_artifacts(run, path, scratch))
    except store.failure as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def version_facts(subject: Subject, version: str) -> dict[str, Any] | None:
    """What a version is: network, labels, size, frames, how it reads cines, the sites of its data; None where it is
    gone, or its package cannot be read. sites: None where its run does not record them."""
    store = subject.store
    if not store.has_version(subject.model, version):
        return None
    try:
        package = download_package(f"models:/{subject.model}/{version}")
        config = read_json(package / CONFIG)
        tags = store.client.get_model_version(subject.model, version).tags
        return {
            "version": version,
            "task": config["task"],
            "variant": config["variant"],
            "network": {"name": config["network"], "options": config.get("options") or {}},
            "labels": sorted(config["labels"]),
            "size": config["size"],
            "frames": config["frames"],
            "reading": {name: (config.get("extract") or {}).get(name) for name in READING},
            "files": tags.get(PACKAGE_TAG),
            "problems": package_problems(package, tags.get(PACKAGE_TAG)),
            "sites": _sites(subject, version),
        }
    except (InputError, TrackingFailed, OSError, ValueError, KeyError):
        return None


def _sites(subject: Subject, version: str) -> list[str] | None:
    """The sites of all patients of a version's run."""
    store, run = subject.store, subject.store.run_of(subject.model, version)
    if not run:
        return None
    run = store.client.get_run(run).data.tags.get("mlflow.parentRunId", run)
    with tempfile.TemporaryDirectory() as scratch:
        table = next((path for path in store.artefact_paths(run, "data") if path == PATIENTS), None)
        if table is None:
            return None
        rows = pd.read_csv(store.client.download_artifacts(run, table, scratch), dtype=str, keep_default_na=False)
    return sorted(set(rows["site"]) - {""}) if "site" in rows else None


def _last_verdict(subject: Subject, folder: Path) -> str | None:
    """The newest verdict on the version of the dossier, also one that refused it; the name of its copy."""
    made: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as scratch:
        found = _download(subject, subject.version, EVIDENCE, scratch)
        for path in sorted(found.glob(f"*/{VERDICT}")) if found else ():
            verdict: Mapping[str, Any] | None = _verdict_of(path, subject.version)
            if verdict is not None:
                name = _keep_verdict(path.parent, folder, subject.version, verdict["evidence_digest"])
                made[name] = verdict["made"]
    return max(made, key=lambda name: (made[name], name)) if made else None


def _verdict_of(path: Path, version: str) -> Mapping[str, Any] | None:
    try:
        verdict = read_json(path)
        is_whole = verdict["challenger"]["version"] == version and verdict["made"] and verdict["evidence_digest"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return verdict if is_whole else None
