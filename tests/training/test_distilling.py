"""What a network learns from teachers: their mean, of patients whom they never saw; and nothing where it is off."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.nn import functional as F
from training_sets import FRAMES, LABELS, SIZE, make_workspace

from fetalflow.errors import InputError
from fetalflow.models.building import build
from fetalflow.models.package_files import CONFIG
from fetalflow.registry.model_card import _distilled
from fetalflow.registry.run_record import DISTILLED, start_tags
from fetalflow.settings.params import Machines, Train
from fetalflow.training import classifier, distilling, one_run
from fetalflow.training.augmentation import draw_moves
from fetalflow.training.classifier import Classifier
from fetalflow.training.distilling import NEVER_SEEN, answer, asks_mirrored, grouped, mean_of, targets, teach
from fetalflow.training.loading import SequenceDataset, ordered_loader
from fetalflow.training.one_run import train_once
from fetalflow.training.start import start_without_labels
from stages.train import main

MODEL = {"task": "movement", "variant": "cnn", "network": "cnn", "labels": list(LABELS), "frames": FRAMES}
MODEL |= {"size": SIZE, "options": {"batch_norm_momentum": 0.1}}
SETTINGS = {"batch": 4, "epochs": 1, "device": "cpu", "distil": 4}
ALONE = Machines()


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return make_workspace(tmp_path_factory.mktemp("taught")) / "data" / "movement"


@pytest.fixture(scope="module")
def rows(data) -> pd.DataFrame:
    split = pd.read_parquet(data / "split.parquet")[["sequence", "part"]]
    return pd.read_parquet(data / "manifest.parquet").merge(split, on="sequence")


def network():
    torch.manual_seed(1)
    return build("cnn", FRAMES, SIZE, len(LABELS), **MODEL["options"])


def table(index: str, *probabilities: list[float]) -> pd.DataFrame:
    return pd.DataFrame(probabilities, index=list(index), columns=["x", "y"], dtype=float)


@settings(max_examples=10)
@given(seed=st.integers(0, 99), smoothing=st.sampled_from([0.0, 0.1]), share=st.sampled_from([0.3, 1.0]))
def test_teachers_who_answer_the_labels_teach_the_labels(seed, smoothing, share):
    """With such teachers the loss is that of the labels, with others the mean of both losses by the share."""
    draw = torch.Generator().manual_seed(seed)
    logits, labels = torch.randn(5, 3, generator=draw), torch.randint(0, 3, (5,), generator=draw)
    soft = torch.randn(5, 3, generator=draw).softmax(1)
    rows = pd.DataFrame({"sequence": list("abcde"), "label": labels.numpy()})
    for weights in (None, torch.tensor([0.5, 1.0, 2.0])):
        loss = Classifier(torch.nn.Linear(1, 1), Train(), weights)._loss
        of_labels = loss(logits, labels, smoothing)
        assert torch.allclose(loss(logits, labels, smoothing, F.one_hot(labels, 3).float()), of_labels, atol=1e-6)
        for answers, of_teachers in (
            (F.one_hot(labels, 3).float(), of_labels),
            (soft, loss(logits, labels, smoothing, soft)),
        ):
            heard = pd.DataFrame(answers.numpy(), index=list("abcde"), columns=range(3))
            taught = torch.tensor(targets(rows, range(3), heard, share).to_numpy())
            expected = (1 - share) * of_labels + share * of_teachers
            assert torch.allclose(loss(logits, labels, smoothing, taught), expected, atol=1e-6)


def test_sites_and_teachers_go_together(rows, data, monkeypatch):
    """Aligned training has both in its batches; neither takes the place of the other."""
    few = rows[rows["part"] == "train"].assign(site=["a", "b", "b"] * 7)
    taught = np.full((len(few), 3), 1 / 3, np.float32)
    items = SequenceDataset(few, data, LABELS, sites=True, taught=taught)
    batch = next(iter(ordered_loader(items, 6)))
    assert [part.shape[1:] for part in batch] == [(FRAMES, SIZE, SIZE), (), (), (3,)] and batch[2].tolist() == [
        0,
        1,
        1,
    ] * 2
    module = Classifier(network().eval(), Train(distil=4, align=0.5))
    monkeypatch.setattr(module, "_log_figures", lambda *figures: None)
    frames, labels, sites, soft = batch
    logits, distance = module._answer(frames, sites)
    assert torch.allclose(module.training_step(batch, 0), module._loss(logits, labels, 0, soft) + distance)


def test_the_mean_of_the_teachers_by_hand():
    heard = mean_of([table("ab", [0.9, 0.1], [0.5, 0.5]), table("bc", [0.1, 0.9], [0.2, 0.8]), table("")])
    pd.testing.assert_frame_equal(heard, table("abc", [0.9, 0.1], [0.3, 0.7], [0.2, 0.8]))
    rows = pd.DataFrame({"sequence": list("cda"), "label": list("yyx")})  # nobody answered d
    found = targets(rows, ["x", "y"], heard, 0.5)
    pd.testing.assert_frame_equal(
        found, table("cda", [0.1, 0.9], [0, 1], [0.95, 0.05]).astype("float32"), check_names=False
    )


@settings(max_examples=25)
@given(counts=st.lists(st.integers(1, 20), min_size=4, max_size=30), groups=st.integers(4, 6), seed=st.integers(0, 9))
def test_every_patient_has_two_teachers_who_never_saw_her(counts, groups, seed):
    patients = pd.Series(np.repeat([f"P{i}" for i in range(len(counts))], counts))
    if len(counts) < groups:
        with pytest.raises(InputError, match=rf"needs as many groups.*only {len(counts)}\. Set train.distil to 4 to"):
            grouped(patients, groups, 0, seed)
        return
    found = grouped(patients, groups, 0, seed)
    assert set(found) == set(patients) and set(found.values()) == set(range(groups))
    sizes = patients.map(found).value_counts()
    assert sizes.max() - sizes.min() <= max(counts)
    order = patients.sample(frac=1, random_state=seed)
    assert found == grouped(order, groups, 0, seed), "the order of the rows has no influence"


def test_no_teacher_reads_a_patient_whom_she_answers_or_a_test_patient(rows, data, monkeypatch):
    """Also where a split by sequence has a woman in several parts, and where a training would start warm."""
    woman = {"validation-0": "train-0", "test-0": "train-1"}
    rows = rows.assign(patient=rows["patient"].replace(woman))
    lessons, asked = [], []

    def fake(model, lesson, data, train, fold, seed, machines):
        assert (train.distil, train.start) == (0, "") and model["variant"] == f"cnn (teacher {len(lessons) + 1} of 4)"
        lessons.append(lesson)
        return network(), None, Path(f"digest-{len(lessons)}")

    def answered(net, of, *others):
        asked.append(of)
        return answer(net, of, *others)

    monkeypatch.setattr(distilling, "train_once", fake)
    monkeypatch.setattr(distilling, "answer", answered)
    taught = teach(MODEL, rows, data, Train(**SETTINGS, start="starts/movement/abc"), 0, 0, ALONE)
    tested = set(rows.loc[rows["part"] == "test", "sequence"])
    for lesson, of in zip(lessons, asked, strict=True):
        read = lesson[lesson["part"].isin(["train", "validation"])]
        assert not set(read["patient"]) & set(of["patient"]) and set(read["part"]) == {"train", "validation"}
        assert not tested & {*lesson["sequence"], *of["sequence"]}
    trained = rows[rows["part"] == "train"]
    assert pd.concat(asked)["sequence"].value_counts().to_dict() == dict.fromkeys(trained["sequence"], NEVER_SEEN)
    assert list(taught.targets.index) == list(trained["sequence"]) and np.allclose(taught.targets.sum(axis=1), 1)
    facts = taught.facts["distilled"]
    assert (facts["teachers"], facts["patients"], facts["left_out"]) == (4, 7, [4, 4, 3, 3])
    assert facts["trainings"] == [f"digest-{k}" for k in (1, 2, 3, 4)] and not facts["mirrored"]
    assert not re.search("train-|test-", json.dumps(facts)), "the package names no patient"

    # A label that only one patient shows: her teachers never learned it, and could only answer wrongly.
    rare = rows[(rows["label"] != "flicker") | (rows["patient"] == "train-3") | (rows["part"] == "validation")]
    lessons.clear()
    taught = teach(MODEL, rare, data, Train(**SETTINGS), 0, 0, ALONE)
    assert taught.targets.loc["train-flicker-3"].tolist() == [1, 0, 0]
    assert taught.facts["distilled"]["by_label_alone"] == 1


@pytest.mark.parametrize(("kind", "begins"), [("pretraining", True), ("labels", False)])
def test_teachers_begin_with_a_pretraining_but_not_with_a_model_that_knows_labels(kind, begins, tmp_path):
    (tmp_path / CONFIG).write_text(json.dumps({kind: {}}))
    assert start_without_labels(str(tmp_path)) == (str(tmp_path) if begins else "")


def test_a_mirror_image_is_asked_as_well(rows, data):
    few, net = rows.iloc[:3], network()
    flipped = SequenceDataset(few, data, LABELS)
    alone = answer(net, few, data, LABELS, mirrors=False).to_numpy()
    with torch.inference_mode():
        mirrored = net(torch.stack([flipped[i][0].flip(-1) for i in range(3)])).softmax(1).numpy()
    found = answer(net, few, data, LABELS, mirrors=True)
    assert np.allclose(found, (alone + mirrored) / 2, atol=1e-6) and list(found.index) == list(few["sequence"])
    assert np.abs(alone - mirrored).max() > 1e-4


@pytest.mark.parametrize(
    ("label", "sided"),
    [
        ("head", False),
        ("Fetal abdomen", False),
        ("leftover", False),
        ("bright", False),
        ("heel", False),
        ("other", False),
    ]
    + [
        ("left arm", True),
        ("Arm_Right", True),
        ("RIGHT-HAND", True),
        ("arm l", True),
        ("hand (R)", True),
        ("arm_l", True),
    ]
    + [("linker Arm", True), ("bras gauche", True), ("mano derecha", True), ("arm2left", True)],
)
def test_nothing_is_mirrored_where_a_label_names_a_side(label, sided):
    labels = ["heart", label]
    assert asks_mirrored(Train(augment=True), labels) is not sided
    assert asks_mirrored(Train(augment=True, mirror=True), labels)
    assert not asks_mirrored(Train(augment=True, mirror=False), labels)
    assert not asks_mirrored(Train(augment=False), ["heart"]), "teachers that never saw a mirror image"


@pytest.mark.parametrize(("label", "mirrors"), [("left", False), ("west", "auto")])
def test_a_training_mirrors_nothing_where_a_label_names_a_side(rows, data, label, mirrors, monkeypatch):
    class Begun(Exception):
        """The training would begin with its argument as settings."""

    def begin(network, train, validation, settings, *others):
        raise Begun(settings)

    monkeypatch.setattr(one_run, "fit_network", begin)
    rows = rows.assign(label=rows["label"].replace({"left": label, "right": "east"}))
    labels = sorted(set(rows["label"]))
    with pytest.raises(Begun) as begun:
        train_once(MODEL | {"labels": labels}, rows, data, Train(augment=True, device="cpu"), 0, 0, ALONE)
    given = begun.value.args[0]
    assert given.mirror == mirrors
    made = []
    monkeypatch.setattr(classifier, "augment", lambda x, mirror: made.append(mirror) or x)
    Classifier(torch.nn.Linear(1, 1), given)._augmented(torch.zeros(1, 1, 8, 8))
    assert made == [label == "west"]


def test_without_mirror_images_the_other_moves_stay():
    grids = []
    for mirror in (True, False):
        torch.manual_seed(3)
        grids.append(draw_moves(torch.zeros(16, 1, 8, 8), mirror)[0])
    runs_right = [(grid[:, 0, -1, 0] > grid[:, 0, 0, 0]).float().mean() for grid in grids]
    assert 0 < runs_right[0] < 1 and runs_right[1] == 1
    assert torch.allclose(grids[0].mean((1, 2)), grids[1].mean((1, 2)), atol=1e-6)


@pytest.mark.parametrize(
    ("network", "machines", "train", "said"),
    [
        ("fetalnet_lite", {}, {}, r"^train.distil is 4, but it works for classifiers only: .* Set it to 0\.$"),
        ("cnn", {"nodes": 2}, {}, r"^train.distil is 4, but the training runs on 2 machines.* to 0\.$"),
        ("cnn", {}, {"distil": 8}, r"^train.distil is 8 .* fold 0 has only 7\. Set train.distil to 4 to 7, or to 0\.$"),
    ],
)
def test_what_cannot_be_taught_is_refused_before_a_teacher_is_trained(rows, data, network, machines, train, said):
    labels = ["head", "abdomen", "femur"]
    model = MODEL | {"network": network, "options": {}, "size": 64 if network != "cnn" else SIZE}
    model |= {"labels": labels} if network != "cnn" else {}
    with pytest.raises(InputError, match=said):
        teach(model, rows, data, Train(**SETTINGS | train), 0, 0, Machines(**machines))


@pytest.mark.parametrize("wrong", [{"distil": 3}, {"distil": 1}, {"distil": -1}, {"distil": 4, "distil_share": 0}])
def test_a_wrong_number_of_teachers_is_refused(wrong):
    with pytest.raises(ValidationError, match="distil"):
        Train(**wrong)


def test_a_distilled_package_says_so_and_off_changes_nothing(tmp_path, monkeypatch, capsys):
    trained = []

    def one_is_trained(model, lesson, *others):
        """The first teacher is trained, and answers for the others as well, which saves time."""
        trained.append(trained[0] if trained else train_once(model, lesson, *others))
        folder = trained[0][2].with_name(f"teacher-{len(trained)}") if trained[1:] else trained[0][2]
        folder.mkdir(exist_ok=True)
        return *trained[0][:2], folder

    monkeypatch.setattr(distilling, "train_once", one_is_trained)
    folder = make_workspace(tmp_path, variants={"cnn": MODEL["options"]}, **SETTINGS)
    monkeypatch.chdir(folder)
    package = Path("models/movement/cnn")
    main("movement", "cnn")
    assert "cnn (teacher 1 of 4), fold 0, seed 0: trained to the end" in capsys.readouterr().out and len(trained) == 4
    distilled = json.loads((package / CONFIG).read_text())
    how = distilled["distilled"]
    assert len(how["trainings"]) == 4 and (how["teachers"], how["share"], how["by_label_alone"]) == (4, 0.5, 0)
    card = _distilled(how)
    assert "Distilled: " in card and "4 networks of the same kind" in card and "(4, 4, 3, 3 patients)" in card
    assert start_tags(package) == {DISTILLED: "4 teachers"}
    assert not any(Path("checkpoints").iterdir())
    answers = pd.read_csv("data/movement/predictions/cnn.csv")
    assert len(answers) == 18 and set(answers["variant"]) == {"cnn"}

    params = Path("params.yaml")
    params.write_text(params.read_text().replace("distil: 4", "distil: 0"))
    main("movement", "cnn")
    plain = json.loads((package / CONFIG).read_text())
    assert set(distilled) - set(plain) == {"distilled"} and distilled["weights"] != plain["weights"]
    assert not _distilled(plain.get("distilled")) and start_tags(package) == {} and len(trained) == 4
