"""Which cines a person should look at next: a table of answers comes in, an ordered table with reasons goes out.

Each reason has a `chance`, a rough estimate from 0 to 1 of how likely the network's answer, or the label, is wrong.
The worth of a cine is their weighted sum. The order is greedy: the worth counts less the more the cine's answer is like
that of a cine before it, and the more cines of its patient are before it. What this gains over a random order, and
where it gains nothing, was measured: docs/annotator/next.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fetalflow.evaluation.equal_labels import labels_equally_likely
from fetalflow.models.familiarity import UNLIKE

SUSPECTED, UNFAMILIAR, DISAGREE, WIDE, BOUNDARY = "suspected", "unfamiliar", "disagree", "wide", "boundary"
# How much a reason counts: set on other splits of the synthetic hospitals than those of docs/annotator/next.md.
# There, cines on which networks disagree taught most; on the reported splits no reason was clearly the best.
WEIGHTS = {DISAGREE: 4, BOUNDARY: 1, WIDE: 0.5, UNFAMILIAR: 0.5, SUSPECTED: 4}
MOST_OF_ALL = 6  # the sum of the chances never exceeds it, since votes on a known label count half
NEAR = 0.5  # a difference of the two highest probabilities below this is near the boundary
SHARED_MISTAKES = 0.5  # networks that learned from the same cines make the same mistakes, so they count half
SPREAD = 0.5  # how much an answer that is like one before it counts less
LEAST = 1e-3  # the worth of a cine without a reason
RULE = "both"  # of cleanlab: a label that two of its rules suspect
FIRST = 300  # cines that are ordered one after another; nobody labels more before the next training
SHOWN = 4  # labels in a sentence


@dataclass(frozen=True)
class Reason:
    """Why to look at a cine. chance: 0-1. words: one sentence; plain: the same without a label or a frame, for people
    who must not see what the network answers. first_frame, last_frame: where, or None."""

    kind: str
    chance: float
    words: str
    plain: str
    first_frame: int | None = None
    last_frame: int | None = None


def reasons_to_label(
    windows: Sequence[Mapping[str, Any]], others: Mapping[str, Sequence[str]] | None = None
) -> list[Reason]:
    """Why a cine without labels teaches, the strongest reason first.

    windows: first_frame, last_frame, probabilities (by label), label_set (or None), unfamiliarity (or None), as the
    network answered. others: for each other network its label of each of these windows.
    """
    found = []
    for at, window in enumerate(windows):
        ranked = sorted(window["probabilities"].items(), key=lambda pair: -pair[1])
        where = window["first_frame"], window["last_frame"]
        frames = f"frames {where[0]} to {where[1]}"
        if (score := window.get("unfamiliarity")) is not None and score > UNLIKE:
            words = f"It is unlike the training data: unfamiliarity {score:.2g}, the limit is {UNLIKE:g} ({frames})."
            plain = "It is unlike the training data."
            found.append(Reason(UNFAMILIAR, 1 - 1 / max(2, len(ranked)), words, plain, *where))
        if (labels := window.get("label_set")) and len(labels) > 1:
            words = f"{len(labels)} of {len(ranked)} labels cannot be excluded: {_some(labels)} ({frames})."
            plain = "The network cannot exclude several labels."
            found.append(Reason(WIDE, 1 - 1 / len(labels), words, plain, *where))
        if len(ranked) > 1 and (margin := ranked[0][1] - ranked[1][1]) < NEAR:
            (one, p_one), (other, p_other) = ranked[:2]
            words = f"It is near the boundary of two labels: {one} {p_one:.0%}, {other} {p_other:.0%} ({frames})."
            plain = "It is near the boundary of two labels."
            found.append(Reason(BOUNDARY, (1 - margin) / 2, words, plain, *where))
        said = [labels[at] for labels in (others or {}).values() if at < len(labels)]
        if against := [label for label in said if label != ranked[0][0]]:
            words = (
                f"{len(against)} of {len(said)} other networks do not say {ranked[0][0]} but "
                f"{_some(sorted(set(against)))} ({frames})."
            )
            chance = len(against) / (len(said) + 1)
            found.append(Reason(DISAGREE, chance, words, "The networks give different labels.", *where))
    return _strongest(found)


def reasons_to_check(label: str, suspect: Mapping[str, Any] | None, votes: Mapping[str, str]) -> list[Reason]:
    """Why the label of a cine should be looked at again, the strongest reason first; none for most cines.

    suspect: its row of `suspected_labels`. votes: the label that each network gave it without having learned from it,
    that of the main network first. Where the main network agrees with the label, weaker ones do not count against it.
    """
    found = []
    if suspect is not None:
        where = int(suspect["first_frame"]), int(suspect["last_frame"])
        words = (
            f"Its label {label} may be wrong: {suspect['likelier']} is likelier. A network that did not learn from it "
            f"gives {label} {suspect['quality']:.0%} (frames {where[0]} to {where[1]})."
        )
        found.append(Reason(SUSPECTED, 1 - suspect["quality"], words, "Its label may be wrong.", *where))
    against = [name for name, vote in votes.items() if vote != label]
    if len(votes) > 1 and next(iter(votes)) in against and len(against) > len(votes) / 2:
        words = f"{len(against)} of {len(votes)} networks give it another label than {label}."
        chance = SHARED_MISTAKES * len(against) / len(votes)
        found.append(Reason(DISAGREE, chance, words, "Most networks give it another label."))
    return _strongest(found)


def suspected_labels(answers: pd.DataFrame) -> pd.DataFrame:
    """The labels that confident learning (Northcutt et al. 2021; cleanlab) suspects to be wrong.

    answers: one row for each window and network that did not learn from it: source, label, first_frame, last_frame and
    one p_<label> for each label. The windows of one label of a cine are one case, since one person gave it at once.
    Returns one row for each suspected case, the likeliest mistake first: source, label, likelier, quality (0-1, the
    mean probability of the label), first_frame and last_frame of the window that contradicts it most.
    """
    columns = [column for column in answers if column.startswith("p_")]
    labels = [column.removeprefix("p_") for column in columns]
    known = answers[answers["label"].isin(labels)] if len(labels) > 1 else answers[:0]
    known = known[np.isfinite(known[columns].to_numpy(float)).all(axis=1)]
    means = known.groupby(["source", "label"])[columns].mean()
    empty = pd.DataFrame(columns=["source", "label", "likelier", "quality", "first_frame", "last_frame"])
    if len(means) < 2:
        return empty
    p = means.to_numpy(float).clip(1e-12)
    p /= p.sum(axis=1, keepdims=True)
    given = pd.Index(labels).get_indexer(means.index.get_level_values("label"))
    rows = []
    for at in _issues(given, p):
        source, label = means.index[at]
        of_case = known[(known["source"] == source) & (known["label"] == label)]
        worst = of_case.loc[of_case[f"p_{label}"].idxmin()]
        facts = {
            "source": source,
            "label": label,
            "likelier": labels[p[at].argmax()],
            "quality": float(p[at][given[at]]),
        }
        rows.append(facts | {name: int(worst[name]) for name in ("first_frame", "last_frame")})
    found = pd.DataFrame(rows, columns=list(empty))
    return found.sort_values(["quality", "source", "label"], ignore_index=True)


def out_of_fold(predictions: pd.DataFrame) -> pd.DataFrame:
    """The rows for `suspected_labels` of a network's predictions (source, first_frame, last_frame, y_true, p_<label>,
    and part and fold where it has them): those of the test parts; where there is one split, of its validation part,
    too, which only chose the epoch. No rows where the network tells no labels apart."""
    columns = [column for column in predictions if column.startswith("p_")]
    table = predictions.rename(columns={"y_true": "label"})
    if table.empty or labels_equally_likely(table[columns].to_numpy(float)):
        return table[:0]
    if "part" in table:
        has_folds = "fold" in table and table.loc[table["part"] == "test", "fold"].nunique() > 1
        table = table[table["part"].isin(["test"] if has_folds else ["test", "validation"])]
    return table


def votes(answers: pd.DataFrame) -> dict[tuple[str, str], str]:
    """The label that a network gives to each case, by source and label. answers: as of `suspected_labels`."""
    columns = [column for column in answers if column.startswith("p_")]
    means = answers.groupby(["source", "label"])[columns].mean()
    return means.idxmax(axis=1).str.removeprefix("p_").to_dict()


def _issues(given: np.ndarray, p: np.ndarray) -> list[int]:
    """Places of the cases whose label is suspected. given: int [n]; p: float [n, K]."""
    from cleanlab.filter import find_label_issues

    present = np.unique(given)
    if len(present) < 2:
        return []
    # A label that no case has cannot be estimated; its probability counts for nobody.
    kept = p[:, present] / p[:, present].sum(axis=1, keepdims=True)
    coded = np.searchsorted(present, given)
    found = find_label_issues(coded, kept, filter_by=RULE, n_jobs=1)
    return np.flatnonzero(found & (p.argmax(axis=1) != given)).tolist()


def order_cines(cines: pd.DataFrame, first: int = FIRST) -> pd.DataFrame:
    """The cines in the order in which to look at them.

    cines: source, patient (empty: a patient of whom nothing else is known), reasons (list of Reason), p (float [K],
    mean probabilities; None where there is no answer), and `done` (bool: looked at already, so that it counts as
    before all others, and is not returned). Returns source, patient, reasons, worth (0-1), and `value`, the worth after
    likeness and patient. After the `first` cines the others follow by worth.
    """
    table = cines.sort_values("source", kind="stable", ignore_index=True)
    patients = [patient or f"of {source}" for patient, source in zip(table["patient"], table["source"], strict=True)]
    codes = pd.factorize(pd.Series(patients, dtype=object))[0]
    worth = np.array([worth_of(reasons) for reasons in table["reasons"]], dtype=float)
    roots = _roots(table["p"])
    far, before, value = np.ones(len(table)), np.zeros(codes.max(initial=-1) + 1), worth.copy()
    left = ~table["done"].to_numpy(bool)
    chosen: list[int] = []

    def put(at: int) -> None:
        before[codes[at]] += 1
        distance = np.sqrt(((roots - roots[at]) ** 2).sum(axis=1) / 2)  # Hellinger's, 0-1
        far[:] = np.fmin(far, distance)  # NaN, of a cine without an answer, is no likeness

    for at in np.flatnonzero(~left):
        put(at)
    for _ in range(min(first, int(left.sum()))):
        values = np.where(left, worth * (1 - SPREAD + SPREAD * far) / (1 + before[codes]), -1)
        at = int(values.argmax())
        value[at], left[at] = values[at], False
        chosen.append(at)
        put(at)
    rest = sorted(np.flatnonzero(left), key=lambda at: -worth[at])
    value[rest] = worth[rest] * (1 - SPREAD + SPREAD * far[rest]) / (1 + before[codes[rest]])
    return (
        table.assign(worth=worth, value=value)[["source", "patient", "reasons", "worth", "value"]]
        .iloc[[*chosen, *rest]]
        .reset_index(drop=True)
    )


def worth_of(reasons: Sequence[Reason]) -> float:
    """0-1, of the reasons of one cine together: the sum of their chances, each with its weight."""
    return max(LEAST, sum(WEIGHTS[reason.kind] * reason.chance for reason in reasons) / MOST_OF_ALL)


def _roots(probabilities: pd.Series) -> np.ndarray:
    """float [n, K]; NaN for a cine without an answer."""
    width = max((len(p) for p in probabilities if p is not None), default=1)
    empty = np.full(width, np.nan)
    return np.sqrt(np.array([empty if p is None else p for p in probabilities], dtype=float).reshape(-1, width))


def _strongest(found: Sequence[Reason]) -> list[Reason]:
    """The strongest reason of each kind, the strongest first."""
    best: dict[str, Reason] = {}
    for reason in found:
        if reason.kind not in best or reason.chance > best[reason.kind].chance:
            best[reason.kind] = reason
    return sorted(best.values(), key=lambda reason: -reason.chance)


def _some(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else ""
    return f"{', '.join(labels[:SHOWN])}{more}"
