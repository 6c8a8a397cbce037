"""Checks of the quality gate for patients, and for labels and how many patients have each."""

from fetalflow.quality.check import Check, between
from fetalflow.settings.params import Validate


def patient_checks(s: Validate) -> list[Check]:
    """Warnings: a drop may be of one cine per patient, and who splits with unknown patients was asked before."""
    return [
        between(
            "patients_known",
            "manifest",
            "people",
            "unknown",
            None,
            0,
            "the drop names the patient of every sequence",
            "Say where the names of the files hold the patient (--patient-pattern), or deliver a table with patients: "
            "every file counts as a patient now, one woman may be in training and test, and metrics are too good.",
            warns=True,
        ),
        between(
            "patients_per_cine",
            "manifest",
            "people",
            "per_cine",
            None,
            s.max_patients_per_cine,
            f"at most {s.max_patients_per_cine:g} patients per cine, because most patients have several",
            "Look at the ids of the patients: are they ids of examinations or files? Then one woman may be in training "
            "and test. If there is one cine of each patient, all is well.",
            warns=True,
        ),
    ]


def label_checks(s: Validate, labels: tuple[str, ...] | None) -> list[Check]:
    spelling = "Correct the spelling in the drop's table, or list all labels: --set TASK.extract.labels=[A,B]."
    more = "Collect more patients with this label, or leave it out of --set TASK.extract.labels=[A,B];"
    return [
        Check(
            "label_set",
            "manifest",
            "rows",
            "ExpectColumnValuesToBeInSet",
            {"column": "label", "value_set": list(labels)},
            f"every label is one of {', '.join(labels)}",
            spelling,
        )
        if labels
        else Check(
            "label_set",
            "manifest",
            "rows",
            "ExpectColumnValuesToMatchRegex",
            {"column": "label", "regex": r"^\S(?:.*\S)?$"},
            "no label begins or ends with a space",
            spelling,
        ),
        between(
            "class_balance",
            "manifest",
            "classes",
            "ratio",
            None,
            s.max_class_ratio,
            f"the largest class is at most {s.max_class_ratio:g} times as large as any other",
            f"{more} --set TASK.train.class_weights=true helps training, TASK.validate.max_class_ratio is the limit.",
        ),
        between(
            "patients_per_class",
            "manifest",
            "classes",
            "patients",
            s.min_patients_per_class,
            None,
            f"at least {s.min_patients_per_class} patients for every label",
            f"{more} a label with fewer than 3 patients cannot be in all three parts.",
        ),
    ]
