"""Splits: no patient on both sides, every sequence placed once, the same for any order of the rows."""

import json
from collections import Counter

import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import stages.split
from fetalflow.errors import InputError
from fetalflow.settings import Split
from fetalflow.split import TABLE_1, count, overlap, split


def table(rows: list[tuple[str, str]]) -> pd.DataFrame:
    """A manifest from (patient, label) pairs."""
    return pd.DataFrame(
        [{"sequence": f"s{i:04}", "patient": patient, "label": label} for i, (patient, label) in enumerate(rows)]
    )


def paper_drop(extra: int = 0) -> pd.DataFrame:
    return table([(f"P{i % 105}", label) for label, counts in TABLE_1.items() for i in range(sum(counts) + extra)])


drops = st.lists(
    st.tuples(st.integers(0, 11).map("P{}".format), st.sampled_from(["head", "arm", "leg", "foot"])),
    min_size=1,
    max_size=80,
).map(table)


@settings(max_examples=120, deadline=None)
@given(drops, st.integers(1, 4), st.integers(0, 5), st.floats(0.1, 0.5))
def test_grouped_never_shares_a_patient_and_places_every_sequence_once(manifest, folds, seed, test):
    chosen = Split(folds=folds, seed=seed, test=test)
    try:
        result = split(manifest, chosen)
    except InputError:
        # It may refuse only what cannot be done: no label with three patients, or too few for the folds.
        most = manifest.groupby("label")["patient"].nunique().max()
        few = manifest["patient"].nunique() < 3 * folds or manifest["label"].value_counts().max() < folds
        assert most < 3 or (folds > 1 and few)
        return
    assert set(overlap(result).values()) == {0}
    assert sorted(result["fold"].unique()) == list(range(folds))
    for _, fold in result.groupby("fold"):
        assert sorted(fold["sequence"]) == sorted(manifest["sequence"])
        assert set(fold["part"]) == {"train", "validation", "test"}
        assert (fold.groupby("patient")["part"].nunique() == 1).all()
    if folds > 1:
        tested = result[result["part"] == "test"].drop_duplicates(["patient", "fold"])
        assert Counter(tested["patient"]) == Counter(manifest["patient"].unique())


@settings(max_examples=30, deadline=None)
@given(drops, st.randoms(use_true_random=False), st.sampled_from([1, 3]))
def test_the_order_of_the_rows_does_not_matter(manifest, random, folds):
    order = list(manifest.index)
    random.shuffle(order)
    try:
        result = split(manifest, Split(folds=folds))
    except InputError:
        assume(False)
    pd.testing.assert_frame_equal(result, split(manifest.loc[order], Split(folds=folds)))


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcdefg"), st.lists(st.integers(1, 6), min_size=3, max_size=12), min_size=1),
    st.integers(0, 3),
)
def test_every_label_is_in_every_part_when_it_has_three_patients_of_its_own(patients, seed):
    manifest = table(
        [(label + str(i), label) for label, sizes in patients.items() for i, n in enumerate(sizes) for _ in range(n)]
    )
    counts = count(split(manifest, Split(seed=seed)))
    assert all(counts[part][label] > 0 for part in counts for label in patients)


def test_grouped_comes_close_to_the_wanted_shares():
    manifest = table([(f"P{i % 40}", label) for label in "abcd" for i in range(80)])
    counts = {part: sum(labels.values()) for part, labels in count(split(manifest, Split())).items()}
    assert counts["test"] == pytest.approx(0.3 * 320, abs=16)
    assert counts["validation"] == pytest.approx(0.15 * 0.7 * 320, abs=16)


def test_seeds_give_different_splits():
    manifest = table([(f"P{i % 30}", "ab"[i % 2]) for i in range(90)])
    parts = {tuple(split(manifest, Split(seed=seed))["part"]) for seed in range(5)}
    assert len(parts) > 1


def test_grouped_on_a_small_drop_of_uneven_labels():
    # Like the real lung videos: 92 cines, 4 labels, one to three of each patient, one label of three patients.
    rows = [(f"r{i // 2}", "regular") for i in range(44)] + [(f"p{i}", "pneumonia") for i in range(28)]
    rows += [(f"c{i // 2}", "covid") for i in range(16)] + [(f"v{min(i, 2)}", "viral") for i in range(4)]
    counts = count(split(table(rows), Split()))
    assert all(n > 0 for part in counts.values() for n in part.values())
    five = split(table(rows), Split(folds=5))
    assert (five[five["part"] == "test"]["sequence"].value_counts() == 1).all()
    assert set(overlap(five).values()) == {0}


def test_six_patients_are_enough():
    manifest = table([(f"P{i}", label) for i in range(6) for label in ("head", "arm") for _ in range(3)])
    patients = split(manifest, Split()).groupby("part")["patient"].nunique().to_dict()
    assert patients == {"test": 2, "train": 3, "validation": 1}


@pytest.mark.parametrize(
    ("rows", "folds", "words"),
    [
        ([("A", "x"), ("B", "x")], 1, "at least 3 patients"),
        ([("A", "x"), ("B", "x"), ("C", "x")], 5, "at least 5 patients"),
        ([("A", "x"), ("B", "y"), ("C", "z")], 1, r"too few patients for the .*test part.*'x': 1"),
        ([("A", "x"), ("B", "x"), ("C", "x"), (None, "x")], 1, "lack an id, a patient or a label"),
    ],
)
def test_too_few_patients_is_an_error_that_says_so(rows, folds, words):
    with pytest.raises(InputError, match=words):
        split(table(rows), Split(folds=folds))


def test_an_id_that_stands_twice_is_an_error():
    manifest = table([("A", "x"), ("B", "x"), ("C", "x")]).assign(sequence="same")
    with pytest.raises(InputError, match="same stands in the manifest twice"):
        split(manifest, Split())


@pytest.mark.parametrize("extra", [0, 3])
def test_paper_takes_the_counts_of_table_1(extra):
    manifest = paper_drop(extra)
    result = split(manifest, Split(kind="paper"))
    counts = count(result)
    for label, (training, testing) in TABLE_1.items():
        assert counts["test"][label] == testing
        assert counts["train"][label] + counts["validation"][label] == training
    assert len(result) == 587
    shared = overlap(result)
    assert shared["train-validation"] == 0  # the validation patients are carved out of training by patient
    assert shared["train-test"] > 50  # and the split by sequence puts most test patients into training, too


def test_paper_ignores_the_spelling_of_labels_and_takes_one_patient():
    manifest = paper_drop().assign(patient="P1")
    manifest["label"] = manifest["label"].str.capitalize()
    counts = count(split(manifest, Split(kind="paper")))
    assert counts["test"]["Head"] == 44
    assert sum(counts["validation"].values()) == pytest.approx(0.15 * 410, abs=1)


def test_paper_names_the_labels_that_are_too_few():
    manifest = paper_drop()
    manifest = manifest.drop(manifest.index[manifest["label"] == "leg"][:5])
    with pytest.raises(InputError, match=r"leg 59 \(needs 44 \+ 20\)") as error:
        split(manifest, Split(kind="paper"))
    assert "head" not in str(error.value)
    with pytest.raises(InputError, match="Labels that Table 1 does not have: toe"):
        split(pd.concat([paper_drop(), table([("P1", "toe")]).assign(sequence="t")]), Split(kind="paper"))


def test_the_stage_writes_the_split_and_prints_overlap(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/movement").mkdir(parents=True)
    paper_drop().to_parquet("data/movement/manifest.parquet")
    block = "phantom: {sequences: {}}, extract: {}, preprocess: {}, split: {kind: paper}, validate: {}, train: {}"
    (tmp_path / "params.yaml").write_text(
        "tasks: {movement: {drop: d, variant: fetalmovnet, base: fetalmovnet}}\nphantoms: []\n"
        f"movement: {{{block}, register: {{}}}}\n"
    )
    stages.split.main("movement")
    summary = json.loads((tmp_path / "reports/movement/split.json").read_text())
    assert summary["counts"]["test"] == {label: testing for label, (_, testing) in sorted(TABLE_1.items())}
    assert summary["overlap"] == overlap(pd.read_parquet("data/movement/split.parquet"))
    assert f"train-test {summary['overlap']['train-test']}" in capsys.readouterr().out
