"""Checks of the quality gate for masks, their scale, gestational ages and the share of the structure in view."""

from collections import Counter

import pandas as pd

from fetalflow.quality.check import Check, between, null
from fetalflow.settings.params import Validate


def mask_checks(s: Validate, size: int) -> list[Check]:
    """size: px of the square that sequences and masks are fitted to."""
    return [
        null(
            "mask_files",
            "sequences",
            "rows",
            "mask_fault",
            f"every mask file exists, is uint8 [frames, {size}, {size}] with values 0 and 1, and did not change since "
            "preprocess wrote it",
            "Run preprocess again (`dvc repro --force preprocess`): a file was lost, changed or copied in part.",
        ),
        between(
            "mask_share",
            "sequences",
            "rows",
            "mask_share",
            s.min_mask_share,
            s.max_mask_share,
            f"the mask covers {s.min_mask_share:.2%} to {s.max_mask_share:.0%} of the image in at least "
            f"{s.min_mostly:.0%} of the sequences",
            "Look at these masks: an empty or completely filled mask is wrong. Correct or clear the column `mask`.",
            mostly=s.min_mostly,
        ),
        null(
            "mask_lines",
            "sequences",
            "rows",
            "line_fault",
            "no mask is an open line one pen wide",
            "Look at these masks: an outline that is not closed is not filled. Deliver it closed or filled.",
            warns=True,
        ),
        null(
            "mask_scale",
            "sequences",
            "rows",
            "unscaled",
            "mm per pixel is known for every mask, in a drop that states lengths",
            "Add the scale (DICOM ultrasound regions, column mm_per_px): without it there are no lengths in mm.",
            warns=True,
        ),
        null(
            "gestational_age",
            "sequences",
            "rows",
            "age_fault",
            "every stated gestational age is a number of weeks such as 20.4",
            "Correct the column `gestational_age`; an age that is not a number is not used.",
            warns=True,
        ),
        null(
            "seen",
            "sequences",
            "rows",
            "seen_fault",
            "every stated share of the structure in view is a number from 0 to 1",
            "Correct the column `seen` (0.8 for 80 %); a wrong value is not used, and the share counts as unknown.",
            warns=True,
        ),
    ]


def mask_changes(rows: pd.DataFrame) -> dict[str, int]:
    """How many masks were used as they were delivered, and how many were changed and how. rows: with `mask_source` and
    `mask_done`."""
    masks = rows.loc[rows["mask_done"].astype(bool), ["mask_source", "mask_done"]].drop_duplicates()
    return dict(sorted(Counter(masks["mask_done"]).items()))
