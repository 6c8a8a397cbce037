"""A page with the curves of a training, which loads itself again. It needs no server, no internet and no script."""

import csv
import html
from collections import defaultdict
from pathlib import Path

COLOURS = {"train": "#0072b2", "val": "#d55e00"}
WIDTH, HEIGHT, MARGIN = 420, 220, 40  # px of a chart
RELOAD_S = 5


def live_page(title: str, folder: Path) -> str:
    """HTML with one chart for each figure, such as loss, of DVCLive's tables `train/loss.tsv` in `folder`."""
    charts: dict[str, dict[str, list[tuple[int, float]]]] = defaultdict(dict)
    for file in sorted(folder.rglob("*.tsv")):
        part = file.parent.name if file.parent != folder else ""
        with open(file, newline="") as table:
            charts[file.stem][part] = [
                (int(step), float(value)) for step, value in list(csv.reader(table, delimiter="\t"))[1:]
            ]
    drawn = "\n".join(_chart(figure, curves) for figure, curves in sorted(charts.items(), key=_loss_first))
    return (
        f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="{RELOAD_S}">'
        f"<title>{html.escape(title)}</title><body style='font-family: sans-serif'><h1>{html.escape(title)}</h1>\n"
        f"{drawn}\n</body>\n"
    )


def _loss_first(chart: tuple[str, dict]) -> tuple[bool, bool]:
    figure, curves = chart
    return "" in curves, figure != "loss"  # seconds, which have no part, come last


def _chart(figure: str, curves: dict[str, list[tuple[int, float]]]) -> str:
    values = [v for points in curves.values() for _, v in points if abs(v) < float("inf")]
    low, high = min(values, default=0.0), max(values, default=1.0)
    last = max((step for points in curves.values() for step, _ in points), default=1)

    def place(step: int, value: float) -> str:
        x = MARGIN + (WIDTH - 2 * MARGIN) * (step - 1) / max(last - 1, 1)
        y = HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * (value - low) / ((high - low) or 1)
        return f"{x:.1f},{y:.1f}"

    lines, words = [], []
    for part, points in curves.items():
        at = [place(step, value) for step, value in points if abs(value) < float("inf")]
        colour = COLOURS.get(part, "#555")
        lines.append(f'<polyline points="{" ".join(at)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        lines += [f'<circle cx="{x}" cy="{y}" r="2.5" fill="{colour}"/>' for x, y in (spot.split(",") for spot in at)]
        words.append(f'<tspan fill="{colour}">{html.escape(part)} {points[-1][1]:.3f}</tspan>')
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" font-size="12">'
        f'<text x="{MARGIN}" y="20">{html.escape(figure)} after epoch {last}: {" ".join(words)}</text>'
        f'<text x="0" y="{MARGIN + 4}">{high:.3g}</text><text x="0" y="{HEIGHT - MARGIN + 4}">{low:.3g}</text>'
        f'<path d="M{MARGIN},{MARGIN} V{HEIGHT - MARGIN} H{WIDTH - MARGIN}" fill="none" stroke="#999"/>'
        f"{''.join(lines)}</svg>"
    )
