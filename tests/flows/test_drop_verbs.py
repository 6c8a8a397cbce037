"""The verbs over a store: what came and what waits, and a patient's withdrawal."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from fetalflow.errors import InputError
from fetalflow.hospital.arrival.intake import arrive
from fetalflow.settings.params import load_settings
from flows.cli.app import app
from flows.retrain import prepare_workspace

HEADER = "video,patient,site,device,annotator,start_frame,end_frame,label\n"


@pytest.fixture
def workspace(tmp_path) -> Path:
    inbox = tmp_path / "inbox"
    for name, patients, marked in (("monday", range(4), True), ("tuesday", range(4, 6), False)):
        folder = inbox / name
        folder.mkdir(parents=True)
        for n in patients:
            (folder / f"{n}.avi").write_bytes(b"cine %d" % n)
        rows = [f"{n}.avi,P{n},north,U7,A,,,head\n" for n in patients]
        (folder / "annotations.csv").write_text(HEADER + "".join(rows))
        if marked:
            (folder / "COMPLETE").touch()
    folder = prepare_workspace(tmp_path / "night", "movement", str(inbox), None, [])
    block = load_settings(folder / "params.yaml").blocks["movement"]
    arrive(str(inbox), folder / "arrivals" / "movement", block.retrain, block.split)
    return folder


def invoke(*words: str | Path) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_arrivals_says_what_came_and_what_waits(workspace):
    text = invoke("arrivals", "--workspace", workspace)
    assert "taken     monday drop " in text and ", 4 rows of 4 cines" in text
    assert "waiting   tuesday: no COMPLETE in it; it settles in 900 s" in text
    found = json.loads(invoke("arrivals", "--workspace", workspace, "--json"))
    assert [line["name"] for line in found["happened"]] == ["monday"]
    drop = found["happened"][0]["drop"]
    drift = workspace / "arrivals" / "movement" / "drift"
    drift.mkdir()
    (drift / f"{drop}.json").write_text('{"verdict": "No significant drift in 12 tests."}')
    assert "drift: No significant drift in 12 tests." in invoke("arrivals", "--workspace", workspace)


def test_withdraw_removes_rows_cine_and_decoded_frames(workspace):
    store = workspace / "arrivals" / "movement"
    rows = pd.read_csv(store / "drop" / "annotations.csv").set_index("patient")
    cine = store / "drop" / rows.loc["P2", "video"]
    decoded = workspace / "data" / "movement" / "frames"
    decoded.mkdir(parents=True)
    for video in rows["video"]:
        (decoded / f"{Path(video).stem}.npy").write_bytes(b"frames")
        (decoded / f"{Path(video).stem}.json").write_text("{}")
    text = invoke("withdraw", "P2", "--by", "Ada", "--why", "she asked", "--workspace", workspace)
    assert "P2: 1 rows, 1 files and 2 decoded files were removed" in text and "fetalflow lineage P2" in text
    assert not cine.exists() and len(list(decoded.iterdir())) == 6
    assert not list(decoded.glob(f"{cine.stem}.*"))
    assert sorted(pd.read_csv(store / "drop" / "annotations.csv")["patient"]) == ["P0", "P1", "P3"]
    assert "withdrawn P2, 1 rows of 1 cines: by Ada: she asked" in invoke("arrivals", "--workspace", workspace)


def test_what_is_no_workspace_of_an_inbox_is_said(workspace, tmp_path):
    with pytest.raises(InputError, match="has no task 'lungs'"):
        invoke("arrivals", "--workspace", workspace, "--task", "lungs")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "params.yaml").write_text(
        yaml.safe_dump(yaml.safe_load((workspace / "params.yaml").read_text()))
    )
    with pytest.raises(InputError, match="takes no drops of movement"):
        invoke("withdraw", "P1", "--by", "Ada", "--why", "x", "--workspace", tmp_path / "other")
