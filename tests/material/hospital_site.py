"""A hospital's servers on loopback, its deliveries, and the workspace that trains on what comes into its S3 inbox."""

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from alert_receiver import alert_receiver
from alone import alone
from name_search import SECOND, SECRET
from named_deliveries import good_delivery
from processes import OURS, Server, environ, wait_for
from servers import (
    INFRA,
    MLFLOW_LOG_IN,
    PREFECT_LOG_IN,
    Postgres,
    find_postgres,
    load,
    mlflow_server,
    postgres,
    prefect_server,
    s3_client,
    s3_store,
    worker,
)
from typer.testing import CliRunner

from flows.cli.app import app
from flows.retrain import prepare_workspace

RIVALS = ("fetalmovnet", "cnn", "cnn_lstm", "single_frame", "shuffled_frames")
SMALL = {
    # The main variant keeps its name and is a network that is quick to train, to export and to explain.
    "tasks": {"movement": {"network": "cnn", "base": "movement/fetalmovnet.py"}},
    "movement": {
        "rivals": {f"movement-{rival}": None for rival in RIVALS},
        "extract": {"labels": ["head", "arm"], "frames": 4, "stride": 8, "workers": 1, "quarantine_share": 1.0},
        "preprocess": {"size": 32},
        "train": {"epochs": 1, "batch": 4, "augment": False, "device": "cpu"},
        "export": {"engines": ["onnx"], "latency_repeats": 5},
        "evaluate": {"bootstrap": 100, "latency_repeats": 2},
        "explain": {"per_class": 1, "measured": 2, "mistakes": 1},
        "drift": {"permutations": 99},
    },
}
MODEL = "fetal-movement"


@dataclass(frozen=True)
class Site:
    """A hospital's servers, its drop and the workspace that trains on what comes into its inbox.

    database: None where PostgreSQL is not installed: MLflow and Prefect then keep all in SQLite, in their folders.
    scratch: the folder for temporary files of the worker. alone: variables of `alone.alone`, for what it starts.
    alerts: title and text of those that arrived."""

    folder: Path
    database: Postgres | None
    store: Server
    mlflow: Server
    prefect: Server
    worker: Server
    drop: Path
    workspace: Path
    scratch: Path
    alone: dict[str, str]
    alerts: list[tuple[str, str]]

    @contextmanager
    def as_operator(self) -> Iterator[None]:
        """In the workspace, with what lets one speak to MLflow and not to the store."""
        with pytest.MonkeyPatch.context() as patch:
            for name in [name for name in os.environ if name.startswith(OURS)]:
                patch.delenv(name)
            for name, value in self.mlflow.access.items():
                patch.setenv(name, value)
            patch.chdir(self.workspace)
            yield

    def fetalflow(self, *words: str) -> str:
        """What a verb prints for the operator."""
        with self.as_operator():
            done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, f"{done.output}{done.exception!r}"
        return done.stdout

    def run(self, *words: str | Path) -> str:
        """What a program of its own prints, with the log-ins of both servers."""
        access = environ(self.mlflow.access, self.prefect.access, self.alone)
        done = subprocess.run(words, env=access, cwd=self.workspace, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def head(self) -> str:
        """The hash of the ledger's last line."""
        said = self.fetalflow("ledger", "verify")
        assert " 0 errors" in said
        return said.rpartition("Last hash: ")[2].strip()

    def answer_of_champion(self) -> str:
        cine = self.drop / f"{SECOND} 10.mp4"
        return self.fetalflow("predict", str(cine), "--model", f"models:/{MODEL}@champion")

    def ask_mlflow(self, path: str, **wanted) -> dict:
        url = f"{self.mlflow.url}/api/2.0/mlflow/{path}"
        how = {"method": "POST", "json": wanted} if path == "runs/search" else {"method": "GET", "params": wanted}
        answer = httpx.request(url=url, auth=MLFLOW_LOG_IN, timeout=60, verify=False, **how)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ask_prefect(self, path: str, body: dict | None = None) -> dict | list:
        method = "GET" if body is None else "POST"
        url = f"{self.prefect.url}/{path}"
        answer = httpx.request(method, url, json=body, auth=PREFECT_LOG_IN, timeout=60, verify=False)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    def deliver(self, folder: Path, name: str) -> None:
        client = s3_client(self.store)
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            key = f"in/{name}/{path.relative_to(folder).as_posix()}"
            client.put_object(Bucket="drops", Key=key, Body=path.read_bytes())

    def look_into_the_inbox(self) -> str:
        """Start the deployment as its schedule would; the log of the worker."""
        self.run_deployment("retrain/movement", workspace=str(self.workspace), task_name="movement")
        return self.worker.log.read_text()

    def run_deployment(self, name: str, **parameters: str) -> dict:
        """Prefect's record of the finished run."""
        deployment = self.ask_prefect(f"deployments/name/{name}")
        run = self.ask_prefect(f"deployments/{deployment['id']}/create_flow_run", {"parameters": parameters})
        states: list[dict] = []

        def ended() -> bool:
            states.append(self.ask_prefect(f"flow_runs/{run['id']}"))
            return states[-1]["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")

        # A run takes minutes, and each look costs this process and the server 0.02 s.
        wait_for(ended, 600, lambda: self.worker.log.read_text()[-4000:], every=2)
        assert states[-1]["state_type"] == "COMPLETED", f"{states[-1]['state']}\n{self.worker.log.read_text()[-4000:]}"
        return states[-1]

    def versions(self) -> list[str]:
        found = self.ask_mlflow("model-versions/search", filter=f"name = '{MODEL}'")
        return [version["version"] for version in found.get("model_versions", [])]


@contextmanager
def opened_site(folder: Path) -> Iterator[Site]:
    """Everything started, the drop made, nothing delivered."""
    key, scratch = folder / "pseudonym.key", folder / "scratch"
    key.write_text(SECRET)
    key.chmod(0o600)
    scratch.mkdir()
    load(INFRA / "make_secrets.py").main(["--drops", str(folder), "--key", str(key)], folder / "env", os.geteuid())
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        drop = pool.submit(good_delivery, folder / "drop")
        database = stack.enter_context(postgres()) if find_postgres() else None
        store = stack.enter_context(s3_store(folder))
        begun = pool.submit(stack.enter_context, mlflow_server(folder / "mlflow", database, store))
        prefect = stack.enter_context(prefect_server(folder / "prefect", database))
        mlflow = begun.result()
        by_itself = alone(folder)
        address, alerts = stack.enter_context(alert_receiver())
        here = {"FETALFLOW_PSEUDONYM_KEY_FILE": str(key), "TMPDIR": str(scratch), "FETALFLOW_ALERTS": address}
        started = stack.enter_context(worker(folder, prefect.access, mlflow.access, store.access, by_itself | here))
        s3_client(store).create_bucket(Bucket="drops")
        workspace = prepare_workspace(folder / "night", "movement", "s3://drops/in", None, [SMALL])
        yield Site(
            folder, database, store, mlflow, prefect, started, drop.result(), workspace, scratch, by_itself, alerts
        )
