"""The pictures of a cine: the very pixels at rest, what was blanked, and nothing that a name could be read from."""

import dataclasses
import hashlib
import json
import os
import struct

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient
from station_workspace import MARKED

from fetalflow.cine.reading import open_cine
from fetalflow.cine.recording import Limits
from fetalflow.station.app import station
from fetalflow.station.catalogue import Catalogue
from fetalflow.station.frames import BLOCK
from fetalflow.station.made_again import make_room, used

PASSWORD = "a long password for tests"


def unpacked(content: bytes) -> tuple[dict, list[np.ndarray]]:
    """The head and the pictures of `station.frames.packed`."""
    (length,) = struct.unpack_from("<I", content)
    head, at, pictures = json.loads(content[4 : 4 + length]), 4 + length, []
    for size in head["sizes"]:
        pictures.append(cv2.imdecode(np.frombuffer(content[at : at + size], np.uint8), cv2.IMREAD_UNCHANGED))
        at += size
    assert at == len(content)
    return head, pictures


def signed_in(app, name: str = "anna") -> TestClient:
    client = TestClient(app, base_url="http://127.0.0.1:8787")
    client.cookies.set("fetalflow_session", app.state.accounts.log_in(name, PASSWORD)[0])
    return client


@pytest.fixture(scope="module")
def client(served):
    return signed_in(served.app)


@pytest.fixture(scope="module")
def first(served) -> tuple[str, str, np.ndarray]:
    """Source, digest and masked frames of the first cine."""
    catalogue, source = Catalogue(served.place), served.cines["first"]
    return source, catalogue.cine(source).record["digest"], np.array(catalogue.frames(source))


def test_a_frame_at_rest_has_the_very_pixels_and_a_playing_one_nearly(client, first):
    source, digest, frames = first
    still = client.get(f"/frames/{source}/{digest}/masked/17.png")
    assert np.array_equal(cv2.imdecode(np.frombuffer(still.content, np.uint8), cv2.IMREAD_UNCHANGED), frames[17])
    assert still.headers["cache-control"] == "private, max-age=3600, immutable"
    found = [unpacked(client.get(f"/frames/{source}/{digest}/masked/block/{k}").content)[1] for k in range(3)]
    pictures = np.concatenate(found)
    assert [len(each) for each in found] == [BLOCK, BLOCK, len(frames) - 2 * BLOCK]
    assert np.abs(pictures.astype(int) - frames).mean() < 2


def test_recorded_frames_are_those_of_the_file_and_what_was_blanked_is_red(client, first, served):
    source, digest, frames = first
    with open_cine(Catalogue(served.place).cine(source).path, Limits()) as cine:
        recorded = next(iter(cine.frames))
    answer = client.get(f"/frames/{source}/{digest}/recorded/0.png").content
    assert np.array_equal(cv2.imdecode(np.frombuffer(answer, np.uint8), cv2.IMREAD_UNCHANGED), recorded)
    answer = client.get(f"/frames/{source}/{digest}/difference/0.png").content
    coloured = cv2.imdecode(np.frombuffer(answer, np.uint8), cv2.IMREAD_COLOR).astype(int)
    is_red = coloured[..., 2] > coloured[..., 0]
    assert is_red[MARKED].all() and np.array_equal(is_red, recorded != frames[0])  # the mark beside the sector
    assert np.array_equal(coloured[~is_red], np.repeat(frames[0][~is_red], 3).reshape(-1, 3))


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("{source}/{digest}/masked/40.png", 404),
        ("{source}/{digest}/masked/-1.png", 404),
        ("{source}/{digest}/masked/block/3", 404),
        ("{source}/{digest}/masked/block/-1", 404),
        ("{source}/{digest}/masked/one.png", 422),
        ("{source}/{digest}/other/0.png", 422),
        ("{source}/" + "0" * 64 + "/masked/0.png", 404),  # the frames were made again
        ("a" * 64 + "/{digest}/masked/0.png", 404),
        ("..%2F..%2Fparams.yaml/{digest}/masked/0.png", 404),
        ("{digest:.12}/{digest}/masked/0.png", 422),
    ],
)
def test_an_address_that_names_no_frame_gives_none(client, first, address, status):
    assert client.get("/frames/" + address.format(source=first[0], digest=first[1])).status_code == status


def test_a_cine_of_two_tasks_has_the_frames_of_the_task_that_is_looked_at(client, first, served, monkeypatch):
    source, digest, frames = first
    lists, cines = (dict(served.app.state.catalogue._kept[name]) for name in ("lists", "cines"))
    store = served.place.workspace / "data" / "planes" / "frames"
    store.mkdir(parents=True)
    record = json.loads((served.place.folder / "frames" / f"{source}.json").read_text())
    (store / f"{source}.json").write_text(json.dumps(record | {"digest": "of planes"}))
    np.save(store / f"{source}.npy", 255 - frames)
    cines["planes", source] = dataclasses.replace(cines["movement", source], task="planes")
    for name, value in {"lists": lists, "cines": cines}.items():
        monkeypatch.setitem(served.app.state.catalogue._kept, name, value)
    for task, wanted, its in (("movement", digest, frames), ("planes", "of planes", 255 - frames)):
        still = client.get(f"/frames/{source}/{wanted}/masked/17.png")
        assert np.array_equal(cv2.imdecode(np.frombuffer(still.content, np.uint8), cv2.IMREAD_UNCHANGED), its[17])
        page = client.get(f"/cine/{source}?task={task}", headers={"accept": "text/html"}).text
        assert f'"task": "{task}"' in page and f'"digest": "{wanted}"' in page
    assert client.get(f"/cine/{source}?task=biometry").status_code == 404


def test_without_a_session_there_is_no_frame(served, first):
    stranger = TestClient(served.app, base_url="http://127.0.0.1:8787")
    for view in ("masked", "recorded"):
        assert stranger.get(f"/frames/{first[0]}/{first[1]}/{view}/0.png").status_code == 401
    assert stranger.get(f"/cine/{first[0]}").status_code == 401


def test_a_look_has_one_audit_line_for_each_session_and_view(served, first):
    def lines() -> list[dict]:
        files = sorted((served.place.folder / "audit").glob("*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    before, source, digest = len(lines()), *first[:2]
    client = signed_in(served.app, "ben")
    for number in (3, 4, 3):
        client.get(f"/frames/{source}/{digest}/masked/{number}.png")
    client.get(f"/frames/{source}/{digest}/recorded/block/1")
    signed_in(served.app, "ben").get(f"/frames/{source}/{digest}/masked/3.png")
    found = [(line["account"], line["action"], line["subject"]) for line in lines()[before:]]
    masked, recorded = (("ben", f"view frames, {view}", source) for view in ("masked", "recorded"))
    assert found == [masked, recorded, masked]


def test_with_a_key_of_pseudonyms_no_recorded_pixel_and_no_file_name_is_shown(first, served, monkeypatch):
    monkeypatch.setenv("FETALFLOW_PSEUDONYM_KEY", hashlib.sha256(b"a key").hexdigest())
    monkeypatch.setattr(Catalogue, "_shared", type(Catalogue._shared)(dict))
    client = signed_in(station(served.place))
    source, digest, _ = first
    for view in ("recorded", "difference"):
        refused = client.get(f"/frames/{source}/{digest}/{view}/0.png")
        assert refused.status_code == 422 and "only masked ones are shown" in refused.text
    page = client.get(f"/cine/{source}", headers={"accept": "text/html"}).text
    assert "first" not in page.replace("first_frame", "") and ".avi" not in page and "as recorded" not in page
    assert source[:12] in page and client.get(f"/frames/{source}/{digest}/masked/0.png").status_code == 200


@settings(max_examples=25)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(0, 30), st.data())
def test_the_files_used_last_stay_within_the_bound_and_the_newest_always(tmp_path_factory, sizes, most, data):
    folder = tmp_path_factory.mktemp("room")
    for age, size in enumerate(sizes):
        for ending, share in ((".npy", size), (".json", 1)):
            (folder / f"{age}{ending}").write_bytes(b"x" * share)
            os.utime(folder / f"{age}{ending}", (age, age))
    newest = data.draw(st.integers(0, len(sizes) - 1))
    used(folder, str(newest))
    make_room(folder, most)
    order = [newest, *(age for age in reversed(range(len(sizes))) if age != newest)]
    kept = {int(path.stem) for path in folder.glob("*.npy")}
    assert {int(path.stem) for path in folder.glob("*.json")} == kept and newest in kept
    assert sum(sizes[age] + 1 for age in kept) <= max(most, sizes[newest] + 1)
    assert order.index(max(kept, key=order.index)) >= len(kept) - 1
