"""What a worker answers to `measure` and `examine`: the library's result, for files that have no names."""

import json
import math

import cv2
import numpy as np
import pytest
from bright_biometry import SIZE, N, shown
from untrained_biometry import save_untrained

from fetalflow.inference.examination.examine import examine
from fetalflow.inference.package import load
from fetalflow.service.answering import Models
from fetalflow.service.desk import Desk
from fetalflow.service.following import of_folder
from fetalflow.service.limits import Limits
from fetalflow.service.served import EXAMINE, MEASURE, Job
from fetalflow.service.uploads import Uploads


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """An untrained light network of biometry."""
    folder = tmp_path_factory.mktemp("model") / "fetalnet_lite"
    save_untrained(folder, N, SIZE)
    return folder


@pytest.fixture(scope="module")
def models(package):
    limits = Limits(max_pixels=200_000)
    return Models({"biometry": of_folder("biometry", package)}, limits)


@pytest.fixture
def uploads(tmp_path):
    taken, paths = Uploads(), []
    for name, label in (("MUSTERFRAU.PNG", "head"), ("../../x", "femur")):
        paths.append(tmp_path / f"{label}.png")
        cv2.imwrite(str(paths[-1]), shown(label)[0])
        paths[-1] = (name, open(paths[-1], "rb"))  # noqa: SIM115 - as the server gives it
    taken.take(paths)
    yield taken
    taken.release()
    assert not taken.files[0].exists()


def test_a_measurement_is_the_librarys(models, package, uploads):
    assert [file.name for file in uploads.files] == ["file-1.png", "file-2"]
    options = {"mm_per_px": 0.5, "weeks": 20.0, "structure": "head", "show_unfamiliar": True}  # it finds no length
    found = models.answer(Job(MEASURE, "biometry", tuple(uploads.files), options))
    told = json.loads(found.body)
    expected = examine(load(package), uploads.files[0], **options)
    assert told["examinations"][0] == json.loads(json.dumps(expected.as_dict()))
    assert len(told["examinations"]) == 2 and told["fetus"]
    first = found.rows[0]
    assert first["file"] == "file-1.png" and first["task"] == "biometry" and first["label"] == expected.label
    assert {name: each[0] for name, each in first["lengths"].items()} == pytest.approx(
        {name: length.value for name, length in expected.lengths.items()}
    )


@pytest.mark.parametrize("niqe", [True, False])
def test_a_busy_service_leaves_niqe_out_of_the_row_and_nothing_else(models, uploads, niqe):
    job = Job(MEASURE, "biometry", tuple(uploads.files[:1]), {"structure": "head"}, figures=True, niqe=niqe)
    found = models.answer(job).rows[0]["figures"]
    assert found.keys() == {"mean_intensity", "blank_share", "sharpness", "speckle"} | ({"niqe"} if niqe else set())


def test_niqe_is_computed_where_nobody_waits_and_else_once_in_eight():
    desk = Desk(Limits(workers=2))
    desk.admitted = 2
    assert all(desk.has_time_for_niqe() for _ in range(16))
    desk.admitted = 3
    assert sum(desk.has_time_for_niqe() for _ in range(16)) == 2
    desk.scratch.close()


def test_an_examination_states_the_served_version(models, uploads):
    found = models.answer(Job(EXAMINE, "", tuple(uploads.files), {"mm_per_px": 0.5, "weeks": None}))
    told = json.loads(found.body)
    assert not found.wrong and [each["name"] for each in told["files"]] == ["file-1.png", "file-2"]
    (used,) = told["models"]
    assert used["task"] == "biometry" and used["sha256"] == models.served["biometry"].weights
    assert "diagnosis" in told["for"] and "MUSTER" not in found.body
    assert all(math.isfinite(each["unfamiliarity"]) for each in found.rows)


def test_a_frame_over_the_limit_is_refused_before_it_is_decoded(models, tmp_path):
    cv2.imwrite(str(tmp_path / "file-1.png"), np.zeros((500, 500), np.uint8))
    job = Job(MEASURE, "biometry", (tmp_path / "file-1.png",), {"structure": "head"})
    wrong = models.answer(job).wrong
    assert "max_pixels" in wrong and wrong.startswith("file-1.png"), "no folder of the server"
