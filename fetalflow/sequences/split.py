"""Splits the sequences into training, validation and test: by patient (default), by site, as the drop states, or by
sequence as papers did."""

import warnings
from collections.abc import Iterable
from itertools import combinations

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, StratifiedShuffleSplit

from fetalflow.artefacts import named
from fetalflow.errors import InputError
from fetalflow.hospital.drop.columns import ASSUMED, OFFICIAL
from fetalflow.hospital.drop.unknown_patients import check_known, count_unknown
from fetalflow.settings.params import Split

PARTS = ("train", "validation", "test")
COLUMNS = ["sequence", "patient", "label", "fold", "part"]
USED = ("sequence", "patient", "label", "site", "part", ASSUMED)  # columns of a manifest that `split` looks at
BY_PATIENT = ("grouped", "site", "official")  # kinds of split in which no patient is in two parts

# Table 1 of the paper: sequences of each label for training (validation is taken from them) and for testing.
TABLE_1 = {
    "head": (86, 44),
    "body": (68, 31),
    "arm": (57, 25),
    "heart": (54, 20),
    "hand": (58, 16),
    "foot": (43, 21),
    "leg": (44, 20),
}
DRAWS = 200  # random draws of held-out patients, of which the best balanced is kept


def split(manifest: pd.DataFrame, settings: Split) -> pd.DataFrame:
    """Assign a part to every sequence. The manifest's columns `sequence`, `patient` and `label` are used; also `part`
    for the official split and `site` for the split by site.

    Returns `sequence, patient, label, fold, part`, where part is train, validation or test. The kinds of split:
    - grouped: every sequence is once in every fold, no patient is in two parts of a fold, and with K folds every
      patient is tested exactly once.
    - site: one fold for each site, in the order of their names. The fold tests all patients of the site, and trains and
      validates on patients of the other sites.
    - official: one fold. The manifest's column `part` states the test patients. It may state the validation patients,
      too; else they are drawn from the training patients.
    - random: one fold, drawn by sequence with the wanted shares of each label. A patient may be in several parts.
    - paper: one fold with Table 1's counts, drawn by sequence; the other sequences are left out.
    The result depends on the set of rows and the seed, not on the order of the rows.

    Raises InputError when rows lack an id, a patient or a label, when the patients of a grouped split are unknown, when
    there are too few patients, sites or sequences, or when official parts or sites are missing, unknown or share
    patients.
    """
    if settings.folds > 1 and settings.kind != "grouped":
        folds = "one fold for each site" if settings.kind == "site" else "one fold"
        raise InputError(
            f"the {settings.kind} split has {folds}, but split.folds is {settings.folds}. Use "
            "--set TASK.split.folds=1 or --set TASK.split.kind=grouped."
        )
    rows = manifest[COLUMNS[:3]]
    if len(empty := rows[rows.isna().any(axis=1)]):
        first = empty.iloc[0].to_dict()
        raise InputError(f"{len(empty)} rows of the manifest lack an id, a patient or a label, the first: {first}")
    rows = rows.astype(str)
    check_known(count_unknown(manifest), len(manifest), "sequences", settings)
    if settings.kind == "official":
        rows["part"] = _official_parts(manifest).to_numpy()
    if settings.kind == "site":
        rows["site"] = _sites(manifest).to_numpy()
    rows = rows.sort_values("sequence", ignore_index=True)
    if rows["sequence"].duplicated().any():
        twice = rows.loc[rows["sequence"].duplicated(), "sequence"].iloc[0]
        raise InputError(f"sequence {twice} is in the manifest twice, but ids must be unique. Run extract again.")
    kinds = {"grouped": _grouped, "site": _by_site, "official": _official, "random": _random, "paper": _paper}
    folds = kinds[settings.kind](rows, settings)
    tables = [part.assign(fold=fold) for fold, part in enumerate(folds)]
    return pd.concat(tables, ignore_index=True)[COLUMNS]


def shared_patients(table: pd.DataFrame) -> dict[str, int]:
    """How many patients two parts share, by pair (`train-test`); the largest number of all folds."""
    shared = dict.fromkeys((f"{a}-{b}" for a, b in combinations(PARTS, 2)), 0)
    for _, fold in table.groupby("fold"):
        patients = {part: set(fold.loc[fold["part"] == part, "patient"].unique()) for part in PARTS}
        for a, b in combinations(PARTS, 2):
            shared[f"{a}-{b}"] = max(shared[f"{a}-{b}"], len(patients[a] & patients[b]))
    return shared


def count(table: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Sequences by part and label, over all folds: {part: {label: n}}."""
    counts = pd.crosstab(table["part"], table["label"]).reindex(list(PARTS), fill_value=0)
    return {part: {label: int(n) for label, n in row.items()} for part, row in counts.iterrows()}


def _grouped(rows: pd.DataFrame, settings: Split) -> list[pd.DataFrame]:
    people = rows["patient"].nunique()
    if people < max(3, settings.folds):
        raise InputError(
            f"a split by patient needs at least {max(3, settings.folds)} patients (one each for train, validation and "
            f"test, and one per fold), found {people}: {_some(rows['patient'].unique())}. Add patients or lower "
            "the number of folds: --set TASK.split.folds=N."
        )
    tests = _folds(rows, settings) if settings.folds > 1 else [_hold_out(rows, settings.test, 2, (settings.seed, 0))]
    return [_parts(rows, test, settings, fold) for fold, test in enumerate(tests)]


def _parts(rows: pd.DataFrame, test: set[str], settings: Split, fold: int) -> pd.DataFrame:
    tested = rows["patient"].isin(test)
    rest = rows[~tested]
    validation = _hold_out(rest, settings.validation, 1, (settings.seed, fold + 1))
    if not validation and rest["patient"].nunique() > 1:
        # Every label has one patient. Early stopping still needs one: the patient with the fewest sequences.
        validation = {rest["patient"].value_counts(sort=False).idxmin()}
    validated = rows["patient"].isin(validation)
    names = np.array(PARTS, object)  # a shared text for each part, and not a new one for each row
    parts = rows.assign(part=names[np.select([tested, validated], [2, 1])])
    if missing := [part for part in PARTS if part not in set(parts["part"].unique())]:
        patients = {label: n for label, n in rows.groupby("label")["patient"].nunique().items()}
        raise InputError(
            f"too few patients for the {' and '.join(missing)} part of fold {fold}. A label needs 3 patients to be in "
            f"all parts; found patients by label: {patients}. Add patients, or --set TASK.split.folds=1."
        )
    return parts


def _hold_out(rows: pd.DataFrame, share: float, keep: int, seed: tuple[int, int]) -> set[str]:
    """Draw patients for a part that holds about `share` of every label. Where possible, each label is in both parts.

    keep: how many of a label's patients should not be drawn. Patients are grouped by the rarest of their labels that
    has more than `keep` patients, and drawn within each group, so that rare labels are not left to chance. Of DRAWS
    draws the one closest to `share` of every label is kept.
    """
    counts = pd.crosstab(rows["patient"], rows["label"])
    if counts.empty:
        return set()
    shows = counts.to_numpy() > 0
    people = shows.sum(axis=0)
    rarest = np.lexsort((people, people <= keep))
    group = shows[:, rarest].argmax(axis=1)
    groups = [np.flatnonzero(group == g) for g in np.unique(group)]
    random = np.random.default_rng(seed)
    wanted, total = counts.to_numpy() * 1.0, counts.to_numpy().sum(axis=0)
    best, best_cost = np.array([], int), (np.inf, np.inf)
    for _ in range(DRAWS):
        held = np.concatenate([_draw(members, share, keep, random) for members in groups])
        got = wanted[held].sum(axis=0) / total
        lost = (got == 0).sum() + (people - shows[held].sum(axis=0) < keep).sum()
        cost = (lost, np.square(got - share).sum())
        if cost < best_cost:
            best, best_cost = held, cost
    return set(counts.index[best])


def _draw(members: np.ndarray, share: float, keep: int, random: np.random.Generator) -> np.ndarray:
    most = max(len(members) - keep, 1 if len(members) > 1 else 0)
    return random.permutation(members)[: min(max(round(share * len(members)), 1), most)]


def _folds(rows: pd.DataFrame, settings: Split) -> list[set[str]]:
    """The test patients of each of K folds. Every patient is tested once; labels are as balanced as patients allow."""
    if rows["label"].value_counts().max() < settings.folds:
        raise InputError(f"no label has {settings.folds} sequences, one for each fold; use --set TASK.split.folds=N.")
    splitter = StratifiedGroupKFold(settings.folds, shuffle=True, random_state=settings.seed)
    with warnings.catch_warnings():
        # The printed counts show a label with fewer sequences than folds; it is no reason to stop.
        warnings.filterwarnings("ignore", message="The least populated class")
        tests = list(splitter.split(rows, rows["label"], rows["patient"]))
    return [set(rows["patient"].iloc[index]) for _, index in tests]


def _sites(manifest: pd.DataFrame) -> pd.Series:
    """The site of every row."""
    sites = manifest["site"] if "site" in manifest else pd.Series("", index=manifest.index)
    sites = named(sites)
    if (nowhere := sites == "").any():
        rows = [f"{row.sequence} of patient {row.patient}" for row in manifest[nowhere.to_numpy()].itertuples()]
        raise InputError(
            f"the split by site needs the site of every sequence; {len(rows)} of {len(manifest)} have none: "
            f"{_some(rows, 5)}. Fill in `site` in the drop, or use --set TASK.split.kind=grouped."
        )
    return sites


def _by_site(rows: pd.DataFrame, settings: Split) -> list[pd.DataFrame]:
    sites = sorted(rows["site"].unique())
    if len(sites) < 3:
        raise InputError(
            f"a split by site needs 3 sites, one to test and two to learn what sites have in common; found "
            f"{len(sites)}: {_some(sites)}. Add drops of other sites, or use --set TASK.split.kind=grouped."
        )
    several = rows.groupby("patient")["site"].nunique() > 1
    if shared := sorted(several.index[several]):
        raise InputError(
            f"{len(shared)} patients were recorded at more than one site: {_some(shared)}. A split by site would put "
            "them into both training and test. Give each patient one site in the drop, or use "
            "--set TASK.split.kind=grouped."
        )
    people = [set(rows.loc[rows["site"] == site, "patient"]) for site in sites]
    return [_parts(rows, test, settings, fold) for fold, test in enumerate(people)]


def _official_parts(manifest: pd.DataFrame) -> pd.Series:
    """`train`, `validation` or `test` of every row, by the manifest's column `part`."""
    grouped = "--set TASK.split.kind=grouped, which draws its own test patients"
    if "part" not in manifest:
        raise InputError(
            "the official split needs the column `part` (train or test), which this drop does not have. "
            "FETAL_PLANES_DB as published has it (its column Train), and any annotations.csv may have it. "
            f"Add it, or use {grouped}."
        )
    stated = manifest["part"].astype(object).where(manifest["part"].notna(), "").astype(str)
    parts = stated.str.strip().str.lower().str.removesuffix(".0").map(OFFICIAL)
    if (unknown := parts.isna()).any():
        wrong = manifest.assign(part=stated)[unknown.to_numpy()]
        rows = [f"{row.sequence} of patient {row.patient}: {row.part!r}" for row in wrong.itertuples()]
        raise InputError(
            f"{len(wrong)} of {len(manifest)} sequences are in no official part (train or test, 1 or 0): "
            f"{_some(rows, 5)}. Correct `part` of these rows in the drop, or use {grouped}."
        )
    return parts


def _official(rows: pd.DataFrame, settings: Split) -> list[pd.DataFrame]:
    patients = {part: set(rows.loc[rows["part"] == part, "patient"]) for part in PARTS}
    for one, other in combinations(PARTS, 2):
        if shared := sorted(patients[one] & patients[other]):
            both = "both parts" if {one, other} == {"train", "test"} else f"{one} and {other}"
            raise InputError(
                f"{len(shared)} patients are in {both} of the official split: {_some(shared)}. The test scores "
                "would be too high. Correct `part` in the drop, or use --set TASK.split.kind=grouped, which keeps "
                "patients apart."
            )
    for part in ("train", "test"):
        if not patients[part]:
            raise InputError(f"the official split has no {part} sequences. Use --set TASK.split.kind=grouped.")
    return [rows] if patients["validation"] else [_parts(rows, patients["test"], settings, 0)]


def _random(rows: pd.DataFrame, settings: Split) -> list[pd.DataFrame]:
    """Drawn by sequence within each label. A label with one sequence is trained only; with two, one is tested."""
    random = np.random.default_rng(settings.seed)
    parts = pd.Series("train", index=rows.index)
    for _, members in rows.groupby("label"):
        order = random.permutation(members.index)
        tested = _count(len(order), settings.test, 2)
        parts[order[:tested]] = "test"
        parts[order[tested : tested + _count(len(order) - tested, settings.validation, 1)]] = "validation"
    if missing := [part for part in PARTS if part not in set(parts)]:
        counts = rows["label"].value_counts(sort=False).to_dict()
        raise InputError(
            f"too few sequences for the {' and '.join(missing)} part: a label needs 3 to be in all parts, "
            f"found {counts}. Add sequences."
        )
    return [rows.assign(part=parts)]


def _count(total: int, share: float, keep: int) -> int:
    """`share` of `total`, at least one. At least `keep` are left where possible, and at least one always."""
    return min(max(round(share * total), 1), total - keep if total > keep else total - 1)


def _paper(rows: pd.DataFrame, settings: Split) -> list[pd.DataFrame]:
    found = rows["label"].value_counts().to_dict()
    spelled = {label.lower(): label for label in found}
    few = [
        f"{label} {found.get(spelled.get(label, ''), 0)} (needs {training} + {testing})"
        for label, (training, testing) in TABLE_1.items()
        if found.get(spelled.get(label, ""), 0) < training + testing
    ]
    other = sorted(label for name, label in spelled.items() if name not in TABLE_1)
    if few or other:
        raise InputError(
            "the paper's split takes Table 1's sequences of each label."
            + (f" Too few sequences: {', '.join(few)}." if few else "")
            + (f" Labels that Table 1 does not have: {', '.join(other)}." if other else "")
            + " Use --set TASK.split.kind=grouped for any other data."
        )
    random = np.random.default_rng(settings.seed)
    parts = pd.Series("left out", index=rows.index)
    for label, (training, testing) in TABLE_1.items():
        order = random.permutation(rows.index[rows["label"] == spelled[label]])
        parts[order[:testing]] = "test"
        parts[order[testing : testing + training]] = "train"
    rows = rows.assign(part=parts)[parts != "left out"].reset_index(drop=True)
    training = rows[rows["part"] == "train"]
    patients = _hold_out(training, settings.validation, 1, (settings.seed, 1))
    chosen = training.index[training["patient"].isin(patients)]
    if not 0 < len(chosen) < len(training):
        # There is only one patient, so validation sequences are drawn by sequence, as the paper did.
        shuffle = StratifiedShuffleSplit(1, test_size=settings.validation, random_state=settings.seed)
        chosen = training.index[next(shuffle.split(training, training["label"]))[1]]
    rows.loc[chosen, "part"] = "validation"
    return [rows]


def _some(values: Iterable[str], most: int = 10) -> str:
    values = list(values)
    return ", ".join(values[:most]) + (f" and {len(values) - most} more" if len(values) > most else "")
