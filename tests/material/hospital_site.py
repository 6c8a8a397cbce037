"""A hospital's servers on loopback, its drop, and the workspace that trains on what comes into its S3 inbox."""

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from processes import OURS, Server, environ, wait_for
from servers import (
    INFRA,
    MLFLOW_LOG_IN,
    PREFECT_LOG_IN,
    Postgres,
    load,
    mlflow_server,
    postgres,
    prefect_server,
    s3_client,
    s3_store,
    worker,
)
from typer.testing import CliRunner

from fetalflow.hospital.phantom.movement.hospital import make_drop
from fetalflow.settings.params import Phantom
from flows.cli.app import app
from flows.retrain import prepare_workspace

CANARY = "CANARY"  # in the name of every patient of the drop
RIVALS = ("fetalmovnet", "cnn", "cnn_lstm", "single_frame", "shuffled_frames")
SMALL = {
    "movement": {
        "rivals": {f"movement-{rival}": None for rival in RIVALS},
        "extract": {"labels": ["head", "arm"], "workers": 1, "quarantine_share": 0.5},
        "preprocess": {"size": 32},
        "train": {"epochs": 1, "batch": 4, "augment": False},
        "export": {"engines": ["onnx"], "latency_repeats": 5},
        "evaluate": {"bootstrap": 100, "latency_repeats": 2},
        "explain": {"per_class": 1, "measured": 2, "mistakes": 1},
        "drift": {"permutations": 99},
    },
}
MODEL = "fetalmovnet"


@dataclass(frozen=True)
class Site:
    """A hospital's servers, its drop and the workspace that trains on what comes into its inbox."""

    folder: Path
    database: Postgres
    store: Server
    mlflow: Server
    prefect: Server
    worker: Server
    drop: Path
    workspace: Path

    def fetalflow(self, *words: str) -> str:
        """What a verb prints in the workspace, for one who may speak to MLflow and not to the store."""
        with pytest.MonkeyPatch.context() as patch:
            for name in [name for name in os.environ if name.startswith(OURS)]:
                patch.delenv(name)
            for name, value in self.mlflow.access.items():
                patch.setenv(name, value)
            patch.chdir(self.workspace)
            done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, f"{done.output}{done.exception!r}"
        return done.stdout

    def run(self, *words: str | Path) -> str:
        """What a program of its own prints, with the log-ins of both servers."""
        access = environ(self.mlflow.access, self.prefect.access)
        done = subprocess.run(words, env=access, cwd=self.workspace, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def head(self) -> str:
        """The hash of the ledger's last line."""
        said = self.fetalflow("ledger", "verify")
        assert " 0 errors" in said
        return said.rpartition("Last hash: ")[2].strip()

    def answer_of_champion(self) -> str:
        cine = max((self.drop / "cines").rglob("*.mp4"), key=lambda path: path.stat().st_size)
        return self.fetalflow("predict", str(cine), "--model", f"models:/{MODEL}@champion")

    def ask_mlflow(self, path: str, **wanted) -> dict:
        url = f"{self.mlflow.url}/api/2.0/mlflow/{path}"
        how = {"method": "POST", "json": wanted} if path == "runs/search" else {"method": "GET", "params": wanted}
        answer = httpx.request(url=url, auth=MLFLOW_LOG_IN, timeout=60, **how)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ask_prefect(self, path: str, body: dict | None = None) -> dict | list:
        method = "GET" if body is None else "POST"
        answer = httpx.request(method, f"{self.prefect.url}/{path}", json=body, auth=PREFECT_LOG_IN, timeout=60)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    def deliver(self, name: str) -> None:
        client = s3_client(self.store)
        for path in sorted(path for path in self.drop.rglob("*") if path.is_file()):
            key = f"in/{name}/{path.relative_to(self.drop).as_posix()}"
            client.put_object(Bucket="drops", Key=key, Body=path.read_bytes())
        client.put_object(Bucket="drops", Key=f"in/{name}/COMPLETE", Body=b"")

    def look_into_the_inbox(self) -> str:
        """Start the deployment as its schedule would; the log of the run."""
        deployment = self.ask_prefect("deployments/name/retrain/movement")
        parameters = {"workspace": str(self.workspace), "task_name": "movement"}
        run = self.ask_prefect(f"deployments/{deployment['id']}/create_flow_run", {"parameters": parameters})
        states: list[dict] = []

        def ended() -> bool:
            states.append(self.ask_prefect(f"flow_runs/{run['id']}"))
            return states[-1]["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")

        wait_for(ended, 600, lambda: self.worker.log.read_text()[-4000:])
        assert states[-1]["state_type"] == "COMPLETED", f"{states[-1]['state']}\n{self.worker.log.read_text()[-4000:]}"
        return self.worker.log.read_text()

    def versions(self) -> list[str]:
        found = self.ask_mlflow("model-versions/search", filter=f"name = '{MODEL}'")
        return [version["version"] for version in found.get("model_versions", [])]


@contextmanager
def opened_site(folder: Path) -> Iterator[Site]:
    """Everything started, the drop made, nothing delivered."""
    key = folder / "pseudonym.key"
    load(INFRA / "make_secrets.py").main(["--drops", str(folder), "--key", str(key)], folder / "env")
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        database, store = stack.enter_context(postgres()), stack.enter_context(s3_store(folder))
        begun = pool.submit(stack.enter_context, mlflow_server(folder / "mlflow", database, store))
        prefect = stack.enter_context(prefect_server(folder / "prefect", database))
        mlflow = begun.result()
        access = [prefect.access, mlflow.access, store.access, {"FETALFLOW_PSEUDONYM_KEY_FILE": str(key)}]
        started = stack.enter_context(worker(folder, *access))
        s3_client(store).create_bucket(Bucket="drops")
        workspace = prepare_workspace(folder / "night", "movement", "s3://drops/in", None, [SMALL])
        yield Site(folder, database, store, mlflow, prefect, started, hospital(folder / "drop"), workspace)


def hospital(folder: Path) -> Path:
    folder.mkdir()
    sizes = {"height": 120, "width": 160, "min_frames": 20, "max_frames": 24}
    table = make_drop(Phantom(seed=3, patients=12, sequences={"head": 20, "arm": 20}, **sizes), folder, workers=1)
    table["patient"] = f"{CANARY} " + table["patient"]
    table.to_csv(folder / "annotations.csv", index=False)
    return folder
