"""An image or a cine, examined: which structure it shows, where, how long it is in mm, and what speaks against it."""

from dataclasses import replace
from math import isfinite
from pathlib import Path

import numpy as np
from scipy.special import expit, softmax

from fetalflow.biometry.clip import joined
from fetalflow.biometry.estimates import ages, standing
from fetalflow.biometry.measuring import LENGTHS, Joined, Measured, measure
from fetalflow.biometry.outline import Spacing
from fetalflow.biometry.sector import as_text, of_text, sector_of
from fetalflow.cine.masked import Masked, open_masked
from fetalflow.clips import Clip, clips, evenly
from fetalflow.errors import InputError
from fetalflow.examined import Examination, Length
from fetalflow.familiarity import UNLIKE
from fetalflow.naming import names_nothing
from fetalflow.package import Package, as_uint8
from fetalflow.sequences import fit, fitted_box
from fetalflow.settings import Extract

MOST_CLIPS = 300
TOGETHER = 16  # frames through the network at once, or one clip
LOOKED_AT = 64  # frames in which the sector is looked for
UNSURE = 0.5  # probability below which a name is no more than the likeliest one
OTHER_SCALE = 0.02  # share by which a stated scale may differ from the file's
SCALES = 0.02, 1.5  # mm per pixel that ultrasound has
NO_SCALE = "no pixel spacing is known: lengths are in pixels"


def examine(
    package: Package,
    source: Path | str | np.ndarray,
    mm_per_px: float | None = None,
    weeks: float | None = None,
    structure: str | None = None,
) -> Examination:
    """Examine an image, a DICOM, a cine, or frames that are already read ([T, H, W] or [H, W], uint8 or
    float 0-1), of any length.

    A file is read as the extract stage reads it; it is cut into clips of at most the package's N consecutive frames,
    none across a scene cut, and every frame is asked (of more than 300 clips, 300 that lie evenly). mm_per_px: of the
    recorded frame; it wins over what the file says. weeks: gestational age. structure: head, abdomen or femur where
    the caller knows it; else the one that the network names.

    Raises InputError when the source cannot be read, a number makes no sense, or the package draws no masks.
    """
    _check(package, structure)
    mm_per_px, weeks = _number("mm_per_px", mm_per_px), _number("weeks", weeks)
    if isinstance(source, np.ndarray):
        source = as_uint8(source)
    with open_masked(source, Extract.model_validate(package.config["extract"])) as cine:
        every = clips(len(cine.frames), cine.cuts, package.frames, cine.step)
        chosen = evenly(every, MOST_CLIPS)
        p, unfamiliarity, answers = _ask(package, cine.frames, chosen)
        mean = np.average(p, axis=0, weights=[len(clip.new) for clip in chosen])
        probabilities = dict(zip(package.labels, mean.tolist(), strict=True))
        label = max(probabilities, key=probabilities.get)
        known = None if unfamiliarity is None else float(np.median(unfamiliarity))
        scale = cine.mm_per_px if mm_per_px is None else mm_per_px
        said = [
            *_about_scale(cine.mm_per_px, mm_per_px),
            *_about_name(probabilities, names_nothing(mean), structure),
            *([] if known is None or known <= UNLIKE else [_strange(known)]),
            *_not_asked(every, chosen),
        ]
        asked = structure if structure or names_nothing(mean) or label not in LENGTHS else label
        # A cine may sweep from one structure to another: only the clips that name this one are measured.
        named = np.array([structure is not None or package.labels[i] == label for i in p.argmax(axis=1)])
        named |= not named.any()
        if asked and not named.all():
            said.append(f"{(~named).sum()} of {len(named)} clips show something else: their frames are not measured")
        counts = np.repeat(named, [len(clip.new) for clip in chosen])
        measured = _measured(answers, counts, asked, cine, scale, weeks)
        frames = np.concatenate([clip.new for clip in chosen])
        found, spoken = joined(tuple(filter(None, measured)), asked) if asked else ({}, ())
        unit = "px" if scale is None else "mm"
        lengths = {name: _length(name, own, unit, weeks) for name, own in found.items()}
        main = LENGTHS[asked][0] if asked else ""
        shown = _near(measured, main, lengths)
        return Examination(
            source=cine.name,
            label=label,
            probabilities=probabilities,
            structure=asked,
            unit=unit,
            mm_per_px=scale,
            weeks=weeks,
            lengths=lengths,
            age=ages({main: lengths[main].value})[0] if main in lengths and scale else None,
            frames=tuple(frames.tolist()),
            measured=measured,
            warnings=tuple(dict.fromkeys([*said, *spoken])),
            unfamiliarity=known,
            unfamiliar=None if known is None else known > UNLIKE,
            height=cine.frames.shape[1],
            width=cine.frames.shape[2],
            answers=answers,
            shown=shown,
            picture=np.array(cine.frames[frames[shown]]),
            engine=", ".join(sorted({package.answers_by(len(clip.frames)) for clip in chosen})),
        )


def _check(package: Package, structure: str | None) -> None:
    if not package.segments:
        name = package.config.get("variant", "this model")
        raise InputError(f"{name} names a label and draws no mask, so it measures nothing. Use `fetalflow predict`.")
    if structure is not None and structure not in LENGTHS:
        raise InputError(f"structure must be one of {', '.join(LENGTHS)}; found {structure!r}.")


def _number(name: str, given: float | str | None) -> float | None:
    try:
        value = None if given is None else float(given)  # as text it comes from a table
    except (TypeError, ValueError):
        raise InputError(f"{name} must be a number above 0, found {given!r}.") from None
    if value is not None and not (isfinite(value) and value > 0):
        raise InputError(f"{name} must be a number above 0, found {given}.")
    return value


def _length(name: str, own: Joined, unit: str, weeks: float | None) -> Length:
    z, percentile = standing(name, own.value, weeks if unit == "mm" else None)
    return Length(own.value, unit, own.spread, own.frames, own.left_out, z, percentile)


def _ask(package: Package, frames: np.ndarray, chosen: list[Clip]) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Probabilities [clips, labels] and unfamiliarity [clips] or None; answers, float16 [F, size, size] in 0-1, of each
    clip's new frames."""
    p, scores, answers = [], [], []
    for group in _alike(chosen):
        answered = package.answer(np.stack([fit(frames[clip.frames], package.size) for clip in group]))
        p.append(softmax(answered.logits.astype(np.float64), axis=1))
        if package.familiarity is not None:
            scores.append(package.familiarity.score(answered.features))
        masks = expit(answered.mask).astype(np.float16)
        answers += [mask[clip.known :] for clip, mask in zip(group, masks, strict=True)]
    return np.concatenate(p), np.concatenate(scores) if scores else None, np.concatenate(answers)


def _alike(chosen: list[Clip]) -> list[list[Clip]]:
    """Neighbours of one length, as many as go through the network at once."""
    groups: list[list[Clip]] = []
    for clip in chosen:
        last = groups[-1] if groups else []
        fits = last and len(last[0].frames) == len(clip.frames) and (len(last) + 1) * len(clip.frames) <= TOGETHER
        if fits:
            last.append(clip)
        else:
            groups.append([clip])
    return groups


def _measured(
    answers: np.ndarray,
    counts: np.ndarray,
    structure: str | None,
    cine: Masked,
    scale: float | None,
    weeks: float | None,
) -> tuple[Measured | None, ...]:
    """Of every frame that counts; on the fitted grid, whose rounding to whole pixels is undone, and with ellipse and
    calipers moved to where they lie in the recorded frame."""
    if structure is None:
        return (None,) * len(answers)
    recorded, size = cine.frames.shape[1:], answers.shape[-1]
    top, left, *fitted = fitted_box(*recorded, size)
    unit = scale or 1.0
    grid = Spacing(unit, unit).resized(recorded, tuple(fitted))
    shift = np.array([(0.5 - left) * grid.column - 0.5 * unit, (0.5 - top) * grid.row - 0.5 * unit])
    looked_at = np.linspace(0, len(cine.frames) - 1, min(LOOKED_AT, len(cine.frames))).round().astype(int)
    sector = of_text(as_text(sector_of(cine.frames[looked_at]), size), size)
    found: list[Measured | None] = []
    for answer, count in zip(answers, counts, strict=True):
        own = measure(answer, structure, grid, sector, weeks if scale else None) if count else None
        found.append(own and _moved(own, shift, "mm" if scale else "px"))
    return tuple(found)


def _moved(own: Measured, shift: np.ndarray, unit: str) -> Measured:
    ellipse = own.ellipse and replace(own.ellipse, x=own.ellipse.x + shift[0], y=own.ellipse.y + shift[1])
    calipers = None if own.calipers is None else own.calipers + shift
    return replace(own, ellipse=ellipse, calipers=calipers, unit=unit)


def _near(measured: tuple[Measured | None, ...], main: str, lengths: dict[str, Length]) -> int:
    """The place of the frame that shows best what is said of the cine."""
    numbers = {i: each.lengths[main] for i, each in enumerate(measured) if each and main in each.lengths}
    if numbers and main in lengths:
        return min(numbers, key=lambda i: abs(numbers[i] - lengths[main].value))
    those = [i for i, each in enumerate(measured) if each] or range(len(measured))
    return those[len(those) // 2]


def _about_scale(of_file: float | None, given: float | None) -> list[str]:
    scale = of_file if given is None else given
    if scale is None:
        return [NO_SCALE]
    said = []
    if of_file and given and abs(given - of_file) > OTHER_SCALE * of_file:
        said.append(f"the file says {of_file:.4g} mm per pixel; {given:.4g} was given and is used")
    if not SCALES[0] <= scale <= SCALES[1]:
        said.append(f"{scale:.4g} mm per pixel is no scale of ultrasound ({SCALES[0]:g} to {SCALES[1]:g})")
    return said


def _about_name(probabilities: dict[str, float], silent: bool, structure: str | None) -> list[str]:
    label = max(probabilities, key=probabilities.get)
    if silent:
        return [] if structure else ["this model does not say which structure it sees: say it (structure)"]
    if structure and structure != label:
        return [f"called {label} with {probabilities[label]:.2f}, measured as {structure} as was asked for"]
    said = [f"called {label} with {probabilities[label]:.2f} only"] if probabilities[label] < UNSURE else []
    return said + ([] if label in LENGTHS else [f"nothing of a {label} is measured"])


def _strange(unfamiliarity: float) -> str:
    return f"unlike anything seen in training (unfamiliarity {unfamiliarity:.1f}): trust neither name nor number"


def _not_asked(every: list[Clip], chosen: list[Clip]) -> list[str]:
    if len(chosen) == len(every):
        return []
    asked, held = (sum(len(clip.new) for clip in found) for found in (chosen, every))
    return [f"{held - asked} of {held} frames were left out: {len(chosen)} clips were asked, spread over the cine"]
