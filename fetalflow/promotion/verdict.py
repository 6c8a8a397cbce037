"""Whether the challenger becomes champion: every rule asked, the verdict written, the alias moved."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from fetalflow.artefacts import atomic_folder, file_digest, read_json, write_json, write_table, write_text
from fetalflow.errors import InputError
from fetalflow.evaluation.latency import measure
from fetalflow.evaluation.measurement_columns import measured_well
from fetalflow.evaluation.predictions import Predictions, read_predictions
from fetalflow.ledger import doubts, record_move
from fetalflow.promotion import budgets
from fetalflow.promotion.candidates import Candidate, asked, candidate, held_out_rows, keep_evidence, standing
from fetalflow.promotion.comparison import WRONG, Answers, compare, metric_rule
from fetalflow.promotion.findings import Finding
from fetalflow.promotion.page import render
from fetalflow.provenance import data_digest
from fetalflow.settings import Evaluate, Promote, Settings

VERDICT, PAGE = "verdict.json", "verdict.html"


def place(task: str, workspace: Path = Path()) -> Path:
    """The folder of the last verdict. Beside the reports of the run, which are registered and must not change."""
    return workspace / "reports" / "promotion" / task


def judge(task: str, settings: Settings, workspace: Path = Path()) -> dict[str, Any]:
    """Ask every rule of `params.yaml`, write verdict, page and both predictions; return the verdict. Moves nothing.

    Raises InputError when there is no challenger, it is the champion already, or the test part is not whole.
    """
    block = settings.blocks[task]
    rules, model, alias = block.promote, block.register_.model, block.register_.alias
    challenger, champion = candidate(model, alias), candidate(model, rules.champion)
    if challenger is None:
        raise InputError(f"no version of {model} is {alias}: nothing to promote. Run the pipeline, which registers it.")
    if champion is not None and champion.version == challenger.version:
        raise InputError(f"version {champion.version} of {model} is {rules.champion} and {alias}: nothing to decide.")
    data = workspace / "data" / task
    rows = held_out_rows(data)
    named = {"challenger": challenger} | ({} if champion is None else {"champion": champion})
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with atomic_folder(place(task, workspace)) as folder:
        answered = {}
        for name, one in named.items():
            write_table(folder / f"{name}.csv", asked(name, one, task, rows, data, device))
            answered[name] = read_predictions(folder / f"{name}.csv")
        times = _times(named, block.evaluate.latency_repeats, device)
        findings = _findings(named, answered, times, rows, rules, block.evaluate)
        findings.append(budgets.on_record(model, rules.champion, doubts(model, rules.champion)))
        evidence = {f"{name}.csv": file_digest(folder / f"{name}.csv") for name in named}
        evidence |= {"manifest": data_digest(pd.read_parquet(data / "manifest.parquet"))}
        evidence |= {"split": file_digest(data / "split.parquet")}
        stated = rules.model_dump(mode="json")
        core = {
            "task": task,
            "model": model,
            "challenger": challenger.facts,
            "champion": None if champion is None else champion.facts,
            "test": {"sequences": len(rows), "patients": int(rows["patient"].nunique())},
            "settings": stated,
            "rules_digest": digest(stated),
            "evidence": evidence,
            "rules": [finding.as_dict() for finding in findings],
        }
        core |= _decision(findings, champion, rules)
        made = datetime.now(UTC).isoformat(timespec="seconds")
        verdict = core | {"evidence_digest": digest(core), "made": made, "done": "Nothing was moved."}
        _write(folder, verdict)
    return verdict


def act(verdict: Mapping[str, Any], settings: Settings, approved_by: str | None, workspace: Path = Path()) -> bool:
    """Make the challenger champion if the rules passed and, where asked for, a person said yes; whether it was done.

    The move and the digest of the evidence go to the ledger, the evidence to the challenger's run, which keeps that of
    a failed rule as well.
    Raises InputError when an alias has moved since the verdict.
    """
    task, model = verdict["task"], verdict["model"]
    if not verdict["failed"] and verdict["needs_approval"] and not approved_by:
        return False
    block = settings.blocks[task]
    judged = tuple((verdict[name] or {}).get("version") for name in ("champion", "challenger"))
    now = standing(model, block.promote.champion, block.register_.alias)
    if now != judged:
        raise InputError(
            f"champion and challenger of {model} were versions {judged[0]} and {judged[1]} when they were judged, now "
            f"they are {now[0]} and {now[1]}. Judge again."
        )
    folder, evidence = place(task, workspace), verdict["evidence_digest"]
    if read_json(folder / VERDICT)["evidence_digest"] != evidence:
        raise InputError(f"{folder} holds another verdict by now. Judge again.")
    if verdict["failed"]:
        keep_evidence(verdict["challenger"]["run_id"], folder, evidence)
        return False
    said = f"approved by {approved_by}" if approved_by else "without approval, as params.yaml allows"
    done = f"Version {judged[1]} became {block.promote.champion}, {said}."
    # What the run keeps is written before the move, so it must not say that nothing was or that it is done.
    _write(folder, dict(verdict) | {"done": f"Passed, {said}. Whether the alias was then moved stands in the ledger."})
    keep_evidence(verdict["challenger"]["run_id"], folder, evidence)
    record_move(model, block.promote.champion, judged[1], evidence, f"promotion, {said}", expected=judged[0])
    _write(folder, dict(verdict) | {"done": done})
    return True


def digest(value: Any) -> str:
    """SHA-256, hex, of a JSON-able value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _write(folder: Path, verdict: dict[str, Any]) -> None:
    write_json(folder / VERDICT, verdict)
    write_text(folder / PAGE, render(verdict))


def _findings(
    named: dict[str, Candidate],
    answered: dict[str, Predictions],
    times: dict[str, float],
    rows: pd.DataFrame,
    rules: Promote,
    evaluate: Evaluate,
) -> list[Finding]:
    challenger, champion = answered["challenger"], answered.get("champion")
    if champion is None:
        groups = {metric_rule(rules): "metric", "No class is worse than its margin": "class"}
        groups |= {"No site is worse than its margin": "site"}
        compared = [Finding(r, kind, "not applicable", budgets.NO_CHAMPION) for r, kind in groups.items()]
    else:
        compared = compare(_paired(champion, challenger, rules, evaluate.tolerance), rules)
        compared.append(budgets.vocabulary(named["challenger"], named["champion"]))
    return [
        *compared,
        budgets.calibration(challenger, champion, rules, evaluate.bins),
        budgets.false_alarms(challenger, champion, rules),
        *budgets.latency(times["challenger"], times.get("champion"), rules),
        budgets.size(named["challenger"], named.get("champion"), rules),
        *budgets.lineage(named["challenger"], rules),
        *budgets.unseen(named, rows),
    ]


def _paired(champion: Predictions, challenger: Predictions, rules: Promote, tolerance: float) -> Answers:
    """Both tables were made of the same rows, in the same order. tolerance: % of a length, where lengths count.

    A champion that measures nothing has measured nothing well. Raises InputError where lengths count and the challenger
    measures nothing, or no test sequence has a true one.
    """
    first, second = champion.table, challenger.table
    answered = [table["y_pred"].to_numpy(dtype=object) for table in (first, second)]
    kept = np.ones(len(second), dtype=bool)
    if rules.metric == "measured_well":
        if not challenger.measures:
            raise InputError(
                "promote.metric is measured_well, but the challenger draws no masks and measures nothing. Make a "
                "network that segments the task's main one, or take another metric."
            )
        well = [measured_well(table, tolerance).to_numpy() for table in (first, second)]
        kept = np.isfinite(well[1])
        if not kept.any():
            raise InputError("promote.metric is measured_well, but no test sequence has a true length. Take another.")
        answered = [np.where(each == 1, second["y_true"], WRONG) for each in well]
    labels = tuple(sorted({*second["y_true"], *answered[0], *answered[1]}))
    truth, one, other = (pd.Index(labels).get_indexer(c[kept]) for c in (second["y_true"], *answered))
    patient, site = second["patient"].to_numpy(dtype=str), second.get("site", pd.Series("", index=second.index))
    return Answers(labels, patient[kept], site.to_numpy(dtype=str)[kept], truth, one, other)


def _times(named: dict[str, Candidate], repeats: int, device: str) -> dict[str, float]:
    """Median ms of one sequence. In turns and the better of two, so that other work on the machine hits both alike."""
    rounds = [{name: measure(one.folder, repeats, None, device) for name, one in named.items()} for _ in range(2)]
    return {name: min(each[name]["ms_per_sequence"] for each in rounds) for name in named}


def _decision(findings: list[Finding], champion: Candidate | None, rules: Promote) -> dict[str, Any]:
    failed = [finding.rule for finding in findings if finding.outcome == "fail"]
    asked = rules.approval or champion is None
    if failed:
        words = "The champion stays" if champion else "There is no champion yet"
        words += f": {len(failed)} of {len(findings)} rules failed."
    elif champion is None:
        words = "Nothing to compare with: a person decides who is the first champion."
    else:
        words = "The challenger passed every rule" + (
            " and may become champion once a person agrees." if asked else "."
        )
    return {"decision": "keep" if failed else "promote", "failed": failed, "needs_approval": asked, "words": words}
