"""`fetalflow stream`: the prediction of a model after every frame of a cine, as during an examination."""

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fetalflow.errors import InputError
from flows.cli.answers import OF_MODEL, package_folder
from flows.cli.noting import noting
from flows.cli.options import Engine, Task, Workspace

if TYPE_CHECKING:  # it imports torch, which would make --help slow
    from fetalflow.inference.streaming.streamer import Answer
    from fetalflow.inference.streaming.tally import Tally


def stream(
    file: Annotated[Path, typer.Argument(help="A cine; or an image, for a model of single frames.")],
    model: Annotated[str, typer.Option(help=OF_MODEL)] = "",
    task: Task = "movement",
    workspace: Workspace = None,
    engine: Engine = "auto",
    whole: Annotated[
        bool, typer.Option(help="Compute each window completely, without reusing earlier frames.")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="Number of threads of the engine.")] = 2,
    realtime: Annotated[
        bool, typer.Option(help="Play at the cine's frame rate, and drop frames that come too fast.")
    ] = False,
    every: Annotated[bool, typer.Option(help="Print every answer, not only changes.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print every answer as a line of JSON, then a summary.")
    ] = False,
) -> None:
    """Show label, probability and whether the input is unlike the training data, after every frame of a cine."""
    # OpenMP reads this when torch is loaded. Measured on two cores that are busy with other work: a frame took 220 ms
    # with threads that spin while they wait, and 2 ms with threads that sleep.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from fetalflow.inference.streaming.live import live, paced
    from fetalflow.inference.streaming.source import open_recorded
    from fetalflow.inference.streaming.streamer import open_stream

    package = package_folder(model, task, workspace, engine, in_parts=not whole)
    streamer = open_stream(package, engine=engine, threads=threads, reuse=not whole, once=True)
    noted = -streamer.n
    with (
        open_recorded(file, streamer.settings) as cine,
        noting("stream", task, workspace, model, package, file) as note,
    ):
        streamer.begin(cuts=cine.cuts, fps=cine.fps)
        if realtime and not cine.fps:
            raise InputError(f"{file} has no frame rate. Leave out --realtime.")
        answers = live(streamer, paced(cine.frames, cine.fps)) if realtime else streamer.stream(cine.frames)
        started, before = time.perf_counter(), None
        for answer in answers:
            if as_json:
                print(json.dumps(answer.as_dict()), flush=True)
            elif every or _is_new(answer, before):
                print(_line(answer, cine.fps), flush=True)
            if answer.frame >= noted + streamer.n:  # windows that share no frame: an answer a frame says nothing more
                note(answer, latency_ms=answer.ms, engine=engine)
                noted = answer.frame
            before = answer
        seconds = time.perf_counter() - started
    tally = streamer.tally
    if before is None and not tally.dropped:
        raise InputError(f"{file} holds no {streamer.n} consecutive frames without a cut. Record a longer cine.")
    rates = {"frames_per_s": tally.read / seconds, "cine_fps": cine.fps}
    print(json.dumps({"summary": tally.as_dict() | rates}) if as_json else "\n".join(_summary(tally, **rates)))


def _is_new(answer: "Answer", before: "Answer | None") -> bool:
    if before is None or answer.first_frame > before.frame:  # a new window
        return True
    return (answer.label, answer.unfamiliar) != (before.label, before.unfamiliar)


def _line(answer: "Answer", fps: float | None) -> str:
    at = f"{answer.frame / fps:8.2f} s" if fps else f"frame {answer.frame:5d}"
    warning = "  unlike the training data" if answer.unfamiliar else ""
    return f"{at}  {answer.label:<16} {answer.probabilities[answer.label]:.2f}{warning}"


def _summary(tally: "Tally", frames_per_s: float, cine_fps: float | None) -> Iterable[str]:
    dropped = f"{tally.dropped} dropped" + (f" ({tally.lost} lost; each starts a new window)" if tally.lost else "")
    cuts = f", {tally.cuts} cut{'s' * (tally.cuts > 1)}" if tally.cuts else ""
    yield f"\n{tally.read} frames read, {tally.answered} answered, {dropped}{cuts}"
    for what, times in (("ms per answered frame", tally.ms), ("ms including waiting", tally.delay)):
        if found := times.percentiles():
            yield f"{what:<22} " + ", ".join(f"{name} {value:.1f}" for name, value in found.items())
    yield f"{frames_per_s:.0f} frames/s" + (f", the cine has {cine_fps:g}" if cine_fps else "")
    yield "For research, not a medical device."
