"""The list of cines: every cine of a workspace once, why to look at it, and never a file that a browser names."""

import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from cine_files import dicom, save_dicom, speckle, write_video
from fastapi import HTTPException
from finished_run import TASK
from review_workspace import FRAMES, LATE, ROWS, SITE

from fetalflow.artefacts import file_digest
from fetalflow.errors import InputError
from fetalflow.station import listed
from fetalflow.station.catalogue import STATES, Catalogue
from fetalflow.station.cine_files import CineFiles
from fetalflow.station.place import Place


@pytest.fixture
def copied(review, tmp_path):
    """A copy that a test may change; the drop is the same."""
    folder = tmp_path / "run"
    shutil.copytree(review[0].workspace, folder)
    return Place(folder, TASK)


def states(place: Place) -> dict[str, set[str]]:
    table = Catalogue(place).rows()
    return dict(zip(table["name"], table["state"], strict=True))


def test_every_cine_is_listed_once_with_the_reasons_to_look_at_it(review):
    place, sources = review
    table = Catalogue(place).rows().set_index("source")
    found = {name: table.loc[source, "state"] for name, source in sources.items()}
    assert found == {
        "good": {"training"},
        "tested": {"test", "unfamiliar"},
        "wrong": {"test", "mistake"},
        "a": {"quarantine", "disagreement"},
        "b": {"quarantine"},
        "late": {"arrived"},
    }
    assert len(table) == len(sources), "the row without a file has no cine"
    assert set().union(*found.values()) <= set(STATES)
    a = table.loc[sources["a"]]
    assert (a["name"], a["patient"], a["site"], a["device"]) == ("a", "P1", SITE, "Finch 3")
    assert (a["labels"], a["annotators"], a["frames"], a["fps"]) == (("arm", "head"), ("x", "y"), FRAMES, 25)
    assert np.isnan(a["mm_per_px"]) and a["task"] == TASK


def test_a_cine_has_its_rows_answers_and_frames(review):
    place, sources = review
    catalogue = Catalogue(place)
    cine = catalogue.cine(sources["wrong"])
    assert [row["label"] for row in cine.rows] == ["heart"] * 3
    answers = [(each["first_frame"], each["y_true"], each["y_pred"]) for each in cine.predictions]
    assert answers == [(0, "heart", "heart"), (8, "heart", "heart"), (16, "heart", "arm")]
    assert cine.predictions[0]["probabilities"] == {"arm": 0.2, "head": 0.7, "heart": 0.1}
    assert not {"patient", "site", "device"} & set(cine.predictions[0]), "names come from the list alone"
    differing = catalogue.cine(sources["a"])
    assert {(row["annotator"], row["label"]) for row in differing.quarantined} == {("x", "head"), ("y", "arm")}
    for name in ("good", "a", "late"):  # extracted, in quarantine, and not read by a run yet
        assert catalogue.frames(sources[name]).shape == (FRAMES, 64, 96)
    assert not any((place.workspace / "data" / TASK / "frames").glob(f"{sources['late']}*")), (
        "extraction owns its store"
    )


def test_the_list_is_read_again_when_a_table_changes(copied):
    before = Catalogue(copied)
    assert states(copied)["a"] == {"quarantine", "disagreement"}
    number = before.number()
    assert Catalogue(copied).number() == number, "nothing changed, so nothing is read"
    file = copied.workspace / "data" / TASK / "quarantine.csv"
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    table[table["kind"] != "disagreement"].to_csv(file, index=False)
    assert states(copied)["a"] == {"arrived"} and before.number() == number + 1


@pytest.mark.parametrize("source", ["0" * 64, "../../params.yaml", "", "a" * 63])
def test_only_what_is_listed_can_be_opened(review, source):
    catalogue = Catalogue(review[0])
    for ask in (catalogue.cine, catalogue.frames, catalogue.is_stored):
        with pytest.raises(HTTPException) as refused:
            ask(source)
        assert refused.value.status_code == 404


def test_a_row_or_a_link_that_leaves_the_drop_gives_no_file(copied, tmp_path):
    drop, outside = tmp_path / "new drop", write_video(tmp_path / "secret.avi", speckle(4, 64, 96), "ffv1")
    drop.mkdir()
    os.symlink(outside, drop / "link.avi")
    rows = [LATE | {"video": video} for video in ("../secret.avi", str(outside), "link.avi")]
    pd.DataFrame(rows).to_csv(drop / "annotations.csv", index=False)
    to_drop(copied, drop)
    assert file_digest(outside) not in set(Catalogue(Place(copied.workspace, TASK)).rows()["source"])
    (drop / "annotations.csv").unlink()
    unlabelled = Catalogue(Place(copied.workspace, TASK, drop)).rows()
    assert "unlabelled" not in set().union(*unlabelled["state"])


def to_drop(place: Place, drop: Path) -> None:
    """Another drop for the workspace."""
    params = yaml.safe_load((place.workspace / "params.yaml").read_text())
    params["tasks"][TASK]["drop"] = str(drop)
    (place.workspace / "params.yaml").write_text(yaml.safe_dump(params))


def test_a_drop_without_labels_lists_every_file_that_holds_a_cine(review, tmp_path):
    drop = tmp_path / "new cines"
    (drop / "Ward 7" / ".hidden").mkdir(parents=True)
    video = write_video(tmp_path / "video.avi", speckle(8, 64, 96), "ffv1")
    shutil.copy(video, drop / "Ward 7" / "IM_0001")  # no ending: by content
    save_dicom(drop / "1.2.840.1", dicom(speckle(3, 64, 96, seed=2)))
    (drop / "broken.mp4").write_bytes(b"nothing of a video")  # a fault that a person must see
    for name, text in (("notes.txt", "a note"), ("Thumbs.db", "x"), ("readme", "a text"), ("empty", "")):
        (drop / name).write_text(text)
    shutil.copy(video, drop / "Ward 7" / ".hidden" / "x.avi")
    place = Place(review[0].workspace, TASK, drop)
    catalogue = Catalogue(place)
    table = catalogue.rows()
    found = table[table["state"].map(lambda state: "unlabelled" in state)].set_index("name")
    assert set(found.index) == {"IM_0001", "1.2.840.1", "broken"}
    assert set(found["labels"]) == {()} and set(found["patient"]) == {""}
    assert catalogue.frames(file_digest(video)).shape == (8, 64, 96)
    with pytest.raises(InputError, match="unreadable"):
        catalogue.frames(found.loc["broken", "source"])
    assert catalogue.cine(found.loc["broken", "source"]).record["rejected"]["kind"] == "unreadable"
    (drop / "Ward 7" / "IM_0001").unlink()
    listed._looked.clear()
    assert "IM_0001" not in states(place), "a file that went is not listed"


def test_a_cine_in_a_zip_is_shown_as_in_a_folder(copied, review, tmp_path):
    place, sources = review
    drop = Path(place.settings.tasks[TASK].drop)
    with zipfile.ZipFile(tmp_path / "drop.zip", "w") as packed:
        for path in sorted(drop.iterdir()):
            packed.write(path, path.name)
    to_drop(copied, tmp_path / "drop.zip")
    in_zip = Place(copied.workspace, TASK)
    catalogue = Catalogue(in_zip)
    assert states(in_zip) == states(place)
    assert np.array_equal(catalogue.frames(sources["late"]), Catalogue(place).frames(sources["late"]))
    assert catalogue.cine(sources["late"]).path is None
    shutil.move(tmp_path / "drop.zip", tmp_path / "away.zip")
    (tmp_path / "drop.zip").write_bytes(b"")
    assert catalogue.frames(sources["good"]).shape == (FRAMES, 64, 96), "extraction stored it"


def test_a_workspace_without_a_run_lists_what_was_delivered(review, tmp_path):
    place, sources = review
    (tmp_path / "params.yaml").write_text((place.workspace / "params.yaml").read_text())
    new = Place(tmp_path, TASK)
    assert states(new) == {name: {"arrived"} for name in sources}
    assert Catalogue(new).labels(TASK) == ("arm", "head", "heart")
    to_drop(new, tmp_path / "nowhere")
    assert Catalogue(Place(tmp_path, TASK)).rows().empty


@pytest.mark.parametrize("folder", ["arrivals/movement/drop", "drop"])
def test_what_a_store_took_is_known_by_its_name_and_any_other_file_by_its_bytes(review, tmp_path, folder):
    """A name that looks like a digest proves nothing in a folder that a hospital sent."""
    (tmp_path / "params.yaml").write_text((review[0].workspace / "params.yaml").read_text())
    video, name = write_video(tmp_path / "video.avi", speckle(2, 64, 96), "ffv1"), f"{'ab' * 32}.avi"
    (tmp_path / folder / "cines" / "ab").mkdir(parents=True)
    shutil.copy(video, tmp_path / folder / "cines" / "ab" / name)
    pd.DataFrame([LATE | {"video": f"cines/ab/{name}"}]).to_csv(tmp_path / folder / "annotations.csv", index=False)
    place = Place(tmp_path, TASK)
    to_drop(place, tmp_path / folder)
    found = Catalogue(Place(tmp_path, TASK)).rows()
    assert list(found["source"]) == ["ab" * 32 if folder.startswith("arrivals") else file_digest(video)]
    assert found["state"].iloc[0] == {"arrived"}


def test_digests_are_kept_without_the_names_of_files(review, tmp_path, monkeypatch):
    path = write_video(tmp_path / "Miller Jane.avi", speckle(2, 64, 96), "ffv1")
    kept = tmp_path / "digests.json"
    files = CineFiles(kept)
    assert files.cine(path) == file_digest(path)
    files.save()
    assert "Miller" not in kept.read_text()
    monkeypatch.setattr("fetalflow.station.cine_files.file_digest", lambda path: pytest.fail("it was read again"))
    assert CineFiles(kept).cine(path)
    kept.write_text("damaged")
    monkeypatch.undo()
    os.utime(path, ns=(1, 1))
    assert CineFiles(kept).cine(path) == file_digest(path), "a damaged record is made again"


def test_the_rows_of_the_material_are_of_every_kind(review):
    table = Catalogue(review[0]).quarantine(TASK)
    assert set(table["kind"]) == {"disagreement", "label", "span", "missing"}
    assert set(table["site"]) == {SITE} and (table.loc[table["kind"] == "missing", "source"] == "").all()
    assert len(table) == len(ROWS) - 3


@pytest.mark.parametrize("file", ["extracted.parquet", "split.parquet", "quarantine.csv", "predictions/cnn.csv"])
@pytest.mark.parametrize("content", [b"", b"PAR1 junk \xff\x00", b"a,b\n1,2\n"])
def test_a_damaged_table_is_a_sentence_that_names_it(copied, file, content):
    path = copied.workspace / "data" / TASK / file
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"^{path.name} of .* cannot be read: .*run the pipeline again"):
        Catalogue(copied).rows()


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", None])
def test_a_drop_that_cannot_be_read_is_said_beside_the_list(review, copied, tmp_path, content):
    assert Catalogue(copied).problems() == []
    settings = yaml.safe_load((copied.workspace / "params.yaml").read_text())
    settings["tasks"][TASK]["drop"] = str(tmp_path / "other")
    (copied.workspace / "params.yaml").write_text(yaml.safe_dump(settings))
    (tmp_path / "other").mkdir()
    if content is not None:
        (tmp_path / "other" / "annotations.csv").write_text(content)
    problems = Catalogue(Place(copied.workspace, TASK, tmp_path)).problems()
    assert [each[:28] for each in problems] == ([] if content is None else ["What arrived is not listed: "])
