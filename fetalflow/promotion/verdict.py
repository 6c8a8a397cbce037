"""Decides whether the challenger becomes champion: checks every rule, writes the verdict, moves the alias."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from fetalflow.artefacts import atomic_folder, file_digest, read_json, write_json, write_table, write_text
from fetalflow.errors import InputError, TrackingFailed
from fetalflow.evaluation.measurement_columns import measured_well
from fetalflow.evaluation.predictions import Predictions, read_predictions
from fetalflow.promotion import budgets
from fetalflow.promotion.answers import answers_of, held_out_rows
from fetalflow.promotion.approval import PAGE, place
from fetalflow.promotion.comparison import WRONG, Answers, compare_answers, describe_answers
from fetalflow.promotion.findings import Finding
from fetalflow.promotion.page import render
from fetalflow.promotion.speed import Speed, time_in_turns
from fetalflow.promotion.version_page import WAITS, publish
from fetalflow.registry.candidates import Candidate, alias_versions, candidate, keep_evidence
from fetalflow.registry.evidence import VERDICT, digest, evidence_digest
from fetalflow.registry.ledger.record import alias_problems, record_move
from fetalflow.registry.provenance import data_digest
from fetalflow.registry.usable import require_nobody_withdrawn, withdrawn_here
from fetalflow.settings.params import Evaluate, Promote, Settings


def judge(task: str, settings: Settings, workspace: Path = Path(), version: str | None = None) -> dict[str, Any]:
    """Check every rule of `params.yaml`; write verdict, page and the predictions of both models; return the verdict.
    No alias is moved.

    version: judged in place of the version with the challenger's alias. Raises InputError when there is no challenger,
    it is the champion already, or the test part is incomplete.
    """
    block = settings.blocks[task]
    rules, model, alias = block.promote, block.register_.model, block.register_.alias
    challenger, champion = _fetched(model, alias, version), _fetched(model, rules.champion)
    if challenger is None:
        raise InputError(f"no version of {model} is {alias}: nothing to promote. Run the pipeline to register one.")
    if champion is not None and champion.version == challenger.version:
        both = rules.champion if version else f"{rules.champion} and {alias}"
        raise InputError(f"version {champion.version} of {model} is {both}: nothing to decide.")
    data = workspace / "data" / task
    rows = held_out_rows(data)
    models = {"challenger": challenger} | ({} if champion is None else {"champion": champion})
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with atomic_folder(place(task, workspace)) as folder:
        answered, extract = {}, block.extract
        for name, model_of in models.items():
            answers = answers_of(name, model_of, task, rows, data, device, extract, extract.workers)
            write_table(folder / f"{name}.csv", answers)
            answered[name] = read_predictions(folder / f"{name}.csv")
        packages = {name: each.folder for name, each in models.items()}
        speed = time_in_turns(packages, block.evaluate.latency_repeats, device)
        findings = _findings(models, answered, speed, rows, rules, block.evaluate)
        findings += budgets.registered_files(models)
        findings += budgets.withdrawn(models, withdrawn_here(workspace))
        findings.append(budgets.on_record(model, rules.champion, alias_problems(model, rules.champion)))
        rules_text = rules.model_dump(mode="json")
        core = {
            "task": task,
            "model": model,
            "challenger": challenger.facts,
            "champion": None if champion is None else champion.facts,
            "test": {"sequences": len(rows), "patients": int(rows["patient"].nunique())},
            "settings": rules_text,
            "rules_digest": digest(rules_text),
            "evidence": {f"{name}.csv": file_digest(folder / f"{name}.csv") for name in models} | _of_data(data),
            "rules": [finding.as_dict() for finding in findings],
        }
        core |= _decision(findings, champion, rules)
        made = datetime.now(UTC).isoformat(timespec="seconds")
        verdict = core | {"evidence_digest": evidence_digest(core), "machine": speed.as_dict()}
        verdict |= {"made": made, "done": "Nothing was moved.", "requested": version}
        _write(folder, verdict)
    return verdict


def act(verdict: Mapping[str, Any], settings: Settings, approved_by: str | None, workspace: Path = Path()) -> bool:
    """Make the challenger champion if all rules passed and, where params.yaml requires it, a person approved; return
    whether the alias was moved.

    The move and the digest of the evidence go to the ledger. The evidence goes to the challenger's run, also when a
    rule failed. Raises InputError when an alias, the test part or the rules have changed since the verdict, or when a
    patient of the challenger's training was withdrawn since.
    """
    task, model = verdict["task"], verdict["model"]
    if not verdict["failed"] and verdict["needs_approval"] and not approved_by:
        publish(verdict, place(task, workspace), "waits", WAITS)
        return False
    block = settings.blocks[task]
    judged = tuple((verdict[name] or {}).get("version") for name in ("champion", "challenger"))
    now = alias_versions(model, block.promote.champion, block.register_.alias)
    if verdict.get("requested"):  # it needs no alias
        now = (now[0], verdict["requested"])
    if now != judged:
        raise InputError(
            f"champion and challenger of {model} were versions {judged[0]} and {judged[1]} when they were judged, now "
            f"they are {now[0]} and {now[1]}. Judge again."
        )
    folder, evidence = place(task, workspace), verdict["evidence_digest"]
    if read_json(folder / VERDICT)["evidence_digest"] != evidence:
        raise InputError(f"{folder} now holds another verdict. Judge again.")
    data, rules_text = _of_data(workspace / "data" / task), block.promote.model_dump(mode="json")
    if any(verdict["evidence"][name] != found for name, found in data.items()):
        raise InputError(f"the test part of {task} has changed since the verdict was made. Judge again.")
    if digest(rules_text) != verdict["rules_digest"]:
        raise InputError(f"the rules of promotion of {task} have changed since the verdict was made. Judge again.")
    if verdict["failed"]:
        publish(verdict, folder, "refused", "Does not become champion.")
        return False
    require_nobody_withdrawn(model, judged[1], workspace)  # a person may take a day to approve
    approval = f"approved by {approved_by}" if approved_by else "without approval, as params.yaml allows"
    done = f"Version {judged[1]} became {block.promote.champion}, {approval}."
    # The run's copy is written before the move: it cannot know yet whether the move succeeds.
    _write(folder, dict(verdict) | {"done": f"Passed, {approval}. The ledger shows whether the alias was then moved."})
    keep_evidence(verdict["challenger"]["run_id"], folder, evidence)
    record_move(model, block.promote.champion, judged[1], evidence, f"promotion, {approval}", expected=judged[0])
    _write(folder, dict(verdict) | {"done": done})
    publish(verdict, folder, "champion", done)
    return True


def _fetched(model: str, alias: str, version: str | None = None) -> Candidate | None:
    """`candidate`. Raises InputError when the registry answers and the files of the version are gone."""
    try:
        return candidate(model, alias, version) if version else candidate(model, alias)
    except (InputError, TrackingFailed, OSError) as error:
        (named,) = alias_versions(model, alias)  # fails as well if there is no such model or no registry
        which = version or named
        raise InputError(
            f"the files of version {which} of {model}, the {alias}, cannot be fetched ({str(error).rstrip('.')}). "
            "Restore them from a backup of the artefact store; or give the alias to a version that has its files: "
            "`fetalflow rollback` for a champion, another run of the pipeline for a challenger."
        ) from None


def _of_data(data: Path) -> dict[str, str]:
    """The digests of the manifest and of the split."""
    manifest = data_digest(pd.read_parquet(data / "manifest.parquet"))
    return {"manifest": manifest, "split": file_digest(data / "split.parquet")}


def _write(folder: Path, verdict: dict[str, Any]) -> None:
    write_json(folder / VERDICT, verdict)
    write_text(folder / PAGE, render(verdict))


def _findings(
    models: dict[str, Candidate],
    answered: dict[str, Predictions],
    speed: Speed,
    rows: pd.DataFrame,
    rules: Promote,
    evaluate: Evaluate,
) -> list[Finding]:
    challenger, champion = answered["challenger"], answered.get("champion")
    paired = _paired(champion or challenger, challenger, rules, evaluate.tolerance)
    if champion is None:
        compared = describe_answers(paired, rules)
    else:
        compared = compare_answers(paired, rules)
        compared.append(budgets.vocabulary(models["challenger"], models["champion"]))
    return [
        *compared,
        budgets.calibration(challenger, champion, rules, evaluate.bins),
        budgets.false_alarms(challenger, champion, rules),
        *budgets.latency(speed, rules),
        budgets.size(models["challenger"], models.get("champion"), rules),
        *budgets.lineage(models["challenger"], rules),
        *budgets.unseen(models, rows),
    ]


def _paired(champion: Predictions, challenger: Predictions, rules: Promote, tolerance: float) -> Answers:
    """Both tables were made from the same rows, in the same order. tolerance: % of a length, for measured_well.

    A champion that does not measure has measured nothing well. Raises InputError where the metric is measured_well and
    the challenger does not measure, or no test sequence has a true length.
    """
    first, second = champion.table, challenger.table
    answered = [table["y_pred"].to_numpy(dtype=object) for table in (first, second)]
    kept = np.ones(len(second), dtype=bool)
    if rules.metric == "measured_well":
        if not challenger.measures:
            raise InputError(
                "promote.metric is measured_well, but the challenger draws no masks and measures nothing. Make a "
                "segmentation network the task's main variant, or choose another metric."
            )
        well = [measured_well(table, tolerance).to_numpy() for table in (first, second)]
        kept = np.isfinite(well[1])
        if not kept.any():
            raise InputError(
                "promote.metric is measured_well, but no test sequence has a true length. Choose another metric."
            )
        answered = [np.where(each == 1, second["y_true"], WRONG) for each in well]
    labels = tuple(sorted({*second["y_true"], *answered[0], *answered[1]}))
    truth, one, other = (pd.Index(labels).get_indexer(c[kept]) for c in (second["y_true"], *answered))
    patient, site = second["patient"].to_numpy(dtype=str), second.get("site", pd.Series("", index=second.index))
    return Answers(labels, patient[kept], site.to_numpy(dtype=str)[kept], truth, one, other)


def _decision(findings: list[Finding], champion: Candidate | None, rules: Promote) -> dict[str, Any]:
    failed = [finding.rule for finding in findings if finding.outcome == "fail"]
    needs_approval = rules.approval or champion is None
    if failed:
        words = "The champion stays" if champion else "There is no champion yet"
        words += f": {len(failed)} of {len(findings)} rules failed."
    elif champion is None:
        words = "There is no champion to compare with: a person must agree to the figures of this version."
    else:
        words = "The challenger passed every rule" + (
            " and may become champion once a person approves." if needs_approval else "."
        )
    decision = "keep" if failed else "promote"
    return {"decision": decision, "failed": failed, "needs_approval": needs_approval, "words": words}
