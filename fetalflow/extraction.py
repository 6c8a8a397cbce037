"""A drop to sequences: decode and mask every cine, settle who labelled what, cut windows, and lose nothing."""

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from joblib.parallel import get_active_backend

from fetalflow.annotators import Group, Span, group
from fetalflow.cine.masked import decoded
from fetalflow.cine.resampling import frame_step, source_frames
from fetalflow.cine.store import store_cine, stored_figures, stored_frames
from fetalflow.drop import SUFFIXES, check_patients, check_row, span
from fetalflow.errors import InputError
from fetalflow.extracted import Planned, sequence_table, summarise
from fetalflow.layouts import Drop, open_drop
from fetalflow.mask_store import store_mask
from fetalflow.quarantine import REJECTED, Rejected, describe, quarantine_table, rejected_row
from fetalflow.review import Decision, Decisions, by_index, check_same_file, clipped, overruled, settled
from fetalflow.sequences import windows
from fetalflow.settings import Extract
from fetalflow.truth import agreed_truth, check_copies, check_masks, named_masks

Progress = Callable[[str, int, int], None]  # what, done, of how many


@dataclass(frozen=True)
class Extraction:
    """What a drop gave. sequences: one row per sequence (docs/drop.md); quarantine: `quarantine.COLUMNS`; summary:
    counts, JSON-able; decoded: how many cines were not in the store before."""

    sequences: pd.DataFrame
    quarantine: pd.DataFrame
    summary: dict[str, Any]
    decoded: int


def extract_drop(
    drop: Path, settings: Extract, store: Path, progress: Progress | None = None, decisions: Decisions | None = None
) -> Extraction:
    """Decode the cines of a drop, of any layout, that `store` does not hold yet and list their sequences.

    Every row of its table is either used (at least one sequence has its label within its span) or stands in
    quarantine with one reason. Runs on `settings.workers` processes through joblib, or wherever
    `joblib.parallel_config` sends it; `store` must then be seen by all workers. `decisions` are those of persons on
    rows that stood in quarantine before (fetalflow/review.py).

    Raises InputError when the drop or its table does not keep its contract.
    """
    store = store.absolute()  # a worker on another machine stands in another folder
    store.mkdir(parents=True, exist_ok=True)
    _sweep(store)
    with open_drop(drop.absolute(), store) as opened:
        found = _extract(opened, settings, store, progress, decisions or {})
    _sweep(store)
    return found


def _sweep(store: Path) -> None:
    """Remove what a killed run, or a killed worker whose work another one did again, left half written or unpacked."""
    for left in store.glob(".*"):
        shutil.rmtree(left) if left.is_dir() else left.unlink()


def _extract(drop: Drop, settings: Extract, store: Path, progress: Progress | None, decisions: Decisions) -> Extraction:
    rows = drop.rows.to_dict("records")
    decided = by_index(rows, decisions)
    reasons: dict[int, Rejected] = {}
    for index, row in enumerate(rows):
        if (verdict := _verdict(_check_settled, row, decided.get(index), settings.labels)) is not None:
            reasons[index] = verdict
    check_patients(rows, reasons)

    good = [index for index in range(len(rows)) if index not in reasons]
    videos = sorted({rows[index]["video"] for index in good})
    with Parallel(n_jobs=settings.workers, return_as=_return_as()) as parallel:
        calls = [delayed(store_cine)(drop.root / video, settings, store) for video in videos]
        records = dict(zip(videos, _watched(parallel(calls), "cines", len(calls), progress), strict=True))
        named = named_masks(rows, good, records)
        calls = [delayed(store_mask)(drop.root / mask, mask, records[v], store) for v, mask in named]
        outlines = dict(zip(named, _watched(parallel(calls), "masks", len(calls), progress), strict=True))
        check_copies(rows, good, records, outlines, reasons)
        check_masks(rows, good, outlines, reasons)
        said = _claims(rows, good, records, reasons, decided)
        by_video = _settle(said, decided, reasons)
        groups = {video: group(spans) for video, spans in by_video.items()}

        def known(of_run: tuple[int, ...], record: dict[str, Any]) -> dict[str, str]:
            chosen = [rows[i] for i in of_run if i in decided and decided[i].kind == "disagreement"]
            return agreed_truth([rows[i] for i in of_run], chosen, record, outlines)

        planned = [
            (video, plan)
            for video, found in groups.items()
            for plan in _plan(found, records[video], settings, known, reasons)
        ]
        _mark_short(by_video, planned, settings, reasons)
        wanted: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for video, plan in planned:
            wanted[video].append((plan.first, plan.step))
        calls = [delayed(stored_figures)(records[v], store, settings.frames, starts) for v, starts in wanted.items()]
        measured = dict(zip(wanted, _watched(parallel(calls), "quality", len(calls), progress), strict=True))

    sequences = sequence_table(rows, planned, records, measured, outlines, settings.frames)
    quarantine = quarantine_table(rejected_row(rows[i], r.kind, r.reason) for i, r in reasons.items())
    summary = summarise(
        drop, rows, records, sequences, quarantine, [g for spans in said.values() for g in group(spans)]
    )
    if decided:
        released = set(decided) - set(reasons)
        summary |= {"rows_released": len(released), "rows_rejected": summary["quarantined"].get(REJECTED, 0)}
    return Extraction(sequences, quarantine, summary, sum(record["new"] for record in records.values()))


def check_usable(extraction: Extraction, drop: Path) -> None:
    """Raises InputError when a drop gave no sequence at all."""
    if extraction.sequences.empty:
        raise InputError(
            f"{drop} gave no sequence. Read it as {extraction.summary['layout']} and looked for the cines it names "
            f"({' '.join(SUFFIXES)}); it holds {extraction.summary['cine_files']} files so named. Quarantined rows by "
            f"kind: {describe(extraction.quarantine)}."
        )


def recorded_windows(path: Path, settings: Extract) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
    """The sequences of one cine, read, masked, cut and resampled as `extract_drop` does it, one at a time: a long cine
    takes no more memory than a short one.

    Yields first and last recorded frame (inclusive) and frames, uint8 [N, H, W], of each; nothing when the cine is
    shorter than one sequence. Raises InputError when the cine cannot be used.
    """
    with decoded(path, settings) as (record, folder):
        verdict = _verdict(_check_rate, record, settings)
        if verdict is not None:
            raise InputError(f"{path} cannot be used ({verdict.kind}): {verdict.reason}.")
        step = frame_step(record["fps"], settings.fps, settings.every)
        for span in windows(0, record["frames"] - 1, record["cuts"], settings.frames, settings.stride, step):
            # Mapped anew each time: what was read of a mapping stays in memory as long as it does.
            yield span, stored_frames(record, folder)[source_frames(span[0], settings.frames, step)]


def _verdict(check: Callable[..., Any], *arguments: Any) -> Rejected | None:
    try:
        check(*arguments)
    except Rejected as verdict:
        return verdict
    return None


def _check_settled(row: dict[str, Any], decision: Decision | None, labels: Iterable[str] | None) -> None:
    check_row(settled(row, decision), labels)


def _return_as() -> str:
    """joblib's generator shows progress; a few backends (Ray's) only give lists."""
    backend, _ = get_active_backend()
    return "generator" if backend.supports_return_generator else "list"


def _watched(results: Iterable[Any], what: str, total: int, progress: Progress | None) -> Iterator[Any]:
    for done, result in enumerate(results, 1):
        yield result
        if progress:
            progress(what, done, total)


def _check_rate(record: dict[str, Any], settings: Extract) -> None:
    if settings.fps and not record["fps"]:
        raise Rejected("rate", f"the cine states no frame rate, so it cannot be resampled to {settings.fps:g} frames/s")


def _claims(
    rows: list[dict[str, Any]],
    good: list[int],
    records: dict[str, dict[str, Any]],
    reasons: dict[int, Rejected],
    decided: dict[int, Decision],
) -> dict[str, list[Span]]:
    """What each row of a readable cine claims, by video. Fills in `reasons` for the others."""
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
        # Disagreement is reported as the annotators said it, whatever was decided on it.
        spoken = row if decision is None or decision.kind == "disagreement" else settled(row, decision)
        claims[row["video"]].append(Span(index, row["annotator"], spoken["label"], first, last))
    return dict(claims)


def _settle(
    said: dict[str, list[Span]], decided: dict[int, Decision], reasons: dict[int, Rejected]
) -> dict[str, list[Span]]:
    """The claims that count, with the labels that count. Fills in `reasons` for those that a person overruled."""
    if not decided:
        return said
    by_video = {}
    for video, spans in said.items():
        spans = [replace(c, label=decided[c.row].as_label or c.label) if c.row in decided else c for c in spans]
        out = overruled(spans, decided)
        reason = Rejected(REJECTED, "a person released another row of the same frames, which overrules this one")
        reasons.update(dict.fromkeys(out, reason))
        by_video[video] = [claim for claim in spans if claim.row not in out]
    return by_video


def _plan(
    groups: list[Group],
    record: dict[str, Any],
    settings: Extract,
    known: Callable[[tuple[int, ...], dict[str, Any]], dict[str, str]],
    reasons: dict[int, Rejected],
) -> Iterator[Planned]:
    """The sequences of one cine. known: `agreed_truth` of some of its rows. Fills in `reasons` for the rows of groups
    that may not be used."""
    for found in groups:
        try:
            _check_rate(record, settings)
            _check_agreement(found, settings.min_agreement)
            runs = [(run, known(run.rows, record)) for run in found.agreed()]
        except Rejected as verdict:
            reasons.update({claim.row: verdict for claim in found.spans})
            continue
        step = frame_step(record["fps"], settings.fps, settings.every)
        for run, truth in runs:
            for first, last in windows(run.first, run.last, record["cuts"], settings.frames, settings.stride, step):
                yield Planned(min(run.rows), run.rows, run.label, run.annotators, truth, first, last, step)


def _check_agreement(found: Group, least: float) -> None:
    first, last = found.first, max(claim.last for claim in found.spans)
    if found.contradicts_itself:
        raise Rejected("disagreement", f"one annotator gives two labels to the same frame within frames {first}-{last}")
    if len(found.labels) > 1 and (share := found.agreement()) < least:
        names = ", ".join(found.labels)
        raise Rejected(
            "disagreement",
            f"{names} agree on {share:.0%} of frames {first}-{last}; `min_agreement` asks for {least:.0%}",
        )


def _mark_short(
    claims: dict[str, list[Span]], planned: list[tuple[str, Planned]], settings: Extract, reasons: dict[int, Rejected]
) -> None:
    """A row that was not rejected and gave no sequence is too short."""
    used = defaultdict(list)
    for _, plan in planned:
        for row in plan.rows:
            used[row].append(plan)
    for claim in (c for found in claims.values() for c in found):
        touching = [p for p in used[claim.row] if p.first <= claim.last and claim.first <= p.last]
        if claim.row not in reasons and not touching:
            reasons[claim.row] = Rejected(
                "short",
                f"frames {claim.first}-{claim.last} hold no {settings.sequence_in_words} without a scene cut "
                "or another label",
            )
