"""What an answer says of its certainty: to a cine, in a measurement, in a stream, with every engine and with none."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from bright_biometry import bright_package, shown
from scipy.special import softmax
from typer.testing import CliRunner

from fetalflow.errors import InputError
from fetalflow.evaluation.certainty.conformal import Bound
from fetalflow.evaluation.certainty.record import NO_LENGTH, Certainty, OfLabels, OfLength
from fetalflow.inference.examination.examine import examine
from fetalflow.inference.examination.overlay import length_text
from fetalflow.inference.package import Package
from fetalflow.models.network_answer import NetworkAnswer
from fetalflow.settings.params import Extract
from flows.cli.answers import _examination_lines
from flows.cli.app import app

LABELS = ("head", "arm", "leg")
SURE = Certainty(OfLabels(3.0, Bound(0.2, 5 / 6, 5), {0.05: 0.5}))
STRANGE = SimpleNamespace(layer="head", score=lambda features: np.full(len(features), 2.0))


class Scripted:
    """An engine that answers each sequence with the logits in its first pixels."""

    name, outputs = "scripted", ("logits",)

    def __init__(self, logits):
        self.logits = np.array(logits, np.float32)

    def answer(self, frames):
        return NetworkAnswer(self.logits[: len(frames)], None, np.zeros((len(frames), 1)))


def package(logits, certainty=SURE, familiarity=None, frames: int = 2) -> tuple[Package, np.ndarray]:
    extract = Extract(frames=frames, stride=frames, labels=LABELS).model_dump(mode="json")
    config = {"task": "movement", "labels": LABELS, "frames": frames, "size": 16, "extract": extract}
    made = Package(None, config, familiarity, Scripted(logits), None, certainty)
    return made, np.zeros((len(logits), frames, 16, 16), np.uint8)


def test_probabilities_are_calibrated_and_labels_stay():
    logits = [[3.0, 1.0, 0.0], [0.0, 2.0, 1.9], [0.0, 2.0, 1.9]]
    (sure, cine), (bare, _) = package(logits), package(logits, None)
    found, before = sure.predict(cine), bare.predict(cine)
    assert found.label == before.label and [w.label for w in found.windows] == [w.label for w in before.windows]
    for window, row in zip(found.windows, logits, strict=True):
        assert list(window.probabilities.values()) == pytest.approx(softmax(np.array(row) / 3), abs=1e-6)
    assert max(found.probabilities.values()) < max(before.probabilities.values())


def test_the_temperature_changes_no_label_of_several_windows():
    """The mean of calibrated probabilities would have another label here than the mean of those by the network."""
    logits = [[9.0, 0.0, 0.0], [0.0, 1.2, 0.0], [0.0, 1.2, 0.0]]
    certainty = replace(SURE, labels=replace(SURE.labels, temperature=0.2))
    sure, cine = package(logits, certainty)
    averaged = np.mean([list(w.probabilities.values()) for w in sure.predict(cine).windows], axis=0)
    assert LABELS[averaged.argmax()] == "arm", "so this test can fail"
    assert sure.predict(cine).label == package(logits, None)[0].predict(cine).label == "head"


def test_an_answer_has_a_set_and_its_level():
    made, cine = package([[2.0, 1.9, -9.0]])
    found = made.predict(cine)
    assert (found.label_set, found.level) == (["head", "arm"], 5 / 6)
    assert (found.windows[0].label_set, found.windows[0].level) == (["head", "arm"], 5 / 6)
    json.dumps(found.as_dict())


def test_an_earlier_package_says_nothing_of_certainty():
    made, cine = package([[2.0, 1.0, 0.0]], None)
    found = made.predict(cine).as_dict()
    assert found["label"] == "head"
    for name in ("label_set", "level", "at_most_error", "not_said"):
        assert found[name] is None
    with pytest.raises(InputError, match=r"no certainty.json, so no error rate can be promised. Run the pipeline"):
        made.predict(cine, at_most_error=0.05)


def test_what_is_unlike_the_training_data_has_no_set():
    made, cine = package([[9.0, 0.0, 0.0]], familiarity=STRANGE)
    found = made.predict(cine)
    assert found.unfamiliar and found.label_set is None and found.level is None
    refused = made.predict(cine, at_most_error=0.05)
    assert refused.label is None and refused.not_said == "unlike the training data"


def test_with_a_stated_error_rate_only_sure_answers_are_given():
    made, cine = package([[9.0, 0.0, 0.0], [1.0, 0.9, 0.8]])
    found = made.predict(cine[:1], at_most_error=0.059)
    assert (found.label, found.at_most_error, found.not_said) == ("head", 0.05, None)
    both = made.predict(cine, at_most_error=0.05)
    assert [window.label for window in both.windows] == ["head", None]
    unsure = package([[1.0, 0.9, 0.8]])[0].predict(cine[1:], at_most_error=0.05)
    assert unsure.label is None and "is below 0.500, which the promise needs" in unsure.not_said
    with pytest.raises(InputError, match=r"at most 0.01 cannot be promised with 5 validation patients: all answers"):
        made.predict(cine, at_most_error=0.01)


def test_the_best_of_many_frames_is_not_promised():
    made, cine = package([[9.0, 0.0, 0.0], [9.0, 0.9, 0.8]], frames=1)
    assert made.predict(cine).best.label == "head"
    limited = made.predict(cine, at_most_error=0.05)
    assert limited.label == "head" and limited.best is None and limited.best_by_label == {}


def test_the_command_says_a_label_only_where_the_error_rate_is_kept(tmp_path, monkeypatch):
    made, cine = package([[9.0, 0.0, 0.0]])
    monkeypatch.setattr("fetalflow.inference.package.load", lambda folder, engine, once: made)
    monkeypatch.setattr("flows.cli.answers.package_folder", lambda model, task, workspace, engine: tmp_path)
    monkeypatch.setattr(Package, "_from_file", lambda self, path: self._from_array(cine))

    def asked(*words: str):
        return CliRunner().invoke(app, ["predict", "cine.avi", *words])

    assert json.loads(asked().stdout)["label"] == json.loads(asked("--at-most-error", "0.05").stdout)["label"] == "head"
    for rate, why in {
        "0.01": "cannot be promised with 5",
        "0": "between 0.01 and 1",
        "nan": "between 0.01 and 1",
    }.items():
        with pytest.raises(InputError, match=why):
            raise asked("--at-most-error", rate).exception


HC = Certainty(SURE.labels, {"hc": OfLength(Bound(1.5, 0.9, 12), False)})


def measured(certainty, **given):
    return examine(replace(bright_package(), certainty=certainty), shown("head", 4), mm_per_px=0.8, **given)


def test_a_length_has_an_interval_and_a_label_its_set():
    found = measured(HC)
    hc = found.lengths["hc"]
    half = 1.5 * (0.02 * hc.value + hc.spread)
    assert (hc.low, hc.high, hc.level) == (pytest.approx(hc.value - half), pytest.approx(hc.value + half), 0.9)
    assert length_text(hc) == f"{hc.value:.1f} mm [{hc.low:.1f}, {hc.high:.1f}]"
    assert found.label_set == ["head"] and found.level == 5 / 6
    assert f"no interval of BPD, OFD: {NO_LENGTH}" in found.warnings
    stated = found.as_dict()
    assert stated["lengths"]["hc"]["low"] == hc.low and stated["label_set"] == ["head"]
    text = "\n".join(_examination_lines(found))
    assert length_text(hc) in text and "the true length with a probability of 90 %" in text
    assert "the label is one of head with a probability of 83 %" in text


def test_without_true_lengths_there_is_no_interval_and_the_reason():
    found = measured(Certainty(SURE.labels, reason="the split is by sequence"))
    assert all(each.low is None and each.level is None for each in found.lengths.values())
    assert "no interval of HC, BPD, OFD: the split is by sequence" in found.warnings
    assert "±" in length_text(found.lengths["hc"])


def test_an_earlier_package_measures_as_before():
    found, bare = measured(HC), measured(None)
    assert bare.label_set is None and all(each.low is None for each in bare.lengths.values())
    assert not any("interval" in text for text in bare.warnings)
    assert {n: each.value for n, each in bare.lengths.items()} == {n: each.value for n, each in found.lengths.items()}


def test_lengths_in_pixels_have_no_interval():
    package = replace(bright_package(), certainty=HC)
    found = examine(package, shown("head", 4))
    assert found.lengths["hc"].unit == "px" and found.lengths["hc"].low is None
    assert not any("interval" in text for text in found.warnings)


def test_shown_lengths_of_what_is_unlike_the_training_data_have_no_interval():
    package = replace(bright_package(), certainty=HC, familiarity=STRANGE)
    found = examine(package, shown("head", 4), mm_per_px=0.8, show_unfamiliar=True)
    assert found.lengths and found.lengths["hc"].low is None and found.label_set is None


def test_a_network_of_masks_alone_has_intervals_and_no_set():
    silent = replace(bright_package(silent=True), certainty=Certainty(None, HC.lengths))
    found = examine(silent, shown("head", 4), mm_per_px=0.8, structure="head")
    assert found.label_set is None and found.lengths["hc"].level == 0.9
