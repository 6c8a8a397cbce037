"""What is measured in one file of a study: a view for each structure that its frames show."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from fetalflow.biometry.outline import HALF, Spacing, largest_component, outline_mm
from fetalflow.biometry.structures import LENGTHS
from fetalflow.cine.masked import Masked
from fetalflow.inference.examination.examine import UNSURE, examine_opened
from fetalflow.inference.examination.result import Examination
from fetalflow.inference.examination.run_length import run_lengths
from fetalflow.inference.package import Package
from fetalflow.study.planes import FramePlanes
from fetalflow.study.result import FrameLength, MeasuredFrame, View

FEWEST = 3  # frames of a cine that must show a structure, before it is measured there
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


def seen_in(
    cine: Masked, planes: FramePlanes | None, package: Package, mm_per_px: float | None, weeks: float | None
) -> Iterator[Seen]:
    """A view for each structure. planes: without them the label of `package` decides what the whole cine shows."""
    if planes is None:
        found = examine_opened(package, cine, mm_per_px, weeks)
        if found.structure:
            yield Seen(found, found.structure, tuple(_not_used(found, found.structure)))
        return
    for structure in LENGTHS:
        chosen = np.flatnonzero(planes.shows(structure))
        if len(chosen) >= min(FEWEST, len(cine.frames)):
            found = examine_opened(package, _only(cine, chosen), mm_per_px, weeks, structure)
            found = replace(
                found,
                frames=tuple(chosen[list(found.frames)].tolist()),
                used=tuple(chosen[list(found.used)].tolist()),
            )
            yield Seen(found, structure, tuple(_not_used(found, structure)))


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
    if found.label != structure and found.probabilities.get(structure, 0.0) < UNSURE:
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
