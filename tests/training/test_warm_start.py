"""A warm start begins where the earlier model ended, takes no package that does not fit, and says where it began."""

import json
import pickle
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from training_sets import make_workspace

from fetalflow.artefacts import file_digest
from fetalflow.errors import InputError
from fetalflow.models.package_files import CONFIG, WEIGHTS
from fetalflow.training.start import ORIGIN
from flows.workspaces.workspace import overlay
from stages.train import main

MAIN, RIVAL = "fetalmovnet", "cnn"


def package_of(workspace: Path, variant: str = MAIN) -> Path:
    return workspace / "models" / "movement" / variant


def keep(package: Path, workspace: Path, **origin: str) -> str:
    """The package under its digest in the workspace, as `registry.warm_start` keeps it; the path for `train.start`."""
    place = Path("starts") / "movement" / file_digest(package / CONFIG)
    shutil.copytree(package, workspace / place)
    (workspace / place / ORIGIN).write_text(json.dumps(origin))
    return place.as_posix()


def change(workspace: Path, **settings: dict) -> None:
    params = yaml.safe_load((workspace / "params.yaml").read_text())
    main = {"tasks": {"movement": {"options": settings.pop("options", {})}}}
    (workspace / "params.yaml").write_text(yaml.safe_dump(overlay(params, {"movement": settings} | main)))


def curves(workspace: Path, variant: str = MAIN) -> pd.DataFrame:
    return pd.read_csv(workspace / "reports" / "movement" / "curves" / f"{variant}.csv")


@pytest.fixture(scope="module")
def earlier(tmp_path_factory) -> Path:
    """A workspace whose main variant was trained from random weights."""
    folder = make_workspace(tmp_path_factory.mktemp("earlier"), epochs=4, device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        main("movement", MAIN)
    return folder


@pytest.fixture
def later(earlier, tmp_path, monkeypatch) -> Path:
    """The workspace of the next night: one epoch."""
    folder = make_workspace(tmp_path / "later", epochs=1, device="cpu")
    monkeypatch.chdir(folder)
    return folder


def test_a_warm_start_begins_with_a_lower_loss_and_says_where(earlier, later):
    main("movement", MAIN)
    cold, cold_config = curves(later).iloc[0], json.loads((package_of(later) / CONFIG).read_text())
    assert "started_from" not in cold_config

    start = keep(package_of(earlier), later, model="net", version="3", run="r3")
    change(later, train={"start": start})
    main("movement", MAIN)
    warm, config = curves(later).iloc[0], json.loads((package_of(later) / CONFIG).read_text())
    assert warm["train_loss"] < 0.8 * cold["train_loss"] and warm["val_loss"] < cold["val_loss"]
    assert config["started_from"] == {
        **{"package": Path(start).name, "model": "net", "version": "3", "run": "r3"},
        "before": [],
    }
    again = keep(package_of(later), later)
    change(later, train={"start": again})
    main("movement", MAIN)
    chain = json.loads((package_of(later) / CONFIG).read_text())["started_from"]
    assert chain == {"package": Path(again).name, "before": [Path(start).name]}


def test_rivals_stay_cold(earlier, later):
    main("movement", RIVAL)
    before = {path.name: path.read_bytes() for path in package_of(later, RIVAL).iterdir()}
    change(later, train={"start": keep(package_of(earlier), later)})
    main("movement", RIVAL)
    assert before == {path.name: path.read_bytes() for path in package_of(later, RIVAL).iterdir()}


def test_another_start_does_not_go_on_from_this_ones_checkpoints(earlier, later, monkeypatch):
    made = []
    monkeypatch.setattr(
        "stages.train.save", lambda *given: made.extend(path.name for path in Path("checkpoints").iterdir())
    )
    main("movement", MAIN)
    change(later, train={"start": keep(package_of(earlier), later)})
    main("movement", MAIN)
    assert len(made) == len(set(made)) == 2


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"preprocess": {"size": 64}}, r"size: 32, now 64"),
        ({"extract": {"labels": ["flicker", "left", "right", "up"]}}, r"labels: \['flicker', 'left', 'right'\], now"),
        ({"options": {"dropout": 0.5}}, r"options: .*, now .*dropout"),
    ],
)
def test_a_package_that_does_not_fit_is_refused_with_what_differs(earlier, later, settings, said):
    change(later, train={"start": keep(package_of(earlier), later)}, **settings)
    with pytest.raises(InputError, match=rf"(?s)does not fit.*{said}.*--cold"):
        main("movement", MAIN)
    assert not package_of(later).exists()


def test_a_package_that_was_changed_is_refused(earlier, later):
    start = keep(package_of(earlier), later)
    change(later, train={"start": start})
    config = later / start / CONFIG
    text = config.read_text()
    config.write_text(text.replace('"fold": 0', '"fold": 1'))
    with pytest.raises(InputError, match="the SHA-256 of .* must be the name of its folder"):
        main("movement", MAIN)
    config.write_text(text)
    weights = later / start / WEIGHTS
    whole = bytearray(weights.read_bytes())
    whole[-1] ^= 1
    weights.write_bytes(whole)
    with pytest.raises(InputError, match="is not the file that was saved"):
        main("movement", MAIN)
    shutil.rmtree(later / start)
    with pytest.raises(InputError, match=r"(?s)no such file.*--cold"):
        main("movement", MAIN)


class Evil:
    def __reduce__(self):
        return (Path("executed").touch, ())


def test_a_pickle_in_the_place_of_the_weights_is_not_executed(earlier, later):
    start = keep(package_of(earlier), later)
    change(later, train={"start": start})
    (later / start / WEIGHTS).write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InputError, match="is not the file that was saved"):
        main("movement", MAIN)
    torch.save(Evil(), later / start / WEIGHTS)
    with pytest.raises(InputError):
        main("movement", MAIN)
    assert not Path("executed").exists()
