"""The page of a network that measures says what the files say, and no accuracy where no label is told."""

import json
import re

import numpy as np
import pytest
from finished_biometry_run import LABELS, MAIN, MASK_ONLY, TASK, make_finished_biometry_run
from report_page import Page, fits, page_of

from fetalflow.artefacts import read_json
from fetalflow.report.evidence import read_evidence
from fetalflow.report.figures import curves_figure, differences_figure
from fetalflow.report.measurement_figures import age_figure, bland_altman_figure
from fetalflow.settings.params import load_settings
from fetalflow.settings.tasks import get_task


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = make_finished_biometry_run(tmp_path_factory.mktemp("biometry"), patients=45, variants=(MAIN, MASK_ONLY))
    return folder, Page(page_of(TASK, folder))


@pytest.fixture(scope="module")
def measured(run):
    return read_json(run[0] / "reports" / TASK / "evaluation" / f"{MAIN}-measurements.json")


def test_the_page_says_what_the_files_say(run, measured):
    folder, page = run
    fits(page)
    assert page.open == [] and page.loads == [] and len(page.ids) == len(set(page.ids))
    assert "measurements" in page.ids and {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert all(image["src"].startswith("data:image/") and image["alt"] for image in page.images)
    metrics = read_json(folder / "reports" / TASK / "metrics.json")
    for variant, found in metrics.items():
        dice = f"{found['dice']:.3f} {found['dice_low']:.3f} – {found['dice_high']:.3f}"
        assert re.search(rf"{variant} {re.escape(dice)}", page.text)
        assert f"{found['hc_mae_mm']:.2f} {found['hc_mae_mm_low']:.2f}" in page.text
    for row in measured["agreement"]:
        assert f"{row['limit_low']:.1f} to {row['limit_high']:.1f} {row['refused']}" in page.text
    assert f"{measured['floor'][0]['bias']:.2f}" in page.text
    assert "None" not in page.text and "nan" not in page.text.split()


def test_the_targets_are_the_papers(run):
    published = get_task(TASK).published["fetalnet"]
    quoted = re.search(r"fetalnet \(paper\) ([\d. –]+)", run[1].text)[1].split()
    assert quoted[:2] == [f"{published['dice']:.3f}", f"{published['iou']:.3f}"]
    assert {f"{published[f'{m}_mae_mm']:.2f}" for m in ("hc", "ac", "fl")} <= set(quoted)


def test_refusals_stand_apart_by_view(run, measured):
    cut = [row for row in measured["refusals"] if row["view"] == "cut"]
    assert cut and all(row["share"] == 1 for row in cut)
    whole = [row for row in measured["refusals"] if row["view"] == "whole"]
    refused, n = sum(row["refused"] for row in whole), sum(row["n"] for row in whole)
    assert f"Refused, of whole views {refused} of {n}" in run[1].text
    assert sum(row["other"] for row in whole) == refused > 0, "only wrong names are refused in whole views here"


def test_a_network_of_masks_alone_has_no_accuracy(run):
    folder, page = run
    assert re.search(rf"{MASK_ONLY}( –)+ Always the majority class", page.text)
    metrics = read_json(folder / "reports" / TASK / "metrics.json")[MASK_ONLY]
    assert metrics["accuracy"] is None and metrics["dice"] > 0.9
    headline = read_json(folder / "metrics" / TASK / f"{MASK_ONLY}.json")
    assert headline["accuracy"] is None and headline["hc_mae_mm"] == metrics["hc_mae_mm"]
    figures = {path.stem for path in (folder / "reports" / TASK / "figures").iterdir()}
    assert f"{MASK_ONLY}-bland_altman" in figures and f"{MAIN}-roc" in figures and "length_differences" in figures
    assert not {f"{MASK_ONLY}-confusion", f"{MASK_ONLY}-roc", f"{MASK_ONLY}-reliability"} & figures
    for comparison in read_json(folder / "reports" / TASK / "significance.json")["comparisons"].values():
        assert comparison["verdict"] in page.text


def test_a_drop_of_one_label_goes_through(tmp_path):
    folder = make_finished_biometry_run(tmp_path, ("head",), 24, (MAIN,))
    page = Page(page_of(TASK, folder))
    assert page.open == [] and "so there are no metrics here" in page.text and "Accuracy of" not in page.text
    assert "BPD" in page.text and "None" not in page.text
    assert "were given the true structure" not in page.text, "with one label there is nothing to tell"
    metrics = json.loads((folder / "reports" / TASK / "metrics.json").read_text())[MAIN]
    assert metrics["accuracy"] is None and metrics["hc_n"] > 0 and "ac_n" not in metrics


# ---- figures


def test_bland_altman_draws_what_was_measured(measured):
    figure = bland_altman_figure(measured, MAIN)
    rows = {row["measure"]: row for row in measured["agreement"]}
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert len(panels) == len(rows) == 5
    axes, row, points = panels[0], rows["hc"], measured["points"]["hc"]
    heights = {round(float(line.get_ydata()[0]), 9) for line in axes.lines}
    assert heights == {round(row[name], 9) for name in ("bias", "limit_low", "limit_high")}
    drawn = np.concatenate([np.asarray(each.get_offsets()) for each in axes.collections])
    expected = [((p["truth_mm"] + p["measured_mm"]) / 2, p["measured_mm"] - p["truth_mm"]) for p in points]
    assert sorted(map(tuple, drawn.round(6))) == sorted((round(x, 6), round(y, 6)) for x, y in expected)
    (legend,) = figure.legends
    assert {"Site 0", "Site 1", "Site 2"} <= {text.get_text() for text in legend.get_texts()}


def test_error_by_age_needs_ages(measured):
    assert len([axes for axes in age_figure(measured).axes if axes.get_visible()]) == 5
    ageless = {m: [p | {"weeks": None} for p in points] for m, points in measured["points"].items()}
    assert age_figure(measured | {"points": ageless, "by_age": []}) is None


def test_differences_of_lengths_say_value_and_p(run):
    significance = read_json(run[0] / "reports" / TASK / "significance.json")
    axes = differences_figure(significance, "length_error").axes[0]
    test = significance["comparisons"][MASK_ONLY]["tests"]["length_error"]
    assert axes.texts[0].get_text() == f"{test['difference']:+.2f}  p = {test['p_holm']:.3f}"


def test_curves_show_dice_and_no_accuracy_where_no_label_is_told(run, monkeypatch):
    monkeypatch.chdir(run[0])
    evidence = read_evidence(TASK, load_settings())
    assert evidence.with_labels == [MAIN] and list(evidence.measured) == [MAIN, MASK_ONLY]
    curves = evidence.curves[MASK_ONLY]
    names = [t.get_text() for t in curves_figure(curves, labels=False).axes[1].get_legend().get_texts()]
    assert names == ["Dice of validation masks", "lowest validation loss"]
    assert curves_figure(curves).axes[1].get_ylabel() == "accuracy and Dice (%)"
    assert set(evidence.configs[MAIN]["labels"]) == set(LABELS)
