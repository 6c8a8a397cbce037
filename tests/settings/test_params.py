"""Settings of an earlier fetalflow are read as today's; every number has bounds."""

from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import ValidationError

from fetalflow.errors import InputError
from fetalflow.settings.earlier import renewed
from fetalflow.settings.operations import Frozen
from fetalflow.settings.params import Settings, load_settings

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


def blocks_of(kind) -> dict[str, Any]:
    """Every block of settings below the class `kind`, by its class name."""
    found = {kind.__name__: kind}
    for field in kind.model_fields.values():
        for part in parts_of(field.annotation):
            if isinstance(part, type) and issubclass(part, Frozen):
                found |= blocks_of(part)
    return found


def parts_of(annotation) -> list:
    """An annotation and everything inside of it: `tuple[int, ...]` holds int."""
    return [annotation, *(part for inner in get_args(annotation) for part in parts_of(inner))]


NUMBERS = [
    (block, name)
    for block in blocks_of(Settings).values()
    for name, field in block.model_fields.items()
    if {int, float} & {part for part in parts_of(field.annotation) if isinstance(part, type)}
]


@pytest.mark.parametrize(("block", "name"), NUMBERS)
def test_every_number_has_bounds(block, name):
    """Whatever is far too small, far too large, or no number is refused, and the refusal names the key."""
    for wrong in (-(10.0**30), -25, 10.0**30, float("nan"), float("inf"), -float("inf")):
        number = int(wrong) if abs(wrong) < float("inf") else wrong
        for value in (number, [number], {"head": number}):
            with pytest.raises(ValidationError) as caught:
                block.model_validate({name: value})
            assert name in {str(place) for error in caught.value.errors() for place in error["loc"]}


def test_there_are_numbers_to_check():
    assert len(NUMBERS) > 80


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("extract.fps", -25),
        ("extract.quarantine_share", 20),
        ("extract.min_agreement", 1.5),
        ("validate.max_fps", 2),  # below min_fps
        ("phantom.max_frames", 3),
        ("train.seeds", []),
    ],
)
def test_a_setting_outside_its_bounds_is_refused_by_its_key(tmp_path, setting, value):
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    block, key = setting.split(".")
    params["movement"][block] = params["movement"][block] | {key: value}
    with pytest.raises(InputError, match=rf"movement\.{block}.*\b{key}\b"):
        settings_of(params, tmp_path)
