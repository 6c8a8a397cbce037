"""Saved networks: two files, no pickle, the same answer, and no silent damage."""

import json
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fetalflow.errors import InputError
from fetalflow.models.building import build
from fetalflow.models.package_files import CONFIG, FAMILIARITY, WEIGHTS, read_familiarity
from fetalflow.models.weights import read, save

CONFIGURATION = {
    "task": "movement",
    "variant": "cnn",
    "network": "cnn",
    "labels": ["head", "arm", "leg"],
    "frames": 4,
    "size": 32,
    "options": {"dropout": 0.1},
    "extract": {"frames": 4, "stride": 4},
    "training": {"seed": 3},
}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = build("cnn", 4, 32, 3, dropout=0.1)
    network(torch.rand(5, 4, 32, 32))  # running statistics differ from a new network's
    return network.eval()


@pytest.fixture
def folder(network, tmp_path):
    save(tmp_path / "model", network, CONFIGURATION)
    return tmp_path / "model"


def test_a_saved_network_answers_the_same_bit_for_bit(network, folder):
    again, config = read(folder)
    sequences = torch.rand(3, 4, 32, 32)
    with torch.inference_mode():
        assert torch.equal(again(sequences), network(sequences))
    assert not again.training
    assert {key: config[key] for key in CONFIGURATION} == CONFIGURATION
    assert config["weights"]["trainable_parameters"] == sum(p.numel() for p in network.parameters())


def test_the_folder_holds_two_files_and_no_pickle(folder):
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG, WEIGHTS]
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in folder.iterdir())
    assert not zipfile.is_zipfile(folder / WEIGHTS)
    raw = (folder / WEIGHTS).read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert {"head.0.weight", "__metadata__"} <= header.keys()


def test_reading_draws_nothing_from_the_global_generator(folder):
    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    read(folder)
    assert torch.equal(torch.rand(1), wanted)


def test_saving_replaces_the_folder_whole(network, folder):
    (folder / "left-over.txt").write_text("old")
    save(folder, network, CONFIGURATION | {"training": {"seed": 4}})
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG, WEIGHTS]
    assert read(folder)[1]["training"] == {"seed": 4}


@pytest.mark.parametrize("key", ["labels", "frames", "extract"])
def test_an_incomplete_configuration_is_not_saved(network, tmp_path, key):
    with pytest.raises(InputError, match=f"lacks {key}"):
        save(tmp_path / "model", network, {k: v for k, v in CONFIGURATION.items() if k != key})
    assert not (tmp_path / "model").exists()


def test_repeated_labels_are_refused(network, tmp_path):
    with pytest.raises(InputError, match="without duplicates"):
        save(tmp_path / "model", network, CONFIGURATION | {"labels": ["head", "head", "leg"]})


def test_a_missing_file_is_named(folder):
    (folder / WEIGHTS).unlink()
    with pytest.raises(InputError, match=WEIGHTS):
        read(folder)
    (folder / CONFIG).unlink()
    with pytest.raises(InputError, match=CONFIG):
        read(folder)


@pytest.mark.parametrize(("text", "message"), [("{", "not JSON"), ("[1]", "must hold an object"), ("{}", "lacks")])
def test_a_corrupt_configuration_is_named(folder, text, message):
    (folder / CONFIG).write_text(text)
    with pytest.raises(InputError, match=message):
        read(folder)


def test_a_configuration_that_is_not_text_is_named(folder):
    (folder / CONFIG).write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InputError, match=CONFIG):
        read(folder)


def test_labels_cannot_be_reordered_behind_the_weights_back(folder):
    config = json.loads((folder / CONFIG).read_text())
    config["labels"] = config["labels"][::-1]
    (folder / CONFIG).write_text(json.dumps(config))
    with pytest.raises(InputError, match="changed after it was saved"):
        read(folder)


def test_one_changed_byte_of_the_weights_is_found(folder):
    raw = bytearray((folder / WEIGHTS).read_bytes())
    raw[-1] ^= 1
    (folder / WEIGHTS).write_bytes(raw)
    with pytest.raises(InputError, match="is not the file that was saved"):
        read(folder)


def test_truncated_weights_are_found(folder):
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:1000])
    with pytest.raises(InputError, match="is not the file that was saved"):
        read(folder)


def test_weights_of_another_network_are_named_tensor_by_tensor(folder, network):
    from fetalflow.artefacts import file_digest
    from fetalflow.models.package_files import config_digest

    config = json.loads((folder / CONFIG).read_text())
    state = load_file(folder / WEIGHTS)
    state["head.0.weight"] = state["head.0.weight"][:, :7].contiguous()
    save_file(state, folder / WEIGHTS, metadata={"config_sha256": config_digest(config)})
    config["weights"]["sha256"] = file_digest(folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"head\.0\.weight: expected \(256, 256\), found \(256, 7\)"):
        read(folder)


ARRAYS = {"means": np.arange(6, dtype=np.float32).reshape(2, 3), "variances": np.ones(2, np.float32)}


@pytest.fixture
def remembering(network, tmp_path):
    save(tmp_path / "knows", network, CONFIGURATION | {"familiarity": {"layer": "head", "threshold": 2.5}}, ARRAYS)
    return tmp_path / "knows"


def test_familiarity_lies_beside_the_weights_and_comes_back(remembering, folder):
    config = read(remembering)[1]
    assert sorted(path.name for path in remembering.iterdir()) == [CONFIG, FAMILIARITY, WEIGHTS]
    found = read_familiarity(remembering, config)
    assert found.keys() == ARRAYS.keys() and all(np.array_equal(found[name], ARRAYS[name]) for name in ARRAYS)
    assert (config["familiarity"]["layer"], config["familiarity"]["threshold"]) == ("head", 2.5)
    assert read_familiarity(folder, read(folder)[1]) is None  # a package may have none


def test_familiarity_cannot_be_swapped_or_lost(remembering):
    config = read(remembering)[1]
    raw = bytearray((remembering / FAMILIARITY).read_bytes())
    raw[-1] ^= 1
    (remembering / FAMILIARITY).write_bytes(raw)
    with pytest.raises(InputError, match="is not the file that was saved"):
        read_familiarity(remembering, config)
    (remembering / FAMILIARITY).unlink()
    with pytest.raises(InputError, match=f"holds no {FAMILIARITY}"):
        read_familiarity(remembering, config)


def test_the_threshold_cannot_be_changed_behind_the_weights_back(remembering):
    config = json.loads((remembering / CONFIG).read_text())
    config["familiarity"]["threshold"] = 99.0
    (remembering / CONFIG).write_text(json.dumps(config))
    with pytest.raises(InputError, match="changed after it was saved"):
        read(remembering)


def test_arrays_without_their_facts_are_not_saved(network, tmp_path):
    with pytest.raises(InputError, match="lacks familiarity"):
        save(tmp_path / "model", network, CONFIGURATION, ARRAYS)


def test_another_format_is_named(folder):
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | {"format": 1}))
    with pytest.raises(InputError, match="has format 1, this fetalflow reads 2"):
        read(folder)
