"""What is measured in one file of a study: a view for each structure that its frames show."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from fetalflow.biometry.outline import HALF, Spacing, largest_component, outline_mm
from fetalflow.biometry.structures import LENGTHS
from fetalflow.cine.masked import Masked
from fetalflow.errors import InputError
from fetalflow.evaluation.equal_labels import labels_equally_likely
from fetalflow.inference.examination.examine import MOST_CLIPS, UNSURE, examine_opened
from fetalflow.inference.examination.result import Examination
from fetalflow.inference.examination.run_length import run_lengths
from fetalflow.inference.examination.tiling import evenly
from fetalflow.inference.package import Package
from fetalflow.study.planes import FramePlanes
from fetalflow.study.result import FrameLength, MeasuredFrame, View

FEWEST, LEAST = 3, 0.03  # frames, and share of a cine, that must show a structure: fewer are an error of the model
CONFIRMED = (
    "{strange} of {named} frames are unlike the training data of the planes model; the biometry model knows them and "
    "names the same structure"
)
NO_MM = "its scale is not known, so its lengths are in pixels and not used; state it: --mm-per-px 0.2"


@dataclass(frozen=True)
class Seen:
    """One structure in one file. reasons: why its lengths do not count for the study; empty where they count."""

    found: Examination
    structure: str
    reasons: tuple[str, ...]

    @property
    def used(self) -> bool:
        return not self.reasons

    @property
    def small(self) -> "Seen":
        """The same with the mask of the shown frame alone: those of a long cine need much memory."""
        found, shown = self.found, self.found.shown
        one = {"frames": (found.frames[shown],), "measured": (found.measured[shown],), "shown": 0}
        return replace(self, found=replace(found, answers=np.array(found.answers[shown : shown + 1]), **one))


def seen_whole(cine: Masked, package: Package, mm_per_px: float | None, weeks: float | None) -> Seen:
    """The whole cine without a planes model: the label of `package` says which structure it shows, "" for none.

    Raises InputError where `package` gives no label.
    """
    found = examine_opened(package, cine, mm_per_px, weeks)
    if _has_no_label(found):
        raise InputError("the biometry model gives no label, so a planes model is needed to say what a frame shows.")
    structure = found.structure or ""
    return Seen(found, structure, tuple(_not_used(found, structure)))


def seen_in(
    cine: Masked, planes: FramePlanes, package: Package, mm_per_px: float | None, weeks: float | None
) -> Iterator[Seen]:
    """A view for each structure whose plane the frames show.

    The biometry model is a second judge: frames that are unlike the training data of the planes model are measured
    where it knows them and calls them the same structure, and the planes model is more sure of it than not. Two
    networks rarely make the same mistake.
    """
    for structure in LENGTHS:
        named = planes.named(structure)
        if not _are_enough(named):
            continue
        seen = _seen(cine, named, package, mm_per_px, weeks, structure)
        strange = named & ~planes.shows(structure)
        # Without this, of a sweep whose middle is called something else the ends were measured, a quarter too short.
        sure = planes.share(structure)[named].mean() >= UNSURE
        if strange.any() and not (sure and _confirms(seen.found, structure)):
            if not _are_enough(known := planes.shows(structure)):
                continue
            seen, strange = _seen(cine, known, package, mm_per_px, weeks, structure), np.zeros_like(strange)
        remark = CONFIRMED.format(strange=strange.sum(), named=named.sum())
        found = replace(seen.found, warnings=(*seen.found.warnings, *([remark] if strange.any() else [])))
        yield replace(seen, found=found)


def _are_enough(shown: np.ndarray) -> bool:
    return bool(shown.sum() >= min(max(FEWEST, LEAST * len(shown)), len(shown)))


def _seen(
    cine: Masked, shown: np.ndarray, package: Package, mm_per_px: float | None, weeks: float | None, structure: str
) -> Seen:
    """What is measured in some frames, bool [T], of one structure."""
    chosen = np.flatnonzero(shown)
    kept = _spread(chosen, package.frames)
    found = examine_opened(package, _only(cine, kept), mm_per_px, weeks, structure)
    left_out = f"{len(chosen) - len(kept)} of {len(chosen)} frames of the plane were left out, spread over the cine"
    found = replace(
        found,
        frames=tuple(kept[list(found.frames)].tolist()),
        used=tuple(kept[list(found.used)].tolist()),
        warnings=(*found.warnings, *([left_out] if len(kept) < len(chosen) else [])),
    )
    return Seen(found, structure, tuple(_not_used(found, structure)))


def _confirms(found: Examination, structure: str) -> bool:
    """Whether the biometry model knows what it sees and calls it this structure."""
    return found.unfamiliar is False and not _has_no_label(found) and _agrees(found, structure)


def _spread(chosen: np.ndarray, n: int) -> np.ndarray:
    """Of more frames than `examine` looks at, blocks of `n` that are evenly spread; so few are copied into memory."""
    blocks = [chosen[first : first + n] for first in range(0, len(chosen), n)]
    return np.concatenate(evenly(blocks, MOST_CLIPS))


def _only(cine: Masked, chosen: np.ndarray) -> Masked:
    """Some frames of a cine. Where frames between them are missing, there is a cut, because no clip may cross it."""
    if len(chosen) == len(cine.frames):
        return cine
    begins = np.diff(chosen) > 1
    begins |= np.searchsorted(cine.cuts, chosen[1:], side="right") > np.searchsorted(cine.cuts, chosen[:-1], "right")
    clock = None if cine.clock is None else cine.clock[chosen]
    return replace(cine, frames=cine.frames[chosen], cuts=(np.flatnonzero(begins) + 1).tolist(), clock=clock)


def _not_used(found: Examination, structure: str) -> Iterator[str]:
    """Why the lengths of a view do not count."""
    if not _agrees(found, structure) and not _has_no_label(found):
        yield (
            f"the planes model says {structure}, but the biometry model calls it {found.label} "
            f"({found.probabilities[found.label]:.2f})"
        )
    if found.unfamiliar:
        yield "unlike the training data of the biometry model"
    elif not found.lengths:
        yield "no length"
    elif found.unit != "mm":
        yield NO_MM


def _agrees(found: Examination, structure: str) -> bool:
    return found.label == structure or found.probabilities.get(structure, 0.0) >= UNSURE


def _has_no_label(found: Examination) -> bool:
    return labels_equally_likely(np.array(list(found.probabilities.values())))


def view_of(file: str, seen: Seen) -> View:
    """The view as the result states it."""
    found = seen.found
    return View(
        file=file,
        structure=seen.structure,
        unit=found.unit,
        lengths=dict(found.lengths),
        frames=found.used,
        used=seen.used,
        speaks_against=tuple(dict.fromkeys([*seen.reasons, *found.warnings])),
        unfamiliarity=found.unfamiliarity,
        unfamiliar=found.unfamiliar,
    )


def measured_frames(file: str, sop_instance_uid: str | None, seen: Seen) -> Iterator[MeasuredFrame]:
    """Every frame of a view that has a length."""
    found, alone = seen.found, len(seen.found.frames) == 1
    for place, measured in enumerate(found.measured):
        if measured is None or measured.refused:
            continue
        answer = found.answer(place)
        to_px = 1 / found.mm_per_px if found.mm_per_px else 1.0
        ellipse = measured.ellipse and replace(
            measured.ellipse,
            **{name: getattr(measured.ellipse, name) * to_px for name in ("x", "y", "long", "short")},
        )
        yield MeasuredFrame(
            file=file,
            sop_instance_uid=sop_instance_uid,
            frame=found.frames[place],
            structure=seen.structure,
            unit=found.unit,
            lengths={name: _length(found, name, value, alone) for name, value in measured.lengths.items()},
            height=found.height,
            width=found.width,
            mm_per_px=found.mm_per_px,
            outline=outline_mm(answer, largest_component(answer)[0], Spacing(1.0, 1.0)),
            calipers=measured.calipers * to_px,
            ellipse=ellipse,
            mask=run_lengths(answer > HALF),
            used=seen.used and found.frames[place] in found.used,
            speaks_against=tuple(dict.fromkeys([*seen.reasons, *measured.warnings])),
            probability=found.probabilities.get(seen.structure, 0.0),
            unfamiliarity=found.unfamiliarity,
        )


def _length(found: Examination, name: str, value: float, alone: bool) -> FrameLength:
    of_view = found.lengths.get(name)
    if not alone or of_view is None:
        return FrameLength(value)
    return FrameLength(value, of_view.low, of_view.high, of_view.level)
