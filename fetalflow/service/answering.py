"""The work of one worker process: it loads the models and answers jobs, one after the other."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2

from fetalflow.errors import InputError
from fetalflow.inference.engines.choice import AUTO, choose_for_stream
from fetalflow.inference.examination.examine import examine
from fetalflow.inference.examination.fetus import combine
from fetalflow.inference.package import Package, load
from fetalflow.inference.streaming.streamer import Streamer, open_stream
from fetalflow.service.limits import Limits
from fetalflow.service.served import BIOMETRY, EXAMINE, MEASURE, MOVEMENT, PLANES, Found, Job, Served
from fetalflow.watch.row import of_examination, of_prediction

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
        self.packages = {task: self._load(each.folder) for task, each in served.items()}

    def _load(self, folder: Path) -> Package:
        package = load(folder, engine=AUTO, threads=THREADS)
        extract = package.config["extract"]
        smaller = {name: min(limit, extract.get(name, limit)) for name, limit in self.limits.of_extract.items()}
        return replace(package, config=package.config | {"extract": extract | smaller})

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
        package = self.packages[job.task]
        found = [package.predict(file, **job.options) for file in job.files]
        answers = [{"file": file.name} | each.as_dict() for file, each in zip(job.files, found, strict=True)]
        rows = [
            _row(job.task, file, each.engine, of_prediction(each)) for file, each in zip(job.files, found, strict=True)
        ]
        return Found(json.dumps({"answers": answers}), tuple(rows))

    def _measure(self, job: Job) -> Found:
        package = self.packages[job.task]
        found = [examine(package, file, **job.options) for file in job.files]
        together = combine(found) if len(found) > 1 else None
        rows = [
            _row(job.task, file, each.engine, of_examination(each)) for file, each in zip(job.files, found, strict=True)
        ]
        fetus = together and together.as_dict()
        body = {"examinations": [each.as_dict() for each in found], "fetus": fetus}
        return Found(json.dumps(body), tuple(rows))

    def _examine(self, job: Job) -> Found:
        from fetalflow.study.examining import ANY_FILE, examine_study
        from fetalflow.study.examining import Models as OfStudy

        used = tuple(_used(each, self.packages[task]) for task, each in sorted(self.served.items()))
        stream = self.stream if MOVEMENT in self.served else None
        models = OfStudy(self.packages[BIOMETRY], self.packages.get(PLANES), stream, used)
        scale = job.options.get("mm_per_px")
        scales = {} if scale is None else {ANY_FILE: scale}
        found = examine_study(models, list(job.files), scales, job.options.get("weeks"))
        files = {file.name: file for file in job.files}
        rows = [
            _row(BIOMETRY, files[each.source], each.engine, of_examination(each))
            for each in found.examinations
            if each.source in files
        ]
        return Found(json.dumps(found.as_dict()), tuple(rows))


def _row(task: str, file: Path, engine: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    return {"task": task, "file": file.name, "engine": engine} | answer


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
