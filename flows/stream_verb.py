"""`fetalflow stream`: a registered model's answer after every frame of a cine, as in an examination."""

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fetalflow.errors import InputError
from flows.drop_verbs import Task
from flows.measure_verb import Engine, package_folder

if TYPE_CHECKING:  # imports torch, and help is instant
    from fetalflow.streaming.streamer import Answer
    from fetalflow.streaming.tally import Tally


def stream(
    file: Annotated[Path, typer.Argument(help="A cine, or an image for a model of single frames.")],
    model: Annotated[str, typer.Option(help="A model package, or models:/NAME@ALIAS in MLflow.")] = "",
    task: Task = "movement",
    engine: Engine = "auto",
    whole: Annotated[bool, typer.Option(help="Ask every window whole: reuse nothing.")] = False,
    threads: Annotated[int, typer.Option(help="Threads of the engine.")] = 2,
    realtime: Annotated[bool, typer.Option(help="At the cine's own pace: what comes too fast is dropped.")] = False,
    every: Annotated[bool, typer.Option(help="A line for every answer, not only for a new one.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Every answer as a line of JSON, then a summary.")] = False,
) -> None:
    """Label, probability and whether it is unlike anything seen, after every frame of a cine."""
    # Read by OpenMP when torch is loaded. On two cores that others keep busy a frame took 220 ms with threads that spin
    # and 2 ms with threads that wait asleep (measured).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from fetalflow.streaming.live import live, paced
    from fetalflow.streaming.source import open_recorded
    from fetalflow.streaming.streamer import open_stream

    streamer = open_stream(package_folder(model, task), engine=engine, threads=threads, reuse=not whole)
    with open_recorded(file, streamer.settings) as cine:
        streamer.begin(cuts=cine.cuts, fps=cine.fps)
        if realtime and not cine.fps:
            raise InputError(f"{file} states no frame rate to keep. Leave out --realtime.")
        answers = live(streamer, paced(cine.frames, cine.fps)) if realtime else streamer.stream(cine.frames)
        begun, before = time.perf_counter(), None
        for answer in answers:
            if as_json:
                print(json.dumps(answer.as_dict()), flush=True)
            elif every or _is_new(answer, before):
                print(_line(answer, cine.fps), flush=True)
            before = answer
        seconds = time.perf_counter() - begun
    tally = streamer.tally
    if before is None and not tally.dropped:
        raise InputError(f"{file} holds no {streamer.n} consecutive frames without a cut. Record a longer cine.")
    rates = {"frames_per_s": tally.read / seconds, "cine_fps": cine.fps}
    print(json.dumps({"summary": tally.as_dict() | rates}) if as_json else "\n".join(_summary(tally, **rates)))


def _is_new(answer: "Answer", before: "Answer | None") -> bool:
    if before is None or answer.first_frame > before.frame:  # the window began anew
        return True
    return (answer.label, answer.unfamiliar) != (before.label, before.unfamiliar)


def _line(answer: "Answer", fps: float | None) -> str:
    at = f"{answer.frame / fps:8.2f} s" if fps else f"frame {answer.frame:5d}"
    strange = "  unlike anything seen" if answer.unfamiliar else ""
    return f"{at}  {answer.label:<16} {answer.probabilities[answer.label]:.2f}{strange}"


def _summary(tally: "Tally", frames_per_s: float, cine_fps: float | None) -> Iterable[str]:
    dropped = f"{tally.dropped} dropped" + (f" ({tally.lost} lost, the window began anew)" if tally.lost else "")
    cuts = f", {tally.cuts} cut{'s' * (tally.cuts > 1)}" if tally.cuts else ""
    yield f"\n{tally.read} frames read, {tally.answered} answered, {dropped}{cuts}"
    for what, times in (("ms per answered frame", tally.ms), ("ms with waiting", tally.delay)):
        if found := times.percentiles():
            yield f"{what:<22} " + ", ".join(f"{name} {value:.1f}" for name, value in found.items())
    yield f"{frames_per_s:.0f} frames/s" + (f", the cine has {cine_fps:g}" if cine_fps else "")
    yield "For research, not a medical device."
