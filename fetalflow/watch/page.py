"""The days of a model in use as one HTML page that needs no network."""

from collections.abc import Mapping, Sequence
from typing import Any

from fetalflow.evaluation.intervals import in_words
from fetalflow.quality.drift import EVERY_SITE
from fetalflow.report.template import page_template
from fetalflow.settings.watch import Watch

SHOWN = 60  # days in the drawings
LINES = {  # what is drawn by day, and its name
    "estimated": "estimated accuracy",
    "unfamiliar": "share unlike the training data",
    "refused": "share without an answer",
    "p95_ms": "ms until 95 % were answered",
}


def render(
    task: str, reports: Sequence[Mapping[str, Any]], corrected: Sequence[Mapping[str, Any]], settings: Watch
) -> str:
    """The page of `reports`, as `fetalflow.watch.look.reports_of` returns them, oldest first."""
    return page_template("watch", {"share": _share, "interval": _interval}).render(
        task=task,
        reports=reports[-SHOWN:],
        last=reports[-1] if reports else None,
        corrected=corrected,
        settings=settings,
        drawing=_drawing(reports[-SHOWN:]) if len(reports) > 1 else "",
        every_site=EVERY_SITE,
    )


def _share(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _interval(found: Mapping[str, Any]) -> str:
    return in_words(found["low"], found["high"], found["patients"], ".2f")


def _drawing(reports: Sequence[Mapping[str, Any]]) -> str:
    """A data URI: each of LINES by day, one line for each site and a thick one for all of them."""
    from fetalflow.report.drawings import as_svg
    from fetalflow.report.figures import COLOURS, bare_figure

    sites = sorted({site for each in reports for site in each["sites"]} - {EVERY_SITE})
    figure, axes = bare_figure(8, 1.7 * len(LINES), rows=len(LINES), sharex=True)
    days = [each["day"] for each in reports]
    for name, axis in zip(LINES, axes, strict=True):
        for number, site in enumerate([EVERY_SITE, *sites]):
            values = [_value(each, name, site) for each in reports]
            style = (
                {"color": "#222222", "linewidth": 2} if not number else {"color": COLOURS[(number - 1) % len(COLOURS)]}
            )
            axis.plot(range(len(days)), values, marker="." if len(days) < 15 else "", label=site, **style)
        axis.set_title(LINES[name], loc="left")
        axis.set_ylim(0, None if name == "p95_ms" else 1.02)
    step = max(1, len(days) // 8)
    axes[-1].set_xticks(range(0, len(days), step), [day[5:] for day in days[::step]])
    axes[0].legend(fontsize=7, ncols=3, loc="lower left", frameon=False)
    return as_svg(figure)


def _value(report: Mapping[str, Any], name: str, site: str) -> float:
    found = report["estimated"].get(site, {}).get("accuracy") if name == "estimated" else None
    found = report["sites"].get(site, {}).get(name) if name != "estimated" else found
    return float("nan") if found is None else found
