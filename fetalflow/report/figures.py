"""Figures of the evaluation, as matplotlib Figures: the report and the tracking server show the same ones.

Every function takes results of the evaluate and train stages and returns a Figure without global state of pyplot; the
caller saves it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from fetalflow.evaluation.holm import p_text
from fetalflow.evaluation.intervals import in_words

# The colours of Okabe and Ito, which colour-blind readers can distinguish; black is for text and reference lines.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#7F7F7F")
DASHES = ("-", "--", ":")
LOWEST = "lowest validation loss"
INK, FAINT = "#222222", "#D9D9D9"


def confusion_figure(labels: Sequence[str], confusion: Sequence[Sequence[int]], title: str = "") -> Figure:
    """Confusion matrix (Fig. 12): counts [classes, classes], truth by row; colour is the share of the row."""
    counts = np.asarray(confusion)
    share = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    n = len(labels)
    side = max(3.6, 0.52 * n + 1.6) + 0.06 * max(0, max(map(len, labels)) - 8)  # room for long labels
    figure, (axes,) = bare_figure(side + 0.9, side)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    size = min(9 if n < 15 else 6, 45 / len(str(counts.max(initial=0))))  # pt; five digits fit into a cell at 9 pt
    for (row, column), value in np.ndenumerate(counts):
        if value:
            colour = "white" if share[row, column] > 0.55 else INK
            axes.text(column, row, value, ha="center", va="center", color=colour, fontsize=size)
    axes.set_xticks(range(n), labels, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(n), labels)
    axes.set(xlabel="predicted", ylabel="true", title=title)
    axes.set_xticks(np.arange(n + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(n + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, format=PercentFormatter(1, decimals=0))
    bar.set_label("share of the true class")
    bar.outline.set_visible(False)
    return figure


def roc_figure(points: pd.DataFrame, areas: Mapping[str, float | None], title: str = "") -> Figure:
    """ROC of each class against the rest (Fig. 13). points: class, fpr, tpr; areas: AUC by class."""
    figure, (axes,) = bare_figure(5.8, 4.4)
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1.2, zorder=0)
    for i, (label, curve) in enumerate(points.groupby("class", sort=False)):
        area = areas.get(label)
        name = label if area is None else f"{label}  {area:.3f}"
        axes.plot(curve["fpr"], curve["tpr"], label=name, **_line(i))
    axes.set(xlabel="false positive rate", ylabel="true positive rate", title=title, xlim=(-0.01, 1.01))
    axes.set(ylim=(-0.01, 1.02), aspect="equal")
    if not points.empty:
        axes.legend(title="AUC from probabilities", loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
    return figure


def reliability_figure(calibration: Mapping[str, Any], title: str = "", units: str = "sequences") -> Figure:
    """Reliability diagram of the `calibration` part of a score. Above: share of right labels by probability; below:
    number of sequences, which the axis calls `units`."""
    table = pd.DataFrame(calibration["reliability"])
    figure, (axes, below) = bare_figure(4.4, 4.9, rows=2, height_ratios=(3.4, 1), sharex=True)
    width = table["bin_high"] - table["bin_low"]
    middle = table["bin_low"] + width / 2
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1.2, linestyle="--", label="perfectly calibrated")
    axes.vlines(table["confidence"], table["accuracy"], table["confidence"], color=COLOURS[1], linewidth=2, alpha=0.6)
    axes.plot(table["confidence"], table["accuracy"], "o-", color=COLOURS[0], markersize=5, label="network")
    axes.set(ylabel="share right", ylim=(-0.02, 1.02), xlim=(0, 1))
    axes.legend(loc="upper left", frameon=False)
    caption = f"ECE {calibration['ece']:.3f}; below {calibration['ece_if_calibrated']:.3f} if calibrated"
    axes.set_title(f"{title}\n{caption}" if title else caption, fontsize=10)
    below.bar(middle, table["n"], width=width * 0.92, color=COLOURS[0], alpha=0.75)
    below.set(xlabel="probability of the predicted label", ylabel=units)
    below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    return figure


def risk_figure(risk: Mapping[str, Any], title: str = "") -> Figure:
    """Share of wrong answers against the share of the sequences that are answered, the surest first; `risk` of the
    certainty part of a score. The dashed line is the rate if the probabilities said nothing."""
    figure, (axes,) = bare_figure(4.8, 3.4)
    points = pd.DataFrame(risk["curve"])
    axes.axhline(100 * risk["area_by_chance"], color="#999999", linewidth=1.2, linestyle="--")
    axes.plot(100 * points["answered"], 100 * points["wrong"], color=COLOURS[0], linewidth=1.8)
    axes.set(xlabel="answered (%)", ylabel="wrong among the answered (%)", xlim=(0, 101), title=title)
    axes.set_ylim(bottom=0)
    return figure


def curves_figure(curves: pd.DataFrame, title: str = "", labels: bool = True) -> Figure:
    """Loss and accuracy by epoch (Fig. 10), from a curves file; each fold and seed is a line, its epoch with
    the lowest validation loss a dot.

    For a segmentation network also the Dice of validation masks. labels: whether the variant distinguishes labels.
    """
    figure, (left, right) = bare_figure(8.4, 3.5, columns=2)
    groups = [run.sort_values("epoch") for _, run in curves.groupby(["fold", "seed"], sort=True)]
    drawn = [(left, "training", "train_loss", 0), (left, "validation", "val_loss", 1)]
    drawn += [(right, "training", "train_accuracy", 0), (right, "validation", "val_accuracy", 1)] if labels else []
    segments = "val_dice" in curves and curves["val_dice"].notna().any()
    drawn += [(right, "Dice of validation masks", "val_dice", 2)] if segments else []
    for axes, name, column, colour in drawn:
        factor = 1 if axes is left else 100
        for i, run in enumerate(groups):
            label, faded = name if i == 0 else None, 1 if len(groups) == 1 else 0.6
            known = run[run[column].notna()]
            line = {"color": COLOURS[colour], "linewidth": 1.8, "alpha": faded}
            axes.plot(known["epoch"], factor * known[column], label=label, **line)
            if not column.startswith("train") and run["val_loss"].notna().any():
                best = run.loc[run["val_loss"].idxmin()]
                dot = {"color": COLOURS[colour], "markersize": 6}
                dot |= {"label": LOWEST} if LOWEST not in axes.get_legend_handles_labels()[1] else {}
                axes.plot(best["epoch"], factor * best[column], "o", **dot)
    names = [name for name, is_there in (("accuracy", labels), ("Dice", segments)) if is_there]
    for axes, name in ((left, "loss"), (right, f"{' and '.join(names) or 'accuracy'} (%)")):
        axes.set(xlabel="epoch", ylabel=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.set_ylim(bottom=0)
    right.set_ylim(0, 101)
    if names:
        right.legend(loc="best" if segments else "lower right", frameon=False)
    figure.suptitle(title, fontsize=11, color=INK)
    return figure


def accuracy_figure(metrics: Mapping[str, Mapping[str, float]], title: str = "") -> Figure:
    """Accuracy of each variant that has one, with its interval over patients, from metrics.json. The line is the share
    of the majority class."""
    metrics = {name: row for name, row in metrics.items() if row["accuracy"] is not None}
    names = list(metrics)
    figure, (axes,) = bare_figure(6.4, 0.42 * len(names) + 1.4)
    for place, name in enumerate(names):
        value, bounds = 100 * metrics[name]["accuracy"], [metrics[name][f"accuracy_{end}"] for end in ("low", "high")]
        low, high = (None if bound is None else 100 * bound for bound in bounds)
        colour = COLOURS[1] if place == 0 else COLOURS[0]
        if low is not None:
            axes.plot([low, high], [place, place], color=colour, linewidth=2.4, solid_capstyle="round")
        axes.plot(value, place, "o", color=colour, markersize=7, clip_on=False)
        interval = in_words(low, high, metrics[name]["n_patients"], ".1f")
        axes.text(101.5, place, f"{value:.1f}  {interval}", va="center", fontsize=9, color=INK)
    majority = 100 * max(each["majority_rate"] for each in metrics.values())
    axes.axvline(majority, color="#999999", linestyle="--", linewidth=1.2, zorder=0)
    axes.text(majority, -0.62, " majority class", fontsize=8, color="#666666", va="bottom")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlim=(0, 100.5), ylim=(len(names) - 0.4, -0.75), xlabel="accuracy on test patients (%), with interval")
    axes.set_title(title)
    axes.tick_params(axis="y", length=0)
    return figure


# By test of significance.json: factor of the values, their number format, and the label of the axis.
DIFFERENCES = {
    "paired_patients": (100, "+.1f", "accuracy of {} minus the other (percentage points)"),
    "length_error": (1, "+.2f", "error of {} minus the other's (% of the truth; left is better)"),
}


def differences_figure(significance: Mapping[str, Any], test: str = "paired_patients", title: str = "") -> Figure:
    """Difference between the main variant and each rival in one test of DIFFERENCES, with its interval over patients
    where there is one."""
    factor, form, axis_label = DIFFERENCES[test]
    tests = {name: each["tests"][test] for name, each in significance["comparisons"].items() if test in each["tests"]}
    figure, (axes,) = bare_figure(6.4, 0.42 * len(tests) + 1.4)
    for place, result in enumerate(tests.values()):
        value = factor * result["difference"]
        colour = COLOURS[0] if result["p_holm"] < significance["alpha"] else "#999999"
        if result["low"] is not None:
            ends = [factor * result["low"], factor * result["high"]]
            axes.plot(ends, [place, place], color=colour, linewidth=2.4, solid_capstyle="round")
        axes.plot(value, place, "o", color=colour, markersize=7)
        numbers = f"{value:{form}}  {p_text(result['p_holm'])}"
        axes.text(1.02, place, numbers, transform=axes.get_yaxis_transform(), va="center", fontsize=9, color=INK)
    axes.axvline(0, color="#999999", linestyle="--", linewidth=1.2, zorder=0)
    axes.set_yticks(range(len(tests)), [f"against {name}" for name in tests])
    axes.set(ylim=(max(len(tests), 1) - 0.5, -0.5), title=title)
    axes.set_xlabel(axis_label.format(significance["reference"]))
    axes.tick_params(axis="y", length=0)
    return figure


def bare_figure(
    width: float, height: float, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Figure, list[Axes]]:
    """A figure of width x height inches, without frame lines above and at the right."""
    with matplotlib.rc_context({"font.size": 9.5, "axes.titlesize": 11, "axes.edgecolor": "#888888"}):
        figure = Figure(figsize=(width, height), layout="constrained", dpi=130)
        figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
        axes = figure.subplots(rows, columns, squeeze=False, **options).ravel().tolist()
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.tick_params(colors=INK)
    return figure, axes


def _line(i: int) -> dict[str, Any]:
    return {"color": COLOURS[i % len(COLOURS)], "linestyle": DASHES[i // len(COLOURS) % len(DASHES)], "linewidth": 1.8}
