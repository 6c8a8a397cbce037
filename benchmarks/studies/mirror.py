"""What the mean with the answer to the mirror image is worth, by the paired test over patients.

    python -m benchmarks mirror workspaces/demo fetalmovnet_s

Asks a trained network of the workspace about its test sequences. It writes benchmarks/results/mirror_NAME.json.
"""

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from torch import nn

from benchmarks.claims import NONE, write_claims
from benchmarks.workspace_claims import data_of
from fetalflow.evaluation.predictions import check_predictions
from fetalflow.evaluation.significance import compare_models
from fetalflow.inference.latency import machine
from fetalflow.models.answering import ask
from fetalflow.models.weights import read
from fetalflow.settings.params import Significance

BATCH = 8


def answers(network: nn.Module, rows: pd.DataFrame, data: Path, labels: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predictions to the sequences as they are, and with the mean of the answer to their mirror images."""
    network.eval()
    plain, mirrored = [], []
    for start in range(0, len(rows), BATCH):
        frames = np.stack([np.load(data / path) for path in rows["path"].iloc[start : start + BATCH]])
        plain.append(ask(network, frames).probabilities)
        mirrored.append(ask(network, np.ascontiguousarray(frames[..., ::-1])).probabilities)
    first, second = (np.concatenate(each).astype(float) for each in (plain, mirrored))
    facts = rows[["sequence", "patient"]].assign(y_true=rows["label"])
    columns = [f"p_{label}" for label in labels]
    return tuple(facts.assign(**dict(zip(columns, p.T, strict=True))) for p in (first, (first + second) / 2))


def tested(data: Path) -> pd.DataFrame:
    """The test sequences of the first fold, whose network is kept."""
    rows, parts = (pd.read_parquet(data / name) for name in ("manifest.parquet", "split.parquet"))
    kept = parts[(parts["part"] == "test") & (parts["fold"] == parts["fold"].min())]
    return rows[rows["sequence"].isin(kept["sequence"])]


def claim(name: str, network: nn.Module, data: Path, labels: list[str]) -> dict[str, Any]:
    plain, mirrored = answers(network, tested(data), data, labels)
    found = compare_models(check_predictions(mirrored), check_predictions(plain), Significance())
    test = found["tests"]["paired_patients"]
    bounds = {} if test["low"] is None else {"bounds": [test["low"], test["high"]]}
    better, p = found["difference"] > 0, test["p"]
    return {
        "claim": "The mean with the mirror image changes the accuracy of {name} from {plain} to {mirror}: {difference}"
        + (" {bounds}" if bounds else "")
        + ", p = {p}. It takes twice the time.",
        "figures": {"name": name, "plain": found["accuracy"][1], "mirror": found["accuracy"][0]}
        | {"difference": found["difference"], "p": p}
        | bounds,
        "n": {"test sequences": found["n_sequences"], "test patients": found["n_patients"]},
        "interval": "95 %, paired over patients" if bounds else f"{NONE}too few patients, or no answer changes",
        "outcome": "no difference" if p is None or p > 0.05 else "better" if better else "worse",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workspace", type=Path)
    parser.add_argument("variant")
    parser.add_argument("--task", default="movement")
    chosen = parser.parse_args()
    network, config = read(chosen.workspace / "models" / chosen.task / chosen.variant)
    about = machine()
    facts = {
        "split_unit": "patient",
        "seeds": [config["training"]["seed"]],
        "command": f"python -m benchmarks mirror {chosen.workspace.name} {chosen.variant}",
        "machine": f"{about['processor']}, {about['cores']} cores, torch {about['torch']}",
        "date": datetime.now(UTC).date().isoformat(),
    }
    settings = yaml.safe_load((chosen.workspace / "params.yaml").read_text(encoding="utf-8"))
    facts["data"] = data_of(settings, chosen.task)
    found = claim(chosen.variant, network, chosen.workspace / "data" / chosen.task, config["labels"])
    print(found["figures"], found["outcome"], flush=True)
    print(f"wrote {write_claims(f'mirror_{chosen.variant}', [found | facts])}")


if __name__ == "__main__":
    main()
