"""A profile, a drop or a changed setting gets a workspace of its own and edits no tracked file."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fetalflow.errors import InputError
from fetalflow.sequences.split import TABLE_1
from fetalflow.settings.params import load_settings
from flows.workspaces import workspace
from flows.workspaces.workspace import (
    drop_changes,
    overlay,
    parse_changes,
    prepare,
    settings_of,
    update_workspace,
    with_changes,
)

ROOT = Path(__file__).parents[2]


def test_overlay_replaces_leaves_and_keeps_the_rest():
    base = {"train": {"batch": 8, "epochs": 12}, "labels": ["a", "b"], "rivals": {"cnn": {"variant": "cnn"}}}
    changed = overlay(base, {"train": {"epochs": 50}, "labels": None, "rivals": {"cnn": None}})
    assert changed == {"train": {"batch": 8, "epochs": 50}, "labels": None, "rivals": {}}
    assert base["train"]["epochs"] == 12


def test_paper_profile_is_the_papers_protocol(tmp_path):
    before = (ROOT / "params.yaml").read_bytes()
    block = load_settings(prepare(tmp_path / "paper", profiles=["paper"]) / "params.yaml").blocks["movement"]
    assert (block.preprocess.size, block.train.epochs, block.train.batch) == (300, 50, 4)
    assert (block.split.kind, block.train.optimizer, block.train.learning_rate) == ("paper", "rmsprop", 1e-3)
    needed = {label: sum(counts) for label, counts in TABLE_1.items()}  # 587 in all
    assert all(block.phantom.sequences[label] > n for label, n in needed.items())
    assert (ROOT / "params.yaml").read_bytes() == before


def test_another_main_network_makes_the_one_before_it_the_first_rival():
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    paper = with_changes(params, params["profiles"]["paper"])
    table_3 = {"norm_each": False, "batch_norm_momentum": 0.01, "dropout": 0.2}
    main, rivals = paper["tasks"]["movement"], paper["movement"]["rivals"]
    assert (main["variant"], main["network"], main["base"]) == ("fetalmovnet", "fetalmovnet", "movement/fetalmovnet.py")
    assert main["options"] == table_3 and main["drop"] == params["tasks"]["movement"]["drop"]
    before = params["tasks"]["movement"]
    assert next(iter(rivals.items())) == ("movement-fetalmovnet_s", {k: v for k, v in before.items() if k != "drop"})
    assert [rival["options"] for rival in list(rivals.values())[1:]] == [table_3] * 4
    main, rivals = paper["tasks"]["biometry"], list(paper["biometry"]["rivals"].values())
    assert (main["variant"], main["network"], main["base"]) == ("fetalnet", "fetalnet", "parts")
    assert [rival["network"] for rival in rivals] == ["fetalnet_lite"] + ["fetalnet"] * 5
    assert rivals[1]["options"] == {"attention": False, "stacked": False, "temporal": False}
    assert paper["planes"] == params["planes"] | {"preprocess": {"size": 224}, "train": paper["planes"]["train"]}
    assert paper["ablations"] == {name: r for task in params["tasks"] for name, r in paper[task]["rivals"].items()}


@pytest.mark.parametrize("profiles", [["first"], ["first", "paper"], ["rivals", "first", "folds"]])
def test_a_first_look_has_the_main_network_of_the_other_profiles_and_no_rival(profiles):
    settings, whole = settings_of("movement", profiles), settings_of("movement", set(profiles) - {"first"})
    assert settings.variants("movement") == (whole.tasks["movement"].variant,) and not settings.ablations
    assert settings.tasks == whole.tasks and whole.ablations
    for block in ("extract", "preprocess", "split", "train", "evaluate"):  # so it has the figures of a whole run
        assert getattr(settings.blocks["movement"], block) == getattr(whole.blocks["movement"], block)


def test_null_leaves_a_rival_out():
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    changed = with_changes(params, parse_changes(["movement.rivals.movement-cnn=null"]))
    left = [name for name in params["movement"]["rivals"] if name != "movement-cnn"]
    assert list(changed["movement"]["rivals"]) == left and "movement-cnn" in params["movement"]["rivals"]
    assert changed["ablations"] == {k: v for k, v in params["ablations"].items() if k != "movement-cnn"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("ablations.movement-cnn=null", "Set TASK.rivals.TASK-VARIANT; null leaves it out"),
        (
            "movement.networks.cnn.dropout=0.1",
            "Set movement.rivals.movement-VARIANT.options, or tasks.movement.options",
        ),
        ("tasks.movement.rivals=[cnn]", "Set movement.rivals.movement-VARIANT; null leaves it out"),
        ("movement.significance.bootstrap=100", "Leave it out"),
    ],
)
def test_a_setting_of_an_earlier_version_is_refused_with_what_to_do(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        prepare(tmp_path / "run", changes=[parse_changes([change])])


def test_a_workspace_of_todays_is_not_taken_on_and_a_checkout_of_before_is_refused(tmp_path, monkeypatch):
    folder = prepare(tmp_path / "run")
    before = (folder / "params.yaml").read_bytes()
    assert not update_workspace(folder) and not update_workspace(tmp_path / "nowhere") and not update_workspace(ROOT)
    assert (folder / "params.yaml").read_bytes() == before
    block = {"movement": {"networks": {"cnn": {}}}, "tasks": {"movement": {"variant": "cnn", "network": "cnn"}}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(block))
    monkeypatch.setattr(workspace, "CHECKOUT", tmp_path)
    for call in (
        lambda: update_workspace(tmp_path),
        lambda: prepare(folder),
        lambda: prepare(folder, profiles=["paper"]),
    ):
        with pytest.raises(InputError, match="Take the file of this version from git"):
            call()


def test_a_drop_takes_the_place_of_the_synthetic_hospital(tmp_path):
    drop = tmp_path / "hospital"
    drop.mkdir()
    with pytest.raises(InputError, match="annotations.csv"):
        drop_changes(drop, "movement")
    with pytest.raises(InputError, match="no such folder"):
        drop_changes(tmp_path / "nowhere", "movement")
    (drop / "annotations.csv").write_text("video,patient,label\n")
    folder = prepare(tmp_path / "run", profiles=["first"], changes=[drop_changes(drop, "movement")])
    settings = load_settings(folder / "params.yaml")
    assert settings.phantoms == ()
    assert settings.tasks["movement"].drop == str(drop)
    assert settings.blocks["movement"].extract.labels is None
    listed = subprocess.run(
        [Path(sys.executable).with_name("dvc"), "stage", "list", "--name-only"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "extract@movement" in listed.stdout.split()
    assert "phantom@movement" not in listed.stdout.split() and "ablate@" not in listed.stdout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("movement.train.epochs", "expected KEY.KEY=VALUE"),
        ("movement.train.epoch=5", "movement.train.epoch"),
        ("movement.train.epochs=many", 'movement.train.epochs: expected a whole number; found "many"'),
        ("movement.train.epochs=true", "movement.train.epochs: must be a number; found true"),
        ("movement.train.seeds=[true]", "movement.train.seeds: must be a number; found .true"),
        ("movement.phantom.sequences.head=true", "movement.phantom.sequences: must be a number"),
        ("movement.train.epochs=0", "movement.train.epochs: expected at least 1; found 0"),
        ("movement.train.learning_rate=.inf", "movement.train.learning_rate: expected a number; found Infinity"),
        ("movement.split.kind=patient", "movement.split.kind: expected 'grouped', .* or 'random'; found \"patient\""),
        ("movement.extract.labels=[]", "movement.extract.labels: expected at least 1 value"),
        ("movement.extract.labels=head", r"movement.extract.labels: expected a list, such as \[a, b\]; found \"head\""),
        ("machines.trainings=0", "machines.trainings: expected at least 1 or expected 'auto'; found 0"),
        (
            "movement.rivals.movement-cnn.nix=0",
            "^With .*\n  movement.rivals.movement-cnn.nix: there is no such .*$",
        ),
        ("profiles.paper.movement.train.epochs=3", "--set changes settings, and no profile"),
        ("movement.rivals.nix=null", "no rival nix that could be left out. There are: movement-backbone_attention"),
        (
            "movement.rivals.movement-cnn.network=nix",
            "movement-cnn.network=nix: no such network. .* cnn_gru",
        ),
        ("tasks.movement.network=nix", "tasks.movement.network=nix: no such network"),
        (
            "tasks.movement.variant=cnnn",
            "variant=cnnn is no rival of movement: .*cnn_lstm.*network as well",
        ),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        prepare(tmp_path / "run", changes=[parse_changes([change])])


@pytest.mark.parametrize(
    "change",
    [
        "movement.rivals.movement-x3d_s=null",  # of the profile rivals
        "tasks.movement.variant=cnn_gru",  # also
        "tasks.movement.variant=deep tasks.movement.options.depth=9",
        "movement.train.epochs='5' movement.train.augment=true movement.train.loader_workers=auto",
    ],
)
def test_a_right_setting_is_not_refused(change):
    settings_of("movement", ["rivals"], [parse_changes(change.split())])


def test_an_unknown_profile_lists_the_known(tmp_path):
    with pytest.raises(InputError, match="there are: paper"):
        prepare(tmp_path / "run", profiles=["papper"])


@pytest.mark.parametrize("order", [1, -1])
def test_the_order_of_changes_does_not_matter(tmp_path, order):
    """Another network for the main variant, stated before or after the variant."""
    changes = ["tasks.biometry.variant=fetalnet", "tasks.biometry.network=fetalnet"][::order]
    settings = load_settings(prepare(tmp_path / "run", changes=[parse_changes(changes)]) / "params.yaml")
    networks = {name: settings.variant("biometry", name).network for name in settings.variants("biometry")}
    assert (networks["fetalnet"], networks["fetalnet_lite"]) == ("fetalnet", "fetalnet_lite")


def test_a_workspace_has_only_the_tasks_that_were_run_there(tmp_path):
    folder = prepare(tmp_path / "run", "planes", changes=[parse_changes(["planes.train.epochs=2"])])
    assert list(load_settings(folder / "params.yaml").tasks) == ["planes"]
    assert "reports/movement" not in (folder / "dvc.yaml").read_text()
    prepare(folder, "movement")
    settings, dvc = load_settings(folder / "params.yaml"), yaml.safe_load((folder / "dvc.yaml").read_text())
    assert list(settings.tasks) == ["planes", "movement"] and settings.phantoms == ("planes", "movement")
    assert settings.blocks["planes"].train.epochs == 2  # as before
    assert {rival.task for rival in settings.ablations.values()} == {"planes", "movement"}
    whole = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    assert dvc["stages"] == whole["stages"]
    assert dvc["metrics"] == [line for line in whole["metrics"] if "biometry" not in line]
    assert dvc["plots"] == [plot for plot in whole["plots"] if "Biometry" not in str(plot)]
    with pytest.raises(InputError, match="A run of movement has no settings of planes"):
        prepare(folder, "movement", changes=[parse_changes(["planes.train.epochs=3"])])


def test_settings_of_a_workspace_last_until_they_are_changed(tmp_path):
    folder = tmp_path / "run"

    def epochs_and_size(**more) -> tuple[int, int, list[str]]:
        block = load_settings(prepare(folder, "movement", **more) / "params.yaml").blocks["movement"]
        return block.train.epochs, block.preprocess.size, list(block.rivals)

    first = parse_changes(["movement.train.epochs=2", "movement.rivals.movement-cnn=null"])
    left = epochs_and_size(profiles=["paper"], changes=[first])
    assert left[:2] == (2, 300) and "movement-cnn" not in left[2]
    assert epochs_and_size() == left
    assert epochs_and_size(changes=[parse_changes(["movement.train.epochs=3"])]) == (3, *left[1:])
    with pytest.raises(InputError, match="epoch"):
        epochs_and_size(changes=[parse_changes(["movement.train.epoch=9"])])
    assert epochs_and_size() == (3, *left[1:])  # a wrong setting is not kept


def test_a_workspace_without_a_record_of_its_changes_keeps_its_settings(tmp_path):
    folder = prepare(tmp_path / "run", "movement", changes=[parse_changes(["movement.train.epochs=2"])])
    (folder / workspace.ORIGIN).unlink()  # earlier versions wrote none
    prepare(folder, "movement")
    assert load_settings(folder / "params.yaml").blocks["movement"].train.epochs == 2
