"""The expectations of the quality gate: what must hold of manifest, sequences and split, and what to do if not."""

from fetalflow.quality.check import Check, between, null, unique
from fetalflow.quality.mask_checks import mask_checks
from fetalflow.settings import Validate
from fetalflow.split import BY_PATIENT, PARTS


def checks(
    settings: Validate, labels: tuple[str, ...] | None, frames: int, size: int, split_kind: str
) -> tuple[Check, ...]:
    """All expectations with the bounds of `settings`. labels: None takes whatever the drop holds."""
    return (
        *_manifest(settings, labels, frames),
        *_sequences(settings, size),
        *mask_checks(settings, size),
        *_split(split_kind),
    )


def _manifest(s: Validate, labels: tuple[str, ...] | None, frames: int) -> list[Check]:
    again = "Run extract and preprocess again; if it stays, report it with the drop's table."
    checks = [
        Check(
            "schema",
            "manifest",
            "columns",
            "ExpectColumnPairValuesToBeEqual",
            {"column_A": "expected", "column_B": "found"},
            "every column of the contract, of its kind",
            again,
        ),
        null(
            "values_given",
            "manifest",
            "rows",
            "empty_values",
            "no empty value where one must be",
            "Fill the empty cells of the drop's table, then run extract again.",
        ),
        unique("unique_ids", "manifest", "rows", "sequence", "every sequence id once", again),
        between(
            "frames_per_sequence",
            "manifest",
            "rows",
            "frames",
            frames,
            frames,
            f"{frames} frames in every sequence",
            again,
        ),
        Check(
            "frame_span",
            "manifest",
            "rows",
            "ExpectColumnPairValuesAToBeGreaterThanB",
            {"column_A": "last_frame", "column_B": "first_frame", "or_equal": True},
            "no sequence ends before it starts",
            again,
        ),
        between(
            "fps",
            "manifest",
            "rows",
            "fps",
            s.min_fps,
            s.max_fps,
            f"{s.min_fps:g} to {s.max_fps:g} frames per second where known",
            "Mend the cine's header or take the cine out; `validate.min_fps` and `max_fps` are the bounds.",
        ),
        between(
            "shorter_side",
            "manifest",
            "rows",
            "shorter_side",
            s.min_pixels,
            None,
            f"a recorded frame of at least {s.min_pixels} px on its shorter side",
            "Ask for the cine at the size it was recorded, or lower `validate.min_pixels`.",
        ),
        between(
            "longer_side",
            "manifest",
            "rows",
            "longer_side",
            None,
            s.max_pixels,
            f"a recorded frame of at most {s.max_pixels} px on its longer side",
            "Take the cine out of the drop, or raise `validate.max_pixels`.",
        ),
        between(
            "mm_per_px",
            "manifest",
            "rows",
            "recorded_mm_per_px",
            s.min_mm_per_px,
            s.max_mm_per_px,
            f"{s.min_mm_per_px:g} to {s.max_mm_per_px:g} mm per recorded pixel where known",
            "Correct the calibration (DICOM ultrasound regions, column mm_per_px): it may be in cm.",
        ),
        *_label_checks(s, labels),
    ]
    return checks


def _label_checks(s: Validate, labels: tuple[str, ...] | None) -> list[Check]:
    spelling = "Correct the spelling in the drop's table, or list the label in `extract.labels`."
    more = "Collect more patients of this label or leave the label out of `extract.labels`;"
    return [
        Check(
            "label_set",
            "manifest",
            "rows",
            "ExpectColumnValuesToBeInSet",
            {"column": "label", "value_set": list(labels)},
            f"labels out of {', '.join(labels)}",
            spelling,
        )
        if labels
        else Check(
            "label_set",
            "manifest",
            "rows",
            "ExpectColumnValuesToMatchRegex",
            {"column": "label", "regex": r"^\S(?:.*\S)?$"},
            "labels without blanks around them",
            spelling,
        ),
        between(
            "class_balance",
            "manifest",
            "classes",
            "ratio",
            None,
            s.max_class_ratio,
            f"the largest class at most {s.max_class_ratio:g} times as large as any other",
            f"{more} `train.class_weights` helps training, `validate.max_class_ratio` is the bound.",
        ),
        between(
            "patients_per_class",
            "manifest",
            "classes",
            "patients",
            s.min_patients_per_class,
            None,
            f"at least {s.min_patients_per_class} patients for every label",
            f"{more} with fewer than 3 patients a label cannot be trained, validated and tested.",
        ),
    ]


def _sequences(s: Validate, size: int) -> list[Check]:
    quality = f"in at least {s.min_mostly:.0%} of the sequences"
    look = "Look at these cines; take out what shows no anatomy, or move the bound in the block `validate`."
    merge = "If it is one patient, give both cines one patient id in the drop's table; else remove the copy."
    z = f"within {s.max_quality_z:g} robust standard deviations of the drop's median {quality}"

    def mostly(name: str, column: str, low: float | None, high: float | None, expected: str) -> Check:
        return between(name, "sequences", "rows", column, low, high, expected, look, mostly=s.min_mostly)

    return [
        null(
            "sequence_files",
            "sequences",
            "rows",
            "file_fault",
            f"every file there, uint8 [frames, {size}, {size}], with the bytes that preprocess wrote",
            "Run preprocess again (`dvc repro --force preprocess`): a file was lost, changed or half copied.",
        ),
        mostly(
            "blank_frames",
            "blank_share",
            None,
            s.max_blank_share,
            f"at most {s.max_blank_share:.0%} blank frames {quality}",
        ),
        mostly(
            "frozen_frames",
            "frozen_share",
            None,
            s.max_frozen_share,
            f"at most {s.max_frozen_share:.0%} repeated frames {quality}",
        ),
        mostly(
            "mean_intensity",
            "mean_intensity",
            s.min_mean_intensity,
            s.max_mean_intensity,
            f"a mean grey level of {s.min_mean_intensity:g} to {s.max_mean_intensity:g} {quality}",
        ),
        Check(
            "intensity_range",
            "sequences",
            "rows",
            "ExpectColumnPairValuesAToBeGreaterThanB",
            {"column_A": "max_intensity", "column_B": "min_intensity", "mostly": s.min_mostly},
            f"more than one grey level {quality}",
            look,
        ),
        mostly("niqe_outliers", "niqe_z", None, s.max_quality_z, f"NIQE {z}"),
        mostly("brisque_outliers", "brisque_z", None, s.max_quality_z, f"BRISQUE {z}"),
        null("duplicate_cines", "sequences", "rows", "duplicate_of", "no cine under two patients (same bytes)", merge),
        null(
            "near_duplicate_cines",
            "sequences",
            "rows",
            "near_duplicate_of",
            f"no picture under two patients (at most {s.near_duplicate_bits} of 64 hash bits differ)",
            merge,
        ),
    ]


def _split(kind: str) -> list[Check]:
    again = "Run split again: it was made for another manifest."
    more = "A label needs at least 3 patients; collect more, try another `split.seed`, or leave the label out."
    return [
        between(
            "split_complete",
            "split",
            "members",
            "times",
            1,
            None,
            "every sequence of the manifest in every fold",
            again,
            warns=kind == "paper",  # it takes as many as Table 1 has
        ),
        between("split_once", "split", "members", "times", None, 1, "no sequence in a fold twice", again),
        Check(
            "split_known",
            "split",
            "members",
            "ExpectColumnValuesToBeInSet",
            {"column": "in_manifest", "value_set": [True]},
            "no sequence that the manifest does not know",
            again,
        ),
        null("split_agrees", "split", "members", "fault", "patients and labels as in the manifest", again),
        Check(
            "split_parts",
            "split",
            "members",
            "ExpectColumnValuesToBeInSet",
            {"column": "part", "value_set": list(PARTS)},
            f"parts out of {', '.join(PARTS)}",
            again,
        ),
        # Splits by sequence share patients by design: the number is reported and stops nothing.
        Check(
            "patient_disjoint",
            "split",
            "patients",
            "ExpectColumnValuesToBeInSet",
            {"column": "parts", "value_set": list(PARTS)},
            "no patient in two parts of a fold",
            "Use `split.kind: grouped`; a patient on both sides makes every test figure too good.",
            kind not in BY_PATIENT,
        ),
        between("labels_trained", "split", "parts", "train", 1, None, "every label trained on in every fold", more),
        between("labels_tested", "split", "parts", "tested", 1, None, "every label tested in some fold", more),
    ]
