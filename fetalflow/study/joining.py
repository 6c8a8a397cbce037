"""Joins the views of a study: lengths with intervals, age, weight and growth, and what speaks against each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fetalflow.biometry.estimates import APART, Estimate, without_value
from fetalflow.biometry.structures import LENGTHS
from fetalflow.inference.examination.fetus import Fetus, combine
from fetalflow.inference.examination.result import Examination, Length
from fetalflow.study.planes import FramePlanes, structure_of
from fetalflow.study.result import JoinedLength
from fetalflow.study.views import Seen

STRUCTURE_OF = {name: structure for structure, names in LENGTHS.items() for name in names}


@dataclass(frozen=True)
class Together:
    """What the views say together. Fields: those of the same names of `StudyResult`."""

    lengths: dict[str, JoinedLength]
    best: dict[str, tuple[str, int]]
    shown: tuple[Examination, ...]  # by structure, the one with the best frame
    missing: dict[str, str]
    ages: tuple[Estimate, ...]
    weights: tuple[Estimate, ...]
    warnings: tuple[str, ...]


def join(views: Sequence[tuple[str, Seen]], planes: Sequence[tuple[str, FramePlanes]], mixed: str = "") -> Together:
    """views: file name and what is seen in it. planes: of every file that the planes model looked at. mixed: why the
    views may be of several fetuses; then no age and no weight comes from more than one length."""
    used = [(name, seen) for name, seen in views if seen.used]
    # `combine` states the warnings of each cine again, and identities were checked for all files of the study.
    bare = [replace(seen.found, source=name, warnings=(), identity={}) for name, seen in used]
    fetus = combine(bare) if bare else Fetus(None, {}, {}, (), (), ())
    if mixed:
        fetus = replace(fetus, **{name: _of_several(getattr(fetus, name), mixed) for name in ("ages", "weights")})
    counted = {name for each in (*fetus.ages, *fetus.weights) for name in each.lengths}
    lengths = {name: _joined(name, fetus, used, name in counted) for name in fetus.lengths}
    best = {structure: _best(names[0], fetus, used) for structure, names in LENGTHS.items() if names[0] in lengths}
    return Together(
        lengths=lengths,
        best={structure: (name, seen.found.frames[seen.found.shown]) for structure, (name, seen) in best.items()},
        shown=tuple(replace(seen.found, source=name) for name, seen in best.values()),
        missing={each: _missing(each, views, planes) for each in LENGTHS if LENGTHS[each][0] not in lengths},
        ages=fetus.ages,
        weights=fetus.weights,
        warnings=(*fetus.warnings, *_other_age(fetus)),
    )


def _of_several(estimates: Sequence[Estimate], reason: str) -> tuple[Estimate, ...]:
    return tuple(without_value(each, reason) if len(each.lengths) > 1 else each for each in estimates)


def _other_age(fetus: Fetus) -> list[str]:
    """A sentence for each age that is far from the stated one."""
    known = [each for each in fetus.ages if each.value is not None and fetus.weeks is not None]
    return [
        f"{fetus.weeks:.1f} weeks are stated, but {each.name} gives {each.value:.1f}"
        for each in known
        if abs(each.value - fetus.weeks) > APART
    ]


def _joined(name: str, fetus: Fetus, used: Sequence[tuple[str, Seen]], for_age: bool) -> JoinedLength:
    members = [(file, seen, seen.found.lengths[name]) for file, seen in used if name in seen.found.lengths]
    value, (z, percentile) = fetus.lengths[name], fetus.standings[name]
    against = [text for text in fetus.warnings if text.startswith(f"{name.upper()} ")]
    against += [f"{file}: {text}" for file, seen, _ in members for text in seen.found.warnings]
    return JoinedLength(
        name,
        STRUCTURE_OF[name],
        value,
        *_interval(value, [length for _, _, length in members]),
        views=len(members),
        frames=sum(length.frames for _, _, length in members),
        z=z,
        percentile=percentile,
        for_age=for_age,
        speaks_against=tuple(dict.fromkeys(against)),
    )


def _interval(value: float, lengths: Sequence[Length]) -> tuple[float | None, float | None, float | None]:
    """The widest interval of the views, around the joined value. It does not become narrower with more views: they show
    the same fetus to the same network, so their errors are alike, and nothing was fitted that could promise more."""
    if any(each.low is None or each.high is None for each in lengths):
        return None, None, None
    half = max(max(each.high - each.value, each.value - each.low) for each in lengths)
    return max(0.0, value - half), value + half, min(each.level for each in lengths)


def _best(main: str, fetus: Fetus, used: Sequence[tuple[str, Seen]]) -> tuple[str, Seen]:
    """The view whose length is nearest to the joined one."""
    return min(
        (each for each in used if main in each[1].found.lengths),
        key=lambda each: abs(each[1].found.lengths[main].value - fetus.lengths[main]),
    )


def _missing(structure: str, views: Sequence[tuple[str, Seen]], planes: Sequence[tuple[str, FramePlanes]]) -> str:
    """Why a structure has no length."""
    found = [(name, seen) for name, seen in views if seen.structure == structure]
    if found:
        return "; ".join(f"{name}: {', '.join([*seen.reasons, *seen.found.warnings])}" for name, seen in found)
    strange = [name for name, each in planes if _only_strange(each, structure)]
    if strange:
        return f"its plane is unlike the training data of the planes model in {', '.join(strange)}"
    return "no frame shows its plane"


def _only_strange(planes: FramePlanes, structure: str) -> bool:
    return any(structure_of(planes.labels[label]) == structure for label in set(planes.label.tolist()))
