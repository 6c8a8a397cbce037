"""Turns a drop into sequences: decodes and masks every cine, settles its labels and cuts windows.

Every row of the drop is then either used or in quarantine.
"""

import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from joblib import Parallel, delayed
from joblib.parallel import get_active_backend

from fetalflow.cine.mask_store import store_mask
from fetalflow.cine.masks import Reading
from fetalflow.cine.resampling import clock_of, frame_step, source_frames
from fetalflow.cine.store import store_cine, stored_figures
from fetalflow.cine.suffixes import CINES
from fetalflow.cine.windows import Rates, check_rate, check_stated_rate, windows
from fetalflow.errors import InputError, Rejected
from fetalflow.hospital.drop.annotators import Group, Span, group
from fetalflow.hospital.drop.ground_truth import (
    HOW,
    KNOWN,
    agreed_truth,
    check_copies,
    check_masks,
    check_there,
    named_masks,
)
from fetalflow.hospital.drop.identity import settle
from fetalflow.hospital.drop.layouts.layout import Drop
from fetalflow.hospital.drop.opening import open_drop
from fetalflow.hospital.drop.quarantine import REJECTED, describe, quarantine_table, rejected_row
from fetalflow.hospital.drop.review import Decision, Decisions, by_index, check_same_file, clipped, overruled, settled
from fetalflow.hospital.drop.rows import check_patients, check_row, span
from fetalflow.sequences.extraction_table import Planned, sequence_table, summarise
from fetalflow.settings.params import Extract

Progress = Callable[[str, int, int], None]  # what is counted, how many are done, how many there are


@dataclass(frozen=True)
class Extraction:
    """The result for one drop. sequences: one row per sequence (docs/data-engineer/drop.md); quarantine: a table with
    `quarantine.COLUMNS`; summary: counts, JSON-able; decoded: how many cines were not in the store before; reasons: why
    a row of the drop is in quarantine, by its index."""

    sequences: pd.DataFrame
    quarantine: pd.DataFrame
    summary: dict[str, Any]
    decoded: int
    reasons: dict[int, Rejected]


def extract_drop(
    drop: Path,
    settings: Extract,
    store: Path,
    progress: Progress | None = None,
    decisions: Decisions | None = None,
    rates: Rates | None = None,
) -> Extraction:
    """Decode the cines of a drop, of any layout, that `store` does not hold yet and list their sequences.

    Every row of its table is either used (at least one sequence has its label within its span) or in quarantine with
    one reason. Runs on `settings.workers` processes through joblib, or on the backend that `joblib.parallel_config`
    sets; all workers must then be able to read and write `store`. `decisions` are those that people made on rows that
    were in quarantine before (fetalflow/hospital/drop/review.py). rates: the lowest and the highest rate in frames/s
    that a cine may state.

    Raises InputError when the drop or its table breaks the contract of docs/data-engineer/drop.md.
    """
    store = store.absolute()  # a worker on another machine has another working folder
    store.mkdir(parents=True, exist_ok=True)
    _remove_half_written(store)
    with open_drop(drop.absolute(), store) as opened:
        extraction = _extract(opened, settings, store, progress, decisions or {}, rates)
    _remove_half_written(store)
    return extraction


def _remove_half_written(store: Path) -> None:
    """Remove the hidden files and folders that a killed run, or a killed worker, left behind."""
    for path in store.glob(".*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _extract(
    drop: Drop,
    settings: Extract,
    store: Path,
    progress: Progress | None,
    decisions: Decisions,
    rates: Rates | None,
) -> Extraction:
    who = settle(drop.rows.to_dict("records"), settings)
    rows = who.rows
    decided = by_index(rows, decisions)
    reasons: dict[int, Rejected] = {}
    for index, row in enumerate(rows):
        if (verdict := _verdict(_check_settled, row, decided.get(index), settings.labels)) is not None:
            reasons[index] = verdict
    reasons |= {index: reason for index, reason in who.reasons.items() if index not in reasons}
    check_patients(rows, reasons)
    check_there(rows, drop.near, reasons)

    good = [index for index in range(len(rows)) if index not in reasons]
    videos = sorted({rows[index]["video"] for index in good})
    with Parallel(n_jobs=settings.workers, return_as=_return_as()) as parallel:
        calls = [delayed(store_cine)(drop.root / video, settings, store) for video in videos]
        records = dict(zip(videos, _with_progress(parallel(calls), "cines", len(calls), progress), strict=True))
        masks = named_masks(rows, good, records)
        calls = [
            delayed(store_mask)(drop.root / mask, mask, records[v], store, Reading(kind, float(pen or 0)))
            for v, mask, kind, pen in masks
        ]
        outlines = dict(zip(masks, _with_progress(parallel(calls), "masks", len(calls), progress), strict=True))
        check_copies(rows, good, records, outlines, reasons)
        check_masks(rows, good, outlines, reasons, drop.near)
        for index in good:
            if index not in reasons and (verdict := _verdict(check_stated_rate, records[rows[index]["video"]], rates)):
                reasons[index] = verdict
        claims = _claims(rows, good, records, reasons, decided)
        by_video = _settle(claims, decided, reasons)
        groups = {video: group(spans) for video, spans in by_video.items()}

        def truth_of(indices: tuple[int, ...]) -> dict[str, str]:
            chosen = [rows[i] for i in indices if i in decided and decided[i].kind == "disagreement"]
            return agreed_truth([rows[i] for i in indices], chosen, outlines)

        planned = [
            (video, plan)
            for video, of_video in groups.items()
            for plan in _plan(of_video, records[video], settings, truth_of, reasons)
        ]
        _mark_short(groups, planned, settings, reasons)
        wanted: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for video, plan in planned:
            wanted[video].append((plan.first, plan.step))
        frames, fps = settings.frames, settings.fps
        calls = [delayed(stored_figures)(records[v], store, frames, starts, fps) for v, starts in wanted.items()]
        measured = dict(zip(wanted, _with_progress(parallel(calls), "quality", len(calls), progress), strict=True))

    sequences = sequence_table(rows, planned, records, measured, outlines, settings.frames, store)
    quarantine = quarantine_table(rejected_row(rows[i], r.kind, r.reason) for i, r in reasons.items())
    summary = summarise(
        drop, who, records, sequences, quarantine, [g for spans in claims.values() for g in group(spans)]
    )
    if outlines:
        summary["masks"] = dict(sorted(Counter(each["done"] or "not used" for each in outlines.values()).items()))
    if decided:
        released = set(decided) - set(reasons)
        summary |= {"rows_released": len(released), "rows_rejected": summary["quarantined"].get(REJECTED, 0)}
    return Extraction(sequences, quarantine, summary, sum(record["new"] for record in records.values()), reasons)


def check_usable(extraction: Extraction, drop: Path) -> None:
    """Raises InputError when a drop gave no sequence at all."""
    if extraction.sequences.empty:
        raise InputError(
            f"{drop} gave no sequence. It was read as {extraction.summary['layout']} and holds "
            f"{extraction.summary['cine_files']} cine files (names that end in {' '.join(CINES)}). Quarantined rows by "
            f"kind: {describe(extraction.quarantine)}."
        )


def _verdict(check: Callable[..., Any], *arguments: Any) -> Rejected | None:
    try:
        check(*arguments)
    except Rejected as verdict:
        return verdict
    return None


def _check_settled(row: dict[str, Any], decision: Decision | None, labels: Iterable[str] | None) -> None:
    check_row(settled(row, decision), labels)


def _return_as() -> str:
    """A generator shows progress while joblib works; a few backends, such as Ray's, return only lists."""
    backend, _ = get_active_backend()
    return "generator" if backend.supports_return_generator else "list"


def _with_progress(results: Iterable[Any], what: str, total: int, progress: Progress | None) -> Iterator[Any]:
    for done, result in enumerate(results, 1):
        yield result
        if progress:
            progress(what, done, total)


def _claims(
    rows: list[dict[str, Any]],
    good: list[int],
    records: dict[str, dict[str, Any]],
    reasons: dict[int, Rejected],
    decided: dict[int, Decision],
) -> dict[str, list[Span]]:
    """The label and frames that each row of a readable cine claims, by video. Fills in `reasons` for other rows."""
    claims = defaultdict(list)
    for index in good:
        row = rows[index]
        record = records[row["video"]]
        if index in reasons:
            continue
        if record["rejected"]:
            reasons[index] = Rejected(**record["rejected"])
            continue
        decision = decided.get(index)
        try:
            if decision is not None:
                check_same_file(decision, record["source"])
            first, last = span(clipped(row, record["frames"], decision), record["frames"])
        except Rejected as verdict:
            reasons[index] = verdict
            continue
        # Disagreement is reported with the annotators' labels, even where a person has decided on it.
        labelled = row if decision is None or decision.kind == "disagreement" else settled(row, decision)
        truth = tuple(row.get(column, "") for column in (*KNOWN, *HOW))
        claims[row["video"]].append(Span(index, row["annotator"], labelled["label"], first, last, truth))
    return dict(claims)


def _settle(
    claims: dict[str, list[Span]], decided: dict[int, Decision], reasons: dict[int, Rejected]
) -> dict[str, list[Span]]:
    """The claims without those that a person overruled, with the labels that people decided on. Fills in `reasons`
    for the overruled ones."""
    if not decided:
        return claims
    by_video = {}
    for video, spans in claims.items():
        spans = [replace(c, label=decided[c.row].as_label or c.label) if c.row in decided else c for c in spans]
        dropped = overruled(spans, decided)
        reason = Rejected(REJECTED, "a person released another row of the same frames, which overrules this one")
        reasons.update(dict.fromkeys(dropped, reason))
        by_video[video] = [claim for claim in spans if claim.row not in dropped]
    return by_video


def _plan(
    groups: list[Group],
    record: dict[str, Any],
    settings: Extract,
    truth_of: Callable[[tuple[int, ...]], dict[str, str]],
    reasons: dict[int, Rejected],
) -> Iterator[Planned]:
    """The sequences of one cine. truth_of: gives the `agreed_truth` of some of its rows. Fills in `reasons` for the
    rows of groups that may not be used."""
    for of_group in groups:
        try:
            check_rate(record, settings)
            _check_agreement(of_group, settings.min_agreement)
            runs = [(run, truth_of(run.rows)) for run in of_group.agreed()]
        except Rejected as verdict:
            reasons.update({claim.row: verdict for claim in of_group.spans})
            continue
        step, n = frame_step(record["fps"], settings.fps, settings.every), settings.frames
        clock = clock_of(record["times"], record["fps"], settings.fps)
        for run, truth in runs:
            for first, last in windows(run.first, run.last, record["cuts"], n, settings.stride, step, clock):
                taken = () if clock is None else tuple(source_frames(first, n, step, clock).tolist())
                yield Planned(min(run.rows), run.rows, run.label, run.annotators, truth, first, last, step, taken)


def _check_agreement(annotated: Group, least: float) -> None:
    first, last = annotated.first, max(claim.last for claim in annotated.spans)
    if annotated.contradicts_itself:
        raise Rejected("disagreement", f"one annotator gives two labels to the same frame within frames {first}-{last}")
    if len(annotated.labels) > 1 and (share := annotated.agreement()) < least:
        names = ", ".join(annotated.labels)
        raise Rejected(
            "disagreement",
            f"{names} agree on {share:.0%} of frames {first}-{last}; `min_agreement` requires {least:.0%}",
        )


def _mark_short(
    groups: dict[str, list[Group]], planned: list[tuple[str, Planned]], settings: Extract, reasons: dict[int, Rejected]
) -> None:
    """Fill in `reasons` for rows that are too short: they were not rejected and gave no sequence."""
    plans = defaultdict(list)
    for video, plan in planned:
        plans[video].append(plan)
    for video, of_video in groups.items():
        for block in (block for each in of_video for block in each.blocks):
            overlapping = (p for p in plans[video] if p.first <= block.last and block.first <= p.last)
            if any(plan.label == block.label for plan in overlapping):
                continue
            reason = Rejected(
                "short",
                f"frames {block.first}-{block.last} hold no {settings.sequence_in_words} without a scene cut "
                "or another label",
            )
            for claim in block.spans:
                reasons.setdefault(claim.row, reason)
