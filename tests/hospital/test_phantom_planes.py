"""The hospital's still pictures: FETAL_PLANES_DB's layout, an honest official split, true masks, the same bytes."""

import re
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from fetalflow.artefacts import file_digest
from fetalflow.errors import InputError
from fetalflow.hospital.phantom.figure import dense, stroke
from fetalflow.hospital.phantom.planes.hospital import DATA, MOST, make_drop, official_split, plan
from fetalflow.hospital.phantom.planes.views import AMBIGUOUS, PLANES, choose
from fetalflow.hospital.phantom.sites import SITES
from fetalflow.settings.params import Phantom, load_settings

SMALL = Phantom(seed=3, patients=14, sequences=dict.fromkeys(PLANES, 12), height=120, width=160)
DEMO = load_settings(Path(__file__).parents[2] / "params.yaml").blocks["planes"].phantom
STANDARD = [plane for plane in PLANES if plane != "Other"]


@pytest.fixture(scope="module")
def drop(tmp_path_factory) -> tuple[Path, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("drop")
    make_drop(SMALL, folder, workers=2)
    return folder, pd.read_csv(folder / DATA, sep=";", keep_default_na=False)


def image(folder: Path, name: str) -> np.ndarray:
    return cv2.imread(str(folder / "Images" / f"{name}.png"), cv2.IMREAD_UNCHANGED)


def test_the_layout_is_that_of_the_published_data_set(drop):
    folder, table = drop
    line = (folder / DATA).read_text().splitlines()[0]
    assert line == (
        "Image_name;Patient_num;Plane;Brain_plane;Operator;US_Machine;Train ;site;mask;mm_per_px;gestational_age"
    )
    assert sorted(p.stem for p in (folder / "Images").iterdir()) == sorted(table["Image_name"])
    assert table["Plane"].value_counts().to_dict() == SMALL.sequences
    for row in table.itertuples():
        patient, plane, number, of = map(int, re.fullmatch(
            r"Patient(\d{5})_Plane(\d)_(\d+)_of_(\d+)", row.Image_name).groups())  # fmt: skip
        same = table[(table["Patient_num"] == patient) & (table["Plane"] == row.Plane)]
        assert (patient, PLANES[row.Plane]) == (row.Patient_num, plane)
        assert 1 <= number <= of == len(same)
        assert (row.Brain_plane == "Not A Brain") == (row.Plane != "Fetal brain")
        assert image(folder, row.Image_name).shape == (SMALL.height, SMALL.width)


def test_the_same_settings_give_the_same_bytes_whatever_the_workers(tmp_path):
    tiny = SMALL.model_copy(update={"sequences": dict.fromkeys(PLANES, 2)})
    written = []
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        make_drop(tiny, folder, workers=workers)
        files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
        written.append({p.relative_to(folder): file_digest(p) for p in files})
    assert len(written[0]) == 12 + 10 + 1
    assert written[0] == written[1]


def test_another_seed_gives_other_pictures():
    assert plan(SMALL) != plan(SMALL.model_copy(update={"seed": 4}))


def test_an_unknown_plane_is_named():
    with pytest.raises(InputError, match=r"'brain'.*Fetal brain"):
        plan(SMALL.model_copy(update={"sequences": {"brain": 3}}))


@pytest.mark.parametrize("settings", [SMALL, DEMO], ids=["small", "demo"])
def test_the_official_split_has_every_plane_on_both_sides_by_patient(settings):
    pictures = plan(settings)
    training = official_split(pictures, settings.seed)
    for plane in PLANES:
        share = np.mean([p.patient.number in training for p in pictures if p.look.plane == plane])
        assert share == pytest.approx(0.6, abs=0.05 if settings is DEMO else 0.3)


def test_the_official_split_stands_in_the_table_by_patient(drop):
    _, table = drop
    assert set(table["Train "]) == {0, 1}
    assert (table.groupby("Patient_num")["Train "].nunique() == 1).all()
    assert (table.groupby("Plane")["Train "].nunique() == 2).all()


def test_patients_have_several_planes_and_runs_of_pictures():
    pictures = plan(DEMO)
    table = pd.DataFrame([(p.patient.number, p.look.plane, p.operator.name, p.patient.site.name) for p in pictures],
                         columns=["patient", "plane", "operator", "site"])  # fmt: skip
    per_patient = table.groupby("patient").size()
    assert per_patient.between(1, MOST).all()
    assert (table.groupby("patient")["plane"].nunique() >= 2).mean() > 0.6
    assert (table.groupby(["patient", "plane"]).size() >= 2).mean() > 0.4
    assert table.groupby("site")["operator"].nunique().between(2, 3).all()
    assert table.groupby("operator")["site"].nunique().max() == 1
    assert table.groupby("plane")["site"].nunique().min() == len(SITES)
    ages = {p.patient.number: p.patient.sizes.weeks for p in pictures}.values()
    assert 18 <= min(ages) < 20
    assert 34 < max(ages) <= 36


def test_every_brain_plane_and_hard_looks_exist_in_their_share():
    looks = [choose("Fetal brain", (9, k)) for k in range(400)]
    assert {look.brain_plane for look in looks} == {"Trans-thalamic", "Trans-cerebellum", "Trans-ventricular", "Other"}
    assert np.mean([look.clear < 0.5 for look in looks]) == pytest.approx(AMBIGUOUS, abs=0.05)
    other = [choose("Other", (9, k)) for k in range(400)]
    assert len({look.section for look in other}) == 15
    assert 0 < np.mean([look.inside for look in other]) < 0.15  # the endocavity probe alone is no sign of a cervix


def test_masks_are_where_the_structure_is(drop):
    folder, table = drop
    assert (table.loc[table["Plane"] == "Other", "mask"] == "").all()
    brighter = {plane: [] for plane in STANDARD}
    for row in table[table["Plane"] != "Other"].itertuples():
        mask = np.load(folder / row.mask)["mask"]
        assert mask.dtype == np.uint8
        assert mask.shape == (1, SMALL.height, SMALL.width)
        assert mask.sum() > 150
        on, picture = mask[0] > 0, image(folder, row.Image_name).astype(float)
        beside = (cv2.dilate(mask[0], np.ones((13, 13))) > 0) & ~on & (picture > 0)
        brighter[row.Plane].append(picture[on].mean() - picture[beside].mean())
    for plane in ("Fetal abdomen", "Fetal femur", "Maternal cervix"):  # a head's and a chest's inside is dark
        assert np.median(brighter[plane]) > 5, plane


def test_a_skull_is_brighter_than_what_it_holds(drop):
    folder, table = drop
    ratios = []
    for row in table[table["Plane"] == "Fetal brain"].itertuples():
        mask = np.load(folder / row.mask)["mask"][0]
        inner = cv2.erode(mask, np.ones((9, 9)), borderValue=0) > 0
        picture = image(folder, row.Image_name).astype(float)
        ratios.append(picture[(mask > 0) & ~inner].mean() / picture[inner].mean())
    assert np.median(ratios) > 1.3


def test_a_head_measures_what_the_growth_curve_says(drop):
    """Widest way through the mask of a head that is whole in the picture: the occipito-frontal diameter and skin."""
    folder, table = drop
    patients = {p.patient.number: p.patient for p in plan(SMALL)}
    off = []
    for row in table[table["Plane"] == "Fetal brain"].itertuples():
        mask = np.load(folder / row.mask)["mask"][0]
        if mask[[0, -1]].any() or mask[:, [0, -1]].any():
            continue
        outline = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0][0]
        measured = max(cv2.fitEllipse(outline)[1]) * row.mm_per_px
        off.append(measured / (patients[row.Patient_num].sizes.ofd + 4.4) - 1)
    assert len(off) >= 2
    assert abs(np.median(off)) < 0.08


def test_no_two_pictures_are_alike_and_those_of_a_look_are_related(drop):
    folder, table = drop
    digests = [file_digest(folder / f"Images/{name}.png") for name in table["Image_name"]]
    assert len(set(digests)) == len(digests)
    names = {}
    for p in plan(SMALL):
        names.setdefault(p.look, []).append(p.name)
    pairs = [found[:2] for found in names.values() if len(found) > 1]
    changes = [np.abs(np.subtract(*(image(folder, n).astype(float) for n in pair))).mean() for pair in pairs]
    assert min(changes) > 3


def test_sites_look_different(drop):
    """Grey level and texture of the pictures name the site much better than chance would."""
    folder, table = drop
    figures = {site.name: [] for site in SITES}
    for row in table.itertuples():
        picture = image(folder, row.Image_name)[40:100, 40:120].astype(float)
        figures[row.site].append(picture.mean())
    means = [np.mean(levels) for levels in figures.values()]
    assert max(means) - min(means) > 15
    assert table.groupby("site")["US_Machine"].nunique().max() == 1
    assert table["US_Machine"].nunique() == len(SITES)


def test_outlines_have_no_long_straight_edge():
    outline = dense(np.array([(0, 0), (30, 0), (30, 7.0)]))
    steps = np.hypot(*(np.roll(outline, -1, 0) - outline).T)
    assert steps.max() <= 1.5
    assert steps.sum() == pytest.approx(30 + 7 + np.hypot(30, 7))
    line = stroke(np.array([(0, 0), (10, 0.0)]), 0.5)
    assert cv2.contourArea(line.astype(np.float32)) == pytest.approx(10)
