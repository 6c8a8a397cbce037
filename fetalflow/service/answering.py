"""The work of one worker process: it loads the models and answers jobs, one after the other."""

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from fetalflow.errors import InputError
from fetalflow.inference.engines.choice import AUTO, choose_for_stream
from fetalflow.inference.examination.examine import examine
from fetalflow.inference.examination.fetus import combine
from fetalflow.inference.package import Package, load
from fetalflow.inference.streaming.streamer import Streamer, open_stream
from fetalflow.service.limits import Limits
from fetalflow.service.served import BIOMETRY, EXAMINE, MEASURE, MOVEMENT, PLANES, Found, Job, Served
from fetalflow.study.contents import check_one_fetus_named
from fetalflow.watch.files import who
from fetalflow.watch.row import UNREADABLE, of_examination, of_prediction, picture_figures

if TYPE_CHECKING:
    from fetalflow.study.result import UsedModel

THREADS = 1  # of an engine: there are as many workers as cores


def use_one_thread() -> None:
    """Let the libraries of this process compute in one thread; torch only where it is loaded already."""
    cv2.setNumThreads(THREADS)
    os.environ["OMP_NUM_THREADS"] = str(THREADS)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(THREADS)


class Models:
    """The models of one worker."""

    def __init__(self, served: Mapping[str, Served], limits: Limits) -> None:
        """Raises InputError when a package cannot be loaded."""
        self.served, self.limits = dict(served), limits
        self._pictures: list[np.ndarray] = []  # the first sequence of the file that is answered now
        self.packages = {task: self._load(each.folder) for task, each in served.items()}

    def _load(self, folder: Path) -> Package:
        package = load(folder, engine=AUTO, threads=THREADS)
        extract = package.config["extract"]
        smaller = {name: min(limit, extract.get(name, limit)) for name, limit in self.limits.of_extract.items()}
        config = package.config | {"extract": extract | smaller}
        return replace(package, config=config, watcher=self._pictures.append)

    @cached_property
    def stream(self) -> Streamer:
        """The movement model as the study needs it."""
        return open_stream(self.served[MOVEMENT].folder, engine=AUTO, threads=THREADS)

    def answer(self, job: Job) -> Found:
        """The answer; a refusal where the input is at fault. Other errors pass."""
        try:
            if job.verb == EXAMINE:
                return self._examine(job)
            return self._measure(job) if job.verb == MEASURE else self._predict(job)
        except InputError as error:
            return Found(wrong=_without_folder(str(error), job.files))

    def _predict(self, job: Job) -> Found:
        package, answers, rows = self.packages[job.task], [], []
        for file in job.files or (Path(),):  # a window of a stream has no file
            self._pictures[:] = [] if job.frames is None else [job.frames]
            try:
                found = package.predict(file if job.frames is None else job.frames, **job.options)
            except InputError as error:
                return _refusal(job, file, error)
            answers.append({"file": file.name} | found.as_dict())
            rows.append(_row(job, file, found.engine, of_prediction(found), self._pictures[0], package.size))
        return Found(_json({"answers": answers}), tuple(rows))

    def _measure(self, job: Job) -> Found:
        package, found, rows = self.packages[job.task], [], []
        check_one_fetus_named(job.files)
        for file in job.files:
            try:
                found.append(each := examine(package, file, **job.options))
            except InputError as error:
                return _refusal(job, file, error)
            rows.append(_row(job, file, each.engine, of_examination(each), each.picture[None], package.size))
        together = combine(found) if len(found) > 1 else None
        fetus = together and together.as_dict()
        body = {"examinations": [each.as_dict() for each in found], "fetus": fetus}
        return Found(_json(body), tuple(rows))

    def _examine(self, job: Job) -> Found:
        from fetalflow.study.examining import ANY_FILE, examine_study
        from fetalflow.study.examining import Models as OfStudy

        used = tuple(_used(each, self.packages[task]) for task, each in sorted(self.served.items()))
        stream = self.stream if MOVEMENT in self.served else None
        models = OfStudy(self.packages[BIOMETRY], self.packages.get(PLANES), stream, used)
        scale = job.options.get("mm_per_px")
        scales = {} if scale is None else {ANY_FILE: scale}
        weeks, fetus = job.options.get("weeks"), job.options.get("fetus", "")
        found = examine_study(models, list(job.files), scales, weeks, fetus=fetus)
        files, size = {file.name: file for file in job.files}, self.packages[BIOMETRY].size
        rows = [
            _row(job, files[each.source], each.engine, of_examination(each), each.picture[None], size)
            for each in found.examinations
        ]
        rows += [{"task": BIOMETRY, "file": each.name, "refusal": UNREADABLE} for each in found.files if each.not_read]
        return Found(_json(found.as_dict()), tuple(rows))


def _row(job: Job, file: Path, engine: str, answer: Mapping[str, Any], frames: np.ndarray, size: int) -> dict[str, Any]:
    """frames: uint8 [N, H, W], masked, of which the figures are; size: of the model's input."""
    header = who(file) if file.name else {}
    row = {"task": job.task or BIOMETRY, "file": file.name, "engine": engine, "header": header} | _finite(answer)
    row |= {"figures": picture_figures(frames, size, with_niqe=job.niqe)} if job.figures else {}
    return row | ({"picture": np.ascontiguousarray(frames)} if job.pictures else {})


def _refusal(job: Job, file: Path, error: InputError) -> Found:
    """The whole request is refused; the row names the one file at fault."""
    row = {"task": job.task, "file": file.name, "refusal": UNREADABLE}
    return Found(wrong=_without_folder(str(error), job.files), rows=(row,))


def _json(body: Mapping[str, Any]) -> str:
    try:
        return json.dumps(body, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(body), allow_nan=False)


def _finite(given: Any) -> Any:
    """The same with None for NaN and infinity, which are no JSON: other languages would refuse the whole answer."""
    if isinstance(given, float):
        return given if math.isfinite(given) else None
    if isinstance(given, Mapping):
        return {key: _finite(each) for key, each in given.items()}
    return [_finite(each) for each in given] if isinstance(given, list | tuple) else given


def _used(served: Served, package: Package) -> "UsedModel":
    from fetalflow.study.result import UsedModel

    network = package.config.get("variant", "")
    streams = served.task == MOVEMENT
    engine = choose_for_stream(AUTO, served.folder) if streams else package.answers_by(package.frames)
    return UsedModel(served.task, served.name, served.version, network, served.weights, engine)


def _without_folder(text: str, files: Sequence[Path]) -> str:
    """A message for the caller, who knows the names `file-1.avi` and no folder of the server."""
    for folder in {file.parent for file in files}:
        text = text.replace(f"{folder}{os.sep}", "")
    return text
