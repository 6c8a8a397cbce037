"""Examines an image or a cine: which structure it shows, where it is, its lengths in mm, and warnings."""

from dataclasses import replace
from math import isfinite
from pathlib import Path

import numpy as np
from scipy.special import expit, softmax

from fetalflow.biometry.clip import join_frames
from fetalflow.biometry.estimates import ages, z_and_percentile
from fetalflow.biometry.measuring import LENGTHS, Joined, Measured, measure_frame
from fetalflow.biometry.outline import HALF, Spacing
from fetalflow.biometry.structures import OTHER, WEEKS
from fetalflow.cine.field_of_view import as_text, of_text, sector_of
from fetalflow.cine.frame_shape import check_source
from fetalflow.cine.letterbox import fit, fitted_box, in_picture, unfit
from fetalflow.cine.masked import Masked, open_masked
from fetalflow.cine.scales import SCALES, scale_at
from fetalflow.errors import InputError
from fetalflow.evaluation.certainty.record import NO_LENGTH, Certainty
from fetalflow.evaluation.equal_labels import labels_equally_likely
from fetalflow.inference.examination.identity import identity_of
from fetalflow.inference.examination.result import Examination, Length
from fetalflow.inference.examination.tiling import Clip, clips, evenly
from fetalflow.inference.package import Package, as_uint8
from fetalflow.models.familiarity import UNLIKE
from fetalflow.settings.params import Extract

MOST_CLIPS = 300
TOGETHER = 16  # frames through the network at once, or one clip
LOOKED_AT = 64  # frames from which the sector is found
UNSURE = 0.5  # a label with a lower probability gets a warning
OTHER_SCALE = 0.02  # share by which a given scale may differ from that of the file
NO_SCALE = "no pixel spacing is known: lengths are in pixels"


def examine(
    package: Package,
    source: Path | str | np.ndarray,
    mm_per_px: float | None = None,
    weeks: float | None = None,
    structure: str | None = None,
    show_unfamiliar: bool = False,
) -> Examination:
    """Examine an image, a DICOM, a cine, or frames that are already read ([T, H, W] or [H, W], uint8 or
    float 0-1), of any length.

    A file is read as in the extract stage and cut into clips of at most N consecutive frames (N of the package), none
    across a scene cut. The network sees every frame; of more than 300 clips, 300 that are evenly spread. mm_per_px: of
    the recorded frame; it is used instead of the scale in the file. weeks: gestational age. structure: head, abdomen or
    femur where the caller knows it; else the label of the network is used.

    What is unlike the training data is not measured: no clip where the cine is (the median over its clips), else the
    clips that are. show_unfamiliar: they are measured all the same. Then `unfamiliar` stays true, there is no age, z or
    percentile, and `combine` does not use the lengths.

    Raises InputError when the source cannot be read, a number is impossible, or the package draws no masks.
    """
    mm_per_px, weeks = check_request(package, structure, mm_per_px, weeks)
    check_source(source)
    if isinstance(source, np.ndarray):
        source = as_uint8(source)
    with open_masked(source, Extract.model_validate(package.config["extract"])) as cine:
        found = examine_opened(package, cine, mm_per_px, weeks, structure, show_unfamiliar)
        return replace(found, identity={} if isinstance(source, np.ndarray) else identity_of(Path(source)))


def examine_opened(
    package: Package,
    cine: Masked,
    mm_per_px: float | None = None,
    weeks: float | None = None,
    structure: str | None = None,
    show_unfamiliar: bool = False,
) -> Examination:
    """`examine` for an opened cine, or for some of its frames (a copy of `cine` with other `frames` and `cuts`). The
    numbers are those of `check_request`. The result has no identity."""
    every = clips(len(cine.frames), cine.cuts, package.frames, cine.step, cine.clock)
    chosen = evenly(every, MOST_CLIPS)
    p, unfamiliarity, answers = _ask(package, cine.frames, chosen)
    mean = np.average(p, axis=0, weights=[len(clip.new) for clip in chosen])
    by_network = dict(zip(package.labels, mean.tolist(), strict=True))
    label, certainty = max(by_network, key=by_network.get), package.certainty or Certainty()
    probabilities = dict(zip(package.labels, certainty.calibrated(mean).tolist(), strict=True))
    known = None if unfamiliarity is None else float(np.median(unfamiliarity))
    unfamiliar = None if known is None else not known <= UNLIKE
    of_file = cine.mm_per_px or _of_region(cine, answers)
    scale = of_file if mm_per_px is None else mm_per_px
    has_label = not labels_equally_likely(mean)
    label_set = certainty.label_set(by_network) if has_label and not unfamiliar else None
    warnings = [
        *cine.remarks,
        *_about_scale(of_file, mm_per_px),
        *_about_label(probabilities, has_label, structure),
        *([_strange(known, show_unfamiliar)] if unfamiliar else []),
        *_left_out(every, chosen),
    ]
    to_measure = structure if structure or not has_label or label not in LENGTHS else label
    # A cine may sweep from one structure to another: only the clips with this label are measured.
    shows_it = np.array([structure is not None or package.labels[i] == label for i in p.argmax(axis=1)])
    shows_it |= not shows_it.any()
    if to_measure and not shows_it.all():
        others = f"{(~shows_it).sum()} of {len(shows_it)} clips"
        warnings.append(f"{others} show something else: their frames are not measured")
    if unfamiliarity is not None and not show_unfamiliar:
        strange = ~(unfamiliarity <= UNLIKE)
        if to_measure and not unfamiliar and (shows_it & strange).any():
            warnings.append(
                f"{(shows_it & strange).sum()} of {len(strange)} clips are unlike the training data: their frames "
                "are not measured"
            )
        shows_it &= ~strange & (not unfamiliar)
    shows_it &= scale is None or SCALES[0] <= scale <= SCALES[1]
    counts = np.repeat(shows_it, [len(clip.new) for clip in chosen])
    measured = _measured(answers, counts, to_measure, cine, scale, weeks)
    frames = np.concatenate([clip.new for clip in chosen])
    joined, of_frames, used = _joined(measured, to_measure)
    unit = "px" if scale is None else "mm"
    trusted = unit == "mm" and not unfamiliar
    if not trusted:
        certainty = Certainty()
    lengths = {name: _length(name, each, unit, weeks if trusted else None, certainty) for name, each in joined.items()}
    warnings += _without_interval(lengths, certainty, package.certainty is not None and trusted)
    main = LENGTHS[to_measure][0] if to_measure else ""
    shown = _near(measured, main, lengths, used)
    return Examination(
        source=cine.name,
        label=label,
        probabilities=probabilities,
        structure=to_measure,
        unit=unit,
        mm_per_px=scale,
        weeks=weeks,
        lengths=lengths,
        age=ages({main: lengths[main].value})[0] if main in lengths and trusted else None,
        frames=tuple(frames.tolist()),
        used=tuple(frames[used].tolist()),
        measured=measured,
        warnings=tuple(dict.fromkeys([*warnings, *of_frames])),
        unfamiliarity=known,
        unfamiliar=unfamiliar,
        height=cine.frames.shape[1],
        width=cine.frames.shape[2],
        answers=answers,
        shown=shown,
        picture=np.array(cine.frames[frames[shown]]),
        engine=", ".join(sorted({package.answers_by(len(clip.frames)) for clip in chosen})),
        label_set=label_set,
        level=label_set and package.certainty.level,
    )


def check_request(
    package: Package, structure: str | None, mm_per_px: float | str | None, weeks: float | str | None
) -> tuple[float | None, float | None]:
    """The two numbers as floats. Raises InputError as `examine` does."""
    if not package.segments:
        name = package.config.get("variant", "this model")
        raise InputError(f"{name} gives a label and draws no mask, so it cannot measure. Use `fetalflow predict`.")
    if structure is not None and structure not in LENGTHS:
        raise InputError(f"structure must be one of {', '.join(LENGTHS)}; found {structure!r}.")
    scale, age = _number("mm_per_px", mm_per_px), _number("weeks", weeks)
    if age is not None and not WEEKS[0] <= age <= WEEKS[1]:
        raise InputError(f"weeks must be the gestational age, {WEEKS[0]:g} to {WEEKS[1]:g}; found {age:g}.")
    return scale, age


def _number(name: str, given: float | str | None) -> float | None:
    try:
        value = None if given is None else float(given)  # it is text where it comes from a table
    except (TypeError, ValueError):
        raise InputError(f"{name} must be a number above 0, found {given!r}.") from None
    if value is not None and not (isfinite(value) and value > 0):
        raise InputError(f"{name} must be a number above 0, found {given}.")
    return value


def _length(name: str, joined: Joined, unit: str, weeks: float | None, certainty: Certainty) -> Length:
    z, percentile = z_and_percentile(name, joined.value, weeks)
    interval = certainty.interval(name, joined.value, joined.spread) or (None, None, None)
    return Length(joined.value, unit, joined.spread, joined.frames, joined.left_out, z, percentile, *interval)


def _ask(package: Package, frames: np.ndarray, chosen: list[Clip]) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Probabilities [clips, labels] and unfamiliarity [clips] or None; answers, float16 [F, size, size] in 0-1, of each
    clip's new frames."""
    p, scores, answers = [], [], []
    for group in _alike(chosen):
        answered = package.answer(np.stack([fit(frames[clip.frames], package.size) for clip in group]))
        p.append(softmax(answered.logits.astype(np.float64), axis=1))
        if package.familiarity is not None:
            scores.append(package.familiarity.score(answered.features))
        masks = in_picture(expit(answered.mask).astype(np.float16), *frames.shape[1:])
        answers += [mask[clip.known :] for clip, mask in zip(group, masks, strict=True)]
    if not np.isfinite(together := np.concatenate(p)).all():
        raise InputError("the model's answer is not a number (NaN). Train it again, or use another engine.")
    return together, np.concatenate(scores) if scores else None, np.concatenate(answers)


def _of_region(cine: Masked, answers: np.ndarray) -> float | None:
    """The scale of the ultrasound region in which the structure lies, where regions have different scales."""
    if not cine.regions:
        return None
    return scale_at(cine.regions, unfit(answers.max(axis=0), *cine.frames.shape[1:]) > HALF)


def _alike(chosen: list[Clip]) -> list[list[Clip]]:
    """Groups of neighbouring clips of equal length that go through the network together."""
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
    """Measurements of every frame for which `counts` is true. They are made on the fitted image, correcting the
    rounding of its sides to whole pixels; ellipse and calipers are moved to their position in the recorded frame."""
    if structure is None:
        return (None,) * len(answers)
    recorded, size = cine.frames.shape[1:], answers.shape[-1]
    top, left, *fitted = fitted_box(*recorded, size)
    unit = scale or 1.0
    grid = Spacing(unit, unit).resized(recorded, tuple(fitted))
    shift = np.array([(0.5 - left) * grid.column - 0.5 * unit, (0.5 - top) * grid.row - 0.5 * unit])
    looked_at = np.linspace(0, len(cine.frames) - 1, min(LOOKED_AT, len(cine.frames))).round().astype(int)
    sector = of_text(as_text(sector_of(cine.frames[looked_at]), size), size)
    by_frame: list[Measured | None] = []
    for answer, count in zip(answers, counts, strict=True):
        measured = measure_frame(answer, structure, grid, sector, weeks if scale else None) if count else None
        by_frame.append(measured and _moved(measured, shift, "mm" if scale else "px"))
    return tuple(by_frame)


def _moved(measured: Measured, shift: np.ndarray, unit: str) -> Measured:
    ellipse, calipers = measured.ellipse, measured.calipers
    return replace(
        measured,
        ellipse=ellipse and replace(ellipse, x=ellipse.x + shift[0], y=ellipse.y + shift[1]),
        calipers=None if calipers is None else calipers + shift,
        unit=unit,
    )


def _joined(
    measured: tuple[Measured | None, ...], structure: str | None
) -> tuple[dict[str, Joined], tuple[str, ...], np.ndarray]:
    """Lengths, warnings and used frames (bool [F]) of `join_frames`, over the frames that are measured."""
    used = np.zeros(len(measured), bool)
    if structure is None:
        return {}, (), used
    lengths, warnings, counts = join_frames(tuple(filter(None, measured)), structure)
    used[[i for i, each in enumerate(measured) if each]] = counts
    return lengths, warnings, used


def _near(measured: tuple[Measured | None, ...], main: str, lengths: dict[str, Length], used: np.ndarray) -> int:
    """Index of the used frame whose main length is nearest to that over the cine; else of the middle measured frame."""
    numbers = {i: each.lengths[main] for i, each in enumerate(measured) if each and used[i]}
    if numbers and main in lengths:
        return min(numbers, key=lambda i: abs(numbers[i] - lengths[main].value))
    candidates = [i for i, each in enumerate(measured) if each] or range(len(measured))
    return candidates[len(candidates) // 2]


def _without_interval(lengths: dict[str, Length], certainty: Certainty, expected: bool) -> list[str]:
    missing = ", ".join(name.upper() for name, length in lengths.items() if length.low is None)
    return [f"no interval of {missing}: {certainty.reason or NO_LENGTH}"] if expected and missing else []


def _about_scale(of_file: float | None, given: float | None) -> list[str]:
    scale = of_file if given is None else given
    if scale is None:
        return [NO_SCALE]
    warnings = []
    if of_file and given and abs(given - of_file) > OTHER_SCALE * of_file:
        warnings.append(f"the file has {of_file:.4g} mm per pixel; {given:.4g} was given and is used")
    if not SCALES[0] <= scale <= SCALES[1]:
        limits = f"{SCALES[0]:g} to {SCALES[1]:g}"
        warnings.append(f"{scale:.4g} mm per pixel is impossible for ultrasound ({limits}): nothing is measured")
    return warnings


def _about_label(probabilities: dict[str, float], has_label: bool, structure: str | None) -> list[str]:
    label = max(probabilities, key=probabilities.get)
    if not has_label:
        return [] if structure else ["this model gives no label: state the structure to measure (structure)"]
    if structure and structure != label:
        return [f"called {label} with {probabilities[label]:.2f}, but measured as {structure}, as requested"]
    warnings = [f"called {label} with {probabilities[label]:.2f} only"] if probabilities[label] < UNSURE else []
    if label == OTHER:
        return [*warnings, f"it shows none of {', '.join(LENGTHS)}: nothing is measured"]
    return warnings + ([] if label in LENGTHS else [f"no length of a {label} is measured"])


def _strange(unfamiliarity: float, shown: bool) -> str:
    result = "do not trust label and lengths" if shown else "no length is given, and the label is not to be trusted"
    return f"unlike the training data (unfamiliarity {unfamiliarity:.1f}, the limit is {UNLIKE:g}): {result}"


def _left_out(every: list[Clip], chosen: list[Clip]) -> list[str]:
    if len(chosen) == len(every):
        return []
    used, frames = (sum(len(clip.new) for clip in group) for group in (chosen, every))
    return [f"{frames - used} of {frames} frames were left out: {len(chosen)} clips, spread over the cine, were used"]
