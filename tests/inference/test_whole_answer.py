"""What an actogram says of the whole cine is what `predict` would say: the mean over the windows, with its set."""

import numpy as np
import pytest

from fetalflow.evaluation.certainty.conformal import Bound
from fetalflow.evaluation.certainty.record import Certainty, OfLabels
from fetalflow.inference.actogram.events import Windowed
from fetalflow.inference.actogram.whole import answer_of

LABELS = ("arm", "leg", "head")
SURE = Certainty(OfLabels(3.0, Bound(0.2, 5 / 6, 5), {}))  # a label with .2 or more is in the set
P = np.array([[0.7, 0.25, 0.05], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1]])  # of the network


def windows(*strange: bool | None) -> list[Windowed]:
    return [Windowed(i, i + 9, p, each) for i, (p, each) in enumerate(zip(SURE.calibrated(P), strange, strict=True))]


def test_the_mean_is_of_the_network_and_the_probability_is_calibrated():
    found = answer_of(windows(False, False, True), LABELS, SURE, True)
    mean = P.mean(axis=0)
    assert (found.label, found.label_set, found.level) == ("arm", ("arm", "leg"), 5 / 6)
    assert found.probability == pytest.approx(SURE.calibrated(mean)[0], abs=1e-3)
    assert (found.share, found.unlike, found.windows) == (0.667, pytest.approx(1 / 3), 3)
    assert "arm (0." in found.in_words and "not excluded: arm, leg; likeliest in 67% of 3 windows" in found.in_words


@pytest.mark.parametrize("certainty", [SURE, Certainty()])
def test_a_cine_that_is_unlike_the_training_data_has_no_label_and_no_set(certainty):
    found = answer_of(windows(True, True, False), LABELS, certainty, True)
    assert (found.label, found.probability, found.label_set, found.level) == (None,) * 4
    assert "67% of 3 windows are unlike the training data" in found.in_words


def test_of_a_still_fetus_no_part_is_named():
    found = answer_of(windows(False, False, False), LABELS, SURE, False)
    assert (
        found.label is None and found.label_set is None and found.in_words == "no part is named: no movement was found"
    )


def test_what_is_not_known_is_not_said():
    found = answer_of(windows(None, None, None), LABELS, Certainty(), True)
    assert found.label in LABELS and found.label_set is None and found.unlike is None
    assert answer_of([], LABELS, SURE, True) is None


def test_calibration_can_be_undone():
    assert SURE.uncalibrated(SURE.calibrated(P)) == pytest.approx(P) and Certainty().uncalibrated(P) is P
