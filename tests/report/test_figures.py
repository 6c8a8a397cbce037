"""Figures show what they are given: the numbers are read back from the drawing."""

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from fetalflow.evaluation.holm import p_text
from fetalflow.evaluation.predictions import check_predictions
from fetalflow.evaluation.scoring import roc_points, score
from fetalflow.evaluation.significance import compare_all
from fetalflow.report.figures import (
    accuracy_figure,
    confusion_figure,
    curves_figure,
    differences_figure,
    reliability_figure,
    roc_figure,
)
from fetalflow.settings.params import Evaluate, Significance

LABELS = ["arm", "hand", "leg"]


def predictions(skill: float, seed: int):
    truth = np.random.default_rng(0).integers(3, size=90)
    z = np.random.default_rng(seed).normal(size=(90, 3))
    z[np.arange(90), truth] += skill
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    table = pd.DataFrame(p, columns=[f"p_{label}" for label in LABELS])
    patient = (np.arange(90) % 15).astype(str)
    sequence = [f"s{i}" for i in range(90)]
    return check_predictions(table.assign(sequence=sequence, patient=patient, y_true=np.array(LABELS)[truth]))


GOOD, BAD = predictions(2.5, 1), predictions(0.5, 2)
REPORT = score(GOOD, Evaluate(bootstrap=200))
CURVES = pd.DataFrame(
    {
        "fold": 0,
        "seed": 0,
        "epoch": [1, 2, 3],
        "train_loss": [2.0, 1.0, 0.5],
        "train_accuracy": [0.3, 0.6, 0.9],
        "val_loss": [2.1, 1.2, 1.4],
        "val_accuracy": [0.2, 0.5, 0.7],
        "seconds": 1.0,
    }
)


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def picture(figure) -> np.ndarray:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return np.asarray(Image.open(buffer).convert("L"))


def test_confusion_shows_every_count_in_its_cell():
    axes = confusion_figure(LABELS, REPORT["confusion"]).axes[0]
    shown = np.zeros((3, 3), dtype=int)
    for text in axes.texts:
        column, row = text.get_position()
        shown[row, column] = int(text.get_text())
    assert shown.tolist() == REPORT["confusion"]
    assert [t.get_text() for t in axes.get_yticklabels()] == LABELS and axes.get_ylabel() == "true"


def test_a_true_class_without_rows_is_an_empty_row():
    figure = confusion_figure(["a", "b"], [[3, 1], [0, 0]])
    assert np.asarray(figure.axes[0].images[0].get_array()).tolist() == [[0.75, 0.25], [0, 0]]


def test_confusion_of_six_long_labels_can_be_read():
    labels = ["Fetal abdomen", "Fetal brain", "Fetal femur", "Fetal thorax", "Maternal cervix", "Other"]
    counts = np.random.default_rng(0).integers(0, 2000, (6, 6)) + np.diag([10_000] * 6)
    figure = confusion_figure(labels, counts)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer, axes = canvas.get_renderer(), figure.axes[0]
    cell = axes.get_window_extent(renderer).width / 6
    assert max(text.get_window_extent(renderer).width for text in axes.texts) < 0.9 * cell
    for ticks in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [tick.get_text() for tick in ticks] == labels and ticks[0].get_fontsize() >= 9
    boxes = [tick.get_window_extent(renderer) for tick in axes.get_yticklabels()]
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])


def test_roc_names_each_class_with_its_auc():
    areas = {row["label"]: row["auc"] for row in REPORT["per_class"]}
    figure = roc_figure(roc_points(GOOD), areas | {"leg": None})
    names = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert names == [f"arm  {areas['arm']:.3f}", f"hand  {areas['hand']:.3f}", "leg"]
    assert not roc_figure(roc_points(GOOD).iloc[:0], {}).axes[0].get_legend()


def test_reliability_draws_the_table_and_the_ece():
    figure = reliability_figure(REPORT["calibration"], "fetalmovnet", "images")
    above, below = figure.axes
    assert below.get_ylabel() == "images"
    line = next(line for line in above.lines if line.get_label() == "network")
    assert list(line.get_ydata()) == [row["accuracy"] for row in REPORT["calibration"]["reliability"]]
    assert sum(bar.get_height() for bar in below.patches) == 90
    assert f"ECE {REPORT['metrics']['ece']:.3f}" in above.get_title()


def test_curves_mark_the_epoch_of_the_lowest_validation_loss():
    two_runs = pd.concat([CURVES, CURVES.assign(seed=1, val_loss=[1.0, 1.2, 1.4])])
    left, right = curves_figure(two_runs).axes
    dots = [(line.get_xdata()[0], line.get_ydata()[0]) for line in left.lines if line.get_marker() == "o"]
    assert dots == [(2, 1.2), (1, 1.0)]
    names = [text.get_text() for text in right.get_legend().get_texts()]
    assert names == ["training", "validation", "lowest validation loss"]  # once, not once per run


def test_accuracy_and_difference_say_value_and_interval():
    metrics = {"ours": REPORT["metrics"], "cnn": score(BAD, Evaluate(bootstrap=200))["metrics"]}
    axes = accuracy_figure(metrics).axes[0]
    m = metrics["ours"]
    bounds = f"[{100 * m['accuracy_low']:.1f}, {100 * m['accuracy_high']:.1f}]"
    assert texts(axes)[0] == f"{100 * m['accuracy']:.1f}  {bounds}"
    significance = compare_all(GOOD, {"cnn": BAD}, Significance(), name="ours")
    axes = differences_figure(significance).axes[0]
    gain = 100 * (metrics["ours"]["accuracy"] - metrics["cnn"]["accuracy"])
    assert texts(axes)[0] == f"{gain:+.1f}  p < 0.001"
    assert [p_text(p) for p in (0.0, 0.00099, 0.001, 0.0123)] == ["p < 0.001", "p < 0.001", "p = 0.001", "p = 0.012"]


@pytest.mark.parametrize("rows", [0, 1])
def test_a_figure_is_drawn_and_leaves_no_global_state(rows):
    significance = compare_all(GOOD, {"cnn": BAD} if rows else {}, Significance())
    image = picture(differences_figure(significance))
    assert image.min() < 100 and image.max() == 255
    assert pyplot.get_fignums() == []


def test_nothing_is_cut_off_at_the_edges():
    labels = [f"a very long label {k}" for k in range(12)]
    counts = np.eye(12, dtype=int) * 5
    for figure in (confusion_figure(labels, counts), accuracy_figure({"x" * 30: REPORT["metrics"]})):
        image = picture(figure)
        edges = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
        assert edges.min() == 255
