"""Commands that apply a registered model to files: `predict` gives the label, `measure` gives lengths in mm."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fetalflow.errors import InputError
from flows.cli.measured_folder import is_folder, measure_folder, refuse_options
from flows.cli.noting import noting
from flows.cli.options import Engine, Task, Workspace

if TYPE_CHECKING:  # they import torch, which would make --help slow
    from fetalflow.biometry.estimates import Estimate
    from fetalflow.inference.examination.fetus import Fetus
    from fetalflow.inference.examination.result import Examination


OF_MODEL = "Folder of a model package, or models:/NAME@ALIAS in MLflow; default: the champion."


def package_folder(model: str, task: str, workspace: Path | None, engine: str = "auto", in_parts: bool = False) -> Path:
    """The folder of a model package; one line on standard error names its version, its alias and the engine.

    model: a folder, or models:/NAME@ALIAS, which is downloaded from MLflow; empty for the task's champion in the
    registry of the workspace, or for the challenger while there is no champion. in_parts: for a stream, whose parts
    have other engines.
    """
    from fetalflow.inference.engines.choice import choose_for_stream

    version, remark, folder = find_package(model, task, workspace)
    name = choose_for_stream(engine, folder, in_parts, once=True)
    print(f"Model     {version}{f' ({remark})' if remark else ''}, engine {name}", file=sys.stderr)
    return folder


def find_package(model: str, task: str, workspace: Path | None) -> tuple[str, str, Path]:
    """models:/NAME/VERSION or the folder that was given, its alias with a remark, and the folder of the package."""
    from fetalflow.registry.fetching import fetch_in_use, fetch_package
    from fetalflow.settings.params import load_settings
    from flows.workspaces.last_run import in_store, in_workspace

    if model and not model.startswith("models:/"):
        return model, "", Path(model)
    with in_store(workspace) if model else in_workspace(task, workspace):
        if model:
            version, folder = fetch_package(model)
            remark = model.rpartition("@")[2] if "@" in model else ""
        else:
            block = load_settings().block(task)
            champion, challenger = block.promote.champion, block.register_.alias
            version, alias, folder = fetch_in_use(block.register_.model, champion, challenger)
            remark = alias if alias == champion else f"{alias}; there is no {champion} yet"
        return version, remark, folder.resolve()


def predict(
    file: Annotated[Path, typer.Argument(help="An image, a DICOM or a cine.")],
    model: Annotated[str, typer.Option(help=OF_MODEL)] = "",
    at_most_error: Annotated[
        float | None,
        typer.Option(help="Give the label only if at most this share of the given ones is wrong, such as 0.05."),
    ] = None,
    engine: Engine = "auto",
    task: Task = "movement",
    workspace: Workspace = None,
) -> None:
    """Predict label, probabilities and a set of labels, whether the input is unlike the training data, a sweep's best
    frame; as JSON."""
    from fetalflow.inference.package import load

    folder = package_folder(model, task, workspace, engine)
    package = load(folder, engine=engine, once=True)
    with noting("predict", task, workspace, model, folder, file) as note:
        found = package.predict(file, at_most_error)
        note(found)
    print(json.dumps(found.as_dict(), indent=2))


def measure(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Images, DICOMs or cines of one fetus; or one drop, such as the folder of HC18: each image alone."
        ),
    ],
    model: Annotated[str, typer.Option(help=OF_MODEL)] = "",
    mm_per_px: Annotated[
        float | None, typer.Option(help="Scale of the recorded frames; default: from each file.")
    ] = None,
    weeks: Annotated[
        float | None, typer.Option(help="Gestational age in weeks, for the percentiles of the lengths.")
    ] = None,
    structure: Annotated[
        str | None, typer.Option(help="head, abdomen or femur; default: the label that the model predicts.")
    ] = None,
    show_unfamiliar: Annotated[
        bool, typer.Option(help="Show lengths of what is unlike the training data too; they give no age and no weight.")
    ] = False,
    overlay: Annotated[
        Path | None, typer.Option(help="PNG file to write, with outline, ellipse, calipers and values.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All results, with masks, as JSON.")] = False,
    csv: Annotated[Path | None, typer.Option(help="CSV file to write for a drop; default: standard output.")] = None,
    engine: Engine = "auto",
    task: Annotated[str, typer.Option(help="The task of params.yaml whose model is used.")] = "biometry",
    workspace: Workspace = None,
) -> None:
    """Measure head, abdomen or femur in mm; several files of one fetus together also give its age and weight."""
    from fetalflow.inference.examination.examine import examine
    from fetalflow.inference.examination.fetus import combine
    from fetalflow.inference.package import load

    if overlay and overlay.suffix.lower() != ".png":
        raise InputError(
            f"--overlay writes a PNG file, so its name must end in .png, not {overlay.suffix or 'nothing'!r}."
        )
    if of_drop := is_folder(files):
        given = {"--mm-per-px": mm_per_px, "--weeks": weeks, "--structure": structure, "--overlay": overlay}
        refuse_options(given | {"--json": as_json})
    elif csv:
        raise InputError("--csv is for a drop, such as the folder of HC18. Use --json for the files of one fetus.")
    if not of_drop and len(files) > 1:
        from fetalflow.study.contents import check_one_fetus_named

        check_one_fetus_named(files)
    folder = package_folder(model, task, workspace, engine)
    package = load(folder, engine=engine, once=not of_drop)
    if of_drop:
        measure_folder(package, files[0], csv, show_unfamiliar)
        return
    examinations = []
    for file in files:
        with noting("measure", task, workspace, model, folder, file) as note:
            examinations.append(examine(package, file, mm_per_px, weeks, structure, show_unfamiliar))
            note(examinations[-1])
    together = combine(examinations) if len(examinations) > 1 else None
    if overlay:
        from fetalflow.artefacts import atomic_file
        from fetalflow.inference.examination.overlay import draw_examinations

        with atomic_file(overlay) as temporary:
            draw_examinations(examinations).savefig(temporary)
    if as_json:
        fetus = together and together.as_dict()
        print(json.dumps({"examinations": [each.as_dict() for each in examinations], "fetus": fetus}, indent=2))
        return
    print("\n\n".join("\n".join(_examination_lines(each)) for each in examinations))
    if together:
        print("\n" + "\n".join(_fetus_lines(together)))
    print("\nFor research, not a medical device." + (f"\nOverlay {overlay}" if overlay else ""))


def _examination_lines(found: "Examination") -> Iterable[str]:
    from fetalflow.evaluation.certainty.record import in_percent
    from fetalflow.inference.examination.overlay import length_text, runs

    scale = f"{found.mm_per_px:.4f} mm per pixel" if found.mm_per_px else "no pixel spacing"
    count = len(found.frames)
    frames = f"{count} frame{'s' * (count > 1)}"
    label = f"{found.label} ({found.probabilities[found.label]:.2f})"
    yield f"{found.source}: {label}, {frames}, {scale}, by {found.engine}"
    if found.label_set:
        yield f"      the label is one of {', '.join(found.label_set)} with a probability of {in_percent(found.level)}"
    width = 26 if any(length.low is not None for length in found.lengths.values()) else 18
    for name, length in found.lengths.items():
        of = f"{length.frames} of {count} frames" if count > 1 else ""
        percentile = _percentile_text(length.z, length.percentile)
        yield f"  {name.upper():<4}{length_text(length):>{width}}  {of:<18}{percentile}".rstrip()
    if levels := sorted({length.level for length in found.lengths.values() if length.level}):
        yield f"      an interval holds the true length with a probability of {in_percent(levels[0])}"
    if found.age:
        yield _estimate("Age", found.age)
    if 0 < len(found.used) < count:
        yield f"      the lengths are from frames {runs(found.used)}"
    if found.unfamiliarity is None:
        yield "  !   this model cannot say whether a file is unlike its training data"
    yield from (f"  !   {text}" for text in found.warnings)


def _fetus_lines(fetus: "Fetus") -> Iterable[str]:
    yield "Together" + (f", at the stated age of {fetus.weeks:g} weeks" if fetus.weeks else "")
    for name, value in fetus.lengths.items():
        yield f"  {name.upper():<4}{value:>15.1f} mm  {'':<18}{_percentile_text(*fetus.standings[name])}".rstrip()
    yield from (_estimate("Age", each) for each in fetus.ages)
    yield from (_estimate("EFW", each) for each in fetus.weights)
    if not fetus.weights:
        yield "  EFW  needs the abdomen in mm, and the femur or the head"
    yield from (f"  !   {text}" for text in fetus.warnings)


def _estimate(what: str, found: "Estimate") -> str:
    digits = 1 if found.unit == "weeks" else 0
    value = "none" if found.value is None else f"{found.value:.{digits}f} {found.unit}"
    remarks = "; ".join(filter(None, (_percentile_text(found.z, found.percentile), found.reason)))
    return f"  {what:<4}{value:>18}  {found.name}{': ' + remarks if remarks else ''}"


def _percentile_text(z: float | None, percentile: float | None) -> str:
    if z is None:
        return ""
    place = "under 1" if percentile < 1 else "over 99" if percentile > 99 else f"{percentile:.0f}"
    return f"percentile {place} (z {z:+.1f})"
