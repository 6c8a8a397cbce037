"""The expectations of the quality gate on known outlines, their scale and the ages beside them."""

from fetalflow.quality.check import Check, between, null
from fetalflow.settings import Validate


def mask_checks(s: Validate, size: int) -> list[Check]:
    """size: px of the square that sequences and masks are fitted to."""
    return [
        null(
            "mask_files",
            "sequences",
            "rows",
            "mask_fault",
            f"where there is a mask its file there, uint8 [frames, {size}, {size}] of 0 and 1, with the bytes that "
            "preprocess wrote",
            "Run preprocess again (`dvc repro --force preprocess`): a file was lost, changed or half copied.",
        ),
        between(
            "mask_share",
            "sequences",
            "rows",
            "mask_share",
            s.min_mask_share,
            s.max_mask_share,
            f"a mask of {s.min_mask_share:.2%} to {s.max_mask_share:.0%} of the image in at least {s.min_mostly:.0%} "
            "of the sequences",
            "Look at these masks: one that is empty or covers all shows no structure. Mend or empty the column `mask`.",
            mostly=s.min_mostly,
        ),
        null(
            "mask_scale",
            "sequences",
            "rows",
            "unscaled",
            "mm per pixel known wherever a mask is, in a drop that states lengths",
            "State the scale (DICOM ultrasound regions, column mm_per_px): without it nothing is measured in mm.",
            warns=True,
        ),
        null(
            "gestational_age",
            "sequences",
            "rows",
            "age_fault",
            "gestational ages in weeks, as numbers such as 20.4, where they are stated",
            "Mend the column `gestational_age`; an age that is no number is not used.",
            warns=True,
        ),
        null(
            "seen",
            "sequences",
            "rows",
            "seen_fault",
            "shares of the structure in view as numbers from 0 to 1, where they are stated",
            "Mend the column `seen` (0.8 for 80 %); a share that is none is not used, and the view counts as unknown.",
            warns=True,
        ),
    ]
