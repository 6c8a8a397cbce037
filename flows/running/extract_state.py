"""Finds a drop that changed while the stage `extract` read it, which DVC cannot see.

DVC notes the state of the inputs of a stage when the stage has ended. A delivery or a withdrawal during the stage would
count as read. So `extract` notes what it read, and this file compares that with the drop before each run.
"""

from pathlib import Path

from fetalflow.artefacts import read_json
from fetalflow.errors import InputError
from fetalflow.hospital.drop.fingerprint import state_of
from fetalflow.settings.params import load_settings


def forget_changed_extracts(workspace: Path) -> list[str]:
    """Remove the stages `extract` that read another state of their drop from `dvc.lock`, so that DVC runs them again.
    Returns their names. A drop that is out of reach is left to the stage."""
    try:
        tasks = load_settings(workspace / "params.yaml").tasks
    except InputError:
        return []  # whoever runs a stage says what is wrong
    changed = []
    for task, entry in tasks.items():
        report = workspace / "reports" / task / "extract.json"
        try:
            read = read_json(report).get("read") if report.is_file() else None
        except (ValueError, AttributeError):
            continue  # the report is damaged; DVC knows its digest
        now = state_of(workspace / entry.drop, workspace / "reviews" / f"{task}.csv") if read else {}
        if now.get("drop") and now != read:
            changed.append(f"extract@{task}")
    return _forget(workspace / "dvc.lock", changed) if changed else []


def _forget(lock: Path, stages: list[str]) -> list[str]:
    if not lock.is_file() or not any(f"{stage}:" in lock.read_text(encoding="utf-8") for stage in stages):
        return []
    from dvc.utils.serialize import modify_yaml  # it takes a second to import

    with modify_yaml(str(lock)) as content:
        return [stage for stage in stages if (content.get("stages") or {}).pop(stage, None) is not None]
