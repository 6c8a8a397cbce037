"""`fetalflow movement`: when the fetus moves in long cines, what moves, for how long and how far."""

import csv
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fetalflow.errors import InputError
from flows.cli.answers import OF_MODEL, package_folder
from flows.cli.options import Engine, Task, Workspace

if TYPE_CHECKING:  # it imports OpenCV and SciPy, which would make --help slow
    from fetalflow.inference.actogram.result import Actogram

PICTURES = (".png", ".svg")


def movement(
    cines: Annotated[list[Path], typer.Argument(metavar="CINE...", help="Cines of some seconds to some minutes.")],
    model: Annotated[str, typer.Option(help=OF_MODEL)] = "",
    unnamed: Annotated[
        bool, typer.Option("--unnamed", help="Use no model: say whether something moves, but not what.")
    ] = False,
    fps: Annotated[float | None, typer.Option(help="Frames per second; default: from each file.")] = None,
    mm_per_px: Annotated[
        float | None,
        typer.Option(help="Scale of the recorded frames; default: from each file, else lengths are in px."),
    ] = None,
    table: Annotated[Path | None, typer.Option("--csv", help="CSV file to write, with one row per event.")] = None,
    picture: Annotated[Path | None, typer.Option(help="PNG or SVG file to write: the time line.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All results, with the trace, as JSON.")] = False,
    engine: Engine = "auto",
    task: Task = "movement",
    workspace: Workspace = None,
) -> None:
    """Show when the fetus moves in long cines, what moves, how long, how fast, and when that cannot be said."""
    if picture and picture.suffix.lower() not in PICTURES:
        raise InputError(f"--picture writes PNG or SVG, so its name must end in .png or .svg, not {picture.suffix!r}.")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in `fetalflow stream`, before torch is loaded
    from fetalflow.artefacts import atomic_file
    from fetalflow.inference.actogram.observe import observe
    from fetalflow.inference.actogram.result import EVENT_COLUMNS, event_rows
    from fetalflow.inference.streaming.streamer import open_stream

    streamer = None
    if not unnamed:
        package = package_folder(model, task, workspace, engine, in_parts=True)
        streamer = open_stream(package, engine=engine, once=True)
    found = [observe(cine, streamer, fps, mm_per_px) for cine in cines]
    if table:
        with atomic_file(table) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, EVENT_COLUMNS)
            writer.writeheader()
            writer.writerows(event_rows(found))
    if picture:
        from fetalflow.inference.actogram.drawing import draw_actograms

        with atomic_file(picture) as temporary:
            draw_actograms(found).savefig(temporary)
    if as_json:
        print(json.dumps({"actograms": [each.as_dict() for each in found]}, indent=2))
        return
    print("\n\n".join("\n".join(_lines(each)) for each in found))
    print("\nFor research, not a medical device." + "".join(f"\nWrote {each}" for each in (table, picture) if each))


def _lines(found: "Actogram") -> Iterable[str]:
    yield f"{found.source}: {found.seconds:.1f} s at {found.fps:g} frames/s"
    if found.events:
        yield f"  {'from s':>8} {'to s':>8}  {'what':<12} {found.unit + '/s':>8} {'peak':>7} {found.unit:>8}"
    for each in found.events:
        what = f"{each.label} ({each.probability:.2f})" if each.label else "not said"
        why = "" if each.label else f"  {each.why_no_label}"
        numbers = f"{each.speed:>8.1f} {each.peak_speed:>7.1f} {each.path:>8.0f}"
        yield f"  {each.start_s:8.1f} {each.end_s:8.1f}  {what:<12} {numbers}{why}"
    for each in found.not_said:
        yield f"  {each.start_s:8.1f} {each.end_s:8.1f}  not to be said: {each.why}"
    if found.answer:
        yield f"  whole cine: {found.answer.in_words}"
    rate = "" if found.events_per_minute is None else f", {found.events_per_minute:.1f} a minute"
    count = len(found.events)
    yield f"  {count} event{'s' * (count != 1)}{rate} in the {found.judged_s:.1f} s that can be judged"
    yield (
        f"  moving {found.moving_s:.1f} s, still {found.still_s:.1f} s (longest {found.longest_still_s:.1f} s), "
        f"not to be said {found.not_said_s:.1f} s"
    )
    yield from (f"  !   {text}" for text in found.remarks)
