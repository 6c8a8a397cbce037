"""Shows a training while it runs: DVCLive's files and a page in the workspace, and a run in MLflow if a server answers.

No result depends on this. What fails here is printed in one line, and the training goes on without it.
"""

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from fetalflow.artefacts import read_json, write_json, write_text
from stages.runtime.live_page import live_page

LIVE = "live"  # folder of the workspace, which DVC does not track: live/TASK/VARIANT/fold-0-seed-0
TRAINING = "training.json"  # in such a folder: which training its files are of
PAGE = "curves.html"


class Watching:
    """Called in the process that trains, with the digest of the training and each epoch's row. It can be pickled before
    the first call.

    folder: where the files are written. name: of the training, for people. experiment: of MLflow, for the run there.
    """

    def __init__(self, folder: Path, name: str, experiment: str) -> None:
        self.folder, self.name, self.experiment = folder, name, experiment
        self.sinks: dict[str, Callable[[dict[str, Any]], None]] | None = None

    def __call__(self, training: str, row: dict[str, Any]) -> None:
        if self.sinks is None:
            self.sinks = {}
            self._begin("in files", partial(Files, self.folder, self.name, training, row["epoch"]))
            url = os.environ.get("MLFLOW_TRACKING_URI", "")
            if url.startswith(("http://", "https://")):
                from stages.runtime.live_server import LiveServer

                self._begin("in MLflow", partial(LiveServer, url, self.experiment, self.name, training, self.folder))
        for place, sink in list(self.sinks.items()):
            try:
                sink(row)
            except Exception as error:
                del self.sinks[place]
                self._failed(place, error)

    def finish(self) -> None:
        """The training is over. Returns at once: the server gets the last rows in the background."""
        for sink in (self.sinks or {}).values():
            sink.finish()

    def _begin(self, place: str, begin: Callable[[], Any]) -> None:
        try:
            self.sinks[place] = begin()
        except Exception as error:
            self._failed(place, error)

    def _failed(self, place: str, error: Exception) -> None:
        print(
            f"{self.name}: not shown {place} while it runs ({type(error).__name__}: {error}). The training goes on.",
            flush=True,
        )


class Files:
    """DVCLive's files of one training, and a page with its curves. A training that continues after a kill continues
    them; the epochs that it repeats are not written again."""

    def __init__(self, folder: Path, name: str, training: str, epoch: int) -> None:
        # DVCLive sends figures to DVC's service where somebody has logged in to it. A hospital's figures stay here.
        os.environ["DVC_STUDIO_OFFLINE"] = "true"
        from dvclive import Live

        self.folder, self.name = folder, name
        resumed = epoch > 1 and _read(folder / TRAINING).get("training") == training
        self.last = _read(folder / "metrics.json").get("step", 0) if resumed else 0
        self.live = Live(str(folder), resume=resumed, save_dvc_exp=False, dvcyaml=False)
        write_json(folder / TRAINING, {"training": training})

    def __call__(self, row: dict[str, Any]) -> None:
        if row["epoch"] <= self.last:
            return
        self.live.step = row["epoch"]
        for name, value in row.items():
            if name != "epoch":
                part, _, figure = name.partition("_")
                self.live.log_metric(f"{part}/{figure}" if part in ("train", "val") else name, value)
        self.live.make_summary()
        write_text(self.folder / PAGE, live_page(self.name, self.folder / "plots" / "metrics"))

    def finish(self) -> None:
        """Nothing: every epoch's files are complete."""


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except (OSError, json.JSONDecodeError):
        return {}
