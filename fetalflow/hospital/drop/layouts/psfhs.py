"""PSFHS (Zenodo 10969427) and FH-PS-AOP (Zenodo 7851339) as published: images during birth in `image_mha/`, and in
`label_mha/` a mask of the same name with two classes, 1 the pubic symphysis and 2 the head.

A row has one mask, and it is that of the head. The form is taken from programs that read the sets; the sets themselves
were not at hand.
"""

from pathlib import PurePosixPath

import pandas as pd

from fetalflow.hospital.drop.columns import ASSUMED, COLUMNS, YES
from fetalflow.hospital.drop.layouts.layout import UNKNOWN, Drop, Files, Found
from fetalflow.hospital.drop.plain_names import alike

NAME = "PSFHS"
IMAGES, MASKS = "image_mha", "label_mha"
TABLE = f"{IMAGES}/"
KNOWN_BY = f"{TABLE} (with {MASKS}/ beside it)"
HEAD = "2"


def recognise(files: Files) -> Found | None:
    tops = {alike(top) for top in files.tops(files.cines)}
    return Found(files.folder, f"the folders {IMAGES}/ and {MASKS}/") if {IMAGES, MASKS} <= tops else None


def read(files: Files) -> Drop:
    images, masks = ([n for n in files.cines if _is_in(files, n, folder)] for folder in (IMAGES, MASKS))
    of_stem = {alike(PurePosixPath(name).stem): name for name in masks}
    rows = []
    for image in images:
        mask = of_stem.get(alike(PurePosixPath(image).stem), "")
        own = {
            "video": image,
            "patient": PurePosixPath(image).stem,
            "annotator": NAME,
            "label": "head",
            "mask": mask,
            "mask_class": HEAD if mask else "",
            ASSUMED: YES,
        }
        rows.append(dict.fromkeys(COLUMNS, "") | own | {"where": image, "fault": ""})
    bare = sum(not row["mask"] for row in rows)
    said = ["The heads are seen during birth and only in part, so no circumference can be compared with one of HC18."]
    said += [f"{bare} of {len(rows)} images have no mask of the same name in {MASKS}/."] if bare else []
    reasons = dict.fromkeys(masks, f"it is the mask of an image that {IMAGES}/ does not have")
    return Drop(NAME, pd.DataFrame(rows), UNKNOWN, len(rows), reasons, tuple(said))


def _is_in(files: Files, name: str, folder: str) -> bool:
    return len(files.inner(name)) == 2 and alike(files.inner(name)[0]) == folder
