"""The checks of the quality gate for manifest, sequences and split, and what to do if one fails."""

from fetalflow.quality.check import Check, between, null, unique
from fetalflow.quality.mask_checks import mask_checks
from fetalflow.quality.patient_and_label_checks import label_checks, patient_checks
from fetalflow.sequences.split import BY_PATIENT, PARTS
from fetalflow.settings.params import Validate


def checks(
    settings: Validate, labels: tuple[str, ...] | None, frames: int, size: int, split_kind: str
) -> tuple[Check, ...]:
    """All checks with the limits of `settings`. labels: None allows every label of the drop."""
    return (
        *_manifest(settings, labels, frames),
        *_sequences(settings, size),
        *mask_checks(settings, size),
        *_split(split_kind),
    )


def _manifest(s: Validate, labels: tuple[str, ...] | None, frames: int) -> list[Check]:
    again = "Run extract and preprocess again; if the check still fails, report it with the drop's table."
    checks = [
        Check(
            "schema",
            "manifest",
            "columns",
            "ExpectColumnPairValuesToBeEqual",
            {"column_A": "expected", "column_B": "found"},
            "every column of the manifest exists and has its type",
            again,
        ),
        null(
            "values_given",
            "manifest",
            "rows",
            "empty_values",
            "no required value is empty",
            "Fill the empty cells of the drop's table, then run extract again.",
        ),
        unique("unique_ids", "manifest", "rows", "sequence", "every sequence id occurs once", again),
        between(
            "frames_per_sequence",
            "manifest",
            "rows",
            "frames",
            frames,
            frames,
            f"every sequence has {frames} frames",
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
            f"{s.min_fps:g} to {s.max_fps:g} frames per second, where the rate is known",
            "Correct the cine's header or remove the cine; --set TASK.validate.min_fps=N and max_fps=N are the limits.",
        ),
        between(
            "shorter_side",
            "manifest",
            "rows",
            "shorter_side",
            s.min_pixels,
            None,
            f"the shorter side of the recorded frame has at least {s.min_pixels} px",
            "Request the cine in its original size, or allow less: --set TASK.validate.min_pixels=N.",
        ),
        between(
            "longer_side",
            "manifest",
            "rows",
            "longer_side",
            None,
            s.max_pixels,
            f"the longer side of the recorded frame has at most {s.max_pixels} px",
            "Remove the cine from the drop, or allow more: --set TASK.validate.max_pixels=N.",
        ),
        between(
            "mm_per_px",
            "manifest",
            "rows",
            "recorded_mm_per_px",
            s.min_mm_per_px,
            s.max_mm_per_px,
            f"{s.min_mm_per_px:g} to {s.max_mm_per_px:g} mm per recorded pixel, where the scale is known",
            "Correct the calibration (DICOM ultrasound regions, column mm_per_px): it may be in cm.",
        ),
        *label_checks(s, labels),
        *patient_checks(s),
    ]
    return checks


def _sequences(s: Validate, size: int) -> list[Check]:
    quality = f"in at least {s.min_mostly:.0%} of the sequences"
    look = "Look at these cines; remove those without anatomy, or change the limit in the block `validate`."
    merge = "If it is one patient, give both cines the same patient id in the drop's table; else remove the copy."
    z = f"is within {s.max_quality_z:g} robust standard deviations of the drop's median {quality}"

    def mostly(name: str, column: str, low: float | None, high: float | None, expected: str) -> Check:
        return between(name, "sequences", "rows", column, low, high, expected, look, mostly=s.min_mostly)

    return [
        null(
            "sequence_files",
            "sequences",
            "rows",
            "file_fault",
            f"every file exists, is uint8 [frames, {size}, {size}], and did not change since preprocess wrote it",
            "Run preprocess again (`dvc repro --force preprocess`): a file was lost, changed or copied in part.",
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
        null(
            "duplicate_cines",
            "sequences",
            "rows",
            "duplicate_of",
            "no two patients have a cine with the same bytes",
            merge,
            failing="have the same bytes as a cine of another patient",
        ),
        null(
            "near_duplicate_cines",
            "sequences",
            "rows",
            "near_duplicate_of",
            f"no two patients have nearly the same picture (at most {s.near_duplicate_bits} of 64 hash bits differ)",
            merge,
            failing="look like a sequence of another patient",
        ),
    ]


def _split(kind: str) -> list[Check]:
    again = "Run split again: the split was made for another manifest."
    more = "A label needs at least 3 patients: collect more, try --set TASK.split.seed=N, or leave the label out."
    return [
        between(
            "split_complete",
            "split",
            "members",
            "times",
            1,
            None,
            "every fold has every sequence of the manifest",
            again,
            warns=kind == "paper",  # it takes only as many as Table 1
        ),
        between("split_once", "split", "members", "times", None, 1, "no fold has a sequence twice", again),
        Check(
            "split_known",
            "split",
            "members",
            "ExpectColumnValuesToBeInSet",
            {"column": "in_manifest", "value_set": [True]},
            "every sequence is in the manifest",
            again,
        ),
        null("split_agrees", "split", "members", "fault", "patients and labels are those of the manifest", again),
        Check(
            "split_parts",
            "split",
            "members",
            "ExpectColumnValuesToBeInSet",
            {"column": "part", "value_set": list(PARTS)},
            f"every part is one of {', '.join(PARTS)}",
            again,
        ),
        # Splits by sequence share patients by design, so this is only a warning for them.
        Check(
            "patient_disjoint",
            "split",
            "patients",
            "ExpectColumnValuesToBeInSet",
            {"column": "parts", "value_set": list(PARTS)},
            "no patient is in two parts of a fold",
            "Use `split.kind: grouped`: patients in both training and test make every test metric too good.",
            warns=kind not in BY_PATIENT,
            failing="are in two parts of a fold",
        ),
        between(
            "labels_trained",
            "split",
            "parts",
            "train",
            1,
            None,
            "every label is in the training part of every fold",
            more,
        ),
        between(
            "labels_tested",
            "split",
            "parts",
            "tested",
            1,
            None,
            "every label is in the test part of at least one fold",
            more,
        ),
    ]
