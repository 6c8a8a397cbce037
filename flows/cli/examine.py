"""`fetalflow examine`: all files of one examination, in one page and one JSON."""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fetalflow.errors import InputError
from flows.cli.answers import find_package
from flows.cli.options import Engine, Workspace

if TYPE_CHECKING:  # they import torch, which would make --help slow
    from fetalflow.study.examining import Models
    from fetalflow.study.result import JoinedLength, StudyResult

TASKS = ("biometry", "planes", "movement")
PAGE, PRINTED, FACTS = "examination.html", "examination.pdf", "examination.json"


def examine(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...|FOLDER", help="All files of one study, in any order; or its folder."),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write: the page as HTML and PDF, and the JSON.")] = Path(
        "examination"
    ),
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="TASK=PACKAGE, a folder or models:/NAME@ALIAS, for biometry, planes or movement; PACKAGE 'none': use "
            "no model. Default: the champion of each task."
        ),
    ] = None,
    weeks: Annotated[float | None, typer.Option(help="Gestational age in weeks, for growth percentiles.")] = None,
    mm_per_px: Annotated[
        list[str] | None,
        typer.Option(help="FILE=SCALE for one file; or SCALE for every file that states none. May be repeated."),
    ] = None,
    fetus: Annotated[
        str, typer.Option(help="A, B, C or D: only the files that say they show this fetus, such as `fetus A`.")
    ] = "",
    dicom: Annotated[
        Path | None,
        typer.Option(help="Empty folder to write for a PACS: report, masks and pictures in DICOM, of the same study."),
    ] = None,
    obgyn: Annotated[
        bool, typer.Option("--obgyn", help="With --dicom: also a TID 5000 report, which obstetric record systems read.")
    ] = False,
    fhir: Annotated[Path | None, typer.Option(help="JSON file to write: the figures as FHIR R4.")] = None,
    engine: Engine = "auto",
    workspace: Workspace = None,
) -> None:
    """Examine all files of one study: planes, lengths, age, weight, growth, movement, and what speaks against each."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in `fetalflow stream`, before torch is loaded
    chosen, scales = _by_task(model or []), _scales(mm_per_px or [])
    from fetalflow.artefacts import write_text
    from fetalflow.report.paper import print_page
    from fetalflow.study.examining import examine_study
    from fetalflow.study.page import page

    if out.exists() and not out.is_dir():
        raise InputError(f"--out must be a folder; {out} is a file.")
    if fhir and fhir.is_dir():
        raise InputError(
            f"--fhir {fhir}: expected a file to write, found a folder. State a file, such as {fhir}/figures.json."
        )
    if obgyn and not dicom:
        raise InputError("--obgyn adds a report to those of --dicom. State the folder: --dicom FOLDER --obgyn.")
    if dicom:
        from fetalflow.study.dicom.writing import check_request, write_dicom

        check_request(files, dicom)  # before the models answer, which takes long
    models, remarks = _models(chosen, workspace, engine)
    found = examine_study(models, files, scales, weeks, remarks, fetus)
    write_text(out / FACTS, json.dumps(found.as_dict()) + "\n")  # without indents: masks are long lists
    write_text(out / PAGE, page(found))
    not_printed = print_page(out / PAGE, out / PRINTED)
    print("\n".join(_lines(found)))
    print(f"\nFor research, not for diagnosis.\nPage      {out / PAGE}\nJSON      {out / FACTS}")
    print(f"No PDF    {not_printed}" if not_printed else f"PDF       {out / PRINTED}")
    if dicom:
        print(f"DICOM     {dicom}, {len(write_dicom(found, dicom, obgyn))} files: docs/operator/dicom-out.md")
    if fhir:
        from fetalflow.artefacts import write_json
        from fetalflow.study.fhir import fhir_bundle

        write_json(fhir, fhir_bundle(found))
        print(f"FHIR      {fhir}")


def _by_task(given: Sequence[str]) -> dict[str, str]:
    chosen = {}
    for each in given:
        task, equals, package = each.partition("=")
        if task not in TASKS or not equals or not package:
            raise InputError(f"--model takes TASK=PACKAGE with {', '.join(TASKS)} as the task; found {each!r}.")
        if task in chosen:
            raise InputError(f"--model names {task} twice. Name one package for each task.")
        chosen[task] = package
    if chosen.get("biometry") == "none":
        raise InputError("biometry must have a model, because it measures.")
    return chosen


def _scales(given: Sequence[str]) -> dict[str, float]:
    """By file name; the name is empty for a scale of every file that states none."""
    scales: dict[str, float] = {}
    for each in given:
        name, _, number = each.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            raise InputError(f"--mm-per-px takes a number, or FILE=NUMBER; found {each!r}.") from None
        if name in scales:
            raise InputError(f"--mm-per-px is given twice for {name or 'all files'}. Give it once.")
        scales[name] = value
    return scales


def _models(chosen: dict[str, str], workspace: Path | None, engine: str) -> "tuple[Models, list[str]]":
    """The models, and why one that was not named is missing. Only biometry must be there."""
    from fetalflow.inference.engines.choice import choose_for_stream
    from fetalflow.inference.package import load
    from fetalflow.inference.streaming.streamer import open_stream
    from fetalflow.models.package_files import read_config
    from fetalflow.study.examining import Models
    from fetalflow.study.result import UsedModel

    loaded, used, remarks = {}, [], []
    for task in TASKS:
        if chosen.get(task) == "none":
            continue
        try:
            place = workspace if task in chosen else _with(task, workspace)
            version, alias, folder = find_package(chosen.get(task, ""), task, place)
        except InputError as error:
            if task in chosen or task == "biometry":
                raise
            remarks.append(f"no {task} model: {error}")
            continue
        streams = task == "movement"
        by = choose_for_stream(engine, folder, streams, once=True)
        print(f"{task.capitalize():<10}{version}{f' ({alias})' if alias else ''}, engine {by}", file=sys.stderr)
        loaded[task] = (
            open_stream(folder, engine=engine, once=True) if streams else load(folder, engine=engine, once=True)
        )
        config = read_config(folder)
        name, number = version.removeprefix("models:/").rpartition("/")[::2] if "models:/" in version else ("", "")
        digest = config["weights"]["sha256"]
        used.append(UsedModel(task, name or config["variant"], number, config["network"], digest, by))
    return Models(**loaded, used=tuple(used)), remarks


def _with(task: str, named: Path | None) -> Path | None:
    """The named workspace, if its settings have the task: most workspaces have one. Else the one where it ran last."""
    from fetalflow.settings.params import load_settings
    from flows.workspaces.last_run import find_workspace

    if named is None or task in load_settings(find_workspace(None, named) / "params.yaml").blocks:
        return named
    return None


def _lines(found: "StudyResult") -> Iterable[str]:
    read = sum(not each.not_read for each in found.files)
    yield f"{read} of {len(found.files)} files were read" + (
        f", {found.weeks:g} weeks are stated" if found.weeks else ""
    )
    for length in found.lengths.values():
        yield _length(length)
    for structure, reason in found.missing.items():
        yield f"  {structure}: no length: {reason}"
    for each in (*found.ages, *found.weights):
        value = "none" if each.value is None else f"{each.value:.{1 if each.unit == 'weeks' else 0}f} {each.unit}"
        yield f"  {value:>12}  {each.name}{f': {each.reason}' if each.reason else ''}"
    for each in found.movement:
        yield f"  {each.source}: {len(each.events)} movements in {each.judged_s:.0f} s that can be judged"
    for each in found.files:
        if each.not_read:
            yield f"  !   {each.name} was not read: {each.not_read}"
    yield from (f"  !   {text}" for text in found.warnings)


def _length(length: "JoinedLength") -> str:
    interval = "" if length.low is None else f" [{length.low:.1f}, {length.high:.1f}]"
    views = f"{length.views} view{'s' * (length.views > 1)}"
    growth = "" if length.z is None else f", z {length.z:+.1f}, percentile {length.percentile:.0f}"
    return f"  {length.name.upper():<4}{length.value:.1f} mm{interval}, {views}{growth}"
