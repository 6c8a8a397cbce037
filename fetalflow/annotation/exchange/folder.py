"""A folder that another labelling program opens: the file of the format, and the cines and frames that it names."""

import io
import json
import zipfile
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path, PurePosixPath

import av
import cv2
import numpy as np

from fetalflow.annotation.exchange import coco, cvat, label_studio
from fetalflow.annotation.exchange.marked import RATE, Facts, MarkedCine, even
from fetalflow.artefacts import atomic_file, write_text
from fetalflow.errors import InputError

FORMATS = {
    "label-studio": "Label Studio: tasks of cines and tasks of frames, with annotations and predictions",
    "cvat": "CVAT for video 1.1: one XML file for each cine and annotator",
    "coco": "COCO: annotations.json, for outlines, masks and lengths",
}
CVAT_LABELS = "labels.json"
LARGEST = 512 * 2**20  # bytes that are unpacked of a zip
Address = Callable[[str, int | None], str]


def address(source: str, frame: int | None) -> str:
    """The name of a cine, or of one of its frames, in the folder."""
    return f"cines/{source}.mp4" if frame is None else f"frames/{source}-{frame:06d}.png"


def studio_address(source: str, frame: int | None) -> str:
    """The same below the folder that Label Studio serves as local files."""
    return f"/data/local-files/?d={address(source, frame)}"


def texts(
    form: str, marked: Sequence[MarkedCine], labels: Iterable[str], unmarked: Iterable[Facts] = ()
) -> tuple[dict[str, str], list[str]]:
    """The files of a format by their names in the folder, and sentences about what the format cannot say. unmarked:
    cines without marks that people are to label in Label Studio."""
    if form == "label-studio":
        tasks = label_studio.tasks_of(marked, studio_address, unmarked)
        files = {}
        for kind, text in label_studio.configurations(labels).items():  # a project of Label Studio has one
            if of_kind := [task for task in tasks if kind in task["data"]]:
                files[f"{kind}-tasks.json"] = json.dumps(of_kind, indent=1)
                files[f"{kind}-configuration.xml"] = text
        return files, []
    if form == "cvat":
        files = {f"{each.cine.source}-{_name(each)}.xml": cvat.write(each) for each in marked}
        return files | {CVAT_LABELS: cvat.labels(labels)}, []
    if form == "coco":
        text, said = coco.write(marked, address)
        return {"annotations.json": text}, said
    raise InputError(f"the format {form!r} is unknown; there are: {', '.join(FORMATS)}.")


def texts_in(content: bytes, form: str) -> list[str]:
    """The texts of an exported file: of the file itself, or, of a zip, of each file in it that the format has. Raises
    InputError where there is none."""
    if not content.startswith(b"PK"):
        return [_decoded(content)]
    ending = ".xml" if form == "cvat" else ".json"
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            found = [
                each
                for each in archive.infolist()
                if each.filename.lower().endswith(ending) and PurePosixPath(each.filename).name != CVAT_LABELS
            ]
            if sum(each.file_size for each in found) > LARGEST:
                raise InputError(
                    f"the zip holds more than {LARGEST // 2**20} MB of {ending} files. Give fewer of them."
                )
            texts = [_decoded(archive.read(each)) for each in found]
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError) as error:
        raise InputError(f"the zip cannot be read ({error}). Unpack it, and give the exported file.") from None
    if not texts:
        raise InputError(f"the zip holds no {ending} file. Give the exported file, or choose its format.")
    return texts


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(
            "the file is no text in UTF-8. Give the exported JSON or XML file, or the zip with it."
        ) from None


def read(form: str, text: str, cines: dict[str, Facts], annotator: str = "") -> list[MarkedCine]:
    """The marks in a file of a format. annotator: whose they are where the file does not say, or "".

    Raises InputError for an unknown format and for what `read` of the format refuses.
    """
    if form == "label-studio":
        return label_studio.read(text, cines)
    if form == "cvat":
        return [cvat.read(text, cines)]
    if form == "coco":
        return coco.read(text, cines, annotator or "coco")
    raise InputError(f"the format {form!r} is unknown; there are: {', '.join(FORMATS)}.")


def write_folder(
    folder: Path,
    form: str,
    marked: Sequence[MarkedCine],
    labels: Iterable[str],
    frames_of: Callable[[str], np.ndarray],
    unmarked: Sequence[Facts] = (),
) -> list[str]:
    """Write the files, and the pictures that they name, into an empty or new folder; returns sentences for a person.

    unmarked: as of `texts`; their cines are written for every format but COCO. frames_of: the stored frames of a cine
    by source, uint8 [T, H, W]. Raises InputError if the folder holds something.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there already and is not empty. Name a new folder.")
    files, said = texts(form, marked, labels, unmarked)
    cines = {cine.source: cine for cine in (*(each.cine for each in marked), *(unmarked if form != "coco" else ()))}
    drawn: dict[str, set[int]] = {source: {0} if cine.frames == 1 else set() for source, cine in cines.items()}
    for each in marked if form != "cvat" else ():
        on_video = ("span",) if form == "coco" else ("span", "box")
        drawn[each.cine.source] |= {mark.first_frame for mark in each.marks if mark.kind not in on_video}
    for source, cine in cines.items():
        frames = frames_of(source)
        if form != "coco" and cine.frames > 1:
            write_cine(folder / address(source, None), frames, cine.fps or RATE)
        for frame in sorted(drawn[source]):
            path = folder / address(source, frame)
            path.parent.mkdir(parents=True, exist_ok=True)
            if not cv2.imwrite(str(path), frames[frame]):
                raise InputError(f"{path} could not be written. Is the disk full?")
    for name, text in files.items():
        write_text(folder / name, text)
    return said


def write_cine(path: Path, frames: np.ndarray, fps: float) -> None:
    """Frames uint8 [T, H, W] as H.264, which browsers play; an odd last row or column is repeated once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = map(even, frames.shape[1:])
    with atomic_file(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(10_000), options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            whole = np.pad(frame, ((0, height - frame.shape[0]), (0, width - frame.shape[1])), mode="edge")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(whole, format="gray")))
        container.mux(stream.encode())


def _name(marked: MarkedCine) -> str:
    """The annotator in a file's name."""
    return "".join(each if each.isalnum() or each in "._-@" else "-" for each in marked.annotator)
