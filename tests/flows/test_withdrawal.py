"""A patient's withdrawal reaches every task and every workspace, by pseudonym or by the hospital's identifier."""

from pathlib import Path

import pandas as pd
import pytest
from inbox_folder import HEADER
from typer.testing import CliRunner

from fetalflow.errors import InputError
from fetalflow.hospital.arrival.intake import Prepare, arrive
from fetalflow.hospital.arrival.withdrawal import read_withdrawn
from fetalflow.hospital.deidentify.pseudonyms import Key
from fetalflow.registry.usable import withdrawn_among, withdrawn_here
from fetalflow.settings.params import load_settings
from flows import retrain
from flows.care import stores
from flows.cli.app import app
from flows.retrain import prepare_workspace, settle_with_others
from flows.workspaces.workspace import prepare

KEY, OTHER = Key(bytes(range(9, 41))), Key(bytes(range(50, 82)))
WHO = ("--by", "Ada", "--why", "she asked")


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """Two workspaces of one hospital; the first has two tasks, and planes has not had patient P2 yet."""
    for name in ("FETALFLOW_PSEUDONYM_KEY", "FETALFLOW_PSEUDONYM_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    for module in (stores, retrain):
        monkeypatch.setattr(module, "CHECKOUT", tmp_path)
    return tmp_path


def deliver(inbox: Path, name: str, patients: list[str], site: str = "north") -> None:
    folder = inbox / name
    folder.mkdir(parents=True)
    for n, patient in enumerate(patients):
        (folder / f"{n}.avi").write_bytes(f"{site}, {name}, cine of {patient}".encode())
    rows = [f"{n}.avi,{patient},{site},U7,A,,,head\n" for n, patient in enumerate(patients)]
    (folder / "annotations.csv").write_text(HEADER + "".join(rows))
    (folder / "COMPLETE").touch()


def look(checkout: Path, workspace: str, task: str, patients: list[str], key: Key | None = None, site: str = "north"):
    """Deliver patients to a task of a workspace, and take them in."""
    inbox, folder = checkout / f"inbox-{workspace}-{task}", checkout / "workspaces" / workspace
    prepare_workspace(folder, task, str(inbox), None, [])
    names = [key.pseudonym("patient", each) for each in patients] if key else patients
    deliver(inbox, f"drop{len(list(inbox.glob('*')))}", names, site)
    block, store = load_settings(folder / "params.yaml").blocks[task], folder / "arrivals" / task
    arrive(str(inbox), store, block.retrain, block.split, Prepare(lambda drop, _: drop, str, key.name) if key else None)
    return store


def of(store: Path) -> list[str]:
    return sorted(pd.read_csv(store / "drop" / "annotations.csv", dtype=str)["patient"])


def invoke(*words: str | Path, **options) -> str:
    done = CliRunner().invoke(app, ["withdraw", *map(str, words), *WHO], **options)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_it_covers_every_task_and_workspace_and_drops_that_come_later(checkout):
    movement = look(checkout, "arrivals-movement", "movement", ["P1", "P2"])
    planes = look(checkout, "arrivals-planes", "planes", ["P2", "P3"])
    second = look(checkout, "arrivals-movement", "planes", ["P4"])
    workspace = checkout / "workspaces" / "arrivals-planes"
    frames, recorded = workspace / "data" / "planes" / "frames", workspace / "station" / "recorded"
    frames.mkdir(parents=True)
    recorded.mkdir(parents=True)
    for video in pd.read_csv(planes / "drop" / "annotations.csv")["video"]:
        (frames / f"{Path(video).stem}.npy").touch()
        (recorded / f"{Path(video).stem}.npy").touch()
    text = invoke("P2")
    assert of(movement) == ["P1"] and of(planes) == ["P3"] and len(list(frames.iterdir())) == 1
    assert [path.name for path in recorded.iterdir()] == [path.name for path in frames.iterdir()]
    for place in (
        "arrivals-movement: P2: 1 rows",
        "arrivals-planes: P2: 1 rows",
        "arrivals-movement: it has nothing of",
    ):
        assert place in text
    look(checkout, "arrivals-movement", "planes", ["P2", "P5"])
    assert of(second) == ["P4", "P5"], "she does not come in by the task that did not have her"
    assert "Not looked at: " in invoke("P1", "--task", "movement") and of(movement) == []


def test_one_name_at_two_hospitals_is_two_women(checkout):
    north = look(checkout, "north", "movement", ["P1", "P2"])
    south = look(checkout, "south", "movement", ["P1", "P3"], site="south")
    with pytest.raises(InputError, match="several patients have this name.*--site"):
        invoke("P1")
    assert of(north) == ["P1", "P2"] and of(south) == ["P1", "P3"]
    invoke("P1", "--site", "North")
    assert of(north) == ["P2"] and of(south) == ["P1", "P3"], "the woman of the other hospital stays"
    look(checkout, "south", "movement", ["P1"], site="south")
    assert of(south) == ["P1", "P1", "P3"]


def test_the_other_hospitals_woman_of_that_name_trains_on_and_may_be_promoted(checkout):
    """The bare pseudonym must not stand in the list of a store in which it is, or becomes, somebody else's name."""
    look(checkout, "north", "movement", ["P1"])
    south = look(checkout, "south", "movement", ["P3"], site="south")
    invoke("P1", "--site", "north")
    look(checkout, "south", "movement", ["P1"], site="south")
    assert of(south) == ["P1", "P3"]
    gone = withdrawn_here(checkout / "workspaces" / "south")
    assert withdrawn_among([("P1", "south"), ("P3", "south")], gone) == 0
    assert withdrawn_among([("P1", "north")], gone) == 1
    assert "P1" not in set(read_withdrawn(south)["patient"]), "a warm start compares names alone"


@pytest.mark.parametrize("name", ["arrivals-planes", "arrivals-movement-2"])
def test_a_store_that_is_made_after_a_withdrawal_refuses_her_too(checkout, name):
    look(checkout, "arrivals-movement", "movement", ["P1", "P2"])
    invoke("P2")
    folder, store = checkout / "workspaces" / name, checkout / "workspaces" / name / "arrivals" / "planes"
    prepare_workspace(folder, "planes", str(checkout / "inbox"), None, [])
    block = load_settings(folder / "params.yaml").blocks["planes"]
    for _ in range(2):
        settle_with_others(stores.Store(folder, "planes", store, block.split, block.retrain.inbox), block)
    look(checkout, name, "planes", ["P2", "P5"])
    assert of(store) == ["P5"]
    look(checkout, name, "planes", ["P2"], site="south")
    assert of(store) == ["P2", "P5"], "the woman of another hospital is not meant"


def test_a_new_store_beside_one_with_a_key_takes_no_names_by_chance(checkout, monkeypatch):
    look(checkout, "arrivals-movement", "movement", ["Roe"], KEY)
    folder = checkout / "workspaces" / "arrivals-planes"
    store = folder / "arrivals" / "planes"

    def settle(*changes: dict) -> None:
        prepare_workspace(folder, "planes", str(checkout / "inbox"), None, list(changes))
        block = load_settings(folder / "params.yaml").blocks["planes"]
        settle_with_others(stores.Store(folder, "planes", store, block.split, block.retrain.inbox), block)

    with pytest.raises(InputError, match=f"no key is configured.* with the key {KEY.name}. Nothing was read"):
        settle()
    monkeypatch.setenv("FETALFLOW_PSEUDONYM_KEY", KEY.secret.hex())
    settle()
    monkeypatch.delenv("FETALFLOW_PSEUDONYM_KEY")
    settle({"planes": {"retrain": {"deidentify": False}}})


def test_a_model_of_a_drop_that_saw_her_is_refused_though_its_workspace_takes_no_deliveries(checkout):
    look(checkout, "arrivals-movement", "movement", ["P1", "P2"])
    drop = prepare(checkout / "workspaces" / "drop", "movement", changes=[drop_changes_of(checkout)])
    assert withdrawn_among([("P2", "North")], withdrawn_here(drop)) == 0
    invoke("P2")
    assert withdrawn_among([("P2", "North"), ("P1", "north")], withdrawn_here(drop)) == 1
    (checkout / "workspaces" / "other").mkdir()
    (checkout / "workspaces" / "other" / "params.yaml").write_text("broken")
    assert withdrawn_among([("P2", "north")], withdrawn_here(drop)) == 1


def drop_changes_of(checkout: Path) -> dict:
    return {"phantoms": [], "tasks": {"movement": {"drop": str(checkout / "inbox-arrivals-movement-movement" / "d")}}}


def test_the_hospitals_identifier_finds_her_with_the_key(checkout, monkeypatch):
    delivered, again, typed = "Roe, Jane 007", "ROE JANE 7", " roe,  jane 007\u200b"
    store = look(checkout, "night", "movement", [delivered, "Doe 8", again], KEY)
    hers, second = (KEY.pseudonym("patient", spelling) for spelling in (delivered, again))
    with pytest.raises(InputError, match="configure the key"):
        invoke(typed)
    monkeypatch.setenv("FETALFLOW_PSEUDONYM_KEY", OTHER.secret.hex())
    with pytest.raises(InputError, match=f"is {OTHER.name}, and the drops here were de-identified with {KEY.name}"):
        invoke("--identifier", input=f"{typed}\n")
    monkeypatch.setenv("FETALFLOW_PSEUDONYM_KEY", KEY.secret.hex())
    text = invoke("--identifier", input=f"{typed}\n")
    assert f"{hers}: 1 rows" in text and of(store) == sorted([KEY.pseudonym("patient", "Doe 8"), second])
    assert f"{second} is the pseudonym of another spelling of this identifier, and has rows" not in text, (
        "no comma there"
    )
    kept = "".join(path.read_text() for path in store.rglob("*.csv")) + (store / "journal.jsonl").read_text()
    assert "jane" not in kept.casefold()
    assert KEY.pseudonym("patient", "roe, jane 007") in set(read_withdrawn(store)["pseudonym"])
    text = invoke("Roe Jane 007")
    assert f"{second}: 1 rows" in text and of(store) == [KEY.pseudonym("patient", "Doe 8")]
    assert "0 rows" in invoke(hers), "by her pseudonym, a second time"


def test_another_spelling_that_has_rows_is_named(checkout, monkeypatch):
    store = look(checkout, "night", "movement", ["P007", "p007"], KEY)
    monkeypatch.setenv("FETALFLOW_PSEUDONYM_KEY", KEY.secret.hex())
    text, second = invoke("P007"), KEY.pseudonym("patient", "p007")
    assert f"{second} is the pseudonym of another spelling of this identifier, and has rows" in text
    assert of(store) == [second]


def test_a_store_of_another_key_is_searched_by_pseudonym_alone(checkout, monkeypatch):
    store = look(checkout, "night", "movement", ["Roe"], OTHER)
    monkeypatch.setenv("FETALFLOW_PSEUDONYM_KEY", KEY.secret.hex())
    with pytest.raises(InputError, match=f"nothing of this patient is in .*The key {KEY.name} is configured"):
        invoke("Roe")
    assert "1 rows" in invoke(OTHER.pseudonym("patient", "Roe")) and of(store) == []
    for verb in (["withdraw", *WHO], ["lineage"]):
        done = CliRunner().invoke(app, [*verb, "--identifier", "--workspace", str(store.parents[1])], input="Roe\n")
        assert isinstance(done.exception, InputError) and f"de-identified with {OTHER.name}" in str(done.exception)
