"""What the benchmark of distillation concludes from answers, and that each system asks the networks that it names."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from training_sets import FRAMES, LABELS, SIZE, make_workspace

from benchmarks.claims import Claim
from benchmarks.studies import distillation
from benchmarks.studies.distillation import (
    BASE,
    DISTILLED,
    ENSEMBLE,
    MIRROR,
    SYSTEMS,
    answered,
    claims,
    milliseconds,
    of_one_training,
    predictions,
)
from fetalflow.models.building import build
from fetalflow.settings.params import load_settings
from fetalflow.training import distilling

ABOUT = {"data": "drawn", "split_unit": "patient", "seeds": [0], "date": "2026-11-30"}
ABOUT |= {"command": "python -m benchmarks distillation", "machine": "AMD EPYC"}
PATIENTS, EACH = 20, 6  # those before the tenth are validation patients


def answers(system: str, right: float) -> pd.DataFrame:
    """Answers of which each patient has about the share `right` right, all with a probability of .8."""
    rng = np.random.default_rng(1)
    n = PATIENTS * EACH
    truth = np.tile(["arm", "leg"], n // 2)
    p = np.where((truth == "arm") == (rng.uniform(size=n) < right), 0.8, 0.2)
    facts = {"system": system, "sequence": [f"s{i}" for i in range(n)], "y_true": truth, "fold": 0, "seed": 0}
    patient = np.repeat(np.arange(PATIENTS), EACH)
    return pd.DataFrame(facts | {"site": "a", "p_arm": p, "p_leg": 1 - p}).assign(
        patient=[f"P{i}" for i in patient], part=np.where(patient < 10, "validation", "test")
    )


@pytest.fixture(scope="module")
def found() -> dict[str, Claim]:
    shares = {BASE: 0.6, MIRROR: 0.6, ENSEMBLE: 0.95, f"{ENSEMBLE} and {MIRROR}": 0.95, DISTILLED: 0.2}
    table = pd.concat([answers(system, share) for system, share in shares.items()])
    said = claims(table, {name: float(i + 1) for i, name in enumerate(SYSTEMS)}, ABOUT)
    return {name: Claim.model_validate(each) for name, each in zip(SYSTEMS, said, strict=True)}


@pytest.mark.parametrize(
    ("system", "outcome", "sign"),
    [(BASE, "measured", 0), (MIRROR, "no difference", 0), (ENSEMBLE, "better", 1), (DISTILLED, "worse", -1)],
)
def test_a_system_is_judged_against_one_network(found, system, outcome, sign):
    claim = found[system]
    assert claim.outcome == outcome and np.sign(claim.figures.get("gain", 0)) == sign
    assert claim.figures["accuracy"] == pytest.approx(found[BASE].figures["accuracy"] + claim.figures.get("gain", 0))
    if sign:
        low, high = claim.figures["between"]
        assert low < claim.figures["gain"] < high and claim.figures["p"] < 0.05
    assert claim.n == {"test sequences": 60, "test patients": 10} and claim.figures["level"] == pytest.approx(0.9)
    assert f"takes {SYSTEMS.index(system) + 1}.0 ms" in claim.sentence


def test_times_are_those_of_all_networks_that_answer():
    asked = []

    class Net(torch.nn.Module):
        def forward(self, x):
            asked.append(x.shape)
            return x

    milliseconds({"one": [Net()], "three": [Net()] * 3}, 4, 32)
    assert asked[:4] == [(1, 4, 32, 32)] * 4 and len(asked) % 4 == 0


def test_what_was_answered_is_not_asked_again(tmp_path):
    made = answers(BASE, 0.5), {BASE: 1.0}
    table, ms = answered(tmp_path, 0, 1, lambda: made)
    again, _ = answered(tmp_path, 0, 1, lambda: pytest.fail("asked again"))
    pd.testing.assert_frame_equal(table, again)
    assert ms == {BASE: 1.0} and sorted(path.name for path in tmp_path.iterdir()) == [
        "fold-0-seed-1.json",
        "fold-0-seed-1.parquet",
    ]


def test_every_system_asks_its_networks_about_every_patient_who_was_not_trained_on(tmp_path, monkeypatch):
    """The networks are not trained here. Network 0 answers alone, 1 to 4 are the teachers, 5 is the distilled one."""
    workspace = make_workspace(tmp_path, variants={"cnn": {"batch_norm_momentum": 0.1}}, device="cpu", distil=4)
    params = workspace / "params.yaml"
    params.write_text(params.read_text().replace("extract:", f"extract:\n    labels: [{', '.join(LABELS)}]", 1))
    data = workspace / "data" / "movement"
    split = pd.read_parquet(data / "split.parquet")[["sequence", "part"]]
    rows = pd.read_parquet(data / "manifest.parquet").merge(split, on="sequence").sample(frac=1, random_state=1)
    networks = []

    def not_trained(*given, taught=None):
        torch.manual_seed(len(networks))
        networks.append(build("cnn", FRAMES, SIZE, len(LABELS), batch_norm_momentum=0.1).eval())
        assert (taught is not None) == (len(networks) == 6)
        return networks[-1], None, Path("digest")

    monkeypatch.setattr(distillation, "train_once", not_trained)
    monkeypatch.setattr(distilling, "train_once", not_trained)
    monkeypatch.setattr(distillation, "TIMED", 1)
    table, ms = of_one_training(load_settings(params), "movement", "cnn", data, rows, 0, 0)
    assert len(networks) == 6 and set(ms) == set(SYSTEMS)
    frames = {row.sequence: torch.from_numpy(np.load(data / row.path)).float() / 255 for row in rows.itertuples()}
    asked = {BASE: [0], MIRROR: [0], ENSEMBLE: [1, 2, 3, 4], f"{ENSEMBLE} and {MIRROR}": [1, 2, 3, 4], DISTILLED: [5]}
    for system, numbers in asked.items():
        for part in ("validation", "test"):
            found = predictions(table, system, part)
            assert sorted(found.table["sequence"]) == sorted(rows.loc[rows["part"] == part, "sequence"])
            batch = torch.stack([frames[name] for name in found.table["sequence"]])
            batches = [batch, batch.flip(-1)] if MIRROR in system else [batch]
            with torch.inference_mode():
                each = [networks[k](x).softmax(1) for k in numbers for x in batches]
            assert np.allclose(found.probabilities, torch.stack(each).mean(0), atol=1e-5), system
