"""One page of an examination: printable, with pictures, readable without a network."""

import base64
import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from matplotlib.figure import Figure

from fetalflow.biometry.estimates import UNKNOWN_AGE
from fetalflow.evaluation.certainty.record import in_percent
from fetalflow.inference.actogram.drawing import draw_actograms, in_short
from fetalflow.inference.actogram.result import Actogram
from fetalflow.inference.examination.overlay import draw_examinations, runs
from fetalflow.report.template import page_template
from fetalflow.study.fetuses import CANNOT_BE_KNOWN
from fetalflow.study.result import FOR_RESEARCH, JoinedLength, Plane, StudyResult, View

NAMES = {
    "hc": "head circumference",
    "bpd": "biparietal diameter",
    "ofd": "occipitofrontal diameter",
    "ac": "abdominal circumference",
    "fl": "femur length",
}
DPI = 90


def page(result: StudyResult) -> str:
    """The examination as HTML with its pictures in it."""
    levels = [length.level for length in result.lengths.values() if length.level]
    return page_template("study").render(
        result=result,
        for_research=FOR_RESEARCH,
        cannot_be_known=CANNOT_BE_KNOWN,
        lengths=[_length(each) for each in result.lengths.values()],
        level=in_percent(min(levels)) if levels else "",
        unknown_age=UNKNOWN_AGE,
        estimates=[_estimate(each) for each in (*result.ages, *result.weights)],
        pictures=_pictures(result),
        movement=[(each.source, _movement(each), _image(draw_actograms([each]))) for each in result.movement],
        files=_files(result),
    )


def _length(length: JoinedLength) -> dict[str, Any]:
    return {
        "short": length.name.upper(),
        "long": NAMES[length.name],
        "value": f"{length.value:.1f} mm",
        "interval": "" if length.low is None else f"{length.low:.1f} to {length.high:.1f} mm",
        "from": f"{_count(length.views, 'view')}, {_count(length.frames, 'frame')}",
        "growth": _growth(length.z, length.percentile),
        "against": length.speaks_against,
    }


def _estimate(found: Any) -> dict[str, str]:
    digits = 1 if found.unit == "weeks" else 0
    return {
        "what": "Age" if found.unit == "weeks" else "Weight",
        "formula": found.name,
        "value": "none" if found.value is None else f"{found.value:.{digits}f} {found.unit}",
        "growth": _growth(found.z, found.percentile),
        "reason": found.reason,
    }


def _growth(z: float | None, percentile: float | None) -> str:
    if z is None or percentile is None:
        return ""
    place = "under 1" if percentile < 1 else "over 99" if percentile > 99 else f"{percentile:.0f}"
    return f"percentile {place} (z {z:+.1f})"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _pictures(result: StudyResult) -> list[tuple[str, str, str]]:
    """By structure: its name, what the picture shows, and the picture as a data URI."""
    found = []
    for each in result.examinations:
        file, frame = result.best[each.structure]
        # The warnings are text of the page, where there is room for them.
        bare = replace(each, warnings=())
        found.append((each.structure, f"{file}, frame {frame}", _image(draw_examinations([bare]))))
    return found


def _image(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _movement(actogram: Actogram) -> str:
    answer = f". Whole cine: {actogram.answer.in_words}" if actogram.answer else ""
    return f"{in_short(actogram)}{answer}"


def _files(result: StudyResult) -> list[dict[str, Any]]:
    planes, views = defaultdict(list), defaultdict(list)
    for each in result.planes:
        planes[each.file].append(each)
    for each in result.views:
        views[each.file].append(each)
    return [
        {
            "name": file.name,
            "kind": file.not_read and "not read" or f"{file.kind}, {_count(file.frames, 'frame')}",
            "planes": [_plane(each) for each in planes[file.name]],
            "views": [_view(each) for each in views[file.name]],
            "against": [*filter(None, [file.not_read, result.no_movement.get(file.name)])],
        }
        for file in result.files
    ]


def _plane(plane: Plane) -> str:
    frames = f"frame {plane.first_frame}" if plane.first_frame == plane.last_frame else (
        f"frames {plane.first_frame} to {plane.last_frame}"
    )  # fmt: skip
    strange = ", unlike the training data" if plane.unfamiliar else ""
    return f"{plane.label} ({plane.probability:.2f}), {frames}{strange}"


def _view(view: View) -> tuple[str, Sequence[str]]:
    lengths = ", ".join(f"{name.upper()} {each.value:.1f} {each.unit}" for name, each in view.lengths.items())
    where = f" on frames {runs(view.frames)}" if len(view.frames) > 1 else ""
    used = "counts" if view.used else "does not count"
    return f"{view.structure}: {lengths or 'no length'}{where}; {used}", view.speaks_against
