"""Sites: one left out at a time, and what makes a network care less about which machine it looks through."""

from collections import Counter

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetalflow.errors import InputError
from fetalflow.settings import Split
from fetalflow.split import overlap, split

SITES = ("alpine", "brigid", "corvus", "delta")


def table(rows: list[tuple[int, str]], sites: int) -> pd.DataFrame:
    """A manifest from (number of the patient, label) pairs; each patient is of one of `sites` sites."""
    return pd.DataFrame(
        [
            {"sequence": f"s{i:04}", "patient": f"P{patient}", "site": SITES[patient % sites], "label": label}
            for i, (patient, label) in enumerate(rows)
        ]
    )


pairs = st.lists(st.tuples(st.integers(0, 15), st.sampled_from(["head", "arm", "leg"])), min_size=1, max_size=80)
drops = st.builds(table, pairs, st.integers(2, 4))


@settings(max_examples=40, deadline=None)
@given(drops, st.integers(0, 5), st.floats(0.1, 0.5))
def test_each_site_is_tested_once_by_those_who_never_saw_it(manifest, seed, validation):
    sites = sorted(manifest["site"].unique())
    people = manifest.groupby("site")["patient"].nunique()
    try:
        result = split(manifest, Split(kind="site", seed=seed, validation=validation))
    except InputError:
        assert len(sites) < 3 or people.sum() - people.max() < 2  # nobody is left to train on, or to validate with
        return
    assert set(overlap(result).values()) == {0}
    at = result["sequence"].map(manifest.set_index("sequence")["site"])
    for fold, site in enumerate(sites):
        of_fold = result["fold"] == fold
        assert sorted(result.loc[of_fold, "sequence"]) == sorted(manifest["sequence"])
        assert ((result.loc[of_fold, "part"] == "test") == (at[of_fold] == site)).all()
        assert set(result.loc[of_fold, "part"]) == {"train", "validation", "test"}
    tested = result[result["part"] == "test"].drop_duplicates(["patient", "fold"])
    assert Counter(tested["patient"]) == Counter(manifest["patient"].unique())
    pd.testing.assert_frame_equal(result, split(manifest[::-1], Split(kind="site", seed=seed, validation=validation)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.drop(columns="site"), "the site of every sequence; 60 of 60 have none: s0000 of patient P0"),
        (lambda m: m.replace({"site": {"brigid": " "}}), "15 of 60 have none: s0001 of patient P1"),
        (lambda m: m[m["site"].isin(["alpine", "delta"])], "needs 3 sites, .* found 2: alpine, delta. .*grouped"),
        (lambda m: m.replace({"patient": {"P1": "P0"}}), "1 patients were recorded at more than one site: P0. "),
    ],
    ids=["no column", "empty", "two sites", "shared patients"],
)
def test_sites_that_cannot_be_left_out_are_an_error_that_says_so(change, words):
    manifest = table([(i % 12, ("head", "arm", "leg")[i % 3]) for i in range(60)], 4)
    with pytest.raises(InputError, match=words):
        split(change(manifest), Split(kind="site"))
