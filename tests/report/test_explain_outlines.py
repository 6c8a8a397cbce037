"""What the explain stage says and draws of a network that segments: outlines, lengths, gates, the worst answers."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from bright_biometry import COLUMN, LABELS, SIDE, Bright, sequences, shown, true_mm
from matplotlib.image import imread

from fetalflow.errors import InputError
from fetalflow.evaluation.measurement_rows import COLUMNS, known_mask, measurement_row
from fetalflow.evaluation.predictions import check_predictions
from fetalflow.evaluation.segmentation import overlap
from fetalflow.models.answering import to_input
from fetalflow.models.building import build
from fetalflow.report.explain.cases import GATES, Case, Cases, gate_maps
from fetalflow.report.explain.choosing import as_measured, choose_worst
from fetalflow.report.explain.outline_drawing import stretched
from fetalflow.report.explain.outlines import numbers, outline_pictures, title, warnings
from fetalflow.training.answered_masks import writing
from stages import explain

ROOT = Path(__file__).parents[2]


class Gated(Bright):
    def attention_maps(self, x: torch.Tensor) -> torch.Tensor:
        return 0.5 + 0.4 * x


def cases(folder: Path, network: Bright | None = None, labels: tuple[str, ...] = LABELS) -> Cases:
    return Cases(network or Bright(labels), {"labels": list(labels)}, folder, torch.device("cpu"))


@pytest.fixture
def data(tmp_path) -> tuple[Path, pd.DataFrame]:
    folder = tmp_path / "data"
    return folder, sequences(folder, LABELS, each=1)


def by_label(rows: pd.DataFrame, label: str) -> pd.Series:
    return rows[rows["label"] == label].iloc[0].copy()


def test_other_views_are_shown_as_mistakes_only(data):
    """One that is called a head, and a head that is called other."""
    folder, rows = data
    labels = (*LABELS, "other")
    wrong = by_label(rows, "head")
    wrong["label"], wrong["mask_path"], wrong["hc_mm"], wrong["predicted"] = "other", "", "", "head"
    called_head = cases(folder, labels=labels).case(wrong)
    assert "hc" in called_head.clip.lengths and called_head.errors == {} and called_head.telling_frame() in (0, 1)
    other = Bright(labels)
    other.levels.data = other.levels.data.roll(1)  # what is as bright as a head is now called other
    called_other = cases(folder, other, labels).case(by_label(rows, "head"))
    assert called_other.row["predicted"] == "other" and called_other.clip.lengths == {}
    assert warnings(called_other) == "Warnings: called other, on which nothing is measured."
    chosen, none = pd.DataFrame([wrong, by_label(rows, "head")]), rows.iloc[:0]
    pictures = list(outline_pictures(cases(folder, other, labels), chosen, none, none, pd.DataFrame([wrong])))
    assert [each.kind for each in pictures] == ["overview", "sequence", "mistake"]


@pytest.mark.parametrize("label", LABELS)
def test_a_case_is_measured_and_held_against_the_drop(data, label):
    folder, rows = data
    row = by_label(rows, label)
    case = cases(folder).case(row)
    name = COLUMN[label][:2]
    assert case.row["predicted"] == label and case.row["correct"] and case.dice > 0.99
    assert case.clip.lengths[name].value == pytest.approx(true_mm(label), rel=0.03)
    assert case.errors[name] == pytest.approx(100 * (case.clip.lengths[name].value / case.known[name] - 1))
    row[COLUMN[label]], row["gestational_age"] = str(1.25 * true_mm(label)), "36"
    off = cases(folder).case(row)
    assert off.errors[name] == pytest.approx(-20, abs=2.4)
    assert f"{name.upper()} " in warnings(off) and "is implausible at 36 weeks" in warnings(off)
    said = " ".join(numbers(off))
    assert f"{name.upper()} {off.clip.lengths[name].value:.1f} ± " in said
    assert f"true {off.known[name]:.1f} ({off.errors[name]:+.1f} %)" in said and f"Dice {off.dice:.3f}" in said


def test_without_a_length_in_the_drop_the_annotation_is_measured_and_is_called_so(data):
    folder, rows = data
    row = by_label(rows, "head")
    row["hc_mm"] = ""
    case = cases(folder).case(row)
    assert not case.by_drop and set(case.known) == {"hc", "bpd", "ofd"}
    assert 0 < max(map(abs, case.errors.values())) < 3, (
        "a mask's edge is that of its pixels, an answer's lies between them"
    )
    assert "annotated" in numbers(case)[1] and "true" not in " ".join(numbers(case))


def test_without_a_scale_or_a_mask_nothing_is_held_against_anything(data):
    folder, rows = data
    row = by_label(rows, "abdomen")
    row["mm_per_px"], row["mask_path"] = np.nan, ""
    case = cases(folder).case(row)
    assert case.errors == {} and np.isnan(case.dice)
    assert case.clip.unit == "px" and numbers(case)[0].startswith("AC ") and " px" in numbers(case)[0]
    assert "no pixel spacing" in warnings(case) and "Dice" not in " ".join(numbers(case))


def test_what_is_called_something_else_has_no_error_in_percent(data):
    folder, rows = data
    row = by_label(rows, "femur")
    row["label"], row["hc_mm"] = "head", "150"  # the picture still shows a femur
    case = cases(folder).case(row)
    assert case.row["predicted"] == "femur" and not case.row["correct"]
    assert case.errors == {}
    assert title(case).startswith("head, predicted as femur (")
    silent = cases(folder, Bright(silent=True)).case(row)
    assert silent.row["predicted"] == "head" and silent.row["correct"], "a network that names nothing is told"


def test_what_is_out_of_view_stands_in_the_title(data):
    folder, rows = data
    row = by_label(rows, "head")
    assert "in view" not in title(cases(folder).case(row))
    row["seen"], row["gestational_age"] = "0.71", ""
    assert title(cases(folder).case(row), short=True) == "head, 71% of it in view"
    row["seen"] = ""
    assert title(cases(folder).case(row), short=True) == "head"


def test_the_frame_that_is_drawn_is_chosen_by_figures(data):
    folder, rows = data
    row = by_label(rows, "abdomen")
    small, large = (shown("abdomen", 1, SIDE, SIDE, (48, 52), (side, side)) for side in (30, 40))
    np.save(folder / row["path"], np.concatenate([small, large, large]))
    np.save(folder / row["mask_path"], np.concatenate([small, large, small]) > 127)
    case = cases(folder).case(row)
    assert case.telling_frame() in (1, 2), "the clip's value is the two larger frames'"
    assert case.weakest_frame() == 2
    nothing = Case(**{**vars(case), "truth": None})
    assert nothing.weakest_frame() == 1


def test_the_worst_are_the_worst_by_their_figure():
    table = pd.DataFrame(
        {"sequence": list("abcde"), "dice": [0.9, 0.2, np.nan, 0.5, 0.2], "error": [3, 9, 4, np.nan, 1]}
    )
    assert choose_worst(table, "dice", 3, largest=False)["sequence"].tolist() == ["b", "e", "d"]
    assert choose_worst(table, "error", 10, largest=True)["sequence"].tolist() == ["b", "c", "a", "e"]


def test_gates_are_stretched_between_their_least_and_most_within_the_field():
    gates = np.full((2, 4, 4), 0.6)
    gates[0, 0, 0], gates[1, 1, 1], gates[:, 3, 3] = 0.5, 0.7, 0.0
    field = np.ones((4, 4), bool)
    field[3, 3] = False
    found = stretched(gates, field)
    assert found[0, 0, 0] == 0 and found[1, 1, 1] == 1 and found[0, 2, 2] == pytest.approx(0.5)
    assert (found[:, 3, 3] == 0).all()
    assert not stretched(np.full((1, 4, 4), 0.7), field).any() and not stretched(gates, ~field & field).any()


def test_a_network_without_gates_has_no_maps():
    x = torch.rand(1, 2, 64, 64)
    torch.manual_seed(0)
    network = build("fetalnet_lite", 2, 64, 3, pretrained=False).eval()
    maps = gate_maps(network, x)[GATES]
    assert maps.shape == x.shape and maps.min() > 0 and maps.max() < 1
    assert gate_maps(build("fetalnet_lite", 2, 64, 3, pretrained=False, attention=False).eval(), x) == {}
    assert gate_maps(Bright(), x) == {}


# ---- the stage


def measured_file(data: Path, network: Bright, labels: tuple[str, ...], rows: pd.DataFrame) -> pd.DataFrame:
    """Predictions of fold 0 and seed 3 with lengths, below an answer of seed 4 that found nothing wrong."""
    found = []
    for _, row in rows.iterrows():
        answer = network(to_input(np.load(data / row["path"])[None], torch.device("cpu")))
        p = answer.label[0].softmax(0).numpy()
        told = {"sequence": row["sequence"], "patient": row["patient"], "fold": 0, "seed": 3, "part": "test"}
        told |= {"y_true": row["label"], "y_pred": labels[int(p.argmax())]}
        told |= {f"p_{label}": value for label, value in zip(labels, p, strict=True)}
        mask = answer.mask[0].sigmoid().numpy()
        found.append(told | measurement_row(mask, known_mask(data, row), row, told["y_pred"]))
    network.asked.clear()
    table = pd.DataFrame(found)
    return pd.concat([table.assign(seed=4, dice=1.0), table])


def run_stage(
    folder: Path,
    monkeypatch,
    network: Bright,
    labels: tuple[str, ...],
    rows: pd.DataFrame,
    file: pd.DataFrame | None = None,
) -> dict:
    """explain.json of a finished run of `network`; every row is of the test part. file: instead of what is measured."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["biometry"]["explain"] = {"measured": 2, "mistakes": 2, "worst": 2}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    data = folder / "data" / "biometry"
    rows.to_parquet(data / "manifest.parquet")
    answered = measured_file(data, network, labels, rows) if file is None else file
    if file is None:
        with writing(data / "answers" / "fetalnet_lite" / "0-3.npz") as add:
            for _, row in rows.iterrows():
                x = to_input(np.load(data / row["path"])[None], torch.device("cpu"))
                add(row["sequence"], network(x).mask[0].sigmoid().numpy())
        network.asked.clear()
    else:
        told = file[file["seed"] == 3]
        monkeypatch.setattr(
            explain, "with_lengths", lambda rows, *_, **__: told[told["sequence"].isin(rows["sequence"])]
        )
    rows[["sequence", "patient", "label"]].assign(fold=0, part="test").to_parquet(data / "split.parquet")
    (data / "predictions").mkdir()
    answered.drop(columns=[*COLUMNS]).to_csv(data / "predictions" / "fetalnet_lite.csv", index=False)
    frames = int(rows["frames"].iloc[0])
    config = {"network": "fetalnet_lite", "labels": list(labels), "frames": frames, "size": SIDE}
    config |= {"options": {"pretrained": False}, "training": {"fold": 0, "seed": 3}}
    monkeypatch.chdir(folder)
    monkeypatch.setattr(explain, "read", lambda path, device: (network, config))
    explain.main("biometry")
    out = folder / "reports" / "biometry" / "explain"
    result = json.loads((out / "explain.json").read_text(), parse_constant=pytest.fail)  # NaN is not JSON
    assert {figure["file"] for figure in result["figures"]} == {path.name for path in out.glob("*.png")}
    for figure in result["figures"]:
        assert set(figure) == {"file", "kind", "sequence", "label", "caption"}
        assert imread(out / figure["file"]).std() > 0.05, figure["file"]
    return result


def run_again(folder: Path, file: pd.DataFrame) -> None:
    file.drop(columns=[*COLUMNS]).to_csv(
        folder / "data" / "biometry" / "predictions" / "fetalnet_lite.csv", index=False
    )
    explain.main("biometry")


def of_kind(result: dict, kind: str) -> list[dict]:
    return [figure for figure in result["figures"] if figure["kind"] == kind]


def test_the_stage_draws_examples_gates_and_the_worst_answers(tmp_path, monkeypatch):
    data = tmp_path / "data" / "biometry"
    rows = sequences(data, LABELS, each=2)
    beside = np.load(data / "masks" / "s1.npy")
    np.save(data / "masks" / "s1.npy", np.roll(beside, 6, axis=1))  # the least overlap
    rows.loc[2, COLUMN[rows.loc[2, "label"]]] = str(0.5 * true_mm(rows.loc[2, "label"]))  # the largest error
    femur = rows.index[rows["label"] == "femur"][1]
    rows.loc[femur, ["label", "hc_mm", "fl_mm"]] = ["head", "150", ""]  # the mistake
    result = run_stage(tmp_path, monkeypatch, Gated(), LABELS, rows)

    kinds = [figure["kind"] for figure in result["figures"]]
    assert kinds == [
        "overlap",
        "overview",
        *["sequence"] * 3,
        "gates",
        *["worst_overlap"] * 2,
        *["worst_error"] * 2,
    ] + ["mistake"]
    least = of_kind(result, "worst_overlap")
    found, truth = np.load(data / "sequences" / "s1.npy") > 127, np.load(data / "masks" / "s1.npy") > 0
    assert least[0]["sequence"] == "s1" and f"Dice {overlap(found, truth)[0]:.3f}" in least[0]["caption"]
    said = [float(re.search(r"Dice (\d\.\d+)", figure["caption"])[1]) for figure in least]
    assert said == sorted(said)
    furthest = of_kind(result, "worst_error")
    assert furthest[0]["sequence"] == "s2" and re.search(r"\(\+(9\d|10\d)\.\d %\)", furthest[0]["caption"])
    (mistake,) = of_kind(result, "mistake")
    assert mistake["sequence"] == rows.loc[femur, "sequence"] and mistake["label"] == "head"
    assert mistake["caption"].startswith("Predicted as femur: head") and ", true" not in mistake["caption"]
    assert {figure["label"] for figure in of_kind(result, "sequence")} == set(LABELS)

    measured = result["overlap"]
    assert [row["weights"] for row in measured["rows"] if row["map"] == GATES] == ["trained", "random"]
    assert measured["text"].startswith(f"{GATES} puts ") and set(measured["by_label"]) == {GATES}
    assert measured["text"].count(f"{GATES} puts") == 1


def test_the_worst_are_those_that_were_measured_so_and_only_what_is_drawn_is_asked(tmp_path, monkeypatch):
    data, network = tmp_path / "data" / "biometry", Bright(("head",))
    rows = sequences(data, ("head",), frames=1, each=12)
    file = measured_file(data, network, ("head",), rows)
    file.loc[(file["seed"] == 3) & (file["sequence"] == "s7"), "dice"] = 0.3
    file.loc[(file["seed"] == 3) & (file["sequence"] == "s4"), ["found_hc_mm", "found_bpd_mm"]] = [
        1.2 * true_mm("head"),
        1,
    ]
    file.loc[(file["seed"] == 4) & (file["sequence"] == "s9"), "found_hc_mm"] = 3 * true_mm("head")
    result = run_stage(tmp_path, monkeypatch, network, ("head",), rows, file)
    assert of_kind(result, "worst_overlap")[0]["sequence"] == "s7"
    assert of_kind(result, "worst_error")[0]["sequence"] == "s4"
    assert len(network.asked) == 1 + 2 + 2, "an example and two of each kind of worst"
    with pytest.raises(InputError, match=r"fetalnet_lite.csv holds 11 of 12 .* of fold 0, seed 3.*Run the train stage"):
        run_again(tmp_path, file[file["sequence"] != "s4"])


def test_the_largest_error_is_against_the_annotation_where_the_drop_states_nothing():
    rows = pd.DataFrame({"sequence": ["a", "b", "c"], "label": "head"})
    told = {"patient": "p", "y_true": "head", "p_head": 1.0, "fold": 1, "seed": 0, "found_hc_mm": 110.0}
    told |= {"found_bpd_mm": 45.0, "dice": 0.9}
    file = pd.DataFrame([told | {"sequence": s} for s in "cba"])
    file = file.assign(true_hc_mm=[None, 100, None], true_bpd_mm=[None, None, None])
    file = file.assign(mask_hc_mm=[105.0, 50.0, None], mask_bpd_mm=[50.0, 50.0, None])
    table = as_measured(rows, check_predictions(file), {"fold": 1, "seed": 0})
    assert table["largest_error"].tolist() == pytest.approx([np.nan, 10, 10], nan_ok=True)
    assert table["predicted"].tolist() == ["head"] * 3 and table["row"].tolist() == [0, 1, 2]


def test_single_images_of_one_structure_without_gates(tmp_path, monkeypatch):
    rows = sequences(tmp_path / "data" / "biometry", ("head",), frames=1, each=4)
    result = run_stage(tmp_path, monkeypatch, Bright(("head",)), ("head",), rows)
    kinds = [figure["kind"] for figure in result["figures"]]
    assert kinds == ["overlap", "overview", *["worst_overlap"] * 2, *["worst_error"] * 2]
    assert "no attention: it has no maps" in result["overlap"]["text"] and result["overlap"]["by_label"] == {}
    for figure in of_kind(result, "worst_error"):
        assert "±" not in figure["caption"] and "Frame" not in figure["caption"]
