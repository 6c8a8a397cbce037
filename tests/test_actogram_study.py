"""The study of the actogram: its counts and claims, from results whose truth is known."""

import pytest

from benchmarks.claims import write_claims
from benchmarks.studies.actogram import claims_of, counts_of, figures_of, tuning


def result(patient: int, found: list[tuple[str | None, float, float]], true: list[tuple[str, float, float]]) -> dict:
    """Of a cine of 40 s: events with a speed of 20 mm/s, which truly have 10."""
    time = [0.1 * i for i in range(400)]
    events = [{"label": what, "start_s": a, "end_s": b, "speed": 20.0} for what, a, b in found]
    activity = [10.0 if any(a <= t < b for _, a, b in found) else 1.0 + 0.01 * patient for t in time]
    actogram = {"events": events, "still_s": 30.0, "judged_s": 40.0, "seconds": 40.0}
    moved = [{"what": what, "start": a, "end": b, "speed": 10.0} for what, a, b in true]
    probe = {"what": "probe", "start": 30.0, "end": 35.0, "speed": None}
    return {
        "patient": f"P{patient}",
        "site": f"site {patient % 2}",
        "true": [*moved, probe],
        "actogram": actogram | {"time_s": time, "activity": activity},
    }


LEG = ("leg", 2.0, 6.0)
RESULTS = [
    result(0, [LEG, ("arm", 12.0, 15.0)], [LEG, ("hand", 12.0, 15.0)]),
    result(1, [LEG, (None, 21.0, 24.0)], [LEG]),
    result(2, [LEG], [LEG, ("foot", 11.0, 13.0)]),
    result(3, [(None, 2.0, 6.0)], [LEG]),
    result(4, [LEG], [LEG]),
]


def test_the_counts_of_one_woman():
    found = counts_of(RESULTS[0])
    assert (found["found"], found["true"], found["matched"], found["matched_by_label"]) == (2, 2, 2, 1)
    assert (found["named"], found["right"]) == (2, 1)
    assert counts_of(RESULTS[3])["named"] == 0 and counts_of(RESULTS[2])["true"] == 2


def test_the_figures_have_intervals_over_women_and_the_claims_are_whole(tmp_path):
    figures = figures_of(RESULTS)
    assert figures["precision"] == pytest.approx(6 / 7) and figures["recall"] == pytest.approx(6 / 7)
    assert figures["named"] == pytest.approx(5 / 6) and figures["named_right"] == pytest.approx(4 / 5)
    assert figures["speed_ratio"] == pytest.approx(2) and "speed_ratio_low" not in figures
    assert figures["precision_low"] < figures["precision"] < figures["precision_high"]
    assert figures["chunks"] == 20 and figures["moving_chunks"] == 7 and 0.5 < figures["auroc"] < 1
    claims = list(claims_of(figures, RESULTS, 40.0, "python -m benchmarks actogram", "A network"))
    assert len(claims) == 4 and write_claims("actogram", claims, tmp_path).exists()


def test_other_limits_are_counted():
    lines = tuning(RESULTS)
    assert len(lines) == 19 and lines[1].split()[2:] == ["7", "7", "6"]
