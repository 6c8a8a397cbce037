"""A drop without labels becomes a training: a tour by keys, two blind people, a third who decides, a network.

`FETALFLOW_PICTURES=docs/pictures python -m pytest -m long tests/station/test_story_in_browser.py` writes the pictures
of docs/ as it goes.
"""

import os
from contextlib import chdir
from pathlib import Path
from uuid import uuid4

import pandas as pd
import pytest
import yaml
from finished_run import FRAMES, LABELS, TASK, small_params

import stages.extract
import stages.preprocess
import stages.split
import stages.train
import stages.validate
from fetalflow.hospital.phantom.movement.hospital import make_drop
from fetalflow.settings.blocks import Phantom
from fetalflow.station.app import station
from fetalflow.station.catalogue import Catalogue
from fetalflow.station.place import Place

PASSWORD = "a long password for tests"
ACCOUNTS = {"anna": "annotator", "ben": "annotator", "ada": "adjudicator", "lea": "lead"}
CINES = 12
SIZE = {"width": 1280, "height": 820}
PICTURES = os.environ.get("FETALFLOW_PICTURES")


pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    """A workspace without data, and a drop of CINES phantom cines of as many patients, without a table of labels."""
    folder = tmp_path_factory.mktemp("story")
    settings = Phantom(patients=CINES, sequences=dict.fromkeys(LABELS, CINES), height=240, width=320)
    made = make_drop(settings, folder / "phantom", workers=2)
    drop, truth = folder / "new", {}
    drop.mkdir()
    for patient, rows in made[made["mask"] != ""].groupby("patient"):
        row = rows.iloc[len(truth) % len(rows)]
        name = f"{patient}_1{Path(row['video']).suffix}"
        (drop / name).write_bytes((folder / "phantom" / row["video"]).read_bytes())
        truth[name] = row["label"]
    names = "".join(f"{name},{name[:4]},S1\n" for name in truth)
    (drop / "patients.csv").write_text(f"video,patient,site\n{names}")
    params = small_params(("cnn",), FRAMES)
    params["tasks"][TASK]["drop"] = str(drop)
    params[TASK]["train"] |= {"epochs": 1, "augment": False, "device": "cpu"}
    params[TASK]["extract"]["workers"] = 1
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    (folder / "truth.yaml").write_text(yaml.safe_dump(truth))
    return Place(folder, TASK, drop)


@pytest.fixture(scope="module")
def people(place, browser, serving):
    """A function that gives a page of an account."""
    app = station(place)
    for name, role in ACCOUNTS.items():
        app.state.accounts.make(name, role, PASSWORD)
    running, contexts, errors = serving(app), [], []
    address = next(running)

    def page_of(name: str):
        context = browser.new_context(viewport=SIZE, base_url=address)
        context.set_default_timeout(30_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"/link?once={app.state.accounts.link(name)}")
        return page

    yield page_of
    for context in contexts:
        context.close()
    next(running, None)
    assert not errors


def keep(page, name: str) -> None:
    """A picture for docs/, if the story is played for that."""
    if PICTURES:
        page.screenshot(path=f"{PICTURES}/{name}.png")


def key_of(label: str) -> str:
    return str(LABELS.index(label) + 1)


def test_one_drop_from_nothing_to_a_network(place, people):
    truth = yaml.safe_load((place.workspace / "truth.yaml").read_text())
    by_name = {Path(name).stem: label for name, label in truth.items()}
    lea = people("lea")
    lea.goto("/studies")
    lea.fill("[name=name]", "pairs")
    lea.check("[name=accounts][value=anna]")
    lea.check("[name=accounts][value=ben]")
    lea.click("main form button")
    lea.wait_for_selector("text=anna, ben")

    anna = people("anna")
    anna.goto("/tour")
    keep(anna, "station-tour")
    anna.keyboard.press("Enter")
    for number in range(len(truth)):
        anna.wait_for_selector("#marks-state:text-is('open')")
        name = anna.inner_text("h1").split()[0]
        if number < 10:
            assert f"cine {number + 1} of 10" in anna.inner_text(".tour")
        if number == 0:
            assert "space bar" in anna.inner_text(".tour")
            anna.keyboard.press(" ")
            anna.wait_for_selector(".tour:has-text('Press i there')")
            anna.keyboard.press(" ")
        anna.keyboard.press("Home")
        anna.keyboard.press("i")
        anna.keyboard.press("End")
        anna.keyboard.press("o")
        anna.keyboard.press(key_of(by_name[name]))
        anna.wait_for_selector("#marks-list li")
        if number == 1:
            keep(anna, "station-label")
        anna.keyboard.press("d")
        anna.wait_for_selector("#marks-state:text-is('submitted')")
        anna.wait_for_selector("#marks-saved:text-is('all saved')")
        if number == 9:
            assert "last one" in anna.inner_text(".tour")
        before = anna.url
        anna.keyboard.press("n")
        if number < len(truth) - 1:
            anna.wait_for_url(lambda url, before=before: url != before)
    assert anna.evaluate("sessionStorage.getItem('fetalflow-tour')") is None

    wrong = label_as(people("ben"), place, by_name)
    ada = people("ada")
    ada.goto("/agreement")
    ada.wait_for_selector("text=Waits for a third person: 1")
    ada.click("a:has-text('Decide')")
    ada.wait_for_selector(".side li")
    letters = ada.locator(".side").all()
    right = next(each for each in letters if f"{by_name[wrong]}: frames" in each.inner_text())
    keep(ada, "station-decide")
    ada.check(f"[name=choice][value={right.locator('h3').inner_text()}]")
    ada.fill("[name=why]", "the movement is clear")
    ada.click("button.main")
    ada.wait_for_selector("text=No disagreement")
    keep_page(ada, "/agreement", "station-agreement")

    lea.goto("/agreement")
    lea.click("text=Write the drop")
    lea.wait_for_selector("text=The drop is written")
    rows = pd.read_csv(place.drop / "annotations.csv", dtype=str, keep_default_na=False)
    assert {row["video"]: row["label"] for row in rows.to_dict("records")} == truth
    keep_page(lea, "/cines", "station-list")

    with chdir(place.workspace):
        for stage in (stages.extract, stages.preprocess, stages.split, stages.validate):
            stage.main(TASK)
        stages.train.main(TASK, "cnn")
    learned = pd.read_parquet(place.workspace / "data" / TASK / "manifest.parquet")
    assert set(learned["patient"]) == {name[:4] for name in truth}
    assert (place.workspace / "models" / TASK / "cnn" / "model.safetensors").is_file()


def keep_page(page, path: str, name: str) -> None:
    if PICTURES:
        page.goto(path)
        page.wait_for_timeout(3000)
        keep(page, name)


def label_as(page, place: Place, by_name: dict[str, str]) -> str:
    """The second person labels every cine as it is, but for one, whose name is returned; by the page's requests."""
    page.goto("/cines")
    listed = page.evaluate("send('GET', '/cines/list')")
    rows = [dict(zip(listed["columns"], row, strict=True)) for row in listed["rows"]]
    for row in rows:
        label = by_name[row["name"]]
        if row is rows[0]:
            label = next(other for other in LABELS if other != label)
        frames = Catalogue(place).frames(row["source"]).shape[0]
        mark = {"kind": "span", "id": uuid4().hex, "label": label, "first_frame": 0, "last_frame": frames - 1}
        events = [
            {"id": uuid4().hex, "action": "mark", "value": mark},
            {"id": uuid4().hex, "action": "submit", "value": {}},
        ]
        page.evaluate(
            "([url, body]) => send('POST', url, body)", [f"/marks/{TASK}/{row['source']}", {"events": events}]
        )
    return rows[0]["name"]
