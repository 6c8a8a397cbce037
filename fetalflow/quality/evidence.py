"""The tables that the quality gate checks, made from manifest, sequences, masks and split."""

from pathlib import Path

import numpy as np
import pandas as pd

from fetalflow.artefacts import file_digest
from fetalflow.biometry.structures import WEEKS
from fetalflow.cine.letterbox import fit_scale
from fetalflow.cine.outlines import OPEN
from fetalflow.hospital.drop.columns import LENGTHS
from fetalflow.quality.duplicates import duplicate_of, near_duplicate_of
from fetalflow.sequences.split import PARTS

TEXT, WHOLE, NUMBER = "text", "whole number", "number"
CONTRACT = {  # columns of the manifest, with their type
    **dict.fromkeys(["sequence", "video", "source", "patient", "site", "device", "label", "annotators"], TEXT),
    **dict.fromkeys(["first_frame", "last_frame", "frames", "height", "width"], WHOLE),
    **dict.fromkeys(["fps", "mm_per_px", "mean_intensity", "min_intensity", "max_intensity"], NUMBER),
    **dict.fromkeys(["blank_share", "frozen_share", "sharpness", "niqe", "brisque"], NUMBER),
    **dict.fromkeys(["phash", "path", "digest", "mask_source", "mask_path", "mask_digest", "sector"], TEXT),
}
MAY_BE_EMPTY = {"site", "device", "annotators", "fps", "mm_per_px", "niqe", "brisque"}
MAY_BE_EMPTY |= {"mask_source", "mask_path", "mask_digest", "sector"}
FEW = 10  # with fewer values, no value counts as an outlier


def columns_table(manifest: pd.DataFrame) -> pd.DataFrame:
    """One row per column of CONTRACT: `column, expected, found` (text, whole number, number, missing)."""
    rows = []
    for column, expected in CONTRACT.items():
        found = _kind(manifest[column], expected) if column in manifest else "missing"
        rows.append({"column": column, "expected": expected, "found": found})
    return pd.DataFrame(rows)


def _kind(values: pd.Series, expected: str) -> str:
    if values.isna().all() or (expected == NUMBER and pd.api.types.is_integer_dtype(values)):
        return expected
    if pd.api.types.is_bool_dtype(values):
        return "true or false"
    if pd.api.types.is_integer_dtype(values):
        return WHOLE
    return NUMBER if pd.api.types.is_float_dtype(values) else TEXT


def rows_table(manifest: pd.DataFrame, root: Path, size: int, near_duplicate_bits: int) -> pd.DataFrame:
    """The columns of CONTRACT (empty if they are missing or have the wrong type), and these columns:

    - empty_values: names of the columns that must not be empty but are, or None
    - shorter_side, longer_side: px, recorded frame; recorded_mm_per_px
    - niqe_z, brisque_z: see `robust_z`
    - file_fault, mask_fault: what is wrong with the file of the sequence or mask, or None
    - mask_share: share of the image that the mask covers, mean over frames; NaN without a mask
    - mask_done: what was done to the delivered mask, "" without one; line_fault: text if it is an open line, or None
    - unscaled: text if mm per pixel is missing for a mask, in a drop that states lengths; else None
    - age_fault: a stated gestational age that is not a number of weeks, or None
    - seen_fault: a stated share of the structure in view that is not a number from 0 to 1, or None
    - duplicate_of, near_duplicate_of: a cine of another patient, or None

    frozen_share is empty for sequences of one frame.
    """
    good = columns_table(manifest).set_index("column").eval("expected == found")
    rows = pd.DataFrame({c: manifest[c] if good[c] else pd.Series(index=manifest.index) for c in CONTRACT})
    for column, kind in CONTRACT.items():
        rows[column] = rows[column].astype(object) if kind == TEXT else rows[column].astype(float)
    rows = rows.where(rows.notna(), None).reset_index(drop=True)
    for column in (c for c, kind in CONTRACT.items() if kind != TEXT):
        rows[column] = rows[column].astype(float)
    filled = [column for column in CONTRACT if column not in MAY_BE_EMPTY]
    empty = rows[filled].isna() | (rows[filled] == "")
    rows["empty_values"] = [", ".join(np.array(filled)[row]) or None for row in empty.to_numpy()]
    rows["shorter_side"] = rows[["height", "width"]].min(axis=1, skipna=False)
    rows["longer_side"] = rows[["height", "width"]].max(axis=1, skipna=False)
    rows["recorded_mm_per_px"] = [
        mm * fit_scale(int(height), int(width), size) if min(mm, height, width) > 0 else mm
        for mm, height, width in rows[["mm_per_px", "height", "width"]].itertuples(index=False)
    ]
    rows.loc[rows["frames"] < 2, "frozen_share"] = np.nan  # one frame cannot repeat another
    rows["niqe_z"], rows["brisque_z"] = robust_z(rows["niqe"]), robust_z(rows["brisque"])
    rows["file_fault"] = [_file_fault(row, root, size) for row in rows.itertuples(index=False)]
    masks = [_mask(row, root, size) for row in rows.itertuples(index=False)]
    rows["mask_fault"], rows["mask_share"] = [fault for fault, _ in masks], [share for _, share in masks]
    rows["mask_done"] = manifest.get("mask_done", pd.Series("", manifest.index)).fillna("").to_numpy()
    rows["line_fault"] = np.where(rows["mask_done"].str.startswith(OPEN), "an open line", None)
    states_lengths = any(column in manifest for column in LENGTHS)
    unscaled = rows["mm_per_px"].isna() & rows["mask_path"].astype(bool) & states_lengths
    rows["unscaled"] = np.where(unscaled, "mm per pixel are not known", None)
    rows["age_fault"] = _wrong_values(manifest, "gestational_age", WEEKS, "is not a number of weeks")
    rows["seen_fault"] = _wrong_values(manifest, "seen", (0, 1), "is not a share from 0 to 1")
    rows["duplicate_of"] = duplicate_of(rows)
    rows["near_duplicate_of"] = near_duplicate_of(rows, root, near_duplicate_bits)
    return rows


def robust_z(values: pd.Series) -> pd.Series:
    """|log(value) - median| in robust standard deviations (1.4826 x the median absolute deviation); NaN stays NaN.

    The logarithm is used because NIQE and BRISQUE are skewed: on real lung cines the largest z is 9.5 for the values
    and 4.0 for their logarithms. With fewer than FEW values, or if they hardly differ, all results are NaN.
    """
    logs = np.log(values.where(values > 0))
    deviation = (logs - logs.median()).abs()
    spread = 1.4826 * deviation.median()
    if logs.notna().sum() < FEW or spread < 1e-6:
        return pd.Series(np.nan, index=values.index)
    return deviation / spread


def _file_fault(row: tuple, root: Path, size: int) -> str | None:
    return _array_fault(root / row.path, row.digest, row.frames, size) if row.path else "no path"


def _mask(row: tuple, root: Path, size: int) -> tuple[str | None, float]:
    """What is wrong with the mask of a sequence, or None; and the share of the image that the mask covers."""
    if not row.mask_path:
        return ("preprocess wrote no mask for it" if row.mask_source else None), np.nan
    file = root / row.mask_path
    if fault := _array_fault(file, row.mask_digest, row.frames, size):
        return fault, np.nan
    mask = np.load(file, allow_pickle=False)
    if (most := int(mask.max(initial=0))) > 1:
        return f"holds values up to {most}, expected 0 and 1", np.nan
    return None, float(mask.mean())


def _array_fault(file: Path, digest: str, frames: float, size: int) -> str | None:
    if not file.is_file():
        return "no such file"
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        return f"not a NumPy array ({error})"
    if array.dtype != np.uint8 or array.shape != (frames, size, size):
        return f"holds {array.dtype} {list(array.shape)}, expected uint8 [{frames:.0f}, {size}, {size}]"
    return None if file_digest(file) == digest else "the file changed after preprocess (SHA-256 differs)"


def _wrong_values(manifest: pd.DataFrame, column: str, bounds: tuple[float, float], fault: str) -> list[str | None]:
    """For every row: a stated value of `column` that is not a number within `bounds`, with `fault`; else None."""
    stated = manifest.get(column, pd.Series("", index=manifest.index))
    valid = stated.isna() | (stated == "") | pd.to_numeric(stated, errors="coerce").between(*bounds)
    return [None if is_valid else f"{value!r} {fault}" for value, is_valid in zip(stated, valid, strict=True)]


def classes_table(rows: pd.DataFrame, labels: tuple[str, ...] | None) -> pd.DataFrame:
    """One row per label of the settings or the drop: `label, sequences, patients, ratio` (largest class over this)."""
    all_labels = sorted({*(labels or ()), *rows["label"].dropna()})
    groups = rows.groupby("label")["patient"]
    table = pd.DataFrame({"sequences": groups.size(), "patients": groups.nunique()}).reindex(all_labels, fill_value=0)
    table["ratio"] = table["sequences"].max() / table["sequences"].astype(float)
    return table.rename_axis("label").reset_index()


def members_table(rows: pd.DataFrame, split: pd.DataFrame) -> pd.DataFrame:
    """One row per fold and sequence of both tables: `sequence, patient, fold, part, times, in_manifest, fault`.

    times: how often the split has this sequence in this fold. fault: patient or label of the split, if it is not that
    of the manifest; else None.
    """
    known = rows[["sequence", "patient", "label"]].drop_duplicates("sequence")
    folds = pd.DataFrame({"fold": split["fold"].unique()}).merge(known, how="cross")
    table = folds.merge(split, on=["fold", "sequence"], how="outer", suffixes=("", "_split"))
    both = table["patient"].notna() & table["patient_split"].notna()
    table["fault"] = None
    for column in ("label", "patient"):
        differs = both & (table[column] != table[f"{column}_split"])
        for row in table.index[differs]:
            in_manifest, in_split = table.at[row, column], table.at[row, f"{column}_split"]
            table.at[row, "fault"] = f"{column} {in_split} in the split, {in_manifest} in the manifest"
    table["times"] = table["patient_split"].notna().groupby([table["fold"], table["sequence"]]).transform("sum")
    table["in_manifest"] = table["patient"].notna()
    table["patient"] = table["patient"].fillna(table["patient_split"])
    return table.drop_duplicates(["fold", "sequence"])[
        ["sequence", "patient", "fold", "part", "times", "in_manifest", "fault"]
    ].reset_index(drop=True)


def people_table(rows: pd.DataFrame, unknown: int) -> pd.DataFrame:
    """One row: `cines`, `patients`, `unknown` (sequences that only assume a patient), and `per_cine`, the patients per
    cine; it is empty with fewer than FEW cines, and in a drop that does not name its patients."""
    cines, patients = rows["source"].nunique(), rows["patient"].nunique()
    known = cines >= FEW and not unknown
    row = {"cines": cines, "patients": patients, "unknown": unknown}
    return pd.DataFrame([row | {"per_cine": patients / cines if known else np.nan}])


def patients_table(split: pd.DataFrame) -> pd.DataFrame:
    """One row per fold and patient: `patient, fold, parts` (the parts with this patient, such as `test + train`)."""
    parts = split.groupby(["fold", "patient"])["part"].agg(lambda found: " + ".join(sorted(set(found))))
    return parts.rename("parts").reset_index()


def parts_table(split: pd.DataFrame) -> pd.DataFrame:
    """One row per fold and label: `label, fold, train, validation, test` (sequences), `tested` (over all folds)."""
    counts = split.groupby(["fold", "label", "part"]).size().unstack(fill_value=0).reindex(columns=PARTS, fill_value=0)
    full = pd.MultiIndex.from_product([sorted(split["fold"].unique()), sorted(split["label"].unique())])
    table = counts.reindex(full.set_names(["fold", "label"]), fill_value=0).reset_index()
    table["tested"] = table.groupby("label")["test"].transform("sum")
    return table
