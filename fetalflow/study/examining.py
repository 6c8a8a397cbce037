"""Examines a study: every file is read once, its planes are found, its structures measured, its movement observed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fetalflow.biometry.structures import LENGTHS
from fetalflow.cine.masked import Masked, decoded
from fetalflow.cine.resampling import clock_of, frame_step
from fetalflow.cine.store import stored_frames
from fetalflow.errors import InputError
from fetalflow.inference.actogram.result import Actogram
from fetalflow.inference.examination.examine import check_request
from fetalflow.inference.package import Package
from fetalflow.inference.streaming.streamer import Streamer
from fetalflow.settings.params import Extract
from fetalflow.study.contents import Found, find_files
from fetalflow.study.fetuses import letter_of, of_one_fetus
from fetalflow.study.joining import join
from fetalflow.study.movement import NO_CINE, movement_in
from fetalflow.study.planes import FramePlanes, planes_of_frames, runs_of_planes, structure_of
from fetalflow.study.result import CINE, STILL, MeasuredFrame, Plane, StudyFile, StudyResult, UsedModel, View
from fetalflow.study.views import Seen, measured_frames, seen_in, seen_whole, view_of

NO_PLANES = (
    "there is no planes model, so the biometry model alone says what a frame shows; it may take another part for head, "
    "abdomen or femur"
)
ANY_FILE = ""  # in `scales`
ONE_SCALE = (
    "{scale:g} mm per pixel was given for {count} files; it is right only if all have the same depth and zoom; a scale "
    "for one file: --mm-per-px FILE=0.2"
)
OURS = "it is a result of fetalflow and not a picture of the examination"


@dataclass(frozen=True)
class Models:
    """The models that answer. planes, movement: None where there is none. used: what the result states of them."""

    biometry: Package
    planes: Package | None = None
    movement: Streamer | None = None
    used: tuple[UsedModel, ...] = ()


@dataclass
class _Gathered:
    """What the files of a study gave so far."""

    files: list[StudyFile] = field(default_factory=list)
    planes: list[Plane] = field(default_factory=list)
    of_frames: list[tuple[str, FramePlanes]] = field(default_factory=list)
    views: list[tuple[str, Seen]] = field(default_factory=list)
    stated: list[View] = field(default_factory=list)
    frames: list[MeasuredFrame] = field(default_factory=list)
    movement: list[Actogram] = field(default_factory=list)
    no_movement: dict[str, str] = field(default_factory=dict)
    scaled: list[str] = field(default_factory=list)  # files whose scale is the one that was given for any file


def examine_study(
    models: Models,
    paths: Sequence[Path],
    scales: Mapping[str, float] | None = None,
    weeks: float | None = None,
    remarks: Sequence[str] = (),
    fetus: str = "",
    on_file: Callable[[int, int], None] = lambda done, total: None,
) -> StudyResult:
    """Examine all files of one study, in any order: stills, cines and sweeps.

    paths: files, or folders that hold them. scales: mm per pixel of the recorded frames by the name of a file, used
    instead of its scale; under ANY_FILE for every file that states none. weeks: gestational age as it is stated.
    remarks: what else the reader of the result must know. fetus: A to D, where the files say which fetus of several
    they show: only those of this one are examined. on_file: gets the number of files that are done, and of all.

    A file that cannot be read is in the result with its reason. Raises InputError when nothing is found or can be read,
    the files are of several patients, studies, days, sites or fetuses, a number is impossible, or a model does not fit.
    """
    _, weeks = check_request(models.biometry, None, None, weeks)
    remarks = [*remarks, *_about_planes(models.planes)]
    found, about_files = find_files(paths)
    kept, about_fetus, mixed = of_one_fetus({each.name: each.fetus for each in found if not each.ours}, fetus)
    found = [each for each in found if each.ours or each.name in kept]
    remarks += [*about_files, *about_fetus]
    scales = _checked(scales or {}, found, models.biometry)
    gathered = _Gathered()
    for done, file in enumerate(found, start=1):
        _examine_file(models, file, scales, weeks, gathered)
        on_file(done, len(found))
    if all(each.not_read for each in gathered.files):
        reasons = "; ".join(f"{each.name}: {each.not_read}" for each in gathered.files)
        raise InputError(f"no file of the study can be examined. {reasons}")
    if not any(each.kind == CINE for each in gathered.files):
        gathered.no_movement[""] = NO_CINE
    if len(gathered.scaled) > 1:
        remarks.append(ONE_SCALE.format(count=len(gathered.scaled), scale=scales[ANY_FILE]))
    together = join(gathered.views, gathered.of_frames, mixed)
    return StudyResult(
        study_instance_uid=next((uid for each in found if (uid := each.uids.get("StudyInstanceUID"))), None),
        weeks=weeks,
        fetus=letter_of(fetus),
        files=tuple(gathered.files),
        planes=tuple(gathered.planes),
        views=tuple(gathered.stated),
        frames=tuple(gathered.frames),
        lengths=together.lengths,
        best=together.best,
        missing=together.missing,
        ages=together.ages,
        weights=together.weights,
        movement=tuple(gathered.movement),
        no_movement=gathered.no_movement,
        models=models.used,
        warnings=(*remarks, *together.warnings),
        fetalflow=version("fetalflow"),
        examinations=together.shown,
    )


def _about_planes(package: Package | None) -> list[str]:
    """What the planes model cannot say. Raises InputError where none of its labels names a structure."""
    if package is None:
        return [NO_PLANES]
    known = {structure_of(label) for label in package.labels}
    if not known & set(LENGTHS):
        raise InputError(
            f"no label of the planes model names a {', '.join(LENGTHS)} in English: {', '.join(package.labels)}. Name "
            "another model (--model planes=PACKAGE), or none (--model planes=none)."
        )
    return [f"the planes model has no label for a {each}, so none is measured" for each in LENGTHS if each not in known]


def _checked(scales: Mapping[str, float], found: Sequence[Found], package: Package) -> dict[str, float]:
    names = {each.name for each in found} | {ANY_FILE}
    if unknown := sorted(set(scales) - names):
        raise InputError(
            f"a scale is given for {', '.join(unknown)}, which is no file of the study. Its files are: "
            f"{', '.join(sorted(names - {ANY_FILE}))}."
        )
    return {name: check_request(package, None, scale, None)[0] for name, scale in scales.items()}


def _given_scale(name: str, record: Mapping[str, Any], scales: Mapping[str, float]) -> float | None:
    states_one = record["mm_per_px"] or record["regions"]
    return scales.get(name) or (None if states_one else scales.get(ANY_FILE))


def _examine_file(
    models: Models, file: Found, scales: Mapping[str, float], weeks: float | None, gathered: _Gathered
) -> None:
    if file.ours:
        gathered.files.append(_not_read(file, OURS))
        return
    settings = Extract.model_validate(models.biometry.config["extract"])
    try:
        with decoded(file.path, settings) as (record, folder):
            cine = _opened(file.name, record, folder, settings)
            mm_per_px = _given_scale(file.name, record, scales)
            if mm_per_px and file.name not in scales:
                gathered.scaled.append(file.name)
            planes = None if models.planes is None else planes_of_frames(models.planes, cine)
            if planes is None:
                whole = seen_whole(cine, models.biometry, mm_per_px, weeks)
                seen = [whole] if whole.structure else []
            else:
                seen = list(seen_in(cine, planes, models.biometry, mm_per_px, weeks))
            moves = movement_in(file.name, cine.frames, record, models.movement, mm_per_px)
    except InputError as error:
        gathered.files.append(_not_read(file, str(error).replace(str(file.path), file.name)))
        return
    gathered.files.append(_read(file, record, seen, mm_per_px))
    for each in seen:
        gathered.stated.append(view_of(file.name, each))
        gathered.frames += measured_frames(file.name, file.uids.get("SOPInstanceUID"), each)
        gathered.views.append((file.name, each.small))
    if planes is not None:
        gathered.of_frames.append((file.name, planes))
        gathered.planes += runs_of_planes(file.name, planes)
    else:
        gathered.planes.append(_by_biometry(file.name, whole))
    if record["frames"] == 1:
        return
    if isinstance(moves, Actogram):
        gathered.movement.append(moves)
    else:
        gathered.no_movement[file.name] = moves


def _opened(name: str, record: dict[str, Any], folder: Path, settings: Extract) -> Masked:
    """As `cine.masked.open_masked` does; here the record is needed too, for the movement."""
    step = frame_step(record["fps"], settings.fps, settings.every)
    clock = clock_of(record["times"], record["fps"], settings.fps)
    about = tuple(record["regions"]), tuple(record["remarks"])
    return Masked(name, stored_frames(record, folder), record["cuts"], step, record["mm_per_px"], clock, *about)


def _read(file: Found, record: dict[str, Any], views: Sequence[Seen], mm_per_px: float | None) -> StudyFile:
    scales = (mm_per_px, *(each.found.mm_per_px for each in views), record["mm_per_px"])
    return replace(
        _not_read(file, ""),
        kind=STILL if record["frames"] == 1 else CINE,
        frames=record["frames"],
        height=record["height"],
        width=record["width"],
        recorded=tuple(record["recorded"]) if record.get("recorded") else (record["height"], record["width"]),
        fps=record["fps"],
        mm_per_px=next(filter(None, scales), None),
    )


def _not_read(file: Found, reason: str) -> StudyFile:
    uids = [file.uids.get(each) for each in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")]
    return StudyFile(file.name, file.path, file.sha256, None, 0, 0, 0, (0, 0), None, None, *uids, not_read=reason)


def _by_biometry(name: str, seen: Seen) -> Plane:
    found = seen.found
    return Plane(
        file=name,
        first_frame=min(found.frames),
        last_frame=max(found.frames),
        label=found.label,
        structure=seen.structure or None,
        probability=found.probabilities[found.label],
        unfamiliarity=found.unfamiliarity,
        unfamiliar=found.unfamiliar,
    )
