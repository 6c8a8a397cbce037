"""The thresholds about cines that `thresholds` compares: scene cuts, and what is taken for graphics."""

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.studies.blanking import after_h264, draw, shares, synthetic, watched
from benchmarks.studies.threshold_jobs import OFTEN
from benchmarks.studies.threshold_value_jobs import BEFORE, Compared, Costs, Made, costs
from fetalflow.cine import cuts, sector
from fetalflow.cine.reading import open_cine
from fetalflow.cine.recording import Limits
from fetalflow.cine.sector import Watch
from fetalflow.hospital.phantom.movement import hospital as movement
from fetalflow.settings.params import load_settings

VIDEOS = (".mp4", ".avi", ".mov", ".mpeg", ".mpg", ".gif")
MOST_FRAMES = 400  # of a real cine
CINES = 60  # of the phantom, of each seed
PICTURES = 6  # with flow and graphics, of each seed


def scene_cuts(made: Made) -> Iterator[Compared]:
    """The difference from which two frames are of two scenes, and how far it stands out."""
    counted = "cuts that are missed, and cines with a false one"
    hospitals = [list(_filmed(place)) for place in made.places]
    thresholds = {f"{each:g}": (each, cuts.OUTLIER) for each in (0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5)}
    yield Compared("extract.cut_threshold", "0.3", counted, *(_missed(thresholds, cines) for cines in hospitals))
    outliers = {f"{each:g}": (0.3, each) for each in (1.5, 2.0, 2.5, 3.0, 4.0)}
    yield Compared("cine.cuts.OUTLIER", "2.5", counted, *(_missed(outliers, cines) for cines in hospitals))


def _filmed(place: Path) -> Iterator[tuple[str, int, np.ndarray]]:
    """Patient, first frame of the second scene (0: there is none), and the small pictures of every cine."""
    for cine, recording in _opened(place):
        yield cine.patient.name, cine.cut, np.stack([cuts.small(frame) for frame in recording.frames])


def _missed(values: Mapping[str, tuple[float, float]], cines: list[tuple[str, int, np.ndarray]]) -> Costs:
    found = {}
    for value, (threshold, outlier) in values.items():
        rows = []
        with patch.object(cuts, "OUTLIER", outlier):
            for patient, cut, pictures in cines:
                seen = cuts.find_cuts(pictures, threshold)
                rows.append((patient, "cines", any(each != cut for each in seen)))
                rows += [(patient, "cuts", cut not in seen)] if cut else []
        found[value] = costs(*zip(*rows, strict=True))
    return found


def blanking(made: Made) -> Iterator[Compared]:
    """What is taken for graphics: of flow and graphics drawn over speckle, and of the tissue of cines."""
    counted = "share of the pixels of flow that is blanked, of graphics that are kept, and of cines that lose tissue"
    grids = {
        "STANDS": (3.0, 5.0, 8.0),
        "SHARP": (60, 90, 120),
        "FLICKERS": (8.0, 12.0, 16.0),
        "MOSTLY": (0.4, 0.6, 0.8),
    }
    drawn = [list(_drawn(seed)) for seed in made.seeds]
    cines = [list(_watched(place)) for place in made.places]
    for name, grid in grids.items():
        found: list[Costs] = [{}, {}]
        for value in grid:
            with patch.object(sector, name, value):
                for place, costs_of in enumerate(found):
                    rows = [
                        (which, what.partition(",")[0], blanked if what.startswith("flow") else 1 - blanked)
                        for which, watch, places in drawn[place]
                        for what, _, blanked in shares(watch, places)
                    ]
                    rows += [(patient, "tissue", _loses_tissue(watch)) for patient, watch in cines[place]]
                    costs_of[f"{value:g}"] = costs(*zip(*rows, strict=True))
        yield Compared(f"cine.sector.{name}", BEFORE[name], counted, *found)


def _drawn(seed: int) -> Iterator[tuple[str, Watch, dict[str, np.ndarray]]]:
    """Name, watch and places of pictures with flow and graphics, as drawn and after H.264."""
    rng = np.random.default_rng(seed)
    for which in range(PICTURES):
        grey = synthetic(float(rng.uniform(0, 2)), int(rng.integers(2**31)))
        flow = ("pulsing", "constant")[which % 2]
        frames, places = draw(grey, flow, int(rng.integers(2**31)), tuple(map(int, rng.integers(-20, 21, 2))))
        for seen in (frames, after_h264(frames)):
            yield f"drawing {which}", watched(seen), places


def _watched(place: Path) -> Iterator[tuple[str, Watch]]:
    """Patient and watch of cines of the phantom, over whose tissue nothing is drawn."""
    for planned, recording in islice(_opened(place), CINES):
        watch = Watch()
        for frame in recording.frames:
            watch.look(frame.copy(), lambda: None)
        yield planned.patient.name, watch


def _loses_tissue(watch: Watch) -> bool:
    """Whether more than 0.1 % of the sector is blanked as strokes of text: with STANDS 0 there are none."""
    kept = sector.keep(watch, None) > 0
    with patch.object(sector, "STANDS", 0):
        whole = sector.keep(watch, None) > 0
    return bool((whole & ~kept).sum() > 0.001 * whole.sum())


def _opened(place: Path) -> Iterator[tuple[Any, Any]]:
    """Every cine of the drop that is not broken: as planned, and opened."""
    settings = load_settings(place / "params.yaml").blocks["movement"].phantom
    with patch.object(movement, "CUT", OFTEN):
        planned = [cine for cine in movement.plan(settings) if not cine.fault]
    for cine in planned:
        with open_cine(place / "data/movement/drop" / cine.video, Limits()) as recording:
            yield cine, recording


def on_real_cines(folder: Path) -> Iterator[dict[str, Any]]:
    """Claims about cines whose true cuts and graphics nobody has marked: how much more the best values find there."""
    found: list[tuple[list[int], list[bool]]] = []
    for path in sorted(each for each in folder.rglob("*") if each.suffix.lower() in VIDEOS):
        watch, pictures = Watch(), []
        with open_cine(path, Limits()) as recording:
            for frame in islice(recording.frames, MOST_FRAMES):
                watch.look(frame.copy(), lambda: None)
                pictures.append(cuts.small(frame))
        lost = []
        for stands in (5.0, 8.0):
            with patch.object(sector, "STANDS", stands):
                lost.append(_loses_tissue(watch))
        found.append(([len(cuts.find_cuts(np.stack(pictures), each)) for each in (0.3, 0.15)], lost))
    counted, lost = (np.array(each) for each in zip(*found, strict=True))
    shared = {"n": {"cines": len(found)}, "interval": "none: nobody has marked what is true", "outcome": "measured"}
    yield shared | {
        "claim": "extract.cut_threshold: {cines_before} of the cines have a cut at 0.3 ({cuts_before} cuts), and "
        "{cines_best} at 0.15 ({cuts_best} cuts, {most} of them in one cine).",
        "figures": {"cines_before": int((counted[:, 0] > 0).sum()), "cuts_before": int(counted[:, 0].sum())}
        | {"cines_best": int((counted[:, 1] > 0).sum()), "cuts_best": int(counted[:, 1].sum())}
        | {"most": int(counted[:, 1].max())},
    }
    yield shared | {
        "claim": "cine.sector.STANDS: more than 0.1 % of the sector is taken for text in {before} of the cines at 5, "
        "and in {best} at 8.",
        "figures": {"before": int(lost[:, 0].sum()), "best": int(lost[:, 1].sum())},
    }
