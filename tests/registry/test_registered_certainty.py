"""What a registered package says of its certainty is part of its digest, and nobody changes it unseen."""

import json

import pytest
import torch

from fetalflow.artefacts import read_json, write_json
from fetalflow.evaluation.certainty.conformal import Bound
from fetalflow.evaluation.certainty.record import CERTAINTY, Certainty, OfLabels
from fetalflow.models.building import build
from fetalflow.models.weights import save
from fetalflow.registry.registered_files import CARD, certainty_of, package_problems, registered_digest

LABELS = ["arm", "head", "leg"]


@pytest.fixture
def package(tmp_path):
    folder = tmp_path / "models" / "movement" / "cnn"
    config = {"task": "movement", "variant": "cnn", "network": "cnn", "labels": LABELS, "frames": 2, "size": 32}
    torch.manual_seed(0)
    save(folder, build("cnn", 2, 32, 3), config | {"options": {}, "extract": {}})
    (folder / CARD).write_text("a card")
    return folder


def sure(package, weights=None) -> dict:
    known = read_json(package / "config.json")["weights"]["sha256"]
    return Certainty(OfLabels(1.5, Bound(0.2, 0.9, 20), {}), weights=weights or known).as_dict()


def test_a_package_without_certainty_has_the_digest_that_it_always_had(package):
    assert certainty_of(package) is None
    assert package_problems(package, registered_digest(package, None, "a card")) == []


def test_the_certainty_of_a_workspace_is_that_of_its_weights_only(package):
    before = registered_digest(package, None, "a card")
    written = package.parents[2] / "reports" / "movement" / "evaluation" / f"cnn-{CERTAINTY}"
    write_json(written, sure(package, "of an earlier training"))
    assert certainty_of(package) is None and registered_digest(package, None, "a card") == before
    write_json(written, sure(package))
    assert certainty_of(package) == written and registered_digest(package, None, "a card") != before


@pytest.mark.parametrize("harm", ["gone", "other number", "other weights", "no JSON"])
def test_a_changed_certainty_of_a_registered_package_is_found(package, harm):
    path = package / CERTAINTY
    write_json(path, sure(package))
    recorded = registered_digest(package, None, "a card")
    assert package_problems(package, recorded) == []
    if harm == "gone":
        path.unlink()
    elif harm == "no JSON":
        path.write_text("{")
    elif harm == "other weights":
        write_json(path, sure(package, "b" * 64))
    else:
        path.write_text(json.dumps(sure(package)).replace("0.9", "0.99"))
    assert package_problems(package, recorded)
