"""An exported file says how it is fed, and the example of the docs needs nothing else."""

import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch

from fetalflow.artefacts import write_json
from fetalflow.evaluation.certainty.conformal import Bound
from fetalflow.evaluation.certainty.record import CERTAINTY, Certainty, OfLabels
from fetalflow.inference.engines.feeding import how_to_feed
from fetalflow.inference.engines.int8 import quantise
from fetalflow.inference.engines.onnx_file import export_onnx
from fetalflow.inference.engines.record import MODEL
from fetalflow.inference.package import load
from fetalflow.models.answering import ask, feature_layer
from fetalflow.models.building import build
from fetalflow.models.familiarity import fit_familiarity
from fetalflow.models.weights import save
from fetalflow.settings.params import Extract

ROOT = Path(__file__).parents[2]
LABELS = ["head", "abdomen", "femur"]
N, SIZE, STRIDE = 3, 32, 2
ABSENT = ("fetalflow", "torch", "cv2", "safetensors", "pandas", "scipy", "onnx")
ALONE = f"import sys\nfor name in {ABSENT}: sys.modules[name] = None\n"  # importing them raises ImportError


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A package with a familiarity and its exports, as it is registered."""
    folder = tmp_path_factory.mktemp("fed") / "cnn"
    torch.manual_seed(0)
    network = build("cnn", N, SIZE, len(LABELS)).eval()
    with torch.no_grad():
        list(network.modules())[-1].weight.mul_(20)  # answers that differ
    extract = Extract(frames=N, stride=STRIDE, labels=LABELS).model_dump(mode="json")
    config = {"task": "movement", "variant": "cnn", "network": "cnn", "labels": LABELS, "frames": N, "size": SIZE}
    batch = np.random.default_rng(0).random((60, N, SIZE, SIZE), dtype=np.float32)
    layer = feature_layer(network)
    features = ask(network, batch, layer).features
    known = fit_familiarity(layer, features[:40], np.arange(40) % 3, features[40:], 0.05)
    save(folder, network, config | {"options": {}, "extract": extract, "familiarity": known.facts}, known.arrays)
    export_onnx(folder, folder / "exports" / "onnx")
    quantise(folder / "exports" / "onnx", folder / "exports" / "int8", iter((batch[:4] * 255).astype(np.uint8)))
    sure = Certainty(OfLabels(2.5, Bound(0.1, 0.9, 20), {}), weights=load(folder).config["weights"]["sha256"])
    write_json(folder / CERTAINTY, sure.as_dict())
    return folder


@pytest.mark.parametrize(("height", "width"), [(70, 50), (20, 32), (64, 96)])
def test_the_example_of_the_docs_answers_as_predict_does(package, tmp_path, height, width):
    """Reduced by a factor that is whole or not, and padded."""
    text = (ROOT / "docs" / "operator" / "export.md").read_text()
    (example,) = re.findall(r"```python\n(import json.*?)```", text, flags=re.DOTALL)
    noise = np.random.default_rng(height).random((8, height, width)).astype(np.float32)
    frames = (255 * np.stack([cv2.GaussianBlur(each, (0, 0), 2) for each in noise]) ** 3).clip(0, 255).astype(np.uint8)
    np.save(tmp_path / "frames.npy", frames)
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE + example, package, tmp_path / "frames.npy"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    answer, wanted = json.loads(done.stdout), load(package).predict(frames)
    assert answer["label"] == wanted.label and list(answer["probabilities"]) == LABELS
    assert answer["probabilities"] == pytest.approx(wanted.probabilities, abs=2e-3)
    assert answer["unfamiliarity"] == pytest.approx(wanted.unfamiliarity, rel=1e-2)


@pytest.mark.parametrize("engine", ["onnx", "int8"])
def test_an_exported_file_says_how_it_is_fed(package, engine):
    header = onnx.load(str(package / "exports" / engine / MODEL))
    facts = {each.key: each.value for each in header.metadata_props}
    config = load(package).config
    wanted = how_to_feed(config, [each.name for each in header.graph.output])
    assert wanted.items() <= facts.items()
    assert json.loads(facts["labels"]) == LABELS and float(facts["threshold"]) == config["familiarity"]["threshold"]
    assert {"input", "resize", "padding", "sector", "logits", "unfamiliarity", "unlike"} <= facts.keys()


def test_what_a_model_lacks_is_not_described():
    config = {"labels": LABELS, "frames": 1, "size": 64, "extract": {"fps": 12.5}}
    assert how_to_feed(config, ["logits"]).keys().isdisjoint({"mask", "threshold", "features"})
    assert "mask" in how_to_feed(config, ["logits", "mask"])
    assert "no limit" in how_to_feed(config, ["logits", "features"])["features"]
    assert how_to_feed(config | {"frames": 5}, [])["frames"].startswith("5 consecutive frames at 12.5 frames per sec")
    assert "each the 3th" not in how_to_feed(config | {"extract": {"every": 3}, "frames": 5}, [])["frames"]
