"""The pictures of the explain stage for a segmentation network: outlines, calipers, lengths in mm, and attention
gates."""

from collections.abc import Iterator, Sequence
from textwrap import fill

import numpy as np
import pandas as pd

from fetalflow.biometry.drawing import LEGEND
from fetalflow.biometry.measuring import LENGTHS
from fetalflow.evaluation.measurement_rows import number
from fetalflow.report.explain.cases import GATES, Case, Cases
from fetalflow.report.explain.outline_drawing import draw_case, draw_clip, draw_gallery, draw_gates
from fetalflow.report.explain.pictures import Picture

LEVELS = "the mean over the decoder's levels; blue: least open, red: most"


def outline_pictures(
    cases: Cases,
    chosen: pd.DataFrame,
    least: pd.DataFrame,
    furthest: pd.DataFrame,
    mistakes: pd.DataFrame,
) -> Iterator[Picture]:
    """Yields one picture at a time, so that its figure can be freed after it is written. All tables are rows of
    `choosing.as_measured`.

    chosen: examples of each class. least: rows with the least overlap, the worst first. furthest: rows with the largest
    error, the worst first. mistakes: rows with a wrong label.
    """
    examples = [cases.case(row) for _, row in chosen.iterrows() if row["label"] in LENGTHS]
    gates = [cases.gates(case) for case in examples]
    if examples:
        yield _overview(examples)
        yield from (_clip(case, gate) for case, gate in zip(examples, gates, strict=True) if len(case.frames) > 1)
        if gates[0] is not None:
            yield _gates(examples, gates)
    for rows, kind, words in (
        (least, "worst_overlap", "Number {place} of the {count} smallest overlaps with the annotation"),
        (furthest, "worst_error", "Number {place} of the {count} largest errors"),
        (mistakes, "mistake", "Predicted as {predicted}"),
    ):
        for place, (_, row) in enumerate(rows.iterrows(), 1):
            case = cases.case(row)
            reason = words.format(place=place, count=len(rows), predicted=row["predicted"])
            yield _case(kind, place, reason, case, cases)


def numbers(case: Case) -> list[str]:
    """Dice and every length with the truth, as texts."""
    texts = [] if case.truth is None else [f"Dice {case.dice:.3f}"]
    for name, joined in case.clip.lengths.items():
        spread = f" ± {joined.spread:.1f}" if joined.frames > 1 else ""
        texts.append(f"{name.upper()} {joined.value:.1f}{spread} {case.clip.unit}{_against(case, name)}")
    if not case.clip.lengths:
        main = LENGTHS.get(case.row["label"], ("",))[0]
        true = f" ({_whose(case)} {main.upper()} {case.known[main]:.1f} mm)" if main in case.known else ""
        texts.append(f"no length{true}")
    return texts


def warnings(case: Case) -> str:
    return f"Warnings: {'; '.join(case.clip.warnings)}." if case.clip.warnings else "No warnings."


def title(case: Case, short: bool = False) -> str:
    """short: without video, frames, patient and device."""
    row, texts = case.row, [case.row["label"]]
    texts += [] if row["correct"] else [f"predicted as {row['predicted']} ({row['confidence']:.2f})"]
    if np.isfinite(weeks := number(row.get("gestational_age"))):
        texts.append(f"{weeks:.1f} weeks")
    if (seen := number(row.get("seen"))) < 1:
        texts.append(f"{seen:.0%} of it in view")
    known = (
        f"{row['video']}, frames {row['first_frame']}-{row['last_frame']}, patient {row['patient']}, {row['device']}"
    )
    return ", ".join(texts) + ("" if short else f"     {known}")


def _overview(examples: Sequence[Case]) -> Picture:
    caption = (
        "Random test sequences of each class, right labels first; of each the frame whose length is nearest to that of "
        f"the clip. {LEGEND} Values: median ± robust SD over the frames of the clip."
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


def _case(kind: str, place: int, reason: str, case: Case, cases: Cases) -> Picture:
    label, sequence = (str(case.row[key]) for key in ("label", "sequence"))
    i = case.telling_frame() if kind == "worst_error" else case.weakest_frame()
    frame = f" Frame {i + 1} of {len(case.frames)}." if len(case.frames) > 1 else ""
    caption = f"{reason}: {label}, {sequence}. {'; '.join(numbers(case))}. {warnings(case)}{frame}"
    lines = [f"{reason}: {title(case)}", "; ".join(numbers(case)), warnings(case)]
    figure = draw_case([fill(line, 150) for line in lines], case, i, cases.gates(case))
    return Picture(f"{kind.replace('_', '-')}-{place:02}.png", kind, sequence, label, caption, figure)


def _against(case: Case, name: str) -> str:
    if name not in case.errors:
        return ""
    return f", {_whose(case)} {case.known[name]:.1f} ({case.errors[name]:+.1f} %)"


def _whose(case: Case) -> str:
    return "true" if case.by_drop else "annotated"
