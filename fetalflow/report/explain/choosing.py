"""Chooses the test sequences to draw and to measure: by a seed and facts of the sequence, never by the map itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fetalflow.errors import InputError
from fetalflow.evaluation.measurement_columns import errors_percent
from fetalflow.evaluation.predictions import Predictions


def tested(manifest: pd.DataFrame, split: pd.DataFrame) -> pd.DataFrame:
    """Rows of the manifest in the first fold's test part, sorted by sequence.

    Raises InputError when there is none.
    """
    first = split[(split["fold"] == split["fold"].min()) & (split["part"] == "test")]
    rows = manifest[manifest["sequence"].isin(first["sequence"])].sort_values("sequence", ignore_index=True)
    if rows.empty:
        raise InputError(f"no sequence of the manifest ({len(manifest)}) is in the first fold's test part.")
    return rows


def answered(rows: pd.DataFrame, probabilities: np.ndarray, labels: tuple[str, ...]) -> pd.DataFrame:
    """`rows` with the network's answers: `row` (index into `probabilities` [rows, classes]), `predicted`, `confidence`
    (probability of the predicted label) and `correct`."""
    predicted = np.asarray(labels, dtype=object)[probabilities.argmax(axis=1)]
    return rows.assign(
        row=np.arange(len(rows)),
        predicted=predicted,
        confidence=probabilities.max(axis=1),
        correct=predicted == rows["label"].to_numpy(dtype=object),
    )


def as_measured(rows: pd.DataFrame, file: Predictions, training: Mapping[str, int]) -> pd.DataFrame:
    """As `answered`, from predictions with lengths, with `dice` and `largest_error`: in percent of the lengths in
    the drop, or of those of the annotated mask where the drop has none; NaN where nothing can be compared.

    training: `fold` and `seed` of the network. Raises InputError when the file lacks one of `rows`.
    """
    table = file.table.reset_index(drop=True)
    of_run = (table["fold"] == str(training["fold"])) & (table["seed"] == str(training["seed"]))
    table = table[of_run & table["sequence"].isin(rows["sequence"])]
    if len(table) < len(rows):
        run = f"fold {training['fold']}, seed {training['seed']}"
        raise InputError(
            f"{file.source} holds {len(table)} of {len(rows)} test sequences of {run}. Run the train stage again."
        )
    place = table.reset_index().set_index("sequence")["index"].loc[rows["sequence"]].to_numpy()
    measured, p = table.loc[place].reset_index(drop=True), file.probabilities[place]
    stated = measured.filter(regex="^true_").notna().any(axis=1)
    error = errors_percent(measured).max(axis=1).where(stated, errors_percent(measured, "mask").max(axis=1))
    result = answered(rows.reset_index(drop=True), p, file.labels).assign(dice=measured["dice"], largest_error=error)
    if file.distinguishes_labels:
        return result
    return result.assign(predicted=result["label"], correct=True)


def choose_per_class(table: pd.DataFrame, labels: tuple[str, ...], per_class: int, seed: int) -> pd.DataFrame:
    """`per_class` sequences of each label in the order of `labels`, chosen at random among the right answers.

    Where a label has too few right answers, wrong ones are added.
    """
    shuffled = table.sample(frac=1, random_state=seed).sort_values("correct", ascending=False, kind="stable")
    chosen = [shuffled[shuffled["label"] == label].head(per_class) for label in labels]
    return pd.concat(chosen, ignore_index=True)


def choose_mistakes(table: pd.DataFrame, most: int, seed: int) -> pd.DataFrame:
    """At most `most` misclassified sequences: every pair of true and predicted label once before any pair repeats."""
    wrong = table[~table["correct"].astype(bool)].sample(frac=1, random_state=seed)
    turn = wrong.groupby(["label", "predicted"]).cumcount()
    return wrong.assign(turn=turn).sort_values("turn", kind="stable", ignore_index=True).head(most).drop(columns="turn")


def choose_worst(table: pd.DataFrame, figure: str, most: int, largest: bool) -> pd.DataFrame:
    """At most `most` rows with the largest (or smallest) `figure`, the worst first; rows without it are left out."""
    known = table.dropna(subset=[figure])
    return known.sort_values([figure, "sequence"], ascending=[not largest, True], ignore_index=True).head(most)


def known_anatomy(table: pd.DataFrame) -> pd.Series:
    """bool by row: whether the anatomy is known, which means that `mask_path` is not empty."""
    if "mask_path" not in table:
        return pd.Series(False, index=table.index)
    return table["mask_path"].fillna("") != ""


def choose_measured(table: pd.DataFrame, most: int, seed: int) -> pd.DataFrame:
    """At most `most` sequences at random among those whose anatomy is known."""
    known = table[known_anatomy(table)]
    return known.sample(n=min(most, len(known)), random_state=seed).sort_values("row", ignore_index=True)


def read_sequence(path: Path) -> np.ndarray:
    """uint8 [N, size, size]: a sequence, or the mask of one. Raises InputError when it is missing."""
    if not path.is_file():
        raise InputError(f"{path}: no such file. Run the preprocess stage again.")
    return np.load(path, allow_pickle=False)


class Sequences:
    """The sequences of rows of a manifest, read from their files under `folder` only when they are indexed.

    `sequences[rows]` is uint8 [rows, N, size, size] for a slice or several indices; for one index [N, size, size].
    Raises InputError naming a missing file.
    """

    def __init__(self, folder: Path, rows: pd.DataFrame) -> None:
        self.paths = np.array([folder / path for path in rows["path"]], dtype=object)
        if missing := next((path for path in self.paths if not path.is_file()), None):
            raise InputError(f"{missing}: no such file. Run the preprocess stage again.")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: slice | Sequence[int] | int) -> np.ndarray:
        chosen = self.paths[rows]
        if isinstance(chosen, Path):
            return read_sequence(chosen)
        return np.stack([np.load(path, allow_pickle=False) for path in chosen])

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.paths), *np.load(self.paths[0], mmap_mode="r", allow_pickle=False).shape)
