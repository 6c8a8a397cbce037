"""The study of pretraining, on made-up results: a clear gain is found, chance is not, half a fold is left out."""

import json

import numpy as np
import pandas as pd

from benchmarks.claims import Claim
from benchmarks.studies.pretraining import PAIRS, hc18_claims, lung_claims, results_of
from benchmarks.studies.pretraining_jobs import FOLDS, STARTS, Hc18, Sizes

RIGHT = {"random": 0.5, "imagenet": 0.9, "both": 0.9}  # share of right answers


def lung(fold: int, share: float) -> dict:
    """20 patients, of four sequences each, in a fold."""
    rng = np.random.default_rng(fold)
    truth = rng.choice(["covid", "regular"], 80)
    wrong = np.where(truth == "covid", "regular", "covid")
    answers = np.where(np.arange(80) % 10 < 10 * share, truth, wrong)
    return {
        "sequence": [f"{fold}-{i}" for i in range(80)],
        "patient": [f"{fold}-{i // 4}" for i in range(80)],
        "truth": truth.tolist(),
        "answers": {"last": answers.tolist()},
        "training_accuracy": 0.9,
        "fold": fold,
        "seed": 0,
    }


def sentences(found: list[dict]) -> dict[str, str]:
    claims = [Claim.model_validate(each) for each in found]
    return {claim.sentence: claim.outcome for claim in claims}


def test_a_clear_gain_on_lung_is_better_and_equal_answers_are_no_difference():
    found = {start: [lung(fold, share) for fold in range(2)] for start, share in RIGHT.items()}
    said = sentences(lung_claims(found, Sizes()))
    assert len(said) == len(RIGHT) + sum(set(pair) <= set(RIGHT) for pair in PAIRS)
    outcomes = {line: outcome for line, outcome in said.items() if "(Holm)" in line}
    assert sorted(outcomes.values()) == ["better", "better", "no difference"]
    assert "no difference" in {outcome for line, outcome in outcomes.items() if "+0.000" in line}


def test_heads_of_hc18_are_compared_by_dice_and_a_missing_length_is_counted():
    rng, found = np.random.default_rng(0), {}
    for start, dice in {"random": 0.6, "imagenet": 0.9, "both": 0.9}.items():
        table = {"image": [f"{i}" for i in range(30)], "patient": [f"{i}" for i in range(30)]}
        table |= {"true": [170.0] * 30, "found": [None] * 6 + [168.0] * 24}
        table |= {"dice": (dice + 0.02 * rng.normal(size=30)).tolist(), "labelled": 62, "fold": 0, "seed": 0}
        found[start] = [table]
    claims = hc18_claims(found, Sizes())
    said = sentences(claims)
    assert any("random weights" in line and "2.00 mm" in line for line in said)
    assert claims[0]["figures"]["without_a_length"] == 0.2
    assert sorted(outcome for line, outcome in said.items() if "(Holm)" in line) == [
        "better",
        "better",
        "no difference",
    ]


def test_a_fold_that_lacks_a_beginning_is_not_reported(tmp_path):
    for fold, starts in enumerate((RIGHT, ["random"])):
        for start in starts:
            (tmp_path / f"{start}-fold{fold}-seed0.json").write_text(json.dumps(lung(fold, 0.5)))
    found = results_of(None, tmp_path, list(RIGHT), [(0, 0), (0, 1)])
    assert {start: [r["fold"] for r in results] for start, results in found.items()} == dict.fromkeys(RIGHT, [0])
    assert set(results_of(None, tmp_path, list(STARTS), [(0, 0)])) == set(RIGHT), "`unlabelled` was not trained"
    assert results_of(None, tmp_path, list(STARTS), [(2, 0)]) == results_of(None, tmp_path / "none", ["both"], []) == {}


def test_a_tenth_of_the_training_heads_has_labels_and_no_head_is_in_two_parts():
    study = object.__new__(Hc18)
    study.table = pd.DataFrame({"patient": [f"{i // 2:03}" for i in range(400)]})
    parts = study.parts(0, seed=1)
    heads = study.table.assign(part=parts).groupby("part")["patient"].agg(set)
    assert len(heads["test"]) == 200 / FOLDS and len(heads["train"]) == round(
        0.1 * (len(heads["train"]) + len(heads["unlabelled"]))
    )
    assert sum(map(len, heads)) == 200
