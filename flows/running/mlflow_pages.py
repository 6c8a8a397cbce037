"""The pages of MLflow on which a person looks at a finished run."""

import shlex
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

TRAINING = "?workflowType=machine_learning"  # else MLflow's page shows its side for language models
UI = "http://127.0.0.1:5000"  # where `mlflow ui` serves the embedded store


def pages(workspace: Path, registered: dict[str, Any], variant: str) -> str:
    """Lines with the addresses of the model's card, of the curves of `variant` and of all runs; for the embedded store
    also the command that serves them.

    registered: what the register stage wrote into registered.json.
    """
    store, lines = registered["tracking_uri"], []
    is_server = store.startswith(("http://", "https://"))
    if not is_server:
        mlflow = shlex.quote(str(Path(sys.executable).with_name("mlflow")))
        lines = [f"MLflow            cd {shlex.quote(str(workspace))} && {mlflow} ui --backend-store-uri {store}"]
    server = store.rstrip("/") if is_server else UI
    found = {"model card": f"models/{quote(registered['name'], safe='')}/versions/{registered['version']}"}
    if "experiment_id" in registered:  # which an earlier fetalflow did not record
        runs = f"experiments/{registered['experiment_id']}/runs"
        found |= {"curves": f"{runs}/{registered['variants'][variant]}/model-metrics", "all runs": runs}
    return "\n".join([*lines, *(f"  {name:15s} {server}/#/{page}{TRAINING}" for name, page in found.items())])
