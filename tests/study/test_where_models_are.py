"""`fetalflow examine` needs models of three tasks, and most workspaces have one: each is looked for where it is."""

import pytest
import yaml
from processes import ROOT

from fetalflow.errors import InputError
from flows.cli import examine, node


@pytest.fixture
def asked(monkeypatch):
    """By task, the workspace in which its model was looked for."""
    places = {}

    def find(model, task, workspace):
        places[task] = workspace
        raise InputError("there is none")

    monkeypatch.setattr(examine, "find_package", find)
    monkeypatch.setattr(examine, "TASKS", ("movement", "planes", "biometry"))  # without the last one it ends
    return places


def test_a_workspace_of_one_task_gives_its_model_and_the_others_come_from_theirs(tmp_path, asked):
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    tasks, movement = {"movement": params["tasks"]["movement"]}, {"movement": params["movement"]}
    alone = {name: block for name, block in params.items() if name not in params["tasks"]}
    alone |= movement | {"tasks": tasks, "phantoms": ["movement"], "ablations": params["movement"]["rivals"]}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(alone))
    with pytest.raises(InputError, match="there is none"):
        examine._models({}, tmp_path, "auto")
    assert asked == {"movement": tmp_path, "planes": None, "biometry": None}
    with pytest.raises(InputError, match="there is none"):
        examine._models({"movement": "none", "biometry": "models:/fetal-biometry@champion"}, tmp_path, "auto")
    assert asked["biometry"] == tmp_path, "the registry that was named has the model that was named"


@pytest.mark.parametrize("registry", ["none", "embedded", "server"])
def test_a_node_with_a_folder_of_settings_takes_the_champions_of_the_workspaces(tmp_path, monkeypatch, registry):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if registry == "server":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    if registry == "embedded":
        (tmp_path / "mlflow.db").touch()
    assert node._where_models_are(tmp_path) == ([] if registry == "none" else ["--workspace", str(tmp_path)])
