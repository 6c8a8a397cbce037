"""A folder per class, and no table: `CLASS/PATIENT/file` or `CLASS/file`, also in `train/`, `valid/` and `test/`.

What is not such a tree is refused with what was seen, because any tree of folders looks like one at first: one of
pictures and masks, of hospitals or countries, or of several deliveries.
"""

import re
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path, PurePosixPath

import pandas as pd
from joblib import Parallel, delayed

from fetalflow.cine.recording import Limits
from fetalflow.cine.still import over_black, read_pixels
from fetalflow.errors import InputError, Rejected
from fetalflow.hospital.drop.columns import ASSUMED, COLUMNS, YES
from fetalflow.hospital.drop.layouts.layout import UNKNOWN, Drop, Files, Found
from fetalflow.hospital.drop.layouts.places import COUNTRIES
from fetalflow.hospital.drop.plain_names import alike

NAME = "a folder per class"
TABLE = ""
KNOWN_BY = "tree of at least two folders named by class with images or cines in them and none outside of them"
SPLITS = {"train": "train", "val": "validation", "test": "test"}  # by how the folder's name begins
SPLIT = re.compile(r"(?:\d+[ ._-]+)?(train|val|test)(ing|id|idation)?([ _-]?(set|data|images?|split))?")
NO_CLASS = re.compile(  # names of folders that say what kind of file lies in them, or where it is from
    r"(images?([ _-]mha)?|labels?[ _-]mha|"
    r"imgs?|pictures?|frames?|videos?|cines?|dicoms?|masks?|labels?|annotations?|annos?|segmentations?|"
    r"outlines?|contours?|ground[ _-]?truths?|gt|boxes|bboxes|xmls?|jsons?)"
    r"|(site|hospital|clinic|cent(er|re)|country|region|device|scanner|machine|operator|vendor)s?([ _-]?\w{1,3})?"
    r"|(north|south|east|west)(ern|[ _-]?(east|west))?|central|centre|city|rural|urban"
)
LABEL = re.compile(  # words that names of classes have; folders of sites have none of them
    r"head|brain|abdom|femur|thorax|chest|heart|cervix|hand|arm|leg|foot|body|face|lip|nose|spine|profile|kidney|cord|"
    r"placenta|uterus|ovar|lung|liver|breast|thyroid|bladder|plane|view|label|class|type|grade|stage|birads|other|rest|"
    r"background|none|normal|regular|healthy|benign|malign|disease|path|covid|pneumonia|viral|movement|positive|negative|"
    r"good|bad|optimal|[abfh]c\b|bpd|ofd|crl|\bfl\b|\bnt\b"
)
PATIENTS = re.compile(  # names of folders that say whose or which examination the files are
    r"(patients?|pat|pid|subjects?|subj?|cases?|volunteers?|persons?|wom[ae]n|mothers?|fetus|study|studies|exams?|visits?|"
    r"series|recordings?|id)[ _.-]*\d+|[a-z]{0,3}[ _-]?\d{3,}|(?:19|20)\d\d([-_.])\d\d\2\d\d|\d+(?:\.\d+){3,}"
)
WORDS = "mask|annotation|seg|segmentation|outline|contour|gt"
OUTLINE = re.compile(rf"(.+?)[ _.-]?({WORDS})([ _-]?\d+)?", re.IGNORECASE)
OUTLINE_FIRST = re.compile(rf"({WORDS})[ _.-]?(.+)", re.IGNORECASE)
MARKS = "overlay|annotated|marked|labell?ed|calipers?|vis|viz|preview|thumb|thumbnail"
MARKED = re.compile(rf"(.+?)[ _.-]({MARKS})", re.IGNORECASE)
# Names of FETAL_PLANES_DB: Patient00012_Plane3_1_of_2.png. No other beginning of a name is taken for a patient.
PATIENT = re.compile(r"(Patient\d{5,})_")
DEPTH = 3  # CLASS/PATIENT/file


def recognise(files: Files) -> Found | None:
    parts = {name: files.inner(name) for name in files.cines}
    tops = {p[0] for p in parts.values()}
    if len(tops) < 2 or any(len(p) == 1 for p in parts.values()):
        return None
    splits = [top for top in tops if split_of(top)]
    if splits:
        how = f"the folders {', '.join(sorted(tops))}, with a folder per class in each"
    else:
        how = f"{len(tops)} folders that hold all of the cines: {_some(tops)}"
    return Found(files.folder, how)


def split_of(folder: str) -> str | None:
    """train, validation or test, if a folder's name states one."""
    found = SPLIT.fullmatch(alike(folder))
    return SPLITS[found[1]] if found else None


def read(files: Files) -> Drop:
    """A file of which no patient is known counts as a patient of its own, and in `patients_assumed`.

    Raises InputError when the folders are not classes, or nobody can say what they are.
    """
    place = {name: files.inner(name) for name in files.cines}
    place, part, unlabelled = _without_splits(files, place)
    outlines, spare = _outlines(place)
    place = {name: parts for name, parts in place.items() if name not in outlines.values() and name not in spare}
    _check_levels(files, place)
    rows = []
    for name, parts in place.items():
        found = PATIENT.match(parts[-1])
        patient = parts[1] if len(parts) == DEPTH else found[1] if found else ""
        own = {
            "video": name,
            "patient": patient or name.removeprefix(files.folder).removesuffix(PurePosixPath(name).suffix),
            "annotator": "folder",
            "label": parts[0],
            ASSUMED: "" if patient else YES,
        }
        further = {"mask": outlines.get(name, "")} if outlines else {}
        further |= {"part": part[name]} if part else {}
        rows.append(dict.fromkeys(COLUMNS, "") | own | further | {"where": name, "fault": ""})
    assumed = sum(row[ASSUMED] == YES for row in rows)
    folders, named = sum(len(p) == DEPTH for p in place.values()), len(rows)
    sources = {
        f"the folders below the classes ({folders} files)": folders,
        f"the names PatientNNNNN_ of {named - folders - assumed} files": named - folders - assumed,
        f"{UNKNOWN}: {assumed} files count as a patient each": assumed,
    }
    return Drop(
        NAME,
        pd.DataFrame(rows),
        "; ".join(words for words, count in sources.items() if count),
        assumed,
        unlabelled | spare,
        _said_of_folders(place),
    )


Places = dict[str, tuple[str, ...]]  # the folders and the name of a file, by its path


def _without_splits(files: Files, place: Places) -> tuple[Places, dict[str, str], dict[str, str]]:
    """`place` without the level of train, valid and test, the stated part of each file, and why some of `test` are not
    used."""
    for level in (0, 1):
        stated = {name: split_of(p[level]) if len(p) > level + 1 else None for name, p in place.items()}
        if not any(stated.values()):
            continue
        if others := sorted({place[name][level] for name, part in stated.items() if not part}):
            raise InputError(
                f"{files.title}: some folders state a split "
                f"({_some({place[n][level] for n, s in stated.items() if s})}), others do not ({_some(others)}), so it "
                "is not known which folders are classes. Lay them out as SPLIT/CLASS/file, or as CLASS/file."
            )
        shorter = {name: (*p[:level], *p[level + 1 :]) for name, p in place.items()}
        flat = {name for name, p in shorter.items() if len(p) == 1 and stated[name] == "test"}
        why = dict.fromkeys(flat, "it lies in test/ and in no class's folder: it has no label, and is one to answer")
        kept = {name: p for name, p in shorter.items() if name not in flat}
        return kept, {name: stated[name] or "" for name in kept}, why
    return place, {}, {}


def _outlines(place: Places) -> tuple[dict[str, str], dict[str, str]]:
    """The outline of each image that has one beside it (`x_mask.png` beside `x.png`), and why others are not used."""
    stems = {str(PurePosixPath(name).with_suffix("")): name for name in place}
    found: dict[str, list[str]] = defaultdict(list)
    spare = {}
    for name in place:
        path = PurePosixPath(name)
        if (marked := MARKED.fullmatch(path.stem)) and (image := stems.get(str(path.with_name(marked[1])))):
            spare[name] = f"it is named like a copy of {image} with marks, which lies beside it"
            continue
        matched, first = OUTLINE.fullmatch(path.stem), OUTLINE_FIRST.fullmatch(path.stem)
        images = [stems.get(str(path.with_name(stem))) for stem in (matched and matched[1], first and first[2]) if stem]
        if image := next(filter(None, images), None):
            found[image].append(name)
        elif matched and re.fullmatch(
            r".+[ _.-](mask|annotation|segmentation|outline|contour)s?", path.stem, re.IGNORECASE
        ):
            spare[name] = "it is named like an outline, and the image that it belongs to is not beside it"
    for image in [image for image, masks in found.items() if len(masks) > 1]:
        masks = found.pop(image)
        spare |= dict.fromkeys(masks, f"{image} has {len(masks)} outlines, and a row has one: make one of them")
    return {image: masks[0] for image, masks in found.items()}, spare


def _check_levels(files: Files, place: Places) -> None:
    where = files.title
    remedy = "Lay the files out as CLASS/PATIENT/file or CLASS/file, or name labels and patients in annotations.csv."
    if not place:
        raise InputError(f"{where}: there is no cine in the folder of a class. {remedy}")
    for name, parts in place.items():
        if not 1 < len(parts) <= DEPTH:
            raise InputError(
                f"{where}: {name} lies {len(parts) - 1} folders deep; expected 1 (CLASS) or 2 (CLASS/PATIENT). It is "
                f"not known which of these folders is the class and which the patient. {remedy}"
            )
    for level in (0, 1):
        folders = {p[level] for p in place.values() if len(p) > level + 1}
        if other := sorted(folder for folder in folders if _is_no_class(folder)):
            raise InputError(
                f"{where}: the folders {_some(folders)} are not {('classes', 'patients')[level]}: {other[0]} says "
                f"where or what kind the files are. {remedy}"
            )
    tops = {p[0] for p in place.values()}
    below = {p[1] for p in place.values() if len(p) == DEPTH}
    if all(PATIENTS.fullmatch(alike(top)) for top in tops):
        raise InputError(
            f"{where}: the folders {_some(tops)} are named like patients or examinations, not like classes. {remedy}"
        )
    is_named_by_class = below and all(_is_label(f) and not any(c.isdigit() for c in f) for f in below)
    if is_named_by_class and not any(map(_is_label, tops)):
        raise InputError(
            f"{where}: the folders {_some(below)} are named like classes, but lie below {_some(tops)}, which may be "
            f"parts of a split, sites or patients. {remedy}"
        )
    if len(labels := {alike(p[0]) for p in place.values()}) < 2:
        raise InputError(f"{where}: all files are of one class, {min(labels)}. {remedy}")


def _is_no_class(folder: str) -> bool:
    return bool(NO_CLASS.fullmatch(alike(folder))) or alike(folder) in COUNTRIES or split_of(folder) is not None


def _said_of_folders(place: Places) -> tuple[str, ...]:
    """Warnings where the folders may be something else than classes, and those below them than patients."""
    folders = {p[1] for p in place.values() if len(p) == DEPTH}
    plain = [folder for folder in folders if not any(c.isdigit() for c in folder)]
    said = []
    if plain:
        said.append(
            f"The folders below the classes count as patients: {_some(plain)}. If they are kinds of the class, take "
            "this level out or use annotations.csv."
        )
    below = defaultdict(set)
    for parts in place.values():
        below[parts[0]].add(alike(parts[1]) if len(parts) == DEPTH else "")
    if (
        len(folders) > 1
        and len({frozenset(names) for names in below.values()}) == 1
        and not any(_is_label(c) for c in below)
    ):
        said.append(
            f"The folders {_some(below)} count as classes, and all of them hold the same patients: {_some(folders)}. "
            "If they are sites, the patients are different women: name site, patient and label in annotations.csv."
        )
    return tuple(said)


def _is_label(folder: str) -> bool:
    return LABEL.search(alike(folder).replace("_", " ")) is not None


def check_files(root: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of `read` without the outlines of a class in which every outline is black: nothing is labelled there, as
    in the class `normal` of a set of tumours. One black outline among others stays, and is found to be empty."""
    if "mask" not in rows:
        return rows
    named = [row for row in rows.to_dict("records") if row["mask"]]
    black = Parallel(n_jobs=-1, prefer="threads")(delayed(_is_black)(root / row["mask"]) for row in named)
    drawn = {row["label"] for row, nothing in zip(named, black, strict=True) if not nothing}
    return rows.assign(mask=rows["mask"].where(rows["label"].isin(drawn), ""))


def _is_black(outline: Path) -> bool:
    try:
        pixels = read_pixels(outline, Limits())
        return not (pixels if pixels.ndim == 2 else over_black(pixels)).any()
    except (Rejected, OSError):
        return False


def _some(names: Collection[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
