"""A run in MLflow that shows a training while it runs, by a thread for which the training never waits.

Only requests are sent: to import MLflow takes seconds of the processor that trains, and its client waits for minutes
for a server that does not answer.
"""

import os
import queue
import threading
import time
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from fetalflow.artefacts import read_json, write_json

PATIENCE_S = 2.0  # for each answer of the server, and for the last rows when the process ends
RECORD = "mlflow.json"  # in the folder of the training's live files: its run on the server
LIVE_TAG = "fetalflow.live"  # tag of such a run: the digest of the training


class LiveServer(threading.Thread):
    """Sends rows to the server at `url`. After the first failure it prints one line and sends nothing more.

    folder: has the record of the run, by which a training that continues after a kill continues its run.
    """

    def __init__(self, url: str, experiment: str, name: str, training: str, folder: Path) -> None:
        super().__init__(daemon=True, name="live server")
        self.url, self.experiment, self.label, self.training, self.record = (
            url,
            experiment,
            name,
            training,
            folder / RECORD,
        )
        self.where = urlsplit(url)._replace(netloc=urlsplit(url).netloc.rpartition("@")[2]).geturl()  # no password
        self.rows: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self.given_up = False
        self.session = _session()
        self.start()
        Finalize(None, self.close, exitpriority=1)  # at the end of this process, also of a spawned one

    def __call__(self, row: dict[str, Any]) -> None:
        self.rows.put(row)

    def finish(self) -> None:
        self.rows.put(None)

    def close(self) -> None:
        """Wait for the last rows, but not longer than PATIENCE_S."""
        self.finish()
        self.join(PATIENCE_S)
        if self.is_alive():
            self._give_up(f"the last epochs were not taken within {PATIENCE_S:g} s")

    def run(self) -> None:
        try:
            run, last = self._begin()
            while (row := self.rows.get()) is not None:
                if row["epoch"] > last:
                    self._log(run, row)
            self._post("runs/update", run_id=run, status="FINISHED", end_time=_now())
        except Exception as error:
            self._give_up(reason(error))

    def _give_up(self, why: str) -> None:
        if not self.given_up:
            self.given_up = True
            print(
                f"{self.label}: not shown in MLflow at {self.where} while it runs ({why}). The training goes on.",
                flush=True,
            )

    def _begin(self) -> tuple[str, int]:
        """The run of this training, and the last epoch that it has. An unfinished run of the same training continues;
        one of another training in this folder is ended."""
        known = read_json(self.record) if self.record.is_file() else {}
        if known.get("server") == self.where:
            run = self._get("runs/get", run_id=known["run_id"]).get("run")
            if run and run["info"]["status"] == "RUNNING":
                if known["training"] == self.training:
                    return known["run_id"], max((int(m["step"]) for m in run["data"].get("metrics", ())), default=0)
                self._post("runs/update", run_id=known["run_id"], status="KILLED", end_time=_now())
        note = "Shows a training while it runs. The finished run has its own experiment; this one is then deleted."
        tags = {LIVE_TAG: self.training, "mlflow.source.name": "fetalflow", "mlflow.note.content": note}
        body = {"experiment_id": self._experiment(), "run_name": self.label, "start_time": _now()}
        tags = [{"key": key, "value": value} for key, value in tags.items()]
        run = self._post("runs/create", **body, tags=tags)["run"]["info"]["run_id"]
        record = {"server": self.where, "experiment_id": body["experiment_id"], "run_id": run}
        write_json(self.record, record | {"training": self.training})
        return run, 0

    def _experiment(self) -> str:
        found = self._get("experiments/get-by-name", experiment_name=self.experiment).get("experiment")
        if found:
            return found["experiment_id"]
        tags = [{"key": "mlflow.experimentKind", "value": "custom_model_development"}]
        return self._post("experiments/create", name=self.experiment, tags=tags)["experiment_id"]

    def _log(self, run: str, row: dict[str, Any]) -> None:
        points = [
            {"key": f"curves/{name}", "value": value, "timestamp": _now(), "step": row["epoch"]}
            for name, value in row.items()
            if name != "epoch" and abs(value) < float("inf")  # JSON has no number for the others
        ]
        self._post("runs/log-batch", run_id=run, metrics=points)

    def _get(self, path: str, **query: str) -> dict[str, Any]:
        """The answer; empty if the server does not have what was asked for."""
        answer = self.session.get(self._address(path), params=query, timeout=PATIENCE_S)
        return {} if answer.status_code == 404 else _json(answer)

    def _post(self, path: str, **body: Any) -> dict[str, Any]:
        return _json(self.session.post(self._address(path), json=body, timeout=PATIENCE_S))

    def _address(self, path: str) -> str:
        return f"{self.url.rstrip('/')}/api/2.0/mlflow/{path}"


def reason(error: Exception) -> str:
    """Why something failed, in a few words without an address, which may have a password in it."""
    if isinstance(error, requests.Timeout):
        return f"no answer within {PATIENCE_S:g} s"
    if isinstance(error, requests.HTTPError):
        return f"it answered with status {error.response.status_code}"
    if isinstance(error, requests.RequestException):
        return "no connection"
    return f"{type(error).__name__}: {error}"


def _session() -> requests.Session:
    """With the log-in and the certificates that MLflow's client would use."""
    session, variables = requests.Session(), os.environ
    if user := variables.get("MLFLOW_TRACKING_USERNAME"):
        session.auth = (user, variables.get("MLFLOW_TRACKING_PASSWORD", ""))
    elif token := variables.get("MLFLOW_TRACKING_TOKEN"):
        session.headers["Authorization"] = f"Bearer {token}"
    if variables.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        session.verify = False
    elif certificate := variables.get("MLFLOW_TRACKING_SERVER_CERT_PATH"):
        session.verify = certificate
    return session


def _json(answer: requests.Response) -> dict[str, Any]:
    answer.raise_for_status()
    return answer.json()


def _now() -> int:
    return int(time.time() * 1000)
