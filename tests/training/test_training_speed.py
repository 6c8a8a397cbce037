"""A fast training is the same training: optimiser, layout, resident sequences, huge pages, and no compiler at hand."""

import os
import platform
import resource
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from ready_processes import READY, forked
from torch import nn
from torch.nn import functional as F
from training_sets import FRAMES, LABELS, SIZE, make_workspace

from fetalflow.models.building import build
from fetalflow.settings.params import Train
from fetalflow.training.classifier import Classifier
from fetalflow.training.fitting import fit_network
from fetalflow.training.freed_memory import freed_memory_kept
from fetalflow.training.layout import channels_last
from fetalflow.training.loading import SequenceDataset, ordered_loader, training_loader
from fetalflow.training.resident import Resident, fits, stored_bytes
from fetalflow.training.rmsprop import RMSprop

CPU = torch.device("cpu")
PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> pd.DataFrame:
    """A manifest with `part` and absolute paths, one of its sequences with a mask."""
    data = make_workspace(tmp_path_factory.mktemp("training")) / "data" / "movement"
    split = pd.read_parquet(data / "split.parquet")[["sequence", "part"]]
    rows = pd.read_parquet(data / "manifest.parquet").merge(split, on="sequence")
    np.save(data / "mask.npy", (np.arange(FRAMES * SIZE * SIZE).reshape(FRAMES, SIZE, SIZE) % 3 == 0).astype(np.uint8))
    masks = [str(data / "mask.npy"), *[""] * (len(rows) - 1)]
    return rows.assign(path=[str(data / path) for path in rows["path"]], mask_path=masks)


@pytest.fixture(scope="module")
def parts(rows) -> dict[str, SequenceDataset]:
    return {part: SequenceDataset(rows[rows["part"] == part], Path(), LABELS) for part in ("train", "validation")}


def network(name: str = "fetalmovnet") -> nn.Module:
    torch.manual_seed(1)
    return build(name, FRAMES, SIZE, len(LABELS), dropout=0.0, batch_norm_momentum=0.1)


def fit(net: nn.Module, parts: dict, folder: Path, **train) -> pd.DataFrame:
    settings = Train(**{"batch": 4, "epochs": 2, "learning_rate": 1e-4, "device": "cpu"} | train)
    return fit_network(net, parts["train"], parts["validation"], settings, 0, folder, 3, lambda row: None).curves


def bits(net: nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in net.state_dict().items()}


def plain_losses(net: nn.Module, dataset: SequenceDataset, epochs: int) -> list[float]:
    """Mean training loss of each epoch of the loop that everybody writes."""
    optimizer = torch.optim.RMSprop(net.parameters(), lr=1e-4, alpha=0.9, eps=1e-7**0.5)
    loader, means = training_loader(dataset, 4, 0), []
    for epoch in range(epochs):
        loader.batch_sampler.sampler.set_epoch(epoch)
        total = 0.0
        for sequences, labels in loader:
            loss = F.cross_entropy(net(sequences), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels)
        means.append(total / len(dataset))
    return means


def test_a_fast_training_has_the_losses_of_a_plain_loop(parts, tmp_path):
    curves = fit(net := network(), parts, tmp_path, resident=True)
    plain = plain_losses(network(), parts["train"], 2)
    assert plain[1] < 0.9 * plain[0]
    np.testing.assert_allclose(curves["train_loss"], plain, rtol=1e-3)
    assert all(parameter.is_contiguous() for parameter in net.parameters())


def test_a_loaded_checkpoint_follows_the_weights_to_their_device():
    """Lightning reads it to the processor; the fused kernel wants all it is given on one device."""
    weight = nn.Parameter(torch.ones(3))
    weight.grad = torch.ones(3)
    saved = RMSprop([{"params": [weight]}], lr=0.1, alpha=0.9, eps=1e-7)
    saved.step()
    loaded = RMSprop([{"params": [nn.Parameter(torch.ones(3, device="meta"))]}], lr=0.1, alpha=0.9, eps=1e-7)
    loaded.load_state_dict(saved.state_dict())
    (state,) = loaded.state.values()
    assert {value.device.type for value in state.values()} == {"meta"}


def test_rmsprop_steps_as_torch_does():
    def trained(kind: type) -> nn.Module:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Flatten(), nn.LazyLinear(4))
        with channels_last(net):
            net(x)
            groups = [{"params": net[0].parameters(), "lr": 1e-4}, {"params": net[2].parameters()}]
            optimizer = kind(groups, lr=1e-3, alpha=0.9, eps=1e-4)
            for _ in range(20):
                optimizer.zero_grad()
                net(x).square().mean().backward()
                optimizer.step()
        return net

    x = torch.rand(5, 3, 20, 20)
    for ours, torchs in zip(trained(RMSprop).parameters(), trained(torch.optim.RMSprop).parameters(), strict=True):
        torch.testing.assert_close(ours, torchs, rtol=1e-5, atol=1e-6)


def test_a_parameter_without_a_gradient_stands_still():
    still, moved = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = RMSprop([{"params": [still, moved]}], lr=0.1, alpha=0.9, eps=1e-4)
    assert optimizer.step(lambda: (moved.sum().backward(), torch.tensor(7.0))[1]) == 7
    assert torch.equal(still, torch.ones(3)) and (moved < 1).all() and len(optimizer.state) == 1


@pytest.mark.parametrize("masks", [False, True])
def test_resident_batches_are_those_of_the_loader(rows, masks):
    dataset = SequenceDataset(rows, Path(), LABELS, masks)
    resident = Resident(dataset, CPU)
    assert stored_bytes(dataset) == sum(column.nbytes for column in resident.columns)
    loaders = [training_loader(each, 4, seed=3) for each in (dataset, resident)]
    for epoch in (0, 1):
        for loader in loaders:
            loader.batch_sampler.sampler.set_epoch(epoch)
        assert same_batches(*loaders) == 9 + 1
    assert same_batches(*(ordered_loader(each, 5) for each in (dataset, resident))) == 8
    assert all(torch.equal(torch.as_tensor(a), b) for a, b in zip(dataset[2], resident[2], strict=True))


def same_batches(*loaders) -> int:
    pairs = list(zip(*loaders, strict=True))
    for batches in pairs:
        for one, other in zip(*batches, strict=True):
            assert one.dtype == other.dtype and torch.equal(one, other)
    return len(pairs)


def test_resident_sequences_end_in_the_same_bits(parts, tmp_path):
    found = []
    for resident in ("auto", True):
        fit(net := network("cnn"), parts, tmp_path / str(resident), resident=resident)
        found.append(bits(net))
    assert found[0] == found[1]


def test_sequences_are_resident_on_a_gpu_that_has_room(parts, monkeypatch):
    need = sum(map(stored_bytes, parts.values()))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2 * need, 10 * need))
    assert fits(torch.device("cuda"), *parts.values()) and not fits(CPU, *parts.values())
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2 * need - 2, 10 * need))
    assert not fits(torch.device("cuda"), *parts.values())


def test_no_step_asks_for_a_number(parts, tmp_path, monkeypatch):
    """Each would make a GPU finish its work first. What an epoch ends with may: it is told."""
    asked: list[str] = []
    for name in ("item", "tolist", "__bool__", "__float__", "__int__"):
        plain = getattr(torch.Tensor, name)
        monkeypatch.setattr(torch.Tensor, name, lambda x, plain=plain, name=name: (asked.append(name), plain(x))[1])
    counts = []
    for batch in (21, 3):  # one step an epoch, or seven
        asked.clear()
        fit(network("cnn"), parts, tmp_path / str(batch), epochs=1, batch=batch, resident=True, class_weights=True)
        counts.append(len(asked))
    assert counts[0] == counts[1]


class OneLayer(nn.Module):
    """The least that a compiler is needed for: it reads every layer of a network before it is found missing."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.layer = nn.Linear(FRAMES * SIZE * SIZE, len(LABELS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.sin().flatten(1))


def test_a_compiled_training_without_a_compiler_goes_on_without(parts, tmp_path, monkeypatch):
    from torch._dynamo.utils import counters
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", ("no-such-compiler",))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    found, tried = [], []
    for compiled in (False, True):
        counters.clear()
        fit(net := OneLayer(), parts, tmp_path / str(compiled), compile=compiled, epochs=1)
        found.append(bits(net))
        tried.append(counters["frames"]["total"] > 0)
    assert tried == [False, True] and found[0] == found[1] and net._compiled_call_impl is None


def test_class_weights_go_where_the_network_goes():
    classifier = Classifier(nn.Linear(1, 3), Train(), torch.ones(3))
    assert "class_weights" in dict(classifier.named_buffers()) and "class_weights" not in classifier.state_dict()


@pytest.mark.skipif(not PAGES.is_file() or "[never]" in PAGES.read_text(), reason="this system has no huge pages")
def test_the_train_stage_gets_huge_pages():
    script = "import stages.train, torch; held = torch.ones(2**24); print(open('/proc/self/smaps_rollup').read())"
    environment = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    root = Path(__file__).parents[2]
    said = subprocess.run(
        [sys.executable, "-c", script], cwd=root, env=environment, capture_output=True, text=True, check=True
    ).stdout
    (huge,) = (int(line.split()[1]) for line in said.splitlines() if line.startswith("AnonHugePages"))
    assert huge >= 2**15  # KiB: half of the tensor


def freed(environment: dict[str, str], found: Connection) -> None:
    """Sends the MiB that this process holds: before, within and after the context, each time when much was freed."""
    os.environ.update(environment)

    def held() -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() >> 20

    def freed_after(size: int) -> int:
        torch.ones(size * 2**18)
        return held()

    before = freed_after(100)
    with freed_memory_kept():
        kept = freed_after(100)
    found.send((before, kept, freed_after(1)))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
@pytest.mark.parametrize("wanted", [True, False])
def test_freed_memory_is_kept_for_the_next_step_and_given_back_at_the_end(wanted):
    reader, writer = READY.Pipe(duplex=False)
    process = forked(freed, {} if wanted else {"MALLOC_MMAP_MAX_": "65536"}, writer)
    process.start()
    writer.close()
    before, kept, after = reader.recv()
    process.join()
    assert (kept - before > 90) is wanted and abs(after - before) < 20
