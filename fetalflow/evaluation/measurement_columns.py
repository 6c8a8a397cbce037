"""The columns of a predictions file that hold the mask scores and the lengths of a segmentation network."""

from collections.abc import Callable

import numpy as np
import pandas as pd

MEASURES = {
    "hc": "head circumference",
    "bpd": "biparietal diameter",
    "ofd": "occipitofrontal diameter",
    "ac": "abdominal circumference",
    "fl": "femur length",
}
SHARES = ("seen", "dice", "iou")  # 0-1
IN_MM = tuple(f"{kind}_{m}_mm" for m in MEASURES for kind in ("true", "mask", "found"))  # above 0
COLUMNS = ("weeks", *SHARES, "hausdorff_mm", *IN_MM, *(f"spread_{m}_mm" for m in MEASURES), "measured_frames")
CALLED = r"(?:^|; )called "  # in `warnings`: the network gave the label of another structure
SAME_MM = 0.01  # truths of one sequence may differ by rounding
Check = Callable[[pd.Series, str, str], None]  # wrong rows, what is wrong, what to do


def has_lengths(table: pd.DataFrame) -> bool:
    """Whether the file has measured or true lengths."""
    return any(column in table for column in IN_MM)


def checked(table: pd.DataFrame, check: Check) -> pd.DataFrame:
    """`table` with COLUMNS as float64, NaN where empty, and `warnings` as text.

    `check` raises InputError where a cell is not a number or its value is impossible.
    """
    columns: dict[str, pd.Series] = {}
    for name in [c for c in COLUMNS if c in table]:
        empty = table[name].isna() | (table[name].astype(str).str.strip() == "")
        numbers = pd.to_numeric(table[name].where(~empty), errors="coerce").astype(float)
        check(~empty & ~np.isfinite(numbers), f"{name} is not a number", "Write a number, or leave the cell empty.")
        wrong, bounds = numbers < 0, "0 or more"
        if name in SHARES:
            wrong, bounds = wrong | (numbers > 1), "in 0-1"
        elif name in IN_MM:
            wrong, bounds = numbers <= 0, "above 0"
        check(wrong, f"{name} must be {bounds}", "Correct it, or leave the cell empty where nothing was measured.")
        columns[name] = numbers
    for name in [c for c in columns if c.startswith("true_")]:
        of_sequence = columns[name].groupby(table["sequence"])
        apart = of_sequence.transform("max") - of_sequence.transform("min") > SAME_MM
        check(apart, f"one sequence has more than one {name}", "A sequence has exactly one; correct the rows.")
    if "warnings" in table:
        columns["warnings"] = table["warnings"].astype(object).where(table["warnings"].notna(), "").astype(str)
    return table.assign(**columns)


def error_percent(table: pd.DataFrame) -> pd.Series:
    """float64, of each row: mean absolute error of its lengths in % of the truth; NaN where no length has both a
    measured and a true value. A row counts once, whether it has one length (femur) or three (head).
    """
    return errors_percent(table).mean(axis=1)


def errors_percent(table: pd.DataFrame, truth: str = "true") -> pd.DataFrame:
    """float64 [rows, lengths of the table]: absolute error of found_ in % of true_ or mask_; NaN where one of the two
    is unknown."""
    names = [m for m in MEASURES if {f"found_{m}_mm", f"{truth}_{m}_mm"} <= set(table)]
    known = {m: table[f"{truth}_{m}_mm"] for m in names}
    errors = {m: 100 * (table[f"found_{m}_mm"] - known[m]).abs() / known[m] for m in names}
    return pd.DataFrame(errors, index=table.index, dtype=float)


def measured_well(table: pd.DataFrame, tolerance: float) -> pd.Series:
    """float64, of each row: 1 where every length was measured within `tolerance` % of the truth, else 0 (also where the
    model refused). A view that the sector cuts: 1 where the label is right and nothing was measured. NaN where no true
    length is known."""
    names = [m for m in MEASURES if {f"found_{m}_mm", f"true_{m}_mm"} <= set(table)]
    truth = table[[f"true_{m}_mm" for m in names]].to_numpy(dtype=float)
    measured = table[[f"found_{m}_mm" for m in names]].to_numpy(dtype=float)
    known = np.isfinite(truth)
    within = np.abs(measured - truth) <= tolerance / 100 * truth  # False where nothing was measured
    right = (within | ~known).all(axis=1)
    if "seen" in table:
        refused = ~np.isfinite(measured).any(axis=1)
        if "warnings" in table:  # with a wrong label the length of the true structure is empty, which is no refusal
            refused &= ~table["warnings"].str.contains(CALLED, regex=True).to_numpy(dtype=bool)
        right = np.where(table["seen"] < 1, refused, right)
    return pd.Series(np.where(known.any(axis=1), right, np.nan), index=table.index)
