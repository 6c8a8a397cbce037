"""Two processes that share each batch train as one does; one that dies ends the stage, and nothing is half written."""

import contextlib
import signal
import socket
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from ready_processes import Process, stage
from torch import nn
from torch.utils.data import TensorDataset
from training_sets import FRAMES, LABELS, PLANES, SIZE, make_workspace

from fetalflow.artefacts import read_json
from fetalflow.errors import InputError
from fetalflow.settings.params import Machines, Train
from fetalflow.training import loading, together
from fetalflow.training.fitting import Fitted, fit_network
from fetalflow.training.loading import Batches, EpochOrder, SequenceDataset, Shares
from fetalflow.training.together import check_machines

TWO = Machines(processes=2)
FIGURES = ["train_loss", "train_accuracy", "val_loss", "val_accuracy"]
OUTPUTS = (
    "models/movement/cnn/model.safetensors",
    "data/movement/predictions/cnn.csv",
    "reports/movement/curves/cnn.csv",
)
FINE_TUNING = {"optimizer": "adamw", "frozen_epochs": 1, "pretrained_rate": 0.3, "ema": 0.9, "class_weights": True}


class WithoutStatistics(nn.Module):
    """A network whose answer to one sequence does not depend on the others of its batch."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(FRAMES, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)
        )
        self.layers(torch.zeros(1, FRAMES, SIZE, SIZE))

    def forward(self, sequences: torch.Tensor) -> torch.Tensor:
        return self.layers(sequences)


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> dict[str, SequenceDataset]:
    data = make_workspace(tmp_path_factory.mktemp("training")) / "data" / "movement"
    split = pd.read_parquet(data / "split.parquet")[["sequence", "part"]]
    rows = pd.read_parquet(data / "manifest.parquet").merge(split, on="sequence")
    return {part: SequenceDataset(rows[rows["part"] == part], data, LABELS) for part in ("train", "validation")}


def quiet(row: dict) -> None:
    """Nothing is told."""


def test_two_processes_train_as_one(parts, tmp_path):
    """21 sequences in batches of 5 (the last one of 6), so that the shares differ: 3 and 2. Tolerance 1e-4."""
    train = Train(batch=5, epochs=4, optimizer="adam", learning_rate=1e-3, device="cpu", class_weights=True)
    fitted: dict[str, Fitted] = {}
    weights = {}
    for name, machines in {"one": Machines(), "two": TWO}.items():
        torch.manual_seed(3)
        network = WithoutStatistics()
        fitted[name] = fit_network(
            network, parts["train"], parts["validation"], train, 0, tmp_path / name, 3, quiet, machines
        )
        weights[name] = torch.cat([p.detach().flatten() for p in network.parameters()])
    one, two = fitted["one"].curves[FIGURES], fitted["two"].curves[FIGURES]
    assert one["val_loss"].iloc[-1] < one["val_loss"].iloc[0] - 0.05  # it learned something
    np.testing.assert_allclose(two, one, atol=1e-4)
    torch.testing.assert_close(weights["two"], weights["one"], atol=1e-4, rtol=0)
    assert fitted["two"].kept_epoch == fitted["one"].kept_epoch


def on(workspace: Path, **machines: int) -> Path:
    file = workspace / "params.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"machines": machines}))
    return workspace


def until(process: Process, word: str) -> list[str]:
    said = []
    for line in process.stdout:
        said.append(line)
        if word in line:
            return said
    raise AssertionError("".join(said))


def ranks(process: Process) -> list[psutil.Process]:
    """The stage's training processes, not Python's tracker of shared resources."""
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if "resource_tracker" not in " ".join(child.cmdline())]


def forking() -> None:
    """The stage forks its training processes: spawned ones import for 7 s of processor time each. The end of a process
    is seen in the same way; what spawning needs is tested where a training is resumed and where two train as one."""
    spawning = together.DDPStrategy
    together.DDPStrategy = lambda **given: spawning(**given | {"start_method": "fork"})


@pytest.mark.long
def test_a_killed_process_ends_the_stage_and_the_next_run_goes_on(tmp_path):
    """The stage with batch norm: killed in its third epoch and run again, it ends near the same accuracy."""
    train = {"variants": {"cnn": {"batch_norm_momentum": 0.1}}, "epochs": 8, "patience": 8}
    workspace = on(make_workspace(tmp_path / "w", **train), processes=2)
    process = stage(workspace, "train", "movement", "cnn", before=forking)
    until(process, "epoch 2/8")
    victim = ranks(process)[-1]
    assert len(ranks(process)) == 2
    victim.send_signal(signal.SIGKILL)
    said = process.communicate(timeout=150)  # seconds on a quiet machine, 20 at a load of 16
    assert process.returncode == 1 and "ChildProcessError: training stopped: one of 2 processes" in said, said
    assert "-9" in said.splitlines()[-1] and "Run the stage again" in said
    assert not any((workspace / file).exists() for file in OUTPUTS)
    assert not victim.is_running() and list((workspace / "checkpoints").glob("*/last.ckpt"))

    process = stage(workspace, "train", "movement", "cnn")
    said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert "epoch 8/8" in said and "epoch 1/8" not in said
    curves = pd.read_csv(workspace / OUTPUTS[2])
    assert list(curves["epoch"]) == list(range(1, 9))
    shown = pd.read_csv(workspace / "live/movement/cnn/fold-0-seed-0/plots/metrics/val/loss.tsv", sep="\t")
    assert list(shown["step"]) == list(curves["epoch"]), "each epoch once, by the process that trains"
    predictions = pd.read_csv(workspace / OUTPUTS[1])
    assert (predictions["y_true"] == predictions["y_pred"]).mean() >= 0.85
    assert read_json(workspace / "models/movement/cnn/config.json")["training"]["processes"] == 2
    assert list((workspace / "checkpoints").iterdir()) == []


def test_the_processes_die_with_the_stage(tmp_path):
    workspace = on(make_workspace(tmp_path / "w", epochs=500, patience=500), processes=2)
    process = stage(workspace, "train", "movement", "cnn", before=forking)
    until(process, "epoch 1/500")
    orphans = ranks(process)
    process.kill()
    gone, alive = psutil.wait_procs(orphans, timeout=60)
    for left in alive:
        left.kill()
    assert len(gone) == 2 and not alive


def free_port() -> str:
    with contextlib.closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        return str(sock.getsockname()[1])


def test_two_nodes_fine_tune_with_standing_weights_and_averages(tmp_path):
    """Two stages in one workspace, as on two machines: node 1 helps, node 0 writes. Nothing that has no gradient
    (standing weights, averaged ones) stops them."""
    train = {"variants": PLANES, "frames": 1, "size": 64, "epochs": 3, "patience": 3, **FINE_TUNING}
    workspace = on(make_workspace(tmp_path / "w", "planes", **train), nodes=2)
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    unit = ("train", "planes", "lite_attention")
    nodes = [stage(workspace, *unit, before=forking, NODE_RANK=str(rank), **meeting) for rank in (0, 1)]
    said = [node.communicate(timeout=300) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], "\n".join(said)
    assert "epoch 3/3" in said[0] and "epoch 3/3" not in said[1]
    assert len(pd.read_csv(workspace / "data/planes/predictions/lite_attention.csv")) == 18
    assert " kept, " in said[0] and " kept, " not in said[1] and "node 0 writes" in said[1]


@settings(deadline=None)
@given(st.integers(4, 60), st.integers(4, 12), st.integers(1, 2), st.integers(0, 3), st.integers(0, 3))
def test_processes_share_every_batch_of_one_order(n, batch, processes, seed, epoch):
    shares, seen = [], []
    with pytest.MonkeyPatch.context() as patch:
        for rank in range(processes):
            patch.setattr(loading, "rank_and_count", lambda rank=rank: (rank, processes))
            order = EpochOrder(n, seed)
            order.set_epoch(epoch)
            batches = Batches(order, batch)
            shares.append(list(batches))
            assert len(shares[-1]) == len(batches)
            ordered = Shares(TensorDataset(torch.arange(n)), batch)
            mine = list(ordered)
            assert len(mine) == len(ordered)
            seen += [i for share in mine for i in share]
    assert sorted(i for share in shares for found in share for i in found) == list(range(n))
    assert len({len(share) for share in shares}) == 1  # a process with a step more would wait for ever
    assert all(len(found) >= 2 for share in shares for found in share)  # batch norm
    assert sorted(seen) == list(range(n))
    order = EpochOrder(n, seed)
    order.set_epoch(epoch)
    assert set().union(*(share[0] for share in shares)) >= set(list(order)[: min(batch, n)])


@pytest.mark.parametrize(
    ("machines", "sizes", "message"),
    [
        (Machines(processes=3), (4, 20, 9), "3 processes need two sequences each in a batch"),
        (TWO, (4, 20, 1), "1 validation sequences"),
        (Machines(nodes=2), (4, 20, 9), "needs the environment variables MASTER_ADDR"),
    ],
)
def test_what_cannot_be_shared_is_refused(machines, sizes, message):
    with pytest.raises(InputError, match=message):
        check_machines(machines, "cpu", *sizes)
