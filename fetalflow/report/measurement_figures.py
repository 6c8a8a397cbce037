"""Figures of the measured lengths, from the measurements.json of a variant: one panel per length."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fetalflow.report.figures import COLOURS, FAINT, INK, bare_figure

COLUMNS = 3  # panels beside each other
GREY = "#777777"
CUT = {"facecolors": "none", "linewidths": 1.2}  # marks of views that the sector cuts


def bland_altman_figure(measured: Mapping[str, Any], title: str = "") -> Figure:
    """Error of each length against the mean of measured and true length (Bland and Altman 1986), in mm.

    Lines: bias and limits of agreement (1.96 SD), with their intervals over patients; colours: sites; rings: views that
    the sector cuts.
    """
    agreed = {row["measure"]: row for row in measured["agreement"] if row["n"]}
    figure, panels, colours = _panels(measured, agreed, title)
    for axes, (measure, row) in zip(panels, agreed.items(), strict=False):
        points = pd.DataFrame(measured["points"][measure])
        error = points["measured_mm"] - points["truth_mm"]
        _dots(axes, points, points["truth_mm"] + error / 2, error, colours)
        for name, style in (("bias", "-"), ("limit_low", "--"), ("limit_high", "--")):
            if row[name] is None:  # a single sequence has no limits
                continue
            axes.axhline(row[name], color=INK, linewidth=1.1, linestyle=style)
            if row[f"{name}_low"] is not None:
                axes.axhspan(row[f"{name}_low"], row[f"{name}_high"], color=GREY, alpha=0.16, linewidth=0)
            at = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points", "xytext": (2, 0)}
            axes.annotate(f"{row[name]:+.1f}", (1, row[name]), va="center", fontsize=8, color=INK, **at)
        axes.set(xlabel="mean of measured and true (mm)", ylabel="measured minus true (mm)")
        axes.set_title(f"{measure.upper()}, n {row['n']}, {row['patients']} patients", fontsize=9.5)
    return figure


def age_figure(measured: Mapping[str, Any], title: str = "") -> Figure | None:
    """Error of each length by gestational age, in mm; bars: the bias of a band of weeks, with its interval.

    None where no age is known.
    """
    known = {
        measure: points[points["weeks"].notna()]
        for measure, rows in measured["points"].items()
        if "weeks" in (points := pd.DataFrame(rows))
    }
    known = {measure: points for measure, points in known.items() if len(points)}
    if not known:
        return None
    figure, panels, colours = _panels(measured, known, title)
    for axes, (measure, points) in zip(panels, known.items(), strict=False):
        axes.axhline(0, color=FAINT, linewidth=1.2, zorder=0)
        _dots(axes, points, points["weeks"], points["measured_mm"] - points["truth_mm"], colours)
        for row in measured["by_age"]:
            if row["measure"] == measure and row["n"]:
                low, high = map(float, row["age"].split("-"))
                axes.hlines(row["bias"], low + 0.15, high - 0.15, color=INK, linewidth=1.8)
                if row["bias_low"] is not None:
                    bounds = row["bias_low"], row["bias_high"]
                    axes.fill_between([low + 0.15, high - 0.15], *bounds, color=GREY, alpha=0.25, linewidth=0)
        axes.set(xlabel="weeks of gestation", ylabel="measured minus true (mm)")
        axes.set_title(f"{measure.upper()}, n {len(points)}", fontsize=9.5)
    return figure


def overlap_figure(metrics: Mapping[str, Mapping[str, float]], title: str = "") -> Figure:
    """Dice and mean absolute error of the lengths of each variant that measures, with intervals over patients."""
    names = [name for name, row in metrics.items() if row.get("mae_percent") is not None]
    figure, (left, right) = bare_figure(8.4, 0.42 * len(names) + 1.5, columns=2, sharey=True)
    for axes, key, digits in ((left, "mae_percent", 2), (right, "dice", 3)):
        for place, name in enumerate(names):
            value, low, high = (metrics[name].get(k) for k in (key, f"{key}_low", f"{key}_high"))
            if value is None:
                continue
            colour = COLOURS[1] if place == 0 else COLOURS[0]
            if low is not None:
                axes.plot([low, high], [place, place], color=colour, linewidth=2.4, solid_capstyle="round")
            axes.plot(value, place, "o", color=colour, markersize=7)
            style = {"xytext": (6, 0), "textcoords": "offset points", "va": "center", "fontsize": 9}
            axes.annotate(f"{value:.{digits}f}", (high or value, place), **style)
        axes.margins(x=0.25)
        axes.tick_params(axis="y", length=0)
    left.set_yticks(range(len(names)), names)
    left.set(xlabel="lengths: mean absolute error (% of the truth)", ylim=(len(names) - 0.4, -0.6))
    right.set_xlabel("Dice of the mask")
    figure.suptitle(title, fontsize=11, color=INK)
    return figure


def _panels(
    measured: Mapping[str, Any], of: Mapping[str, Any], title: str
) -> tuple[Figure, list[Axes], dict[str, str]]:
    """A figure with one panel per length in `of`, and the colour of each site, as in the legend."""
    columns = min(COLUMNS, len(of)) or 1
    rows = -(-len(of) // columns) or 1
    figure, panels = bare_figure(3.3 * columns + 0.4, 2.9 * rows + 0.5, rows=rows, columns=columns)
    for spare in panels[len(of) :]:
        spare.set_visible(False)
    every = [point for points in measured["points"].values() for point in points]
    sites = sorted({str(point.get("site") or "") for point in every})
    colours = {site: COLOURS[i % len(COLOURS)] for i, site in enumerate(sites)}
    handles = [_mark(colour, site) for site, colour in colours.items() if site] if len(colours) > 1 else []
    if any(point.get("view") == "cut" for point in every):
        handles.append(_mark("none", "cut by the sector", edge=GREY))
    if handles:
        beside = max(1, int(28 * columns / (max(len(handle.get_label()) for handle in handles) + 6)))
        look = {"frameon": False, "fontsize": 8.5}
        figure.legend(handles=handles, loc="outside lower center", ncols=min(beside, len(handles)), **look)
    figure.suptitle(title, fontsize=11, color=INK)
    return figure, panels, colours


def _dots(axes: Axes, points: pd.DataFrame, x: Sequence[float], y: Sequence[float], colours: Mapping[str, str]) -> None:
    x, y = np.asarray(x, float), np.asarray(y, float)
    site = points["site"].fillna("").astype(str) if "site" in points else pd.Series("", index=points.index)
    cut = (points["view"] == "cut").to_numpy() if "view" in points else np.zeros(len(points), bool)
    colour = site.map(colours).to_numpy()
    axes.scatter(x[~cut], y[~cut], s=16, color=colour[~cut], alpha=0.75, linewidths=0)
    axes.scatter(x[cut], y[cut], s=20, edgecolors=colour[cut], **CUT)


def _mark(colour: str, label: str, edge: str | None = None) -> Line2D:
    look = {"markerfacecolor": colour, "markeredgecolor": edge or colour, "markersize": 6}
    return Line2D([], [], linestyle="", marker="o", label=label, **look)
