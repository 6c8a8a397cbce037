"""What the benchmark of thresholds concludes from costs: chosen on one hospital, reported on another."""

import numpy as np
import pytest

from benchmarks.claims import Claim
from benchmarks.studies.threshold_value_jobs import Compared, costs
from benchmarks.studies.thresholds import bounds, claims, cost

ABOUT = {"data": "drawn", "split_unit": "hospital", "seeds": [0], "date": "2026-11-30"}
ABOUT |= {"command": "python -m benchmarks thresholds", "machine": "AMD EPYC"}


def hospital(wrong: float, seed: int = 0):
    """40 patients with 5 sequences in each of two groups, of which the share `wrong` costs 1."""
    rng = np.random.default_rng(seed)
    patients, groups = np.repeat(np.arange(40), 10), np.tile(["whole", "cut"], 200)
    return costs(patients, groups, rng.uniform(size=400) < wrong)


def test_groups_count_alike_however_many_rows_they_have():
    assert cost(costs([1, 1, 1, 2], ["whole"] * 3 + ["cut"], [0, 0, 0, 1])) == 0.5
    low, high = bounds(hospital(0.3))
    assert low < cost(hospital(0.3)) < high and 0.05 < high - low < 0.2
    assert bounds(costs(range(10), ["whole"] * 10, [0] * 10)) is None


@pytest.mark.parametrize(
    ("setting", "reporting", "outcome"),
    [
        ((0.1, 0.3), (0.1, 0.3), "measured"),  # the value in use is the best
        ((0.3, 0.1), (0.3, 0.1), "better"),
        ((0.3, 0.1), (0.2, 0.2), "no difference"),  # chosen on one hospital, not confirmed by the other
        ((0.3, 0.1), (0.1, 0.3), "worse"),
    ],
)
def test_what_another_hospital_says_decides(setting, reporting, outcome):
    tables = [dict(zip("ab", map(hospital, wrong, (0, 1)), strict=True)) for wrong in (setting, reporting)]
    said = claims(Compared("x.LIMIT", "a", "errors", *tables))
    first, *by_group = (Claim.model_validate(each | ABOUT) for each in said)
    assert first.outcome == outcome
    assert first.figures["best"] == ("a" if outcome == "measured" else "b")
    assert [each.figures["group"] for each in by_group] == ["whole", "cut"]
