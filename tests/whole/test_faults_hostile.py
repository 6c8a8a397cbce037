"""Files that want to be run and paths that want out: a pickle in every place that is read, and links in a drop."""

import contextlib
import os
import pickle
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from cine_files import speckle, write_video
from finished_run import LABELS, TASK, make_finished_run
from training_sets import make_workspace

import stages.train
from fetalflow.artefacts import read_json, write_json
from fetalflow.cine.masks import mask_shape, read_mask
from fetalflow.errors import InputError
from fetalflow.inference.package import load
from fetalflow.models.package_files import read_familiarity
from fetalflow.models.weights import read
from fetalflow.sequences.extraction import extract_drop
from fetalflow.sequences.preprocessing import preprocess
from fetalflow.settings.params import Extract

HEADER = "video,patient,site,device,annotator,start_frame,end_frame,label"


class Payload:
    """Unpickled, it makes the file `target`."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return write_json, (str(self.target), "run")


@pytest.fixture
def harm(tmp_path):
    """The file that no test may find. The payload does work when somebody is careless."""
    target = tmp_path / "harm.json"
    pickle.loads(pickle.dumps(Payload(target)))
    assert target.exists()
    target.unlink()
    yield target
    assert not target.exists(), "the pickle was run"


def as_pickle(path: Path, harm: Path) -> None:
    path.write_bytes(pickle.dumps(Payload(harm)))


def as_array(path: Path, harm: Path) -> None:
    with open(path, "wb") as file:
        np.save(file, np.array([Payload(harm)], dtype=object), allow_pickle=True)


def as_torch(path: Path, harm: Path) -> None:
    torch.save({"w": Payload(harm)}, path)


EVIL = [as_pickle, as_array, as_torch]


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    folder = make_finished_run(tmp_path_factory.mktemp("run"), ("cnn",), explain=False)
    return folder / "models" / TASK / "cnn"


@pytest.mark.parametrize("evil", EVIL)
@pytest.mark.parametrize("name", ["model.safetensors", "familiarity.safetensors", "config.json"])
def test_in_a_model_package(package, tmp_path, harm, name, evil):
    folder = tmp_path / "package"
    folder.mkdir()
    for file in package.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    evil(folder / name, harm)
    with pytest.raises((InputError, UnicodeDecodeError)):
        load(folder)
    if name == "model.safetensors":  # whoever swaps the weights may write their digest too
        from fetalflow.artefacts import file_digest

        config = read_json(folder / "config.json")
        config["weights"]["sha256"] = file_digest(folder / name)
        write_json(folder / "config.json", config)
        with pytest.raises(InputError, match="safetensors"):
            read(folder)
    if name == "familiarity.safetensors":
        with pytest.raises(InputError, match="not the file that was saved"):
            read_familiarity(folder, read_json(folder / "config.json"))


@pytest.mark.parametrize("evil", EVIL)
def test_in_a_sequence(tmp_path, harm, evil, monkeypatch):
    """Also where the manifest was changed to know the file."""
    monkeypatch.chdir(make_workspace(tmp_path / "w"))
    import pandas as pd

    from fetalflow.artefacts import file_digest

    data = Path("data/movement")
    manifest = pd.read_parquet(data / "manifest.parquet")
    evil(data / manifest["path"][0], harm)
    with pytest.raises(InputError, match="1 of 39 sequence files"):
        stages.train.main("movement", "cnn")
    manifest.loc[0, "digest"] = file_digest(data / manifest["path"][0])
    manifest.to_parquet(data / "manifest.parquet")
    with pytest.raises((ValueError, AttributeError)):
        stages.train.main("movement", "cnn")


@pytest.fixture
def drop(tmp_path) -> Path:
    folder = tmp_path / "drop"
    folder.mkdir()
    write_video(folder / "a.avi", speckle(24))
    (folder / "annotations.csv").write_text(f"{HEADER}\na.avi,P1,n,U7,A,,,head\n")
    return folder


@pytest.mark.parametrize("evil", EVIL)
def test_in_the_store_of_decoded_frames(drop, tmp_path, harm, evil):
    """The next extraction decodes the cine again; a preprocessing in between stops."""
    store = tmp_path / "frames"
    settings = Extract(frames=4, stride=4, workers=1)
    whole = extract_drop(drop, settings, store)
    (stored,) = store.glob("*.npy")
    good = stored.read_bytes()
    size = stored.stat().st_size
    evil(stored, harm)
    os.truncate(stored, max(size, stored.stat().st_size))  # as long as the record says
    with pytest.raises((InputError, ValueError)):
        preprocess(whole.sequences, store, tmp_path / "sequences", 32, workers=1)
    extract_drop(drop, settings, store)
    assert stored.read_bytes() == good


@pytest.mark.parametrize("evil", EVIL)
def test_in_a_mask(tmp_path, harm, evil):
    path = tmp_path / "mask.npz"
    evil(path, harm)
    with pytest.raises((InputError, ValueError, zipfile.BadZipFile)):
        read_mask(path)
    with pytest.raises((InputError, ValueError, zipfile.BadZipFile)):
        mask_shape(path)
    np.savez(path, mask=np.array([Payload(harm)], dtype=object), allow_pickle=True)
    with pytest.raises((InputError, ValueError)):
        read_mask(path)


@pytest.mark.parametrize("evil", EVIL)
@pytest.mark.parametrize("name", ["model.pt", "a2.avi", "a2.dcm", "a2.png"])
def test_in_a_drop(drop, tmp_path, harm, evil, name):
    evil(drop / name, harm)
    with open(drop / "annotations.csv", "a") as file:
        file.write(f"{name},P2,n,U7,A,,,head\n")
    found = extract_drop(drop, Extract(frames=4, stride=4, workers=1, quarantine_share=0.9), tmp_path / "frames")
    assert list(found.quarantine["video"]) == [name] and set(found.sequences["patient"]) == {"P1"}


def test_a_link_in_a_drop_is_refused(drop, tmp_path):
    outside = tmp_path / "outside.avi"
    outside.write_bytes((drop / "a.avi").read_bytes())
    (drop / "a.avi").unlink()
    (drop / "a.avi").symlink_to(outside)
    with pytest.raises(InputError, match="a.avi is a link"):
        extract_drop(drop, Extract(frames=4, workers=1), tmp_path / "frames")
    (drop / "a.avi").unlink()
    (drop / "cines").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(InputError, match="cines is a link"):
        extract_drop(drop, Extract(frames=4, workers=1), tmp_path / "frames")
    assert not list(tmp_path.glob("frames/*.npy"))


def test_a_link_in_a_zip_is_no_link_outside(drop, tmp_path):
    """It comes out as a small file that holds its target's name, and is no cine."""
    secret = tmp_path / "secret.avi"
    secret.write_bytes((drop / "a.avi").read_bytes())
    path = tmp_path / "drop.zip"
    with zipfile.ZipFile(path, "w") as made:
        made.write(drop / "a.avi", "a.avi")
        made.writestr("annotations.csv", f"{HEADER}\na.avi,P1,n,U7,A,,,head\nb.avi,P2,n,U7,A,,,head\n")
        link = zipfile.ZipInfo("b.avi")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        made.writestr(link, str(secret))
    found = extract_drop(path, Extract(frames=4, stride=4, workers=1, quarantine_share=0.9), tmp_path / "frames")
    assert list(found.quarantine["video"]) == ["b.avi"] and set(found.sequences["patient"]) == {"P1"}


@pytest.mark.parametrize("column", ["video", "mask"])
@pytest.mark.parametrize("path", ["../outside.avi", "/etc/hostname", "..\\outside.avi", "C:\\x.avi", "a/../../x.avi"])
def test_a_path_that_leaves_a_drop_is_one_rows_fault(drop, tmp_path, column, path):
    row = f"{path},P2,n,U7,A,,,head," if column == "video" else f"a.avi,P2,n,U7,A,,,head,{path}"
    (drop / "annotations.csv").write_text(f"{HEADER},mask\na.avi,P1,n,U7,A,,,{LABELS[0]},\n{row}\n")
    with contextlib.suppress(InputError):
        found = extract_drop(drop, Extract(frames=4, stride=4, workers=1, quarantine_share=0.9), tmp_path / "frames")
        assert "outside" in set(found.quarantine["kind"])
        assert not any(".." in str(mask) or str(mask).startswith("/") for mask in found.sequences.get("mask", []))
        return
    raise AssertionError("the good row was lost with the bad one")
