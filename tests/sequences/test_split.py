"""Splits: no patient on both sides, every sequence placed once, the same for any order of the rows."""

import json
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import stages.split
from fetalflow.errors import InputError
from fetalflow.sequences.split import TABLE_1, count, shared_patients, split
from fetalflow.settings.params import Split, load_settings


def table(rows: list[tuple[str, str]]) -> pd.DataFrame:
    """A manifest from (patient, label) pairs."""
    return pd.DataFrame(
        [{"sequence": f"s{i:04}", "patient": patient, "label": label} for i, (patient, label) in enumerate(rows)]
    )


def paper_drop(extra: int = 0) -> pd.DataFrame:
    return table([(f"P{i % 105}", label) for label, counts in TABLE_1.items() for i in range(sum(counts) + extra)])


def official(manifest: pd.DataFrame) -> pd.DataFrame:
    """The patients P0, P3, P6 and P9 are for testing."""
    tested = manifest["patient"].str[1:].astype(int) % 3 == 0
    return manifest.assign(part=tested.map({True: "test", False: "train"}))


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
    assert set(shared_patients(result).values()) == {0}
    assert sorted(result["fold"].unique()) == list(range(folds))
    for _, fold in result.groupby("fold"):
        assert sorted(fold["sequence"]) == sorted(manifest["sequence"])
        assert set(fold["part"]) == {"train", "validation", "test"}
        assert (fold.groupby("patient")["part"].nunique() == 1).all()
    if folds > 1:
        tested = result[result["part"] == "test"].drop_duplicates(["patient", "fold"])
        assert Counter(tested["patient"]) == Counter(manifest["patient"].unique())


WAYS = [Split(), Split(folds=3), Split(kind="official"), Split(kind="random")]


@settings(max_examples=60, deadline=None)
@given(drops, st.randoms(use_true_random=False), st.sampled_from(WAYS))
def test_the_order_of_the_rows_does_not_matter(manifest, random, way):
    manifest = official(manifest)
    order = list(manifest.index)
    random.shuffle(order)
    try:
        result = split(manifest, way)
    except InputError:
        assume(False)
    pd.testing.assert_frame_equal(result, split(manifest.loc[order], way))


@settings(max_examples=100, deadline=None)
@given(drops, st.integers(0, 5), st.floats(0.1, 0.5))
def test_official_tests_what_the_drop_says_and_never_shares_a_patient(manifest, seed, validation):
    manifest = official(manifest)
    sides = manifest.groupby("part")["patient"].nunique()
    try:
        result = split(manifest, Split(kind="official", seed=seed, validation=validation))
    except InputError:
        assert sides.get("test", 0) == 0 or sides.get("train", 0) < 2  # nobody to test, or nobody to validate on
        return
    assert set(shared_patients(result).values()) == {0}
    assert sorted(result["sequence"]) == sorted(manifest["sequence"]) and set(result["fold"]) == {0}
    parts = result.set_index("sequence")["part"]
    said = manifest.set_index("sequence")["part"]
    assert ((parts == "test") == (said[parts.index] == "test")).all()
    assert set(parts) == {"train", "validation", "test"}


@settings(max_examples=100, deadline=None)
@given(drops, st.integers(0, 5), st.floats(0.1, 0.5), st.floats(0.1, 0.5))
def test_random_keeps_the_shares_of_every_label(manifest, seed, test, validation):
    sizes = manifest["label"].value_counts()
    try:
        counts = count(split(manifest, Split(kind="random", seed=seed, test=test, validation=validation)))
    except InputError:
        assert sizes.max() < 3  # no label can be in all parts
        return
    for label, size in sizes.items():
        train, validated, tested = (counts[part].get(label, 0) for part in ("train", "validation", "test"))
        assert train + validated + tested == size and train > 0
        assert abs(tested - test * size) <= 0.5 or tested == min(1, size - 1)
        assert abs(validated - validation * (size - tested)) <= 0.5 or validated == min(1, size - tested - 1)


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
    assert set(shared_patients(five).values()) == {0}


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
    with pytest.raises(InputError, match="same is in the manifest twice"):
        split(manifest, Split())


def planes(part=None) -> pd.DataFrame:
    """Single images of 60 patients, three labels, every third patient for testing."""
    manifest = official(table([(f"P{i % 60}", ("Fetal brain", "Fetal femur", "Other")[i % 7 % 3]) for i in range(600)]))
    return manifest if part is None else manifest.assign(part=manifest["part"].map(part))


@pytest.mark.parametrize(
    "spelling",
    [
        {"train": "Train", "test": " TEST "},
        {"train": "1", "test": "0"},
        {"train": 1, "test": 0},
        {"train": 1.0, "test": 0.0},
    ],
)
def test_official_takes_every_spelling_of_the_parts(spelling):
    expected = split(planes(), Split(kind="official"))
    pd.testing.assert_frame_equal(split(planes(spelling), Split(kind="official")), expected)


def test_official_validates_on_the_wanted_share_of_the_training_patients():
    table = split(planes(), Split(kind="official", validation=0.15))
    patients = table.groupby("part")["patient"].nunique().to_dict()
    assert patients == {"test": 20, "train": 34, "validation": 6}
    shares = pd.crosstab(table["label"], table["part"])
    share = shares["validation"] / (shares["validation"] + shares["train"])
    assert share.between(0.1, 0.2).all()  # of every label


def test_official_keeps_the_validation_patients_that_the_drop_states():
    manifest = planes()
    manifest.loc[manifest["patient"].isin(["P1", "P2"]), "part"] = "valid"
    result = split(manifest, Split(kind="official"))
    assert set(result.loc[result["part"] == "validation", "patient"]) == {"P1", "P2"}
    assert set(shared_patients(result).values()) == {0} and len(result) == len(manifest)
    manifest.loc[manifest.index[manifest["patient"] == "P1"][0], "part"] = "train"
    with pytest.raises(InputError, match="1 patients are in train and validation of the official split: P1"):
        split(manifest, Split(kind="official"))


def test_official_does_not_look_at_the_test_share():
    assert split(planes(), Split(kind="official", test=0.9)).equals(split(planes(), Split(kind="official")))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.drop(columns="part"), "needs the column `part`.*FETAL_PLANES_DB.*--set TASK.split.kind=grouped"),
        (lambda m: m.replace({"part": {"test": "exam"}}), r"200 of 600 .*: s0000 of patient P0: 'exam', .* 195 more"),
        (lambda m: m.assign(part=m["part"].where(m.index != 7)), "1 of 600 .*: s0007 of patient P7: ''. Correct"),
        (lambda m: m.replace({"part": {"test": "train"}}), "has no test sequences"),
        (lambda m: m.replace({"part": {"train": "test"}}), "has no train sequences"),
        (
            lambda m: m.replace({"patient": {"P1": "P0", "P4": "P3"}}),
            "2 patients are in both parts of the official split: P0, P3. .*grouped",
        ),
    ],
    ids=["no column", "unknown", "empty", "no test", "no train", "shared patients"],
)
def test_official_parts_that_cannot_be_kept_are_an_error_that_says_so(change, words):
    with pytest.raises(InputError, match=words):
        split(change(planes()), Split(kind="official"))


def test_random_is_80_to_20_and_shares_patients():
    result = split(planes(), Split(kind="random", test=0.2, validation=0.15))
    counts = {part: sum(labels.values()) for part, labels in count(result).items()}
    assert counts == {
        "train": pytest.approx(408, abs=2),
        "validation": pytest.approx(72, abs=2),
        "test": pytest.approx(120, abs=2),
    }
    assert shared_patients(result)["train-test"] > 50


@pytest.mark.parametrize("kind", ["official", "random", "paper", "site"])
def test_only_grouped_takes_a_number_of_folds(kind):
    folds = "one fold for each site" if kind == "site" else "one fold"
    with pytest.raises(InputError, match=f"the {kind} split has {folds}, but split.folds is 5.*split.kind=grouped"):
        split(planes(), Split(kind=kind, folds=5))


def test_the_settings_of_planes_split_an_official_drop():
    settings = load_settings(Path(__file__).parents[2] / "params.yaml").blocks["planes"].split
    assert (settings.kind, settings.validation) == ("official", 0.15)
    assert set(shared_patients(split(planes(), settings)).values()) == {0}


@pytest.mark.parametrize("extra", [0, 3])
def test_paper_takes_the_counts_of_table_1(extra):
    manifest = paper_drop(extra)
    result = split(manifest, Split(kind="paper"))
    counts = count(result)
    for label, (training, testing) in TABLE_1.items():
        assert counts["test"][label] == testing
        assert counts["train"][label] + counts["validation"][label] == training
    assert len(result) == 587
    shared = shared_patients(result)
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
        "tasks: {movement: {task: movement, drop: d, variant: fetalmovnet, network: fetalmovnet, base: fetalmovnet}}\n"
        "phantoms: []\n"
        f"movement: {{{block}, register: {{}}}}\n"
    )
    stages.split.main("movement")
    printed = capsys.readouterr().out
    summary = json.loads((tmp_path / "reports/movement/split.json").read_text())
    assert summary["counts"]["test"] == {label: testing for label, (_, testing) in sorted(TABLE_1.items())}
    assert summary["overlap"] == shared_patients(pd.read_parquet("data/movement/split.parquet"))
    assert f"train-test {summary['overlap']['train-test']}" in printed
    assert "WARNING: the paper split is by sequence" in printed
    params = (tmp_path / "params.yaml").read_text().replace("kind: paper", "kind: grouped")
    (tmp_path / "params.yaml").write_text(params)
    stages.split.main("movement")
    assert "WARNING" not in capsys.readouterr().out
