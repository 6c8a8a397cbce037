"""The pictures of the explain stage for a network that segments: outlines, calipers and millimetres, and where its
attention gates let pass."""

from collections.abc import Iterator, Sequence
from textwrap import fill

import numpy as np
import pandas as pd

from fetalflow.biometry.compared import number
from fetalflow.biometry.measuring import LENGTHS
from fetalflow.explain.cases import GATES, Asked, Case
from fetalflow.explain.measured_frame import LEGEND
from fetalflow.explain.outline_drawing import draw_case, draw_clip, draw_gallery, draw_gates
from fetalflow.explain.pictures import Picture

LEVELS = "the mean over the decoder's levels; blue: least open, red: most"


def outline_pictures(
    asked: Asked,
    chosen: pd.DataFrame,
    least: pd.DataFrame,
    furthest: pd.DataFrame,
    mistakes: pd.DataFrame,
) -> Iterator[Picture]:
    """One at a time, so that a figure can be freed when it is written. All are rows of `choosing.as_measured`.

    chosen: examples of each class. least: those with the least overlap, the worst first. furthest: those with the
    largest error, the worst first. mistakes: those that were called something else.
    """
    examples = [asked.case(row) for _, row in chosen.iterrows()]
    gates = [asked.gates(case) for case in examples]
    if examples:
        yield _overview(examples)
        yield from (_clip(case, gate) for case, gate in zip(examples, gates, strict=True) if len(case.frames) > 1)
        if gates[0] is not None:
            yield _gates(examples, gates)
    for rows, kind, words in (
        (least, "worst_overlap", "Place {place} of the {count} least overlaps with the annotation"),
        (furthest, "worst_error", "Place {place} of the {count} largest errors"),
        (mistakes, "mistake", "Called {predicted}"),
    ):
        for place, (_, row) in enumerate(rows.iterrows(), 1):
            case = asked.case(row)
            reason = words.format(place=place, count=len(rows), predicted=row["predicted"])
            yield _case(kind, place, reason, case, asked)


def numbers(case: Case) -> list[str]:
    """Dice and each length beside the truth."""
    said = [] if case.truth is None else [f"Dice {case.dice:.3f}"]
    for name, joined in case.clip.lengths.items():
        spread = f" ± {joined.spread:.1f}" if joined.frames > 1 else ""
        said.append(f"{name.upper()} {joined.value:.1f}{spread} {case.clip.unit}{_against(case, name)}")
    if not case.clip.lengths:
        main = LENGTHS[case.row["label"]][0]
        true = f" ({_whose(case)} {main.upper()} {case.known[main]:.1f} mm)" if main in case.known else ""
        said.append(f"no length{true}")
    return said


def warnings(case: Case) -> str:
    return f"Warnings: {'; '.join(case.clip.warnings)}." if case.clip.warnings else "No warnings."


def title(case: Case, short: bool = False) -> str:
    """short: without where it comes from."""
    row, said = case.row, [case.row["label"]]
    said += [] if row["correct"] else [f"called {row['predicted']} ({row['confidence']:.2f})"]
    if np.isfinite(weeks := number(row.get("gestational_age"))):
        said.append(f"{weeks:.1f} weeks")
    if (seen := number(row.get("seen"))) < 1:
        said.append(f"{seen:.0%} of it in view")
    known = (
        f"{row['video']}, frames {row['first_frame']}-{row['last_frame']}, patient {row['patient']}, {row['device']}"
    )
    return ", ".join(said) + ("" if short else f"     {known}")


def _overview(examples: Sequence[Case]) -> Picture:
    caption = (
        "Test sequences of each class, by chance, the rightly named first. Of each the frame whose length is "
        f"nearest to the clip's. {LEGEND} The values are the clip's: median ± robust SD over its frames."
    )
    names = ["\n".join([title(case, short=True), *numbers(case)]) for case in examples]
    return Picture("overview.png", "overview", "", "", caption, draw_gallery(list(zip(names, examples, strict=True))))


def _gates(examples: Sequence[Case], gates: Sequence) -> Picture:
    white = " White: the annotated outline." if examples[0].truth is not None else ""
    caption = f"The same frames under the {GATES.lower()} ({LEVELS}).{white}"
    return Picture("gates.png", "gates", "", "", caption, draw_gates(list(zip(examples, gates, strict=True))))


def _clip(case: Case, gates) -> Picture:
    label, sequence = (str(case.row[key]) for key in ("label", "sequence"))
    main = LENGTHS[case.clip.structure][0].upper()
    caption = (
        f"A test sequence of {label}, frame by frame. {'; '.join(numbers(case))}. {warnings(case)} Above: the outlines "
        "found (blue) and annotated (green)."
        + (f" Middle: {GATES.lower()} ({LEVELS})." if gates is not None else "")
        + f" Below: {main} of each frame, the clip's value with its spread (grey), and the truth (green)."
    )
    figure = draw_clip(title(case), case, gates)
    return Picture(f"sequence-{sequence}.png", "sequence", sequence, label, caption, figure)


def _case(kind: str, place: int, reason: str, case: Case, asked: Asked) -> Picture:
    label, sequence = (str(case.row[key]) for key in ("label", "sequence"))
    i = case.telling_frame() if kind == "worst_error" else case.weakest_frame()
    frame = f" Frame {i + 1} of {len(case.frames)}." if len(case.frames) > 1 else ""
    caption = f"{reason}: {label}, {sequence}. {'; '.join(numbers(case))}. {warnings(case)}{frame}"
    lines = [f"{reason}: {title(case)}", "; ".join(numbers(case)), warnings(case)]
    figure = draw_case([fill(line, 150) for line in lines], case, i, asked.gates(case))
    return Picture(f"{kind.replace('_', '-')}-{place:02}.png", kind, sequence, label, caption, figure)


def _against(case: Case, name: str) -> str:
    if name not in case.errors:
        return ""
    return f", {_whose(case)} {case.known[name]:.1f} ({case.errors[name]:+.1f} %)"


def _whose(case: Case) -> str:
    return "true" if case.by_drop else "annotated"
