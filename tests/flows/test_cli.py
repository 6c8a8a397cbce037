"""The command line: what it prints, and that a mistake is a message and not a traceback."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from ready_processes import fetalflow

from fetalflow.errors import InputError
from flows.cli.app import refuse_empty

# Test sequences of Table 1 of the paper. FetalMovNet errs twice: it calls a Head a Body and an Arm a Hand (Table 4).
TESTED = {"head": 44, "body": 31, "arm": 25, "heart": 20, "hand": 16, "foot": 21, "leg": 20}


@pytest.fixture
def paper(tmp_path) -> Path:
    truth = [label for label, n in TESTED.items() for _ in range(n)]
    table = pd.DataFrame({"y_true": truth, "y_pred": truth})
    table.loc[truth.index("head"), "y_pred"] = "body"
    table.loc[truth.index("arm"), "y_pred"] = "hand"
    table.insert(0, "sequence", [f"s{i}" for i in table.index])
    table.insert(1, "patient", [f"P{i % 30}" for i in table.index])
    table.to_csv(tmp_path / "paper.csv", index=False)
    return tmp_path / "paper.csv"


def test_describe_gives_the_papers_network():
    command = [Path(sys.executable).with_name("fetalflow"), "describe", "fetalmovnet"]  # as it is installed
    words = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert "195,161,287" in words and "7.68 GMAC" in words


def test_score_answers_table_4_to_four_digits(paper):
    metrics = json.loads(fetalflow("score", str(paper)).stdout)["metrics"]
    names = ("accuracy", "macro_precision", "macro_recall", "f1_of_macros")
    assert [round(metrics[name], 4) for name in names] == [0.9887, 0.9871, 0.9910, 0.9891]


def test_compare_names_every_rival(paper, tmp_path):
    rival = pd.read_csv(paper).assign(y_pred="head")
    (tmp_path / "other").mkdir()
    rival.to_csv(tmp_path / "other" / "paper.csv", index=False)
    found = json.loads(fetalflow("compare", str(paper), str(tmp_path / "other" / "paper.csv")).stdout)
    assert list(found["comparisons"]) == [str(tmp_path / "other" / "paper.csv")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["describe", "fetalmovnett"], "known networks"),
        (["score", "nowhere.csv"], "nowhere.csv"),
        (["run", "--drop", "nowhere"], "FETAL_PLANES_DB"),
        (["run", "--profile", "papper"], "there are: paper"),
        (["run", "--drop", ""], "the value of --drop is empty"),
        (["predict", "nowhere.mp4", "--model", "nowhere"], "nowhere"),
    ],
)
def test_a_mistake_is_a_message(words, message):
    done = fetalflow(*words)
    assert done.returncode == 1
    assert message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "verb", ["run", "retrain", "predict x.png", "promote", "rollback", "deidentify a b", "arrivals"]
)
def test_an_unknown_task_is_a_message_that_names_the_tasks(verb):
    workspace = ("--workspace", ".") if verb == "arrivals" else ()
    refused = fetalflow(*verb.split(), "--task", "movements", *workspace)
    assert refused.returncode == 1 and "Traceback" not in refused.stderr
    assert "no task 'movements'. Its tasks: movement, planes, biometry." in refused.stderr


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["run", "--drop", ""], "--drop"),
        (["check", " "], "an argument"),
        (["predict", "x.png", "--model="], "--model"),
        (["deidentify", "", "out"], "an argument"),
    ],
)
def test_an_empty_value_is_not_taken_for_the_current_folder(words, name):
    with pytest.raises(InputError, match=f"the value of {name} is empty"):
        refuse_empty(words)


def test_an_empty_setting_is_no_empty_value():
    refuse_empty(["run", "--set=machines.scheduler=", "--set", "machines.scheduler="])
