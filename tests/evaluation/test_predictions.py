"""Bad predictions files are refused with what is wrong, where, and what to do."""

import pandas as pd
import pytest

from fetalflow.errors import InputError
from fetalflow.evaluation.predictions import read_predictions

GOOD = """sequence,patient,y_true,p_arm,p_leg
s1,w1,arm,0.8,0.2
s2,w1,leg,0.4,0.6
s3,w2,leg,0.7,0.3
"""


def read(tmp_path, text: str):
    path = tmp_path / "answers.csv"
    path.write_text(text)
    return read_predictions(path)


def test_a_good_file_gets_its_labels_from_the_probabilities(tmp_path):
    predictions = read(tmp_path, GOOD)
    assert predictions.labels == ("arm", "leg")
    assert list(predictions.table["y_pred"]) == ["arm", "leg", "arm"]
    assert predictions.truth.tolist() == [0, 1, 1] and predictions.patient_codes.tolist() == [0, 0, 1]
    assert predictions.notes == ()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("sequence,patient,y_true", "sequence,patient,truth", r"expected the columns \['y_true'\], found"),
        ("sequence,patient,y_true", "sequence,woman,y_true", r"no column `patient`.*add the patient of each sequence"),
        ("p_arm,p_leg", "a,b", "y_pred"),
        ("p_arm,p_leg", "p_arm,p_arm", r"columns \['p_arm'\] occur more than once"),
        ("s2,w1", "s1,w1", "lines 2, 3: the same sequence occurs more than once"),
        ("s1,w1,arm,0.8", "s1,w1,arm,", "line 2: a probability .* missing or not a number"),
        ("s1,w1,arm,0.8", "s1,w1,arm,nan", "line 2: a probability .* missing or not a number"),
        ("s1,w1,arm,0.8", "s1,w1,arm,0.9", r"line 2: .*must sum to 1 \(within 0.01\), found 1.1"),
        ("0.7,0.3", "7,-6", "line 4: probabilities must lie in 0-1, found -6 to 7"),
        ("w1,leg", "w1,foot", r"line 3: y_true \['foot'\] has no p_ column; expected one of \['arm', 'leg'\]"),
        ("s3,w2", "s3,", "line 4: patient is missing"),
        ("w1,arm", "w1,", "line 2: y_true is missing"),
        ("0.7,0.3", "0.7,0.3,1", "not a comma-separated file"),
        (GOOD.partition("\n")[2], "", "no rows"),
        (GOOD, "", "the file is empty"),
    ],
)
def test_a_bad_file_is_refused(tmp_path, old, new, said):
    assert old in GOOD
    with pytest.raises(InputError, match=said) as raised:
        read(tmp_path, GOOD.replace(old, new, 1))
    assert "answers.csv" in str(raised.value)


def test_a_predicted_label_without_a_probability_is_refused(tmp_path):
    text = GOOD.replace("y_true", "y_true,y_pred").replace("arm,0.8", "arm,hand,0.8")
    text = text.replace("leg,0.4", "leg,leg,0.4").replace("leg,0.7", "leg,leg,0.7")
    with pytest.raises(InputError, match=r"y_pred \['hand'\] has no p_ column"):
        read(tmp_path, text)


def test_a_wrong_path_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere.csv: no such file"):
        read_predictions(tmp_path / "nowhere.csv")
    (tmp_path / "answers.xlsx").touch()
    with pytest.raises(InputError, match=r"ending in \.csv or \.parquet, found '\.xlsx'"):
        read_predictions(tmp_path / "answers.xlsx")


def test_only_the_test_part_counts(tmp_path):
    table = pd.read_csv(pd.io.common.StringIO(GOOD)).assign(part=["validation", "test", "test"])
    table.to_csv(tmp_path / "parts.csv", index=False)
    predictions = read_predictions(tmp_path / "parts.csv")
    assert list(predictions.table["sequence"]) == ["s2", "s3"] and len(predictions.probabilities) == 2
    assert "1 rows of other parts" in predictions.notes[0]
    with pytest.raises(InputError, match=r"no rows with part 'train', found \['test', 'validation'\]"):
        read_predictions(tmp_path / "parts.csv", part="train")


def test_parquet_and_csv_say_the_same(tmp_path):
    csv = read(tmp_path, GOOD)
    pd.read_csv(tmp_path / "answers.csv").to_parquet(tmp_path / "answers.parquet")
    parquet = read_predictions(tmp_path / "answers.parquet")
    pd.testing.assert_frame_equal(csv.table, parquet.table)


def test_names_that_look_like_missing_values_are_names(tmp_path):
    predictions = read(tmp_path, "sequence,patient,y_true,y_pred\nNA,None,null,null\n2,nan,arm,null\n")
    assert predictions.labels == ("arm", "null") and list(predictions.table["patient"]) == ["None", "nan"]


def test_seeds_are_averaged_to_one_answer_per_sequence(tmp_path):
    text = "sequence,patient,seed,y_true,p_arm,p_leg\n"
    text += "s1,w1,0,arm,0.45,0.55\ns1,w1,1,arm,0.9,0.1\ns2,w2,0,leg,0.6,0.4\ns2,w2,1,leg,0.2,0.8\n"
    answers = read(tmp_path, text).one_per_sequence
    assert answers["y_pred"].to_dict() == {"s1": "arm", "s2": "leg"}
    assert answers["patient"].to_dict() == {"s1": "w1", "s2": "w2"}
    with pytest.raises(InputError, match="more than one y_true"):
        read(tmp_path, text.replace("s2,w2,1,leg", "s2,w2,1,arm"))


def with_columns(*columns: str) -> str:
    """GOOD with further columns, each a name and three values."""
    lines = GOOD.splitlines()
    further = [",".join(values) for values in zip(*(column.split() for column in columns), strict=True)]
    return "\n".join(f"{line},{more}" for line, more in zip(lines, further, strict=True)) + "\n"


def test_unfamiliarity_and_operator_are_read_where_they_are_there(tmp_path):
    table = read(tmp_path, with_columns("unfamiliarity 0.5 1.25 0", "operator A B A")).table
    assert table["unfamiliarity"].tolist() == [0.5, 1.25, 0.0] and list(table["operator"]) == ["A", "B", "A"]
    assert not {"unfamiliarity", "operator"} & set(read(tmp_path, GOOD).table)


@pytest.mark.parametrize("value", ["", "high", "inf", "nan"])
def test_an_unfamiliarity_that_is_no_number_is_refused(tmp_path, value):
    text = with_columns("unfamiliarity 0.5 1.25 0").replace("1.25", value)
    with pytest.raises(InputError, match="line 3: unfamiliarity is missing or not a number.*leave the column out"):
        read(tmp_path, text)
