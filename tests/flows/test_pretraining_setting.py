"""One setting switches pretraining on: what DVC needs follows from it, and a workspace without it has no such stage."""

from copy import deepcopy

import pytest
import yaml
from closures import PARAMS

from fetalflow.errors import InputError
from fetalflow.settings.params import checked
from flows.workspaces.changes import parse_changes, pretrainings, with_changes
from flows.workspaces.settings_record import WRITTEN
from flows.workspaces.workspace import prepare, update_workspace

ON = ["movement.pretrain.folder=/data/archive", "movement.pretrain.epochs=3"]


@pytest.fixture
def params() -> dict:
    return deepcopy(PARAMS)


def test_dvc_gets_the_folder_and_the_main_network(params):
    found = with_changes(params, parse_changes(ON))
    assert pretrainings(params) == params["pretrainings"] == {}, "off by default"
    assert found["pretrainings"]["movement"]["folder"] == "/data/archive"
    assert found["pretrainings"]["movement"]["network"] == params["tasks"]["movement"]["network"]
    settings = checked(found, "params.yaml")
    assert settings.blocks["movement"].pretrain.epochs == 3 and not settings.blocks["planes"].pretrain.folder
    assert with_changes(found, {"movement": {"pretrain": {"folder": ""}}})["pretrainings"] == {}


def test_a_change_by_hand_that_forgets_one_of_the_two_is_refused(params):
    params["movement"]["pretrain"] = {"folder": "/data/archive"}
    with pytest.raises(InputError, match=r"repeat every `TASK.pretrain.folder`; expected .*'/data/archive'"):
        checked(params, "params.yaml")
    with pytest.raises(InputError, match="Set that"):
        with_changes(params, parse_changes(["pretrainings.movement.folder=/data/archive"]))


@pytest.mark.parametrize("wrong", ["clips=0", "batch=2", "epochs=0", "learning_rate=0", "seed=-1", "method=byol"])
def test_a_wrong_setting_is_named(params, wrong):
    with pytest.raises(InputError, match=f"movement.pretrain.{wrong.partition('=')[0]}"):
        checked(with_changes(params, parse_changes([f"movement.pretrain.{wrong}"])), "params.yaml")


def test_a_workspace_keeps_the_pretraining_of_each_task_and_has_the_input_of_its_trainings(tmp_path):
    folder = prepare(tmp_path / "ws", "movement", changes=[parse_changes(ON)])
    prepare(folder, "planes")
    found = yaml.safe_load((folder / "params.yaml").read_text())
    assert set(found["pretrainings"]) == {"movement"} and set(found["tasks"]) == {"movement", "planes"}
    assert {path.parent.name for path in folder.glob("pretrained/*/.gitignore")} == {"movement", "planes"}
    for name in ("params.yaml", WRITTEN):  # as a workspace of an earlier version
        old = deepcopy(found)
        del old["pretrainings"], old["movement"]["pretrain"], old["planes"]["pretrain"]
        (folder / name).write_text(yaml.safe_dump(old))
    update_workspace(folder)
    renewed = yaml.safe_load((folder / "params.yaml").read_text())
    assert renewed["pretrainings"] == {} and renewed["movement"]["pretrain"] == {}
