"""What a run says, and refuses, when a drop does not name its patients. Each file then counts as a patient."""

import pandas as pd

from fetalflow.errors import InputError
from fetalflow.hospital.drop.columns import ASSUMED
from fetalflow.settings.params import Split


def count_unknown(manifest: pd.DataFrame) -> int:
    """How many sequences of a manifest only assume a patient."""
    return int(manifest[ASSUMED].sum()) if ASSUMED in manifest else 0


def in_words(unknown: int, total: int, what: str) -> str:
    """The warning for `unknown` of `total` rows or sequences (`what`)."""
    return (
        f"the patients are unknown: the drop does not name the patient of {unknown} of {total} {what}, and each of "
        "their files counts as a patient. One woman may be in training and test, and then every metric is too good."
    )


def what_to_do(task: str) -> str:
    return (
        "If the names of the files hold the patient, say where: --patient-pattern 'P(\\d+)', which is --set "
        f"\"{task}.extract.patient_pattern='P(\\d+)'\". Else deliver annotations.csv with a column patient."
    )


def check_known(unknown: int, total: int, what: str, split: Split, task: str = "TASK") -> None:
    """Raises InputError when the split is by patient, some patients are unknown, and the settings do not allow that."""
    if unknown and split.kind == "grouped" and not split.unknown_patients:
        raise InputError(
            f"a split by patient needs to know the patients, but {in_words(unknown, total, what)} {what_to_do(task)} "
            f"To go on without knowing: --set {task}.split.unknown_patients=true, or split by sequence: --set "
            f"{task}.split.kind=random."
        )
