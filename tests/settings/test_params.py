"""Settings of an earlier fetalflow are read as today's."""

from pathlib import Path

import pytest
import yaml

from fetalflow.errors import InputError
from fetalflow.settings.earlier import renewed
from fetalflow.settings.params import load_settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def earlier() -> dict:
    """The form until 2026-11: networks in `tasks` and `ablations`, options in `networks`, the order in `rivals`."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    block = params["movement"]
    del block["rivals"], params["planes"], params["biometry"], params["profiles"]
    block["networks"] = {"fetalmovnet_s": {}, "cnn": {"dropout": 0.1}, "cnn_lstm": {"hidden": 8}}
    main = {"drop": "arrivals/movement/drop", "variant": "fetalmovnet_s", "network": "fetalmovnet_s", "base": "parts"}
    block["significance"] = {"bootstrap": 100, "alpha": 0.01}
    params["tasks"] = {"movement": main | {"rivals": ["cnn_lstm", "cnn"]}}
    params["ablations"] = {
        f"movement-{name}": {"task": "movement", "variant": name, "network": name, "base": f"movement/{name}.py"}
        for name in ("cnn", "cnn_lstm")
    }
    return params | {"phantoms": []}


def settings_of(params: dict, folder: Path):
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return load_settings(folder / "params.yaml")


def test_settings_of_an_earlier_version_are_read_as_todays(earlier, tmp_path):
    settings = settings_of(earlier, tmp_path)
    assert settings.variants("movement") == ("fetalmovnet_s", "cnn_lstm", "cnn"), "in the order of `rivals`"
    assert settings.tasks["movement"].options == {} and settings.tasks["movement"].drop == "arrivals/movement/drop"
    assert settings.variant("movement", "cnn_lstm").options == {"hidden": 8}
    assert settings.variant("movement", "cnn").model_dump() == earlier["ablations"]["movement-cnn"] | {
        "options": {"dropout": 0.1}
    }
    assert settings.blocks["movement"].significance.alpha == 0.01
    assert list(settings.ablations) == ["movement-cnn_lstm", "movement-cnn"]


def test_settings_are_converted_once_and_the_given_ones_stay(earlier):
    before = yaml.safe_dump(earlier)
    current = renewed(earlier)
    assert current is not earlier and yaml.safe_dump(earlier) == before
    assert renewed(current) is current
    assert "networks" not in current["movement"] and current["ablations"] == current["movement"]["rivals"]


@pytest.mark.parametrize(
    "change",
    [
        {"tasks": None},
        {"tasks": {"movement": None}},
        {"movement": None},
        {"ablations": {"movement-cnn": "cnn"}},
        {"ablations": {"movement-cnn": {"task": "movement"}}},
    ],
)
def test_settings_that_fit_neither_form_are_refused_by_name(earlier, tmp_path, change):
    with pytest.raises(InputError, match="has wrong settings"):
        settings_of(earlier | change, tmp_path)


def test_a_trained_network_that_no_list_names_is_a_rival(earlier, tmp_path):
    earlier["tasks"]["movement"]["rivals"] = ["cnn"]
    assert settings_of(earlier, tmp_path).variants("movement") == ("fetalmovnet_s", "cnn", "cnn_lstm")
