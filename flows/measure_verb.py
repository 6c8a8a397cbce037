"""`fetalflow measure`: what a registered model of biometry finds in images and cines, in words and as a picture."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fetalflow.errors import InputError

if TYPE_CHECKING:  # both import torch, and help is instant
    from fetalflow.biometry.estimates import Estimate
    from fetalflow.examined import Examination
    from fetalflow.fetus import Fetus


Engine = Annotated[
    str, typer.Option(help="torch, onnx, int8, openvino, or auto: the fastest that passed and is installed.")
]


def package_folder(model: str, task: str) -> Path:
    """The folder of a model package, fetched where `model` is one in MLflow, or empty: the task's own alias."""
    if model and not model.startswith("models:/"):
        return Path(model)
    from fetalflow.settings import load_settings
    from fetalflow.tracking import fetch_package

    if not model:
        blocks = load_settings().blocks
        if task not in blocks:
            raise InputError(f"params.yaml has no task {task!r}; it has: {', '.join(blocks)}. Or say --model.")
        register = blocks[task].register_
        model = f"models:/{register.model}@{register.alias}"
    return fetch_package(model)


def measure(
    files: Annotated[list[Path], typer.Argument(help="Images, DICOMs or cines of one fetus.")],
    model: Annotated[str, typer.Option(help="A model package, or models:/NAME@ALIAS in MLflow.")] = "",
    mm_per_px: Annotated[
        float | None, typer.Option(help="Of the recorded frames; default: what each file says.")
    ] = None,
    weeks: Annotated[float | None, typer.Option(help="Gestational age, to judge the lengths by.")] = None,
    structure: Annotated[str | None, typer.Option(help="head, abdomen or femur; default: what the model sees.")] = None,
    overlay: Annotated[Path | None, typer.Option(help="A PNG to write: outline, ellipse, calipers, values.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, with masks, as JSON.")] = False,
    engine: Engine = "auto",
    task: Annotated[str, typer.Option(help="The task of params.yaml whose model answers.")] = "biometry",
) -> None:
    """Measure head, abdomen or femur; several files of one fetus together give its age and weight."""
    from fetalflow.examination import examine
    from fetalflow.fetus import combine
    from fetalflow.package import load

    if overlay and overlay.suffix.lower() != ".png":
        raise InputError(f"--overlay writes a PNG; {overlay} is named otherwise.")
    package = load(package_folder(model, task), engine=engine)
    found = [examine(package, file, mm_per_px, weeks, structure) for file in files]
    together = combine(found) if len(found) > 1 else None
    if overlay:
        from fetalflow.artefacts import atomic_file
        from fetalflow.overlay import draw_examinations

        with atomic_file(overlay) as temporary:
            draw_examinations(found).savefig(temporary)
    if as_json:
        fetus = together and together.as_dict()
        print(json.dumps({"examinations": [each.as_dict() for each in found], "fetus": fetus}, indent=2))
        return
    print("\n\n".join("\n".join(_examined(each)) for each in found))
    if together:
        print("\n" + "\n".join(_together(together)))
    print("\nFor research, not a medical device." + (f"\nOverlay {overlay}" if overlay else ""))


def _examined(found: "Examination") -> Iterable[str]:
    from fetalflow.overlay import length_text

    scale = f"{found.mm_per_px:.4f} mm per pixel" if found.mm_per_px else "no pixel spacing"
    count = len(found.frames)
    frames = f"{count} frame{'s' * (count > 1)}"
    called = f"{found.label} ({found.probabilities[found.label]:.2f})"
    yield f"{found.source}: {called}, {frames}, {scale}, by {found.engine}"
    for name, length in found.lengths.items():
        of = f"{length.frames} of {count} frames" if count > 1 else ""
        yield f"  {name.upper():<4}{length_text(length):>18}  {of:<18}{_standing(length.z, length.percentile)}".rstrip()
    if found.age:
        yield _estimate("Age", found.age)
    yield from (f"  !   {text}" for text in found.warnings)


def _together(fetus: "Fetus") -> Iterable[str]:
    yield "Together" + (f", at {fetus.weeks:g} weeks as stated" if fetus.weeks else "")
    for name, value in fetus.lengths.items():
        yield f"  {name.upper():<4}{value:>15.1f} mm  {'':<18}{_standing(*fetus.standings[name])}".rstrip()
    yield from (_estimate("Age", each) for each in fetus.ages)
    yield from (_estimate("EFW", each) for each in fetus.weights)
    if not fetus.weights:
        yield "  EFW  needs an abdomen in mm, and a femur or a head"
    yield from (f"  !   {text}" for text in fetus.warnings)


def _estimate(what: str, found: "Estimate") -> str:
    digits = 1 if found.unit == "weeks" else 0
    value = "none" if found.value is None else f"{found.value:.{digits}f} {found.unit}"
    said = "; ".join(filter(None, (_standing(found.z, found.percentile), found.reason)))
    return f"  {what:<4}{value:>18}  {found.name}{': ' + said if said else ''}"


def _standing(z: float | None, percentile: float | None) -> str:
    if z is None:
        return ""
    place = "under 1" if percentile < 1 else "over 99" if percentile > 99 else f"{percentile:.0f}"
    return f"percentile {place} (z {z:+.1f})"
