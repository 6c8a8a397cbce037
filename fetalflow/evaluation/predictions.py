"""Predictions files, of this pipeline or any other: one row per tested sequence, checked before they are scored."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fetalflow.artefacts import named
from fetalflow.errors import InputError
from fetalflow.evaluation.equal_labels import labels_equally_likely
from fetalflow.evaluation.measurement_columns import COLUMNS, checked, has_lengths

# Rounding to two or three digits is common in files written by hand; logits miss 1 by far more than this.
SUM_TOLERANCE = 0.01
NAMES = ("site", "device", "operator")
FACTS = (*NAMES, "variant", "fold", "seed", "part")  # optional, and may be empty
TEXT = ("sequence", "patient", *FACTS, "y_true", "y_pred")


@dataclass(frozen=True)
class Predictions:
    """Checked predictions of one model.

    table: one row per sequence (per fold and seed, where the file has these), text columns sequence, patient,
        y_true, y_pred and whichever of site, device, operator, variant, fold, seed, part the file has; float64
        unfamiliarity (`fetalflow.models.familiarity`: above 1 is unlike the training data) where the file has it;
        float64 columns of `measurement_columns` (NaN where not known) and text `warnings`, where it has lengths.
    labels: class names, in the order of the p_ columns, or sorted where there are none.
    probabilities: float64 [rows, classes], or None where the file has only y_pred.
    notes: sentences for the reader of the scores.
    """

    table: pd.DataFrame
    labels: tuple[str, ...]
    probabilities: np.ndarray | None
    source: str
    notes: tuple[str, ...] = ()

    @property
    def truth(self) -> np.ndarray:
        """int64 [rows], indices into `labels`."""
        return pd.Index(self.labels).get_indexer(self.table["y_true"])

    @property
    def predicted(self) -> np.ndarray:
        """int64 [rows], indices into `labels`."""
        return pd.Index(self.labels).get_indexer(self.table["y_pred"])

    @property
    def distinguishes_labels(self) -> bool:
        """False where there is only one label, or all labels are always equally likely."""
        equally_likely = self.probabilities is not None and labels_equally_likely(self.probabilities)
        return len(self.labels) > 1 and not equally_likely

    @property
    def measures(self) -> bool:
        """Whether the file has lengths."""
        return has_lengths(self.table)

    @property
    def one_per_sequence(self) -> pd.DataFrame:
        """sequence (index), patient, y_true, y_pred: one answer per sequence, sorted.

        A sequence with one row keeps its y_pred. One that several seeds answered gets the label with the highest mean
        probability, or with the most votes where there are no probabilities (the first label on a tie).
        """
        votes = np.eye(len(self.labels))[self.predicted]
        repeated = self.table["sequence"].duplicated(keep=False).to_numpy()
        if self.probabilities is not None:
            votes[repeated] = self.probabilities[repeated]
        mean = pd.DataFrame(votes, columns=self.labels).groupby(self.table["sequence"].to_numpy()).mean()
        facts = self.table.drop_duplicates("sequence").set_index("sequence")[["patient", "y_true"]]
        return facts.sort_index().assign(y_pred=mean.sort_index().idxmax(axis=1))

    @property
    def patient_codes(self) -> np.ndarray:
        """int64 [rows], indices into the sorted patients, so that the order of the rows has no influence."""
        return np.unique(self.table["patient"].to_numpy(dtype=str), return_inverse=True)[1]


def predictions_of(data: Path, variant: str) -> Path:
    """The predictions file of a variant in a task's folder `data`; that with the measurements, where there is one."""
    measured = data / "measured" / f"{variant}.csv"
    return measured if measured.is_file() else data / "predictions" / f"{variant}.csv"


def read_predictions(path: Path | str, part: str = "test") -> Predictions:
    """Read a CSV or Parquet file of predictions and check it.

    Needs the columns `sequence`, `patient`, `y_true` and either one `p_<label>` per class or `y_pred`. Optional:
    site, device, operator, variant, fold, seed, part, unfamiliarity; of a network that measures, found_<length>_mm,
    the other columns of `measurement_columns`, and `warnings`. Where there is a `part` column, only the rows of `part`
    are kept.
    Raises InputError naming the file, the rows, what was expected and what was found.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file. Give a CSV or Parquet file of predictions.")
    if path.suffix == ".parquet":
        return check_predictions(pd.read_parquet(path), str(path), part)
    if path.suffix != ".csv":
        raise InputError(f"{path}: expected a name ending in .csv or .parquet, found {path.suffix or 'no ending'!r}.")
    try:
        # Only an empty cell counts as missing: a class or a patient may be called "NA" or "None". The header is read as
        # a row, because pandas would rename a repeated column.
        text = pd.read_csv(path, header=None, dtype=str, keep_default_na=False, na_values=[""], encoding="utf-8-sig")
    except pd.errors.EmptyDataError:
        raise InputError(f"{path}: the file is empty. Expected a header line and one line per sequence.") from None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a comma-separated file in UTF-8 ({error}).") from None
    table = text.iloc[1:].set_axis(text.iloc[0].fillna("").tolist(), axis=1)
    return check_predictions(table, str(path), part, first_line=2)


def check_predictions(
    table: pd.DataFrame, source: str = "predictions", part: str = "test", first_line: int = 1
) -> Predictions:
    """Check a table of predictions, as `read_predictions` does for a file.

    first_line: the number that messages give to the first row (2 in a CSV, whose header is line 1).
    """
    table = table.rename(columns=lambda name: str(name).strip()).reset_index(drop=True)
    if repeated := sorted(set(table.columns[table.columns.duplicated()])):
        raise InputError(f"{source}: columns {repeated} occur more than once. Keep one of each.")
    classes = [c for c in table.columns if c.startswith("p_")]
    missing = [c for c in ("sequence", "patient", "y_true") if c not in table]
    if missing == ["patient"]:
        raise InputError(
            f"{source}: no column `patient`, found {list(table.columns)}. Sequences of one patient are alike, so "
            "intervals and tests are over patients: add the patient of each sequence. Only if every sequence is from "
            "a different patient, copy `sequence` into `patient`."
        )
    if missing or not (classes or "y_pred" in table):
        missing += [] if classes or "y_pred" in table else ["y_pred (or one p_<label> per class)"]
        raise InputError(f"{source}: expected the columns {missing}, found {list(table.columns)}. Add or rename them.")
    if table.empty:
        raise InputError(f"{source}: no rows. Expected one row per tested sequence.")

    notes: list[str] = []
    check = _Check(source, first_line)
    table = _as_text(table, check)
    if "unfamiliarity" in table:
        table = table.assign(unfamiliarity=_unfamiliarity(table, check))
    if has_lengths(table):
        table = checked(table, check)
    if len(classes) == 1 and table["y_true"].nunique() > 1:
        raise InputError(
            f"{source}: one probability column, {classes[0]}. Expected one per class: for two classes write both."
        )
    probabilities = _probabilities(table, classes, check) if classes else None
    labels = tuple(c.removeprefix("p_") for c in classes) or tuple(sorted({*table["y_true"], *table.get("y_pred", ())}))
    for column in {"y_true", "y_pred"} & set(table):
        unknown = ~table[column].isin(labels)
        found = sorted(set(table[column][unknown]))
        check(unknown, f"{column} {found} has no p_ column; expected one of {list(labels)}", "Use the same names.")

    if probabilities is not None:
        table, remarks = _choose_labels(table, probabilities, labels)
        notes += remarks
    _check_identity(table, check)
    keep, remark = _part_rows(table, part, source)
    notes += remark
    further = (*COLUMNS, "warnings") if has_lengths(table) else ()
    columns = [c for c in (*TEXT, "unfamiliarity", *further) if c in table]
    return Predictions(
        table=table.loc[keep, columns].reset_index(drop=True),
        labels=labels,
        probabilities=None if probabilities is None else probabilities[keep.to_numpy()],
        source=source,
        notes=tuple(notes),
    )


@dataclass(frozen=True)
class _Check:
    """Raises InputError naming the first rows for which `wrong` is true."""

    source: str
    first_line: int

    def __call__(self, wrong: pd.Series, problem: str, advice: str) -> None:
        if not wrong.any():
            return
        rows = [int(row) + self.first_line for row in np.flatnonzero(wrong)]
        named = ", ".join(map(str, rows[:5])) + (f" and {len(rows) - 5} more" if len(rows) > 5 else "")
        word = "line" if self.first_line == 2 else "row"
        raise InputError(f"{self.source}: {word}{'s' if len(rows) > 1 else ''} {named}: {problem}. {advice}")


def _as_text(table: pd.DataFrame, check: _Check) -> pd.DataFrame:
    columns: dict[str, pd.Series] = {}
    for name in [c for c in TEXT if c in table]:
        empty = table[name].isna() | (table[name].astype(str).str.strip() == "")
        if name not in FACTS:
            check(empty, f"{name} is missing", "Fill it in or leave the row out.")
        # Without the conversion to object, pandas would write a missing value as "nan" or "None".
        text = table[name].astype(object).where(~empty, "").astype(str).str.strip()
        columns[name] = named(text) if name in NAMES else text
    return table.assign(**columns)


def _unfamiliarity(table: pd.DataFrame, check: _Check) -> pd.Series:
    numbers = pd.to_numeric(table["unfamiliarity"], errors="coerce").astype(float)
    wrong = ~np.isfinite(numbers)
    check(wrong, "unfamiliarity is missing or not a number", "Write one in every row, or leave the column out.")
    return numbers


def _probabilities(table: pd.DataFrame, classes: list[str], check: _Check) -> np.ndarray:
    """float64 [rows, classes], each 0-1, rows summing to 1."""
    numbers = table[classes].apply(pd.to_numeric, errors="coerce").astype(float)
    check(numbers.isna().any(axis=1), f"a probability in {classes} is missing or not a number", "Write numbers 0-1.")
    out = ((numbers < -1e-6) | (numbers > 1 + 1e-6)).any(axis=1)
    extremes = f"{numbers.min(axis=None):.4g} to {numbers.max(axis=None):.4g}"
    check(out, f"probabilities must lie in 0-1, found {extremes}", "Write softmax outputs, not logits or per cent.")
    sums = numbers.sum(axis=1)
    wrong = (sums - 1).abs() > SUM_TOLERANCE
    found = ", ".join(f"{value:.4g}" for value in sums[wrong].head(5))
    check(wrong, f"the probabilities in {classes} must sum to 1 (within {SUM_TOLERANCE}), found {found}", "Fix them.")
    return numbers.to_numpy()


def _choose_labels(
    table: pd.DataFrame, probabilities: np.ndarray, labels: tuple[str, ...]
) -> tuple[pd.DataFrame, list[str]]:
    """The table with y_pred from the probabilities where the file has none, and remarks on doubtful labels."""
    likeliest = np.asarray(labels, dtype=object)[probabilities.argmax(axis=1)]
    if labels_equally_likely(probabilities):  # the score has a note on it
        return table.assign(y_pred=table.get("y_pred", pd.Series(likeliest))), []
    if "y_pred" in table:
        at_top = probabilities[np.arange(len(table)), pd.Index(labels).get_indexer(table["y_pred"])]
        differ = int((at_top < probabilities.max(axis=1)).sum())
        remark = (
            f"In {differ} rows y_pred is not the likeliest label; labels are scored by y_pred, AUC and calibration "
            "by the probabilities."
        )
        return table, [remark] if differ else []
    ties = int(((probabilities == probabilities.max(axis=1, keepdims=True)).sum(axis=1) > 1).sum())
    remark = [f"In {ties} rows several labels are equally likely; the first in column order was taken."] if ties else []
    return table.assign(y_pred=likeliest), remark


def _check_identity(table: pd.DataFrame, check: _Check) -> None:
    """One row per sequence and run, and one truth and one patient per sequence."""
    key = [c for c in ("sequence", "variant", "fold", "seed") if c in table]
    check(table.duplicated(key, keep=False), f"the same {' + '.join(key)} occurs more than once", "Keep one row.")
    for column in ("y_true", "patient"):
        several = table.groupby("sequence")[column].transform("nunique") > 1
        check(several, f"one sequence has more than one {column}", "A sequence has exactly one; correct the rows.")


def _part_rows(table: pd.DataFrame, part: str, source: str) -> tuple[pd.Series, list[str]]:
    if "variant" in table and table["variant"].nunique() > 1:
        found = sorted(set(table["variant"]))
        raise InputError(f"{source}: expected the predictions of one variant, found {found}. Write one file for each.")
    if "part" not in table:
        return pd.Series(True, index=table.index), []
    keep = table["part"] == part
    if not keep.any():
        raise InputError(f"{source}: no rows with part {part!r}, found {sorted(set(table['part']))}.")
    left = int((~keep).sum())
    return keep, [f"Only the {part} part is counted; {left} rows of other parts are left out."] if left else []
