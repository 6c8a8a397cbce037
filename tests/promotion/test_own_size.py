"""Both models of a promotion are asked from the recorded frames, each in its own picture size, or it is refused."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from bright_biometry import bright_package, shown
from torch import nn

from fetalflow.artefacts import file_digest, read_json, write_json
from fetalflow.cine.letterbox import fit
from fetalflow.errors import InputError
from fetalflow.inference.package import Package
from fetalflow.promotion.answers import answers_of, predictions
from fetalflow.promotion.own_size import in_size
from fetalflow.registry.candidates import Candidate
from fetalflow.sequences.preprocessing import preprocess
from fetalflow.settings.params import Extract

LABELS = ["arm", "head", "heart"]
N, RECORDED, STORED = 4, 64, 32
NUMBER = 36


def recorded(data: Path, cines: dict[str, np.ndarray], labels: list[str]) -> pd.DataFrame:
    """What `extract` leaves of one sequence per cine: frames, records and the table."""
    rows = []
    (data / "frames").mkdir(parents=True)
    for number, (name, frames) in enumerate(cines.items()):
        source = f"{number:04x}".ljust(64, "0")
        np.save(data / "frames" / f"{source}.npy", frames)
        write_json(data / "frames" / f"{source}.json", {"digest": file_digest(data / "frames" / f"{source}.npy")})
        row = {"sequence": f"{source[:12]}-000000", "video": name, "source": source, "patient": f"P{number // 2}"}
        row |= {"site": "S", "device": "D", "label": labels[number], "annotators": "a", "first_frame": 0}
        row |= {"last_frame": N - 1, "frames": N, "fps": 30.0, "step": 1.0, "mm_per_px": 0.5}
        rows.append(row | {"height": frames.shape[1], "width": frames.shape[2], "mask_source": "", "mask_done": ""})
    table = pd.DataFrame(rows)
    table.to_parquet(data / "extracted.parquet")
    return table


class Where(nn.Module):
    """A network that needs no training: the label is the place of the brightest square, in pictures of its own size."""

    def __init__(self, size: int):
        super().__init__()
        self.side, self.steps = 14 * size // RECORDED, [20 * k * size // RECORDED for k in range(3)]
        self.head, self.scale = nn.Identity(), nn.Parameter(torch.tensor(20.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        squares = [x[..., at : at + self.side, at : at + self.side] for at in self.steps]
        return self.head(self.scale * torch.stack([square.mean(dim=(1, 2, 3)) for square in squares], dim=1))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """32 px, while the cines have 64; a champion of 64 px and a challenger of 32."""
    folder = tmp_path_factory.mktemp("sizes")
    data, random = folder / "data", np.random.default_rng(0)
    labels = [LABELS[number % 3] for number in range(NUMBER)]
    cines = {}
    for number, label in enumerate(labels):
        frames = random.integers(20, 90, (N, RECORDED, RECORDED), dtype=np.uint8)
        at = 20 * ((LABELS.index(label) + (number % 9 == 0)) % 3)  # every ninth shows another label
        frames[:, at : at + 14, at : at + 14] += 140
        cines[f"cine{number}.avi"] = frames
    extracted = recorded(data, cines, labels)
    tables, packages = {}, {}
    for size, place in ((STORED, data), (RECORDED, folder / "own")):
        tables[size] = preprocess(extracted, data / "frames", place / "sequences", size, 1)
        config = {"task": "movement", "variant": "where", "network": "where", "labels": LABELS, "frames": N}
        extract = Extract(frames=N, stride=N, workers=1).model_dump(mode="json")
        config |= {"size": size, "options": {}, "extract": extract}
        write_json(folder / str(size) / "config.json", config)
        packages[folder / str(size)] = Package(Where(size).eval(), config)
    return packages, tables, data, folder / "own", cines


@pytest.fixture
def hospital(workspace, monkeypatch):
    packages, tables, data, place, cines = workspace
    monkeypatch.setattr("fetalflow.promotion.answers.load", lambda folder, device: packages[folder])
    return {package.size: folder for folder, package in packages.items()}, tables[STORED], data, tables, place, cines


def accuracy(table: pd.DataFrame) -> float:
    return (table["y_true"] == table["y_pred"]).mean()


def test_a_champion_of_another_size_is_as_good_as_its_own_evaluation_says(hospital, tmp_path):
    packages, rows, data, tables, place, cines = hospital
    found = predictions(packages[RECORDED], rows, data)
    evaluated = predictions(packages[RECORDED], tables[RECORDED], place)  # in its own workspace nothing is resized
    pd.testing.assert_frame_equal(found, evaluated)
    assert accuracy(found) == accuracy(predictions(packages[STORED], rows, data)) == pytest.approx(8 / 9)
    package = Package(Where(RECORDED).eval(), read_json(packages[RECORDED] / "config.json"))
    for i in (0, len(rows) - 1):
        in_use = package.predict(cines[rows["video"][i]]).probabilities
        assert [found[f"p_{label}"][i] for label in LABELS] == pytest.approx([in_use[n] for n in LABELS], abs=1e-6)
    padded = [package.predict(fit(np.load(data / path), RECORDED)).label for path in rows["path"]]
    assert (rows["label"] == padded).mean() < 0.7, "what it was asked about until 2026-11"


def test_parts_keep_the_order_of_the_rows_and_leave_nothing(hospital, tmp_path, monkeypatch):
    packages, rows, data, *_ = hospital
    whole = predictions(packages[RECORDED], rows, data)
    monkeypatch.setattr("fetalflow.promotion.own_size.PART", 5)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    backwards = rows.iloc[::-1]
    pd.testing.assert_frame_equal(predictions(packages[RECORDED], backwards, data).sort_index(), whole)
    assert list(tmp_path.iterdir()) == []


def changed_table(data: Path) -> None:
    table = pd.read_parquet(data / "extracted.parquet")
    table.assign(step=2.0).to_parquet(data / "extracted.parquet")


def changed_cine(data: Path) -> None:
    path = sorted((data / "frames").glob("*.npy"))[-1]
    path.write_bytes(path.read_bytes()[:-1] + b"x")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda data: (data / "extracted.parquet").unlink(), "extracted.parquet is missing. Run `extract`"),
        (changed_table, "does not have 36 of the 36 test sequences as the manifest has them"),
        (changed_cine, "has changed since extract wrote it"),
        (lambda data: sorted((data / "frames").glob("*.npy"))[-1].unlink(), "missing or damaged"),
    ],
    ids=["no table", "another table", "a changed cine", "a missing cine"],
)
def test_without_the_recorded_frames_it_is_refused_with_the_reason(hospital, tmp_path, harm, message):
    packages, rows, data, *_ = hospital
    copy = tmp_path / "data"
    copy.mkdir()
    for name in ("extracted.parquet", "frames", "sequences"):
        link_or_copy(data / name, copy / name)
    harm(copy)
    with pytest.raises(InputError, match="(?s)takes pictures of 64 px and 32 px are stored.*" + message):
        predictions(packages[RECORDED], rows, copy)
    assert len(predictions(packages[STORED], rows, copy)) == len(rows), "its own size needs no recorded frames"


def link_or_copy(source: Path, target: Path) -> None:
    if source.is_file():
        target.write_bytes(source.read_bytes())
        return
    target.mkdir()
    for file in source.iterdir():
        target.joinpath(file.name).write_bytes(file.read_bytes())


@pytest.mark.parametrize("changed", [{"mask_sector": False}, {"mask_overlays": False}, {"fps": 12.5}, {"every": 2}])
def test_a_model_that_sees_other_pictures_in_use_is_refused(hospital, changed):
    packages, rows, data, *_ = hospital
    candidate = Candidate("net", "3", "run", {}, frozenset(), packages[STORED])
    settings = Extract(frames=N, stride=N, workers=1)
    assert len(answers_of("champion", candidate, "movement", rows, data, "cpu", settings)) == len(rows)
    ((name, value),) = changed.items()
    message = f"champion, version 3 of net, cannot answer: it reads cines with {name}: .*made with {name}: {value}"
    with pytest.raises(InputError, match=message):
        answers_of("champion", candidate, "movement", rows, data, "cpu", settings.model_copy(update=changed))
    other = settings.model_copy(update={"stride": 2, "labels": ("arm",), "workers": -1})
    assert len(answers_of("champion", candidate, "movement", rows, data, "cpu", other)) == len(rows)


def test_lengths_are_in_mm_of_the_recorded_frames_whatever_the_size(tmp_path, monkeypatch):
    names = ["head", "abdomen", "head", "femur"]
    axes = {"head": (120, 90), "abdomen": (104, 98), "femur": (90, 14)}
    cines = {f"{i}.avi": shown(name, N, axes=axes[name]) for i, name in enumerate(names)}
    data = tmp_path / "data"
    extracted = recorded(data, cines, names).assign(hc_mm=np.nan, ac_mm=np.nan, fl_mm=np.nan)
    extracted.to_parquet(data / "extracted.parquet")
    rows = preprocess(extracted, data / "frames", data / "sequences", 96, 1)
    found = {}
    for size in (96, 128, 320):
        package = bright_package(N, size)
        monkeypatch.setattr("fetalflow.promotion.answers.load", lambda folder, device, package=package: package)
        found[size] = predictions(Path(), rows, data)
    columns = [name for name in found[96] if name.startswith("found_") and found[320][name].notna().any()]
    assert len(columns) >= 3, json.dumps(list(found[96]))
    for size in (96, 128):
        ratio = (found[size][columns] / found[320][columns]).stack().dropna()
        assert ratio.between(0.93, 1.07).all(), (size, ratio)


def test_the_stored_sequences_are_taken_as_they_are_where_the_size_is_the_same(hospital):
    _, rows, data, *_ = hospital
    ((same, place),) = in_size(STORED, rows, data)
    assert same is rows and place == data
